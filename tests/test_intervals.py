"""Intervals and tests: Student's, Welch's, Holm's, against other implementations, closed forms and hand
computations.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats.intervals import (
    Estimate,
    equal,
    fixed_sequence,
    holm,
    item_covariance,
    mean_of,
    mean_of_strata,
    quantile,
    seed_variance,
    shared_variance,
    welch,
)

# --------------------------------------------------------------------------------------------------- one mean


def test_quantiles_are_those_of_the_tables() -> None:
    """Student's t at 0.975: closed forms for one and two degrees of freedom, and the normal distribution
    at infinity.
    """
    assert quantile(0.975, 1) == pytest.approx(math.tan(math.pi * 0.475))  # Cauchy: 12.706
    assert quantile(0.975, 2) == pytest.approx(0.95 * math.sqrt(2 / (1 - 0.95**2)))  # 4.303
    assert quantile(0.975, math.inf) == pytest.approx(1.959964, abs=1e-6)


def test_the_interval_of_a_mean_is_students() -> None:
    """1, 2, 3: mean 2, variance 1/3 of the mean, two degrees of freedom: 2 ± 4.303 * 0.577."""
    from scipy.stats import t

    low, high = mean_of([1.0, 2.0, 3.0]).interval() or (0, 0)
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)
    assert (low, high) == pytest.approx(t.interval(0.95, 2, 2, 1 / math.sqrt(3)))


def test_two_strata_are_welchs_problem() -> None:
    """(mean a + mean b) / 2 is half the difference of a and -b."""
    a, b = [0.7, 0.8, 0.75], [0.2, 0.5, 0.4]
    found = mean_of_strata([a, b])
    other = welch(mean_of(a), mean_of([-x for x in b]))
    assert other is not None and found.value == pytest.approx(other.value / 2)
    assert found.interval() == pytest.approx((other.low / 2, other.high / 2))
    assert mean_of_strata([a]) == mean_of(a), "one stratum"
    assert mean_of_strata([a, [0.5]]).interval() is None, "of a single value nobody knows"
    assert mean_of_strata([[0.5, 0.5], [0.1, 0.1]]).interval() == pytest.approx((0.3, 0.3))


def test_intervals_over_strata_cover() -> None:
    """Two sizes of three training seeds, unequal spreads: 4,000 studies, .95 wanted; 4 standard errors are
    .014.
    """
    rng = np.random.default_rng(3)
    draws = rng.standard_normal((4000, 2, 3)) * np.array([[0.01], [0.03]]) + np.array([[0.8], [0.7]])
    intervals = [mean_of_strata(study.tolist()).interval() or (1, 0) for study in draws]
    assert np.mean([low <= 0.75 <= high for low, high in intervals]) > 0.95 - 0.014


def test_one_sided_bounds_are_the_ends_of_the_ninety_percent_interval() -> None:
    estimate = mean_of([0.2, 0.5, 0.6, 0.9])
    assert (estimate.lower(), estimate.upper()) == pytest.approx(estimate.interval(0.9))


def test_one_value_has_no_interval() -> None:
    alone = mean_of([0.7])
    assert alone.value == 0.7
    assert alone.interval() is alone.lower() is alone.upper() is None


def test_identical_values_are_no_more_certain_than_what_they_are_made_of() -> None:
    assert mean_of([0.5, 0.5, 0.5]).interval() == (0.5, 0.5), "nothing is known inside"
    assert mean_of([0.5, 0.5, 0.5], inside=0.01).half_width(0.975) == pytest.approx(1.959964 * 0.1)
    assert mean_of([0.4, 0.5, 0.6], inside=1e-6).interval() == mean_of([0.4, 0.5, 0.6]).interval(), (
        "it is no second share"
    )


def test_an_error_that_all_share_is_added_with_the_normal_quantile() -> None:
    alone = mean_of([0.4, 0.5, 0.6]).half_width(0.975)
    assert alone is not None
    assert mean_of([0.4, 0.5, 0.6], shared=0.01).half_width(0.975) == pytest.approx(
        math.hypot(alone, 1.959964 * 0.1)
    )
    assert mean_of([0.4, 0.5, 0.6], shared=-0.01).half_width(0.975) == alone, (
        "a negative moment estimate is no variance"
    )


# -------------------------------------------------------------------------------------------- two means, many


@settings(derandomize=True, deadline=None, max_examples=30)
@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=6, unique=True),
    st.lists(st.floats(2, 3), min_size=2, max_size=6, unique=True),
)
def test_welch_is_scipys(a: list[float], b: list[float]) -> None:
    from scipy.stats import ttest_ind

    a, b = [x + 0.01 * i for i, x in enumerate(a)], [x + 0.01 * i for i, x in enumerate(b)]
    if min(np.ptp(a), np.ptp(b)) < 1e-3:
        return
    reference = ttest_ind(a, b, equal_var=False)
    found = welch(mean_of(a), mean_of(b))
    assert found is not None
    assert found.value == pytest.approx(np.mean(a) - np.mean(b))
    assert found.p == pytest.approx(reference.pvalue, rel=1e-6, abs=1e-11)  # p is sought down to 2e-12
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval(0.95)), rel=1e-6)


@pytest.mark.parametrize(("known", "inside"), [(0.0, 0.0), (4e-4, 0.0), (0.0, 4e-4), (1e-3, 1e-2)])
def test_the_p_value_belongs_to_the_interval_that_just_touches_zero(known: float, inside: float) -> None:
    a, b = mean_of([0.71, 0.80, 0.78], known, inside), mean_of([0.60, 0.66, 0.70, 0.52], known, inside)
    found = welch(a, b)
    assert found is not None and 0 < found.p < 1
    touching = welch(a, b, level=1 - found.p)
    assert touching is not None and touching.low == pytest.approx(0.0, abs=1e-9)
    assert (found.p < 0.05) == (found.low > 0)
    exchanged = welch(b, a)
    assert exchanged is not None and exchanged.p == found.p
    assert (exchanged.low, exchanged.high) == pytest.approx((-found.high, -found.low))


def test_what_is_known_or_inside_makes_a_test_more_careful_never_less() -> None:
    plain, more = [0.9, 0.91, 0.92], [0.8, 0.81, 0.82]
    bare = welch(mean_of(plain), mean_of(more))
    for parts in ((1e-3, 0.0), (0.0, 1e-3)):
        found = welch(mean_of(plain, *parts), mean_of(more, *parts))
        assert bare is not None and found is not None
        assert found.p > bare.p and found.low < bare.low and found.high > bare.high


def test_two_means_that_cannot_be_compared() -> None:
    assert welch(mean_of([0.5]), mean_of([0.1, 0.2])) is None, "one value has no variance"
    assert welch(mean_of([0.5, 0.5]), mean_of([0.1, 0.1])) is None, "nothing varies"
    inside = welch(mean_of([0.5, 0.5], inside=1e-4), mean_of([0.5, 0.5], inside=1e-4))
    assert inside is not None and inside.p == 1.0 and inside.high == pytest.approx(1.959964 * math.sqrt(2e-4))
    far = welch(mean_of([0.9, 0.9], inside=1e-8), mean_of([0.1, 0.1], inside=1e-8))
    assert far is not None and far.p <= 1e-11


def test_only_one_of_two_varies() -> None:
    """Satterthwaite's degrees of freedom are then those of the one that does."""
    found = welch(mean_of([1.0, 2.0, 3.0]), mean_of([0.0, 0.0]))
    alone = mean_of([1.0, 2.0, 3.0]).interval()
    assert found is not None and (found.low, found.high) == pytest.approx(alone)


