"""Secondary scores on the toy domain: what a run computes, what `bench evaluate` adds, and what it leaves
alone.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bench.runner.evaluate_secondary
from bench.errors import BadInput
from bench.evaluation.secondary import error_of
from bench.evaluation.verdicts import Verdict
from bench.interfaces import Evaluator, Task
from bench.records.cell import Cell, cell_of
from bench.records.schema import Record, read_record, read_records
from bench.registry import DOMAINS
from bench.runner.evaluate_secondary import Wanted
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.runner.sweep import Request, run
from bench.util.cache import Cache
from bench.util.files import slug

N = 300
SAID: list[str] = []
TOY = Wanted("toy")


class Radius(Evaluator):
    """Quality by the distance from the origin alone."""

    name, role, version = "radius", "quality", 3

    def features(self, samples: Any) -> torch.Tensor:
        return torch.from_numpy(np.linalg.norm(np.asarray(samples, "f4"), axis=1, keepdims=True))

    def surprisal(self, samples: Any) -> torch.Tensor:
        return (self.features(samples)[:, 0] - 2).abs()


class Nearest(Task):
    """How near the nearest sample lies to each real point."""

    name, description = "nearest", "minus the distance to the nearest sample"

    def score(self, samples: Any) -> np.ndarray:
        real = torch.from_numpy(DOMAINS.load("toy")().reference()).double()
        return -torch.cdist(real, torch.from_numpy(np.asarray(samples)).double()).min(1).values.numpy()


pytestmark = pytest.mark.usefixtures("toy_trains_once")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type:
    """The toy domain, with a second evaluator and a task."""
    kind = DOMAINS.load("toy")
    own = kind.evaluator
    monkeypatch.setattr(kind, "second_evaluators", lambda self: {"radius": "quality"})
    monkeypatch.setattr(
        kind, "evaluator", lambda self, name, device="cpu": Radius() if name == "radius" else own(self, name)
    )
    monkeypatch.setattr(kind, "task", lambda self, device="cpu": Nearest())
    return kind


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory, toy_trains_once: None) -> Path:
    """Records from before there were secondary evaluators."""
    folder = tmp_path_factory.mktemp("results")
    run(Request("toy", methods=("int8", "binary"), seeds=(0, 1), samples=N, results=folder), print)
    return folder


@pytest.fixture
def results(before: Path, tmp_path: Path) -> Path:
    shutil.copytree(before, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is compressed and what is sampled while a test runs."""
    calls: list[str] = []
    compress, draw = ModelSession.compressed, ModelSession._draw
    monkeypatch.setattr(
        ModelSession,
        "compressed",
        lambda self, method, seed: calls.append(f"compress {method.text}") or compress(self, method, seed),
    )
    monkeypatch.setattr(
        ModelSession, "_draw", lambda self, network, seed: calls.append("sample") or draw(self, network, seed)
    )
    yield calls


def add_scores(results: Path, wanted: Wanted = TOY, workers: int = 1) -> tuple[int, int]:
    SAID.clear()
    return bench.runner.evaluate_secondary.evaluate_secondary(wanted, results, "cpu", workers, SAID.append)


def by_method(results: Path) -> dict[tuple[str, int], Record]:
    return {(r.method, r.sample_seed): r for r in read_records(results)}


# --- a run asks all of them ---------------------------------------------------------------------------


def test_a_run_uses_the_secondary_evaluators_and_the_task(toy: type, tmp_path: Path) -> None:
    records = {
        r.method: r for r in run(Request("toy", methods=("binary",), samples=N, results=tmp_path), print)
    }
    assert list(records["binary"].evaluators) == ["position", "direction", "radius", "nearest"]
    block, base = records["binary"].evaluators["radius"], records["none"].evaluators["radius"]
    assert block.second and block.role == "quality" and block.version == 3 and block.commit is None
    assert not records["binary"].evaluators["position"].second
    assert block.metrics["valid"] == block.items["valid"].unpack().mean()
    assert (
        base.metrics["retention"] == 1
        and base.metrics["error"] == 0
        and "u" in base.metrics
        and "u" not in block.metrics
    )
    assert records["none"].evaluators["nearest"].metrics["retention"] == 1


