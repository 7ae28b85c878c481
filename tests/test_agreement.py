"""Kendall's tau between two evaluators, on made-up retentions and on records with secondary scores."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
from made_up import BASE, FLOOR, both_pages, ladder
from scipy import stats

from bench.records.schema import PRIMARY_METRIC, EvaluatorBlock, Items, Record
from bench.report.caveats import checks
from bench.report.cells import DASH
from bench.report.details import best_methods, in_no_average
from bench.report.headline import doubted_ratios, rungs
from bench.report.report_data import report_data
from bench.report.secondary_table import tau_text, use_table
from bench.report.small_files import Kept
from bench.report.verdict import averaged_sizes
from bench.stats.compressibility import retention_of
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, measured
from bench.stats.rank_agreement import (
    agreement,
    agreements,
    as_secondary_sees,
    interval_of,
    jackknife_variance,
    retentions,
    tau_of,
)
from bench.stats.use import UtilityCorrelation, use_by_method, utility_correlations

Table = Mapping[str, tuple[float, float]]


def table(first: Sequence[float], second: Sequence[float]) -> Table:
    return {f"m{i}": (a, b) for i, (a, b) in enumerate(zip(first, second))}


def seconded(record: Record, quality: float, diversity: float, u: float = 0.8) -> Record:
    """The record with secondary scores of these retentions.

    Floor and baseline are those of the primary evaluators.
    """
    blocks = {}
    for role, kept in zip(ROLES, (quality, diversity)):
        count = round(100 * (FLOOR + kept * (BASE - FLOOR)))
        metrics = {PRIMARY_METRIC[role]: count / 100, "retention": (count / 100 - FLOOR) / (BASE - FLOOR)}
        metrics |= {"u": u} if record.method == "none" else {}
        flags = Items.pack(np.arange(100) < count)
        blocks[f"second {role}"] = EvaluatorBlock(
            role=role, version=1, second=True, metrics=metrics, items={PRIMARY_METRIC[role]: flags}
        )
    return record.model_copy(update={"evaluators": {**record.evaluators, **blocks}})


def both(name: str, first: float, second: float, at: str = "s@0", u: float = 0.8) -> list[Record]:
    """A ladder that falls evenly from `first` (by the primary evaluators) and from `second`, in both
    roles.
    """
    made = ladder(name, at, np.linspace(first, 0, 8), np.linspace(first, 0, 8))
    kept = {r.method: s for r, s in zip(made[::3], [1.0, *np.linspace(second, 0, 8)])}
    return [seconded(r, kept[r.method], kept[r.method], u) for r in made]


# --- tau ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_of_one_model_it_is_scipys(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(0, 6, (2, 12)).astype(float)  # with ties
    assert tau_of([table(x, y)]) == pytest.approx(stats.kendalltau(x, y).statistic)


def test_the_same_order_is_1_and_the_reverse_minus_1() -> None:
    x = [0.9, 0.5, 0.3, 0.1]
    assert tau_of([table(x, [2 * v for v in x])]) == pytest.approx(1) and tau_of(
        [table(x, x[::-1])]
    ) == pytest.approx(-1)


def test_models_are_not_compared_with_each_other() -> None:
    """Both evaluators rank the methods of two models alike, but the second scores one model lower: pooled,
    tau would fall.
    """
    good, poor = table([0.9, 0.8], [0.2, 0.1]), table([0.5, 0.4], [0.9, 0.8])
    assert tau_of([good, poor]) == 1
    pooled = np.array([*good.values(), *poor.values()]).T
    assert stats.kendalltau(*pooled).statistic < 0


def test_without_any_difference_there_is_no_tau() -> None:
    assert tau_of([table([1, 1, 1], [0.1, 0.2, 0.3])]) is None and tau_of([]) is None


def test_the_jackknife_of_a_mean_is_its_usual_variance() -> None:
    x = np.random.default_rng(0).normal(size=20)
    without = [float(np.delete(x, i).mean()) for i in range(20)]
    assert jackknife_variance(without) == pytest.approx(x.var(ddof=1) / 20)
    assert jackknife_variance(without[:2]) is None


def test_its_interval_covers() -> None:
    """30 methods whose two retentions correlate by .8 (Gaussian): tau = 2/pi asin .8 = .590. 95 % of 300
    studies, within error.
    """
    rng, true, hits = np.random.default_rng(1), 2 / np.pi * np.arcsin(0.8), 0
    for _ in range(300):
        x, noise = rng.normal(size=(2, 30))
        interval = interval_of(
            agreement("d", "quality", ("a", "b"), {"s@0": table(x, 0.8 * x + 0.6 * noise)}).tau
        )
        assert interval is not None
        hits += interval[0] <= true <= interval[1]
    assert 0.92 <= hits / 300 <= 0.98


def test_full_agreement_is_not_certainty() -> None:
    """Of 3 methods and of 30: one pair more the other way round moves tau by 2/3, and by 2/435."""
    for n, step in ((3, 2 / 3), (30, 2 / 435)):
        x = np.linspace(0, 1, n)
        tau = agreement("d", "quality", ("a", "b"), {"s@0": table(x, x)}).tau
        assert tau.value == pytest.approx(1) and (interval := interval_of(tau)) is not None
        assert interval[0] == pytest.approx(1 - 1.96 * step, abs=1e-3) and interval[1] == 1


def test_pairs_that_an_evaluator_tells_apart_and_where_they_part() -> None:
    found = agreement(
        "d", "quality", ("a", "b"), {"s@0": table([1.0, 0.99, 0.5, 0.1], [0.9, 0.96, 0.1, 0.5])}
    )
    # for the second evaluator m0 and m1 are apart, too; these and m2 and m3 stand the other way round
    assert found.pairs == 6 and found.concordant == pytest.approx(4 / 6)
    assert [p.method for p in found.disagreements] == ["m2", "m3", "m0"] and found.disagreements[
        0
    ].second == 0.1


# --- from records -------------------------------------------------------------------------------------


def test_records_with_secondary_scores_make_their_own_ladder() -> None:
    records = both("d", 1.0, 0.5)
    seen = [r for record in records if (r := as_secondary_sees(record))]
    first, second = measured(records), measured(seen)
    assert first and second and second.u == pytest.approx({"quality": 0.8, "diversity": 0.8})
    for role in ROLES:
        assert first.outcomes[role].mean[0] == pytest.approx(1.0) and second.outcomes[role].mean[
            0
        ] == pytest.approx(0.5, abs=0.01)
        # flags of the second's own
        assert second.outcomes[role].influence.mean(axis=(1, 2)) == pytest.approx(np.zeros(8), abs=0.8)


def test_a_record_without_both_scores_is_left_out_and_one_that_diverged_is_zero() -> None:
    record = ladder("d")[0]
    assert as_secondary_sees(record) is None
    gone = record.model_copy(update={"status": "diverged", "evaluators": {}, "metrics": {}})
    assert (seen := as_secondary_sees(gone)) is not None and retention_of(seen, "quality") == 0


def test_agreements_count_methods_over_models_and_name_the_evaluators() -> None:
    rows = agreements([*both("d", 1.0, 0.5), *both("d", 0.9, 0.4, "s@1"), *ladder("other")])
    assert [(r.domain, r.role, r.methods) for r in rows] == [("d", "quality", 16), ("d", "diversity", 16)]
    assert rows[0].evaluators == ("quality", "second quality")
    assert rows[0].tau.value == pytest.approx(1, abs=0.05) and rows[0].concordant == 1


def test_a_model_with_secondary_scores_of_one_seed_counts_by_that_seed() -> None:
    records = both("d", 1.0, 0.5)
    half = [
        r
        if r.sample_seed == 0
        else r.model_copy(update={"evaluators": {n: b for n, b in r.evaluators.items() if not b.second}})
        for r in records
    ]
    found = retentions(
        half,
        (
            lambda r: retention_of(r, "quality"),
            lambda r: next(
                (
                    b.metrics.get("retention")
                    for b in r.evaluators.values()
                    if b.second and b.role == "quality"
                ),
                None,
            ),
        ),
    )
    assert len(found) == 8 and found["int8"] == pytest.approx((1.0, 0.5), abs=0.01)


def test_the_leaderboard_has_the_section_only_where_secondary_evaluators_were_used() -> None:
    plain = [r for name in ("a", "b") for r in ladder(name)]
    assert "Do other evaluators agree?" not in both_pages(plain)
    text = both_pages([r for name in ("a", "b") for r in both(name, 1.0, 0.5)])
    assert text.count("## Do other evaluators agree?") == 1 and "quality, second quality" in text
    assert "A difference is claimed only if the secondary evaluators show it too." in text


def test_a_model_counts_for_the_secondary_evaluators_once_its_whole_ladder_is_scored() -> None:
    """They think less of the second model: a part of its ladder, or none, may not pass for all of it."""
    full = [
        r
        for name in ("a", "b")
        for model, kept in (("s@0", 0.5), ("s@1", 0.3), ("s@2", 0.4))
        for r in both(name, 1.0, kept, model)
    ]

    def without(left_out: Callable[[Record], bool]) -> str:
        unseen = lambda r: r.model_copy(
            update={"evaluators": {n: b for n, b in r.evaluators.items() if not b.second}}
        )
        text = both_pages([unseen(r) if r.domain == "a" and left_out(r) else r for r in full])
        rows = text[text.index("Scores by the secondary evaluators") :].splitlines()
        return next(row for row in rows if row.startswith("| a "))

    assert " 3 |" in without(lambda r: False)
    some = without(lambda r: r.model == "s@1" and r.method == "int3" and r.sample_seed == 1)
    assert " 2 of 3 |" in some and some == without(lambda r: r.model == "s@1") != without(lambda r: False)


def test_a_model_with_a_low_secondary_u_does_not_count_for_the_secondary_evaluators() -> None:
    """Their U of one model of `a` is .3: 2 of its 3 models are left, and with U from .25 all are."""
    poor = lambda name, model: 0.3 if (name, model) == ("a", "s@1") else 0.8
    full = [
        r
        for name in ("a", "b")
        for model in ("s@0", "s@1", "s@2")
        for r in both(name, 1.0, 1.0, model, poor(name, model))
    ]
    found = report_data(full, {})
    models = [{d.name: len(d.units) for d in one.second_domains} for one in (found.now, found.wider)]
    assert models == [{"a": 2, "b": 3}, {"a": 3, "b": 3}]


def test_secondary_means_average_the_sizes_of_the_primary_ones() -> None:
    """One small model has too little to lose by them: its seed is left out for them, and not the size
    everywhere.
    """
    poor = lambda name, model: 0.3 if (name, model) == ("a", "xs@1") else 0.8
    names = [f"{size}@{seed}" for size in ("s", "xs") for seed in range(3)]
    full = [
        r for name in ("a", "b") for model in names for r in both(name, 1.0, 1.0, model, poor(name, model))
    ]
    now = report_data(full, {}).now
    assert {d.name: [[m.model for m in unit] for unit in d.units] for d in now.second_domains} == {
        "a": [["s@0", "xs@0"], ["s@2", "xs@2"]],
        "b": [["s@0", "xs@0"], ["s@1", "xs@1"], ["s@2", "xs@2"]],
    }


def test_conclusions_are_the_same_only_where_the_secondary_evaluators_agree() -> None:
    """All models count by the primary evaluators.

    From U = .25 one more counts by the secondary ones, and then they agree.
    """
    kept = {"a": (0.90, 0.92, 0.91), "b": (0.5, 0.52, 0.51)}
    poor = lambda name, model: 0.3 if name == "a" and model != "s@0" else 0.8
    full = [
        r
        for name, values in kept.items()
        for i, v in enumerate(values)
        for r in both(name, v, v, f"s@{i}", poor(name, f"s@{i}"))
    ]
    text = both_pages(full)
    assert "the conclusions are the same" not in text
    assert "With a threshold of U = 0.25 the conclusion is: **a is more compressible" in text


def test_a_size_without_secondary_scores_shows_nothing_alone() -> None:
    seeds = (("@0", 0.5), ("@1", 0.52), ("@2", 0.51))
    has_secondary = [
        r
        for name, gain in (("a", 0.4), ("b", 0.0))
        for at, kept in seeds
        for r in both(name, kept + gain, kept + gain, f"s{at}")
    ]
    once = [
        r.model_copy(update={"model": f"x{r.model}", "evaluators": _first_only(r)}) for r in has_secondary
    ]
    alone = report_data([*has_secondary, *once], {}).now.alone
    claims = {size: [c.role for c in one.comparisons if one.claimed(c)] for size, one in alone.items()}
    assert claims == {"s": ["quality", "diversity"], "xs": []} and alone["xs"].second == {}


def test_a_size_that_some_domains_have_is_compared_alone_and_changes_no_average() -> None:
    """Of three domains two have a size m, and one a size l: there is nothing to compare of l."""
    kept = {"a": 0.9, "b": 0.5, "c": 0.7}
    small = [r for name, v in kept.items() for i in range(3) for r in both(name, v + i / 100, v, f"s@{i}")]
    turned = {"a": 0.5, "b": 0.9}
    large = [r for name, v in turned.items() for i in range(3) for r in both(name, v + i / 100, v, f"m@{i}")]
    largest = [r for i in range(3) for r in both("c", 0.1, 0.1, f"l@{i}")]
    found = report_data([*small, *large, *largest], {})
    without = report_data(small, {})
    assert found.now.conclusions() == without.now.conclusions()
    assert [*found.now.outside] == ["m"] and not found.now.alone and not without.now.outside
    (said,) = (c for c in found.now.outside["m"].conclusions() if c[0] == "quality")
    assert said == ("quality", "b", "a", True)
    together = found.now.including["m"]
    assert [d.name for d in together.domains] == ["a", "b"] and averaged_sizes(together) == ["m", "s"]
    assert all(abs(c.difference.value) < 1e-9 for c in together.comparisons if c.role == "quality")
    assert "| m       | b - a  | quality   |" in in_no_average(found)
    assert "| m and s | a - b  | quality   |" in in_no_average(found)
    assert in_no_average(without) == ""


def test_a_size_that_lacks_a_training_seed_enters_no_average() -> None:
    """Not even that of the domains that have it."""
    kept = {"a": 0.9, "b": 0.5, "c": 0.7}
    small = [r for name, v in kept.items() for i in range(3) for r in both(name, v + i / 100, v, f"s@{i}")]
    networks = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    large = [r for name, i in networks for r in both(name, 0.5 + i / 100, 0.5, f"m@{i}")]
    now = report_data([*small, *large], {}).now
    assert [*now.outside] == ["m"] and not now.including
    four = [("a", i) for i in range(4)] + [("b", i) for i in range(4)]
    large = [r for name, i in four for r in both(name, 0.5 + i / 100, 0.5, f"m@{i}")]
    assert not report_data([*small, *large], {}).now.including, "the small size lacks the fourth"


def test_ratios_and_rungs_that_the_secondary_evaluators_doubt_are_named() -> None:
    """By the primary evaluators `a` keeps all of `int6` and `int5`; by the secondary ones hardly any."""
    steps = {"a": [1.0, 0.95, 0.1, 0.1, 0, 0, 0, 0], "b": [1.0, 1.0, 1.0, 0.5, 0.2, 0, 0, 0]}
    records = []
    for name, at in itertools.product("ab", ("s@0", "s@1", "s@2")):
        made = ladder(name, at, steps["b"], 1.0)
        kept = dict(zip((r.method for r in made[::3]), [1.0, *steps[name]]))
        records += [seconded(r, kept[r.method], 1.0) for r in made]
    found = report_data(records, {})
    smaller = r"The secondary evaluators show a smaller ratio for a quality \(.+ in place of .+\)\."
    assert re.fullmatch(smaller, doubted_ratios(found))
    assert "0.2 less: a quality 0.100 at `int5` and 0.100 at `int4`." in rungs(found)


def test_means_over_different_models_are_not_compared() -> None:
    """The secondary evaluators agree on the one model that they scored, the worst of three."""
    records = []
    for name, (at, kept) in itertools.product("ab", (("s@0", 1.0), ("s@1", 1.0), ("s@2", 0.3))):
        made = both(name, kept, kept, at)
        records += (
            made if at == "s@2" else [r.model_copy(update={"evaluators": _first_only(r)}) for r in made]
        )
    found = report_data(records, {})
    assert [len(d.averaged) for d in found.now.second_domains] == [1, 1]
    assert doubted_ratios(found) == "" and "secondary" not in rungs(found)
    assert "evaluator matters" not in checks(found.now, found.wider)


def test_a_secondary_retention_that_is_undefined_is_not_zero() -> None:
    """The baseline is too close to the floor of the secondary evaluators."""
    block = EvaluatorBlock(role="quality", version=1, second=True, metrics={"valid": 0.1}, items={})
    record = both("a", 1.0, 1.0)[3]
    record = record.model_copy(update={"evaluators": {**record.evaluators, "second quality": block}})
    assert set(Kept(8.0, {}, [record]).secondary()) == {"diversity"}


def _first_only(record: Record) -> dict[str, EvaluatorBlock]:
    return {name: block for name, block in record.evaluators.items() if not block.second}


# --- what samples are good for ------------------------------------------------------------------------


def useful(records: Sequence[Record], kept: Sequence[float], error: float = 0.01) -> list[Record]:
    """The records with a task's retention: of the baseline 1, then of the rungs."""
    by_method = dict(zip(dict.fromkeys(r.method for r in records), [1.0, *kept]))

    def block(r: Record) -> EvaluatorBlock:
        metrics = {"utility": 0.5, "retention": by_method[r.method] + 0.01 * r.sample_seed, "error": error}
        return EvaluatorBlock(role="use", version=1, second=True, metrics=metrics, items={})

    return [r.model_copy(update={"evaluators": {**r.evaluators, "task": block(r)}}) for r in records]


