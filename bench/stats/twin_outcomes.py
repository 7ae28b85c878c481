"""The shares of the twin outcomes: each sample is compared with its twin from the uncompressed network.

A sample and its twin have one of five outcomes (`TWIN_OUTCOMES`), whose shares sum to 1. The shares are means
over sampling seeds, then over models. Intervals are over training seeds, as for every other mean over models
(`bench.stats.domain`).
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from bench.methods.notation import LADDER, primary_rung
from bench.records.schema import FINISHED, Record
from bench.stats.compressibility import recalibrated_ladder
from bench.stats.domain import Domain
from bench.stats.intervals import Estimate, mean_of_strata
from bench.stats.ladder import comparable, grouped, map_rows

BASELINE = "none"
TWIN_OUTCOMES = ("intact", "drifted", "repaired", "degraded", "still_invalid")
VALID = 3  # the first three are valid samples of the compressed network


@dataclass(frozen=True)
class ModelOutcomes:
    """The twin outcomes of one model at one rung."""

    rate: float  # log2 of the compression ratio
    shares: np.ndarray  # [outcomes], means over sampling seeds
    samples: int  # the number of samples under all sampling seeds


@dataclass(frozen=True)
class TwinOutcomes:
    """The shares of the twin outcomes as means over models, from the uncompressed network to the last rung.

    `shares` is [1 + rungs, outcomes]. `intervals` is [1 + rungs, outcomes + 1, 2], and its last entry is for
    the valid samples. It is None with fewer than two training seeds.
    """

    rungs: tuple[str, ...]
    ratios: Sequence[float]
    shares: np.ndarray
    intervals: np.ndarray | None

    @property
    def valid(self) -> np.ndarray:
        """[1 + rungs]: the share of valid samples."""
        return self.shares[:, :VALID].sum(axis=1)


def twin_outcomes_of(domain: Domain, records: Sequence[Record]) -> TwinOutcomes | None:
    """The twin outcomes of a domain: means over the models that its score averages.

    If it averages none, the means are over all its models, without intervals. None where no record holds
    twins.
    """
    of_domain = grouped([r for r in records if r.domain == domain.name], lambda r: r.model)
    known = {name: rows for name, group in of_domain if (rows := model_outcomes(group)) is not None}
    units = []
    for unit in domain.units:
        rows_of_unit = [known[m.model] for m in unit if m.model in known]
        if len(rows_of_unit) == len(unit):
            units.append(rows_of_unit)
    models = [rows for unit in units for rows in unit] or [
        known[m.model] for m in domain.models if m.model in known
    ]
    if not models:
        return None
    in_all = set.intersection(*map(set, models))
    rungs = [rung for rung in (BASELINE, *LADDER) if rung in in_all]
    ratios, shares = [], []
    for rung in rungs:
        ratios.append(2 ** mean(rows[rung].rate for rows in models))
        shares.append(np.mean([rows[rung].shares for rows in models], axis=0))
    return TwinOutcomes(tuple(rungs), ratios, np.array(shares), _intervals(units, rungs))


def _intervals(
    units: Sequence[Sequence[Mapping[str, ModelOutcomes]]], rungs: Sequence[str]
) -> np.ndarray | None:
    """Intervals over training seeds, where each size has its own variance.

    They are never narrower than the binomial error of the samples allows.
    """
    if len(units) < 2:
        return None
    found = []
    for rung in rungs:
        cells = map_rows(operator.itemgetter(rung), zip(*units))  # [sizes][seeds]
        parts = [slice(i, i + 1) for i in range(len(TWIN_OUTCOMES))] + [slice(VALID)]
        found.append([_ends(_mean_share(cells, part)) for part in parts])
    return np.array(found)


def _mean_share(cells: Sequence[Sequence[ModelOutcomes]], part: slice) -> Estimate:
    """The mean over [sizes][seeds] of the summed share of some outcomes."""
    shares = map_rows(lambda one: float(one.shares[part].sum()), cells)
    samples = map_rows(lambda one: one.samples, cells)
    binomial = mean(map(_binomial, itertools.chain(*shares), itertools.chain(*samples)))
    return mean_of_strata(shares, inside=binomial / sum(map(len, cells)))


def _binomial(share: float, samples: int) -> float:
    """The variance of a share. It is above 0 for shares of 0 and 1 too (Agresti and Coull 1998)."""
    p = (share * samples + 2) / (samples + 4)
    return p * (1 - p) / samples


def _ends(estimate: Estimate) -> tuple[float, float]:
    interval = estimate.interval()
    assert interval is not None
    return max(interval[0], 0.0), min(interval[1], 1.0)


def model_outcomes(records: Sequence[Record]) -> dict[str, ModelOutcomes] | None:
    """Rung -> the twin outcomes of one model, over the sampling seeds that have a baseline.

    None without a baseline.
    """
    group = comparable(records)
    recalibrated = recalibrated_ladder(group)
    base = {
        r.sample_seed: s
        for r in group
        if r.method == BASELINE and r.status in FINISHED and (s := _shares(r)) is not None
    }
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
        rows[rung] = ModelOutcomes(mean(rates), np.mean(shares_of, axis=0), sum(samples))
    return rows if BASELINE in rows and len(rows) > 1 else None


def lost(base: np.ndarray) -> np.ndarray:
    """The shares of a network that diverged: valid samples are degraded, the others are still invalid."""
    valid = base[:VALID].sum()
    return np.array([0.0] * VALID + [valid, 1 - valid])


def _shares(record: Record) -> np.ndarray | None:
    values = [record.metric(name) for name in TWIN_OUTCOMES]
    return None if any(value is None for value in values) else np.array(values, float)
