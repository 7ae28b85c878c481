"""bench.methods.fed_trellis: the path by columns, what feedback gains, bits by tensor, the file."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from small_network import Given, normal, sealed
from torch import Tensor, nn

from bench.artifact import coding, trellis
from bench.artifact.format import HEAD, decode, encode, parse
from bench.artifact.header import BY_COLUMN, Header
from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Layout
from bench.methods import notation
from bench.methods.block_rounding import calls_of, error
from bench.methods.calibration import Calibration
from bench.methods.fed_trellis import Walk, allocated
from bench.methods.plain import original
from bench.methods.trellis_coded import Trellis


def related(count: int, n: int, *shape: int) -> Tensor:
    """Inputs [count, n, *shape] of which neighbours are alike."""
    return normal(count, n, *shape).cumsum(1) / math.sqrt(n)


def compressed(text: str, network: nn.Module, inputs: Tensor) -> Compressed:
    return notation.parse(text)(original(network), Context(generator=Given(network, inputs)))


def refiled(made: Compressed) -> tuple[Compressed, bytes]:
    """-> (what its file gives, the file)."""
    data = encode(made, "")
    return dataclasses.replace(made, tensors=decode(data)[2]), data


def output_error(made: Compressed, network: nn.Module, inputs: Tensor) -> float:
    values = {name: stored.dequantize() for name, stored in made.tensors.items()}
    with torch.no_grad():
        exact, found = network(inputs), torch.func.functional_call(network, values, (inputs,))
    return float((found - exact).square().mean() / exact.square().mean())


def known(network: nn.Module) -> nn.Module:
    """Its parameters are the same in each run."""
    with torch.no_grad():
        for i, own in enumerate(network.parameters()):
            own.copy_(normal(*own.shape, seed=i) / math.sqrt(own[0].numel()))
    return network


LINEAR = known(nn.Linear(48, 40)), related(4000, 48)
LAYERS = {
    "linear": LINEAR,
    "convolution": (known(nn.Conv2d(6, 24, 3, padding=1)), related(40, 6, 8, 8)),
    "grouped": (known(nn.Conv2d(8, 32, 3, groups=2)), related(40, 8, 8, 8)),
    "transposed": (known(nn.ConvTranspose2d(8, 24, 3, stride=2)), related(40, 8, 6, 6)),
    "transposed and grouped": (known(nn.ConvTranspose2d(8, 16, 3, groups=2)), related(40, 8, 6, 6)),
}
every_layer = pytest.mark.parametrize("network, inputs", LAYERS.values(), ids=LAYERS)


@every_layer
@pytest.mark.parametrize("prune", ["", "magnitude:sparsity=0.5+"])
def test_a_file_gives_back_the_network_by_columns(network: nn.Module, inputs: Tensor, prune: str) -> None:
    made = compressed(f"{prune}ldlq:bits=3,states=8", network, inputs)
    again, data = refiled(made)
    stored = again.tensors["weight"]
    assert stored.layout.by_column and stored.trellis == 3 and HEAD.unpack_from(data)[1] == BY_COLUMN
    assert torch.equal(stored.dequantize(), made.tensors["weight"].dequantize())
    assert not prune or float((stored.dequantize() == 0).float().mean()) >= 0.5


@every_layer
def test_feedback_spares_the_output(network: nn.Module, inputs: Tensor) -> None:
    fed, plain = (compressed(f"{name}:bits=3,states=16", network, inputs) for name in ("ldlq", "tcq"))
    assert output_error(fed, network, inputs) < 0.7 * output_error(plain, network, inputs)
    assert len(encode(fed, "")) == pytest.approx(len(encode(plain, "")), rel=0.05)


def test_scales_of_channels_and_of_groups_are_those_of_the_file() -> None:
    network, inputs = LINEAR
    for options, rows in (("granularity=channel", 40), ("group=16", 120)):
        made = compressed(f"ldlq:bits=3,states=8,{options}", network, inputs)
        stored = refiled(made)[0].tensors["weight"]
        assert stored.scales is not None and stored.scales.shape == (1, rows)
        assert torch.equal(stored.dequantize(), made.tensors["weight"].dequantize())
        assert output_error(made, network, inputs) < 0.02


@pytest.mark.parametrize(
    "case", ["unrelated inputs", "no inputs", "a pattern", "few channels"], ids=lambda case: str(case)
)
def test_without_a_use_of_feedback_it_is_tcq(case: str) -> None:
    inputs, prune = related(500, 48), "2:4+" if case == "a pattern" else ""
    network = known(nn.Linear(48, 8 if case == "few channels" else 40))
    if case == "unrelated inputs":
        inputs = torch.eye(48)
    elif case == "no inputs":
        network, inputs = known(nn.Embedding(30, 20)), torch.arange(30)
    fed, plain = (compressed(f"{prune}{name}:states=8", network, inputs) for name in ("ldlq", "tcq"))
    assert torch.equal(fed.tensors["weight"].dequantize(), plain.tensors["weight"].dequantize())
    assert not fed.tensors["weight"].layout.by_column
    assert bool(fed.uncalibrated) == (case == "no inputs")


@pytest.mark.parametrize("memory", [2, 8])
def test_a_walk_in_pieces_is_one_path_through_the_trellis(memory: int) -> None:
    weights, walk = normal(700).numpy() * 2, Walk(Trellis(memory, 2))
    pieces = np.split(weights, [0, 100, 100, 101, 300, 620])
    levels = np.concatenate([walk.over(piece) for piece in pieces])
    assert trellis.follows(levels - levels.min() // 4 * 4, memory)
    assert len(levels) == 700 and walk.place == 700 % trellis.SEGMENT
    whole = Walk(Trellis(memory, 2)).over(weights)
    short, full = (np.square(found - weights).mean() for found in (levels, whole))
    assert full <= short < 1.5 * full


def test_short_columns_cost_a_twentieth_of_a_bit() -> None:
    """docs/compression.md says so of 48 outputs: a trellis then still gains most of its 0.2 bits."""
    weights, lost = normal(48 * 256).numpy(), []
    found = Trellis(8, 3)
    step = found.step_for(weights, least=0.0)
    for length in (trellis.SEGMENT, 48):
        walk = Walk(found)
        pieces = np.split(weights / np.float32(step), range(length, len(weights), length))
        levels = np.concatenate([walk.over(piece) for piece in pieces])
        rate = dataclasses.replace(found).entropy(levels)
        lost.append(rate + 0.5 * math.log2(np.square(levels * step - weights).mean()))
    assert 0.03 < lost[1] - lost[0] < 0.07 and lost[1] < 0.13  # without a trellis 0.25


# --------------------------------------------------------------------------------------------- bits by tensor


def test_bits_follow_the_errors_and_average_to_the_bits_asked_for() -> None:
    sizes = {"a": 100, "b": 300, "c": 100}
    assert allocated({"a": 1.0, "b": 3.0, "c": 1.0}, sizes, 3) == pytest.approx({"a": 3, "b": 3, "c": 3})
    found = allocated({"a": 16.0, "b": 3.0, "c": 1 / 16}, sizes, 3)
    assert found == pytest.approx({"a": 5, "b": 3, "c": 1})
    held = allocated({"a": 0.0, "b": math.inf, "c": 1.0}, sizes, 3)
    assert held["a"] == held["c"] == 1
    assert sum(held[name] * sizes[name] for name in sizes) == pytest.approx(1500)
    assert allocated({"a": 0.0, "b": 1.0}, {"a": 100, "b": 100}, 0.75) == pytest.approx(
        {"a": 0.75, "b": 0.75}
    )


class TwoWays(nn.Module):
    """The second way hardly counts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(48, 40), nn.Linear(48, 40)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.first(x) + 0.1 * self.second(x)
        return found


