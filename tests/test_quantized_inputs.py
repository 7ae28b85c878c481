"""Quantized activations: golden values, layer types, the file, what stays in floats, files that lie."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import Given, normal, sealed
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import bench.api
from bench.artifact.format import encode, parse, rebuild, save, tensors_digest
from bench.artifact.structure import InputGrid, edit_network, input_grids
from bench.contracts.network import Small, SmallGenerator
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Context, Generator, StructureEdit
from bench.methods import notation
from bench.methods.plain import original
from bench.methods.quantized_inputs import grid
from bench.metrics.cost import cost_of, input_bits
from bench.metrics.macs import Macs


def through_a_file(text: str, generator: Generator, folder: Path) -> tuple[Compressed, nn.Module]:
    """What a method makes, and the network rebuilt from its file."""
    text = notation.parse(text).text
    made = notation.parse(text)(original(generator.network), Context(generator))
    save(made, text, folder / "file")
    return made, rebuild(folder / "file", generator)


# --- the grid -----------------------------------------------------------------------------------------


def test_a_static_grid_has_even_steps_holds_zero_and_clips() -> None:
    made, layer = InputGrid(2, 0.5, 1), nn.Linear(1, 1)  # -0.5, 0, 0.5, 1
    x = torch.tensor([-9.0, -0.3, -0.2, 0.0, 0.3, 0.8, 9.0])
    assert made.rounded(layer, x).tolist() == [-0.5, -0.5, 0.0, 0.0, 0.5, 1.0, 1.0]


def test_the_range_of_calibration_becomes_a_grid_with_short_numbers() -> None:
    assert grid(-1.0, 1.0) == {"bits": 8, "step": 0.007843, "zero": 128}
    assert grid(0.0, 25.5) == {"bits": 8, "step": 0.1, "zero": 0}
    assert grid(-25.5, 0.0)["zero"] == 255
    assert grid(0.0, 0.0)["step"] > 0


@pytest.mark.parametrize(
    "layer, shape, of_item",
    [(nn.Linear(6, 2), (3, 4, 6), (-1,)), (nn.Conv2d(3, 2, 1), (4, 3, 5, 5), (-3, -2, -1))],
)
def test_a_dynamic_grid_is_that_of_each_item(layer: nn.Module, shape: Any, of_item: Any) -> None:
    x = normal(*shape) * 10.0 ** torch.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    made = InputGrid(8).rounded(layer, x)
    width = x.amax(of_item, keepdim=True) - x.amin(of_item, keepdim=True)
    error = (made - x).abs()
    assert (error <= width / 255 * 0.5001 + 1e-6).all() and (error.amax(of_item) > 0).all()
    assert torch.equal(InputGrid(8).rounded(layer, x[1:2]), made[1:2])  # whatever the batch
    assert not InputGrid(8).rounded(layer, torch.zeros(shape)).any()


# --- layers and files ---------------------------------------------------------------------------------

LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 6)),
    "transformers": (Conv1D(4, 6), (3, 6)),
    "conv": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (2, 4, 5, 5)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("text", ["w8a8", "w4a8", "w8a8:activations=dynamic"])
def test_the_rebuilt_layer_computes_with_a_quantized_input(name: str, text: str, tmp_path: Path) -> None:
    layer, shape = LAYERS[name]
    x = normal(*shape)
    made, network = through_a_file(text, Given(nn.Sequential(layer), x), tmp_path)
    (edit,) = made.structure
    by_hand = copy.deepcopy(layer)
    with torch.no_grad():
        by_hand.weight.copy_(made.tensors["0.weight"].dequantize())
        by_hand.bias.copy_(made.tensors["0.bias"].dequantize())
        rounded = InputGrid(**edit.args).rounded(layer, x)
        assert not torch.equal(rounded, x)
        assert torch.equal(network(x), by_hand(rounded)) and not torch.equal(network(x), by_hand(x))
    plain = notation.parse(text.partition("a8")[0].replace("w", "int"))(
        original(nn.Sequential(layer)), Context()
    )
    assert torch.equal(made.tensors["0.weight"].dequantize(), plain.tensors["0.weight"].dequantize())


def test_the_whole_small_network_is_stored_with_its_grids_and_their_bytes(tmp_path: Path) -> None:
    generator = SmallGenerator(Small())
    made, network = through_a_file("w8a8+recalibrate", generator, tmp_path)
    assert list(input_grids(network)) == ["expand", "up", "up_groups", "down", "flat", "contract", "head"]
    without = dataclasses.replace(made, structure=())
    text = "w8a8+recalibrate"
    assert 7 * 3 < len(encode(made, text)) - len(encode(without, text)) < 7 * 40
    again = rebuild(tmp_path / "file", generator)
    samples = generator.sample(network, 96, 0)
    assert torch.equal(samples, generator.sample(again, 96, 0))
    for hooks in (module._forward_pre_hooks for module in again.modules()):
        hooks.clear()
    assert not torch.equal(samples, generator.sample(again, 96, 0))


def test_a_file_can_be_loaded_into_a_module(tmp_path: Path) -> None:
    module, x = nn.Sequential(nn.Linear(4, 3)), normal(5, 4)
    file = bench.api.compress(module, "w8a8:activations=dynamic", tmp_path / "file")
    bench.api.load(file, into=module)
    once = module(x)
    assert input_grids(module) == {"0": InputGrid(8)}
    assert torch.equal(
        once, nn.functional.linear(InputGrid(8).rounded(module[0], x), *module[0].parameters())
    )
    bench.api.load(file, into=module)
    assert len(module[0]._forward_pre_hooks) == 1 and torch.equal(module(x), once)


def test_the_digest_of_a_network_tells_its_grids() -> None:
    """Samples are cached by it."""
    networks = [nn.Linear(2, 2) for _ in range(3)]
    for network in networks[1:]:
        network.load_state_dict(networks[0].state_dict())
    edit_network(networks[1], [StructureEdit("", "quantize_input", {"bits": 8})])
    edit_network(networks[2], [StructureEdit("", "quantize_input", {"bits": 8, "step": 0.5, "zero": 3})])
    assert len({tensors_digest(network) for network in networks}) == 3


# --- what stays in floats -----------------------------------------------------------------------------


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru = nn.Embedding(9, 8), nn.GRU(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.unused, self.head = nn.Linear(8, 8), nn.Linear(8, 9)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.gru(self.embed(tokens))[0]
        made: Tensor = self.head(self.attention(x, x, x)[0])
        return made


def test_what_stays_in_floats_is_named_with_its_reason(tmp_path: Path) -> None:
    made, network = through_a_file("w8a8", Given(Mixed(), torch.arange(9)[None]), tmp_path)
    assert list(input_grids(network)) == ["head"]
    said = made.exceptions["w8a8"]
    assert "looks its rows up" in said["embed"] and "type GRU" in said["gru"]
    assert "type MultiheadAttention" in said["attention"]
    assert "never calls it" in said["attention.out_proj"] and "never calls it" in said["unused"]
    assert "stay in floats" in said["other operations"]
    assert input_bits(made) == {"embed.weight": 8}  # tied: the head multiplies with it


def test_an_exempt_layer_keeps_its_input(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    made, rebuilt = through_a_file("w8a8:keep=1.weight", Given(network, normal(3, 4)), tmp_path)
    assert list(input_grids(rebuilt)) == ["0"]
    assert "keep=1.weight" in made.exceptions["w8a8:keep=1.weight"]["1"]


def test_a_layer_whose_inputs_are_not_finite_keeps_them(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
    x = torch.full((2, 4), 3e38)  # 0 gives 1 infinity
    made, rebuilt = through_a_file("w8a8", Given(network, x), tmp_path)
    assert "not finite" in made.exceptions["w8a8"]["1"] and list(input_grids(rebuilt)) == ["0"]


def test_the_cost_names_activations_and_counts_their_bits(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 10))
    made, _ = through_a_file("w4a8", Given(network, normal(5, 40)), tmp_path)
    macs = Macs({"0.weight": 800.0, "1.weight": 200.0}, other=50.0)
    cost = cost_of(made, "w4a8", tmp_path / "file", 10_000, macs)
    assert cost.activations == "inputs of 2 layers with 8 bits, static ranges; simulated in float32"
    assert cost.macs_nonzero and cost.bit_operations
    assert cost.bit_operations == pytest.approx((cost.macs_nonzero - 50) * 4 * 8 + 50 * 32 * 32)
    assert cost.exceptions == {"w4a8": dict(made.exceptions["w4a8"])}
    plain = notation.parse("int4")(original(network), Context())
    assert cost_of(plain, "int4", tmp_path / "file", 10_000).activations == "float32"


# --- bad input ----------------------------------------------------------------------------------------


def test_static_ranges_need_calibration_and_dynamic_ones_do_not(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(Unsupported, match="no calibration inputs: it has none"):
        through_a_file("w8a8", Given(network), tmp_path)
    _, rebuilt = through_a_file("w8a8:activations=dynamic", Given(network), tmp_path)
    assert input_grids(rebuilt) == {"0": InputGrid(8)}
    with pytest.raises(Unsupported, match="no layer whose input"):
        through_a_file("w8a8", Given(nn.Sequential(nn.Embedding(3, 4)), torch.arange(3)), tmp_path)


@pytest.mark.parametrize(
    "text, said",
    [
        ("w8a8:activations=never", "activations='never' of 'w8a8' is not one of: static, dynamic"),
        ("w8a8+int4", "quantizes twice"),
        ("w4a8:bits=3", "setting of 'w4a8' 'bits'"),
    ],
)
def test_a_setting_that_is_not_possible_is_named(text: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        notation.parse(text)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "edit",
    [
        StructureEdit("nowhere", "quantize_input", {"bits": 8}),
        StructureEdit("0", "quantize_input", {}),
        StructureEdit("0", "quantize_input", {"bits": 80}),
        StructureEdit("0", "quantize_input", {"bits": True}),
        StructureEdit("0", "quantize_input", {"bits": 8, "step": 0}),
        StructureEdit("0", "quantize_input", {"bits": 8, "step": float("nan")}),
        StructureEdit("0", "quantize_input", {"bits": 8, "step": "1"}),
        StructureEdit("0", "quantize_input", {"bits": 8, "step": 1.0, "zero": 256}),
        StructureEdit("0", "quantize_input", {"bits": 8, "other": 1}),
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
