"""The score of one model with its interval, and which models count.

A model's score C is the mean of the fitted retention over halvings of the file
(`bench.stats.compressibility.score`). The same integral is also computed before clipping to [0, 1] and before
the monotone fit. Clipping pushes noisy retentions near 1 downwards, so an interval around the clipped score
alone would miss a true score of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.stats.compressibility import FULL_RANGE, score
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, ModelLadder

COUNTS_FROM, REGRESSED_FROM = 0.5, 0.25  # of U, both roles


def quadrature(
    rates: Sequence[float] | np.ndarray, span: tuple[float, float] = FULL_RANGE
) -> tuple[float, np.ndarray]:
    """(constant, weights [rungs]) such that the mean of the curve over the span is constant + weights @ R.

    The curve goes through (0, 1) and the rungs. Raises `ValueError` where the rungs do not reach the end of
    the span.
    """
    x = np.concatenate([[0.0], np.asarray(rates, float)])
    low, high = span
    if not x.max() >= high:  # this form also rejects NaN
        raise ValueError(f"the smallest file is 2^{x.max():.2f} times smaller: the span ends at 2^{high:g}")
    corners = np.unique(np.concatenate([[low, high], x[(x > low) & (x < high)]]))
    widths = np.diff(corners)
    of_corner = (np.concatenate([widths, [0.0]]) + np.concatenate([[0.0], widths])) / 2 / (high - low)
    order = np.argsort(x, kind="stable")
    # [1 + rungs, corners]
    hats = np.array([np.interp(corners, x[order], row) for row in np.eye(len(x))[:, order]])
    weights = hats @ of_corner
    return float(weights[0]), weights[1:]


@dataclass(frozen=True)
class Score:
    """`value` is C as defined, clipped and monotone. `estimate` is the plain integral.

    Near 1 `value` is biased, since clipping removes only what lies above. Where retention exceeds 1 or rises
    again, `estimate` estimates another quantity. So the interval has the width of the estimate's interval,
    around both values.
    """

    value: float
    estimate: Estimate

    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval, clipped to [0, 1]."""
        half = self.estimate.half_width(0.975)
        if half is None:
            return None
        low, high = sorted((self.value, self.estimate.value))
        return max(low - half, 0.0), min(high + half, 1.0)


def model_score(m: ModelLadder, role: str, span: tuple[float, float] = FULL_RANGE) -> Score | None:
    """The score of one model, over sampling seeds and items.

    None where rungs are missing or do not reach the span's end.
    """
    if not m.whole or not m.rates.max() >= span[1]:
        return None
    outcome = m.outcomes[role]
    constant, weights = quadrature(m.rates, span)
    inner = outcome.estimate(weights)
    value = score(list(m.rates), list(outcome.mean), span)
    assert value is not None
    # clipping at 0 does not bias, because a retention below 0 has hardly any noise
    return Score(value, replace(inner, value=constant + float(weights @ np.maximum(outcome.mean, 0.0))))


def good_enough(m: ModelLadder, threshold: float = COUNTS_FROM) -> bool:
    """Whether the model has enough to lose: its U in both roles is at least the threshold."""
    return all(m.u.get(role, 0.0) >= threshold for role in ROLES)


def counts(m: ModelLadder, threshold: float = COUNTS_FROM) -> bool:
    """Whether a model can take part in a score: its ladder is whole and reaches 16x, and its U is large
    enough.
    """
    return m.whole and bool(m.rates.max() >= FULL_RANGE[1]) and good_enough(m, threshold)
