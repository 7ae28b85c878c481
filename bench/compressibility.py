"""From retention at each rung of the ladder to one score for quality and one for diversity.

    rate        rho = log2(fp32 bytes / stored bytes): each halving of the file is 1
    score       C = mean of R(rho) over 0 <= rho <= 4, in [0, 1]: 1 = a file 16 times smaller has lost nothing

R is the non-increasing fit (isotonic regression, Barlow et al. 1972) to the rungs' retentions, clipped to [0, 1], with R(0) = 1,
linear between rungs. A network that never reaches 16x has no score. Means over sampling seeds are taken before the fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from bench.methods.notation import LADDER, primary_rung
from bench.plan import FLOOR_RECALIBRATED
from bench.record import FINISHED, Record

FULL = (0.0, 4.0)
HARD = (2.0, 4.0)  # below 4x nearly everything is near 1


@dataclass(frozen=True)
class Rung:
    name: str
    rate: float  # log2 of the ratio
    quality: float
    diversity: float


@dataclass(frozen=True)
class Ladder:
    """A model's rungs, mildest first; `missing` were not measured, which is not zero; `undefined` have no retention."""

    rungs: tuple[Rung, ...]
    missing: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()

    def score(self, role: str, span: tuple[float, float] = FULL) -> float | None:
        """C of `quality` or `diversity`; None where a rung is missing or none reaches the span's end."""
        if self.missing or self.undefined:
            return None
        return score([rung.rate for rung in self.rungs], [getattr(rung, role) for rung in self.rungs], span)


def score(rates: Sequence[float], retentions: Sequence[float], span: tuple[float, float] = FULL) -> float | None:
    """Mean of the fitted retention over the span of rates; None where the rates do not reach its end."""
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


def ladder_of(records: Sequence[Record]) -> Ladder:
    """The primary ladder of one model: recalibrated rungs where there are any, plain ones otherwise."""
    recalibrated = is_recalibrated(records)
    found: Mapping[str, list[Record]] = {rung: [] for rung in LADDER}
    for record in records:
        rung = primary_rung(record.method, recalibrated)
        if rung is not None and record.status in FINISHED:
            found[rung].append(record)
    measured = {name: whole for name, group in found.items() if (whole := _rung(name, group)) is not None}
    missing = tuple(name for name in LADDER if not found[name])
    return Ladder(tuple(measured.values()), missing, tuple(name for name in LADDER if found[name] and name not in measured))


def is_recalibrated(records: Sequence[Record]) -> bool:
    """Whether the model has running statistics, so that its ladder is the recalibrated one."""
    return any(FLOOR_RECALIBRATED in record.implementation for record in records)


def retention_of(record: Record, role: str) -> float | None:
    """A network that diverged has kept nothing."""
    return 0.0 if record.status == "diverged" else record.metric(f"{role}_retention")


def _rung(name: str, records: Sequence[Record]) -> Rung | None:
    rates = [math.log2(record.cost.ratio) for record in records if record.cost]
    means = {}
    for role in ("quality", "diversity"):
        values = [value for record in records if (value := retention_of(record, role)) is not None]
        if not values:
            return None
        means[role] = mean(values)
    return Rung(name, mean(rates), **means) if rates else None
