"""Scores against size, and the bytes of a dense network that is as good."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from made_up import BASE, FLOOR, judged, model, stored

from bench.records.schema import Record
from bench.stats.sizes import (
    REFERENCE_SIZE,
    Point,
    best_within,
    dense_curve,
    gain_of,
    iso_quality_gain,
    of_sizes_trained_often,
    own_slopes,
    points,
    regress,
    with_sizes,
)


def made(slope: float, levels: dict[str, float], sizes: tuple[int, ...] = (125_000, 500_000, 2_000_000)) -> list[Point]:
    return [Point(name, f"{n}@0", n, level + slope * math.log2(n / REFERENCE_SIZE), False) for name, level in levels.items() for n in sizes]


def test_a_known_slope_comes_back_exactly_with_the_levels_at_half_a_million() -> None:
    fit = regress(made(0.03, {"a": 0.9, "b": 0.5}))
    assert fit is not None and fit.residual_df == 6 - 3
    assert fit.slope.value == pytest.approx(0.03)
    assert {name: level.value for name, level in fit.levels.items()} == pytest.approx({"a": 0.9, "b": 0.5})
    assert (fit.slope.interval() or (1,))[0] == pytest.approx(0.03), "no error is left"


def test_the_interval_of_the_slope_is_that_of_a_simple_regression() -> None:
    """One domain: scipy's."""
    from scipy.stats import linregress, t

    errors = [0.02, -0.03, 0.01, 0.04, -0.02]
    data = [
        replace(p, score=p.score + e) for p, e in zip(made(0.05, {"a": 0.7}, (100_000, 200_000, 500_000, 1_000_000, 3_000_000)), errors)
    ]
    fit = regress(data)
    reference = linregress([math.log2(p.parameters / REFERENCE_SIZE) for p in data], [p.score for p in data])
    half = t.ppf(0.975, 3) * reference.stderr
    assert fit is not None and fit.levels["a"].value == pytest.approx(reference.intercept)
    assert fit.slope.interval() == pytest.approx((reference.slope - half, reference.slope + half))


def test_levels_of_domains_are_no_slope() -> None:
    """The larger models are of the better domain; within each, size does nothing."""
    data = made(0.0, {"a": 0.2}, (100_000, 200_000)) + made(0.0, {"b": 0.9}, (1_000_000, 2_000_000))
    fit = regress([*data, replace(data[0])])
    assert fit is not None and fit.slope.value == pytest.approx(0.0, abs=1e-12)


def test_slopes_of_domains_are_theirs_with_errors_of_their_own() -> None:
    """scipy's slope and standard error in each domain, however much another one scatters."""
    from scipy.stats import linregress

    rng = np.random.default_rng(0)
    noise = {"a": 0.002, "b": 0.05}
    steep = [*made(0.05, {"a": 0.7}), *made(-0.01, {"b": 0.8})] * 2
    data = [replace(p, score=p.score + noise[p.domain] * float(rng.standard_normal())) for p in steep]
    alone = made(0.3, {"c": 0.5}, (500_000,))  # of one size: says nothing of slopes
    found = own_slopes([*data, *alone])
    assert found is not None and list(found.slopes) == ["a", "b"]
    for d, slope in found.slopes.items():
        reference = linregress(*zip(*((math.log2(p.parameters), p.score) for p in data if p.domain == d)))
        assert (slope.value, math.sqrt(slope.variance or 0), slope.df) == pytest.approx((reference.slope, reference.stderr, 4))
    assert found.average.value == pytest.approx(sum(s.value for s in found.slopes.values()) / 2)
    assert found.average.df == pytest.approx(4, abs=0.1), "nearly all of the error is b's"


def test_parallel_slopes_are_not_told_apart_and_one_domain_has_none_to_compare() -> None:
    errors = (0.01, -0.01, 0.005, -0.01, 0.01, -0.005)
    parallel = [replace(p, score=p.score + e) for p, e in zip(made(0.03, {"a": 0.9, "b": 0.5}), errors)]
    found = own_slopes(parallel)
    assert found is not None and found.p > 0.2
    assert own_slopes(parallel[:3]) is None and own_slopes([]) is None
    assert own_slopes([p for p in parallel if p.parameters > 200_000]) is None, "two points a domain: two lines without error"


def test_no_regression_without_two_sizes_or_with_nothing_left_over() -> None:
    one_size = [replace(p, score=p.score + 0.01 * i) for i, p in enumerate(made(0.0, {"a": 0.5, "b": 0.6}, (500_000,)) * 3)]
    assert regress(one_size) is None, "sizes differ between domains alone"
    assert regress(made(0.1, {"a": 0.5}, (500_000, 2_000_000))) is None, "two points, a line: no error can be estimated"
    assert regress([]) is None


