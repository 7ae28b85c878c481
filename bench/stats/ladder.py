"""One model's ladder as arrays, which the statistics use.

They are made from records, or by the simulation in the tests.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from bench.methods.notation import LADDER, primary_rung
from bench.methods.notation import ladder as primary_ladder
from bench.records.schema import FINISHED, PRIMARY_METRIC, EvaluatorBlock, Record, metric_of
from bench.stats.compressibility import recalibrated_ladder, retention_of
from bench.stats.intervals import Estimate, item_covariance, seed_variance

Key = TypeVar("Key")
T = TypeVar("T")
U = TypeVar("U")
ROLES = ("quality", "diversity")
# the items of mutual recall are real samples, the same under every seed
CROSSED = {"quality": False, "diversity": True}
LEAST_SHARE = 0.005  # of the span, that a rung must lose to tell it
LENGTH = "length_ratio"  # the metric of domains whose samples have a length


@dataclass(frozen=True)
class Outcome:
    """The retention of one role, rung by rung, with the influence of each item.

    `influence` is the linearised ratio, (m_i - R b_i) / (baseline - floor). Its mean over items varies as R
    does. The floor counts as known, since it ships with the model. A network that diverged has retention 0
    and no influence.
    """

    retention: np.ndarray  # [rungs, seeds]
    influence: np.ndarray  # [rungs, seeds, items]
    crossed: bool
    span: float = 1.0  # baseline minus floor

    @cached_property
    def mean(self) -> np.ndarray:
        """[rungs]: the mean over sampling seeds."""
        return self.retention.mean(axis=1)

    @cached_property
    def item_mean(self) -> np.ndarray:
        """[rungs, items]: the mean over sampling seeds."""
        return self.influence.mean(axis=1)

    @cached_property
    def covariance(self) -> np.ndarray:
        """[rungs, rungs]: the covariance of the means that the items cause.

        At each rung two more items count as failed (Agresti and Coull 1998). Otherwise a share of exactly 0
        or 1 would have no variance.
        """
        _, seeds, items = self.influence.shape
        count = items if self.crossed else items * seeds
        return item_covariance(self.influence, self.crossed) + 2 / (count * self.span) ** 2 * np.eye(
            len(self.retention)
        )

    @cached_property
    def between_seeds(self) -> float:
        """The variance between sampling seeds beyond that of the items, pooled over the rungs."""
        if self.retention.shape[1] < 2:
            return 0.0
        return float(np.maximum(seed_variance(self.retention, self.influence, self.crossed), 0.0).mean())

    def estimate(self, weights: np.ndarray) -> Estimate:
        """This model's weighted sum of retentions (`weights` [rungs]), with its error over sampling seeds
        and items.
        """
        rungs, seeds = self.retention.shape
        # assumes fully correlated seed effects of the rungs
        between = self.between_seeds * float(np.abs(weights).sum()) ** 2 / seeds
        return Estimate(
            float(weights @ self.mean),
            between,
            max(1, rungs * (seeds - 1)),
            float(weights @ self.covariance @ weights),
        )

    def rung(self, i: int) -> Estimate:
        """The retention at one rung, with its error."""
        return self.estimate(np.eye(len(self.retention))[i])


def size_of(model: str) -> str:
    """The size of a model: `s` of `s@1`. It is the whole name of a model without a training seed."""
    return model.partition("@")[0]


def training_seed_of(model: str) -> str:
    """The training seed of a model: `1` of `s@1`, and `0` without one."""
    return model.partition("@")[2] or "0"


@dataclass(frozen=True)
class ModelLadder:
    """The primary ladder of one model. Rungs in `missing` were not measured; they never count as zero."""

    domain: str
    model: str
    rungs: tuple[str, ...]  # measured, mildest first
    rates: np.ndarray  # [rungs] log2 of the ratio, mean over seeds
    outcomes: Mapping[str, Outcome]  # by role
    u: Mapping[str, float] = field(default_factory=dict)  # by role
    missing: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    lengths: np.ndarray | None = None  # [rungs] mean length of the samples over that of the baseline's

    @property
    def size(self) -> str:
        """The size in the model's name."""
        return size_of(self.model)

    @property
    def training_seed(self) -> str:
        """The training seed in the model's name."""
        return training_seed_of(self.model)

    @property
    def whole(self) -> bool:
        """Whether every rung was measured and has a retention."""
        return not self.missing and not self.undefined and bool(self.rungs)


