"""Do the intervals hold the truth as often as they say? Made-up studies whose truth is known."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_up import model

from bench.methods.notation import LADDER
from bench.records.schema import read_records
from bench.stats.compressibility import score
from bench.stats.ladder import ROLES, models_of
from scripts.studies.simulation import (
    CURVES,
    DIVERGED_FROM,
    RATES,
    REQUIRED,
    Scenario,
    Tally,
    coverage,
    curve,
    made_up_domain,
    measured_spread,
    power,
    scenarios,
    true_retention,
)

ROOT = Path(__file__).parent.parent
SPREAD = 0.02  # standard deviation of C between training seeds, while no published models say it
RUNS = 1000  # of the slow test


# -------------------------------------------------------------------------------------------------- the truth


@pytest.mark.parametrize("name", CURVES)
def test_curves_go_through_their_points(name: str) -> None:
    for role in ROLES:
        assert curve(name, role, 0.0) == pytest.approx(np.array(CURVES[name][role][1:]))


@pytest.mark.parametrize("name", ["cliff", "slope", "near 1", "edge"])
def test_curves_never_rise_but_for_those_that_are_meant_to(name: str) -> None:
    for role in ROLES:
        shifted = curve(name, role, np.array([-0.3, 0.0, 0.3]))
        assert shifted.shape == (3, 8) and (np.diff(shifted, axis=1) <= 1e-12).all()
        assert (np.diff(shifted, axis=0) >= -1e-12).all(), "a positive shift keeps more"


@pytest.mark.parametrize(
    "scenario",
    [Scenario("x", ("cliff", "slope"), SPREAD, 3), Scenario("x", ("cliff", "slope"), 0.04, 2, diverged=True)],
)
def test_the_truth_is_what_very_many_models_have_on_average(scenario: Scenario) -> None:
    """Brute force: 20,000 models' retention, 1,000 models' C; 5 standard errors.

    With divergence one model of each group of K is dead.
    """
    shifts = 4 * scenario.spread * np.random.default_rng(1).standard_normal(20_000)
    for role in ROLES:
        kept, c = true_retention(scenario, "cliff", role)
        made = curve("cliff", role, shifts)
        if scenario.diverged:
            made[:: scenario.training_seeds, DIVERGED_FROM:] = 0.0
        assert kept == pytest.approx(
            made.mean(axis=0), abs=5 * float(made.std(axis=0).max()) / math.sqrt(len(made))
        )
        scores = [score(RATES.tolist(), row.tolist()) or 0.0 for row in made[:1000]]
        assert c == pytest.approx(np.mean(scores), abs=5 * float(np.std(scores)) / math.sqrt(len(scores)))


@pytest.mark.parametrize("name", ["cliff", "slope"])
def test_spread_is_about_the_standard_deviation_of_c(name: str) -> None:
    """Where a curve falls from 1 to 0 within the span.

    Not exactly: C goes in straight lines between rungs, the curve does not.
    """
    shifts = 4 * SPREAD * np.random.default_rng(6).standard_normal(500)
    scores = [score(RATES.tolist(), row.tolist()) or 0.0 for row in curve(name, "quality", shifts)]
    assert 0.8 * SPREAD < np.std(scores) < 1.1 * SPREAD


def test_flags_are_drawn_as_the_truth_says() -> None:
    """20 studies without a difference between models.

    An item's share has at most sd .5 / sqrt(2000), a sampling seed's shift .03 of a standard normal; over a
    span of .75, twice for the baseline: .02 is more than 5 standard errors.
    """
    scenario = Scenario("x", ("slope", "slope"), 0.0, 2)
    rng = np.random.default_rng(2)
    domains = [made_up_domain(scenario, "slope", rng) for _ in range(10)]
    for role in ROLES:
        found = np.mean([m.outcomes[role].mean for d, _ in domains for m in d.models], axis=0)
        assert found == pytest.approx(curve("slope", role, 0.0), abs=0.02)
        assert found == pytest.approx(domains[0][1][0][role], abs=0.02), "the truth that comes with it"


def test_a_model_that_diverged_has_kept_nothing_from_3_bits_on() -> None:
    domain, truths = made_up_domain(
        Scenario("x", ("near 1", "near 1"), SPREAD, 3, diverged=True), "near 1", np.random.default_rng(3)
    )
    for role in ROLES:
        means = np.array([m.outcomes[role].mean for m in domain.models])
        assert not means[0, DIVERGED_FROM:].any() and not truths[0][role][DIVERGED_FROM:].any()
        assert (means[1:] > 0.5).all() and (means[0, :DIVERGED_FROM] > 0.5).all()


def test_real_samples_are_alike_under_all_models_and_generated_ones_are_not() -> None:
    (domain, _) = made_up_domain(Scenario("x", ("slope", "slope"), 0.0, 2), "slope", np.random.default_rng(4))
    correlation = {
        role: np.corrcoef(*(m.outcomes[role].influence[3].mean(axis=0) for m in domain.models))[0, 1]
        for role in ROLES
    }  # at int4, over sampling seeds
    assert correlation["diversity"] > 0.1 and abs(correlation["quality"]) < 5 / math.sqrt(2000)


def test_a_sample_and_its_twin_have_much_luck_in_common() -> None:
    """At 8 bits nothing is lost: the variance of the ratio of two independent shares would be 2 p (1 - p)
    / span² over all samples.
    """
    (domain, _) = made_up_domain(Scenario("x", ("slope", "slope"), 0.0, 2), "slope", np.random.default_rng(5))
    quality = domain.models[0].outcomes["quality"]
    assert quality.covariance[0, 0] < 0.6 * 2 * 0.8 * 0.2 / quality.span**2 / 6000


def test_the_measured_spread_is_pooled_within_sizes_and_roles() -> None:
    """C is .25 + .75 R here: R of .8 and .9 have a standard deviation of .0530 in C, equal ones 0; one of
    a kind says nothing.
    """
    both = [model("a", f"s@{i}", kept, 0.9) for i, kept in enumerate((0.8, 0.9))]
    one = np.std([0.8, 0.9], ddof=1) * 0.75
    assert measured_spread([*both, model("b", "s@0", 0.1)]) == pytest.approx(math.sqrt(one**2 / 2), rel=1e-3)
    with pytest.raises(ValueError, match="give the spread"):
        measured_spread([model("a", "s@0"), model("a", "xs@0"), model("b", "s@0")])


def test_scenarios_have_what_was_promised() -> None:
    found = scenarios(SPREAD)
    assert {s.training_seeds for s in found} == {2, 3, 6} and len(found) == 27
    assert {round(s.spread / SPREAD, 2) for s in found} == {0.5, 1, 2} and sum(s.diverged for s in found) == 3
    assert [len(s.sizes) for s in found].count(2) == 6


def test_two_sizes_of_a_training_seed_are_one_unit_and_differ_in_what_they_bear() -> None:
    """Without a spread between seeds: units are alike, the smaller network keeps less, and the truth lies
    halfway.
    """
    scenario = Scenario("x", ("slope", "slope"), 0.0, 3, sizes=(0.0, -0.3))
    domain, truths = made_up_domain(scenario, "slope", np.random.default_rng(7))
    assert [[m.model for m in unit] for unit in domain.units] == [
        [f"size0@{k}", f"size1@{k}"] for k in range(3)
    ]
    larger, smaller = truths[0]["quality"], truths[1]["quality"]
    assert (larger >= smaller).all() and larger[3] > smaller[3] + 0.1, "at int4"
    assert true_retention(scenario, "slope", "quality")[0] == pytest.approx((larger + smaller) / 2)
    assert np.array(domain.units[2][1].outcomes["quality"].mean) == pytest.approx(smaller, abs=0.05)


def test_tallies_count() -> None:
    tally = Tally()
    for interval in ((0.0, 0.5), (0.5, 0.6), None, (0.5 + 1e-12, 0.9)):
        tally.add(interval, 0.5)
    assert (tally.covered, tally.total) == (3, 3), "no interval is no interval; rounding is no error"
    assert tally.mean_width == pytest.approx(1.0 / 3) and math.isnan(Tally().coverage)


# --------------------------------------------------------------------------------------------------- coverage


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("spread", ("cliff", "slope"), SPREAD, 3, items=500),
        Scenario("just below 0.90", ("edge", "edge"), SPREAD, 6, items=500),
        Scenario("one diverged", ("cliff", "slope"), SPREAD, 2, diverged=True, items=500),
        Scenario("two sizes", ("cliff", "slope"), SPREAD, 3, items=500, sizes=(0.0, -0.3)),
        Scenario(
            "two sizes, unlike",
            ("cliff", "slope"),
            SPREAD,
            2,
            items=500,
            sizes=(0.0, -0.3),
            scatter=(0.5, 1.5),
        ),
    ],
    ids=lambda scenario: scenario.name,
)
def test_intervals_cover_in_a_short_run(scenario: Scenario) -> None:
    """60 studies, so at least 60 independent intervals of a kind: a coverage of .93 stays above .93 - 4
    sqrt(.93 * .07 / 60).

    That bound has teeth: with few seeds a bootstrap of them, or the normal quantile, does not reach it for C
    (below).
    """
    runs = 60
    found = coverage(scenario, runs)
    for name in REQUIRED:
        assert found[name].coverage >= 0.93 - 4 * math.sqrt(0.93 * 0.07 / runs), name
        assert found[name].total >= runs
    for rung in LADDER:
        assert found[f"retention at {rung}"].coverage >= 0.93 - 4 * math.sqrt(0.93 * 0.07 / runs), rung
    assert found["unsafe ratio_at_90"].coverage <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / runs)
    if scenario.training_seeds < 6:
        assert found["C: percentile bootstrap of training seeds"].coverage < 0.93 - 4 * math.sqrt(
            0.93 * 0.07 / runs
        )


def test_the_same_seed_gives_the_same_study() -> None:
    scenario = Scenario("x", ("cliff", "slope"), SPREAD, 2, items=50, sampling_seeds=2)
    assert coverage(scenario, 2) == coverage(scenario, 2) != coverage(scenario, 2, seed=1)


def test_a_larger_gap_is_found_more_often_and_none_hardly_ever() -> None:
    """2,000 studies at a true error rate of .05 / 6: 17 false claims are expected, more than 40 never
    come.
    """
    chance = {gap: power(gap, 0.01, 6, studies=2000, items=200) for gap in (0.0, 0.03, 0.3)}
    assert chance[0.0] <= 40 / 2000 and chance[0.0] <= chance[0.03] <= chance[0.3] == 1.0


@pytest.fixture(scope="module")
def spread() -> float:
    try:
        return measured_spread(models_of(read_records(ROOT / "results")))
    except ValueError:
        return SPREAD


@pytest.mark.slow
@pytest.mark.parametrize(
    "i", range(27), ids=[f"{one.name}, {one.training_seeds} seeds" for one in scenarios(SPREAD)]
)
def test_intervals_cover_in_every_scenario(i: int, spread: float) -> None:
    """What the leaderboard promises: at least .93 for intervals at 95 %, and a certified ratio that is too
    large in at most 5 %.
    """
    found = coverage(scenarios(spread)[i], RUNS)
    assert {name: found[name].coverage for name in REQUIRED if found[name].coverage < 0.93} == {}
    assert found["unsafe ratio_at_90"].coverage <= 0.05
