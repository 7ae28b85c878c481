"""bench.methods.calibration and the methods that use it: golden values, layer types, chains, bad settings."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from small_network import Given, normal
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import bench.methods.calibration
import domains.language.generator
from bench.artifact.format import decode, encode
from bench.contracts.method import apply, dense
from bench.contracts.network import Small
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Context, Generator, StoredTensor
from bench.layers import Weight, weights_of
from bench.methods.block_rounding import Brecq, Call, blocks_of, calls_of
from bench.methods.calibrated_pruning import SparseGpt, Wanda
from bench.methods.calibrated_rounding import AdaRound, CalibratedQuantizer, Gptq, Rounding
from bench.methods.calibration import Calibration, patches, proportions, that_fit_into_memory
from bench.methods.notation import parse
from bench.methods.plain import original, plain
from bench.methods.prune import Magnitude, Structured
from bench.registry import open_domain

LINEAR = Weight("weight", "Linear", 0)


def moments_of(n: int, seed: int = 1) -> Tensor:
    """Of correlated inputs whose sizes differ tenfold."""
    inputs = normal(500, n, seed=seed) @ (normal(n, n, seed=seed + 1) * torch.logspace(0, -1, n))
    return proportions((inputs.T @ inputs).double()[None])


def identity(n: int) -> Tensor:
    return torch.eye(n, dtype=torch.float64)[None]


def output_error(made: StoredTensor, weight: Tensor, moments: Tensor) -> float:
    change = (made.dequantize() - weight).double()
    return float(torch.einsum("oi,ij,oj->", change, moments[0], change))


def compress(text: str, network: nn.Module, *batches: Any) -> Compressed:
    return parse(text)(original(network), Context(Given(network.eval(), *batches)))


# --- what layers are given ----------------------------------------------------------------------------

LAYERS = {
    "linear": (nn.Linear(5, 4), (3, 2, 5)),
    "transformers": (Conv1D(4, 5), (3, 2, 5)),
    "1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (2, 4, 9)),
    "2d": (nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1), groups=2), (2, 4, 7, 8)),
    "3d": (nn.Conv3d(2, 3, 2, padding=1), (1, 2, 3, 4, 3)),
    "same": (nn.Conv2d(2, 3, 4, padding="same"), (1, 2, 5, 5)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (1, 2, 5, 5)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3), (2, 3, 5, 5)),
    "one input": (nn.Conv2d(2, 3, 3), (2, 5, 5)),
    "up 1d": (nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, groups=2), (2, 4, 5)),
    "up 2d": (
        nn.ConvTranspose2d(4, 6, (3, 4), stride=(2, 1), padding=(1, 0), output_padding=(1, 0)),
        (2, 4, 3, 5),
    ),
    "up groups": (nn.ConvTranspose2d(6, 9, 3, stride=3, dilation=2, groups=3), (2, 6, 3, 2)),
    "up wide padding": (nn.ConvTranspose2d(2, 3, 3, stride=2, padding=2), (1, 2, 5, 5)),
    "up 3d": (nn.ConvTranspose3d(2, 3, 2, stride=2), (1, 2, 2, 3, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_patches_are_the_layers_output(name: str) -> None:
    layer, shape = LAYERS[name]
    (weight,) = weights_of(layer).values()
    x = normal(*shape)
    with torch.no_grad():
        found = patches(layer, x, 10**6)  # [groups, positions, n]
        rows = weight.layout().rows(layer.weight.detach()).unflatten(0, (len(found), -1))
        made = (rows @ found.mT).flatten(0, 1)  # [out, positions]
        wanted = layer(x)
        if len(shape) == wanted.ndim and name in ("linear", "transformers"):
            wanted = wanted.movedim(-1, 0).flatten(1)
        else:
            wanted = (wanted if name != "one input" else wanted[None]).movedim(1, 0).flatten(1)
        bias = layer.bias.detach()[:, None]
    assert torch.allclose(made + bias, wanted, atol=1e-5)


def test_a_layer_with_many_positions_is_measured_on_a_draw() -> None:
    layer, x = nn.Conv2d(2, 3, 3), normal(4, 2, 9, 9)
    every, some, others = patches(layer, x, 10**6), patches(layer, x, 50, 0), patches(layer, x, 50, 1)
    assert every.shape == (1, 196, 18) and some.shape == (1, 50, 18)
    assert torch.equal(some, patches(layer, x, 50, 0)) and not torch.equal(some, others)
    among = (some[0][:, None] == every[0][None]).all(2)
    assert among.any(1).all()


def test_moments_are_the_mean_product_of_inputs() -> None:
    layer = nn.Linear(3, 2)
    batches = [((normal(5, 3, seed=s),), {}) for s in range(2)]
    found = Calibration(layer, batches).moments({"weight": 3})["weight"][0]
    x = torch.cat([args[0] for args, _ in batches]).double()
    assert torch.allclose(found / found[0, 0], (x.T @ x) / (x.T @ x)[0, 0])
    assert found.diagonal().mean() == pytest.approx(1)


def test_layers_are_measured_behind_what_earlier_methods_made(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    x = normal(40, 3)
    seen: dict[str, Tensor] = {}

    def step(self: Any, stored: StoredTensor, weight: Weight, moments: Tensor) -> StoredTensor:
        seen[weight.name] = moments
        return self.quantize(stored, weight.axis)

    monkeypatch.setattr(CalibratedQuantizer, "step", step)
    compress("magnitude+gptq:bits=2", network, x)
    pruned = compress("magnitude", network, x).tensors["0.weight"].dequantize()
    behind = (x @ pruned.T).double()
    assert torch.allclose(seen["1.weight"], proportions((behind.T @ behind)[None]), rtol=1e-4)


@pytest.mark.parametrize("most", [1, 60, 10**6])
def test_little_memory_costs_passes_and_changes_nothing(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench.methods.calibration, "MOST_NUMBERS", most)
    groups = list(that_fit_into_memory({"a": 5, "b": 5, "c": 9}))
    assert [len(group) for group in groups] == {1: [1, 1, 1], 60: [2, 1], 10**6: [3]}[most]
    network = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 9), nn.Linear(9, 2))
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=i))
    made = compress("gptq:bits=3", network, normal(30, 5))
    monkeypatch.undo()
    for name, value in dense(compress("gptq:bits=3", network, normal(30, 5)).tensors).items():
        assert torch.equal(made.tensors[name].dequantize(), value)


# --- golden values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Gptq, AdaRound])
@pytest.mark.parametrize(
    "settings", [{"bits": 4}, {"bits": 2}, {"bits": 3, "group": 5}, {"granularity": "tensor"}]
)
def test_independent_inputs_of_one_size_give_round_to_nearest(kind: Any, settings: dict[str, Any]) -> None:
    stored, method = plain(normal(6, 12)), kind(**settings)
    made, nearest = method.step(stored, LINEAR, identity(12)), method.quantize(stored, 0)
    assert made.indices.dtype == nearest.indices.dtype and torch.equal(made.indices, nearest.indices)
    assert torch.equal(made.dequantize(), nearest.dequantize())


@pytest.mark.parametrize("kind", [Gptq, AdaRound])
@pytest.mark.parametrize("settings", [{"bits": 4}, {"bits": 2}, {"bits": 3, "group": 7}])
def test_the_output_error_falls(kind: Any, settings: dict[str, Any]) -> None:
    weight, moments, method = normal(16, 24), moments_of(24), kind(**settings)
    stored = plain(weight)
    made, nearest = method.step(stored, LINEAR, moments), method.quantize(stored, 0)
    assert output_error(made, weight, moments) < 0.9 * output_error(nearest, weight, moments)
    assert (made.dequantize() - weight).square().sum() > (nearest.dequantize() - weight).square().sum()


def test_error_feedback_by_hand() -> None:
    """Two inputs that agree: what rounding the first weight loses, the second one makes good."""
    moments = torch.tensor([[[1.0, 0.999], [0.999, 1.0]]], dtype=torch.float64)
    rows = torch.tensor([[[2.4, 2.4]]])
    task = Rounding(rows, rows > 0, torch.ones_like(rows), torch.arange(-7.0, 8.0))
    assert task.values(task.nearest(rows)).tolist() == [[[2.0, 2.0]]]
    assert task.values(Gptq().choose(task, moments)).tolist() == [[[2.0, 3.0]]]
    pruned = dataclasses.replace(task, mask=torch.tensor([[[False, True]]]))
    assert pruned.values(Gptq().choose(pruned, moments)).tolist() == [[[0.0, 5.0]]]


def test_adaround_moves_no_weight_further_than_one_step() -> None:
    weight = normal(16, 24)
    made = AdaRound(bits=3).step(plain(weight), LINEAR, moments_of(24))
    nearest = AdaRound(bits=3).quantize(plain(weight), 0)
    steps = (weight / nearest.scales[0].float()[:, None] + 3.5).clamp(0, 7)  # type: ignore[index]
    assert (made.indices - steps).abs().max() < 1 and (made.indices != nearest.indices).any()


def test_sparsegpt_without_correlation_is_magnitude() -> None:
    stored = plain(normal(6, 20))
    made = SparseGpt(sparsity=0.3).step(stored, LINEAR, identity(20))
    assert torch.equal(made.mask, Magnitude(0.3).masks({"": stored}, {"": LINEAR})[""])
    assert torch.equal(made.dequantize(), stored.dequantize() * made.mask)
    patterned = SparseGpt(pattern="2:4").step(plain(normal(6, 18)), LINEAR, identity(18))
    assert torch.equal(patterned.mask, Structured().masks({"": plain(normal(6, 18))}, {"": LINEAR})[""])
    assert patterned.pattern == (2, 4)


@pytest.mark.parametrize("settings", [{"sparsity": 0.5}, {"pattern": "2:4"}])
def test_sparsegpt_loses_less_output_than_its_mask_alone(settings: dict[str, Any]) -> None:
    weight, moments = normal(8, 150), moments_of(150)
    made = SparseGpt(**settings).step(plain(weight), LINEAR, moments)
    masked = plain(weight * made.mask)
    assert output_error(made, weight, moments) < 0.8 * output_error(masked, weight, moments)
    assert made.mask.float().mean() == pytest.approx(0.5, abs=0.01)
    assert not made.dequantize()[~made.mask].any()


def test_wanda_is_weight_times_norm_of_the_input_by_hand() -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0, 0.1], [4.0, 1.0, 1.0, 0.2]])
    moments = torch.diag(torch.tensor([1.0, 0.01, 0.04, 100.0])).double()[None]  # norms 1, .1, .2, 10
    # scores: 1, .2, .6, 1 and 4, .1, .2, 2
    made = Wanda().step(plain(weight), LINEAR, moments)
    assert made.mask.tolist() == [[True, False, False, True], [True, False, False, True]]
    assert torch.equal(made.dequantize(), weight * made.mask)
    one = Wanda(pattern="1:2").step(plain(weight), LINEAR, moments)
    assert one.mask.tolist() == [[True, False, False, True], [True, False, False, True]]
    assert one.pattern == (1, 2)


def test_nearly_all_of_a_short_row_leaves_its_best_weight() -> None:
    made = Wanda(sparsity=0.999).step(
        plain(torch.tensor([[1.0, 3.0, 2.0], [1.0, 1.0, 1.0]])), LINEAR, identity(3)
    )
    assert made.mask.tolist() == [[False, True, False], [False, False, True]]
    single = Wanda(sparsity=0.999).step(plain(torch.ones(3, 1)), LINEAR, identity(1))
    assert single.mask.all()


class Residual(nn.Module):
    """A block whose second layer can make good what the first one loses."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, *, scale: float) -> tuple[Tensor, None]:
        return x + scale * self.second(self.first(x).relu()), None


