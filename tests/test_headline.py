"""The leaderboard's first tables accept whatever was measured, and say what was not."""

from __future__ import annotations

import math

import pytest
from made_up import both_pages, ladder, model, scored, stored

from bench.records.schema import Record, ToolReport
from bench.registry import DOMAINS
from bench.report.cells import with_interval
from bench.report.details import ratio_cells, rungs, size_by_size
from bench.report.headline import best_methods, best_tools, models_table
from bench.report.loss_order import onset_text
from bench.report.report_data import report_data
from bench.report.size_tables import sizes
from bench.report.verdict import sentence
from bench.stats.comparison import Ratio
from bench.stats.compressibility import FULL_RANGE
from bench.stats.intervals import Estimate
from bench.stats.order import Onset
from bench.stats.scores import Score


def grid(name: str, *models: str, kept: float = 0.9) -> list[Record]:
    return [r for i, at in enumerate(models) for r in ladder(name, at, quality=kept + 0.03 * i)]


def line(text: str, title: str, first: str) -> list[str]:
    """Cells of a row of the table below a heading."""
    below = text[text.index(title) :] if title else text
    found = next(row for row in below.splitlines() if row.startswith(f"| {first} "))
    return [cell.strip() for cell in found.split("|")[2:-1]]


WHOLE = [*grid("a", "s@0", "s@1"), *grid("b", "s@0", "s@1", kept=0.3)]


def test_many_undecided_pairs_are_counted() -> None:
    records = [r for name in "abcde" for r in grid(name, "s@0", "s@1", "s@2")]
    for few, said in ((3, "Undecided with these models: a and b, whose C may differ by up to "), (5, "")):
        now = report_data([r for r in records if r.domain in "abcde"[:few]], {}).now
        text = sentence(now)
        assert (
            said or "Of all 20 comparisons (two domains in one role), 0 are claimed and 20 are open."
        ) in text
        assert len(text) < 400


# ----------------------------------------------------------------------------------------------------- models


def test_training_seeds_of_a_size_share_a_row_with_the_range_of_their_losses() -> None:
    """Quality at 8, 6 and 5 bits is .95, and then falls to .5 or .7; the last rungs do not matter."""
    kept = [[0.95, 0.95, 0.95, low, low, 0, 0, 0] for low in (0.5, 0.7)]
    records = [r for at, values in zip(("s@0", "s@1"), kept) for r in ladder("a", at, quality=values)]
    records += ladder("a", "m@0", quality=0.5)
    every = {(r.domain, r.model): f"{r.model}.md" for r in records}
    text = models_table(report_data(records, {}), {**every, ("b", "org/model"): "b.md"})
    ratio, _, *rest = line(text, "", "a s [@0](s@0.md) [@1](s@1.md)")[1:]
    low, high = (float(one.strip("x")) for one in ratio.split(" to "))
    assert 5 < low < high < 8 and rest == ["quality"]
    assert line(text, "", "[a m@0](m@0.md)")[-1] == "quality"
    assert line(text, "", "[b org/model](b.md)") == ["-"] * 4


# ------------------------------------------------------------------------------------------------- any subset


@pytest.mark.parametrize(
    "records",
    [
        [],
        WHOLE[:1],
        grid("a", "s@0", "s@1"),
        WHOLE,
        [r for r in WHOLE if r.sample_seed == 0],
        [r for r in WHOLE if r.method != "none" or r.model == "s@0"],
        [r for r in WHOLE if r.method in ("none", "int8")],
        [*WHOLE, *ladder("c", "org/model")],
        [*WHOLE, *[r.model_copy(update={"samples": 50, "model": "s@2"}) for r in ladder("a")]],
        [r.model_copy(update={"cost": None}) if r.method == "binary" else r for r in WHOLE],
        [
            *WHOLE,
            *[
                stored(scored(name, seed, 0.5, 0.5, "a"), 9)
                for name in ("ecsq:bits=3", "nf4")
                for seed in (0, 1)
            ],
        ],
        [
            r.model_copy(update={"status": "diverged", "metrics": {}, "evaluators": {}})
            if r.method == "int2"
            else r
            for r in WHOLE
        ],
        [
            r.model_copy(update={"status": "diverged", "metrics": {}, "evaluators": {}})
            if r.model == "s@1"
            else r
            for r in WHOLE
        ],
    ],
    ids=[
        "none",
        "one record",
        "one domain",
        "whole",
        "one sampling seed",
        "no baseline",
        "one rung",
        "no @",
        "other N",
        "no size",
        "more methods",
        "diverged",
        "diverged baseline",
    ],
)
def test_any_subset_makes_a_headline(records: list[Record]) -> None:
    assert report_data(records, {}).comparable is (len({r.domain for r in records}) > 1)
    assert "nan" not in both_pages(records).lower()


