"""The studies of compression during training: their cells, and the figures of their tables."""

from __future__ import annotations

import pytest
from made_up import scored

from bench.methods.notation import parse
from bench.records.schema import Record, TrainingReport
from bench.registry import open_domain
from scripts.studies.training_time import (
    STUDIES,
    Planned,
    failed,
    figures,
    more_spread,
    oscillation,
    peaks,
    stability,
)

LINE = {"step": 100, "loss": 2.0, "loss_sd": 0.5, "gradient_norm": 1.0, "gradient_norm_p99": 3.0}


def cell(quality: float, seed: int, method: str) -> list[Record]:
    """Three sampling seeds of one training."""
    text = method + (f",seed={seed}" if ":" in method else f":seed={seed}") * (seed > 0)
    report = TrainingReport(method=text, steps=100, core_seconds=600.0, log=[LINE])
    made = [scored(text, sampling, quality, 0.9, "text", "xs@0") for sampling in range(3)]
    return [record.model_copy(update={"trainings": [report]}) for record in made]


def test_every_planned_cell_is_canonical_planned_once_and_of_a_known_model() -> None:
    for study, cells in STUDIES.items():
        assert len(set(cells)) == len(cells), study
        for one in cells:
            assert parse(one.method).text == one.method
            assert one.model in open_domain(one.domain).models


def test_the_spread_is_tested_against_the_controls() -> None:
    narrow, wide = [0.80, 0.81, 0.79, 0.80, 0.80], [0.2, 0.9, 0.5, 0.1, 0.7]
    assert more_spread(wide, narrow) < 0.05
    assert more_spread(narrow, wide) > 0.9
    assert more_spread(narrow, narrow) > 0.4, "equal spreads are no evidence"


def test_oscillation_and_peaks_are_ratios() -> None:
    assert oscillation([{**LINE, "loss": 9.0}, LINE]) == pytest.approx(0.25)
    assert oscillation([{**LINE, "generator": -1.0, "generator_sd": 0.1}]) == pytest.approx(0.1)
    assert peaks([LINE, {**LINE, "gradient_norm_p99": 5.0}]) == pytest.approx(4.0)


def test_a_line_has_ratio_retentions_steps_and_minutes() -> None:
    assert figures(cell(0.5, 0, "qat:grid=binary"))[1:] == ["0.500", "0.900", "100", "10"]


def test_a_training_fails_that_diverges_or_collapses() -> None:
    good, bad = cell(0.5, 0, "finetune"), cell(0.05, 0, "finetune")
    assert not failed(good) and failed(bad)
    assert failed([record.model_copy(update={"status": "diverged"}) for record in good])


def test_the_table_of_stability_has_a_line_for_each_method() -> None:
    found = {}
    for method, spread in (("finetune", 0.01), ("qat:grid=binary", 0.2)):
        for seed in range(5):
            records = cell(0.5 + spread * (seed - 2), seed, method)
            found[Planned("text", "xs@0", records[0].method)] = records
    lines = [[one.strip() for one in row.split("|")[1:-1]] for row in stability(found).splitlines()]
    assert lines[2][:4] == ["text", "finetune", "5", "0"] and lines[3][1:4] == ["qat:grid=binary", "5", "0"]
    spread, p = lines[0].index("quality spread"), lines[0].index("quality p")
    assert float(lines[3][spread]) == pytest.approx(0.316, abs=1e-3)
    assert lines[2][p] == "-" and float(lines[3][p]) < 0.05
