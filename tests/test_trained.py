"""Training-time methods: what they store, how they stop and go on, and what they leave alone."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_network import bits, normal
from torch import Tensor
from toy_domain import ToyGenerator  # type: ignore[import-not-found]
from toy_training import ToyTraining, TrainableToy
from trained_networks import (
    Killed,
    SmallGenerator,
    SmallNetwork,
    apply,
    dying,
    parametrized,
    read_back,
    same,
)

from bench.artifact.format import encode, fill, tensors_digest
from bench.contracts.network import STEPS, SmallTraining
from bench.errors import BadInput, Diverged, Unsupported
from bench.interfaces import (
    Context,
    Layout,
    StoredTensor,
    Training,
)
from bench.layers import weights_of
from bench.methods.fake_quantize import FakeQuantize, StraightThrough
from bench.methods.notation import parse
from bench.methods.plain import original, plain
from bench.methods.trained import GRIDS, MEAN_SCALES, OUTCOME, RESULT, Attempt, TrainingTimeMethod, quantizer
from bench.records.cell import cells
from bench.records.schema import Record
from bench.registry import DOMAINS
from bench.runner.evaluation import Evaluation
from bench.runner.run_cell import run_cell
from bench.runner.session import ModelSession
from bench.training import train as running
from bench.util.cache import Cache
from bench.util.files import cache_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of this test alone."""
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# --- values and gradients ----------------------------------------------------------------------------

FEW = ("int4", *MEAN_SCALES)
WAYS = [*((grid, "learned") for grid in GRIDS), *((grid, "mean") for grid in MEAN_SCALES)]


@pytest.mark.parametrize(
    ("grid", "scales", "before"),
    [
        *((*way, before) for way in WAYS for before in ("", "2:4+") if not before or way[0] in FEW),
        ("int4", "learned", "lowrank:rank=1+"),
    ],
)
def test_the_file_gives_back_what_the_trained_network_computes_with(
    grid: str, scales: str, before: str
) -> None:
    generator = SmallGenerator()
    made = apply(f"{before}qat:grid={grid},scales={scales}", generator)
    trained, tensors = generator.started[0].finished(), read_back(made)
    values = parametrized(trained)
    assert {
        "head.weight",
        *(name for name in weights_of(generator.network) if name != "empty.weight"),
    } == set(values)
    tensors["head.weight"] = tensors["embed.weight"]
    for name, value in values.items():
        assert value.isfinite().all() and bits(value) == bits(tensors[name]), name
    for name, stored in apply(before.removesuffix("+") or "none", generator).tensors.items():
        assert stored.mask is None or not tensors[name][~stored.mask].any(), name
    rebuilt = generator.rebuild(())
    fill(rebuilt, made.tensors)
    with torch.no_grad():
        # the rest is stored as float16, so the outputs are close and not equal
        outputs = [network(torch.arange(11)) for network in (rebuilt, trained)]
    assert torch.allclose(*outputs, atol=0.05)


@pytest.mark.parametrize(
    ("grid", "before"),
    [*((grid, "") for grid in GRIDS), *((grid, "magnitude+") for grid in ("int4", *MEAN_SCALES))],
)
def test_a_learned_grid_starts_as_the_quantizer_of_its_name(grid: str, before: str) -> None:
    generator = SmallGenerator()
    compressed = apply(before.removesuffix("+") or "none", generator)
    quantized = apply(f"{before}{grid}", generator)
    for name in weights_of(generator.network):
        if name in ("empty.weight", "zero.weight"):
            continue
        start = quantized.tensors[name]
        module = FakeQuantize(start, learned=True)
        values = module(compressed.tensors[name].dequantize()).detach()
        rows, expected = (start.layout.rows(x) for x in (values, start.dequantize()))
        kept = start.layout.rows(compressed.tensors[name].dequantize()).abs().sum(1) > 0
        assert torch.equal(rows[kept], expected[kept]), name
        assert not rows[~kept].numel() or rows[~kept].abs().max() < 0.002, "far smaller than the others"


