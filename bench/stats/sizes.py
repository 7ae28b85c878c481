"""What size has to do with it: scores against parameters, and whether a smaller dense network would have done as well.

With few models a regression shows more than it proves: all points are shown, and the interval has as few degrees of freedom as it has.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean

import numpy as np

from bench.methods.notation import LADDER, RECALIBRATED
from bench.records.schema import Record
from bench.stats.compressibility import FULL_RANGE, is_recalibrated
from bench.stats.intervals import Estimate, equal, mean_of_independent
from bench.stats.ladder import ITEMS, ROLES, ModelLadder, grouped, size_of, training_seed_of
from bench.stats.scores import REGRESSED_FROM, good_enough, model_score


@dataclass(frozen=True)
class Point:
    """One model in the regression; hollow: its U is too low for the headline."""

    domain: str
    model: str
    parameters: int
    score: float
    hollow: bool
    interval: tuple[float, float] | None = None  # of this model alone


@dataclass(frozen=True)
class Fit:
    """C = level of the domain + slope * log2(parameters / 0.5 M), by least squares; one slope for all domains."""

    levels: dict[str, Estimate]
    slope: Estimate
    residual_df: int


def points(models: Sequence[ModelLadder], parameters: Callable[[ModelLadder], int | None], role: str) -> list[Point]:
    """Models whose U is at least 0.25 and whose ladder is whole."""
    found = []
    for m in models:
        scored, count = model_score(m, role, FULL_RANGE), parameters(m)
        if scored is not None and count and good_enough(m, REGRESSED_FROM):
            found.append(Point(m.domain, m.model, count, scored.value, not good_enough(m), scored.interval()))
    return found


REFERENCE_SIZE = 500_000
SAME_SIZE = 0.5  # of a doubling: networks nearer to each other are of one size


def with_sizes(data: Sequence[Point]) -> list[str]:
    """Domains with models of more than one size: the slope rests on these alone."""
    found = {p.domain: [math.log2(q.parameters) for q in data if q.domain == p.domain] for p in data}
    return sorted(domain for domain, sizes in found.items() if np.ptp(sizes) >= SAME_SIZE)


def of_sizes_trained_often(data: Sequence[Point]) -> list[Point]:
    """Without those sizes of which a domain has fewer trainings than of another."""
    trained = Counter((p.domain, size_of(p.model)) for p in data)
    most = {p.domain: max(n for (domain, _), n in trained.items() if domain == p.domain) for p in data}
    return [p for p in data if trained[p.domain, size_of(p.model)] == most[p.domain]]


def regress(data: Sequence[Point]) -> Fit | None:
    """Ordinary least squares; None where no domain has two sizes, or nothing is left to estimate the error from."""
    domains = sorted({p.domain for p in data})
    df = len(data) - len(domains) - 1
    if df < 1 or not with_sizes(data):
        return None
    log_size = np.array([math.log2(p.parameters / REFERENCE_SIZE) for p in data])
    design = np.column_stack([*([float(p.domain == d) for p in data] for d in domains), log_size])
    y = np.array([p.score for p in data])
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = float(((y - design @ solution) ** 2).sum()) / df
    covariance = variance * np.linalg.pinv(design.T @ design)
    estimates = [Estimate(float(b), float(v), df) for b, v in zip(solution, np.diag(covariance))]
    return Fit(dict(zip(domains, estimates)), estimates[-1], df)


@dataclass(frozen=True)
class OwnSlopes:
    """A slope for each domain with models of several sizes, each with a residual variance of its own, and their plain mean.

    `levels`: C of a network of `REFERENCE_SIZE`, on the domain's own line. `p`: were the slopes equal, the chance that they differ as much.
    """

    slopes: dict[str, Estimate]
    levels: dict[str, Estimate]
    average: Estimate
    p: float


def own_slopes(data: Sequence[Point]) -> OwnSlopes | None:
    """Least squares in each domain; None with fewer than two domains of several sizes that leave something to estimate the error from.

    The scatter around the line differs between domains by more than chance would have it, so it is not pooled.
    """
    slopes, levels = {}, {}
    for domain in with_sizes(data):
        points_of = [(math.log2(p.parameters / REFERENCE_SIZE), p.score) for p in data if p.domain == domain]
        x, y = (np.array(column) for column in zip(*points_of))
        if (df := len(x) - 2) > 0:
            spread = float(((x - x.mean()) ** 2).sum())
            slope = float((x - x.mean()) @ y) / spread
            residual = float(((y - y.mean() - slope * (x - x.mean())) ** 2).sum())
            slopes[domain] = Estimate(slope, residual / df / spread, df)
            level_variance = residual / df * (1 / len(x) + float(x.mean()) ** 2 / spread)
            levels[domain] = Estimate(float(y.mean()) - slope * float(x.mean()), level_variance, df)
    if len(slopes) < 2:
        return None
    return OwnSlopes(slopes, levels, mean_of_independent(list(slopes.values())), equal(list(slopes.values())))


# ------------------------------------------------------------------------------------------------------ iso-quality gain


@dataclass(frozen=True)
class Gain:
    """log2(bytes of the smallest dense network of equal quality) - log2(bytes of the compressed one), mean over training seeds.

    Positive: compressing a larger network beats training a smaller one; 1 is a halving. `bound`: the compressed network is better
    than the largest dense one, or worse than the smallest, so that the gain is at least, or at most, this. `by_seed`: the same of each
    training seed with its own networks alone, where it has those sizes.
    """

    value: float
    rung: str
    size: str
    bound: str = ""  # "", "at least", "at most"
    by_seed: tuple[Gain, ...] = ()


def iso_quality_gain(records: Sequence[Record], sizes: Sequence[str], seeds: tuple[int, ...] = (0,)) -> Gain | None:
    """Of one domain: the size and rung with the largest gain; None with fewer than two sizes.

    Chosen on the sampling seeds `seeds`, measured on the others, the yardstick too; training seeds are averaged before anything is chosen,
    since the luckiest of three trainings is no property of a size, and a size with fewer trainings than another takes no part. Dense
    networks count with their fp32 file. The smallest size is a yardstick only: compressed itself, it would have to be compared with
    dense networks smaller than any that was measured.
    """
    records = of_all_trainings(records)
    chosen, held_out = ([r for r in records if (r.sample_seed in seeds) is wanted] for wanted in (True, False))
    dense, dense_held_out = dense_curve(chosen, sizes), dense_curve(held_out, sizes)
    if min(len(dense), len(dense_held_out)) < 2:
        return None
    ending = RECALIBRATED if is_recalibrated(records) else ""
    competing = {rung + ending for rung in LADDER}
    larger = [r for r in chosen if r.cost and math.log2(r.cost.fp32_bytes) > dense[0][0] + SAME_SIZE and r.method in competing]
    eligible = []
    for (size, method), group in grouped(larger, lambda r: (size_of(r.model), r.method)):
        others = [r for r in held_out if (size_of(r.model), r.method) == (size, method)]
        gain = gain_of(group, dense)
        if gain is not None and gain.bound != "at most" and others:
            eligible.append((gain.value, others))
    if not eligible:
        return None
    _, others = max(eligible, key=lambda pair: pair[0])
    found = gain_of(others, dense_held_out)
    return found and replace(found, by_seed=_by_seed(others, held_out, sizes))


def of_all_trainings(records: Sequence[Record]) -> list[Record]:
    """Of one domain: those of the sizes of which as many trainings were measured, uncompressed, as of any."""
    trained = Counter(size_of(model) for model in {r.model for r in records if r.method == "none"})
    most = max(trained.values(), default=0)
    return [r for r in records if trained[size_of(r.model)] == most]


def _by_seed(held_out: Sequence[Record], records: Sequence[Record], sizes: Sequence[str]) -> tuple[Gain, ...]:
    found = []
    for seed, group in grouped(held_out, lambda r: training_seed_of(r.model)):
        dense = dense_curve([r for r in records if training_seed_of(r.model) == seed], sizes)
        if len(dense) > 1 and (gain := gain_of(group, dense)) is not None:
            found.append(gain)
    return tuple(found)


def dense_curve(records: Sequence[Record], sizes: Sequence[str]) -> list[tuple[float, float]]:
    """(log2 bytes, quality) of the uncompressed networks, one point a size, from small to large; quality made to rise with size."""
    found = []
    for size in sizes:
        group = [r for r in records if r.method == "none" and size_of(r.model) == size and r.cost]
        if group:
            found.append((mean(math.log2(r.cost.fp32_bytes) for r in group if r.cost), mean(_quality(r) for r in group)))
    found.sort()
    quality: list[float] = np.maximum.accumulate([q for _, q in found]).tolist() if found else []
    return [(x, q) for (x, _), q in zip(found, quality)]


def gain_of(records: Sequence[Record], dense: Sequence[tuple[float, float]]) -> Gain | None:
    """Of repeats of one size and rung, training and sampling seeds alike."""
    if not records or any(r.cost is None or r.status not in ("ok", "collapsed") for r in records):
        return None
    quality = mean(_quality(r) for r in records)
    stored = mean(math.log2(r.cost.stored_bytes) for r in records if r.cost)
    x, q = [x for x, _ in dense], [q for _, q in dense]
    smallest = next((size for size, reached in dense if reached == quality), None)  # of several that are equally good
    bound = "at least" if quality > q[-1] else "at most" if quality < q[0] else ""
    needed = x[-1] if quality > q[-1] else x[0] if quality < q[0] else smallest or float(np.interp(quality, q, x))
    return Gain(needed - stored, records[0].method.removesuffix(RECALIBRATED), size_of(records[0].model), bound)


def _quality(record: Record) -> float:
    return record.metric("quality_valid") or 0.0


# -------------------------------------------------------------------------------------------------- within so many bytes


@dataclass(frozen=True)
class Fits:
    """The best network of one domain within a number of bytes: size and method, and what was measured of it on other sampling seeds."""

    limit: int
    size: str
    method: str  # a rung, or `none`
    stored: float  # bytes
    values: dict[str, float]  # validity and mutual recall, means over training and sampling seeds


def best_within(records: Sequence[Record], limits: Sequence[int], seeds: tuple[int, ...] = (0,)) -> list[Fits]:
    """Of one domain, all sizes and rungs, uncompressed ones included: the one whose smaller value (validity, mutual recall) is largest.

    Chosen on the sampling seeds `seeds`, measured on the others; sizes with fewer trainings than another take no part. A limit that
    nothing fits is left out, and so is one where a smaller limit's network is still the best.
    """
    records = of_all_trainings(records)
    ending = RECALIBRATED if is_recalibrated(records) else ""
    methods = {"none", *(rung + ending for rung in LADDER)}
    cells = []
    for (size, method), group in grouped([r for r in records if r.method in methods and r.cost], lambda r: (size_of(r.model), r.method)):
        chosen, held_out = ([r for r in group if (r.sample_seed in seeds) is wanted] for wanted in (True, False))
        if chosen and held_out:
            stored = mean(r.cost.stored_bytes for r in group if r.cost)
            cells.append((stored, min(_values(chosen).values()), size, method.removesuffix(RECALIBRATED), held_out))
    found: list[Fits] = []
    for limit in sorted(limits):
        fitting = [cell for cell in cells if cell[0] <= limit]
        if fitting:
            stored, _, size, method, held_out = max(fitting, key=lambda cell: cell[1])
            if not found or (found[-1].size, found[-1].method) != (size, method):
                found.append(Fits(limit, size, method, stored, _values(held_out)))
    return found


def _values(records: Sequence[Record]) -> dict[str, float]:
    """A network that diverged makes nothing."""
    return {role: mean(r.metric(f"{role}_{ITEMS[role]}") or 0.0 for r in records) for role in ROLES}
