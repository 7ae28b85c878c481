"""Intervals and tests from few, unequal groups. These are pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean with two parts of its variance: `variance`, estimated with `df` degrees of freedom, and `known`.

    Each part has its own quantile, Student's t or the normal one, and the interval adds both parts (as
    Graybill and Wang 1980 do). One quantile for their sum would be too small whenever the estimated part is
    small by chance. `inside` is a known part of the estimated variance. The interval is never narrower than
    `inside` allows, so two values that agree by chance do not make it too narrow.
    """

    value: float
    variance: float | None  # None: unknown, since there is one observation
    df: float = math.inf
    known: float = 0.0
    inside: float = 0.0

    def half_width(self, probability: float) -> float | None:
        """Half the width of the interval whose upper end has this `probability`.

        None where there is no variance.
        """
        if self.variance is None:
            return None
        t, z = quantile(probability, self.df), quantile(probability, math.inf)
        return math.sqrt(max(t**2 * self.variance, z**2 * self.inside) + z**2 * self.known)

    def interval(self, level: float = LEVEL) -> tuple[float, float] | None:
        """The two-sided interval."""
        half = self.half_width(0.5 + level / 2)
        return None if half is None else (self.value - half, self.value + half)

    def lower(self, level: float = LEVEL) -> float | None:
        """The one-sided lower bound."""
        half = self.half_width(level)
        return None if half is None else self.value - half

    def upper(self, level: float = LEVEL) -> float | None:
        """The one-sided upper bound."""
        half = self.half_width(level)
        return None if half is None else self.value + half


def quantile(probability: float, df: float) -> float:
    """The quantile of Student's t (Student 1908), or of the normal distribution for infinite degrees of
    freedom.
    """
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability) if math.isinf(df) else stdtrit(df, probability))


def mean_of(values: Sequence[float], shared: float = 0.0, inside: float = 0.0) -> Estimate:
    """The mean of independent values.

    `shared` is the variance of an error that all values have in common. `inside` is the variance of the
    errors within the values.
    """
    x = np.asarray(values, float)
    if len(x) < 2:
        return Estimate(float(x.mean()), None)
    return Estimate(
        float(x.mean()), float(x.var(ddof=1)) / len(x), len(x) - 1, max(0.0, shared), max(0.0, inside)
    )


def mean_of_strata(strata: Sequence[Sequence[float]], shared: float = 0.0, inside: float = 0.0) -> Estimate:
    """The mean of the strata's means.

    Each stratum has its own variance; degrees of freedom by Satterthwaite (1946).

    `shared` and `inside` are those of `mean_of`.
    """
    mean = mean_of_independent([mean_of(stratum) for stratum in strata])
    return mean if mean.variance is None else replace(mean, known=max(0.0, shared), inside=max(0.0, inside))


def satterthwaite(variances: Sequence[float], dfs: Sequence[float]) -> float:
    """Degrees of freedom of a sum of independent variances, each estimated with its own.

    Infinite without variance.
    """
    total = sum(variances)
    parts = sum((v / total) ** 2 / df for v, df in zip(variances, dfs) if v)
    return 1 / parts if parts else math.inf


def mean_of_independent(parts: Sequence[Estimate]) -> Estimate:
    """The plain mean of independent estimates, each with its own variance.

    It has none where a part has none.
    """
    value = float(np.mean([part.value for part in parts]))
    variances = [part.variance / len(parts) ** 2 for part in parts if part.variance is not None]
    if len(variances) < len(parts):
        return Estimate(value, None)
    return Estimate(value, sum(variances), satterthwaite(variances, [part.df for part in parts]))


def equal(parts: Sequence[Estimate]) -> float:
    """The p-value of the hypothesis that independent estimates have the same true value (Welch 1951).

    For two it is Welch's t test.
    """
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
    """a - b with its interval. `p` is two-sided and not adjusted."""

    value: float
    low: float
    high: float
    p: float

    @property
    def widest(self) -> float:
        """The largest absolute difference within the interval."""
        return max(abs(self.low), abs(self.high))


def welch(a: Estimate, b: Estimate, level: float = LEVEL) -> Difference | None:
    """Welch's unpaired test with unequal variances, degrees of freedom by Satterthwaite (Welch 1947).

    None where one of the two has no variance, or neither varies at all.
    """
    if (
        a.variance is None
        or b.variance is None
        or a.variance + b.variance + a.known + b.known + a.inside + b.inside <= 0
    ):
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
    """Adjusted p-values in the given order (Holm 1979).

    They control the chance of any false claim among them.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def fixed_sequence(lower_bounds: Sequence[float | None], threshold: float) -> int:
    """The number of tests, in order, that hold before the first failure (Maurer, Hothorn and Lehmacher 1995).

    Each test is made at the full level. The chance that the last one counted is false is at most that of one
    test.
    """
    count = 0
    for bound in lower_bounds:
        if bound is None or bound < threshold:
            break
        count += 1
    return count


# ----------------------------------------------------------------------------------- items and sampling seeds


def item_covariance(influence: np.ndarray, crossed: bool) -> np.ndarray:
    """The part of the covariance of means over seeds and items that the items cause: [k, s, n] -> [k, k].

    k is the number of statistics. Crossed means that every seed has the same items (real samples). Nested
    means that each seed has its own items (generated samples).
    """
    seeds, items = influence.shape[-2:]
    if crossed:
        return np.atleast_2d(np.cov(influence.mean(axis=1))) / items
    return np.sum([np.atleast_2d(np.cov(influence[:, s])) for s in range(seeds)], axis=0) / items / seeds**2


def seed_variance(values: np.ndarray, influence: np.ndarray, crossed: bool) -> np.ndarray:
    """The variance between sampling seeds beyond that of their items: [..., s], [..., s, n] -> [...].

    It is an analysis of variance by moments, with one observation for each seed and item (Searle, Casella and
    McCulloch 1992). The result can be negative by chance.
    """
    items = influence.shape[-1]
    inside = influence - influence.mean(axis=-2, keepdims=True) if crossed else influence
    seeds = influence.shape[-2]
    residual = inside.var(axis=-1, ddof=1).mean(axis=-1) * (seeds / (seeds - 1) if crossed else 1.0)
    return values.var(axis=-1, ddof=1) - residual / items


def shared_variance(influence: np.ndarray) -> float:
    """The variance that a mean over models has because the same items score all of them.

    [strata, models, n] -> mean covariance / n. Between two strata every model of one is paired with every
    model of the other. Within a stratum a model is not paired with itself.
    """
    strata, models, items = influence.shape
    if models < 2:
        return 0.0
    covariance = np.cov(influence.reshape(-1, items)).reshape(strata, models, strata, models)
    total = covariance.mean(axis=(1, 3))  # [strata, strata]
    own = np.array([np.trace(covariance[k, :, k, :]) for k in range(strata)])
    within = (np.diag(total) * models**2 - own) / (models * (models - 1))
    return float((total.sum() - np.trace(total) + within.sum()) / strata**2 / items)