@pytest.mark.parametrize("text", ["qat:grid=int4", "qat:grid=ternary", "qat:grid=binary,scales=learned"])
def test_gradients_reach_each_latent_weight_and_each_learned_scale(text: str) -> None:
    generator = SmallGenerator()
    apply(f"{text},budget=0.01", generator)
    network = generator.started[0].networks["generator"]
    generator.started[0].step()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    assert without == {"empty.weight", "empty.bias", "nothing", "scalar"}
    # weights at the edge of their grid can lie outside of it, where LSQ trains the scale alone
    still = {name for name, p in network.named_parameters() if name not in without and not p.grad.any()}  # type: ignore[union-attr]
    assert {name.partition(".")[0] for name in still} <= {"constant", "one"}


@pytest.mark.parametrize("learned", [False, True])
def test_annealed_values_move_from_the_latent_weights_to_the_grid(learned: bool) -> None:
    latent = normal(4, 6)
    made = FakeQuantize(quantizer("ternary").quantize(plain(latent), 0), learned, anneal=0.5)
    on_grid = FakeQuantize(quantizer("ternary").quantize(plain(latent), 0), learned)(latent)
    for share, expected in ((0.0, latent), (0.25, (latent + on_grid) / 2), (0.5, on_grid), (1.0, on_grid)):
        made.advance(latent, share)
        assert torch.allclose(made(latent), expected)
    assert torch.equal(made(latent), made.stored(latent).dequantize())


@pytest.mark.parametrize(
    ("grid", "scales"), [("int4", "learned"), ("binary", "learned"), ("ternary", "mean")]
)
def test_a_tensor_of_zeros_can_leave_zero(grid: str, scales: str) -> None:
    """Untrained networks have such layers."""
    made = apply(f"qat:grid={grid},scales={scales},budget=1", SmallGenerator())
    assert read_back(made)["zero.weight"].any()


def test_a_recurrent_layer_and_both_users_of_a_tied_weight_compute_with_the_quantized_weights() -> None:
    generator = SmallGenerator()
    made = apply("qat:grid=binary", generator)
    network = generator.started[0].networks["generator"].eval()
    by_hand = SmallNetwork().eval()
    by_hand.load_state_dict(
        {name: network.get_parameter(name) for name in ("scalar", "nothing")}
        | {name: buffer for name, buffer in network.named_buffers() if "parametrizations" not in name},
        strict=False,
    )
    with torch.no_grad():
        for name, parameter in by_hand.named_parameters():
            path, _, own = name.rpartition(".")
            parameter.copy_(getattr(network.get_submodule(path), own))
        assert torch.allclose(by_hand(torch.arange(11)), network(torch.arange(11)), atol=1e-6)
    assert by_hand.recurrent.weight_hh_l0[0].abs().unique().numel() == 1
    assert by_hand.head.weight is by_hand.embed.weight
    assert made.tensors["embed.weight"].quantized and "head.weight" not in made.tensors


def stored_as(rows: Tensor, scale: float, levels: tuple[float, ...]) -> StoredTensor:
    return StoredTensor(
        tuple(rows.shape),
        indices=torch.zeros(rows.shape, dtype=torch.uint8),
        codebook=(levels,),
        scales=torch.full((1, len(rows)), scale).half(),
        layout=Layout("channel", 0),
    )


