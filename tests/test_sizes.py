"""Scores against size, and the bytes of a dense network that is as good."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up import ladder, model, trained

from bench.records.cell import FLOOR_RECALIBRATED
from bench.report.figures.overview import series_of
from bench.report.model_page import command
from bench.report.report_data import report_data
from bench.stats.domain import domains_of
from bench.stats.sizes import (
    REFERENCE_SIZE,
    Point,
    best_within,
    common_sizes,
    of_sizes_trained_often,
    points,
    size_slopes,
    with_sizes,
)


def made(
    slope: float, levels: dict[str, float], sizes: tuple[int, ...] = (125_000, 500_000, 2_000_000)
) -> list[Point]:
    return [
        Point(name, f"{n}@0", n, level + slope * math.log2(n / REFERENCE_SIZE), False)
        for name, level in levels.items()
        for n in sizes
    ]


def test_common_sizes_are_those_of_every_domain() -> None:
    """`b` has no large network; a network that is too poor for the ranking does not count."""
    data = [Point(d, f"{size}@0", 1000, 0.5, False) for d, size in (("a", "s"), ("a", "m"), ("b", "s"))]
    assert [p.model for p in common_sizes(data)] == ["s@0", "s@0"]
    poor = Point("b", "m@0", 1000, 0.5, True)
    assert [p.model for p in common_sizes([*data, poor])] == ["s@0", "s@0"]
    assert len(common_sizes([*data, Point("b", "m@0", 1000, 0.5, False)])) == 4


def test_a_known_slope_comes_back_exactly_with_the_levels_at_half_a_million() -> None:
    found = size_slopes(made(0.03, {"a": 0.9, "b": 0.5}))
    assert found is not None and found.average.value == pytest.approx(0.03)
    assert {name: level.value for name, level in found.levels.items()} == pytest.approx({"a": 0.9, "b": 0.5})
    assert (found.average.interval() or (1,))[0] == pytest.approx(0.03), "no error is left"


def test_levels_of_domains_are_no_slope() -> None:
    """The larger models are of the better domain; within each, size does nothing."""
    data = made(0.0, {"a": 0.2}, (100_000, 200_000, 400_000)) + made(
        0.0, {"b": 0.9}, (1_000_000, 2_000_000, 4_000_000)
    )
    found = size_slopes(data)
    assert found is not None and found.average.value == pytest.approx(0.0, abs=1e-12)


def test_slopes_of_domains_are_theirs_with_errors_of_their_own() -> None:
    """scipy's slope and standard error in each domain, however much another one scatters."""
    from scipy.stats import linregress

    rng = np.random.default_rng(0)
    noise = {"a": 0.002, "b": 0.05}
    steep = [*made(0.05, {"a": 0.7}), *made(-0.01, {"b": 0.8})] * 2
    data = [replace(p, score=p.score + noise[p.domain] * float(rng.standard_normal())) for p in steep]
    alone = made(0.3, {"c": 0.5}, (500_000,))  # of one size: says nothing of slopes
    found = size_slopes([*data, *alone])
    assert found is not None and list(found.slopes) == ["a", "b"]
    for d, slope in found.slopes.items():
        reference = linregress(*zip(*((math.log2(p.parameters), p.score) for p in data if p.domain == d)))
        assert (slope.value, math.sqrt(slope.variance or 0), slope.df) == pytest.approx(
            (reference.slope, reference.stderr, 4)
        )
    assert found.average.value == pytest.approx(sum(s.value for s in found.slopes.values()) / 2)
    assert found.average.df == pytest.approx(4, abs=0.1), "nearly all of the error is b's"


def test_parallel_slopes_are_not_told_apart_and_one_domain_has_none_to_compare() -> None:
    errors = (0.01, -0.01, 0.005, -0.01, 0.01, -0.005)
    parallel = [replace(p, score=p.score + e) for p, e in zip(made(0.03, {"a": 0.9, "b": 0.5}), errors)]
    found = size_slopes(parallel)
    assert found is not None and found.p > 0.2
    alone = size_slopes(parallel[:3])
    assert (
        alone is not None
        and math.isnan(alone.p)
        and alone.average.value == pytest.approx(alone.slopes["a"].value)
    )
    assert size_slopes([]) is None
    assert size_slopes([p for p in parallel if p.parameters > 200_000]) is None, (
        "two points a domain: two lines without error"
    )


def test_no_regression_without_two_sizes() -> None:
    one_size = [
        replace(p, score=p.score + 0.01 * i)
        for i, p in enumerate(made(0.0, {"a": 0.5, "b": 0.6}, (500_000,)) * 3)
    ]
    assert size_slopes(one_size) is None, "sizes differ between domains alone"


def test_the_slope_rests_on_domains_of_several_sizes_and_the_leaderboard_names_them() -> None:
    from bench.report.size_tables import _regression

    data = made(0.03, {"a": 0.9}) + made(0.03, {"b": 0.5}, (480_000, 500_000))
    assert with_sizes(data) == ["a"]
    assert "1 degrees of freedom; more than one size only in a)." in _regression(data)
    assert _regression(data).endswith("C on these lines at 0.5 M parameters: a 0.900 [0.900, 0.900].")
    assert "only in" not in _regression(made(0.03, {"a": 0.9, "b": 0.5}))
    own = size_slopes(made(0.03, {"a": 0.9, "b": 0.5}))
    assert own is not None and {d: level.value for d, level in own.levels.items()} == pytest.approx(
        {"a": 0.9, "b": 0.5}
    )


