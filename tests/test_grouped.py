"""Grouped transposed convolutions: one scale for each true output channel, in every method and file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from small_network import Rebuilder, compress, sealed
from torch import Tensor, nn

from bench.artifact.format import HEAD, decode, encode, parse, rebuild, save
from bench.artifact.header import GROUPED, VERSION, Header
from bench.errors import BadInput
from bench.interfaces import Layout, StoredTensor
from bench.layers import weights_of
from bench.methods import notation
from bench.methods.plain import original, plain
from bench.methods.trained import PruneWhileTraining, QuantizationAwareTraining

METHODS = ("int8", "int4", "int2:asym", "ternary", "binary:residual=2", "nf4", "int4:group=5", "2:4+int4")
SHAPES = ((8, 8, 8), (6, 9, 3), (4, 8, 2), (4, 4, 1))  # inputs, outputs, groups


def layer_of(inputs: int = 8, outputs: int = 8, groups: int = 8) -> nn.ConvTranspose2d:
    """Weights of unit variance."""
    layer = nn.ConvTranspose2d(inputs, outputs, 4, groups=groups, bias=False)
    with torch.no_grad():
        layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    return layer


def faint_layer() -> nn.ConvTranspose2d:
    """Depthwise, each channel fainter than the one before: from 1 to a thousandth."""
    layer = layer_of()
    with torch.no_grad():
        layer.weight *= torch.logspace(0, -3, 8)[:, None, None, None]
    return layer


def channels_of(weight: Tensor, groups: int) -> Tensor:
    """[in, out / groups, h, w] -> [out, weights of a channel], by torch's definition of the layer."""
    parts = weight.chunk(groups)  # each [in / groups, out / groups, h, w]
    return torch.cat([part.transpose(0, 1).flatten(1) for part in parts])


def lost(dense: Tensor, weight: Tensor) -> Tensor:
    """Relative error of each channel of a depthwise layer."""
    return (dense - weight).flatten(1).norm(dim=1) / weight.flatten(1).norm(dim=1)


def test_no_faint_channel_is_lost_at_four_bits() -> None:
    weight = faint_layer().weight.detach()
    stored = compress("int4", faint_layer()).tensors["weight"]
    assert stored.scales is not None and stored.scales.shape == (1, 8)
    assert lost(stored.dequantize(), weight).max() < 0.12
    beside = nn.Conv2d(8, 8, 4, groups=8, bias=False)  # the same weights where channels are at axis 0
    beside.weight = nn.Parameter(weight.clone())
    assert torch.equal(compress("int4", beside).tensors["weight"].dequantize(), stored.dequantize())