def models_of(records: Sequence[Record]) -> list[ModelLadder]:
    """All models that have a ladder.

    If a model has records under several conditions, those with most of the ladder count.
    """
    return [m for m, _ in with_records(records)]


def with_records(records: Sequence[Record]) -> list[tuple[ModelLadder, list[Record]]]:
    """All models that have a ladder, each with all records under the conditions of that ladder."""
    groups = [comparable(group) for _, group in grouped(records, lambda r: (r.domain, r.model))]
    return [(m, group) for group in groups if (m := measured(group)) is not None]


def comparable(records: Sequence[Record]) -> list[Record]:
    """The records that represent a model: those under the same conditions, with the most rungs, then the
    most sampling seeds. Records of a user's own real samples come last, since they are in no ranking.
    """

    def rank(group: list[Record]) -> tuple[bool, bool, int, int, int]:
        m, shipped = measured(group), not group[0].own_reference
        if m is None:
            return False, shipped, len(_rungs(group)), 0, len(group)
        return True, shipped, len(m.rungs), m.outcomes["quality"].retention.shape[1], len(group)

    groups = [group for _, group in grouped(records, conditions)]
    return groups[0] if len(groups) == 1 else max(groups, key=rank)


def _rungs(records: Sequence[Record]) -> set[str]:
    recalibrated = recalibrated_ladder(records)
    return {
        rung
        for r in records
        if r.status in FINISHED and (rung := primary_rung(r.method, recalibrated)) is not None
    }


def conditions(record: Record) -> str:
    """A key of the conditions of a record.

    Records that differ in it are not repeats and never share a row.
    """
    versions = {name: version for name, version in record.implementation.items() if " " in name}
    same = (
        record.samples,
        record.k,
        record.weights_sha256,
        record.companions,
        record.reference,
        record.sampler,
        versions,
    )
    return json.dumps(same, sort_keys=True)


def conditions_digest(record: Record) -> str:
    """A short name of the conditions, beside a model's twins."""
    return hashlib.sha256(conditions(record).encode()).hexdigest()[:16]


def grouped(records: Iterable[Record], key: Callable[[Record], Key]) -> list[tuple[Key, list[Record]]]:
    """Group records by key -> (key, its records by seed), in order of the key."""
    ordered = sorted(records, key=lambda r: (str(key(r)), r.sample_seed))
    return [(group, list(members)) for group, members in itertools.groupby(ordered, key=key)]


def map_rows(function: Callable[[T], U], rows: Iterable[Iterable[T]]) -> list[list[U]]:
    """Apply a function to every element of nested rows. The result has the same nesting."""
    return [list(map(function, row)) for row in rows]


def measured(records: Sequence[Record], methods: Mapping[str, str] | None = None) -> ModelLadder | None:
    """The ladder of a model, from its records under the same conditions that hold their items.

    `methods`: rung -> method, mildest first; by default the primary ladder. None without a baseline or
    without any rung.
    """
    records = [r for r in records if r.status in FINISHED and has_items(r)]
    base = {r.sample_seed: r for r in records if r.method == "none" and r.status != "diverged"}
    methods = methods or dict(zip(LADDER, primary_ladder(recalibrated_ladder(records))))
    found = _by_rung([r for r in records if r.sample_seed in base], methods)
    missing = tuple(rung for rung in methods if not found[rung])
    undefined = tuple(rung for rung in methods if _has_undefined(found[rung].values()))
    rungs = [rung for rung in methods if found[rung] and rung not in undefined]
    seeds = _common_seeds([set(found[rung]) for rung in rungs]) if rungs else sorted(base)
    missing = tuple(
        rung for rung in methods if rung in missing or (rung in rungs and not set(seeds) <= set(found[rung]))
    )
    rungs = [rung for rung in rungs if rung not in missing]
    if not seeds or not (rungs or undefined):
        return None
    baselines = [base[seed] for seed in seeds]
    grid = [[*map(found[rung].__getitem__, seeds)] for rung in rungs]
    return ModelLadder(
        records[0].domain,
        records[0].model,
        tuple(rungs),
        np.array([_mean_rate(row) for row in grid]),
        {role: outcome(baselines, grid, role) for role in ROLES},
        {role: u for role in ROLES if (u := _mean_u(base.values(), role)) is not None},
        missing,
        undefined,
        _lengths(baselines, grid),
    )


