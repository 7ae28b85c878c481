"""The whole pipeline on the toy domain: cells in, records out, and what a second run need not do again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn

import bench.runner.run_cell
from bench.artifact.format import tensors_digest
from bench.errors import BadInput, Unsupported
from bench.interfaces import Domain
from bench.methods.notation import parse
from bench.methods.plain import NoCompression
from bench.records.cell import Cell, cells, is_finished, look_up
from bench.records.schema import Record, Status, read_record, read_records
from bench.registry import DOMAINS
from bench.runner import sweep
from bench.runner.evaluation import Evaluation
from bench.runner.run_cell import run_cell
from bench.runner.session import ModelSession
from bench.runner.sweep import Request
from bench.util.cache import Cache

N = 500
METHODS = ("none", "int8", "binary", "permute")
TWINS = ("intact", "drifted", "degraded", "repaired", "still_invalid")


@pytest.fixture(scope="session")
def domain() -> Domain:
    return DOMAINS.load("toy")()


@pytest.fixture(scope="session")
def evaluation(domain: Domain) -> Evaluation:
    return Evaluation(ModelSession(domain, domain.models["s@0"], N))


def plan(evaluation: Evaluation, *methods: str, seeds: tuple[int, ...] = (0,)) -> list[Cell]:
    return cells(evaluation.template, methods, seeds, {m: parse(m).versions for m in ("none", *methods)})


def another(evaluation: Evaluation, cache: Cache) -> Evaluation:
    """A new one that shares the generator, since the toy trains whenever it is opened."""
    domain = DOMAINS.load("toy")()
    domain.open = lambda spec, device: evaluation.session.generator
    return Evaluation(ModelSession(domain, evaluation.session.spec, N, cache=cache))


def cell_of(evaluation: Evaluation, method: str) -> Cell:
    return plan(evaluation, method)[-1]


@pytest.fixture(scope="session")
def records(evaluation: Evaluation) -> dict[str, Record]:
    return {cell.method: run_cell(cell, evaluation) for cell in plan(evaluation, *METHODS)}


@pytest.fixture
def sampled(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The digest of each network that is really sampled from."""
    calls: list[str] = []
    sample = evaluation.session.generator.sample

    def counted(network: nn.Module, n: int, seed: int) -> Any:
        if n == N:  # counting operations draws fewer
            calls.append(tensors_digest(network))
        return sample(network, n, seed)

    monkeypatch.setattr(evaluation.session.generator, "sample", counted)
    return calls


# --- what a record says -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_records_are_whole(records: dict[str, Record], method: str) -> None:
    record = records[method]
    assert Record.model_validate_json(record.model_dump_json()) == record
    assert set(record.evaluators) == {"position", "direction"}
    assert record.cost is not None and record.cost.bits_per_param == 8 * record.cost.stored_bytes / 2594
    assert all(value is None or np.isfinite(value) for value in record.metrics.values())


@pytest.mark.parametrize("method", METHODS)
def test_each_twin_has_one_outcome(records: dict[str, Record], method: str) -> None:
    flags = np.stack([records[method].items[name].unpack() for name in TWINS])  # [5, N]
    assert (flags.sum(0) == 1).all() and flags.shape[1] == N
    assert [records[method].metrics[name] for name in TWINS] == pytest.approx(flags.mean(1))


@pytest.mark.parametrize("method", METHODS)
def test_metrics_are_the_means_of_the_stored_items(records: dict[str, Record], method: str) -> None:
    record = records[method]
    for metric, evaluator, item in (
        ("quality_valid", "position", "valid"),
        ("diversity_mutual_recall", "direction", "mutual_recall"),
    ):
        assert record.metric(metric) == record.evaluators[evaluator].items[item].unpack().mean()


def test_the_baseline_retains_exactly_everything(records: dict[str, Record]) -> None:
    record = records["none"]
    assert record.status == "ok" and record.reason is None
    assert record.metric("quality_retention") == record.metric("diversity_retention") == 1
    assert record.metric("intact") == record.metric("quality_valid")
    assert record.cost is not None and record.cost.ratio == 1 and record.cost.nominal_bits == 32