class Stack(nn.Module):
    """A list of two blocks behind a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(12, 12)
        self.blocks = nn.ModuleList([Residual(12), Residual(12)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        for block in self.blocks:
            x, _ = block(x, scale=0.5)
        return x


def test_blocks_are_the_innermost_entries_of_lists_with_two_weights() -> None:
    stack = Stack()
    assert list(blocks_of(stack, weights_of(stack))) == ["blocks.0", "blocks.1"]
    nested = nn.ModuleList([nn.ModuleList([Residual(3), nn.Linear(3, 3)])])
    assert list(blocks_of(nested, weights_of(nested))) == ["0.0"]
    assert blocks_of(nn.Sequential(nn.Linear(2, 2)), {}) == {}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("brecq:bits=2", marks=pytest.mark.slow),
        "brecq:bits=3,group=5",
        "magnitude+brecq:bits=2",
    ],
)
def test_brecq_spares_the_output_of_blocks(text: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stack = Stack()
    inputs = [normal(40, 12, seed=s) for s in range(3)]
    both = {name: compress(text.replace("brecq", name), stack, *inputs) for name in ("brecq", "adaround")}
    before = compress(text.partition("+")[0] if "+" in text else "none", stack, *inputs)
    network = copy.deepcopy(stack)
    network.load_state_dict({name: stored.dequantize() for name, stored in before.tensors.items()})
    calibration = Calibration(network.eval(), [((x,), {}) for x in inputs])
    for path, block in blocks_of(network, weights_of(network)).items():
        calls = calls_of(block, calibration)
        assert len(calls) == 3 and isinstance(calls[0], Call) and calls[0].kwargs == {"scale": 0.5}
        errors = {}
        for name, made in both.items():
            own = {n: t.dequantize() for n, t in made.tensors.items() if n.startswith(path)}
            values = {n.removeprefix(f"{path}."): value for n, value in own.items()}
            with torch.no_grad():
                errors[name] = sum(float(call.error(block, values)) for call in calls)
        assert errors["brecq"] < errors["adaround"]
    outside = "before.weight"
    assert torch.equal(both["brecq"].tensors[outside].indices, both["adaround"].tensors[outside].indices)
    again = compress(text, stack, *inputs)
    for name, stored in both["brecq"].tensors.items():
        assert torch.equal(again.tensors[name].dequantize(), stored.dequantize())


class InPlace(nn.Module):
    """A block that changes its input, and gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        made = self.second(self.first(x))
        x.relu_()
        x += made
        return x


