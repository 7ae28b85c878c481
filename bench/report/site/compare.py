"""Differences between two methods of one model, and between two models, by the tests of `bench.stats`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.records.schema import Record
from bench.stats.comparison import difference
from bench.stats.during import minus
from bench.stats.intervals import Difference, Estimate
from bench.stats.ladder import ROLES, ModelLadder, Outcome, measured
from bench.stats.scores import model_score


def with_every_method(records: Sequence[Record]) -> ModelLadder | None:
    """All methods of one model as the rungs of a ladder. None without a baseline or other methods.

    records: those under the same conditions.
    """
    names = {r.method for r in records} - {"none"}
    methods = {method: method for method in sorted(names)}
    return measured(records, methods) if methods else None


def half_widths(m: ModelLadder) -> dict[str, list[list[float | None]]]:
    """Role -> for each method, half the 95 % interval of its difference from each earlier method.

    The two are paired: the same sampling seeds, and the same items.
    """
    found: dict[str, list[list[float | None]]] = {role: [[]] for role in ROLES}
    for i in range(1, len(m.rungs)):
        others = [k for k in range(len(m.rungs)) if k != i]
        change = minus(_only(m, others), _only(m, [i] * len(others)))
        for role in ROLES:
            found[role].append([rung_of(change.outcomes[role], k).half_width(0.975) for k in range(i)])
    return found


def rung_of(outcome: Outcome, i: int) -> Estimate:
    """The same as `outcome.rung(i)`, without the covariances between rungs, which take long."""
    rungs, seeds = outcome.retention.shape
    alone = Outcome(outcome.retention[[i]], outcome.influence[[i]], outcome.crossed, outcome.span)
    pooled = outcome.between_seeds / seeds
    return replace(alone.estimate(np.ones(1)), variance=pooled, df=max(1, rungs * (seeds - 1)))


def _only(m: ModelLadder, rungs: Sequence[int]) -> ModelLadder:
    outcomes = {}
    for role, o in m.outcomes.items():
        outcomes[role] = Outcome(o.retention[rungs], o.influence[rungs], o.crossed, o.span)
    return replace(m, rungs=tuple(m.rungs[i] for i in rungs), outcomes=outcomes)


def model_pairs(models: Sequence[ModelLadder]) -> Mapping[str, list[list[Difference | None]]]:
    """Role -> for each model, its difference from each earlier model. None where one has no score. Each is
    C of the model minus C of the earlier one; its p-value is not adjusted for other pairs.
    """
    found: dict[str, list[list[Difference | None]]] = {}
    for role in ROLES:
        scores = [model_score(m, role) for m in models]
        found[role] = []
        for i, a in enumerate(scores):
            row: list[Difference | None] = []
            for b in scores[:i]:
                d = difference(a, b) if a is not None and b is not None else None
                row.append(d)
            found[role].append(row)
    return found