def test_what_the_grid_asks_for_and_nobody_measured_is_named() -> None:
    """Of a domain that is installed; others say nothing of a grid."""
    name = "text"
    asked = list(DOMAINS.load(name)().grid())
    text = both_pages([*grid(name, "s@0"), *grid("b", "s@0")])
    assert f"Not measured yet: {name} {', '.join(m for m in asked if m != 's@0')}." in text


def test_records_under_other_conditions_stay_out() -> None:
    """Dense networks measured with fewer samples are no dense networks of this comparison."""
    small = [stored(r, r.cost.ratio, 1_000_000) for r in ladder("a", "xs@0", quality=0.5) if r.cost]
    records = [*ladder("a", "s@0", quality=0.8), *small]
    foreign = [
        r.model_copy(update={"samples": 7, "sample_seed": r.sample_seed + 5})
        for r in records
        if r.method == "none"
    ]
    assert report_data([*records, *foreign], {}).of("a") == report_data(records, {}).of("a")
    assert len(report_data(records, {}).of("a")) == len(records)


def test_models_below_u_stand_in_brackets_and_hollow() -> None:
    poor = [r.model_copy(update={"metrics": {**r.metrics, "quality_u": 0.3}}) for r in ladder("a", "xs@0")]
    text = both_pages([*WHOLE, *poor])
    assert line(text, "What else differs", "(a xs@0)")[1:3] == ["0.30", "0.90"]
    assert line(text, "", "a")[:2] == line(both_pages(WHOLE), "", "a")[:2], "it is not ranked"


def test_sizes_are_shown_apart_where_several_count() -> None:
    small = grid("a", "xs@0", "xs@1", "xs@2", kept=0.5)
    text = "\n".join(size_by_size(report_data([*WHOLE, *small], {})))
    rows = [
        [cell.strip() for cell in row.split("|")[1:-1]]
        for row in text.splitlines()
        if row.startswith(("| s ", "| xs "))
    ]
    assert [row[:3] for row in rows] == [["s", "a", "2"], ["s", "b", "2"], ["xs", "a", "3"]]
    pooled = report_data(WHOLE, {}).now.domains[0].score("quality")
    assert rows[0][3] == with_interval(pooled), "as if there were no other size"
    assert size_by_size(report_data(WHOLE, {})) == size_by_size(report_data([], {})) == []


def test_each_compared_size_is_a_situation_of_its_own_and_one_that_only_some_have_is_none() -> None:
    small = [*grid("a", "xs@0", "xs@1", kept=0.5), *grid("b", "xs@0", "xs@1", kept=0.6)]
    now = report_data([*WHOLE, *small, *grid("a", "m@0")], {}).now
    assert list(now.alone) == ["s", "xs"]
    assert {m.model for d in now.alone["xs"].domains for m in d.models} == {"xs@0", "xs@1"}
    assert [(c.a, c.b) for c in now.alone["xs"].comparisons if c.role == "quality"] == [("b", "a")]
    assert report_data(WHOLE, {}).now.alone == report_data([*WHOLE, *small[:9]], {}).now.alone == {}


def test_size_is_regressed_with_and_without_hollow_models() -> None:
    def sized(at: str, parameters: int, kept: float, u: float = 0.9) -> list[Record]:
        made = [
            r.model_copy(update={"cost": r.cost.model_copy(update={"parameters": parameters})})
            for r in ladder("a", at, kept)
            if r.cost
        ]
        return [
            r.model_copy(update={"metrics": {**r.metrics, "quality_u": u}}) if r.method == "none" else r
            for r in made
        ]

    records = [
        *sized("xs@0", 125_000, 0.5),
        *sized("s@0", 500_000, 0.7),
        *sized("m@0", 2_000_000, 0.9),
        *sized("m@1", 2_000_000, 0.8, 0.3),
    ]
    (_, text) = sizes(report_data(records, {}))
    every, solid = (row for row in text.splitlines() if row.startswith("- quality"))
    assert "(4 models, 2 degrees of freedom)" in every and "without the models whose U is below 0.5" in solid
    assert "(3 models, 1 degrees of freedom)" in solid and "+0.075 per doubling" in solid, (
        ".2 of R is .15 of C, in two doublings"
    )
    (_, text) = sizes(report_data(WHOLE, {}))
    assert text.count("no regression: 4 models, and no domain has two sizes") == 2