def test_the_slope_rests_on_domains_of_several_sizes_and_the_leaderboard_names_them() -> None:
    from bench.report.per_model import _regression

    data = made(0.03, {"a": 0.9}) + made(0.03, {"b": 0.5}, (480_000, 500_000))
    assert with_sizes(data) == ["a"]
    assert "2 degrees of freedom; more than one size only in a)." in _regression(data)
    assert _regression(data).endswith("C on these lines at 0.5 M parameters: a 0.900 [0.900, 0.900], b 0.500 [0.500, 0.500].")
    assert "only in" not in _regression(made(0.03, {"a": 0.9, "b": 0.5}))
    own = own_slopes(made(0.03, {"a": 0.9, "b": 0.5}))
    assert own is not None and {d: level.value for d, level in own.levels.items()} == pytest.approx({"a": 0.9, "b": 0.5})


def test_a_level_is_the_prediction_of_a_simple_regression() -> None:
    """Of C at 0.5 M parameters, with its standard error, as statsmodels' and every textbook's formula has it."""
    x, y = np.array([-2.0, -2, 0, 0, 2]), np.array([0.70, 0.74, 0.79, 0.77, 0.85])
    data = [Point("a", f"{k}@0", int(500_000 * 2**a), b, False) for k, (a, b) in enumerate(zip(x, y))]
    own = own_slopes([*data, *(replace(p, domain="b") for p in data)])
    design = np.column_stack([np.ones(5), x])
    solution, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    assert own is not None and own.levels["a"].value == pytest.approx(solution[0])
    assert (
        own.levels["a"].variance == pytest.approx(float(residual[0]) / 3 * np.linalg.inv(design.T @ design)[0, 0])
        and own.levels["a"].df == 3
    )


def test_sizes_trained_fewer_times_are_left_out_domain_by_domain() -> None:
    names = {"a": ["s@0", "s@1", "xs@0", "xs@1", "m@0"], "b": ["s@0", "m@0"]}
    data = [Point(domain, name, 500_000, 0.5, False) for domain, of in names.items() for name in of]
    kept = [(p.domain, p.model) for p in of_sizes_trained_often(data)]
    assert kept == [*(("a", name) for name in names["a"][:4]), ("b", "s@0"), ("b", "m@0")]


def test_models_of_low_u_are_hollow_and_bad_ones_no_points() -> None:
    models = [model("a", "s@0", 0.9), model("a", "xs@0", 0.9, u=0.3), model("a", "m@0", 0.9, u=0.2), model("a", "s@1", missing=["int8"])]
    found = points([*models, model("a", "s@2")], lambda m: None if m.model == "s@2" else 500_000, "quality")
    assert [(p.model, p.hollow) for p in found] == [("s@0", False), ("xs@0", True)]
    assert found[0].score == pytest.approx((0.95 * 2 + 0.9 * 2) / 4)  # from 1 down to .9 at rate 2


# ----------------------------------------------------------------------------------------------------- iso-quality gain

SIZES = ("xs", "s", "m")
BYTES = {"xs": 500_000, "s": 2_000_000, "m": 8_000_000}
VALID = {"xs": 0.4, "s": 0.6, "m": 0.8}


def network(at: str, method: str, ratio: float, valid: float, seeds: tuple[int, ...] = (0, 1, 2)) -> list[Record]:
    """Of that validity under all seeds."""
    kept = (valid - FLOOR) / (BASE - FLOOR)
    return [stored(judged(method, seed, kept, 1.0, "d", at), ratio, BYTES[at.partition("@")[0]]) for seed in seeds]


def dense() -> list[Record]:
    return [r for size in SIZES for r in network(f"{size}@0", "none", 1.0, VALID[size])]


def test_dense_networks_from_small_to_large() -> None:
    assert dense_curve(dense(), SIZES) == [pytest.approx((math.log2(BYTES[size]), VALID[size])) for size in SIZES]
    worse = [*dense(), *network("m@1", "none", 1.0, 0.1)]
    assert [q for _, q in dense_curve(worse, SIZES)] == pytest.approx([0.4, 0.6, 0.6]), "a larger one is never needed for less"
    assert dense_curve(dense(), ("s",)) == [pytest.approx((math.log2(2_000_000), 0.6))]
    assert dense_curve([], SIZES) == []


