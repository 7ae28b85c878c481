"""How useful compressed samples are: retention of a task's utility by method, and how well the roles
predict it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from bench.records.schema import FINISHED, USE, EvaluatorBlock, Record
from bench.stats.compressibility import retention_of
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, grouped
from bench.stats.rank_agreement import agreement, retentions


def use_block(record: Record) -> tuple[str, EvaluatorBlock] | None:
    """The task of a record and its scores; None where no task was run."""
    return next(((name, block) for name, block in record.evaluators.items() if block.role == USE), None)


def use_retention(record: Record) -> float | None:
    """The retention of the task's utility.

    It is 0 for a network that diverged, and None where no task was run.
    """
    if record.status == "diverged":
        return 0.0
    pair = use_block(record)
    return None if pair is None else pair[1].metrics.get("retention")


def use_by_method(records: Sequence[Record]) -> dict[str, Estimate]:
    """Method -> the retention of utility in one model, as a mean over sampling seeds.

    The task is tested on the same real items under every seed, so the error of the items does not shrink with
    more seeds. The variance between seeds is pooled over the methods.
    """
    if not any(use_block(r) for r in records):
        return {}
    kept: dict[str, list[float]] = {}
    errors: dict[str, list[float]] = {}
    for method, same in grouped(
        [r for r in records if r.status in FINISHED and r.method != "none"], lambda r: r.method
    ):
        for r in same:
            if (value := use_retention(r)) is not None:
                kept.setdefault(method, []).append(value)
                pair = use_block(r)
                errors.setdefault(method, []).append(pair[1].metrics.get("error", 0.0) if pair else 0.0)
    squares = sum(float(np.var(values)) * len(values) for values in kept.values())
    df = sum(len(values) - 1 for values in kept.values())
    between = squares / df if df else 0.0
    found = {}
    for method, values in kept.items():
        known = mean([error**2 for error in errors[method]])
        found[method] = Estimate(mean(values), between / len(values), max(1, df), known)
    return found


@dataclass(frozen=True)
class UtilityCorrelation:
    """How well a role's retention ranks methods by their use."""

    domain: str
    task: str
    role: str
    methods: int
    tau: Estimate


def utility_correlations(records: Sequence[Record]) -> list[UtilityCorrelation]:
    """The correlations by domain and role, where a task was run.

    All records of a model must be under the same conditions.
    """
    found = []
    for domain, group in grouped(records, lambda r: r.domain):
        tasks = [pair[0] for r in group if (pair := use_block(r))]
        for role in ROLES if tasks else ():
            views = (use_retention, lambda r, role=role: retention_of(r, role))
            tables = {model: retentions(same, views) for model, same in grouped(group, lambda r: r.model)}
            if any(len(methods) > 1 for methods in tables.values()):
                one = agreement(domain, role, (tasks[0], role), tables)
                found.append(UtilityCorrelation(domain, tasks[0], role, one.methods, one.tau))
    return found