def test_holm_multiplies_by_how_many_are_left() -> None:
    """By hand: .01 * 4, .02 * 3, .03 * 2, .04; none may be smaller than one before it."""
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.04, 0.005, 0.6, 0.03]) == pytest.approx([0.09, 0.02, 0.6, 0.09]), "in the order given"
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_a_fixed_sequence_stops_at_the_first_that_does_not_hold() -> None:
    assert fixed_sequence([0.95, 0.91, 0.85, 0.99], 0.9) == 2, "what comes after a failure does not count"
    assert fixed_sequence([0.95, 0.90], 0.9) == 2, "at least"
    assert fixed_sequence([0.89, 0.95], 0.9) == 0
    assert fixed_sequence([0.95, None, 0.95], 0.9) == 1, "nobody knows"
    assert fixed_sequence([], 0.9) == 0


# -------------------------------------------------------------------------------------- items, sampling seeds


def test_nested_items_of_yes_and_no_are_binomial() -> None:
    """Two seeds with 30 and 50 of 100: the variance of the mean of means is (p1 q1 + p2 q2) / 4 / 99."""
    flags = np.array([np.arange(100) < 30, np.arange(100) < 50], float)
    expected = (0.3 * 0.7 + 0.5 * 0.5) / 4 / 99
    assert item_covariance(flags[None], crossed=False)[0, 0] == pytest.approx(expected)