def test_use_by_method_has_the_items_error_whatever_the_seeds() -> None:
    found = use_by_method(useful(ladder("d"), np.linspace(1, 0, 8), error=0.03))
    assert found["int8"].value == pytest.approx(1.01) and len(found) == 8
    assert found["int8"].known == pytest.approx(0.03**2)  # not a third of it
    assert found["int8"].variance == pytest.approx(0.01**2 / 3) and found["int8"].df == 16
    interval = found["int8"].interval()
    assert interval and interval[1] - interval[0] > 2 * 1.96 * 0.03


def test_what_foretells_use() -> None:
    """Quality falls as use does, diversity the other way round."""
    records = useful(
        ladder("d", quality=np.linspace(1, 0, 8), diversity=np.linspace(0, 1, 8)), np.linspace(1, 0, 8)
    )
    found = {one.role: one for one in utility_correlations(records)}
    assert found["quality"].tau.value == pytest.approx(1) and found["diversity"].tau.value == pytest.approx(
        -1
    )
    assert found["quality"].task == "task" and found["quality"].methods == 8
    assert utility_correlations(ladder("d")) == []


def test_a_role_without_retentions_and_a_tie_of_all_methods_have_no_figure() -> None:
    """A baseline at the floor leaves one role undefined.

    An evaluator that scores all methods alike ranks nothing.
    """
    tau = Estimate(0.5, 0.01, 7)
    only = UtilityCorrelation("d", "classifier", "diversity", 8, tau)
    (row,) = (line for line in use_table([only]).splitlines() if line.startswith("| d "))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "d",
        "classifier",
        "8",
        DASH,
        tau_text(tau),
    ]
    assert tau_text(Estimate(math.nan, None)) == DASH


def test_the_third_table_shows_use_with_its_interval() -> None:
    records = [r for name in ("a", "b") for r in ladder(name, quality=np.linspace(1, 0.5, 8))]
    assert all(
        line.split("|")[-2].strip() in ("use ↑", "-") or ":" in line
        for line in best_methods(report_data(records, {})).splitlines()
    )
    (line, *_) = [
        line
        for line in best_methods(report_data(useful(records, np.linspace(1, 0.9, 8)), {})).splitlines()
        if "`int8`" in line
    ]
    assert re.search(r"1\.015 \[0\.9\d\d, 1\.0\d\d\] \|$", line)
