"""Combines retention over the ladder into one score for quality and one for diversity.

    rate        rho = log2(fp32 bytes / stored bytes): each halving of the file is 1
    score       C = mean of R(rho) over 0 <= rho <= 4, in [0, 1]: 1 = a file 16 times smaller has lost nothing

R is a non-increasing fit (isotonic regression, Barlow et al. 1972) to the retentions of the rungs. It is
clipped to [0, 1], with R(0) = 1, and linear between rungs. A network that never reaches 16x has no score.
Means over sampling seeds are taken before the fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from bench.records.cell import FLOOR_RECALIBRATED
from bench.records.schema import Record

FULL_RANGE = (0.0, 4.0)
HIGH_RANGE = (2.0, 4.0)  # below 4x nearly every retention is near 1


def score(
    rates: Sequence[float], retentions: Sequence[float], span: tuple[float, float] = FULL_RANGE
) -> float | None:
    """The mean of the fitted retention over a range of rates. None where the rates do not reach its end."""
    from scipy.optimize import isotonic_regression

    order = np.argsort(rates, kind="stable")
    x, y = np.asarray(rates, float)[order], np.clip(np.asarray(retentions, float)[order], 0, 1)
    low, high = span
    if not len(x) or x[-1] < high:
        return None
    fitted = isotonic_regression(y, increasing=False).x
    x, fitted = np.concatenate([[0.0], x]), np.concatenate([[1.0], fitted])
    corners = np.unique(np.concatenate([[low, high], x[(x > low) & (x < high)]]))
    return float(np.trapezoid(np.interp(corners, x, fitted), corners) / (high - low))


def recalibrated_ladder(records: Sequence[Record]) -> bool:
    """Whether the model has running statistics, so that its ladder is the recalibrated one."""
    return any(FLOOR_RECALIBRATED in record.implementation for record in records)


def retention_of(record: Record, role: str) -> float | None:
    """The retention of a role. It is 0 for a network that diverged."""
    return 0.0 if record.status == "diverged" else record.metric(f"{role}_retention")


def mean_retention(records: Sequence[Record], role: str) -> float | None:
    """The mean over records; None where one of them has no retention."""
    kept = [retention_of(r, role) for r in records]
    known = [value for value in kept if value is not None]
    return fmean(known) if known and len(known) == len(kept) else None