def test_a_known_gain() -> None:
    """m in an eighth of its bytes is as valid as s: 1 MB beside 2 MB, one halving. Halfway between s and m: 4 MB beside 1 MB, two."""
    found = iso_quality_gain([*dense(), *network("m@0", "int4", 8, 0.6)], SIZES)
    assert found is not None and (found.rung, found.size, found.bound) == ("int4", "m", "") and found.value == pytest.approx(1.0)
    found = iso_quality_gain([*dense(), *network("m@0", "int4", 8, 0.7)], SIZES)
    assert found is not None and found.value == pytest.approx(2.0)
    loss = iso_quality_gain([*dense(), *network("m@0", "int8", 4, 0.4)], SIZES)
    assert loss is not None and loss.value == pytest.approx(-2.0), "a dense xs of a quarter of the bytes is as good"


def test_beyond_the_dense_networks_a_gain_is_a_bound() -> None:
    curve = dense_curve(dense(), SIZES)
    better = gain_of(network("m@0", "int8", 4, 0.9), curve)
    assert better is not None and (better.bound, better.value) == ("at least", pytest.approx(2.0))
    worse = gain_of(network("m@0", "binary", 32, 0.2), curve)
    assert worse is not None and (worse.bound, worse.value) == ("at most", pytest.approx(1.0))


def test_of_equally_good_dense_networks_the_smallest_counts() -> None:
    flat = [(18.0, 0.4), (20.0, 0.6), (22.0, 0.6)]
    found = gain_of(network("m@0", "int4", 8, 0.6), flat)
    assert found is not None and found.value == pytest.approx(20.0 - math.log2(1_000_000)) and not found.bound


def test_the_rung_is_chosen_on_one_seed_and_measured_on_the_others() -> None:
    """int4 wins on seed 0 by luck; what it gains is what seeds 1 and 2 say."""
    lucky = network("m@0", "int4", 8, 0.7, (0,)) + network("m@0", "int4", 8, 0.5, (1, 2))
    found = iso_quality_gain([*dense(), *lucky, *network("m@0", "int6", 4, 0.6)], SIZES)
    assert found is not None and found.rung == "int4"
    assert found.value == pytest.approx(0.0), "halfway between xs and s: 1 MB, as large as the compressed file"


def test_training_seeds_are_averaged_before_anything_is_chosen() -> None:
    """The luckiest training of a size would be worth two halvings; the size is worth what its trainings are worth together."""
    lucky = network("m@0", "int4", 8, 0.7) + network("m@1", "int4", 8, 0.5)
    found = iso_quality_gain([*dense(), *lucky], SIZES)
    assert found is not None and found.value == pytest.approx(1.0), "mean validity .6: as a dense s"


def test_a_size_with_fewer_trainings_than_another_takes_no_part() -> None:
    """The one m is worth two halvings, and may be lucky, as a yardstick, too; of s there are two trainings, worth half a one."""
    lucky = network("m@0", "int4", 8, 0.7)
    twice = [r for at in ("s@0", "s@1") for r in network(at, "int4", 8, 0.45)]
    more = [replace_model(r, r.model.replace("@0", "@1")) for r in dense()]
    once = [*dense(), *(r for r in more if r.model != "m@1"), *lucky, *twice]
    found = iso_quality_gain(once, SIZES)
    assert found is not None and found.size == "s" and found.value == pytest.approx(1.5)
    assert found == iso_quality_gain([r for r in once if r.model != "m@0"], SIZES)
    assert {fits.size for fits in best_within(once, [10**4 * 2**k for k in range(12)])} == {"s"}
    found = iso_quality_gain([*dense(), *more, *lucky, *(replace_model(r, "m@1") for r in lucky), *twice], SIZES)
    assert found is not None and found.size == "m"


def test_the_yardstick_of_the_choice_is_not_the_one_that_measures() -> None:
    """Under seed 0 the uncompressed networks look worse than they are: that flatters the choice, and not the figure."""
    unlucky = [r for size in SIZES for r in network(f"{size}@0", "none", 1.0, VALID[size] - 0.1, (0,))]
    held_out = [r for size in SIZES for r in network(f"{size}@0", "none", 1.0, VALID[size], (1, 2))]
    found = iso_quality_gain([*unlucky, *held_out, *network("m@0", "int4", 8, 0.6)], SIZES)
    assert found is not None and found.value == pytest.approx(1.0)