@pytest.mark.parametrize("name", ["wanda", "sparsegpt"])
def test_calibrated_pruning_leaves_float16_as_float16(name: str) -> None:
    network, x = nn.Linear(8, 4), normal(50, 8)
    made = compress(f"fp16+{name}", network, x).tensors["weight"]
    assert made.values is not None and made.values.dtype == torch.float16
    assert made.mask is not None and 0.4 < float(made.mask.float().mean()) < 0.6
    full = compress(name, network, x).tensors["weight"].dequantize()
    assert torch.allclose(made.dequantize(), full, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("text", ["brecq:bits=3", "ldlq:bits=2,mixed", "gptq:bits=3"])
def test_networks_in_bfloat16_calibrate(text: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Stack().to(torch.bfloat16)
    made = compress(text, network, normal(40, 12).to(torch.bfloat16))
    assert all(made.tensors[name].quantized for name in weights_of(network))
    values = made.tensors["blocks.0.first.weight"].dequantize()
    off = values - network.get_parameter("blocks.0.first.weight").detach().float()
    assert off.norm() < 0.6 * values.norm()


class Shared(nn.Module):
    """A parameter of a type that no method covers, which a linear layer shares."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.ParameterDict({"weight": nn.Parameter(normal(6, 6))})
        self.layer = nn.Linear(6, 6)
        self.layer.weight = self.table["weight"]


def test_a_layer_is_found_where_another_module_owns_its_weight_first() -> None:
    found = weights_of(Shared())
    assert list(found) == ["table.weight"]
    assert found["table.weight"].paths == ("table", "layer")


def test_brecq_keeps_inputs_and_outputs_that_are_changed_in_place() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(InPlace(), nn.ReLU(inplace=True))
    block, x = network[0], normal(7, 5)
    output = block(x.clone()).detach()
    (call,) = calls_of(block, Calibration(network, [((x.clone(),), {})]))
    assert torch.equal(call.args[0], x) and torch.equal(call.output, output)
    for _ in range(2):  # an error leaves the inputs as they were
        assert float(call.error(block, dict(block.named_parameters())).detach()) == 0


def test_without_blocks_brecq_is_adaround() -> None:
    network, x = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)), normal(50, 6)
    found = [compress(text, network, x) for text in ("brecq:bits=3", "adaround:bits=3")]
    for name, stored in found[0].tensors.items():
        assert torch.equal(stored.dequantize(), found[1].tensors[name].dequantize())


# --- all layers, chains, files ------------------------------------------------------------------------

METHODS = (
    "gptq:bits=3",
    "gptq:bits=4,group=7",
    "ldlq:bits=3,states=8",
    "ldlq:states=8,mixed",
    "adaround:bits=4",
    "brecq:bits=4",
    "wanda",
    "sparsegpt",
    "sparsegpt:pattern=2:4",
)


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AdaRound, "STEPS", 100)
    monkeypatch.setattr(Brecq, "BLOCK_STEPS", 300)


@pytest.mark.parametrize("text", METHODS)
def test_the_file_gives_every_layer_back(text: str) -> None:
    made = apply(text, Small())
    tensors = decode(encode(made, text))[2]
    for name, value in dense(made.tensors).items():
        assert torch.equal(tensors[name].dequantize(), value), name
    assert made.touched >= weights_of(made.network).keys()


@pytest.mark.parametrize(
    "text", ["sparsegpt+gptq:bits=4", "wanda+int4+recalibrate", "wanda:pattern=2:4+adaround:bits=4"]
)
def test_pruned_weights_stay_zero_in_a_chain(text: str) -> None:
    made = apply(text, Small())
    first = apply(text.split("+")[0], Small())
    for name in weights_of(made.network):
        mask = first.tensors[name].mask
        assert made.tensors[name].quantized and torch.equal(made.tensors[name].mask, mask)
        assert mask.float().mean() < 0.6 and not made.tensors[name].dequantize()[~mask].any()


@pytest.mark.parametrize("text", ["gptq:bits=8", "adaround:bits=8", "sparsegpt:sparsity=0.01"])
def test_low_rank_factors_are_counted_once(text: str) -> None:
    """What a calibrated method sees of a weight is the residual, or the weight without factors."""
    made, whole = apply(f"lowrank:rank=1+{text}", Small()), dense(apply("none", Small()).tensors)
    for name in weights_of(made.network):
        error = (made.tensors[name].dequantize() - whole[name]).norm() / whole[name].norm()
        assert error < 0.1, name


def test_a_tied_embedding_is_looked_up_so_it_is_rounded_to_nearest() -> None:
    made, nearest = apply("gptq:bits=3", Small()), apply("int3", Small())
    name = "embed.weight"
    assert torch.equal(made.tensors[name].dequantize(), nearest.tensors[name].dequantize())
    assert list(made.uncalibrated) == [name] and "looked up" in made.uncalibrated[name]
    assert not torch.equal(
        made.tensors["down.weight"].dequantize(), nearest.tensors["down.weight"].dequantize()
    )


def test_other_layers_are_measured_behind_a_rounded_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 3)), {}

    def step(self: Any, stored: StoredTensor, weight: Weight, moments: Tensor) -> StoredTensor:
        seen[weight.name] = moments
        return self.quantize(stored, weight.axis)

    monkeypatch.setattr(CalibratedQuantizer, "step", step)
    made = compress("gptq:bits=2", network, torch.arange(6))
    read = made.tensors["0.weight"].dequantize().double()
    assert torch.allclose(seen["1.weight"], proportions((read.T @ read)[None]), rtol=1e-4)


def test_layers_whose_inputs_are_unknown_are_named() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrent, self.unused, self.head = nn.GRU(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.bilinear = nn.Bilinear(4, 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.recurrent(x)[0])

    network, x = Odd(), normal(5, 3, 4)
    made, nearest = compress("gptq:bits=3", network, x), compress("int3", network, x)
    assert made.uncalibrated == {
        "recurrent.weight_ih_l0": "the inputs of layers of type GRU are not known row by row",
        "recurrent.weight_hh_l0": "the inputs of layers of type GRU are not known row by row",
        "unused.weight": "the calibration never calls its layer, or its inputs are not finite",
    }
    assert (
        made.untouched == nearest.untouched == {"bilinear.weight": "layers of type Bilinear are not covered"}
    )
    for name in made.uncalibrated:
        assert torch.equal(made.tensors[name].dequantize(), nearest.tensors[name].dequantize())


def test_inputs_that_are_zero_or_not_finite_do_no_harm() -> None:
    for x in (torch.zeros(3, 4), torch.full((3, 4), torch.inf)):
        for text in ("gptq:bits=3", "ldlq:bits=3", "sparsegpt", "wanda", "adaround:bits=2"):
            made = compress(text, nn.Sequential(nn.Linear(4, 4)), x)
            assert made.tensors["0.weight"].dequantize().isfinite().all()


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gptq:bits=1", "bits=1 of 'gptq' is outside of 2 to 8"),
        ("brecq:bits=1", "bits=1 of 'brecq' is outside of 2 to 8"),
        ("adaround:bits=9", "bits=9 of 'adaround' is outside of 2 to 8"),
        ("gptq:bits=3.5", "bits='3.5' of 'gptq' is not a valid int"),
        ("gptq:group=-1", "group=-1 does not go with"),
        ("wanda:sparsity=0", r"sparsity=0 of 'wanda' is outside of \(0, 1\)"),
        ("sparsegpt:sparsity=1", r"sparsity=1 of 'sparsegpt' is outside of \(0, 1\)"),
        ("wanda:pattern=4:2", "pattern='4:2' of 'wanda' is no pattern"),
        ("sparsegpt:sparsity=0.7,pattern=2:4", "takes a sparsity or a pattern"),
        ("int4+sparsegpt", "'sparsegpt' has to come before a quantizer"),
        ("int4+gptq", "quantizes twice"),
    ],
)
def test_bad_settings_are_one_line(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_model_without_calibration_is_unsupported() -> None:
    class Without(Given):
        def calibration(self, seed: int) -> Any:
            raise LookupError("Without has no calibration batches")

    network = nn.Sequential(nn.Linear(4, 4))
    for context in (Context(), Context(Without(network)), Context(Given(network))):
        with pytest.raises(Unsupported, match="calibration inputs"):
            parse("gptq:bits=4")(original(network), context)


# --- the generators' own inputs -----------------------------------------------------------------------


def opened(domain: str) -> Generator:
    known = open_domain(domain)
    return known.open(known.locate("xs@0"))


def numbers(batches: Iterable[tuple[tuple[Any, ...], dict[str, Any]]]) -> list[list[Tensor]]:
    """The tensors of each batch."""
    return [[v for v in (*args, *kwargs.values()) if isinstance(v, Tensor)] for args, kwargs in batches]


def test_a_text_model_is_calibrated_on_texts_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains.language.generator, "CALIBRATION_TEXTS", 6)
    monkeypatch.setattr(domains.language.generator, "CALIBRATION_BATCH", 3)
    generator = opened("text")
    first, again, other = (numbers(generator.calibration(seed)) for seed in (0, 0, 1))
    assert len(first) == 2 and all(torch.equal(a, b) for (a,), (b,) in zip(first, again, strict=True))
    assert any(a.shape != b.shape or not torch.equal(a, b) for (a,), (b,) in zip(first, other, strict=True))
    samples = {tuple(row) for row in generator.write(generator.network, 6, 0)}  # type: ignore[attr-defined]
    for (tokens,) in first:
        assert tokens[:, 0].eq(generator.start).all()  # type: ignore[attr-defined]
        assert not any(
            tuple(row[1:]) == sample[: len(row) - 1] for row in tokens.tolist() for sample in samples
        )


def test_a_diffusion_model_is_calibrated_along_its_own_paths() -> None:
    generator: Any = opened("image_diffusion")
    generator.batch = 2
    first, again, other = (numbers(generator.calibration(seed)) for seed in (0, 0, 1))
    assert len(first) == generator.network_calls
    for (x, time), (y, same) in zip(first, again, strict=True):
        assert x.shape == (2, 4, 14, 14) and torch.equal(x, y) and torch.equal(time, same)
    assert len({time.item() for _, time in first}) > 5 and not torch.equal(first[0][0], other[0][0])
    paths: list[Tensor] = []
    handle = generator.network.register_forward_pre_hook(lambda _, args: paths.append(args[0]))
    generator.sample(generator.network, 2, 0)
    handle.remove()
    assert not torch.equal(paths[0], first[0][0]), "samples have noise of their own"
    assert not generator.network._forward_pre_hooks
