"""The effect of size: regression of scores on parameters, and whether a smaller dense network would be as
good.

With few models a regression can mislead, so all points are shown, and the interval has the proper degrees of
freedom.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from bench.methods.notation import ladder, without_recalibration
from bench.records.schema import Record, metric_of
from bench.stats.compressibility import FULL_RANGE, recalibrated_ladder
from bench.stats.frontier import CHOOSING_SEED
from bench.stats.intervals import Estimate, equal, mean_of_independent
from bench.stats.ladder import ROLES, ModelLadder, grouped, size_of
from bench.stats.scores import REGRESSED_FROM, good_enough, model_score


@dataclass(frozen=True)
class Point:
    """One model in the regression. `hollow` means that its U is too low for the ranking."""

    domain: str
    model: str
    parameters: int
    score: float
    hollow: bool
    interval: tuple[float, float] | None = None  # the interval of this model alone


def points(
    models: Sequence[ModelLadder], parameters: Callable[[ModelLadder], int | None], role: str
) -> list[Point]:
    """The models whose U is at least 0.25 and whose ladder is whole."""
    found = []
    for m in models:
        scored, count = model_score(m, role, FULL_RANGE), parameters(m)
        if scored is not None and count and good_enough(m, REGRESSED_FROM):
            found.append(Point(m.domain, m.model, count, scored.value, not good_enough(m), scored.interval()))
    return found


REFERENCE_SIZE = 500_000
SAME_SIZE = 0.5  # of a doubling: networks with a smaller difference have the same size


def with_sizes(data: Sequence[Point]) -> list[str]:
    """The domains with models of more than one size. Only these determine the slope."""
    found: dict[str, list[float]] = {}
    for p in data:
        found.setdefault(p.domain, []).append(math.log2(p.parameters))
    return sorted(domain for domain, sizes in found.items() if np.ptp(sizes) >= SAME_SIZE)


def of_sizes_trained_often(data: Sequence[Point]) -> list[Point]:
    """The points without sizes that have fewer training seeds than another size of their domain."""
    trained = Counter((p.domain, size_of(p.model)) for p in data)
    most: dict[str, int] = {}
    for (domain, _), count in trained.items():
        most[domain] = max(count, most.get(domain, 0))
    return [p for p in data if trained[p.domain, size_of(p.model)] == most[p.domain]]


def repeated_sizes(data: Sequence[Point]) -> list[Point]:
    """The ranked points of sizes that were trained often."""
    return of_sizes_trained_often([p for p in data if not p.hollow])


def common_sizes(data: Sequence[Point]) -> list[Point]:
    """The ranked points of sizes that every domain has."""
    ranked = [p for p in data if not p.hollow]
    domains = {p.domain for p in ranked}
    having: dict[str, set[str]] = {}
    for p in ranked:
        having.setdefault(size_of(p.model), set()).add(p.domain)
    return [p for p in ranked if having[size_of(p.model)] == domains]


@dataclass(frozen=True)
class SizeSlopes:
    """One regression line of C on log2 of the parameters for each domain with several sizes, and the mean of
    their slopes.

    Each line has a residual variance of its own. `levels`: C of a network of `REFERENCE_SIZE` on the domain's
    line. `p`: the probability of slopes that differ at least this much, if the true slopes are equal; NaN
    with one domain.
    """

    slopes: dict[str, Estimate]
    levels: dict[str, Estimate]
    average: Estimate
    p: float


def size_slopes(data: Sequence[Point]) -> SizeSlopes | None:
    """Ordinary least squares in each domain.

    None where no domain has two sizes and a residual degree of freedom.

    Residual variances are not pooled, because they differ between domains by more than chance explains.
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
    if not slopes:
        return None
    found = list(slopes.values())
    if len(found) == 1:
        return SizeSlopes(slopes, levels, found[0], math.nan)
    return SizeSlopes(slopes, levels, mean_of_independent(found), equal(found))


# --------------------------------------------------------------------------------------- within so many bytes


def of_all_trainings(records: Sequence[Record]) -> list[Record]:
    """The records of one domain without sizes that have fewer training seeds than another."""
    models = {r.model for r in records if r.method == "none"}
    trained = Counter(map(size_of, models))
    most = max(trained.values(), default=0)
    return [r for r in records if trained[size_of(r.model)] == most]


@dataclass(frozen=True)
class Fits:
    """The best network of one domain within a number of bytes, and its metrics on other sampling seeds."""

    limit: int
    size: str
    method: str  # a rung, or `none`
    stored: float  # bytes
    values: dict[str, float]  # validity and mutual recall, means over training and sampling seeds


def best_within(records: Sequence[Record], limits: Sequence[int]) -> list[Fits]:
    """The best network of one domain within each limit of bytes, among all sizes and rungs and the
    uncompressed networks.

    The best one has the largest minimum of validity and mutual recall. Sampling seed 0 selects it and the
    others measure it. Sizes with fewer training seeds than another take no part. A limit is left out
    if nothing fits, or if the best network is that of a smaller limit.
    """
    usable = []
    for _, own in grouped(of_all_trainings(records), lambda r: r.model):
        methods = {"none", *ladder(recalibrated_ladder(own))}
        usable += [r for r in own if r.method in methods and r.cost]
    models = Counter(map(size_of, {r.model for r in usable}))
    cells = []
    for (size, method), group in grouped(
        usable, lambda r: (size_of(r.model), without_recalibration(r.method))
    ):
        if len({r.model for r in group}) < models[size]:  # means of other networks do not compare
            continue
        chosen = [r for r in group if r.sample_seed == CHOOSING_SEED]
        held_out = [r for r in group if r.sample_seed != CHOOSING_SEED]
        if chosen and held_out:
            stored = mean(r.cost.stored_bytes for r in group if r.cost)
            cells.append((stored, min(_values(chosen).values()), size, method, held_out))
    found: list[Fits] = []
    for limit in sorted(limits):
        fitting = [cell for cell in cells if cell[0] <= limit]
        if fitting:
            stored, _, size, method, held_out = max(fitting, key=lambda cell: cell[1])
            if not found or (found[-1].size, found[-1].method) != (size, method):
                found.append(Fits(limit, size, method, stored, _values(held_out)))
    return found


def _values(records: Sequence[Record]) -> dict[str, float]:
    """Role -> the mean of its primary metric. A network that diverged counts as 0."""
    found = {}
    for role in ROLES:
        found[role] = mean(r.metric(metric_of(role)) or 0.0 for r in records)
    return found
