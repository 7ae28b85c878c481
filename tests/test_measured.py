"""From records to arrays: retention, what each item adds to it, what is missing, and what is no repeat of
what.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from made_up import BASE, FLOOR, ladder, scored, stored

from bench.evaluation.bounds import Bounds
from bench.methods.notation import LADDER
from bench.records.cell import FLOOR_RECALIBRATED
from bench.records.schema import PRIMARY_METRIC, Record, metric_of, read_records
from bench.stats.intervals import item_covariance
from bench.stats.ladder import ROLES, ModelLadder, measured, models_of, with_records

ROOT = Path(__file__).parent.parent
PUBLISHED = pytest.mark.parametrize("domain", ["image_diffusion", "image_gan", "text"])


@pytest.fixture(scope="module")
def published() -> list[Record]:
    return [r for r in read_records(ROOT / "results") if r.model == "s@0"]


@pytest.fixture(scope="module")
def models(published: list[Record]) -> dict[str, ModelLadder]:
    return {m.domain: m for m in models_of(published)}


def by_seed(records: list[Record], domain: str, method: str) -> list[Record]:
    rung = method + ("+recalibrate" if domain == "image_gan" and method != "none" else "")
    return sorted((r for r in records if (r.domain, r.method) == (domain, rung)), key=lambda r: r.sample_seed)


def shipped_floor(domain: str, role: str) -> float:
    """By the first evaluators, which share a file; each second one has its own."""
    files = (ROOT / "domains" / domain / "weights" / "s@0" / "bounds").glob("*.json")
    (first,) = (
        b
        for b in (Bounds.model_validate_json(f.read_bytes()) for f in files)
        if all(value in b.floors[0] for value in map(metric_of, ROLES))
    )
    return float(np.mean(first.floor(metric_of(role))))


def flags(record: Record, role: str) -> np.ndarray:
    return (
        next(b for b in record.evaluators.values() if b.role == role)
        .items[PRIMARY_METRIC[role]]
        .unpack()
        .astype(float)
    )


# ------------------------------------------------------------------------------------------ published records


@PUBLISHED
def test_retentions_and_rates_are_the_records(
    domain: str, published: list[Record], models: dict[str, ModelLadder]
) -> None:
    m = models[domain]
    assert m.rungs == LADDER and m.whole and (m.size, m.training_seed) == ("s", "0")
    for i, rung in enumerate(LADDER):
        records = by_seed(published, domain, rung)
        assert [r.sample_seed for r in records] == [0, 1, 2]
        assert m.rates[i] == pytest.approx(np.mean([math.log2(r.cost.ratio) for r in records if r.cost]))
        for role in ROLES:
            assert m.outcomes[role].retention[i].tolist() == [r.metric(f"{role}_retention") for r in records]


@PUBLISHED
def test_the_span_is_baseline_minus_the_floor_that_ships(
    domain: str, published: list[Record], models: dict[str, ModelLadder]
) -> None:
    """Records do not hold the floor.

    It comes back from retentions in double precision, divided by at least a few hundredths.
    """
    for role in ROLES:
        base = np.mean([r.metric(metric_of(role)) or 0.0 for r in by_seed(published, domain, "none")])
        assert models[domain].outcomes[role].span == pytest.approx(
            base - shipped_floor(domain, role), abs=1e-12
        )


@PUBLISHED
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("rung", ["int6", "int3"])
def test_influence_is_how_retention_changes_without_an_item(
    domain: str, role: str, rung: str, published: list[Record]
) -> None:
    """Jackknife, the ratio computed again without each item: (n - 1) (R - R_i) is the centred influence,
    but for terms of R / (n span).
    """
    m = measured([r for r in published if r.domain == domain])
    assert m is not None
    kept, before = (flags(by_seed(published, domain, method)[0], role) for method in (rung, "none"))
    floor, n = shipped_floor(domain, role), len(kept)
    without = ((kept.sum() - kept) / (n - 1) - floor) / ((before.sum() - before) / (n - 1) - floor)
    whole = (kept.mean() - floor) / (before.mean() - floor)
    influence = m.outcomes[role].influence[LADDER.index(rung), 0]
    assert (n - 1) * (whole - without) == pytest.approx(influence - influence.mean(), abs=10 / n)


@PUBLISHED
def test_item_variance_of_quality_is_the_variance_of_a_ratio_of_paired_shares(
    domain: str, published: list[Record]
) -> None:
    """(p q + R² p0 q0 - 2 R cov) / span², each seed's own, over n - 1; the mean of S seeds has 1 / S² of the
    sum.

    On top come two items of all that an interval always counts as failed.
    """
    m = measured([r for r in published if r.domain == domain])
    assert m is not None
    base, at, n = by_seed(published, domain, "none"), m.outcomes["quality"], 2000
    for i, rung in enumerate(LADDER):
        total = 0.0
        for s, record in enumerate(by_seed(published, domain, rung)):
            p, p0 = flags(record, "quality").mean(), flags(base[s], "quality").mean()
            both, kept = (flags(record, "quality") * flags(base[s], "quality")).mean(), at.retention[i, s]
            span = p0 - shipped_floor(domain, "quality")
            total += (p * (1 - p) + kept**2 * p0 * (1 - p0) - 2 * kept * (both - p * p0)) / span**2
        assert item_covariance(at.influence, crossed=False)[i, i] == pytest.approx(
            total / 9 / (n - 1), abs=1e-15, rel=1e-9
        )
        assert at.covariance[i, i] - total / 9 / (n - 1) == pytest.approx(
            2 / (3 * n * at.span) ** 2, rel=1e-3
        )


@PUBLISHED
def test_twins_and_common_real_samples_make_intervals_narrower_than_unpaired_shares(
    domain: str, models: dict[str, ModelLadder]
) -> None:
    """At 8 bits nearly the same samples are scored, so the ratio is known better than from two independent
    drawings.
    """
    for role in ROLES:
        at = models[domain].outcomes[role]
        p, n = 0.8, at.influence.shape[2] * (1 if at.crossed else 3)
        unpaired = 2 * p * (1 - p) / n / at.span**2
        assert at.covariance[0, 0] < unpaired / 2


def test_a_text_models_samples_have_a_length(models: dict[str, ModelLadder]) -> None:
    assert models["image_gan"].lengths is None
    lengths = models["text"].lengths
    assert (
        lengths is not None
        and lengths.shape == (8,)
        and lengths[0] == pytest.approx(1.0, abs=0.02)
        and lengths[-1] > 5
    )


# -------------------------------------------------------------------------------------------- made-up records


def test_one_rung_by_hand() -> None:
    """73 of 100 valid beside 80, floor .10: retention .9; no item fell that was not valid before."""
    m = measured(ladder("d", quality=0.9))
    assert m is not None and (m.domain, m.model, m.missing, m.undefined) == ("d", "s@0", (), ())
    quality = m.outcomes["quality"]
    assert quality.retention == pytest.approx(0.9) and quality.span == pytest.approx(BASE - FLOOR)
    stayed, lost, never = (quality.influence[0, 0, i] for i in (0, 75, 99))
    assert (stayed, lost, never) == pytest.approx((0.1 / 0.7, -0.9 / 0.7, 0.0))
    assert m.u == pytest.approx({"quality": 0.9, "diversity": 0.9})


def test_a_network_that_diverged_has_kept_nothing_and_no_item_says_more() -> None:
    dead = {"status": "diverged", "metrics": {}, "evaluators": {}, "items": {}}
    records = [
        r.model_copy(update=dead) if r.method == "binary" and r.sample_seed == 1 else r
        for r in ladder("d", quality=0.9)
    ]
    m = measured(records)
    assert m is not None and m.whole
    for role, kept in zip(ROLES, (0.9, 1.0)):
        assert m.outcomes[role].retention[-1] == pytest.approx([kept, 0.0, kept])
        assert not m.outcomes[role].influence[-1, 1].any()
        assert m.outcomes[role].between_seeds > 0, "that one seed of three died is a difference between seeds"


def test_a_missing_rung_is_named_and_not_zero() -> None:
    m = measured([r for r in ladder("d") if r.method not in ("int4", "binary")])
    assert m is not None and m.missing == ("int4", "binary") and not m.whole
    assert m.rungs == tuple(rung for rung in LADDER if rung not in m.missing) and len(m.rates) == 6


def test_what_failed_was_not_measured() -> None:
    failed = [
        r.model_copy(update={"status": "failed", "metrics": {}}) if r.method == "int4" else r
        for r in ladder("d")
    ]
    m = measured(failed)
    assert m is not None and m.missing == ("int4",)


def test_a_baseline_too_near_the_floor_is_said_and_is_not_unmeasured() -> None:
    flat = [r.model_copy(update={"metrics": {**r.metrics, "quality_retention": None}}) for r in ladder("d")]
    (m,) = models_of(flat)
    assert m.undefined == LADDER and not m.missing and not m.rungs and not m.whole


def test_sampling_seeds_without_a_baseline_or_without_a_rung_are_left_out() -> None:
    records = ladder("d", quality=0.9)
    no_baseline = measured([r for r in records if (r.method, r.sample_seed) != ("none", 0)])
    assert no_baseline is not None and no_baseline.outcomes["quality"].retention.shape == (8, 2)
    stopped = measured([r for r in records if (r.method, r.sample_seed) != ("binary", 2)])
    assert stopped is not None and stopped.whole and stopped.outcomes["quality"].retention.shape == (8, 2)
    assert measured([r for r in records if r.method != "none"]) is None
    assert measured([r for r in records if r.method == "none"]) is None
    assert measured([]) is None


def test_rungs_of_other_sampling_seeds_are_missing_and_the_model_is_still_there() -> None:
    """`int8` under seed 0 and all others under seed 1: those that most rungs have."""
    records = [
        r
        for r in ladder("d", quality=0.9)
        if r.method == "none" or r.sample_seed == (0 if r.method == "int8" else 1)
    ]
    m = measured(records)
    assert m is not None and m.missing == ("int8",) and m.rungs == LADDER[1:] and not m.whole
    assert m.outcomes["quality"].retention.shape == (7, 1)


def test_a_baseline_that_diverged_is_none() -> None:
    """Then its whole seed did, since every cell is compared with it: no retention of 0, nothing at all."""
    dead = [
        r.model_copy(update={"status": "diverged", "metrics": {}, "evaluators": {}})
        if r.sample_seed == 0
        else r
        for r in ladder("d")
    ]
    m = measured(dead)
    assert (
        m is not None
        and m.outcomes["quality"].retention.shape == (8, 2)
        and m.outcomes["quality"].mean == pytest.approx(1.0)
    )
    assert models_of([r for r in dead if r.sample_seed == 0]) == []


def test_a_single_sampling_seed_has_intervals_over_its_items() -> None:
    m = measured(ladder("d", quality=0.9, seeds=(0,)))
    assert m is not None
    low, high = m.outcomes["quality"].rung(0).interval() or (0.0, 0.0)
    assert low < 0.9 < high and m.outcomes["quality"].between_seeds == 0.0


def test_the_ladder_is_the_recalibrated_one_where_there_is_one() -> None:
    again = {"implementation": {FLOOR_RECALIBRATED: 1}}
    plain = [r.model_copy(update=again) for r in ladder("d", quality=0.2)]
    better = [
        r.model_copy(update={**again, "method": r.method + "+recalibrate"})
        for r in ladder("d", quality=0.8)
        if r.method != "none"
    ]
    m = measured([*plain, *better])
    # of 100 samples
    assert m is not None and m.rungs == LADDER and m.outcomes["quality"].mean == pytest.approx(0.8, abs=0.005)
    assert measured(plain) is None


def test_a_size_that_nobody_knows_is_not_a_number() -> None:
    unknown = [
        r.model_copy(update={"cost": None}) if r.method == "int4" and r.sample_seed else r
        for r in ladder("d")
    ]
    m = measured(unknown)
    assert m is not None and m.rates[3] == pytest.approx(3.0), "the other seeds' files are as large"
    nowhere = measured([r.model_copy(update={"cost": None}) if r.method == "binary" else r for r in unknown])
    assert nowhere is not None and math.isnan(nowhere.rates[-1])


# ---------------------------------------------------------------------------------- what is no repeat of what


@pytest.mark.parametrize(
    "other",
    [{"samples": 200}, {"k": 3}, {"weights_sha256": "1"}, {"reference": "own"}, {"sampler": {"steps": 9}},
     {"companions": "x"}, {"implementation": {"evaluator judge": 2}}],
)  # fmt: skip
def test_other_conditions_are_never_mixed(other: dict[str, object]) -> None:
    records = ladder("d", quality=0.9)
    foreign = [
        r.model_copy(update={**other, "sample_seed": r.sample_seed + 3}) for r in ladder("d", quality=0.2)
    ]
    (m,) = models_of([*foreign[:-3], *records])
    assert (
        m.whole
        and m.outcomes["quality"].mean == pytest.approx(0.9)
        and m.outcomes["quality"].retention.shape[1] == 3
    )
    ((same, kept),) = with_records([*foreign[:-3], *records])
    assert same.model == "s@0" and sorted(r.cell + r.method for r in kept) == sorted(
        r.cell + r.method for r in records
    )


def test_the_version_of_a_method_alone_separates_nothing() -> None:
    """`int4` of version 2 stands beside `int8` of version 1: their evaluators have to be the same, not the
    versions of their methods.
    """
    records = [
        r.model_copy(update={"implementation": {"evaluator judge": 1, r.method: 1 + i % 2}})
        for i, r in enumerate(ladder("d"))
    ]
    (m,) = models_of(records)
    assert m.whole


def test_models_without_a_ladder_are_no_models_here() -> None:
    alone = [
        scored("none", 0, 1.0, 1.0, "d", "own"),
        stored(scored("magnitude", 0, 0.5, 0.5, "d", "own"), 2.0),
    ]
    assert [m.model for m in models_of([*alone, *ladder("d")])] == ["s@0"]
    assert models_of([]) == []


def test_names_of_contributed_models_need_no_seed() -> None:
    (m,) = models_of(ladder("d", at="org/a-model"))
    assert (m.size, m.training_seed) == ("org/a-model", "0")