def test_the_toy_is_good_enough_to_count(records: dict[str, Record]) -> None:
    for role in ("quality", "diversity"):
        headroom = records["none"].metric(f"{role}_u")
        assert headroom is not None and headroom >= 0.5


def test_compression_costs_what_it_should(records: dict[str, Record]) -> None:
    """8 bits are near the baseline (within 0.1, 3 standard errors of N = 500), 1 bit is not; the floor
    collapses.
    """
    quality = {method: record.metric("quality_retention") for method, record in records.items()}
    assert quality["int8"] == pytest.approx(1, abs=0.1)
    assert quality["binary"] is not None and quality["binary"] < 0.6
    assert records["int8"].status == "ok" and records["int8"].reason is None
    assert records["permute"].status == "collapsed" and "retention" in str(records["permute"].reason)
    stored = [records[method].cost.stored_bytes for method in ("none", "int8", "binary")]  # type: ignore[union-attr]
    assert stored == sorted(stored, reverse=True)


def test_the_baseline_runs_first_for_every_seed(evaluation: Evaluation) -> None:
    planned = plan(evaluation, "binary", "none", "int8", seeds=(1, 0, 1))
    assert [(c.sample_seed, c.method) for c in planned] == [
        (s, m) for s in (1, 0) for m in ("none", "binary", "int8")
    ]
    assert len({cell.hash for cell in planned}) == len(planned)


def test_a_cells_hash_depends_on_what_its_numbers_depend_on(evaluation: Evaluation) -> None:
    cell = cell_of(evaluation, "int8")
    changes: dict[str, Any] = {
        "weights_sha256": "0",
        "sample_seed": 1,
        "samples": 2,
        "k": 3,
        "sampler": {"steps": 9},
        "reference": "mine",
    }
    changes |= {"method": "int4", "implementation": {**cell.implementation, "int8": 2}}
    assert all(
        dataclasses.replace(cell, **{field: value}).hash != cell.hash for field, value in changes.items()
    )
    assert dataclasses.replace(cell, model="./a/folder").hash == cell.hash


# --- what is done again, and what is not --------------------------------------------------------------


def written(record: Record, evaluation: Evaluation, results: Path) -> Path:
    _, path = look_up(cell_of(evaluation, record.method), results)
    record.write(path)
    return path


def test_a_finished_cell_is_found_again(
    evaluation: Evaluation, records: dict[str, Record], tmp_path: Path
) -> None:
    cell, record = cell_of(evaluation, "int8"), records["int8"]
    assert look_up(cell, tmp_path)[0] is None
    path = written(record, evaluation, tmp_path)
    assert look_up(cell, tmp_path) == (record, path)
    assert record == read_record(path) and is_finished(record)
    assert look_up(dataclasses.replace(cell, sample_seed=1), tmp_path)[0] is None


def test_only_results_are_finished(records: dict[str, Record]) -> None:
    done = {
        status: is_finished(records["int8"].model_copy(update={"status": status}))
        for status in get_args(Status)
    }
    assert done == {"ok": True, "diverged": True, "collapsed": True, "unsupported": False, "failed": False}
    assert not is_finished(None)


