"""C with intervals, which models are compared, ratios that are shown to keep enough, and differences
between domains.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import RATES, domain, ladder, model

from bench.methods.notation import LADDER
from bench.stats.comparison import compare, ratio_at
from bench.stats.compressibility import FULL_RANGE, HIGH_RANGE, score
from bench.stats.domain import Domain, domains_of
from bench.stats.intervals import Estimate
from bench.stats.ladder import ModelLadder, Outcome, models_of
from bench.stats.scores import Score, good_enough, model_score, quadrature

MONOTONE = st.lists(st.floats(0, 1), min_size=8, max_size=8).map(lambda kept: sorted(kept, reverse=True))
ACROSS = (
    st.lists(st.floats(0.05, 1.5), min_size=8, max_size=8)
    .filter(lambda steps: sum(steps) >= 4)
    .map(lambda s: np.cumsum(s).tolist())
)


# -------------------------------------------------------------------------------------------------- one model


@settings(derandomize=True, deadline=None, max_examples=60)
@given(MONOTONE, ACROSS)
def test_of_a_curve_that_only_falls_the_plain_integral_is_c(kept: list[float], rates: list[float]) -> None:
    for span in (FULL_RANGE, HIGH_RANGE):
        constant, weights = quadrature(rates, span)
        assert constant + weights @ kept == pytest.approx(score(rates, kept, span))
        assert constant + weights.sum() == pytest.approx(1.0), "of a curve that stays at 1"


def test_the_weights_by_hand() -> None:
    """Rungs at 2 and 4: a triangle of area 1 at the start, 2 in the middle, 1 at the end, of 4; over [2,
    4] one half each.
    """
    constant, weights = quadrature([2.0, 4.0])
    assert (constant, *weights) == pytest.approx((0.25, 0.5, 0.25))
    constant, weights = quadrature([2.0, 4.0], HIGH_RANGE)
    assert (constant, *weights) == pytest.approx((0.0, 0.5, 0.5))


def test_the_weights_do_not_depend_on_the_order_of_the_rungs() -> None:
    """A file of a later rung may be the larger one; the curve goes by size."""
    kept = np.array([0.9, 0.2, 0.5])
    constant, weights = quadrature([2.0, 4.5, 3.0])
    assert constant + weights @ kept == pytest.approx(score([2.0, 3.0, 4.5], [0.9, 0.5, 0.2]))


@pytest.mark.parametrize("rates", [[1.0, 3.9], [2.0, math.nan]])
def test_rungs_that_do_not_reach_the_end_have_no_integral(rates: list[float]) -> None:
    with pytest.raises(ValueError, match="times smaller: the span ends at 2\\^4"):
        quadrature(rates)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.floats(0, 1), st.floats(-0.5, 1.5), st.floats(0, 1))
def test_an_interval_of_a_score_holds_its_value_and_stays_between_0_and_1(
    value: float, middle: float, spread: float
) -> None:
    low, high = Score(value, Estimate(middle, spread**2, 2)).interval() or (9, 9)
    assert 0 <= low <= value <= high <= 1


def test_a_score_without_variance_has_no_interval() -> None:
    assert Score(0.5, Estimate(0.5, None)).interval() is None


def test_a_models_score_is_c_and_its_interval_lies_round_it() -> None:
    kept = [1.0, 0.98, 0.95, 0.8, 0.4, 0.1, 0.0, 0.0]
    found = model_score(model("d", quality=kept), "quality")
    assert (
        found is not None
        and found.value == pytest.approx(score(RATES, kept))
        and found.estimate.value == pytest.approx(found.value)
    )
    low, high = found.interval() or (0, 0)
    assert low < found.value < high < low + 0.02


def test_above_one_is_not_clipped_away_in_the_middle_of_the_interval() -> None:
    """Noise about 1 must not push the estimate down; below 0 there is nothing to lose."""
    noisy = [1.02, 0.98, 1.02, 0.98, 1.0, 0.0, -0.1, -0.2]
    found = model_score(model("d", quality=noisy), "quality")
    constant, weights = quadrature(RATES)
    assert found is not None and found.estimate.value == pytest.approx(
        constant + weights @ np.maximum(noisy, 0)
    )


def test_no_score_without_a_whole_ladder_or_without_the_end() -> None:
    assert model_score(model("d", missing=["int4"]), "quality") is None
    assert model_score(model("d", rates=[rate * 0.8 for rate in RATES]), "quality") is None
    assert model_score(model("d", rates=[*RATES[:7], math.nan]), "quality") is None
    assert model_score(model("d", rates=[*RATES[:6], 4.8, 3.95]), "quality") is not None, (
        "another rung than the last reaches it"
    )


# ----------------------------------------------------------------------------------------- which are compared


def names(found: Domain) -> list[list[str]]:
    return [[m.model for m in unit] for unit in found.units]


def grid(domain: str, *models: str, quality: float = 1.0, u: float = 0.9) -> list[ModelLadder]:
    return [model(domain, name, quality, u=u) for name in models]


def test_sizes_that_all_domains_have_for_every_training_seed_are_compared() -> None:
    a, b = domains_of(
        [
            *grid("a", "s@0", "s@1", "xs@0", "xs@1", "m@0"),
            *grid("b", "s@0", "s@1", "s@2", "xs@0", "xs@1", "xs@2", "m@0"),
        ]
    )
    assert names(a) == [["s@0", "xs@0"], ["s@1", "xs@1"]]
    assert names(b) == [["s@0", "xs@0"], ["s@1", "xs@1"], ["s@2", "xs@2"]], (
        "m has one training seed: not in the mean"
    )
    assert len(a.models) == 5, "and still in the tables"


@pytest.mark.parametrize("lacking", [["xs@2"], ["xs@0", "xs@1"], []])
def test_a_size_that_would_cost_a_training_seed_stays_out(lacking: list[str]) -> None:
    whole = ["s@0", "s@1", "s@2", "xs@0", "xs@1", "xs@2"]
    a, b = domains_of([*grid("a", *(name for name in whole if name not in lacking)), *grid("b", *whole)])
    alone = [["s@0"], ["s@1"], ["s@2"]]
    both = [["s@0", "xs@0"], ["s@1", "xs@1"], ["s@2", "xs@2"]]
    assert names(a) == names(b) == (alone if lacking else both)


def test_a_training_seed_more_of_another_size_waits_for_its_partner() -> None:
    (a,) = domains_of(grid("a", "s@0", "s@1", "xs@0", "xs@1", "xs@2", "xxs@0"))
    assert names(a) == [["xs@0"], ["xs@1"], ["xs@2"]], "the commonest size"


def test_a_size_that_one_domain_lacks_is_compared_in_none() -> None:
    a, b = domains_of([*grid("a", "s@0", "s@1", "xs@0", "xs@1"), *grid("b", "s@0", "s@1")])
    assert names(a) == names(b) == [["s@0"], ["s@1"]]


def test_one_model_each_is_compared_as_far_as_it_goes() -> None:
    a, b = domains_of([*grid("a", "s@0", "s@1"), *grid("b", "s@0")])
    assert (names(a), names(b)) == ([["s@0"], ["s@1"]], [["s@0"]])
    alone = b.score("quality")
    assert alone is not None and alone.interval() is None, "one training seed says nothing of others"


@pytest.mark.parametrize(
    ("u", "threshold", "counts"),
    [(0.49, 0.5, False), (0.5, 0.5, True), (0.25, 0.25, True), (0.24, 0.25, False)],
)
def test_thresholds_of_usable_quality_and_diversity(u: float, threshold: float, counts: bool) -> None:
    m = model("a", u=u)
    one_role = replace(m, u={"quality": 0.9, "diversity": u})
    assert good_enough(m, threshold) is good_enough(one_role, threshold) is counts
    assert not good_enough(replace(m, u={"quality": 0.9}), threshold), "what is not known does not count"
    (a,) = domains_of([m], threshold)
    assert bool(a.units) is counts


def test_models_below_the_threshold_and_broken_ladders_stay_out_of_the_mean() -> None:
    (a,) = domains_of(
        [*grid("a", "s@0", "s@1"), *grid("a", "s@2", u=0.3, quality=0.1), model("a", "s@3", missing=["int8"])]
    )
    found = a.score("quality")
    assert names(a) == [["s@0"], ["s@1"]] and found is not None and found.value == pytest.approx(1.0)


def test_a_domain_where_nothing_counts_has_no_score_and_spoils_no_other() -> None:
    a, b = domains_of([*grid("a", "s@0", "s@1"), *grid("b", "s@0", u=0.1)])
    assert a.score("quality") is not None and not b.units
    assert (
        b.score("quality")
        is b.retention("quality", "int8")
        is b.rate("int8")
        is ratio_at(b, "quality", 0.9)
        is None
    )
    assert domains_of([]) == []


def test_names_without_a_seed_are_a_size_of_their_own() -> None:
    (a,) = domains_of([model("a", "own")])
    assert names(a) == [["own"]] and a.score("quality") is not None


# ------------------------------------------------------------------------------------------------- one domain


def test_a_domains_score_is_the_mean_over_seeds_of_the_means_over_sizes() -> None:
    kept = {"s@0": 0.9, "xs@0": 0.7, "s@1": 0.8, "xs@1": 0.2}
    (a,) = domains_of([model("a", name, quality=value) for name, value in kept.items()])
    found, each = a.score("quality"), {name: score(RATES, [value] * 8) or 0 for name, value in kept.items()}
    units = [(each["s@0"] + each["xs@0"]) / 2, (each["s@1"] + each["xs@1"]) / 2]
    assert found is not None and found.value == pytest.approx(sum(units) / 2)
    paired = replace(a, paired=True).score("quality")
    assert paired is not None and paired.estimate.df == 1, "one of two pairs, however many models"
    assert paired.value == found.value
    assert paired.estimate.variance == pytest.approx((units[0] - units[1]) ** 2 / 4)
    within = [(each[f"{size}@0"] - each[f"{size}@1"]) ** 2 / 4 for size in ("s", "xs")]
    assert found.estimate.variance == pytest.approx(sum(within) / 4)
    assert found.estimate.df == pytest.approx(sum(within) ** 2 / sum(v**2 for v in within)), (
        "Satterthwaite, of one degree of freedom each"
    )


def test_models_that_agree_at_a_rung_have_the_degrees_of_freedom_of_their_scores() -> None:
    """Both are dead at int2; a shift of the curve, which their scores tell of, may move that, and is known
    from two networks alone.
    """
    curves = [1, 1, 1, 1, 0.8, 0, 0, 0], [1, 1, 1, 1, 0.4, 0, 0, 0]
    (a,) = domains_of([model("a", f"s@{i}", quality=np.array(kept)) for i, kept in enumerate(curves)])
    found = a.retention("quality", LADDER[5])
    assert (
        found is not None
        and found.value == 0
        and found.df == 1
        and found.variance is not None
        and found.variance > 1e-3
    )


def test_retention_of_one_model_is_its_own_and_of_several_theirs() -> None:
    alone, both = (
        domain("a", {"quality": [0.9], "diversity": [0.9]}),
        domain("a", {"quality": [0.9, 0.7], "diversity": [0.9, 0.7]}),
    )
    one, two = alone.retention("quality", "int4"), both.retention("quality", "int4")
    assert one is not None and one.value == pytest.approx(0.9) and (one.interval() or (0,))[0] > 0.89, (
        "over its seeds and samples"
    )
    assert (
        two is not None
        and two.value == pytest.approx(0.8)
        and two.df == 1
        and two.variance == pytest.approx(0.01)
    )
    assert both.rate("int4") == pytest.approx(RATES[3])


def shared_and_own(kept: np.ndarray, own: float, crossed: bool, items: int = 400) -> Domain:
    """Models whose items' influence is the same pattern, plus one of its own, orthogonal to it and to the
    others'.
    """
    patterns = [
        np.tile(np.repeat([1.0, -1.0], times), items // (2 * times))
        for times in (1, 4, 2, 8, 16)[: 1 + len(kept)]
    ]
    made = []
    for i, value in enumerate(kept):
        influence = np.tile(patterns[0] + own * patterns[1 + i], (8, 1, 1))
        outcome = Outcome(np.full((8, 1), value), influence, crossed)
        made.append(replace(model("a", f"s@{i}"), outcomes={"quality": outcome, "diversity": outcome}))
    return Domain("a", tuple(made), tuple((m,) for m in made))


def test_the_error_of_shared_real_samples_does_not_average_out() -> None:
    """Shared variance 1 / n, own 4 / n: of the mean of two models (1 + 4 / 2) / n, of which the models'
    spread shows the second part.
    """
    n = 400
    found = shared_and_own(np.array([0.5, 0.5]), 2.0, crossed=True).retention("diversity", "int4")
    assert found is not None and found.variance == pytest.approx(0.0)
    assert found.known == pytest.approx(1 / n, rel=0.01)
    assert found.inside == pytest.approx(4 / 2 / n, rel=0.01), "and agreeing by chance makes it no smaller"
    apart = shared_and_own(np.array([0.5, 0.5]), 2.0, crossed=False).retention("quality", "int4")
    assert apart is not None and apart.known == 0.0 and apart.inside == pytest.approx(5 / 2 / n, rel=0.01)


def test_what_models_have_in_common_is_taken_from_what_is_inside_once_whatever_the_units() -> None:
    """Two training seeds of two sizes are four models: of their mean 4 / 4 / n is not shared, with
    networks paired or not.
    """
    n = 320
    models = shared_and_own(np.full(4, 0.5), 2.0, True, n).models
    for paired in (False, True):
        found = Domain("a", models, (models[:2], models[2:]), paired=paired).retention("diversity", "int4")
        assert (
            found is not None
            and found.known == pytest.approx(1 / n, rel=0.01)
            and found.inside == pytest.approx(4 / 4 / n, rel=0.01)
        )


def test_other_numbers_of_samples_share_no_items() -> None:
    a, b = (shared_and_own(np.array([0.5, 0.5]), 2.0, True, items).models[0] for items in (400, 800))
    found = Domain("a", (a, b), ((a,), (b,))).retention("diversity", "int4")
    assert found is not None and found.known == 0.0


# --------------------------------------------------------------------------------------- ratio at a retention

FALLING = (1.0, 0.99, 0.97, 0.93, 0.80, 0.5, 0.2, 0.0)


def test_the_largest_ratio_that_is_shown_to_keep_enough() -> None:
    found = ratio_at(domain("a", {"quality": [FALLING], "diversity": [FALLING]}), "quality", 0.9)
    assert found is not None and (found.rung, found.stopped_by) == ("int4", "interval")
    assert found.certified == pytest.approx(2 ** RATES[3]) and found.refuted == pytest.approx(2 ** RATES[4])
    stricter = ratio_at(domain("a", {"quality": [FALLING], "diversity": [FALLING]}), "quality", 0.95)
    assert (
        stricter is not None and stricter.rung == "int5" and stricter.refuted == pytest.approx(2 ** RATES[3])
    )


def test_a_rung_behind_one_that_failed_is_not_certified() -> None:
    dip = (1.0, 0.7, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    found = ratio_at(domain("a", {"quality": [dip], "diversity": [dip]}), "quality", 0.9)
    assert found is not None and found.rung == "int8"
    assert found.refuted is None, (
        "tests for a loss run from the harshest rung, in their own fixed order: one of eight is no test "
        "at 5 %"
    )


def test_two_models_that_differ_certify_nothing_and_refute_nothing() -> None:
    """Mean .95, standard error .05, one degree of freedom: the one-sided bounds are .95 ± 6.31 * .05."""
    found = ratio_at(domain("a", {"quality": [1.0, 0.9], "diversity": [1.0, 0.9]}), "quality", 0.9)
    assert found is not None and (found.certified, found.refuted, found.rung) == (None, None, None)
    agreed = ratio_at(domain("a", {"quality": [0.95, 0.95], "diversity": [1.0, 1.0]}), "quality", 0.9)
    assert agreed is not None and agreed.rung == LADDER[-1] and agreed.refuted is None


def test_samples_that_get_short_end_it() -> None:
    lengths = [1.0, 0.95, 0.9, 0.89, 1.0, 1.0, 1.0, 1.0]
    m = model("a", lengths=lengths)
    found = ratio_at(Domain("a", (m,), ((m,),)), "quality", 0.9)
    assert found is not None and (found.rung, found.stopped_by) == ("int5", "length")
    falling = model("a", quality=FALLING, lengths=[1.0] * 7 + [0.1])
    found = ratio_at(Domain("a", (falling,), ((falling,),)), "quality", 0.9)
    assert found is not None and (found.rung, found.stopped_by) == ("int4", "interval"), "it had ended before"


# -------------------------------------------------------------------------------------------- between domains


def three() -> list[Domain]:
    return [
        domain("low", {"quality": [0.30, 0.31, 0.32], "diversity": [0.5, 0.7, 0.9]}),
        domain("high", {"quality": [0.90, 0.91, 0.92], "diversity": [0.6, 0.7, 0.9]}),
        domain("middle", {"quality": [0.60, 0.61, 0.62], "diversity": [0.7, 0.7, 0.9]}),
    ]


def test_every_pair_in_both_roles_the_larger_first() -> None:
    found = compare(three())
    assert [(c.a, c.b) for c in found if c.role == "quality"] == [
        ("high", "middle"),
        ("high", "low"),
        ("middle", "low"),
    ]
    assert len(found) == 6 and all(c.difference is not None and c.difference.value >= 0 for c in found)
    assert [c.shown for c in found] == [True] * 3 + [False] * 3


def test_all_comparisons_are_adjusted_together() -> None:
    """Three strong ones: the strictest gets six times its own p; both roles count, since both are claimed
    from.
    """
    found = compare(three())
    raw = sorted((c.difference.p, c.p) for c in found if c.difference is not None)
    assert raw[0][1] == pytest.approx(6 * raw[0][0])
    assert [adjusted for _, adjusted in raw] == sorted(adjusted or 0 for _, adjusted in raw)
    pair = [c for c in compare(three()[:2]) if c.role == "quality"]
    assert pair[0].p == pytest.approx(2 * pair[0].difference.p if pair[0].difference else None)


def test_one_training_seed_is_not_tested_and_still_counts_among_the_comparisons() -> None:
    """Otherwise a claim could be made while the other tests wait for their models, and fall when they
    come.
    """
    alone = domain("alone", {"quality": [0.1], "diversity": [0.1]})
    found = compare([*three()[:2], alone])
    assert all(c.difference is None and c.p is None and not c.shown for c in found if "alone" in (c.a, c.b))
    tested = [c for c in found if c.difference is not None]
    raw = sorted((c.difference.p, c.p) for c in tested if c.difference is not None)
    assert len(tested) == 2 and len(found) == 6 and raw[0][1] == pytest.approx(min(1.0, 6 * raw[0][0]))


def test_where_clipped_and_plain_integral_disagree_nothing_is_claimed() -> None:
    """C is clipped at 1.

    Unclipped, the order may be another: then neither is shown to be larger, and the interval holds both.
    """
    above = domain(
        "above", {"quality": [[1.4, 1.4, 1.4, 1.4, 1.0, 0.0, 0.0, 0.0]] * 2, "diversity": [1.0] * 2}
    )
    up = domain("up", {"quality": [[1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.0, 0.0]] * 2, "diversity": [1.0] * 2})
    (a, b) = (d.score("quality") for d in (above, up))
    assert a is not None and b is not None and a.value < b.value and a.estimate.value > b.estimate.value
    (c,) = [c for c in compare([above, up]) if c.role == "quality"]
    assert c.a == "up" and c.difference is not None and not c.shown and c.difference.p == 1.0
    assert (
        c.difference.value == pytest.approx(b.value - a.value)
        and c.difference.low < b.estimate.value - a.estimate.value < 0 < c.difference.high
    )


def test_a_domain_of_other_sizes_has_a_score_and_costs_the_others_nothing() -> None:
    a, b, c = domains_of([*grid("a", "s@0", "s@1"), *grid("b", "s@0", "s@1"), model("c", "somebody/model")])
    assert (a.compared, b.compared, c.compared) == (True, True, False)
    assert len(a.units) == len(b.units) == 2 and len(c.units) == 1 and c.score("quality") is not None
    assert {name for row in compare([a, b, c]) for name in (row.a, row.b)} == {"a", "b"}


def test_a_model_that_does_not_reach_16x_is_out_and_the_others_go_on() -> None:
    short = dataclasses.replace(model("a", "s@2"), rates=np.minimum(RATES, 3.9))
    (a,) = domains_of([*grid("a", "s@0", "s@1"), short])
    assert [unit[0].model for unit in a.units] == ["s@0", "s@1"] and a.score("quality") is not None


def test_from_records_to_a_comparison() -> None:
    records = [
        r
        for d, kept in (("good", 0.9), ("bad", 0.4))
        for k in range(2)
        for r in ladder(d, f"s@{k}", quality=kept + 0.03 * k)
    ]
    found = compare(domains_of(models_of(records)))
    (quality,) = [c for c in found if c.role == "quality"]
    assert (quality.a, quality.b) == ("good", "bad") and quality.difference is not None
    assert quality.difference.value == pytest.approx(0.5 * 0.75, abs=0.01)  # 3/4 of the weights lie on rungs


def test_models_that_agree_beside_a_cliff_are_not_surer_than_their_scores() -> None:
    """Both keep .95 at int4, one loses all at int3 and the other nothing: a shift of the curve, which int4
    alone does not show.
    """
    near, far = ([1.0, 1.0, 1.0, 0.95, after, 0.0, 0.0, 0.0] for after in (0.0, 0.9))
    one = domain("a", {"quality": [near, far], "diversity": [near, far]})
    at_cliff, on_plateau = one.retention("quality", "int4"), one.retention("quality", "int8")
    assert (
        at_cliff is not None
        and on_plateau is not None
        and at_cliff.variance is not None
        and on_plateau.variance is not None
    )
    shift = (
        4
        * abs(np.diff([score.estimate.value for m in one.models if (score := model_score(m, "quality"))])[0])
        / math.sqrt(2)
    )
    slope = (abs(0.95 - 1.0) / (RATES[3] - RATES[2]) + abs(0.45 - 0.95) / (RATES[4] - RATES[3])) / 2
    assert at_cliff.variance == pytest.approx((shift * slope) ** 2 / 2, rel=0.05)
    assert on_plateau.variance < 1e-4
