"""The order of loss: the ratios at which quality and diversity begin to fall, and which of the two falls
first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.stats.ladder import ROLES, ModelLadder

LOST = 0.9  # of the baseline: a loss begins below this retention


@dataclass(frozen=True)
class Onset:
    """The compression ratio at which retention falls below a threshold, with a 95 % interval.

    The ends of the interval are where the pointwise 95 % bands of the curve cross the threshold. Infinite
    means that the ladder never crosses it.
    """

    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Order:
    """The order of loss in one model.

    `first` is the role whose interval lies wholly before the other's, or None.
    """

    model: ModelLadder
    onsets: dict[str, Onset]
    first: str | None


def order_of(m: ModelLadder, threshold: float = LOST) -> Order:
    """The order of loss, from the model's own intervals over sampling seeds and items."""
    onsets = {role: onset(m, role, threshold) for role in ROLES}
    first = next(
        (
            role
            for role in ROLES
            for other in ROLES
            if role != other and onsets[role].high < onsets[other].low
        ),
        None,
    )
    return Order(m, onsets, first)


def onset(m: ModelLadder, role: str, threshold: float = LOST) -> Onset:
    """The onset of loss in one role, from the model's own retentions and their intervals."""
    estimates = [m.outcomes[role].rung(i) for i in range(len(m.rungs))]
    intervals = [e.interval() or (e.value, e.value) for e in estimates]
    curves = ([e.value for e in estimates], [low for low, _ in intervals], [high for _, high in intervals])
    return Onset(*(2 ** crossing(m.rates, curve, threshold) for curve in curves))


def crossing(rates: Sequence[float] | np.ndarray, retentions: Sequence[float], threshold: float) -> float:
    """The first rate at which the line from (0, 1) through the rungs falls below the threshold.

    Infinite where it never does.
    """
    rungs = sorted(zip(rates, retentions), key=lambda rung: rung[0])
    x, y = [0.0, *(rate for rate, _ in rungs)], [1.0, *(kept for _, kept in rungs)]
    for i in range(1, len(x)):
        if y[i] < threshold:
            return float(x[i - 1] + (y[i - 1] - threshold) / (y[i - 1] - y[i]) * (x[i] - x[i - 1]))
    return math.inf