@pytest.mark.parametrize(
    "damage",
    ["cut", "empty", "foreign", "future", "not a number", "metrics", "a word", "bits", "too few bits"],
)
def test_damaged_records_are_named_skipped_and_left_as_they_are(
    evaluation: Evaluation, records: dict[str, Record], tmp_path: Path, damage: str
) -> None:
    whole, path = (written(records[method], evaluation, tmp_path) for method in ("none", "int8"))
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    broken = {
        "cut": text[: len(text) // 2],
        "empty": "",
        "foreign": '{"name": "package"}',
        "future": json.dumps(content | {"schema_version": 99}),
        "not a number": json.dumps(content | {"samples": "many"}),
        "metrics": json.dumps(content | {"metrics": []}),
        "a word": json.dumps(content | {"metrics": {"quality_valid": "good"}}),
        "bits": json.dumps(content | {"items": {"intact": {"count": 8, "bits": "!"}}}),
        "too few bits": json.dumps(content | {"items": {"intact": {"count": 800, "bits": "AA=="}}}),
    }[damage]
    path.write_text(broken, encoding="utf-8")
    warnings: list[str] = []
    assert [record.cell for record in read_records(tmp_path, warnings.append)] == [records["none"].cell]
    assert len(warnings) == 1 and str(path) in warnings[0] and "\n" not in warnings[0]

    again = written(records["int8"], evaluation, tmp_path)
    assert again not in (path, whole) and path.read_text(encoding="utf-8") == broken
    assert look_up(cell_of(evaluation, "int8"), tmp_path) == (records["int8"], again)
    assert {record.method for record in read_records(tmp_path)} == {"none", "int8"}


def test_a_cell_that_is_there_twice_counts_once(
    evaluation: Evaluation, records: dict[str, Record], tmp_path: Path
) -> None:
    path = written(records["int8"], evaluation, tmp_path)
    records["int8"].model_copy(update={"reason": "the second one"}).write(path.with_stem(path.stem + "-1"))
    warnings: list[str] = []
    assert (
        read_records(tmp_path, warnings.append)
        == [look_up(cell_of(evaluation, "int8"), tmp_path)[0]]
        == [records["int8"]]
    )
    assert len(warnings) == 1 and "holds the same cell and is used" in warnings[0]


def test_models_of_equal_weights_and_other_names_keep_their_records(
    evaluation: Evaluation, records: dict[str, Record], tmp_path: Path
) -> None:
    written(records["int8"], evaluation, tmp_path)
    renamed = records["int8"].model_copy(update={"model": "other"})
    renamed.write(tmp_path / "toy" / "other" / "int8" / f"{renamed.cell[:16]}.json")
    assert {record.model for record in read_records(tmp_path)} == {"s@0", "other"}


@pytest.mark.parametrize("method", ["none", "int8"])
def test_a_record_of_fresh_samples_says_how_fast_they_came(evaluation: Evaluation, method: str) -> None:
    """The baseline's, too, though others are compared with it."""
    uncached = another(evaluation, Cache(use=False))
    speed = run_cell(cell_of(uncached, method), uncached).speed
    assert speed is not None and speed.samples_per_second > 0


def test_a_failure_of_a_second_measurement_leaves_the_record(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("toy", methods=("int8",), samples=200, results=tmp_path, fresh=True)
    sweep.run(request, lambda line: None)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    monkeypatch.setattr(sweep, "run_cell", lambda cell, evaluation: 1 / 0)
    said: list[str] = []
    assert {r.status for r in sweep.run(request, said.append)} == {"failed"}
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before
    assert sum("ZeroDivisionError" in line and "is unchanged" in line for line in said) == 2


def test_scores_of_optional_evaluators_survive_a_second_measurement(records: dict[str, Record]) -> None:
    old = records["int8"]
    score = next(iter(old.evaluators.values())).model_copy(update={"second": True})
    scored = old.model_copy(update={"evaluators": {**old.evaluators, "inception": score}})
    kept = sweep.with_auxiliary_scores(old, scored)
    assert (
        list(kept.evaluators) == [*old.evaluators, "inception"]
        and kept.evaluators["inception"].commit == old.provenance.commit
    )
    assert sweep.with_auxiliary_scores(old, scored.model_copy(update={"tensors_sha256": "others"})) == old, (
        "other samples"
    )


def test_a_record_in_the_wrong_place_is_skipped(
    evaluation: Evaluation, records: dict[str, Record], tmp_path: Path
) -> None:
    path = written(records["int8"], evaluation, tmp_path)
    moved = path.rename(path.with_name("0123456789abcdef.json"))
    warnings: list[str] = []
    assert read_records(tmp_path, warnings.append) == []
    assert str(moved) in warnings[0]


def test_the_cache_answers_as_a_fresh_computation_does(
    evaluation: Evaluation, records: dict[str, Record], sampled: list[str]
) -> None:
    cached = run_cell(cell_of(evaluation, "int8"), evaluation)
    assert sampled == []
    uncached = another(evaluation, Cache(use=False))
    fresh = run_cell(cell_of(uncached, "int8"), uncached)
    assert "sample" in fresh.provenance.seconds
    assert cached.speed is None and fresh.speed is not None and fresh.speed.samples_per_second > 0
    for record in (cached, fresh):
        assert record.model_dump(exclude={"provenance", "speed"}) == records["int8"].model_dump(
            exclude={"provenance", "speed"}
        )


def test_a_damaged_cache_entry_is_made_again(
    evaluation: Evaluation, records: dict[str, Record], tmp_path: Path
) -> None:
    cached = another(evaluation, Cache(folder=tmp_path))
    first = run_cell(cell_of(cached, "int8"), cached)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".name":
            path.write_bytes(path.read_bytes()[:-7])
    assert run_cell(cell_of(cached, "int8"), cached).metrics == first.metrics == records["int8"].metrics


def test_two_codings_of_the_same_values_share_their_samples(
    evaluation: Evaluation, records: dict[str, Record], sampled: list[str]
) -> None:
    """`magnitude:sparsity=0` keeps every weight, but stores a mask with it."""
    other = run_cell(cell_of(evaluation, "magnitude:sparsity=0"), evaluation)
    assert sampled == []
    assert other.metrics["quality_valid"] == records["none"].metrics["quality_valid"]
    assert other.cost is not None and records["none"].cost is not None
    assert other.cost.stored_bytes > records["none"].cost.stored_bytes


def test_samples_come_from_the_artifacts_bytes(
    evaluation: Evaluation, records: dict[str, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the method returned in memory: here the file is that of another network."""
    monkeypatch.setattr(bench.runner.run_cell, "save", lambda _, text, path: save_binary(evaluation, path))
    record = run_cell(cell_of(evaluation, "int8"), evaluation)
    assert record.metrics["quality_valid"] == records["binary"].metrics["quality_valid"]
    assert record.cost is not None and records["binary"].cost is not None
    assert record.cost.stored_bytes == records["binary"].cost.stored_bytes


def save_binary(evaluation: Evaluation, path: Path) -> int:
    from bench.artifact.format import save
    from bench.methods.plain import original

    return save(
        parse("binary")(original(evaluation.session.generator.network), evaluation.session.context(0)),
        "binary",
        path,
    )


# --- results that are not numbers ---------------------------------------------------------------------


def test_a_network_that_is_not_finite_has_diverged(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(path: Path, generator: Any) -> nn.Module:
        network = generator.rebuild(())
        with torch.no_grad():
            next(network.parameters()).fill_(torch.nan)
        return network

    monkeypatch.setattr(bench.runner.run_cell, "rebuild", broken)
    cell = cell_of(evaluation, "int2")
    record = run_cell(cell, evaluation)
    assert record.status == "diverged" and "not finite" in str(record.reason)
    assert record.metrics == {} and record.cost is not None
    assert read_record(written(record, evaluation, tmp_path)) == record and is_finished(record)


def test_a_method_that_does_not_fit_is_unsupported(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise Unsupported("no layer of this network can be split")

    monkeypatch.setattr(NoCompression, "__call__", refuse)
    cell = cell_of(evaluation, "none")
    record = run_cell(cell, evaluation)
    assert (record.status, record.reason, record.cost) == (
        "unsupported",
        "no layer of this network can be split",
        None,
    )
    assert read_record(written(record, evaluation, tmp_path)) == record


@pytest.mark.parametrize("n", [0, 6, 2001])
def test_impossible_numbers_of_samples_are_named(domain: Domain, n: int) -> None:
    with pytest.raises(BadInput, match=f"samples={n}.*7.*2000"):
        Evaluation(ModelSession(domain, domain.models["s@0"], n))