def test_mixed_bits_spare_the_networks_output() -> None:
    network, inputs = known(TwoWays()), related(2000, 48)
    equal, mixed = (compressed(f"ldlq:bits=3,states=8{o}", network, inputs) for o in ("", ",mixed"))
    assert output_error(mixed, network, inputs) < 0.4 * output_error(equal, network, inputs)
    assert len(encode(mixed, "")) < 1.05 * len(encode(equal, ""))


def test_mixed_bits_that_spare_nothing_are_not_taken() -> None:
    """Few bits cost the last layer more than one error divided by four a bit foretells."""
    layers = nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 24)
    network = known(nn.Sequential(*layers))
    with torch.no_grad():
        network[4].weight[:, :40] *= 0.01
        network[0].weight[:48] *= 0.05
    equal, mixed = (
        compressed(f"ldlq:bits=2.5,states=8{o}", network, related(2000, 32)) for o in ("", ",mixed")
    )
    assert encode(mixed, "") == encode(equal, "")


def test_errors_are_those_of_the_networks_output() -> None:
    network, inputs = LINEAR
    calls = calls_of(network, Calibration(network, [((inputs,), {})]))
    weight = network.weight.detach()
    assert error(network, {"weight": weight}, calls) == 0
    assert error(network, {"weight": weight + 0.1}, calls) == pytest.approx(
        float((0.1 * inputs.sum(1)).square().mean()), rel=1e-4
    )