def test_a_level_is_the_prediction_of_a_simple_regression() -> None:
    """Of C at 0.5 M parameters, with its standard error, as statsmodels' and every textbook's formula has
    it.
    """
    x, y = np.array([-2.0, -2, 0, 0, 2]), np.array([0.70, 0.74, 0.79, 0.77, 0.85])
    data = [Point("a", f"{k}@0", int(500_000 * 2**a), b, False) for k, (a, b) in enumerate(zip(x, y))]
    own = size_slopes([*data, *(replace(p, domain="b") for p in data)])
    design = np.column_stack([np.ones(5), x])
    solution, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    assert own is not None and own.levels["a"].value == pytest.approx(solution[0])
    assert (
        own.levels["a"].variance
        == pytest.approx(float(residual[0]) / 3 * np.linalg.inv(design.T @ design)[0, 0])
        and own.levels["a"].df == 3
    )


def test_sizes_trained_fewer_times_are_left_out_domain_by_domain() -> None:
    names = {"a": ["s@0", "s@1", "xs@0", "xs@1", "m@0"], "b": ["s@0", "m@0"]}
    data = [Point(domain, name, 500_000, 0.5, False) for domain, of in names.items() for name in of]
    kept = [(p.domain, p.model) for p in of_sizes_trained_often(data)]
    assert kept == [*(("a", name) for name in names["a"][:4]), ("b", "s@0"), ("b", "m@0")]


def test_the_best_network_may_lack_running_statistics_where_others_have_them() -> None:
    with_statistics = [
        r.model_copy(
            update={
                "implementation": {FLOOR_RECALIBRATED: 1},
                "method": r.method if r.method == "none" else f"{r.method}+recalibrate",
            }
        )
        for r in ladder("d", "bn", quality=0.5)
    ]
    without = ladder("d", "plain", quality=1.0)
    (found, *_) = best_within([*with_statistics, *without], [10**6])
    assert (found.size, found.method) == ("plain", "binary")


def test_models_scored_against_a_users_samples_are_in_no_comparison() -> None:
    shipped = [r for name in "ab" for seed in range(3) for r in ladder(name, f"s@{seed}")]
    own = [r.model_copy(update={"reference": "own:1"}) for r in ladder("a", "mine", quality=1.0)]
    found = report_data([*shipped, *own], {})
    assert "mine" in {m.model for m in found.models} and "mine" not in {m.model for m in found.compared}
    assert "mine" not in {r.model for r in found.of("a")} | {r.model for r in found.richest["a"]}
    assert "--reference" in command(own[0], ["int4"], own) and "--reference" not in command(
        shipped[0], ["int4"], shipped
    )


def test_a_run_on_a_users_samples_hides_no_shipped_run_and_is_in_no_mean() -> None:
    shipped = [r for name in "ab" for seed in range(2) for r in ladder(name, f"s@{seed}", seeds=(0, 1))]
    own = [r.model_copy(update={"reference": "own:1"}) for r in ladder("a", "s@0", quality=0.2)]
    other = [*ladder("a", "s@2", quality=0.2), *trained("a", "s@2", quality=0.2)]
    other = [r.model_copy(update={"reference": "own:1"}) for r in other]
    records = [*shipped, *trained("a", "s@0"), *trained("a", "s@1"), *own, *other]
    found = report_data(records, {})
    assert {m.model for m in found.compared if m.domain == "a"} == {"s@0", "s@1"}
    (way,) = found.ways
    assert {m.model for unit in way.together.after.units for m in unit} == {"s@0", "s@1"}
    drawn = {s.domain.name: s for s in series_of(records, print)}
    assert {m.model for m in drawn["a"].domain.models} == {"s@0", "s@1"}
    alone = series_of([r for r in own if r.domain == "a"], print)
    assert [s.domain.name for s in alone] == ["a"], "a user's own page draws them"


def test_the_best_network_is_a_mean_over_all_training_seeds_of_its_size() -> None:
    """At the harshest rung only the better network was measured."""
    worse = [r for r in ladder("d", "s@1", quality=0.2) if r.method in ("none", "int8")]
    (found, *_) = best_within([*ladder("d", "s@0", quality=1.0), *worse], [10**6])
    assert found.method == "int8"
    (found, *_) = best_within([*ladder("d", "s@0", quality=1.0), *ladder("d", "s@1", quality=0.2)], [10**6])
    assert found.method == "binary"


def test_of_two_names_of_one_training_seed_the_first_counts() -> None:
    """`s` is a model of training seed 0, as `s@0` is."""
    (found,) = domains_of([model("a", "s"), model("a", "s@0"), model("a", "s@1")])
    assert [[m.model for m in unit] for unit in found.units] == [["s"], ["s@1"]]


def test_models_of_low_u_are_hollow_and_bad_ones_no_points() -> None:
    models = [
        model("a", "s@0", 0.9),
        model("a", "xs@0", 0.9, u=0.3),
        model("a", "m@0", 0.9, u=0.2),
        model("a", "s@1", missing=["int8"]),
    ]
    found = points([*models, model("a", "s@2")], lambda m: None if m.model == "s@2" else 500_000, "quality")
    assert [(p.model, p.hollow) for p in found] == [("s@0", False), ("xs@0", True)]
    assert found[0].score == pytest.approx((0.95 * 2 + 0.9 * 2) / 4)  # from 1 down to .9 at rate 2