@pytest.mark.parametrize("text", METHODS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_method_treats_a_true_channel_as_a_row(text: str, shape: tuple[int, int, int]) -> None:
    layer, groups = layer_of(*shape), shape[2]
    made = compress(text, layer).tensors["weight"].dequantize()
    rows = nn.Linear(1, 1, bias=False)
    rows.weight = nn.Parameter(channels_of(layer.weight.detach(), groups))
    expected = compress(text, rows).tensors["weight"].dequantize()
    assert torch.equal(channels_of(made, groups), expected)


@pytest.mark.parametrize("grid", ["int4", "ternary"])
def test_training_computes_with_one_scale_a_channel(grid: str) -> None:
    weight = faint_layer().weight.detach()
    (own,) = weights_of(faint_layer()).values()
    made = QuantizationAwareTraining(grid=grid).parametrization("weight", own, plain(weight.clone()), False)
    assert made is not None
    assert lost(made(weight).detach(), weight).max() < (0.12 if grid == "int4" else 0.7)
    stored = made.stored(weight)
    assert torch.equal(stored.dequantize(), made(weight)) and stored.layout.blocks == 8


def test_a_pattern_while_training_follows_true_channels() -> None:
    layer = layer_of(6, 9, 3)
    (own,) = weights_of(layer).values()
    mask = PruneWhileTraining(pattern="2:4").mask(layer.weight.detach(), own, 1.0)
    kept = channels_of(mask, 3).unflatten(1, (-1, 4)).sum(2)
    assert kept.eq(2).all() and channels_of(mask, 3).shape == (9, 32)


@pytest.mark.parametrize(
    "layout", [Layout(axis=1, blocks=3), Layout("group", 1, 5, 3), Layout("tensor", 1, 0, 3)]
)
def test_rows_are_undone(layout: Layout) -> None:
    weight = layer_of(6, 9, 3).weight.detach()
    shape = tuple(weight.shape)
    assert torch.equal(layout.restore(layout.rows(weight), shape), weight)
    assert torch.equal(layout.unflat(layout.flat(weight), shape), weight)
    assert layout.rows(weight).shape[0] == layout.row_count(shape)
    assert layout.channels(shape) * layout.channel_length(shape) == math.prod(shape)


@pytest.mark.parametrize("text", ["none", *METHODS, "2:4", "magnitude+int4", "ecsq", "ecsq:group=8"])
def test_the_file_gives_the_layer_back(text: str, tmp_path: Path) -> None:
    compressed = compress(text, layer_of(6, 9, 3))
    save(compressed, text, tmp_path / "file")
    network = rebuild(tmp_path / "file", Rebuilder(layer_of(6, 9, 3)))
    assert torch.equal(network.weight, compressed.tensors["weight"].dequantize())  # type: ignore[arg-type]


def test_only_files_of_grouped_layers_have_the_new_version() -> None:
    """Files of all other networks stay as they were, byte for byte."""
    for groups, version in ((1, VERSION), (2, GROUPED)):
        data = encode(compress("int4", layer_of(4, 4, groups)), "int4")
        assert HEAD.unpack_from(data)[1] == version
    assert HEAD.unpack_from(encode(original(layer_of()), "none"))[1] == VERSION, "plain values have no rows"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks": 5}, "5 blocks of shape"),
        ({"blocks": 0}, "0 blocks of shape"),
        ({"blocks": 12}, "12 blocks of shape"),
        ({"blocks": 2}, "scales for 6 rows"),
        ({"axis": 0}, "3 blocks of shape"),
        ({"blocks": 1}, "9 scales for 3 rows"),
    ],
    ids=str,
)
def test_blocks_that_lie_are_refused(change: dict[str, int], message: str) -> None:
    artifact = parse(encode(compress("int4", layer_of(6, 9, 3)), "int4"))
    entry = dataclasses.replace(artifact.header.entries[0], **change)  # type: ignore[arg-type]
    forged = dataclasses.replace(artifact.header, entries=(entry,))
    packed = _pack_grouped(forged)
    with pytest.raises(BadInput, match=message):
        decode(sealed(packed, bytes(artifact.streams), GROUPED))
    with pytest.raises(BadInput, match="not valid"):
        decode(sealed(packed, bytes(artifact.streams), VERSION))


def test_a_column_of_blocks_without_any_is_refused() -> None:
    artifact = parse(encode(original(layer_of(4, 4, 1)), "none"))
    with pytest.raises(BadInput, match="no tensor has any need"):
        decode(sealed(_pack_grouped(artifact.header), bytes(artifact.streams), GROUPED))


def _pack_grouped(header: Header) -> bytes:
    """The header with its column of blocks, whatever they are."""

    class Forged(Header):
        grouped = True  # type: ignore[assignment]

    return Forged(**vars(header)).pack()


@pytest.mark.parametrize("text", ["int4", "ternary", "ecsq", "nf4"])
def test_a_group_longer_than_a_row_is_the_row(text: str) -> None:
    """Padding to a million would take a minute and gigabytes: no row may be longer than the weights are."""
    network = nn.Sequential(nn.Linear(48, 16), nn.Conv2d(3, 4, 3))
    huge = compress(f"{text}:group=1000000", network)
    per_channel = compress("ecsq:granularity=channel" if text == "ecsq" else text, network)
    for name, stored in huge.tensors.items():
        assert torch.equal(stored.dequantize(), per_channel.tensors[name].dequantize())
        if stored.quantized:
            assert stored.indices is not None
            rows = stored.layout.rows(stored.indices)
            assert rows.numel() == stored.indices.numel(), "padded"


def test_the_quantizer_sees_rows_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    (method,) = notation.parse("int4:group=1000000").links
    seen: list[int] = []
    fit = type(method).fit  # type: ignore[attr-defined]
    monkeypatch.setattr(type(method), "fit", lambda own, r, m: (seen.append(r.numel()), fit(own, r, m))[1])
    method.quantize(StoredTensor((16, 48), values=torch.ones(16, 48)), 0)  # type: ignore[attr-defined]
    assert sum(seen) == 16 * 48