def _by_rung(records: Iterable[Record], methods: Mapping[str, str]) -> dict[str, dict[int, Record]]:
    """Rung -> sampling seed -> record."""
    rung_of = {method: rung for rung, method in methods.items()}
    found: dict[str, dict[int, Record]] = {rung: {} for rung in methods}
    for record in records:
        if record.method in rung_of:
            found[rung_of[record.method]][record.sample_seed] = record
    return found


def _has_undefined(records: Iterable[Record]) -> bool:
    """Whether a record lacks the retention of a role."""
    return any(retention_of(r, role) is None for r in records for role in ROLES)


def _mean_rate(records: Iterable[Record]) -> float:
    """The mean log2 of the compression ratio; NaN without a known size."""
    return float(np.mean([math.log2(r.cost.ratio) for r in records if r.cost] or math.nan))


def _mean_u(baselines: Iterable[Record], role: str) -> float | None:
    """The mean headroom U of a role; None where no baseline has one."""
    known = [u for r in baselines if (u := r.metric(f"{role}_u")) is not None]
    return float(np.mean(known)) if known else None


def _common_seeds(of_rungs: Sequence[set[int]]) -> list[int]:
    """The sampling seeds that all rungs have. Without one, it is the seed that most rungs have."""
    common = set.intersection(*of_rungs)
    known = sorted(set().union(*of_rungs))
    return sorted(common) or [max(known, key=lambda seed: sum(seed in seeds for seeds in of_rungs))]


def outcome(base: Sequence[Record], grid: Sequence[Sequence[Record]], role: str) -> Outcome:
    """Retention and influence from `base` [seeds] and `grid` [rungs][seeds]."""
    retention = np.array(map_rows(lambda r: retention_of(r, role) or 0.0, grid), float).reshape(
        len(grid), len(base)
    )
    columns: list[Sequence[Record]] = list(zip(*grid)) or [()] * len(base)
    spans = [_span(baseline, column, role) for baseline, column in zip(base, columns)]
    before = [_flags(record, role) for record in base]
    influence = np.zeros((*retention.shape, len(before[0])))
    for i, row in enumerate(grid):
        for s, record in enumerate(row):
            if record.status != "diverged":
                influence[i, s] = (_flags(record, role) - retention[i, s] * before[s]) / spans[s]
    return Outcome(retention, influence, CROSSED[role], float(np.mean(spans)))


def _span(base: Record, rungs: Sequence[Record], role: str) -> float:
    """Baseline minus floor: records hold R = (m - floor) / span, so span = (baseline - m) / (1 - R)."""
    before = base.metric(metric_of(role)) or 0.0
    pairs = [
        (before - m, 1 - kept)
        for r in rungs
        if (m := r.metric(metric_of(role))) is not None and (kept := retention_of(r, role)) is not None
    ]
    lost, share = max(pairs, key=lambda pair: abs(pair[1]), default=(before, 1.0))
    # a milder loss tells nothing of the floor: R may be of another machine's baseline, off by .001
    return lost / share if abs(share) > LEAST_SHARE and lost / share > 0 else before


def _flags(record: Record, role: str) -> np.ndarray:
    """float [items]: the flags of the primary evaluator."""
    return _block(record, role).items[PRIMARY_METRIC[role]].unpack().astype(float)  # type: ignore[union-attr]


def _block(record: Record, role: str) -> EvaluatorBlock | None:
    """The first evaluator of the role that has items and whose mean is the value in the record."""
    fits = (
        b
        for b in record.evaluators.values()
        if b.role == role and b.metrics.get(PRIMARY_METRIC[role]) == record.metric(metric_of(role))
    )
    return next((block for block in fits if PRIMARY_METRIC[role] in block.items), None)


def has_items(record: Record) -> bool:
    """Whether the record has flags for both roles. A network that diverged needs none."""
    return record.status == "diverged" or all(_block(record, role) is not None for role in ROLES)


def _lengths(base: Sequence[Record], grid: Sequence[Sequence[Record]]) -> np.ndarray | None:
    """[rungs]: the mean length of the samples divided by the baseline's; None where samples have no
    length.
    """
    before = [r.metric(LENGTH) for r in base]
    if any(not value for value in before):
        return None
    lengths = np.array(map_rows(lambda r: r.metric(LENGTH) or 0.0, grid), float).reshape(len(grid), len(base))
    return (lengths / np.array(before, float)).mean(axis=1)