def test_rungs_are_means_over_models_and_their_spread() -> None:
    table = rungs(report_data(WHOLE, {}))
    assert line(table, "", "`int4`")[:2] == ["8.0x", "0.914 ± 0.020"]  # of 100 samples, .93 is .929


# ------------------------------------------------------------------------------------------------------ cells


def test_scores() -> None:
    assert with_interval(None) == "-"
    assert with_interval(Score(0.5, Estimate(0.5, None))) == "0.500", "one training seed: no interval"
    assert with_interval(Score(0.99, Estimate(0.99, 1e-4))) == "0.990 [0.970, 1.000]"


@pytest.mark.parametrize(
    ("ratio", "cells"),
    [
        (None, ["-", "-"]),
        (Ratio(9.04, 11.3, "int4"), ["9.0x", "11.3x"]),
        (Ratio(None, 4.3), ["-", "4.3x"]),
        (Ratio(29.0, None, "binary"), ["29.0x", "-"]),
        (Ratio(9.0, None, "int4", "length"), ["9.0x (samples too short)", "-"]),
    ],
)
def test_ratios(ratio: Ratio | None, cells: list[str]) -> None:
    assert ratio_cells(ratio) == cells


def test_onsets() -> None:
    assert onset_text(Onset(8.0, 7.5, math.inf)) == "8.0x [7.5x, ∞]"


def test_pairs_that_nobody_leads_are_no_other_conclusion_where_their_order_flips() -> None:
    found = [
        report_data([*grid("a", "s@0", "s@1"), *grid("b", "s@0", "s@1", kept=k)], {}).now
        for k in (0.89, 0.91)
    ]
    assert not any(now.claimed(c) for now in found for c in now.comparisons)
    assert found[0].conclusions() == found[1].conclusions()


def test_made_up_models_and_records_agree() -> None:
    """The helpers of these tests, against each other."""
    from bench.stats.ladder import models_of
    from bench.stats.scores import model_score

    (read,) = models_of(ladder("a", quality=0.9))
    a, b = (
        model_score(read, "quality", FULL_RANGE),
        model_score(model("a", quality=0.9), "quality", FULL_RANGE),
    )
    assert a is not None and b is not None and a.value == pytest.approx(b.value)


# -------------------------------------------------------------------------------------------------- tools


def test_the_best_tools_have_a_table_of_their_own() -> None:
    """Our own methods take no part in it, and a domain without tools is not named."""
    assert best_tools(report_data(WHOLE, {})) == ""
    report = ToolReport(tool="torchao", version="1", file_bytes=1000, skipped={}, deviation=0.001)
    of_tools = [
        stored(scored(name, seed, kept, 1.0, "a"), ratio).model_copy(update={"tools": [report]})
        for name, kept, ratio in (("torchao:dtype=int8", 0.9, 4.2), ("quanto:bits=4", 0.8, 6.5))
        for seed in (0, 1, 2)
    ]
    said = best_tools(report_data([*WHOLE, *of_tools], {}))
    rows = [row for row in said.splitlines() if row.startswith("| ")][1:]
    assert [row.split("|")[2].strip() for row in rows] == ["4x", "6x"]
    assert line(said, "", "a ")[1:] == ["`torchao:dtype=int8`", "4.2x", "0.900", "1.000"]
    assert "quanto:bits=4" in rows[1] and "`int8`" not in said and "| b" not in said


def test_methods_that_keep_nearly_nothing_have_no_row() -> None:
    assert "24x" not in best_methods(report_data(ladder("a", "s@0", quality=0.09), {}))
    assert "24x" in best_methods(report_data(ladder("a", "s@0", quality=0.11), {}))
