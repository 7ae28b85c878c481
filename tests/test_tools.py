"""Other projects' tools as methods, with a made-up tool: what the base class promises for each of them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.artifact.format import decode, encode, fill, load, save
from bench.artifact.structure import rebuilt
from bench.contracts.contract import Skipped
from bench.contracts.method import skip_if_missing
from bench.contracts.network import Small, SmallGenerator
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Context, Layout, StoredTensor, StructureEdit
from bench.layers import tensors_of
from bench.methods.notation import parse
from bench.methods.plain import original, plain
from bench.methods.tools.codes import TOLERANCE, Codes, of_groups, whole
from bench.methods.tools.inputs import by_name, calls
from bench.methods.tools.tool import Tool, unshared
from bench.records.schema import Record, ToolReport, read_record
from bench.registry import METHODS
from bench.report.listing import methods
from bench.report.run_table import comparison
from bench.report.show import text_of

ROOT = Path(__file__).parent.parent
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]


class EightBits(nn.Module):
    """A linear layer that holds whole numbers and a scale for each row."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        steps = layer.weight.abs().amax(1, keepdim=True) / 127
        self.register_buffer("numbers", torch.round(layer.weight / steps).to(torch.int8))
        self.register_buffer("steps", steps.clone())
        self.bias = layer.bias

    @property
    def weight(self) -> Tensor:
        return self.numbers.float() * self.steps  # type: ignore[operator]


@dataclass(frozen=True)
class Rounding(Tool):
    """A well-behaved tool for Linear."""

    fault: str = ""  # what it does wrong

    name = "rounding"
    description = "a made-up tool"
    package = "numpy"

    def quantize(self, network: nn.Module, layers: AbstractSet[str], context: Context) -> nn.Module:
        if self.fault == "raises":
            raise ValueError("no such kernel\nin two lines")
        torch.manual_seed(5)  # a tool may do so
        for path in layers if self.fault != "covers nothing" else ():
            layer = network.get_submodule(path)
            if isinstance(layer, nn.Linear):
                made: Any = EightBits(layer)
                if self.fault == "divides by zero":
                    made.steps[0] = torch.nan
                network.set_submodule(path, made)
        return network

    def save(self, network: nn.Module, folder: Path) -> None:
        state = unshared(network)
        if self.fault == "forgets the bias":
            state = {name: tensor for name, tensor in state.items() if not name.endswith("contract.bias")}
        save_file(state, folder / "model.safetensors")

    def load(self, fresh: nn.Module, folder: Path, context: Context) -> nn.Module:
        state = load_file(folder / "model.safetensors")
        for name in [name for name in state if name.endswith(".numbers")]:
            path = name.removesuffix(".numbers")
            layer: Any = EightBits(fresh.get_submodule(path))  # type: ignore[arg-type]
            layer.numbers, layer.steps = state[name], state[f"{path}.steps"]
            if self.fault == "reloads unquantized":
                with torch.no_grad():
                    fresh.get_submodule(path).weight.copy_(layer.weight)  # type: ignore[union-attr,operator]
                continue
            layer.steps *= 2 if self.fault == "reloads other values" else 1
            fresh.set_submodule(path, layer)
        fresh.load_state_dict(state, strict=False)
        return fresh

    def codes(self, network: nn.Module, path: str) -> Codes | None:
        layer: Any = network.get_submodule(path)
        if not isinstance(layer, EightBits):
            return None
        first = -127 if self.fault == "is read wrongly" else -128
        indices = layer.numbers.int() + 128
        return of_groups(indices, whole(first, first + 255), indices.shape[1], layer.steps, layer.weight)


def made_by(tool: Tool, network: nn.Module | None = None, **context: Any) -> Compressed:
    network = network or Small()
    return tool(original(network), Context(SmallGenerator(network), **context))


def test_the_stored_network_is_the_one_that_the_tools_file_reloads_to(tmp_path: Path) -> None:
    network = Small()
    made = made_by(Rounding(), network)
    assert [name for name, stored in made.tensors.items() if stored.quantized] == ["contract.weight"]
    stored = decode(encode(made, "rounding"))[2]["contract.weight"].dequantize()
    theirs = EightBits(network.contract).weight
    rows = theirs.abs().amax(1, keepdim=True)
    assert 0 < ((stored - theirs).abs() / rows).max() <= TOLERANCE
    assert torch.equal(torch.round(stored / rows * 127), torch.round(theirs / rows * 127))

    (report,) = [ToolReport.model_validate(one) for one in made.tools]
    copy = Small()
    copy.contract = EightBits(copy.contract)
    Rounding().save(copy, tmp_path)
    assert report.file_bytes == (tmp_path / "model.safetensors").stat().st_size
    assert report.tool == "numpy" and report.version and 0 < report.deviation <= TOLERANCE


