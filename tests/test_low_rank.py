"""bench.methods.low_rank: the best factors, any layer, exact files, files that lie."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small_network import Rebuilder, compress, sealed
from torch import Tensor, nn

from bench.artifact.format import HEAD, decode, encode, parse, rebuild, save
from bench.artifact.header import FACTORED, LEFT, RIGHT, VERSION, Header
from bench.artifact.inspect import account, as_table
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Layout, StoredTensor
from bench.layers import weights_of
from bench.methods import notation
from bench.methods.low_rank import leading
from bench.methods.plain import original

LAYERS = {
    "linear": nn.Linear(40, 24),
    "conv": nn.Conv2d(6, 16, 3),
    "transposed": nn.ConvTranspose2d(12, 10, 3),
    "grouped": nn.ConvTranspose2d(12, 10, 3, groups=2),
    "embedding": nn.Embedding(50, 16),
}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
CHAINS = (
    "lowrank:rank=3",
    "lowrank:rank=3+int3",
    "lowrank:rank=2,bits=8+tcq:states=8",
    "lowrank:rank=2+ternary",
)


def matrix_of(layer: nn.Module, dense: Tensor) -> Tensor:
    layout = weights_of(layer)["weight"].layout()
    return layout.flat(dense).reshape(layout.channels(tuple(dense.shape)), -1)


def spiked(layer: nn.Linear) -> nn.Linear:
    """A weight with two directions that are far stronger than the rest."""
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
        layer.weight += 8 * torch.outer(torch.linspace(-1, 1, 60), torch.linspace(1, -1, 80).cos())
    return layer


def test_the_factors_are_those_of_the_largest_singular_values() -> None:
    for shape in ((12, 30), (30, 12), (7, 7)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        left, right = leading(matrix, 3)
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.allclose(left @ right, u[:, :3] * s[:3] @ v[:3], atol=1e-4)
        assert torch.allclose(left.norm(dim=0), right.norm(dim=1), rtol=1e-4)
    left, right = leading(torch.zeros(4, 5), 2)
    assert not (left @ right).any() and left.isfinite().all()


@every_layer
@pytest.mark.parametrize("text", CHAINS)
def test_the_file_gives_the_layer_back(layer: nn.Module, text: str, tmp_path: Path) -> None:
    compressed = compress(text, layer)
    stored = compressed.tensors["weight"]
    assert stored.factors is not None
    save(compressed, text, tmp_path / "file")
    network = rebuild(tmp_path / "file", Rebuilder(layer))
    assert torch.equal(network.weight, stored.dequantize())  # type: ignore[arg-type]
    left, right = (factor.dequantize() for factor in stored.factors)
    rest = stored.residual().dequantize()
    assert torch.allclose(
        matrix_of(layer, stored.dequantize()), matrix_of(layer, rest) + left @ right, atol=1e-5
    )
    if text == "lowrank:rank=3":
        assert torch.allclose(network.weight, layer.weight, rtol=2**-10, atol=1e-3)  # type: ignore[arg-type]
    assert "weight left" in as_table(account(tmp_path / "file"))


def test_strong_directions_no_longer_cost_range() -> None:
    layer = spiked(nn.Linear(80, 60, bias=False))
    weight = layer.weight.detach()
    errors = [
        (compress(text, layer).tensors["weight"].dequantize() - weight).square().sum()
        for text in ("int3", "lowrank:rank=1+int3", "lowrank:rank=1,bits=8+int3")
    ]
    assert errors[1] < 0.5 * errors[0] and errors[2] < 0.5 * errors[0]


def test_factors_of_eight_bits_are_smaller() -> None:
    layer = nn.Linear(80, 60)
    sizes = [len(encode(compress(f"lowrank:rank=8{bits}+int3", layer), "")) for bits in ("", ",bits=8")]
    assert sizes[1] < sizes[0] - 0.7 * 8 * (80 + 60)  # a byte less each; scales, and a table


def test_a_rank_is_clipped_where_factors_would_be_larger_than_the_matrix() -> None:
    found = compress("lowrank:rank=4096+int4", nn.Linear(30, 20)).tensors["weight"]
    assert found.factors is not None and found.factors[0].shape == (20, 12)  # 12 = floor(600 / 50)
    assert compress("lowrank:rank=4+int4", nn.Linear(30, 1)).tensors["weight"].factors is None


def test_pruned_zeros_stay_zeros() -> None:
    layer = nn.Linear(30, 20)
    kept = compress("magnitude", layer).tensors["weight"].mask
    for text in ("magnitude+lowrank:rank=2+int4", "lowrank:rank=2+magnitude+int4"):
        made = compress(text, layer)
        dense = decode(encode(made, ""))[2]["weight"].dequantize()
        assert torch.equal(dense, made.tensors["weight"].dequantize())
        assert kept is not None and (dense == 0).sum() >= (~kept).sum()
        assert made.tensors["weight"].factors is not None


@pytest.mark.parametrize(
    "text", ["lowrank:rank=0", "lowrank:rank=9999", "lowrank:bits=4", "lowrank:rank=x", "int4+lowrank"]
)
def test_bad_input_is_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="lowrank") as caught:
        notation.parse(text)
    assert "\n" not in str(caught.value)


# --- the file -----------------------------------------------------------------------------------------


def opened() -> tuple[Header, bytes]:
    artifact = parse(encode(compress("lowrank:rank=3", nn.Linear(40, 24, bias=False)), ""))
    return artifact.header, bytes(artifact.streams)


def test_only_files_with_factors_have_the_new_version() -> None:
    layer = nn.Linear(40, 24)
    assert HEAD.unpack_from(encode(compress("lowrank:rank=3+int4", layer), ""))[1] == FACTORED
    assert HEAD.unpack_from(encode(compress("codebook", layer), ""))[1] == VERSION


def changed(place: int, **fields: object) -> bytes:
    header, streams = opened()
    entries = list(header.entries)
    entries[place] = dataclasses.replace(entries[place], **fields)  # type: ignore[arg-type]
    return sealed(dataclasses.replace(header, entries=tuple(entries)).pack(), streams, FACTORED)


@pytest.mark.parametrize(
    ("place", "fields", "message"),
    [
        (0, {"part": LEFT}, "factors of no tensor"),
        (1, {"part": 0}, "not a left and a right one"),
        (2, {"part": 0}, "not a left and a right one"),
        (2, {"part": LEFT}, "not a left and a right one"),
        (1, {"part": RIGHT}, "not a left and a right one"),
        (1, {"part": 7}, "not a left and a right one"),
        (1, {"shape": (36, 2)}, "do not fit"),
        (2, {"shape": (40, 3)}, "do not fit"),
        (2, {"shape": (120,)}, "do not fit"),
        (1, {"name": "other"}, "of other names"),
        (0, {"shape": (960,)}, "do not fit"),
    ],
    ids=str,
)
def test_factors_that_lie_are_refused(place: int, fields: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        decode(changed(place, **fields))


def test_factors_that_would_take_too_long_are_refused() -> None:
    """Weights and factors of one level each take a byte for 256 of them; their product takes more."""

    def level(*shape: int) -> StoredTensor:
        return StoredTensor(
            shape,
            indices=torch.zeros(shape, dtype=torch.uint8),
            codebook=((1.0,),),
            scales=torch.ones(1, 1).half(),
            layout=Layout("tensor"),
        )

    rank = 40  # times a million weights, over 256 of them a byte: 10,240 products a byte
    whole = dataclasses.replace(level(1000, 1000), factors=(level(1000, rank), level(rank, 1000)))
    with pytest.raises(Unsupported, match="take too long"):
        encode(Compressed(nn.Identity(), {"w": whole}), "")


def test_a_name_that_a_factor_needs_is_refused() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8, bias=False)
            self.layer.register_parameter("weight left", nn.Parameter(torch.ones(2)))

    with pytest.raises(Unsupported, match="beside factors"):
        encode(compress("lowrank:rank=2", Odd()), "")
    assert encode(original(Odd()), "")
