"""C: mean retention over halvings of the file, after a non-increasing fit."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import both_pages
from test_leaderboard import record

from bench.methods.notation import LADDER, expand, rung_of
from bench.records.cell import FLOOR_RECALIBRATED
from bench.records.schema import EvaluatorBlock, Items, Record
from bench.report.report_data import report_data
from bench.stats.compressibility import HIGH_RANGE, recalibrated_ladder, score
from bench.stats.ladder import models_of

RATES = (2.0, 2.4, 2.7, 3.0, 3.4, 3.9, 4.2, 4.8)  # of the eight rungs, log2


def test_nothing_lost_is_one_and_all_lost_is_what_is_left_of_the_first_halvings() -> None:
    assert score(RATES, [1.0] * 8) == pytest.approx(1.0)
    assert score(RATES, [1.0] * 8, HIGH_RANGE) == pytest.approx(1.0)
    # a straight line from 1 at rate 0 to 0 at rate 2: area 1 of 4
    assert score(RATES, [0.0] * 8) == pytest.approx(0.25)
    assert score(RATES, [0.0] * 8, HIGH_RANGE) == 0.0


def test_between_rungs_the_curve_is_a_straight_line() -> None:
    """Closed form: 1 up to rate 2, then down to 0 at rate 4."""
    assert score([2.0, 4.0], [1.0, 0.0]) == pytest.approx((2 + 1) / 4)
    assert score([2.0, 4.0], [1.0, 0.0], HIGH_RANGE) == pytest.approx(0.5)
    # cut off at 4, where it is at one half
    assert score([2.0, 6.0], [1.0, 0.0]) == pytest.approx((2 + 0.75 * 2) / 4)


def test_retention_that_rises_again_is_averaged_away_not_believed() -> None:
    rising = [1.0, 0.4, 0.8, 0.0]
    pooled = [1.0, 0.6, 0.6, 0.0]
    assert score([1, 2, 3, 4], rising) == pytest.approx(score([1, 2, 3, 4], pooled))


def test_retention_above_one_counts_as_one_and_below_zero_as_zero() -> None:
    assert score([2, 4], [1.3, -0.4]) == score([2, 4], [1.0, 0.0])


def test_the_order_of_the_rungs_does_not_matter() -> None:
    assert score([4, 1, 3, 2], [0.1, 0.9, 0.3, 0.7]) == score([1, 2, 3, 4], [0.9, 0.7, 0.3, 0.1])


def test_a_network_that_does_not_reach_16x_has_no_score() -> None:
    assert score([1.0, 3.9], [1.0, 1.0]) is None
    assert score([], []) is None


def test_rungs_are_recognised() -> None:
    assert [rung_of(m) for m in ("int8", "int8+recalibrate", "magnitude+int8", "none")] == [
        "int8",
        "int8",
        None,
        None,
    ]
    assert expand(["ladder"], recalibrate=True) == [f"{rung}+recalibrate" for rung in LADDER]
    assert expand(["int4"], recalibrate=True) == ["int4"], "what is named plainly stays plain"
    assert expand(["ladder", "int8"]) == list(LADDER)


def measured(
    domain: str,
    ending: str = "",
    quality: float = 1.0,
    u: float = 0.9,
    skip: str = "",
    recalibrated: bool = False,
) -> list[Record]:
    def one(method: str, rate: float, seed: int, kept: float) -> Record:
        valid, found = round(80 * kept), 80  # of 100; the floor is 0
        values = {"quality_valid": valid / 100, "diversity_mutual_recall": found / 100}
        made = record(
            method,
            seed,
            quality_retention=kept,
            diversity_retention=1.0,
            quality_u=u,
            diversity_u=u,
            **values,
        )
        assert made.cost is not None
        cost = made.cost.model_copy(update={"ratio": 2**rate})
        versions = {FLOOR_RECALIBRATED: 1} if ending or recalibrated else {}
        blocks = {
            "judge": scored("quality", "valid", valid),
            "finder": scored("diversity", "mutual_recall", found),
        }
        return made.model_copy(
            update={"domain": domain, "cost": cost, "implementation": versions, "evaluators": blocks}
        )

    rungs = [
        one(rung + ending, rate, seed, quality)
        for rung, rate in zip(LADDER, RATES)
        for seed in (0, 1)
        if rung != skip
    ]
    return [*(one("none", 0.0, seed, 1.0) for seed in (0, 1)), *rungs]


def scored(role: str, name: str, count: int) -> EvaluatorBlock:
    return EvaluatorBlock(
        role=role, version=1, metrics={name: count / 100}, items={name: Items.pack(np.arange(100) < count)}
    )


def test_a_recalibration_that_was_not_possible_changes_nothing() -> None:
    records = measured("d")
    refused = records[1].model_copy(
        update={"method": "int8+recalibrate", "status": "unsupported", "metrics": {}, "cost": None}
    )
    assert not recalibrated_ladder([*records, refused])
    assert (
        [m.rungs for m in models_of([*records, refused])] == [m.rungs for m in models_of(records)] == [LADDER]
    )


def shown(records: list[Record]) -> tuple[str, dict[str, list[str]]]:
    """Both pages' text; the cells of all tables' lines by their first one, those of the details before
    those of the leaderboard.
    """
    text = both_pages(records)
    front, details = text.split("# Details of the comparison")
    text = f"{details}\n{front}"
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| ")
    ]
    return text, {line[0]: line[1:] for line in reversed(cells)}


def test_domains_are_ranked_side_by_side() -> None:
    text, lines = shown([*measured("worse", quality=0.5), *measured("better", "+recalibrate", quality=0.9)])
    assert text.split("How compressible")[1].index("| better ") < text.split("How compressible")[1].index(
        "| worse "
    )
    assert (
        "No test is possible, because a domain has fewer than two training seeds: better and worse in "
        "quality and in diversity."
    ) in text
    assert "more compressible" not in text
    c, hard = f"{(1.9 / 2 * 2 + 0.9 * 2) / 4:.3f}", "0.900"
    assert lines["better"][:5] == ["1", c, "1.000", hard, "1.000"], "one model: no interval"
    assert lines["worse"][0] == "1" and lines["worse"][2] == "1.000" and lines["worse"][3] == "0.500"
    assert lines["better"][5:] == ["-", "-", f"{2**4.8:.1f}x", "-"], (
        "0.90 with an error is not shown to be 0.90"
    )
    assert lines["worse"][5:7] == ["-", "4.0x"], "0.5 is shown to be less than 0.9 at the first rung"
    assert lines["`int8`"] == ["4.0x", "0.900", "1.000", "4.0x", "0.500", "1.000"]
    covariates = next(
        line
        for line in text[text.index("What else differs") :].splitlines()
        if line.startswith("| better s@0 ")
    )
    assert [cell.strip() for cell in covariates.split("|")[2:5]] == ["900", "0.90", "0.90"], (
        "parameters and U"
    )


def test_training_seeds_are_compared_with_intervals() -> None:
    def domain(name: str, *quality: float) -> list[Record]:
        return [
            r.model_copy(update={"model": f"s@{i}"})
            for i, kept in enumerate(quality)
            for r in measured(name, quality=kept)
        ]

    text, lines = shown([*domain("worse", 0.4, 0.4125, 0.425), *domain("better", 0.9, 0.9125, 0.925)])
    assert "**better is more compressible than worse, in quality**" in text
    assert lines["better - worse"][:2] == ["quality", "+0.375"] and lines["better - worse"][-1] == "yes"
    assert "Undecided with these models: better and worse, whose C may differ by up to 0.0" in text
    assert (
        lines["better"][0] == "3"
        and lines["better"][1].startswith("0.934 [0.9")
        and lines["`int8`"][1] == "0.912 ± 0.013"
    )


def test_a_missing_rung_and_a_bad_model_are_said() -> None:
    text, lines = shown([*measured("gap", skip="int4"), *measured("bad", u=0.4)])
    assert "gap s@0 has no score (rungs not measured: int4)." in text
    assert lines["gap"][:3] == ["0", "-", "-"]
    assert "Fewer than two domains have a score" in text
    assert (
        "With a threshold of U = 0.25 (bad s@0)" in text
        and "(bad s@0)" in lines
        and "in each domain none" in text
    )
    assert lines["bad"][:3] == ["0", "-", "-"]


def test_why_there_is_no_score_is_said() -> None:
    short = [r for r in measured("short")]
    for r in short:
        assert r.cost is not None
        r.cost.ratio = min(r.cost.ratio, 15.0)
    flat = [
        r.model_copy(update={"metrics": {**r.metrics, "quality_retention": None}}) for r in measured("flat")
    ]
    text, lines = shown([*short, *flat, *measured("whole")])
    assert "short s@0 has no score (its files do not reach a sixteenth)." in text
    assert "flat s@0 has no score (its baseline is too close to the floor for a retention: int8, int6" in text
    assert lines["short"][1] == lines["flat"][1] == "-" and lines["whole"][1] == "1.000"


def test_one_domain_alone_is_not_ranked() -> None:
    assert not report_data(measured("alone"), {}).comparable
