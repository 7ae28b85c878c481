"""What becomes of the samples: each beside its twin, made from the same random numbers by the uncompressed network.

A sample and its twin are one of five things (`TWIN_OUTCOMES`); their shares of all samples sum to 1. Means over
sampling seeds, then over models; intervals over training seeds, as for every other mean over models (`bench.stats.scores`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from bench.methods.notation import LADDER, primary_rung
from bench.records.schema import FINISHED, Record
from bench.stats.compressibility import recalibrated_ladder
from bench.stats.intervals import Estimate, mean_of_strata
from bench.stats.ladder import comparable, grouped
from bench.stats.scores import Domain

BASELINE = "none"
TWIN_OUTCOMES = ("intact", "drifted", "repaired", "degraded", "still_invalid")
VALID = 3  # the first three are valid samples of the compressed network


@dataclass(frozen=True)
class ModelFates:
    """Of one model at one rung."""

    rate: float  # log2 of the ratio
    shares: np.ndarray  # [fates], means over sampling seeds
    samples: int  # under all of them


@dataclass(frozen=True)
class TwinOutcomes:
    """From the uncompressed network on: shares [1 + rungs, fates] and the share of valid samples [1 + rungs], means over models.

    Intervals [1 + rungs, fates + 1, 2], of the valid samples last; None with fewer than two training seeds.
    """

    rungs: tuple[str, ...]
    ratios: Sequence[float]
    shares: np.ndarray
    intervals: np.ndarray | None

    @property
    def valid(self) -> np.ndarray:
        return self.shares[:, :VALID].sum(axis=1)


def twin_outcomes_of(domain: Domain, records: Sequence[Record]) -> TwinOutcomes | None:
    """Of the models in the domain's mean; where none counts, of every one, without intervals. None where no record holds twins."""
    known = {
        name: rows
        for name, group in grouped([r for r in records if r.domain == domain.name], lambda r: r.model)
        if (rows := model_fates(group)) is not None
    }
    units = [[known[m.model] for m in unit] for unit in domain.units if all(m.model in known for m in unit)]
    models = [rows for unit in units for rows in unit] or [known[m.model] for m in domain.models if m.model in known]
    if not models:
        return None
    rungs = tuple(rung for rung in (BASELINE, *LADDER) if all(rung in rows for rows in models))
    ratios = [2 ** mean(rows[rung].rate for rows in models) for rung in rungs]
    shares = np.array([np.mean([rows[rung].shares for rows in models], axis=0) for rung in rungs])
    return TwinOutcomes(rungs, ratios, shares, _intervals(units, rungs))


def _intervals(units: Sequence[Sequence[Mapping[str, ModelFates]]], rungs: Sequence[str]) -> np.ndarray | None:
    """Over training seeds, each size with a variance of its own; never narrower than the sampling of the items allows."""
    if len(units) < 2:
        return None
    found = []
    for rung in rungs:
        cells = [[unit[k][rung] for unit in units] for k in range(len(units[0]))]  # [sizes][seeds]
        columns = [[[float(one.shares[i]) for one in size] for size in cells] for i in range(len(TWIN_OUTCOMES))]
        columns.append([[float(one.shares[:VALID].sum()) for one in size] for size in cells])
        inside = [mean(_binomial(s, one.samples) for size, row in zip(cells, c) for one, s in zip(size, row)) for c in columns]
        models = sum(map(len, cells))
        found.append([_ends(mean_of_strata(column, inside=i / models)) for column, i in zip(columns, inside)])
    return np.array(found)


def _binomial(share: float, samples: int) -> float:
    """Variance of a share, of which 0 and 1 are not certain either (Agresti and Coull 1998)."""
    p = (share * samples + 2) / (samples + 4)
    return p * (1 - p) / samples


def _ends(estimate: Estimate) -> tuple[float, float]:
    interval = estimate.interval()
    assert interval is not None
    return max(interval[0], 0.0), min(interval[1], 1.0)


def model_fates(records: Sequence[Record]) -> dict[str, ModelFates] | None:
    """Of one model's records, by rung, over the sampling seeds that have a baseline; None without one."""
    group = comparable(records)
    recalibrated = recalibrated_ladder(group)
    base = {r.sample_seed: s for r in group if r.method == BASELINE and r.status in FINISHED and (s := _shares(r)) is not None}
    found: dict[str, list[tuple[float, np.ndarray, int]]] = {}
    for r in group:
        rung = BASELINE if r.method == BASELINE else primary_rung(r.method, recalibrated)
        if rung is None or r.status not in FINISHED or r.cost is None or r.sample_seed not in base:
            continue
        shares = lost(base[r.sample_seed]) if r.status == "diverged" else _shares(r)
        if shares is not None:
            found.setdefault(rung, []).append((math.log2(r.cost.ratio), shares, r.samples))
    rows = {}
    for rung, each in found.items():
        rates, shares_of, samples = zip(*each)
        rows[rung] = ModelFates(mean(rates), np.mean(shares_of, axis=0), sum(samples))
    return rows if BASELINE in rows and len(rows) > 1 else None


def lost(base: np.ndarray) -> np.ndarray:
    """A network that diverged has made nothing valid: what was valid is degraded, the rest is still invalid."""
    valid = base[:VALID].sum()
    return np.array([0.0] * VALID + [valid, 1 - valid])


def _shares(record: Record) -> np.ndarray | None:
    values = [record.metric(name) for name in TWIN_OUTCOMES]
    return None if any(value is None for value in values) else np.array(values, float)
