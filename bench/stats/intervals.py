"""Intervals and tests from few, unequal groups. Pure functions of numbers; nothing here knows what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with the parts of its variance: `variance`, itself estimated with `df` degrees of freedom, and `known`.

    An interval adds the parts after each has its own quantile, Student's t or the normal one (as Graybill and Wang 1980 do): one
    quantile for their sum would be too small whenever the estimated part is small by chance. `inside` is known to be within the
    estimated part: two values that agree by chance, or both lie at a bound, do not make an interval narrower than that.
    """

    value: float
    variance: float | None  # None: one observation, nobody knows
    df: float = math.inf
    known: float = 0.0
    inside: float = 0.0

    def half_width(self, probability: float) -> float | None:
        """Of the interval below whose upper end lies `probability`; None where there is no variance."""
        if self.variance is None:
            return None
        t, z = quantile(probability, self.df), quantile(probability, math.inf)
        return math.sqrt(max(t**2 * self.variance, z**2 * self.inside) + z**2 * self.known)

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """Two-sided."""
        half = self.half_width(0.5 + level / 2)
        return None if half is None else (self.value - half, self.value + half)

    def lower(self, level: float = LEVEL) -> float | None:
        """One-sided bound from below."""
        half = self.half_width(level)
        return None if half is None else self.value - half

    def upper(self, level: float = LEVEL) -> float | None:
        """One-sided bound from above."""
        half = self.half_width(level)
        return None if half is None else self.value + half


def quantile(probability: float, df: float) -> float:
    """Of Student's t (Student 1908); of the normal distribution for infinite degrees of freedom."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if math.isinf(df) else stdtrit(df, probability))


def mean_of(values: Sequence[float], shared: float = 0.0, inside: float = 0.0) -> Estimate:
    """Of independent values; `shared`: variance of an error that all have in common, `inside`: of the errors that the mean has inside."""
    x = np.asarray(values, float)
    if len(x) < 2:
        return Estimate(float(x.mean()), None)
    return Estimate(float(x.mean()), float(x.var(ddof=1)) / len(x), len(x) - 1, max(0.0, shared), max(0.0, inside))


def mean_of_strata(strata: Sequence[Sequence[float]], shared: float = 0.0, inside: float = 0.0) -> Estimate:
    """Mean of the strata's means, each stratum with a variance of its own; degrees of freedom by Satterthwaite (1946).

    `shared` and `inside` as in `mean_of`.
    """
    mean = mean_of_independent([mean_of(stratum) for stratum in strata])
    return mean if mean.variance is None else replace(mean, known=max(0.0, shared), inside=max(0.0, inside))


def satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variances, each estimated with its own; infinite where there is no variance."""
    total = sum(variances)
    parts = sum((v / total) ** 2 / df for v, df in zip(variances, dfs) if v)
    return 1 / parts if parts else math.inf


def mean_of_independent(parts: Sequence[Estimate]) -> Estimate:
    """Plain mean of independent estimates, each with a variance of its own; without one where a part has none."""
    value = float(np.mean([part.value for part in parts]))
    variances = [part.variance / len(parts) ** 2 for part in parts if part.variance is not None]
    if len(variances) < len(parts):
        return Estimate(value, None)
    return Estimate(value, sum(variances), satterthwaite(variances, [part.df for part in parts]))


def equal(parts: Sequence[Estimate]) -> float:
    """p of the hypothesis that independent estimates, each with a variance of its own, are of one value (Welch 1951); of two, Welch's t."""
    from scipy.special import fdtrc

    values = np.array([part.value for part in parts], float)
    variances = np.array([part.variance for part in parts], float)
    if np.ptp(values) == 0 or (variances <= 0).any():
        return 1.0 if np.ptp(values) == 0 else 0.0
    k, weights = len(parts), 1 / variances
    centre = (weights * values).sum() / weights.sum()
    lack = sum((1 - w / weights.sum()) ** 2 / part.df for w, part in zip(weights, parts))
    f = (weights * (values - centre) ** 2).sum() / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * lack)
    return float(fdtrc(k - 1, (k**2 - 1) / (3 * lack), f))