@dataclass(frozen=True)
class Scaling(Rounding):
    """Makes the weights behind each second input four times as large, and these inputs as much smaller."""

    def quantize(self, network: nn.Module, layers: AbstractSet[str], context: Context) -> nn.Module:
        with torch.no_grad():
            network.get_submodule("contract").weight.mul_(self.factors())  # type: ignore[union-attr,operator]
        return super().quantize(network, layers, context)

    def codes(self, network: nn.Module, path: str) -> Codes | None:
        held = super().codes(network, path)
        return held and replace(held, input_scales=1 / self.factors())

    @staticmethod
    def factors() -> Tensor:
        return torch.tensor([1.0, 4.0]).repeat(32)


def test_a_tool_may_scale_the_inputs_of_a_layer(tmp_path: Path) -> None:
    network = Small()
    made = made_by(Scaling(), network)
    assert made.structure == (StructureEdit("contract", "scale_input", {}),)
    save(made, "x", tmp_path / "x.genc")
    _, structure, tensors = load(tmp_path / "x.genc")
    layer: Any = rebuilt(SmallGenerator(network), structure)
    fill(layer, tensors)
    layer, x = layer.contract, torch.randn(100, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer.input_scales, 1 / Scaling.factors())
    wanted = network.contract(x)
    lost = (layer(x) - wanted).square().mean() / wanted.var()
    without_factors = (layer.forward(x) - wanted).square().mean() / wanted.var()
    assert 0 < lost < 0.01 < without_factors


def test_what_a_tool_skips_is_named_with_its_share_and_kept_in_half_precision() -> None:
    network = Small()
    made = made_by(Rounding(), network)
    count = sum(tensor.numel() for tensor in tensors_of(network).values())
    (report,) = made.tools
    assert report["skipped"].keys() == made.untouched.keys() == {
        "embed.weight", "expand.weight", "up.weight", "up_groups.weight", "down.weight", "flat.weight"
    }  # fmt: skip
    assert report["skipped"]["up.weight"] == network.up.weight.numel() / count
    assert made.untouched["up.weight"] == "rounding leaves a ConvTranspose2d of 64x24x4x4 in floats"
    assert made.untouched["embed.weight"] == "shared with head.weight: rounding would store it twice"
    assert torch.equal(made.tensors["up.weight"].dequantize(), network.up.weight.half().float())
    assert made.tensors["batch_norm_2d.running_var"].values.dtype == torch.float32  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "reloads unquantized",
            "the file of numpy reloads unquantized: 1 of 1 weights, such as contract.weight",
        ),
        ("reloads other values", "the file of numpy reloads with other values of contract.weight"),
        ("divides by zero", "numpy makes NaN of contract.weight"),
        ("forgets the bias", "the file of numpy reloads with other values of contract.bias"),
        ("is read wrongly", "of a row's largest weight away from numpy's"),
        ("covers nothing", "rounding quantizes no layer of this network"),
        ("raises", "numpy fails: ValueError: no such kernel"),
    ],
)
def test_a_tool_that_fails_gives_one_line(fault: str, said: str) -> None:
    with pytest.raises(Unsupported, match=said) as raised:
        made_by(Rounding(fault))
    assert "\n" not in str(raised.value)


def test_excluded_weights_pruned_zeros_the_network_and_the_global_seed_stay() -> None:
    network = Small()
    before, state = {n: t.clone() for n, t in tensors_of(network).items()}, torch.random.get_rng_state()
    with pytest.raises(Unsupported, match="quantizes no layer"):
        made_by(Rounding(), network, excluded={"contract.weight": "it is the last one"})
    zeros = torch.arange(64) % 2 == 0
    start = original(network)
    masked = replace(plain(start.tensors["contract.weight"].values), mask=zeros.expand(32, 64))  # type: ignore[arg-type]
    pruned = start.replace({"contract.weight": masked})
    made = Rounding()(pruned, Context(SmallGenerator(network)))
    assert not made.tensors["contract.weight"].dequantize()[:, ~zeros].any()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(before[n], t) for n, t in tensors_of(network).items())


def test_a_quantized_network_is_not_quantized_again() -> None:
    network = Small()
    with pytest.raises(BadInput, match=r"would quantize 'embed\.weight' a second time"):
        Rounding()(parse("int4")(original(network), Context()), Context(SmallGenerator(network)))


# --- codes ------------------------------------------------------------------------------------------


