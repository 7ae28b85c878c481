"""Factors for the inputs of layers: the edit `scale_input` of bench.artifact.structure."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from small_network import normal
from torch import nn
from transformers.pytorch_utils import Conv1D

from bench.artifact.format import save, tensors_digest
from bench.artifact.structure import edit_network
from bench.artifact.writer import encode_tensors
from bench.errors import BadInput
from bench.interfaces import StructureEdit
from bench.layers import tensors_of
from bench.methods.plain import original, plain
from bench.runner.compress import decompress_file

LAYERS = {
    "linear": (nn.Linear(5, 4), (3, 2, 5), -1),
    "transformers": (Conv1D(4, 5), (3, 2, 5), -1),
    "1d": (nn.Conv1d(5, 5, 3, groups=5), (2, 5, 9), 1),
    "2d": (nn.Conv2d(5, 6, 3), (2, 5, 7, 8), 1),
    "one picture": (nn.Conv2d(5, 6, 3), (5, 7, 8), 0),
    "up": (nn.ConvTranspose2d(5, 6, 3), (2, 5, 3, 5), 1),
}


def scaled(layer: nn.Module, times: int = 1) -> nn.Module:
    network = nn.Sequential(copy.deepcopy(layer))
    for _ in range(times):
        edit_network(network, [StructureEdit("0", "scale_input", {})])
    return network


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("times", [1, 2])
def test_each_input_channel_has_a_factor_of_its_own(name: str, times: int) -> None:
    layer, shape, dimension = LAYERS[name]
    network, x, factors = scaled(layer, times), normal(*shape), torch.arange(1.0, 6.0)
    assert torch.equal(network(x), layer(x)), "all are 1 at first"
    tensors_of(network)["0.input_scales"].copy_(factors)
    by_hand = (x.movedim(dimension, -1) * factors).movedim(-1, dimension)
    for made in (network, copy.deepcopy(network)):
        assert torch.equal(made(x), layer(by_hand))
    if name == "linear":
        assert torch.equal(network[0](input=x), layer(by_hand))


def test_networks_with_other_factors_have_other_digests() -> None:
    layer = nn.Linear(5, 4)
    plain, ones, others = nn.Sequential(layer), scaled(layer), scaled(layer)
    tensors_of(others)["0.input_scales"][2] = 0.5
    assert len({tensors_digest(network) for network in (plain, ones, others)}) == 3


@pytest.mark.parametrize(
    "edit",
    [
        StructureEdit("nowhere", "scale_input", {}),
        StructureEdit("1", "scale_input", {}),
        StructureEdit("0", "scale_input", {"channels": 5}),
    ],
)
def test_an_edit_that_does_not_fit_is_refused(edit: StructureEdit) -> None:
    with pytest.raises(BadInput, match=r"'scale_input' of '\w+' does not fit the network"):
        edit_network(nn.Sequential(nn.Linear(5, 4), nn.ReLU()), [edit])


def test_inspecting_compares_the_weight_as_it_acts() -> None:
    """Each input is halved and its weights doubled, so nothing is lost."""
    network = nn.Sequential(nn.Linear(5, 4, bias=False))
    start = original(network)
    scaled_tensors = {
        "0.weight": plain(network[0].weight.detach() * 2),
        "0.input_scales": plain(torch.full((5,), 0.5)),
    }
    made = dataclasses.replace(
        start.replace(scaled_tensors), structure=(StructureEdit("0", "scale_input", {}),)
    )
    header, _ = encode_tensors(made, "x")
    assert [entry.fidelity for entry in header.entries] == [255, 0]
    alone, _ = encode_tensors(start.replace({"0.weight": scaled_tensors["0.weight"]}), "x")
    assert alone.entries[0].fidelity == 0


def test_decompressing_names_the_edits_that_the_tensors_lack(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(5, 4))
    made = dataclasses.replace(
        original(network).replace({"0.input_scales": plain(torch.full((5,), 0.5))}),
        structure=(StructureEdit("0", "scale_input", {}),),
    )
    save(made, "x", tmp_path / "x.genc")
    line = decompress_file(tmp_path / "x.genc", tmp_path / "x.safetensors")
    assert line.endswith("; without the edits of the structure that the network needs: scale_input (1)")
