"""What size has to do with it: scores against parameters, and whether a smaller dense network would have done as well.

With few models a regression shows more than it proves: all points are shown, and the interval has as few degrees of freedom as it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from bench.compressibility import FULL
from bench.intervals import Estimate, quantile
from bench.measured import Measured
from bench.methods.notation import rung_of
from bench.record import Record
from bench.scores import REGRESSED_FROM, good_enough, model_score


@dataclass(frozen=True)
class Point:
    """One model in the regression; hollow: its U is too low for the headline."""

    domain: str
    model: str
    parameters: int
    score: float
    hollow: bool


@dataclass(frozen=True)
class Fit:
    """C = level of the domain + slope * log2(parameters / 0.5 M), by least squares; one slope for all domains."""

    levels: dict[str, Estimate]
    slope: Estimate
    residual_df: int


def points(models: Sequence[Measured], parameters: Callable[[Measured], int | None], role: str) -> list[Point]:
    """Models whose U is at least 0.25 and whose ladder is whole."""
    found = []
    for m in models:
        scored, count = model_score(m, role, FULL), parameters(m)
        if scored is not None and count and good_enough(m, REGRESSED_FROM):
            found.append(Point(m.domain, m.model, count, scored.value, not good_enough(m)))
    return found


REFERENCE_SIZE = 500_000


def regress(data: Sequence[Point]) -> Fit | None:
    """Ordinary least squares; None where no domain has two sizes, or nothing is left to estimate the error from."""
    domains = sorted({p.domain for p in data})
    log_size = np.array([math.log2(p.parameters / REFERENCE_SIZE) for p in data])
    inside = [np.ptp([x for x, p in zip(log_size, data) if p.domain == d]) for d in domains]
    df = len(data) - len(domains) - 1
    if df < 1 or max(inside, default=0.0) < 0.5:
        return None
    design = np.column_stack([*([float(p.domain == d) for p in data] for d in domains), log_size])
    y = np.array([p.score for p in data])
    solution, *_ = np.linalg.lstsq(design, y, rcond=None)
    variance = float(((y - design @ solution) ** 2).sum()) / df
    covariance = variance * np.linalg.pinv(design.T @ design)
    estimates = [Estimate(float(b), float(v), df) for b, v in zip(solution, np.diag(covariance))]
    return Fit(dict(zip(domains, estimates)), estimates[-1], df)


# ------------------------------------------------------------------------------------------------------ iso-quality gain


@dataclass(frozen=True)
class Gain:
    """log2(bytes of the smallest dense network of equal quality) - log2(bytes of the compressed one), at the best rung.

    Positive: compressing a larger network beats training a smaller one; 1 is a halving. `bounded`: the compressed network is better
    than the largest dense one, or worse than the smallest, so that the gain is at least, or at most, this.
    """

    value: float
    rung: str
    model: str
    bound: str = ""  # "", "at least", "at most"


def iso_quality_gain(records: Sequence[Record], sizes: Sequence[str], seeds: tuple[int, ...] = (0,)) -> Gain | None:
    """Of one domain, over all its models; None with fewer than two sizes.

    Dense networks count with their fp32 file. The rung is chosen on the sampling seeds `seeds`, its gain is measured on the others.
    """
    dense = dense_curve(records, sizes)
    if len(dense) < 2:
        return None
    best: Gain | None = None
    chosen = [r for r in records if r.sample_seed in seeds]
    others = [r for r in records if r.sample_seed not in seeds]
    for record in chosen:
        if rung_of(record.method) is None:
            continue
        found = gain_of([record], dense)
        if found is not None and not found.bound and (best is None or found.value > best.value):
            best = found
    if best is None:
        return None
    rest = [r for r in others if r.model == best.model and r.method == best.rung]
    return gain_of(rest, dense) if rest else None


def dense_curve(records: Sequence[Record], sizes: Sequence[str]) -> list[tuple[float, float]]:
    """(log2 bytes, quality) of the uncompressed networks, one point a size, from small to large; quality made to rise with size."""
    found = []
    for size in sizes:
        group = [r for r in records if r.method == "none" and r.model.partition("@")[0] == size and r.cost]
        if group:
            found.append((mean(math.log2(r.cost.fp32_bytes) for r in group if r.cost), mean(_quality(r) for r in group)))
    found.sort()
    quality: list[float] = np.maximum.accumulate([q for _, q in found]).tolist() if found else []
    return [(x, q) for (x, _), q in zip(found, quality)]


def gain_of(records: Sequence[Record], dense: Sequence[tuple[float, float]]) -> Gain | None:
    """Of repeats of one compressed network."""
    if not records or any(r.cost is None or r.status not in ("ok", "collapsed") for r in records):
        return None
    quality = mean(_quality(r) for r in records)
    stored = mean(math.log2(r.cost.stored_bytes) for r in records if r.cost)
    x, q = [x for x, _ in dense], [q for _, q in dense]
    smallest = next((size for size, reached in dense if reached == quality), None)  # of several that are equally good
    bound = "at least" if quality > q[-1] else "at most" if quality < q[0] else ""
    needed = x[-1] if quality > q[-1] else x[0] if quality < q[0] else smallest or float(np.interp(quality, q, x))
    return Gain(needed - stored, records[0].method, records[0].model, bound)


def _quality(record: Record) -> float:
    return record.metric("quality_valid") or 0.0


def slope_interval(fit: Fit) -> tuple[float, float]:
    half = quantile(0.975, fit.residual_df) * math.sqrt(fit.slope.variance or 0.0)
    return fit.slope.value - half, fit.slope.value + half