def test_it_is_named_in_no_cell(toy: type, tmp_path: Path, before: Path) -> None:
    records = run(Request("toy", methods=("int8", "binary"), samples=N, results=tmp_path), print)
    assert {r.cell for r in records} <= {r.cell for r in read_records(before)}
    assert not any("radius" in name or "nearest" in name for r in records for name in r.implementation)


def test_retention_is_between_the_evaluators_own_floor_and_baseline(toy: type, tmp_path: Path) -> None:
    domain = toy()
    session = ModelSession(domain, domain.models["s@0"], N, cache=Cache(use=False))
    evaluation = Evaluation(session)
    samples = session.sample(session.generator.network, 0).samples
    for name, what in (("radius", "valid"), ("nearest", "utility")):
        (role,) = evaluation.secondary.scorers[name].primary
        floor = evaluation.secondary_bounds(name).floor(f"{role}_{what}")
        assert len(floor) == 5
        worse = samples * 1.5
        value, base = (evaluation.secondary_blocks(x, 0)[name].metrics for x in (worse, samples))
        span = base[what] - np.mean(floor)
        assert value["retention"] == pytest.approx((value[what] - np.mean(floor)) / span)


def test_the_error_of_a_retention_is_over_items_that_both_were_tried_on() -> None:
    """Closed form: b = 1 for all n, m = 1 for half; R = 1/2 with span 1, so m - R b is +-1/2: its error is
    .5 / sqrt(n - 1).
    """
    n = 100
    before, now = Verdict({}, {"valid": np.ones(n, bool)}), Verdict({}, {"valid": np.arange(n) < n // 2})
    assert error_of(now, before, 0.5, 1.0, "valid") == pytest.approx(0.5 / np.sqrt(n - 1))
    assert error_of(before, before, 1.0, 1.0, "valid") == 0


def test_a_primary_evaluator_cannot_be_named_as_an_optional_one(toy: type, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="'position' is already a primary evaluator"):
        run(Request("toy", samples=N, results=tmp_path, evaluators=("position",)), print)
    with pytest.raises(BadInput, match="unknown evaluator 'nonsense'"):
        run(Request("toy", samples=N, results=tmp_path, evaluators=("nonsense",)), print)


def test_an_evaluator_that_the_user_names_scores_finished_cells_too(toy: type, results: Path) -> None:
    """And then they are finished; without naming anybody they were before."""
    asked, said = Request("toy", methods=("int8", "binary"), seeds=(0, 1), samples=N, results=results), []
    run(asked, said.append)
    assert not any("radius" in r.evaluators for r in read_records(results))
    for _ in range(2):
        run(replace(asked, evaluators=("radius",)), said.append)
        assert all("radius" in r.evaluators for r in read_records(results))
    assert [line.split(", ")[1] for line in said] == [
        f"{count} finished before; N = {N}" for count in (6, 0, 6)
    ]


def test_an_evaluator_of_other_weights_under_the_same_name_is_another(
    toy: type, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder may hold other weights today than when its evaluator was used."""
    named = replace(TOY, named=("radius",))
    assert add_scores(results, named) == (6, 0) and add_scores(results, named) == (0, 0)
    monkeypatch.setattr(Radius, "identity", lambda self: "other weights")
    asked, said = (
        Request(
            "toy", methods=("int8", "binary"), seeds=(0,), samples=N, results=results, evaluators=("radius",)
        ),
        [],
    )
    run(asked, said.append)
    assert ", 0 finished before" in said[0]
    assert add_scores(results, named) == (3, 0) and add_scores(results, named) == (0, 0), (
        "those of the other sampling seed"
    )
    assert {r.evaluators["radius"].identity for r in read_records(results)} == {"other weights"}


# --- an evaluator that comes later --------------------------------------------------------------------


def test_records_get_a_score_without_compressing_or_sampling_again(
    toy: type, results: Path, drawn: list[str]
) -> None:
    old = by_method(results)
    assert add_scores(results) == (6, 0)
    assert not [call for call in drawn if call == "sample"] and not [
        call for call in drawn if call in ("compress int8", "compress binary")
    ]
    for key, record in by_method(results).items():
        assert list(record.evaluators) == ["position", "direction", "radius", "nearest"]
        assert record.evaluators["radius"].commit is not None
        left = record.model_copy(
            update={"evaluators": {n: b for n, b in record.evaluators.items() if not b.second}}
        )
        assert left == old[key]


def test_it_says_the_same_as_a_run_that_asks_at_once(toy: type, results: Path, tmp_path: Path) -> None:
    add_scores(results)
    fresh = {
        r.method: r
        for r in run(Request("toy", methods=("int8", "binary"), samples=N, results=tmp_path / "new"), print)
    }
    for method, record in fresh.items():
        later = by_method(results)[method, 0].evaluators["radius"].model_copy(update={"commit": None})
        assert later == record.evaluators["radius"]


def test_it_goes_on_where_it_stopped_and_then_has_nothing_to_do(toy: type, results: Path) -> None:
    add_scores(results)
    path = next(iter(results.rglob("binary/*.json")))
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["evaluators"]["radius"]
    path.write_text(json.dumps(record), encoding="utf-8")
    assert add_scores(results) == (1, 0) and "1 of 6 records lack a score" in SAID[0]
    assert add_scores(results) == (0, 0)


@pytest.mark.parametrize("own", ["local", "local/reproduced"])
def test_published_records_are_evaluated_and_not_a_users_own_of_the_same_cells(
    toy: type, results: Path, own: str
) -> None:
    """They are not even read."""
    published = results / "results"
    shutil.copytree(results / "toy", published / "toy")
    shutil.move(results / "toy", published / own / "toy")
    (published / own / "damaged.json").write_text("{", encoding="utf-8")
    before = {path: path.read_bytes() for path in (published / "local").rglob("*.json")}
    assert len(before) == 7 and add_scores(published) == (6, 0) and "damaged" not in " ".join(SAID)
    assert {path: path.read_bytes() for path in before} == before
    assert all("radius" in record.evaluators for record in read_records(published))


def test_a_score_of_an_older_version_is_computed_again(
    toy: type, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_scores(results)
    monkeypatch.setattr(Radius, "version", 4)
    assert add_scores(results) == (6, 0)
    assert {r.evaluators["radius"].version for r in by_method(results).values()} == {4}


def test_without_the_samples_they_are_drawn_from_the_kept_artifact(
    toy: type, results: Path, drawn: list[str], pytestconfig: pytest.Config
) -> None:
    from bench.util.files import cache_folder

    shutil.rmtree(cache_folder() / "samples")
    assert add_scores(results) == (6, 0)
    assert "sample" in drawn and not {"compress int8", "compress binary"} & set(drawn)


def test_without_the_artifact_the_method_is_applied_again(toy: type, results: Path, drawn: list[str]) -> None:
    from bench.util.files import cache_folder

    for kind in ("samples", "artifact"):
        shutil.rmtree(cache_folder() / kind)
    assert add_scores(results) == (6, 0) and {"compress int8", "compress binary"} <= set(drawn)


def test_a_record_whose_samples_come_out_otherwise_is_left_alone(toy: type, results: Path) -> None:
    path = next(iter(results.rglob("binary/*.json")))
    record = Record.model_validate_json(path.read_bytes())
    flags = ~record.evaluators["position"].items["valid"].unpack()
    record.evaluators["position"].items["valid"] = type(record.evaluators["position"].items["valid"]).pack(
        flags
    )
    record.write(path)
    content = path.read_bytes()
    assert add_scores(results) == (5, 1) and path.read_bytes() == content
    assert any("the samples made here differ: 300 of 300 flags" in line for line in SAID)


def test_a_record_of_other_tensors_is_left_alone(toy: type, results: Path) -> None:
    path = next(iter(results.rglob("binary/*.json")))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["tensors_sha256"] = "0" * 64
    path.write_text(json.dumps(record), encoding="utf-8")
    assert add_scores(results) == (5, 1) and any(
        "the tensors made here are not those that were measured" in line for line in SAID
    )


def test_a_record_on_other_real_samples_is_left_alone_though_nothing_in_it_is_valid(
    toy: type, results: Path
) -> None:
    """Flags of validity cannot tell: a collapsed network's are all no, whatever it is compared with."""
    path = next(iter(results.rglob("binary/*.json")))
    moved = read_record(path).model_copy(update={"reference": "own:0123456789abcdef"})
    moved = moved.model_copy(update={"cell": cell_of(moved).hash})
    moved.write(elsewhere := path.with_name(f"{moved.cell[:16]}.json"))
    path.unlink()
    before = elsewhere.read_bytes()
    assert (
        add_scores(results, Wanted("toy", methods=("binary",)))[1] == 1 and elsewhere.read_bytes() == before
    )
    assert any("reference is own:" in line for line in SAID)


def test_a_missing_model_does_not_keep_others_from_being_evaluated(toy: type, results: Path) -> None:
    for path in list((results / "toy").rglob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        moved = results / "toy" / slug("./gone") / path.parent.name / path.name
        moved.parent.mkdir(parents=True, exist_ok=True)
        # the same cells: a name is no part of them
        moved.write_text(json.dumps(record | {"model": "./gone"}), encoding="utf-8")
    assert add_scores(results) == (6, 6)
    assert any(line.startswith("left 6 records of toy ./gone") for line in SAID)


def test_workers_evaluate_what_is_lacking_once_the_bounds_are_made(
    toy: type, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of their own know no test's evaluators: here they are this process; what they are given
    can be sent to others.
    """
    calls: list[str] = []

    def measure(cells: list[Cell], setup: Any, workers: int) -> Iterator[tuple[Cell, Record]]:
        calls.append(f"{len(cells)} cells by {workers}")
        work = pickle.loads(pickle.dumps(setup))()
        yield from ((cell, work(cell)) for cell in cells)

    monkeypatch.setattr(bench.runner.evaluate_secondary, "measure", measure)
    monkeypatch.setattr(Evaluation, "make_all_bounds", lambda self: calls.append("bounds"))
    assert add_scores(results, workers=2) == (6, 0) and calls == ["bounds", "6 cells by 2"]
    assert all("radius" in record.evaluators for record in read_records(results))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Wanted("toy", models=("m@9",)), "no record is of model 'm@9'; there are s@0"),
        (Wanted("toy", methods=("int4",)), "no record is of method 'int4'; there are binary, int8, none"),
        (Wanted("text"), "there is no record of domain 'text'"),
    ],
)
def test_where_nothing_is_meant_that_is_said(toy: type, results: Path, wanted: Wanted, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        add_scores(results, wanted)


def test_only_the_requested_methods_and_the_baseline_are_evaluated(toy: type, results: Path) -> None:
    assert add_scores(results, Wanted("all", methods=("int8",))) == (4, 0)
    assert {r.method for r in read_records(results) if "radius" in r.evaluators} == {"none", "int8"}
    assert add_scores(results, Wanted("all", methods=("ladder",))) == (2, 0)


def test_processes_say_the_same(results: Path) -> None:
    """The toy domain of other processes has no secondary evaluator: they open, check, and find nothing to
    add, as this one does.
    """
    assert add_scores(results, workers=2) == (0, 0)
