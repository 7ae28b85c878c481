"""The studies of compression during training: their cells, and the figures of their tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_up import scored

from bench.errors import BadInput
from bench.methods.notation import parse, with_seed, without_seed
from bench.records.schema import Record, TrainingReport, read_records
from bench.registry import open_domain
from scripts.studies.training_tables import (
    NETWORKS,
    PAGE,
    PRUNED,
    REMEDIES,
    STARTS,
    collapses,
    decidable,
    failures,
    figures,
    filled,
    more_spread,
    oscillation,
    over_training,
    peaks,
    stability,
)
from scripts.studies.training_time import RESULTS, STUDIES, Planned, networks_over_time, read_curves

LINE = {"step": 100, "loss": 2.0, "loss_sd": 0.5, "gradient_norm": 1.0, "gradient_norm_p99": 3.0}


def cell(quality: float, seed: int, method: str) -> list[Record]:
    """Three sampling seeds of one training."""
    text = with_seed(method, seed)
    report = TrainingReport(method=text, steps=100, core_seconds=600.0, log=[LINE])
    made = [scored(text, sampling, quality, 0.9, "text", "xs@0") for sampling in range(3)]
    return [record.model_copy(update={"trainings": [report]}) for record in made]


def test_every_planned_cell_is_canonical_planned_once_and_of_a_known_model() -> None:
    beside = {"starts": STARTS, "networks": NETWORKS, "pruned": PRUNED, "remedies": REMEDIES}
    for study, cells in {**STUDIES, **beside}.items():
        assert len(set(cells)) == len(cells), study
        for one in cells:
            assert one.model in open_domain(one.domain).models
            try:
                assert parse(one.method).text == one.method
            except BadInput as error:
                assert "is not installed: pip install" in str(error), "of an optional tool"


def test_trainings_from_scratch_start_from_different_weights() -> None:
    for study in ("2", "3"):
        cells = [cell for cell in STUDIES[study] if "start=scratch" in cell.method]
        for domain, method in {(cell.domain, without_seed(cell.method)) for cell in cells}:
            same = [c for c in cells if (c.domain, without_seed(c.method)) == (domain, method)]
            assert len({c.model for c in same}) == len({c.method for c in same}) == 3


def test_networks_over_time_end_with_the_result(tmp_path: Path) -> None:
    assert networks_over_time(tmp_path) == {}
    (tmp_path / "snapshots").mkdir()
    for step in (5, 10):
        (tmp_path / "snapshots" / f"{step:07}.genc").touch()
    (tmp_path / "result.genc").touch()
    (tmp_path / "outcome.json").write_text('{"steps": 15}', encoding="utf-8")
    found = networks_over_time(tmp_path)
    assert [(step, path.name) for step, path in found.items()] == [
        (5, "0000005.genc"),
        (10, "0000010.genc"),
        (15, "result.genc"),
    ]


def test_the_spread_is_tested_against_the_controls() -> None:
    narrow, wide = np.array([0.80, 0.81, 0.79, 0.80, 0.80]), np.array([0.2, 0.9, 0.5, 0.1, 0.7])
    assert more_spread([(wide, narrow)]) < 0.05
    assert more_spread([(narrow, wide)]) > 0.9
    assert more_spread([(narrow, narrow)]) > 0.4, "equal spreads are no evidence"
    few = wide[:3], narrow[:3]
    assert more_spread([few] * 3) < 0.05 < more_spread([few]), "three groups of three seeds say more than one"
    assert not decidable([]) and not decidable([few]), "three against three cannot reach .05"
    assert decidable([few] * 2) and decidable([(wide, narrow)])


def test_the_test_of_spread_is_as_strict_as_it_says() -> None:
    noise = np.random.default_rng(0)
    draws = noise.normal(size=(200, 2, 5))
    assert np.mean([more_spread([(a, b)]) < 0.05 for a, b in draws]) == pytest.approx(0.05, abs=0.04)
    draws = noise.normal(size=(200, 2, 2, 3))  # two domains of three against three
    assert np.mean([more_spread([*map(tuple, pairs)]) < 0.05 for pairs in draws]) <= 0.09


def test_oscillation_and_peaks_are_ratios() -> None:
    assert oscillation([{**LINE, "loss": 9.0}, LINE]) == pytest.approx(0.25)
    assert oscillation([{**LINE, "generator": -1.0, "generator_sd": 0.1}]) == pytest.approx(0.1)
    assert peaks([LINE, {**LINE, "gradient_norm_p99": 5.0}]) == pytest.approx(4.0)


def test_a_line_has_ratio_retentions_and_minutes() -> None:
    assert figures(cell(0.5, 0, "qat:grid=binary"))[1:] == ["0.500", "0.900", "-", "-", "10"]


def rows(text: str) -> list[list[str]]:
    return [[one.strip() for one in row.split("|")[1:-1]] for row in text.splitlines()]


def test_failures_are_counted_by_domain_and_start() -> None:
    good, bad = cell(0.5, 0, "qat:grid=int3"), cell(0.05, 0, "qat:grid=binary")
    lost = [r.model_copy(update={"status": "diverged"}) for r in cell(0.5, 0, "qat:grid=ternary")]
    found = {Planned("text", "xs@0", one[0].method): one for one in (good, bad, lost)}
    assert collapses(good) == [False, False] and collapses(bad) == [True, False]
    assert rows(failures(found))[2] == ["text", "trained", "3", "1", "1", "0"]


def test_the_table_of_stability_has_a_line_for_each_method() -> None:
    found = {}
    for method, spread in (("finetune", 0.01), ("qat:grid=binary", 0.2)):
        for seed in range(5):
            records = cell(0.5 + spread * (seed - 2), seed, method)
            found[Planned("text", "xs@0", records[0].method)] = records
    lines = rows(stability(found))
    assert lines[2][:3] == ["text", "`finetune`", "5"] and lines[3][1:3] == ["`qat:grid=binary`", "5"]
    spread, p = lines[0].index("spread ↓"), lines[0].index("p")
    assert float(lines[3][spread]) == pytest.approx(0.316, abs=1e-3)
    assert lines[2][p] == "-" and float(lines[3][p]) < 0.05
    assert lines[4][:2] == ["all together", "`qat:grid=binary`"] and lines[4][p] == lines[3][p]
    lost = cell(0.5, 4, "qat:grid=binary")
    early = TrainingReport(method="qat", steps=7, core_seconds=1.0, log=[{"step": 7, "loss": 9.0}])
    changes = {"status": "diverged", "metrics": {}, "trainings": [early]}
    again = {**found, Planned("text", "xs@0", lost[0].method): [r.model_copy(update=changes) for r in lost]}
    assert rows(stability(again))[3][2:] != lines[3][2:], "what diverged kept nothing"
    assert rows(stability(again))[3][-2:] == lines[3][-2:], "its log ends early and does not count"
    for seed in range(5):
        records = cell(0.01 * seed, seed, "qat:grid=binary")
        found[Planned("text", "xs@0", records[0].method)] = records
    assert rows(stability(found))[3][p] == "-", "it has collapsed"


def test_curves_are_means_over_the_seeds_of_the_noise() -> None:
    rising = [{"step": 50 * t, "quality": t / 10, "diversity": 0.9} for t in range(1, 11)]
    flat = [{**point, "quality": 0.0} for point in rising]
    curves = {
        "text xs@0 qat:grid=binary": rising,
        "text xs@0 qat:grid=binary,seed=1": flat,
        "text xs@0 finetune": rising[:9],  # not whole
    }
    (line,) = rows(over_training(curves))[2:]
    means = ["0.05/0.90", "0.10/0.90", "0.20/0.90", "0.30/0.90", "0.40/0.90", "0.50/0.90"]
    assert line == ["text xs@0", "`qat:grid=binary`", "2", *means]


def test_the_page_has_the_figures_of_the_records() -> None:
    page = PAGE.read_text(encoding="utf-8")
    written = filled(page, read_records(RESULTS), read_curves())
    assert written == page, "run python -m scripts.studies.training_tables"
    empty = filled(page, [], {})
    assert "qat:grid=binary" not in empty.partition("# The studies")[2].partition("## Twins")[0]