@dataclass(frozen=True)
class Difference:
    """a - b. `p` is two-sided, not yet adjusted."""

    value: float
    low: float
    high: float
    p: float

    @property
    def widest(self) -> float:
        """How far apart the two may be, either way."""
        return max(abs(self.low), abs(self.high))


def welch(a: Estimate, b: Estimate, level: float = LEVEL) -> Difference | None:
    """Unpaired, the two variances unequal, degrees of freedom by Satterthwaite (Welch 1947).

    None where one of the two has no variance, or neither varies at all.
    """
    if a.variance is None or b.variance is None or a.variance + b.variance + a.known + b.known + a.inside + b.inside <= 0:
        return None
    df = satterthwaite([a.variance, b.variance], [a.df, b.df])
    both = Estimate(a.value - b.value, a.variance + b.variance, df, a.known + b.known, a.inside + b.inside)
    interval = both.interval(level)
    assert interval is not None
    return Difference(both.value, *interval, _p_value(both))


def _p_value(estimate: Estimate) -> float:
    """1 - the level of the interval that just touches 0."""
    from scipy.optimize import brentq

    distance = abs(estimate.value)

    def beyond(log_tail: float) -> float:
        """How far the interval reaches beyond 0. A smaller tail gives a wider interval."""
        return (estimate.half_width(1 - math.exp(log_tail)) or 0.0) - distance

    low, high = math.log(1e-12), math.log(0.5)
    if distance == 0 or beyond(low) <= 0:
        return 1.0 if distance == 0 else 2e-12
    return min(1.0, 2 * math.exp(brentq(beyond, low, high)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (Holm 1979): the chance of any false claim among them stays below the level."""
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def fixed_sequence(lower_bounds: Sequence[float | None], threshold: float) -> int:
    """How many tests, in their order, hold before the first that does not (Maurer, Hothorn and Lehmacher 1995).

    Each is made at the full level: the chance that the last one counted is false is at most that of one test.
    """
    count = 0
    for bound in lower_bounds:
        if bound is None or bound < threshold:
            break
        count += 1
    return count


# ------------------------------------------------------------------------------------------- items and sampling seeds


def item_covariance(influence: np.ndarray, crossed: bool) -> np.ndarray:
    """Covariance of means over seeds and items that the items cause, between several statistics: [k, s, n] -> [k, k].

    Crossed: the same items are judged under every seed (real samples, each found again or not). Nested: each seed has items of
    its own (generated samples).
    """
    seeds, items = influence.shape[-2:]
    if crossed:
        return np.atleast_2d(np.cov(influence.mean(axis=1))) / items
    return np.sum([np.atleast_2d(np.cov(influence[:, s])) for s in range(seeds)], axis=0) / items / seeds**2


def seed_variance(values: np.ndarray, influence: np.ndarray, crossed: bool) -> np.ndarray:
    """Variance between sampling seeds beyond what their items explain: [..., s], [..., s, n] -> [...]; may be negative by chance.

    Analysis of variance by moments, one observation for each seed and item (Searle, Casella and McCulloch 1992).
    """
    items = influence.shape[-1]
    inside = influence - influence.mean(axis=-2, keepdims=True) if crossed else influence
    seeds = influence.shape[-2]
    residual = inside.var(axis=-1, ddof=1).mean(axis=-1) * (seeds / (seeds - 1) if crossed else 1.0)
    return values.var(axis=-1, ddof=1) - residual / items


def shared_variance(influence: np.ndarray) -> float:
    """Variance of a mean over models that they have in common since the same items judge them: [strata, models, n] -> mean covariance / n.

    Of two strata every model of one has a partner in every model of the other; within one stratum none is its own.
    """
    strata, models, items = influence.shape
    if models < 2:
        return 0.0
    covariance = np.cov(influence.reshape(-1, items)).reshape(strata, models, strata, models)
    total = covariance.mean(axis=(1, 3))  # [strata, strata]
    own = np.array([np.trace(covariance[k, :, k, :]) for k in range(strata)])
    within = (np.diag(total) * models**2 - own) / (models * (models - 1))
    return float((total.sum() - np.trace(total) + within.sum()) / strata**2 / items)
