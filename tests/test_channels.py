"""Structured pruning: golden values, layers that depend on each other, files, what stays whole, bad input."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_network import Given, normal, sealed
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bench.artifact.format import encode, parse, rebuild, save
from bench.artifact.structure import edit_network, resized
from bench.contracts.contract import Skipped
from bench.contracts.method import CONTRACTS
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Context, Generator, StructureEdit
from bench.layers import tensors_of
from bench.methods import notation
from bench.methods.channels import Channels, attentions
from bench.methods.plain import original
from bench.metrics.macs import count_macs

installed = pytest.mark.skipif(Channels.missing() is not None, reason="torch-pruning is not installed")


def through_a_file(
    text: str, generator: Generator, folder: Path, kept: dict[str, str] | None = None
) -> tuple[Compressed, nn.Module]:
    """What a method makes, and the network rebuilt from its file."""
    text = notation.parse(text).text
    made = notation.parse(text)(original(generator.network), Context(generator, excluded=kept or {}))
    save(made, text, folder / "file")
    network = rebuild(folder / "file", generator)
    for name, value in tensors_of(network).items():
        assert torch.equal(value, made.tensors[name].dequantize())
    return made, network


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in tensors_of(network).items()}


# --- networks -----------------------------------------------------------------------------------------


class Residual(nn.Module):
    """A small U-Net: group norm, a skip connection that adds, and one that concatenates."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.inner = (
            nn.Conv2d(3, 16, 3, padding=1),
            nn.GroupNorm(4, 16),
            nn.Conv2d(16, 16, 1),
        )
        self.down, self.up = nn.Conv2d(16, 24, 2, stride=2), nn.ConvTranspose2d(24, 8, 2, stride=2)
        self.both, self.last = nn.GroupNorm(4, 24), nn.Conv2d(24, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = x + self.inner(self.norm(x).relu())
        made: Tensor = self.last(self.both(torch.cat([x, self.up(self.down(x).relu())], 1)))
        return made


class Attention(nn.Module):
    """Four heads with names of diffusers, between a tied embedding and its head."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.embed, self.norm = nn.Embedding(11, 16), nn.LayerNorm(16)
        self.to_q, self.to_k, self.to_v = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.out, self.grow, self.shrink = nn.Linear(16, 16), Conv1D(32, 16), Conv1D(16, 32)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        parts = [to(self.norm(x)) for to in (self.to_q, self.to_k, self.to_v)]
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        made: Tensor = self.head(x + self.shrink(self.grow(x).relu()))
        return made


TOKENS = torch.arange(10).reshape(2, 5)


class Untraceable(nn.Module):
    """Recurrent, attention of PyTorch, a grouped transposed convolution; a Linear before each."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.gru = nn.Linear(8, 8), nn.GRU(8, 8, batch_first=True)
        self.b, self.attention = nn.Linear(8, 8), nn.MultiheadAttention(8, 2, batch_first=True)
        self.c, self.up = nn.Linear(8, 8), nn.ConvTranspose1d(8, 8, 3, groups=2)
        self.grow, self.shrink = nn.Linear(8, 12), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gru(self.a(x))[0]
        x = self.b(x)
        x = self.attention(x, x, x)[0]
        x = self.up(self.c(x).transpose(1, 2)).transpose(1, 2)
        made: Tensor = self.shrink(self.grow(x).relu())
        return made


# --- what is removed ----------------------------------------------------------------------------------


@installed
def test_the_channels_of_smallest_magnitude_go_from_all_layers_that_share_them(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([5.0, 0.1, 4.0, 3.0])[:, None, None, None].expand(4, 2, 1, 1))
        network[1].running_mean.copy_(torch.arange(4.0))
    made, smaller = through_a_file("channels:keep=0.75", Given(network, normal(2, 2, 3, 3)), tmp_path)
    stay = [0, 2, 3]
    assert torch.equal(smaller[0].weight, network[0].weight[stay])
    assert torch.equal(smaller[0].bias, network[0].bias[stay])
    assert smaller[1].running_mean.tolist() == [0, 2, 3] and smaller[1].num_features == 3
    assert torch.equal(smaller[3].weight, network[3].weight[stay])
    assert (smaller[0].out_channels, smaller[3].in_channels, smaller[3].out_channels) == (3, 3, 3)
    assert made.exceptions == {"channels:keep=0.75": {}}
    assert made.structure[0] == StructureEdit(
        "0", "resize", {"out_channels": 3, "weight": [3, 2, 1, 1], "bias": [3]}
    )


@installed
def test_group_norm_and_skip_connections_keep_fitting(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Given(Residual(), normal(2, 3, 8, 8))
    made, network = through_a_file("channels:keep=0.75", generator, tmp_path)
    found = shapes(network)
    assert found["first.weight"] == (12, 3, 3, 3) and found["inner.weight"] == (12, 12, 1, 1)
    assert found["norm.weight"] == (12,) and found["down.weight"] == (18, 12, 2, 2)
    assert found["both.weight"][0] % 4 == 0 and found["last.weight"][:2] == (3, found["both.weight"][0])
    assert generator.sample(network, 2, 0).shape == (2, 3, 8, 8)
    before, after = (count_macs(generator, one, 2).total for one in (generator.network, network))
    assert after < 0.7 * before
    sizes = [len(encode(one, "")) for one in (original(generator.network), made)]
    assert sizes[1] < 0.75 * sizes[0]


@installed
def test_whole_heads_go_and_tied_weights_stay_tied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Given(Attention(), TOKENS)
    network = through_a_file("channels:keep=0.75", generator, tmp_path)[1]
    assert network.heads == 3 and network.head.weight is network.embed.weight
    found = shapes(network)
    assert found["embed.weight"] == (11, 12) and found["to_q.weight"] == found["to_v.weight"] == (12, 12)
    assert found["grow.weight"] == (12, 24) and found["shrink.weight"] == (24, 12)
    assert (network.grow.nx, network.grow.nf) == (12, 24)
    biases = generator.network.to_q.bias.reshape(4, 4).tolist()  # one for each channel of each head
    assert all(head in biases for head in network.to_q.bias.reshape(3, 4).tolist())
    assert generator.sample(network, 2, 0).shape == (2, 5, 11)


@installed
@pytest.mark.parametrize("heads", [1, 3])
def test_attention_that_cannot_lose_a_head_stays_whole(heads: int, tmp_path: Path) -> None:
    network = Attention()
    network.heads = 1 if heads == 1 else 4
    if heads == 3:
        network.to_v = nn.Linear(16, 32)  # queries and values of other widths: the heads are not known
        network.out = nn.Linear(32, 16)
    smaller = through_a_file("channels:keep=0.75", Given(network, TOKENS), tmp_path)[1]
    assert smaller.to_q.out_features == 16 and smaller.to_q.in_features == 12
    assert smaller.heads == network.heads


@installed
def test_what_stays_whole_is_named_with_its_reason(tmp_path: Path) -> None:
    made, network = through_a_file("channels:keep=0.5", Given(Untraceable(), normal(2, 3, 8)), tmp_path)
    said = made.exceptions["channels:keep=0.5"]
    assert network.grow.out_features == 6
    changed = {edit.path for edit in made.structure}
    assert changed == {"grow", "shrink"}
    assert "computed as a whole" in said["a.weight"]
    assert "grouped transposed" in said["c.weight"]
    assert {"gru.weight_ih_l0", "attention.in_proj_weight", "up.weight", "b.weight"} <= said.keys()


@installed
def test_excluded_tensors_stay_whole(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    kept = {"0.bias": "it is small"}
    made, smaller = through_a_file("channels:keep=0.5", Given(network, normal(3, 4)), tmp_path, kept)
    assert smaller[0].out_features == 8 and smaller[2].out_features == 4
    assert made.exceptions["channels:keep=0.5"] == {"0.weight": "it is small"}


@installed
def test_zeros_and_float16_stay_and_a_chain_goes_on(tmp_path: Path) -> None:
    torch.manual_seed(0)
    generator = Given(Residual(), normal(2, 3, 8, 8))
    made, _ = through_a_file("magnitude:sparsity=0.5+channels:keep=0.75+int4", generator, tmp_path)
    stored = made.tensors["down.weight"]
    assert stored.quantized and stored.mask is not None and 0.2 < stored.mask.float().mean() < 0.8
    assert not stored.dequantize()[~stored.mask].any()
    made, _ = through_a_file("fp16+channels:keep=0.75", generator, tmp_path)
    values = made.tensors["down.weight"].values
    assert values is not None and values.dtype == torch.float16
    for text in ("channels:keep=0.5+gptq:bits=4", "channels:keep=0.5+lowrank:rank=2+w4a8"):
        through_a_file(text, generator, tmp_path)


@installed
def test_recalibration_follows(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    x = normal(20, 4)
    _, made = through_a_file("channels:keep=0.5+recalibrate", Given(network, x), tmp_path)
    with torch.no_grad():
        assert torch.allclose(made[1].running_mean, made[0](x).mean(0), atol=1e-5)


@installed
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_it_keeps_each_contract_of_a_method(contract: Callable[[str], None]) -> None:
    try:
        contract(
            "channels:keep=0.75" if contract.__name__ == "its_file_gives_exactly_its_tensors" else "channels"
        )
    except Skipped as reason:
        pytest.skip(str(reason))


# --- bad input ----------------------------------------------------------------------------------------


@installed
def test_networks_that_cannot_lose_channels_are_unsupported(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no calibration inputs: it has none"):
        through_a_file("channels", Given(nn.Linear(4, 4)), tmp_path)
    with pytest.raises(Unsupported, match="no channel can be removed: its channels are an output"):
        through_a_file("channels", Given(nn.Sequential(nn.Linear(4, 4)), normal(2, 4)), tmp_path)

    class Fixed(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self[1](self[0](x).reshape(-1, 8))
            return made

    with pytest.raises(Unsupported, match="does not work with fewer channels: RuntimeError") as error:
        through_a_file("channels", Given(Fixed(nn.Linear(4, 8), nn.Linear(8, 2)), normal(2, 4)), tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", ["0", "1", "1.5", "-1", "nan"])
def test_a_share_that_is_not_possible_is_named_also_without_the_library(keep: str) -> None:
    with pytest.raises(BadInput, match=f"keep={keep} of 'channels' is outside of"):
        notation.parse(f"channels:keep={keep}")


def test_without_the_library_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.methods.channels.PACKAGE", "gencompress-no-such-package")
    with pytest.raises(BadInput) as error:
        notation.parse("channels")
    assert str(error.value) == (
        "method 'channels' needs the package gencompress-no-such-package, which is not installed: "
        "pip install -e '.[channels]'"
    )


@installed
def test_it_comes_before_a_quantizer() -> None:
    with pytest.raises(BadInput, match="'channels' has to come before a quantizer"):
        notation.parse("int4+channels")


# --- files --------------------------------------------------------------------------------------------


def test_the_edits_of_a_network_are_what_differs() -> None:
    """Also without torch-pruning: a file with fewer channels is read anywhere."""
    before = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    after = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    edits = list(resized(before, after))
    assert [edit.path for edit in edits] == ["0", "1", "2"]
    assert edits[1].args == {"normalized_shape": [3], "weight": [3], "bias": [3]}
    edit_network(before, edits)
    assert shapes(before) == shapes(after) and before[1].normalized_shape == (3,)
    assert not list(resized(before, after))


@pytest.mark.parametrize(
    "edit",
    [
        StructureEdit("nowhere", "resize", {"weight": [1, 1]}),
        StructureEdit("0", "resize", {"weight": [3, 3]}),
        StructureEdit("0", "resize", {"weight": [2]}),
        StructureEdit("0", "resize", {"weight": [0, 2]}),
        StructureEdit("0", "resize", {"weight": [True, 2]}),
        StructureEdit("0", "resize", {"weight": 2}),
        StructureEdit("0", "resize", {"in_features": 3}),
        StructureEdit("0", "resize", {"in_features": [2]}),
        StructureEdit("0", "resize", {"in_channels": 1}),
        StructureEdit("0", "resize", {"training": 0}),
    ],
)
def test_a_file_that_lies_gives_one_line(edit: StructureEdit, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    file = parse(encode(original(network), "none"))
    header = dataclasses.replace(file.header, structure=(edit,))
    (tmp_path / "file").write_bytes(sealed(header.pack(), bytes(file.streams)))
    with pytest.raises(BadInput, match="does not fit the network") as error:
        rebuild(tmp_path / "file", Given(network))
    assert "\n" not in str(error.value)


def test_a_file_that_resizes_without_end_is_refused() -> None:
    """Each edit keeps the tensor of before, so a few bytes could ask for any memory."""
    network = nn.Sequential(nn.Linear(30, 30, bias=False))
    edits = [StructureEdit("0", "resize", {"weight": [30, 30]})] * 300
    with pytest.raises(BadInput, match="too often"):
        edit_network(network, edits)
    step = {"bits": 8, "step": 10**400}
    with pytest.raises(BadInput, match="step=1000"):
        edit_network(network, [StructureEdit("0", "quantize_input", step)])


def test_heads_are_known_by_the_names_of_projections() -> None:
    assert [heads for _, heads in attentions(Attention())] == [4]
    unknown = Attention()
    unknown.heads = 5  # no divisor of 16
    assert not list(attentions(unknown))