def test_crossed_items_vary_by_their_means_over_seeds() -> None:
    """By hand: two items at two rungs under two seeds; means over seeds (1, 0) and (1/2, 1/2)."""
    influence = np.array([[[1, 0], [1, 0]], [[1, 0], [0, 1]]], float)  # [2 rungs, 2 seeds, 2 items]
    assert item_covariance(influence, crossed=True) == pytest.approx(np.array([[0.25, 0], [0, 0]]))
    assert item_covariance(influence, crossed=False) == pytest.approx(np.eye(2) / 8), (
        "within each seed, then / 2²"
    )


def test_items_that_every_seed_shares_do_not_average_out() -> None:
    """Of real samples, more seeds tell no more: crossed stays, nested would halve."""
    flags = (np.arange(40) < 10).astype(float)
    twice = np.tile(flags, (1, 2, 1))
    assert item_covariance(twice, crossed=True) == pytest.approx(item_covariance(twice[:, :1], crossed=True))
    assert item_covariance(twice, crossed=False) == pytest.approx(
        item_covariance(twice[:, :1], crossed=False) / 2
    )


@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("between", [0.0, 0.3])
def test_the_variance_between_seeds_is_estimated_without_bias(crossed: bool, between: float) -> None:
    """Tables with known parts: value = seed + item (the same under all seeds where crossed) + rest. 4,000
    tables of 3 x 8.

    The estimate of one table has a standard deviation of at most twice (between² + rest² / 8): 5 of its
    standard errors are allowed.
    """
    rng = np.random.default_rng(5)
    tables, seeds, items = 4000, 3, 8
    values = between * rng.standard_normal((tables, seeds, 1)) + rng.standard_normal((tables, seeds, items))
    if crossed:
        values = values + 2 * rng.standard_normal((tables, 1, items))
    found = seed_variance(values.mean(axis=-1), values, crossed)
    assert found.shape == (tables,)
    tolerance = 5 * 2 * (between**2 + 1 / items) / math.sqrt(tables)
    assert found.mean() == pytest.approx(between**2, abs=tolerance)
    assert (found < 0).any(), "a moment estimate may be negative; it is the caller's to cut"


def test_the_other_design_would_be_biased() -> None:
    """Where real samples are crossed with seeds, taking them as nested subtracts their own variance as
    well.
    """
    rng = np.random.default_rng(6)
    values = 2 * rng.standard_normal((500, 1, 8)) + rng.standard_normal((500, 3, 8))
    wrong = seed_variance(values.mean(axis=-1), values, crossed=False)
    assert wrong.mean() == pytest.approx(-4 / 8, abs=0.05)