def test_a_rung_that_waits_for_its_other_seeds_does_not_win() -> None:
    """A sweep goes seed by seed: m is far ahead and half measured, s is whole."""
    begun = network("m@0", "int4", 8, 0.7, (0,))
    found = iso_quality_gain([*dense(), *begun, *network("s@0", "int4", 8, 0.45)], SIZES)
    assert found is not None and found.size == "s"


def test_a_bound_may_win_and_is_called_one() -> None:
    found = iso_quality_gain([*dense(), *network("m@0", "int8", 4, 0.9), *network("m@0", "int4", 8, 0.6)], SIZES)
    assert found is not None and (found.rung, found.bound, found.value) == ("int8", "at least", pytest.approx(2.0))
    assert iso_quality_gain([*dense(), *network("m@0", "binary", 32, 0.2)], SIZES) is None, "at most so much is no gain"


def test_the_smallest_size_is_a_yardstick_and_no_candidate() -> None:
    """Compressed to an eighth it is as valid as ever; what an even smaller dense network would do, nobody has measured."""
    smallest = network("xs@0", "int4", 8, VALID["xs"])
    found = iso_quality_gain([*dense(), *smallest, *network("m@0", "int4", 8, 0.6)], SIZES)
    assert found is not None and (found.size, found.value) == ("m", pytest.approx(1.0))
    assert iso_quality_gain([*dense(), *smallest], SIZES) is None


def test_the_gain_of_each_training_seed_is_among_its_own_networks() -> None:
    """`s@1`, uncompressed, is as good as the compressed `m@1`; `s@0` is far from `m@0`."""
    first = [*dense(), *network("m@0", "int4", 8, 0.7)]
    second = [replace_model(r, r.model.replace("@0", "@1")) for r in [*dense(), *network("m@0", "int4", 8, 0.6)]]
    found = iso_quality_gain([*first, *second], SIZES)
    alone = [iso_quality_gain(records, SIZES) for records in (first, second)]
    assert found is not None and all(alone)
    by_seed = [one.value for one in found.by_seed]
    assert by_seed == pytest.approx([one.value for one in alone if one]) and min(by_seed) < found.value < max(by_seed)
    elsewhere = [replace_model(r, r.model.replace("@0", "@2")) for r in dense() if not r.model.startswith("m")]
    lonely = iso_quality_gain([*first, *(r for r in second if r.model == "m@1"), *elsewhere], SIZES)
    assert lonely is not None and len(lonely.by_seed) == 1, "a training seed without smaller networks has none to be compared with"


def replace_model(record: Record, name: str) -> Record:
    return record.model_copy(update={"model": name})


def test_within_so_many_bytes_the_better_network_is_chosen_on_seed_0_and_measured_on_the_others() -> None:
    """m at 4 bits (1 MB, .35) is worse than an uncompressed xs (.5 MB, .4); at 8 bits (2 MB, .65) better than an uncompressed s (.6)."""
    records = [*dense(), *network("m@0", "int8", 4, 0.65), *network("m@0", "int4", 8, 0.35), *network("xs@0", "int8", 4, 0.38)]
    limits = [10_000, 200_000, 600_000, 1_100_000, 2_100_000, 9_000_000]
    found = [(fits.limit, fits.size, fits.method) for fits in best_within(records, limits)]
    assert found == [(200_000, "xs", "int8"), (600_000, "xs", "none"), (2_100_000, "m", "int8"), (9_000_000, "m", "none")]
    lucky = [r.model_copy(update={"metrics": {**r.metrics, "quality_valid": 0.99}}) if r.sample_seed else r for r in records[-3:]]
    again = best_within([*records[:-3], *lucky], limits)
    assert [(fits.limit, fits.size, fits.method) for fits in again] == found, "luck on the seeds that measure chooses nothing"
    assert again[0].values["quality"] == pytest.approx(0.99)


def test_what_gives_no_gain() -> None:
    rungs = network("m@0", "int4", 8, 0.6)
    assert iso_quality_gain([*dense()[:3], *rungs], SIZES) is None, "one size"
    assert iso_quality_gain(dense(), SIZES) is None, "no rung"
    assert iso_quality_gain([*dense(), *network("m@0", "magnitude", 8, 0.6)], SIZES) is None, "no rung of the ladder"
    assert iso_quality_gain([*dense(), *rungs[:1]], SIZES) is None, "nothing but the seed that chose"
    died = [r.model_copy(update={"status": "diverged", "metrics": {}}) for r in rungs]
    assert iso_quality_gain([*dense(), *died], SIZES) is None
    assert iso_quality_gain([], SIZES) is None and gain_of([], [(1.0, 0.5)]) is None
