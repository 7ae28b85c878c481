"""Statistics of survival: published values, brute force, tables made by hand; and what a network's weights
are like.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bench.interfaces import Layout, ModelSpec
from bench.metrics.anatomy import anatomy, excess_kurtosis, normalisation_of, weight_kurtosis
from bench.stats.survivors import (
    Bins,
    Share,
    auc,
    bins_of,
    by_covariate,
    label_range,
    survival,
    transition,
    wilson,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- shares -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, count: int, low: float, high: float) -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3; four digits are printed there."""
    found = wilson(successes, count)
    assert found.share == successes / count
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_is_symmetric_and_knows_nothing_of_nothing() -> None:
    a, b = wilson(3, 40), wilson(37, 40)
    assert (a.low, a.high) == (pytest.approx(1 - b.high), pytest.approx(1 - b.low))
    assert wilson(20, 20).high == 1 and wilson(0, 20).low == 0
    assert wilson(0, 0) == Share(0, None, 0.0, 1.0)
    with pytest.raises(ValueError, match="3 successes in 2"):
        wilson(3, 2)


# --- AUC ----------------------------------------------------------------------------------------------


def brute_force(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Every pair compared; DeLong's structural components by definition."""
    pairs = (x[:, None] > y).astype(float) + 0.5 * (x[:, None] == y)  # [m, n]
    error = math.sqrt(pairs.mean(1).var(ddof=1) / len(x) + pairs.mean(0).var(ddof=1) / len(y))
    return pairs.mean(), error


def test_auc_of_a_case_by_hand() -> None:
    """Pairs of failed 1, 2, 2, 4 and surviving 1, 2, 3: (1/2 + 0 + 0) + 2 (1 + 1/2 + 0) + 3 = 6.5 of 12."""
    assert auc(np.array([1, 2, 2, 4]), np.array([1, 2, 3])).value == pytest.approx(6.5 / 12)


@pytest.mark.parametrize("seed", range(3))
def test_auc_agrees_with_brute_force_with_ties_and_without(seed: int) -> None:
    for x, y in [
        (rng(seed).normal(0.3, 1, 40), rng(seed + 9).normal(0, 1, 60)),
        (rng(seed).integers(5, size=40), rng(9).integers(5, size=60)),
    ]:
        value, error = brute_force(x, y)
        found = auc(x, y)
        assert found.value == pytest.approx(value)
        assert (found.high - found.value, found.value - found.low) == (
            pytest.approx(1.959964 * error),
            pytest.approx(1.959964 * error),
        )


def test_auc_points_upward_where_failed_items_have_more() -> None:
    assert auc(np.arange(10, 20), np.arange(10)).value == 1
    assert auc(np.arange(10), np.arange(10, 20)).value == 0
    assert auc(np.ones(5), np.ones(7)).value == 0.5


def test_the_interval_of_an_auc_covers() -> None:
    """Normal, one deviation apart: AUC = Phi(1 / sqrt 2). 400 draws; 95 % ± 4 standard errors of 1.1
    points.
    """
    truth = 0.5 * (1 + math.erf(0.5))
    found = [auc(rng(i).normal(1, 1, 40), rng(1000 + i).normal(0, 1, 80)) for i in range(400)]
    assert np.mean([a.low <= truth <= a.high for a in found]) == pytest.approx(0.95, abs=0.044)


@pytest.mark.parametrize("bad", [np.array([1.0]), np.array([1.0, np.nan])])
def test_an_auc_needs_values(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two finite values"):
        auc(bad, np.arange(5.0))


# --- bins ---------------------------------------------------------------------------------------------


def test_quintiles_hold_a_fifth_each() -> None:
    values = rng().permutation(100).astype(float)
    bins = bins_of(values)
    assert len(bins) == 5 and np.bincount(bins.which(values)).tolist() == [20] * 5


def test_a_value_on_an_edge_lies_below_it() -> None:
    assert Bins("numeric", edges=(1.0, 2.0)).which(np.array([0.0, 1.0, 1.5, 2.0, 3.0])).tolist() == [
        0,
        0,
        1,
        1,
        2,
    ]


@pytest.mark.parametrize("values", [np.array([7, 7, 7]), np.array([0] * 9 + [1]), np.array([0] + [1] * 9)])
def test_quintiles_that_coincide_leave_no_empty_bin(values: np.ndarray) -> None:
    bins = bins_of(values)
    assert np.bincount(bins.which(values), minlength=len(bins)).min() > 0


def test_labels_are_bins_in_alphabetical_order() -> None:
    bins = bins_of(np.array(["shoe", "bag", "shoe"]))
    assert bins == Bins("label", labels=("bag", "shoe")) and bins.which(
        np.array(["shoe", "bag"])
    ).tolist() == [1, 0]
    with pytest.raises(ValueError, match="'hat' is not one of: bag, shoe"):
        bins.which(np.array(["hat"]))


# --- survival -----------------------------------------------------------------------------------------


def test_survival_falls_where_failures_are() -> None:
    values = np.arange(200.0)
    found = by_covariate(values >= 160, values, bins_of(values))
    assert [share.share for share in found.survival] == [1, 1, 1, 1, 0] and found.labels is None
    assert found.auc is not None and found.auc.value == 1


def test_the_range_of_labels_names_both_ends() -> None:
    """Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 - 48/80 is 0.0524 to
    0.3339.
    """
    found = label_range({"b": wilson(56, 70), "a": wilson(48, 80), "rare": wilson(0, 29)})
    assert found is not None and (found.lowest, found.highest) == ("a", "b"), (
        "29 items are too few to be chosen"
    )
    assert (found.difference, found.low, found.high) == tuple(
        pytest.approx(x, abs=5e-5) for x in (0.2, 0.0524, 0.3339)
    )
    assert label_range({"a": wilson(1, 99), "rare": wilson(0, 29)}) is None


@pytest.mark.parametrize(("lost", "analysed"), [(29, False), (30, True), (70, True), (71, False)])
def test_methods_with_few_failures_or_few_survivors_are_left_out(lost: int, analysed: bool) -> None:
    failed, values = np.arange(100) < lost, rng().normal(size=100)
    found = survival(failed, {"x": values}, {"x": bins_of(values)})
    assert found.overall.share == pytest.approx(1 - lost / 100) and (found.by is not None) == analysed


# --- from rung to rung --------------------------------------------------------------------------------


def test_the_table_of_hand_made_flags() -> None:
    """40 fail at both, 10 only at the milder rung, 20 only at the harsher, 130 at neither."""
    milder = np.repeat([True, True, False, False], [40, 10, 20, 130])
    harsher = np.repeat([True, False, True, False], [40, 10, 20, 130])
    found = transition(milder, harsher)
    assert (found.failed_both, found.failed_milder_only, found.failed_harsher_only, found.failed_neither) == (
        40,
        10,
        20,
        130,
    )
    assert found.after_failure == wilson(40, 50) and found.after_survival == wilson(20, 150)
    assert found.log_odds_ratio is not None
    assert found.log_odds_ratio.value == pytest.approx(math.log(40.5 * 130.5 / (10.5 * 20.5)))
    half = 1.959964 * math.sqrt(1 / 40.5 + 1 / 10.5 + 1 / 20.5 + 1 / 130.5)
    assert found.log_odds_ratio.high - found.log_odds_ratio.value == pytest.approx(half)


def test_independent_failures_have_no_odds() -> None:
    found = transition(rng(1).random(4000) < 0.3, rng(2).random(4000) < 0.5)
    assert found.log_odds_ratio is not None and found.log_odds_ratio.low < 0 < found.log_odds_ratio.high


@pytest.mark.parametrize("few", [0, 9])
def test_a_table_with_a_thin_margin_is_counts_alone(few: int) -> None:
    found = transition(np.arange(100) < few, np.arange(100) < 50)
    assert (found.failed_both, found.failed_harsher_only) == (few, 50 - few)
    assert found.after_failure is None and found.after_survival is None and found.log_odds_ratio is None
    assert transition(np.arange(100) < 50, np.arange(100) >= few).log_odds_ratio is None


def test_flags_of_other_items_are_refused() -> None:
    with pytest.raises(ValueError, match="not of the same items"):
        transition(np.zeros(3, bool), np.zeros(4, bool))


# --- weights ------------------------------------------------------------------------------------------


def drawn(kind: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(getattr(rng(), kind)(size=shape))


@pytest.mark.parametrize(
    ("kind", "kurtosis", "within"), [("uniform", -1.2, 0.01), ("normal", 0, 0.03), ("laplace", 3, 0.3)]
)
def test_kurtosis_of_known_distributions(kind: str, kurtosis: float, within: float) -> None:
    """A million draws: standard errors .0009, .005 and, with the heavy tail, .05; six of them."""
    assert excess_kurtosis(drawn(kind, 10, 100_000)) == pytest.approx(kurtosis, abs=within)


def test_each_output_channel_is_standardised_by_itself() -> None:
    """Of a transposed convolution it lies along axis 1.

    Along the wrong axis a mixture of scales looks heavy-tailed.
    """
    weights = (
        drawn("normal", 40, 10, 5, 5) * torch.logspace(-2, 2, 10)[:, None, None]
        + torch.arange(10)[:, None, None]
    )
    assert excess_kurtosis(weights, Layout(axis=1)) == pytest.approx(0, abs=0.3)
    assert excess_kurtosis(weights, Layout(axis=0)) > 2  # type: ignore[operator]


def test_short_channels_look_light_tailed() -> None:
    """-6 / (n + 1), as the docstring says."""
    assert excess_kurtosis(drawn("normal", 100_000, 9)) == pytest.approx(-0.6, abs=0.02)


def test_channels_that_do_not_vary_are_left_out() -> None:
    weights = drawn("uniform", 4, 10_000)
    assert excess_kurtosis(torch.cat([weights, torch.full((3, 10_000), 0.1)])) == excess_kurtosis(weights)
    assert (
        excess_kurtosis(torch.ones(3, 5)) is None
        and weight_kurtosis({"a": (torch.ones(3, 5), Layout())}) is None
    )


def test_tensors_count_by_their_weights() -> None:
    big, small = drawn("uniform", 3, 1000), drawn("laplace", 1, 1000)
    expected = (3 * excess_kurtosis(big) + excess_kurtosis(small)) / 4  # type: ignore[operator]
    assert weight_kurtosis({"big": (big, Layout()), "small": (small, Layout())}) == pytest.approx(expected)


def test_the_anatomy_of_a_small_network() -> None:
    class MyRMSNorm(nn.RMSNorm):
        pass

    network = nn.Sequential(
        nn.Linear(10, 20),
        nn.BatchNorm1d(20),
        nn.Linear(20, 5),
        nn.LayerNorm(5),
        nn.GroupNorm(1, 5),
        MyRMSNorm(5),
    )
    total = 220 + 40 + 105 + 10 + 10 + 5
    found = anatomy(network, ModelSpec("m", "", samples_seen=780, excluded={"2.weight": "it is small"}))
    assert (found.parameters, found.samples_seen, found.samples_per_parameter) == (total, 780, 2)
    assert found.normalisation == {"BatchNorm1d": 1, "GroupNorm": 1, "LayerNorm": 1, "MyRMSNorm": 1}
    assert found.untouched_share == pytest.approx(1 - 200 / total)
    rounded = pytest.approx(excess_kurtosis(network[0].weight.detach()), rel=1e-12)  # x * n / n may not be x
    assert found.weight_kurtosis == rounded
    assert anatomy(network, ModelSpec("m", "")).samples_per_parameter is None
    assert normalisation_of(nn.Linear(2, 2)) == {}