def test_what_models_share_is_their_covariance() -> None:
    a = np.array([0.0, 0, 1, 1])
    assert shared_variance(np.array([[a, a, a]])) == pytest.approx(np.var(a, ddof=1) / 4), (
        "the same items fail all: nothing averages out"
    )
    assert shared_variance(np.array([[a, 1 - a]])) == pytest.approx(-np.var(a, ddof=1) / 4)
    assert shared_variance(np.array([[a, [0.0, 1, 0, 1]]])) == pytest.approx(0.0)
    assert shared_variance(a[None, None]) == 0.0, "one model shares with nobody"


def test_what_strata_share_depends_on_no_order_and_adds_up_to_the_variance_of_the_mean() -> None:
    """Items that all models like alike, and each its own way: of the mean of 2 x 3 models, the liking is
    what stays.
    """
    rng = np.random.default_rng(8)
    likings = rng.standard_normal(50_000)
    influence = 0.5 * likings + rng.standard_normal((2, 3, 50_000))
    found = shared_variance(influence)
    assert found * 50_000 == pytest.approx(0.25, abs=0.03), (
        "5 standard errors of a covariance of unit scale are .02"
    )
    shuffled = np.stack([influence[0], influence[1][[2, 0, 1]]])
    assert shared_variance(shuffled) == pytest.approx(found, rel=1e-9)
    covariance, total = np.cov(influence.reshape(6, -1)) / 50_000, 0.0
    for k, m in itertools.product(range(2), repeat=2):
        pairs = [
            covariance[3 * k + i, 3 * m + j]
            for i, j in itertools.product(range(3), repeat=2)
            if (k, i) != (m, j)
        ]
        total += sum(pairs) / len(pairs) / 4
    assert found == pytest.approx(total)


def test_shared_and_inside_add_up_to_the_variance_of_the_mean() -> None:
    """K models, each with error c in common and r of its own: their spread shows r / K, and c is added.
    20,000 trials of 4 models.
    """
    rng = np.random.default_rng(7)
    values = 0.3 * rng.standard_normal((20_000, 1)) + 0.4 * rng.standard_normal((20_000, 4))
    estimates = [mean_of(row, shared=0.09) for row in values[:2000]]
    total = np.mean([(e.variance or 0.0) + e.known for e in estimates])
    # 2,000 variances with 3 degrees of freedom: 2 % on a third of it
    assert total == pytest.approx(values.mean(axis=1).var(), rel=0.05)


def test_an_estimate_without_error_is_a_point() -> None:
    assert Estimate(0.3, 0.0).interval() == (0.3, 0.3)


def test_two_estimates_are_equal_by_welchs_t_and_many_sure_ones_by_chi_squared() -> None:
    from scipy.stats import chi2

    a, b = Estimate(0.3, 0.01, 5), Estimate(0.1, 0.0009, 12)
    told = welch(a, b)
    assert told is not None and equal([a, b]) == pytest.approx(told.p, rel=1e-6)
    sure = [Estimate(value, variance, 1e9) for value, variance in ((0.0, 0.01), (0.2, 0.04), (0.4, 0.02))]
    weights = np.array([100, 25, 50])
    centre = weights @ np.array([0, 0.2, 0.4]) / weights.sum()
    assert equal(sure) == pytest.approx(
        chi2.sf(weights @ (np.array([0, 0.2, 0.4]) - centre) ** 2, 2), rel=1e-4
    )
    assert equal([a, a]) == 1 and equal([Estimate(0.1, 0.0, 5), a]) == 0


def test_equal_values_with_unequal_variances_are_told_apart_as_seldom_as_they_should() -> None:
    """Three estimates of one value, one of them eight times as uncertain, five degrees of freedom each: 5
    % of 2,000.
    """
    rng = np.random.default_rng(0)
    sd = np.array([1.0, 2.0, 8.0]) ** 0.5
    p = [
        equal(
            [
                Estimate(float(v), float(s), 5)
                for v, s in zip(sd * rng.standard_normal(3), sd**2 * rng.chisquare(5, 3) / 5)
            ]
        )
        for _ in range(2000)
    ]
    assert 0.035 < np.mean(np.array(p) < 0.05) < 0.065
