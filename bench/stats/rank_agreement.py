"""Measures whether two evaluators rank methods alike, by Kendall's tau, and where they disagree most.

Two methods of one model form a pair. A pair is concordant when both evaluators prefer the same method
(Kendall 1938, tau-b: ties count against it). Methods of different models are never paired. The pairs of all
models are counted together.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np

from bench.records.schema import FINISHED, PRIMARY_METRIC, EvaluatorBlock, Record, metric_of
from bench.stats.compressibility import retention_of
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, grouped

APART = 0.05  # of retention: about three standard errors of a share of 2,000 samples

Reading = Callable[[Record], float | None]  # the retention of a record by one evaluator
Table = Mapping[str, tuple[float, float]]  # method -> the retention that each evaluator gives


@dataclass(frozen=True)
class Disagreement:
    """A method on which the evaluators differ, as means over sampling seeds."""

    model: str
    method: str
    first: float
    second: float


@dataclass(frozen=True)
class Agreement:
    """The agreement of two evaluators of one role and domain."""

    domain: str
    role: str
    evaluators: tuple[str, str]
    methods: int  # summed over models
    tau: Estimate
    # share of the same order among the pairs that an evaluator or both separate by at least `APART`
    concordant: float | None
    pairs: int  # the number of these pairs
    disagreements: tuple[Disagreement, ...]  # the largest first


def second_block(record: Record, role: str) -> tuple[str, EvaluatorBlock] | None:
    """The domain's own secondary evaluator of a role: the first one in the record."""
    return next(
        ((name, block) for name, block in record.evaluators.items() if block.second and block.role == role),
        None,
    )


def as_secondary_sees(record: Record) -> Record | None:
    """The record with the secondary evaluators in the place of the primary ones.

    None where one of them has no score.
    """
    if record.status == "diverged":
        return record
    found = {role: second_block(record, role) for role in ROLES}
    blocks = {role: pair for role, pair in found.items() if pair is not None}
    if len(blocks) < len(ROLES):
        return None
    metrics = dict(record.metrics)
    for role, (_, block) in blocks.items():
        metrics[metric_of(role)] = block.metrics.get(PRIMARY_METRIC[role])
        metrics |= {f"{role}_{name}": block.metrics.get(name) for name in ("retention", "u")}
    return record.model_copy(
        update={"metrics": metrics, "evaluators": {name: block for name, block in blocks.values()}}
    )


def secondary_views(records: Iterable[Record]) -> list[Record]:
    """Many records as `as_secondary_sees` gives them, without those that lack a score."""
    return [seen for seen in map(as_secondary_sees, records) if seen is not None]


def agreements(records: Sequence[Record]) -> list[Agreement]:
    """The agreement for each domain and role with secondary scores.

    All records of a model must be under the same conditions.
    """
    found = []
    for domain, group in grouped(records, lambda r: r.domain):
        for role in ROLES:
            names = [
                (first, pair[0])
                for r in group
                if (pair := second_block(r, role)) and (first := _first_name(r, role))
            ]
            if not names:
                continue
            evaluators = names[0]
            both = (
                functools.partial(retention_of, role=role),
                functools.partial(second_retention, role=role),
            )
            tables = {}
            for model, same in grouped(group, lambda r: r.model):
                if _evaluated(same, role):
                    tables[model] = retentions(same, both)
            if any(len(methods) > 1 for methods in tables.values()):
                found.append(agreement(domain, role, evaluators, tables))
    return found


def _evaluated(records: Sequence[Record], role: str) -> bool:
    """Whether the secondary evaluator of a role scored any record of a model."""
    return any(second_block(r, role) for r in records)


def _first_name(record: Record, role: str) -> str | None:
    return next(
        (name for name, block in record.evaluators.items() if not block.second and block.role == role), None
    )


def second_retention(record: Record, role: str) -> float | None:
    """The retention by the secondary evaluator.

    It is 0 for a network that diverged, and None without a score.
    """
    if record.status == "diverged":
        return 0.0
    pair = second_block(record, role)
    return None if pair is None else pair[1].metrics.get("retention")


def retentions(
    records: Sequence[Record], readings: tuple[Reading, Reading]
) -> dict[str, tuple[float, float]]:
    """Method -> both retentions, as means over the sampling seeds that both evaluators scored.

    The baseline is left out, since its retention is always 1.
    """
    found = {}
    for method, same in grouped(
        [r for r in records if r.method != "none" and r.status in FINISHED], lambda r: r.method
    ):
        both = [
            (a, b) for r in same if (a := readings[0](r)) is not None and (b := readings[1](r)) is not None
        ]
        if both:
            found[method] = (mean(a for a, _ in both), mean(b for _, b in both))
    return found


def agreement(domain: str, role: str, evaluators: tuple[str, str], tables: Mapping[str, Table]) -> Agreement:
    """Kendall's tau with its error. `tables` maps model -> method -> both retentions.

    The error also counts one more pair as discordant, because the jackknife gives no error where both
    evaluators agree on all pairs.
    """
    tau = tau_of(tables.values())
    methods = sorted({method for table in tables.values() for method in table})
    without = []
    for left_out in methods:
        one = tau_of([_without(table, left_out) for table in tables.values()])
        if one is not None:
            without.append(one)
    pairs = [
        (a[0] - b[0], a[1] - b[1])
        for table in tables.values()
        for i, a in enumerate(table.values())
        for b in list(table.values())[:i]
    ]
    apart = [float(x * y > 0) for x, y in pairs if max(abs(x), abs(y)) >= APART]
    differing = sorted(
        (
            Disagreement(model, method, *both)
            for model, table in tables.items()
            for method, both in table.items()
        ),
        key=lambda p: -abs(p.first - p.second),
    )
    return Agreement(
        domain,
        role,
        evaluators,
        sum(map(len, tables.values())),
        Estimate(
            math.nan if tau is None else tau,
            jackknife_variance(without),
            max(1, len(without) - 1),
            known=(2 / max(1, len(pairs))) ** 2,
        ),
        mean(apart) if apart else None,
        len(apart),
        tuple(differing[:3]),
    )


def _without(table: Table, left_out: str) -> Table:
    return {method: both for method, both in table.items() if method != left_out}


def tau_of(tables: Iterable[Table]) -> float | None:
    """Kendall's tau-b over all pairs of methods of the same model.

    None where an evaluator gives all the same retention.
    """
    concordance = first = second = 0.0
    for table in tables:
        values = np.array(list(table.values())).reshape(-1, 2)
        x, y = (np.sign(column[:, None] - column) for column in values.T)
        concordance += float((x * y).sum())
        first, second = first + float((x != 0).sum()), second + float((y != 0).sum())
    return concordance / math.sqrt(first * second) if first and second else None


def jackknife_variance(values: Sequence[float]) -> float | None:
    """The variance of an estimate, from its values with each unit left out once (Tukey 1958)."""
    n = len(values)
    return None if n < 3 else (n - 1) / n * float(np.square(np.array(values) - mean(values)).sum())


def interval_of(tau: Estimate) -> tuple[float, float] | None:
    """The 95 % interval, clipped to [-1, 1]."""
    half = tau.half_width(0.975)
    return None if half is None else (max(-1.0, tau.value - half), min(1.0, tau.value + half))