# ----------------------------------------------------------------------------------------------- in the file


@pytest.mark.parametrize("layout", [Layout(by_column=True), Layout("tensor", 1, by_column=True)])
@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 6, 2), (4, 6, 2, 1)])
def test_the_order_by_column_turns_the_matrix_of_channels(layout: Layout, shape: tuple[int, ...]) -> None:
    if len(shape) <= layout.axis:
        return
    tensor = torch.arange(math.prod(shape)).reshape(shape)
    channels = Layout("channel", layout.axis).rows(tensor)
    assert torch.equal(layout.flat(tensor), channels.T.reshape(-1))
    assert torch.equal(layout.unflat(layout.flat(tensor), shape), tensor)
    assert torch.equal(layout.rows(tensor), dataclasses.replace(layout, by_column=False).rows(tensor))
    assert torch.equal(layout.restore(layout.rows(tensor), shape), tensor)


def test_a_header_that_lies_about_the_order_is_refused() -> None:
    network, inputs = LINEAR
    artifact = parse(encode(compressed("ldlq:states=8", network, inputs), ""))
    entries, streams = artifact.header.entries, bytes(artifact.streams)
    assert [entry.by_column for entry in entries] == [1, 0]  # the bias is plain

    def forged(*order: int) -> bytes:
        changed = [dataclasses.replace(e, by_column=o) for e, o in zip(entries, order, strict=True)]
        return sealed(dataclasses.replace(artifact.header, entries=tuple(changed)).pack(), streams, BY_COLUMN)

    for order in ((1, 1), (2, 0)):
        with pytest.raises(BadInput, match=f"an order by column of number {max(order)}"):
            decode(forged(*order))
    with pytest.raises(ValueError, match="no tensor has any need"):
        header = dataclasses.replace(
            artifact.header, entries=tuple(dataclasses.replace(e, by_column=0) for e in entries)
        )
        Header.unpack(columns_of(header), len(streams), BY_COLUMN)


def columns_of(header: Header) -> bytes:
    """The header's bytes with the columns of version 6, which it has no need of."""

    class Forged(Header):
        version = BY_COLUMN  # type: ignore[assignment]

    return Forged(**{f.name: getattr(header, f.name) for f in dataclasses.fields(header)}).pack()


def test_any_byte_of_the_header_may_be_another_one() -> None:
    network, inputs = LINEAR
    data = encode(compressed("ldlq:states=8", network, inputs), "")
    length, rng = HEAD.unpack_from(data)[2], np.random.default_rng(0)
    header, streams = (
        coding.inflate(data[HEAD.size : HEAD.size + length], 2**20),
        data[HEAD.size + length : -32],
    )
    refused = 0
    for place in range(len(header)):
        wrong = bytearray(header)
        wrong[place] ^= 1 << rng.integers(8)
        try:
            decode(sealed(coding.deflate(bytes(wrong)), streams, BY_COLUMN))
        except BadInput:
            refused += 1
    assert refused > len(header) / 2


@pytest.mark.parametrize("text", ["ldlq:bits=0.1", "ldlq:states=7", "ldlq:bits=9", "ldlq:mixed=2"])
def test_bad_options_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        notation.parse(text)
    assert "\n" not in str(refused.value)
