"""Models and records whose retention is known, for the tests of the statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from test_leaderboard import record

from bench.methods.notation import CONTROL, LADDER, during
from bench.records.schema import PRIMARY_METRIC, EvaluatorBlock, Items, Record
from bench.report.details import details_page
from bench.report.headline import headline
from bench.report.report_data import report_data
from bench.stats.domain import Domain
from bench.stats.ladder import CROSSED, ROLES, ModelLadder, Outcome

RATES = (2.0, 2.4, 2.7, 3.0, 3.4, 3.9, 4.2, 4.8)  # of the eight rungs, log2
BASE, FLOOR = 0.8, 0.1  # of both roles
Kept = float | Sequence[float] | np.ndarray  # at every rung, or rung by rung


def model(
    domain: str,
    name: str = "s@0",
    quality: Kept = 1.0,
    diversity: Kept = 1.0,
    u: float = 0.9,
    rates: Sequence[float] = RATES,
    missing: Sequence[str] = (),
    lengths: Sequence[float] | None = None,
    items: int = 1000,
) -> ModelLadder:
    """Its sampling seeds agree; of its items only those two are counted that an interval always adds:
    hardly any error of its own.
    """
    rungs = tuple(rung for rung in LADDER[: len(rates)] if rung not in missing)
    kept = {"quality": quality, "diversity": diversity}
    outcomes = {role: outcome(kept[role], len(rungs), role, items) for role in ROLES}
    at = np.array([rate for rung, rate in zip(LADDER, rates) if rung in rungs])
    long = None if lengths is None else np.array(lengths)
    return ModelLadder(
        domain, name, rungs, at, outcomes, dict.fromkeys(ROLES, u), tuple(missing), lengths=long
    )


def outcome(kept: Kept, rungs: int, role: str, items: int) -> Outcome:
    retention = np.repeat(np.broadcast_to(np.asarray(kept, float), (rungs,))[:, None], 2, axis=1)
    return Outcome(retention, np.zeros((rungs, 2, items)), CROSSED[role])


def domain(name: str, scores: Mapping[str, Sequence[Kept]]) -> Domain:
    """A training seed for each pair of retentions, the same at all rungs."""
    models = [
        model(name, f"s@{i}", quality, diversity)
        for i, (quality, diversity) in enumerate(zip(*(scores[role] for role in ROLES)))
    ]
    return Domain(name, tuple(models), tuple((m,) for m in models))


def scored(
    method: str,
    seed: int,
    quality: float,
    diversity: float,
    name: str = "d",
    at: str = "s@0",
    **changes: object,
) -> Record:
    """A record whose flags, values and retentions fit together: N = 100, as many valid samples as that
    retention takes.
    """
    values = {role: FLOOR + kept * (BASE - FLOOR) for role, kept in zip(ROLES, (quality, diversity))}
    counts = {role: round(100 * value) for role, value in values.items()}
    kept = {role: (counts[role] / 100 - FLOOR) / (BASE - FLOOR) for role in ROLES}
    blocks = {
        role: EvaluatorBlock(
            role=role,
            version=1,
            metrics={PRIMARY_METRIC[role]: counts[role] / 100},
            items={PRIMARY_METRIC[role]: _first(counts[role])},
        )
        for role in ROLES
    }
    metrics = {f"{role}_{PRIMARY_METRIC[role]}": counts[role] / 100 for role in ROLES} | {
        f"{role}_retention": kept[role] for role in ROLES
    }
    if method == "none":
        metrics |= {f"{role}_u": 0.9 for role in ROLES}
    made = record(method, seed, **metrics)
    return made.model_copy(update={"domain": name, "model": at, "evaluators": blocks, **changes})


def _first(count: int) -> Items:
    return Items.pack(np.arange(100) < count)


def stored(made: Record, ratio: float, fp32_bytes: int = 4_000_000) -> Record:
    """The same, with a file so many times smaller."""
    assert made.cost is not None
    cost = made.cost.model_copy(
        update={"ratio": ratio, "fp32_bytes": fp32_bytes, "stored_bytes": round(fp32_bytes / ratio)}
    )
    return made.model_copy(update={"cost": cost})


def ladder(
    name: str, at: str = "s@0", quality: Kept = 1.0, diversity: Kept = 1.0, seeds: Sequence[int] = (0, 1, 2)
) -> list[Record]:
    """Baseline and eight rungs under each seed."""
    kept = [np.broadcast_to(np.asarray(k, float), (len(LADDER),)) for k in (quality, diversity)]
    made = [stored(scored("none", seed, 1.0, 1.0, name, at), 1.0) for seed in seeds]
    for rung, rate, q, d in zip(LADDER, RATES, *kept):
        made += [stored(scored(rung, seed, float(q), float(d), name, at), 2**rate) for seed in seeds]
    return made


def trained(
    name: str,
    at: str = "s@0",
    quality: float = 1.0,
    diversity: float = 1.0,
    rung: str = "binary",
    ratio: float = 29.0,
    seeds: Sequence[int] = (0, 1, 2),
) -> list[Record]:
    """A rung compressed during training; `finetune` is the control."""
    method = rung if rung == CONTROL else during(rung)
    return [stored(scored(method, seed, quality, diversity, name, at), ratio) for seed in seeds]


def both_pages(records: list[Record]) -> str:
    """The leaderboard and the page of details."""
    found = report_data(records, {})
    return "\n".join([*headline(found, "details.md"), details_page(found, "leaderboard.md")])