def test_gradients_are_those_of_lsq() -> None:
    """Inside of the range: level - w / s; outside: the outermost level, and no gradient for the weight."""
    rows = torch.tensor([[0.3, -0.9, 1.7, -5.0]], requires_grad=True)
    scales, levels = torch.tensor([0.5], requires_grad=True), torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    gradient = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    values = StraightThrough.apply(rows, scales, levels)
    assert values.tolist() == [[0.5, -1.0, 1.0, -1.0]]
    values.backward(gradient)
    assert rows.grad is not None and scales.grad is not None
    assert rows.grad.tolist() == [[1.0, 2.0, 0.0, 0.0]]
    assert scales.grad.item() == pytest.approx(1 * (1 - 0.6) + 2 * (-2 + 1.8) + 3 * 2 + 4 * -2)

    module = FakeQuantize(stored_as(rows, 0.5, tuple(levels.tolist())), learned=True)
    module(rows).backward(gradient)
    # d scale / d log scale = scale
    assert module.log_scales.grad.item() == pytest.approx(0.5 * scales.grad.item())


def test_with_mean_scales_the_gradient_passes_to_kept_weights_up_to_one_and_a_half_scales() -> None:
    rows = torch.tensor([[0.3, -0.9, 1.7, -5.0]], requires_grad=True)
    start = stored_as(rows, 0.5, (-1.0, 0.0, 1.0))
    gradient = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    values = FakeQuantize(start, learned=False)(rows)
    assert values[0].tolist() == pytest.approx([0.0, 0.0, 1.975, -1.975], abs=1e-3)
    values.backward(gradient)
    within = torch.tensor([[True, True, True, False]])  # 5.0 is more than 1.5 times 1.975
    assert rows.grad is not None and torch.equal(rows.grad, gradient * within)
    rows.grad = None
    mask = torch.tensor([[True, False, True, True]])
    FakeQuantize(StoredTensor(**{**vars(start), "mask": mask}), learned=False)(rows).backward(gradient)
    assert torch.equal(rows.grad, gradient * (mask & within))


# --- stopping, resuming and reusing ------------------------------------------------------------------

TEXTS = (
    "qat:grid=ternary,scales=learned",
    "qat:grid=binary,anneal=0.5",
    "prune_train:sparsity=0.9",
    "magnitude:sparsity=0.5+finetune",
    "prune_train:pattern=2:4",
)


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after each step."""
    monkeypatch.setattr(running, "CHECKPOINT_EVERY_S", -1.0)


@pytest.mark.parametrize(("text", "at"), [(TEXTS[0], 4), *((text, 9) for text in TEXTS)])
def test_a_resumed_training_ends_with_the_same_tensors(
    text: str, at: int, checkpoints: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text += ",budget=1" if ":" in text.rpartition("+")[2] else ":budget=1"
    whole = apply(text, SmallGenerator())
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "another"))
    done = dying(monkeypatch, SmallTraining, at)
    with pytest.raises(Killed):
        apply(text, SmallGenerator())
    resumed = apply(text, SmallGenerator())
    assert done == [*range(at), at, *range(at, STEPS)]
    assert same(whole, resumed)


def test_a_stopped_training_loses_at_most_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes 25 seconds here, so that every third one writes a checkpoint."""
    seconds = itertools.count(step=25.0)
    monkeypatch.setattr(
        running, "time", SimpleNamespace(monotonic=lambda: next(seconds), process_time=process_time)
    )
    done = dying(monkeypatch, SmallTraining, 8)
    with pytest.raises(Killed):
        apply("qat:grid=ternary,budget=1", SmallGenerator())
    apply("qat:grid=ternary,budget=1", SmallGenerator())
    lost = 8 - done[done.index(8) + 1]
    assert done[:9] == [*range(9)] and 25 * lost <= 60


