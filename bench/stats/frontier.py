"""Finds the best method at each ratio.

One sampling seed selects it and the others score it, against selection bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from bench.methods.notation import is_recalibrated, is_trained
from bench.records.schema import FINISHED, Record
from bench.stats.compressibility import recalibrated_ladder, retention_of
from bench.stats.ladder import ROLES, grouped

TARGETS = (4, 6, 8, 10, 12, 16, 24)  # ratios
CHOOSING_SEED = 0


@dataclass(frozen=True)
class Best:
    """The method with the highest retention at a file at least `target` times smaller.

    `values` is [role][other sampling seeds].
    """

    target: float
    method: str
    ratio: float
    values: dict[str, list[float]]


def frontier(records: Sequence[Record], targets: Sequence[float] = TARGETS) -> list[Best]:
    """The best methods of one model. The best method has the largest minimum of the two retentions; of two
    that are equal it has the smaller file.

    If the model has running statistics, only methods that end with recalibration or train take part: after
    these the statistics fit.
    """
    recalibrated = recalibrated_ladder(records)
    usable = [
        r
        for r in records
        if r.cost
        and r.status in FINISHED
        and r.method != "none"
        and (not recalibrated or is_recalibrated(r.method) or is_trained(r.method))
    ]
    by_method = {
        method: group for method, group in grouped(usable, lambda r: r.method) if _has_both_parts(group)
    }
    found = []
    for target in targets:
        small = {m: group for m, group in by_method.items() if _ratio(group) >= target}
        ranked = sorted(((_kept(group), _ratio(group), m) for m, group in small.items()), reverse=True)
        if not ranked or math.isinf(ranked[0][0]):
            continue
        method = ranked[0][2]
        others = [r for r in small[method] if r.sample_seed != CHOOSING_SEED]
        values = {role: _known_retentions(others, role) for role in ROLES}
        if all(values.values()):
            found.append(Best(target, method, _ratio(small[method]), values))
    return found


def _has_both_parts(records: Sequence[Record]) -> bool:
    """Whether there is a record of the choosing seed and one of another seed, to report."""
    return {r.sample_seed == CHOOSING_SEED for r in records} == {True, False}


def _known_retentions(records: Sequence[Record], role: str) -> list[float]:
    return [value for r in records if (value := retention_of(r, role)) is not None]


def _ratio(records: Sequence[Record]) -> float:
    return mean(r.cost.ratio for r in records if r.cost)


def _kept(records: Sequence[Record]) -> float:
    """The smaller retention of the two roles on the choosing seed."""
    kept = [retention_of(r, role) for r in records if r.sample_seed == CHOOSING_SEED for role in ROLES]
    known = [value for value in kept if value is not None]
    return min(known) if len(known) == len(ROLES) else -math.inf