def test_groups_that_reach_into_the_next_channel_are_coded_exactly() -> None:
    """8 consecutive weights a scale, 6 weights a channel: rows of 2, each with the scale of its group."""
    scale = torch.tensor([1.0, 2.0, 4.0, 8.0])
    numbers = torch.arange(30) % 5
    values = (numbers - 2.0) * scale.repeat_interleave(8)[:30]
    codes = of_groups(numbers, whole(-2, 2), 8, scale, values.reshape(5, 6))
    stored = codes.stored(plain(values.reshape(5, 6)))
    assert stored.layout == Layout("group", group=2) and torch.equal(
        stored.dequantize(), values.reshape(5, 6)
    )
    assert codes.deviation(stored) == 0


def test_offsets_and_scales_below_the_range_of_float16_are_coded() -> None:
    numbers, scale, offset = (
        torch.arange(32).reshape(2, 16) % 16,
        torch.tensor([1e-6, 3e-6]),
        torch.tensor([-7e-6, 1e-3]),
    )
    values = numbers * scale[:, None] + offset[:, None]
    codes = of_groups(numbers, whole(0, 15), 16, scale, values, offset)
    assert codes.deviation(codes.stored(plain(values))) < 2 * TOLERANCE
    symmetric = of_groups(numbers, whole(-8, 7), 16, scale, (numbers - 8) * scale[:, None])
    assert symmetric.deviation(symmetric.stored(plain(values))) <= TOLERANCE


def test_a_transposed_weight_has_the_same_codes() -> None:
    numbers, scale = torch.arange(12).reshape(3, 4), torch.tensor([1.0, 2.0, 4.0])
    codes = of_groups(numbers, whole(0, 11), 4, scale, numbers * scale[:, None]).transposed()
    stored: StoredTensor = codes.stored(plain(codes.values))
    assert stored.shape == (4, 3) and torch.equal(stored.dequantize(), (numbers * scale[:, None]).T)


# --- inputs -----------------------------------------------------------------------------------------


def test_a_tool_that_traces_sees_the_calibration_or_what_sampling_calls() -> None:
    network = Small().eval()
    generator = SmallGenerator(network)
    first = by_name(network, next(iter(calls(network, Context(generator), "it"))))
    assert torch.equal(first["tokens"], torch.arange(32))

    class Without(SmallGenerator):
        def calibration(self, seed: int) -> Any:
            raise LookupError

    seen = [by_name(network, call) for call in calls(network, Context(Without(network)), "it")]
    assert [len(call["tokens"]) for call in seen] == [8]
    with pytest.raises(Unsupported, match="it traces the network, which needs a generator"):
        next(iter(calls(network, Context(), "it")))


# --- where a tool is missing, and where it is shown --------------------------------------------------


@dataclass(frozen=True)
class Missing(Rounding):
    """A tool that nobody has installed."""

    name = "absent"
    package = "gencompress-no-such-package"


def test_a_missing_tool_is_listed_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS._targets, "absent", f"{__name__}:Missing")
    said = "needs the package gencompress-no-such-package, which is not installed: pip install -e '.[tools]'"
    assert f"absent           a made-up tool ({said})" in [*methods()]
    with pytest.raises(BadInput) as raised:
        parse("absent")
    assert str(raised.value) == f"method 'absent' {said}"
    with pytest.raises(Skipped, match="which is not installed"):
        skip_if_missing("absent")


def test_every_entry_point_of_this_package_is_a_tool_of_that_name() -> None:
    for name, target in POINTS["gencompress.methods"].items():
        module, _, attribute = target.partition(":")
        kind = getattr(__import__(module, fromlist=[attribute]), attribute)
        assert (
            issubclass(kind, Tool) and kind.name == name and kind.quantizes and "\n" not in kind.description
        )


def test_the_modules_of_tools_load_neither_torch_nor_their_tool() -> None:
    modules = ", ".join(target.partition(":")[0] for target in POINTS["gencompress.methods"].values())
    code = (
        f"import sys, {modules}\n"
        "heavy = {'torch', 'torchao', 'optimum', 'hqq', 'nncf', 'modelopt', 'bitsandbytes'}\n"
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_records_show_the_tools_own_file_beside_ours() -> None:
    path = min((ROOT / "results" / "text" / "s@0" / "int8").glob("*.json"))
    old = read_record(path)
    assert old.tools == [] and "file" not in text_of(old) + comparison([old], [])
    report = ToolReport(
        tool="numpy", version="1.2", file_bytes=1_000_000, skipped={"a": 0.25}, deviation=1e-4
    )
    new = Record.model_validate_json(old.model_copy(update={"tools": [report]}).model_dump_json())
    assert new.cost is not None
    assert "1,000,000 bytes, written by numpy 1.2; it skipped 1 weights, 25% of all numbers" in text_of(new)
    ratio = new.cost.fp32_bytes / 1_000_000
    assert (
        f"int8: the file of numpy 1.2 has 1,000,000 bytes ({ratio:.2f}x), our coding of the same values "
        f"{new.cost.stored_bytes:,}"
    ) in comparison([new], [])