def test_a_finished_training_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done = dying(monkeypatch, SmallTraining, -1)
    first = apply("qat:grid=ternary", SmallGenerator())
    assert len(done) == STEPS // 4
    again = apply("qat:grid=ternary", SmallGenerator())
    assert len(done) == STEPS // 4 and same(first, again)
    assert first.trainings == again.trainings and first.trainings[0]["steps"] == STEPS // 4
    apply("qat:grid=ternary,seed=1", SmallGenerator())
    assert len(done) == 2 * (STEPS // 4)


def test_a_chain_that_is_killed_in_its_second_training_keeps_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "prune_train:sparsity=0.5,budget=0.5+qat:grid=ternary,budget=1"
    done = dying(monkeypatch, SmallTraining, STEPS // 2)
    with pytest.raises(Killed):
        apply(text, SmallGenerator())
    del done[:-1]
    made = apply(text, SmallGenerator())
    assert done[1:] == list(range(STEPS)), "the first training is finished, the second had no checkpoint"
    assert [one["steps"] for one in made.trainings] == [STEPS // 2, STEPS]


@pytest.mark.parametrize("name", ["outcome.json", "result.genc"])
@pytest.mark.parametrize("keep", [0, 0.5, 0.99])
def test_a_damaged_result_is_trained_again(
    name: str, keep: float, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = apply("qat:grid=ternary", SmallGenerator())
    path = next(cache.rglob(name))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    done = dying(monkeypatch, SmallTraining, -1)
    assert same(first, apply("qat:grid=ternary", SmallGenerator())) and len(done) == STEPS // 4
    assert same(first, apply("qat:grid=ternary", SmallGenerator())) and len(done) == STEPS // 4


def test_a_result_without_its_outcome_is_not_believed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written first, so a kill between both leaves it alone."""
    first = apply("qat:grid=ternary", SmallGenerator())
    next(cache.rglob("outcome.json")).unlink()
    done = dying(monkeypatch, SmallTraining, -1)
    assert same(first, apply("qat:grid=ternary", SmallGenerator())) and len(done) == STEPS // 4


def test_a_loss_that_is_not_finite_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    step, done = SmallTraining.step, []

    def diverge(training: SmallTraining) -> dict[str, float]:
        done.append(training.step_number)
        return {"loss": math.nan} if training.step_number == 1 and step(training) else step(training)

    monkeypatch.setattr(SmallTraining, "step", diverge)
    for _ in range(2):
        with pytest.raises(Diverged, match="loss is nan at step 2 of 3"):
            apply("qat:grid=ternary", SmallGenerator())
    assert done == [0, 1]


@pytest.mark.parametrize("where", ["original", "log_scales"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_after_the_last_step_is_a_result(
    where: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = SmallTraining.step

    def diverge(training: SmallTraining) -> dict[str, float]:
        losses = step(training)
        if training.step_number == training.total_steps:
            for name, parameter in training.networks["generator"].named_parameters():
                if name.startswith("expand") and name.endswith(where):
                    parameter.data.fill_(value)
        return losses

    monkeypatch.setattr(SmallTraining, "step", diverge)
    with pytest.raises(Diverged, match=r"tensor 'expand\.weight' holds NaN or infinity after step 3 of 3"):
        apply("qat:grid=ternary,scales=learned", SmallGenerator())


# --- what follows from what --------------------------------------------------------------------------


def test_the_seed_names_the_trained_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, generators = [], [SmallGenerator() for _ in range(5)]
    for number, text in enumerate(("", "", ",seed=1", ",start=scratch", ",seed=1,start=scratch")):
        monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / str(number)))
        state = torch.random.get_rng_state()
        made.append(encode(apply(f"qat:grid=ternary{text}", generators[number]), ""))
        assert torch.equal(state, torch.random.get_rng_state())
    assert made[0] == made[1] and len(set(made)) == 4


@pytest.mark.parametrize("text", [*TEXTS, "finetune:start=scratch", "qat:teacher", "finetune"])
def test_neither_the_input_nor_the_original_network_changes(text: str) -> None:
    generator = SmallGenerator()
    before = parse("random:sparsity=0.3")(original(generator.network), Context(generator))
    digest, file = tensors_digest(generator.network), encode(before, "")
    parse(text)(before, Context(generator))
    assert tensors_digest(generator.network) == digest and encode(before, "") == file
    assert not any(hasattr(layer, "parametrizations") for layer in generator.network.modules())
    assert all(parameter.requires_grad for parameter in generator.network.parameters())


@pytest.mark.parametrize("text", ["qat:grid=int4", "prune_train", "finetune"])
def test_excluded_tensors_and_kept_patterns(text: str) -> None:
    excluded = {"up.weight": "it is small", "norm.running_mean": "it is", "head.bias": "it is a bias"}
    generator = SmallGenerator()
    separator = "," if ":" in text else ":"
    made = apply(f"{text}{separator}keep=recurrent*|expand*", generator, excluded)
    free = apply(text, SmallGenerator())
    ours = generator.network.state_dict()
    for name in excluded:
        assert bits(made.tensors[name].dequantize()) == bits(ours[name]), name
        assert name not in made.touched
        assert bits(free.tensors[name].dequantize()) != bits(ours[name]), name
    scratch = SmallGenerator()
    apply(f"{text}{separator}start=scratch", scratch, excluded)
    computed = scratch.started[0].networks["generator"].state_dict()
    assert bits(computed["up.weight"]) == bits(ours["up.weight"]), "it trains with what the file holds"
    for name in ("recurrent.weight_ih_l0", "expand.weight"):
        assert not made.tensors[name].quantized and made.tensors[name].mask is None, name
        assert bits(made.tensors[name].dequantize()) != bits(ours[name]), "it is trained"
    assert made.untouched["up.weight"] == "it is small"
    assert "keep=" in made.untouched["expand.weight"]


@pytest.mark.parametrize(
    "text", ["finetune:keep=embed*", "qat:keep=embed*", "prune_train:sparsity=0.8,keep=embed*"]
)
def test_zeros_stay_zeros_where_a_pattern_keeps_a_tensor(text: str) -> None:
    made = apply(f"magnitude:sparsity=0.5+{text}", SmallGenerator())
    stored = made.tensors["embed.weight"]
    assert stored.mask is not None and not stored.quantized
    assert (stored.dequantize() == 0).double().mean() == 0.5


@pytest.mark.parametrize("budget", [0.01, 0.25, 1])
@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("prune_train:sparsity=0.9", 0.9),
        ("prune_train:pattern=2:4", 0.5),
        ("magnitude:sparsity=0.5+prune_train:sparsity=0.8", 0.8),
        ("magnitude:sparsity=0.5+prune_train:sparsity=0.2", 0.5),
        ("prune_train:sparsity=0.5", 0.5),
    ],
)
def test_the_sparsity_is_the_asked_one(text: str, share: float, budget: float) -> None:
    """Also after few steps, and with an optimizer whose momentum moves weights that are masked."""
    made = apply(f"{text},budget={budget}", SmallGenerator())
    for name in weights_of(made.network):
        mask = made.tensors[name].mask
        if name in ("empty.weight", "one.weight") or mask is None:
            continue
        if "pattern" in text:
            groups = Layout("group", weights_of(made.network)[name].axis, 4).rows(mask)
            assert (groups.sum(1) <= 2).all() and mask.double().mean() >= 0.4, name
        else:
            assert (~mask).sum().item() == round(share * mask.numel()), name
        assert not made.tensors[name].dequantize()[~mask].any()


def test_sparsity_rises_along_the_ramp_and_weights_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    step, masks = SmallTraining.step, []

    def watched(training: SmallTraining) -> dict[str, float]:
        masks.append(mask_of(training))
        return step(training)

    def mask_of(training: SmallTraining) -> Tensor:
        layer: Any = training.networks["generator"].recurrent
        return layer.parametrizations.weight_hh_l0[0].mask.clone()

    monkeypatch.setattr(SmallTraining, "step", watched)
    apply("prune_train:sparsity=0.75,budget=5", SmallGenerator())
    kept = [mask.sum().item() for mask in masks]
    assert kept == sorted(kept, reverse=True) and 40 < kept[0] < 48 and kept[-1] == 12
    ramp = round(0.6 * len(kept))
    assert all(torch.equal(masks[ramp], mask) for mask in masks[ramp:])
    middle = 1 - kept[ramp // 2] / 48
    assert middle == pytest.approx(0.75 * (1 - 0.5**3), abs=0.03)


# --- through the whole pipeline ----------------------------------------------------------------------


class ToyEvaluation:
    """The toy with a recipe, opened once; each cell has the cache of its test."""

    def __init__(self) -> None:
        domain = DOMAINS.load("toy")()
        self.generator = TrainableToy(domain.models["s@0"])
        domain.open = lambda spec, device="cpu", settings=None: self.generator
        self.domain = domain
        self.evaluation = Evaluation(ModelSession(domain, domain.models["s@0"], 100, cache=Cache(use=False)))

    def record(self, text: str, seed: int = 0) -> Record:
        text = parse(text).text
        versions = {method: parse(method).versions for method in ("none", text)}
        return run_cell(cells(self.evaluation.template, (text,), (seed,), versions)[-1], self.evaluation)


@pytest.fixture(scope="module")
def toy() -> Iterator[ToyEvaluation]:
    yield ToyEvaluation()


WITH_TORCHAO = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is an extra")
CELLS = (
    "qat:grid=int4,ends=int8",
    "qat:grid=ternary",
    "qat:grid=binary",
    "qat:grid=binary,scales=learned",
    pytest.param(
        "parq:grid=binary", marks=pytest.mark.skipif(find_spec("torchao") is None, reason="an extra")
    ),
    "prune_train:sparsity=0.9",
    "prune_train:pattern=2:4",
    "prune_train:sparsity=0.5+qat:grid=int4",
    "magnitude:sparsity=0.5+finetune",
    "finetune",
    "finetune+int4",
    "qat:grid=int4,teacher",
    "finetune:start=scratch,budget=0.5,teacher",
)


@pytest.mark.parametrize("text", CELLS)
def test_every_method_gives_a_whole_record(text: str, toy: ToyEvaluation) -> None:
    digest = tensors_digest(toy.generator.network)
    record = toy.record(text)
    assert record.status in ("ok", "collapsed") and record.cost is not None
    assert [one.method for one in record.trainings] == [
        link.text for link in parse(text).links if type(link).trains
    ]
    for one in record.trainings:
        assert one.steps in (50, 100) and one.log[-1]["step"] == one.steps
        assert one.log[-1]["validation_loss"] > 0 and one.log[-1]["loss"] > 0
        assert ("teacher" in one.log[-1]) == ("teacher" in text)
    assert tensors_digest(toy.generator.network) == digest
    assert Record.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("grid", GRIDS)
def test_the_file_has_the_size_of_the_grid(grid: str, toy: ToyEvaluation) -> None:
    """Latent weights are not in it. Entropy coding may differ a little, since the weights do."""
    ours, theirs = (
        len(encode(apply(text, toy.generator), "")) for text in (f"qat:grid={grid},budget=0.02", grid)
    )
    assert ours == pytest.approx(theirs, rel=0.05, abs=80)


def test_training_helps_where_rounding_destroys(toy: ToyEvaluation) -> None:
    distances = []
    for text in ("none", "binary", "qat:grid=binary,budget=0.5"):
        network = toy.generator.rebuild()
        fill(network, apply(text, toy.generator).tensors)
        distances.append(ToyTraining(network, 0, None, None).validate()["loss"])
    print(distances)
    assert distances[2] < 0.5 * distances[1]


def test_sampling_seeds_share_a_training(toy: ToyEvaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    done = dying(monkeypatch, ToyTraining, -1)
    records = [toy.record("qat:grid=int4", seed) for seed in (0, 1)]
    assert len(done) == 50
    assert records[0].tensors_sha256 == records[1].tensors_sha256
    assert records[0].trainings == records[1].trainings
    assert records[0].metrics != records[1].metrics


def test_twins_share_their_noise(toy: ToyEvaluation) -> None:
    network = toy.generator.rebuild()
    fill(network, apply("qat:grid=int8,budget=0.02,rate=0.01", toy.generator).tensors)
    session = toy.evaluation.session
    twins, others = (session.sample(network, seed).samples for seed in (0, 1))
    before = session.sample(toy.generator.network, 0).samples
    assert np.abs(before - twins).max() < 0.1 < np.abs(before - others).mean()


def test_divergence_is_a_status_with_the_step(toy: ToyEvaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []

    def diverge(training: ToyTraining) -> dict[str, float]:
        training.step_number += 1
        done.append(training.step_number)
        return {"loss": math.nan if training.step_number == 7 else 1.0}

    monkeypatch.setattr(ToyTraining, "step", diverge)
    monkeypatch.setattr(ToyTraining, "validate", lambda training: {"loss": math.nan})
    for _ in range(2):
        record = toy.record("qat:grid=binary")
        assert record.status == "diverged"
        assert record.reason == "training diverged: loss is nan at step 7 of 50"
        assert record == Record.model_validate_json(record.model_dump_json())
        (training,) = record.trainings
        assert training.steps == 7
        assert [line["step"] for line in training.log] == [5], "what was logged before"
        assert "validation_loss" not in training.log[0], "JSON has no NaN"
    assert done == list(range(1, 8))
    for path in (cache_folder() / "trained").rglob(OUTCOME):  # of an earlier version
        outcome = json.loads(path.read_text(encoding="utf-8"))
        del outcome["log"], outcome["core_seconds"]
        path.write_text(json.dumps(outcome), encoding="utf-8")
    (training,) = toy.record("qat:grid=binary").trainings
    assert training.log == [] and done == list(range(1, 8))


def test_a_domain_without_a_recipe_says_so() -> None:
    toy = object.__new__(ToyGenerator)
    toy.device = "cpu"
    toy.network = toy.rebuild()
    for text in ("qat", "prune_train", "finetune:start=scratch"):
        name = parse(text).links[0].name
        with pytest.raises(Unsupported, match=f"'{name}' needs a training recipe: ToyGenerator has no"):
            apply(text, toy)
    with pytest.raises(Unsupported, match="needs a generator with a training recipe"):
        parse("qat")(original(toy.network), Context())


# --- notation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("qat", "qat:grid=int4"),
        ("qat:start=scratch,grid=int4,teacher=1", "qat:grid=int4,start=scratch,teacher"),
        ("qat:teacher=false,scales=auto,grid=ternary,budget=0.25", "qat:grid=ternary"),
        ("qat:budget=1.0,seed=3,networks=both", "qat:grid=int4,budget=1,seed=3,networks=both"),
        ("qat:ends=int8,scales=learned", "qat:grid=int4,scales=learned,ends=int8"),
        ("prune_train:budget=0.5,sparsity=0.90", "prune_train:sparsity=0.9,budget=0.5"),
        ("prune_train:start=scratch,pattern=2:4", "prune_train:pattern=2:4,start=scratch"),
        ("finetune:budget=0.25", "finetune"),
        ("magnitude:sparsity=0.5 + finetune:teacher", "magnitude+finetune:teacher"),
        ("prune_train:sparsity=0.8+qat", "prune_train:sparsity=0.8+qat:grid=int4"),
        ("finetune:keep=embed*", "finetune:keep=embed*"),
    ],
)
def test_canonical_texts_are_read_back(text: str, canonical: str) -> None:
    assert parse(text).text == canonical
    assert parse(canonical) == parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("qat:grid=int9", "int9.*int8, int7, int6, int5, int4, int3, int2, ternary, binary"),
        ("qat:ends=int1", "ends='int1' of 'qat' is not one of"),
        *((f"qat:anneal={share}", f"anneal={share} of 'qat' is outside") for share in ("1", "-0.1", "nan")),
        ("qat:scales=median", "scales='median' of 'qat' is not one of: auto, learned, mean"),
        ("qat:grid=int4,scales=mean", "scales='mean' of 'qat' goes with the grids ternary, binary only"),
        ("qat:grid=ternary,ends=int8,scales=mean", "goes with the grids ternary, binary only"),
        *((f"finetune:budget={budget}", f"budget={shown} .*outside") for budget, shown in
          (("0", "0"), ("-1", "-1"), ("11", "11"), ("nan", "nan"), ("inf", "inf"))),
        ("finetune:budget=much", "budget='much' of 'finetune' is not a valid float"),
        *((f"finetune:rate={rate}", f"rate={rate} .*outside") for rate in ("0", "-1", "101", "nan")),
        ("finetune:seed=-1", "seed=-1 .*outside"),
        ("qat:start=elsewhere", "start='elsewhere' of 'qat' is not one of: trained, scratch"),
        ("qat:teacher=maybe", "teacher='maybe'"),
        ("prune_train:pattern=4:2", "pattern='4:2' .*1 <= n < m <= 32, such as 2:4"),
        ("prune_train:pattern=2-4", "pattern='2-4'"),
        ("prune_train:pattern=2:4,sparsity=0.9", "a sparsity or a pattern: give one"),
        ("prune_train:sparsity=1", "sparsity=1 is outside"),
        ("prune_train:grid=int4", "grid"),
        ("int4+qat", "quantizes twice|before a quantizer"),
        ("int4+finetune", "'finetune' has to come before a quantizer"),
        ("qat:grid=int4+int8", "quantizes twice"),
        ("qat+qat:grid=int2", "quantizes twice"),
        ("qat:grid=int4+finetune", "'finetune' has to come before a quantizer"),
    ],
)  # fmt: skip
def test_bad_input_is_answered_in_one_line(text: str, words: str) -> None:
    with pytest.raises(BadInput, match=words) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_a_pattern_of_tensors_that_matches_none_is_named() -> None:
    with pytest.raises(BadInput, match=r"keep='nothing\*' of 'qat' matches no weight"):
        apply("qat:keep=nothing*", SmallGenerator())


def test_the_log_is_plain_json() -> None:
    made = apply("qat:grid=int4", SmallGenerator())
    assert json.loads(json.dumps(made.trainings)) == list(map(dict, made.trainings))
    assert all(np.isfinite(value) for line in made.trainings[0]["log"] for value in line.values())


# --- results that ship with a model ------------------------------------------------------------------


def test_a_shipped_result_is_used_without_recipe_and_data(
    toy: ToyEvaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = toy.generator
    method = parse("qat:grid=binary,budget=0.02").links[0]
    assert isinstance(method, TrainingTimeMethod)
    attempt = Attempt(method, original(generator.network), Context(generator, folder=tmp_path))
    made = attempt.result()
    assert attempt.shipped is not None and attempt.shipped.parent == tmp_path / "trained"
    attempt.shipped.mkdir(parents=True)
    for name in (RESULT, OUTCOME):
        (attempt.shipped / name).write_bytes((attempt.folder / name).read_bytes())

    def fail(*_: object, **__: object) -> Training:
        raise AssertionError("no training is set up")

    monkeypatch.setattr(TrainableToy, "training", fail)
    again = Attempt(method, original(generator.network), Context(generator, folder=tmp_path)).result()
    for name, stored in made.tensors.items():
        assert torch.equal(stored.dequantize(), again.tensors[name].dequantize()), name
    assert again.trainings == made.trainings
    other = parse("qat:grid=binary,budget=0.02,seed=1").links[0]
    assert isinstance(other, TrainingTimeMethod)
    with pytest.raises(AssertionError, match="no training is set up"):
        Attempt(other, original(generator.network), Context(generator, folder=tmp_path)).result()
