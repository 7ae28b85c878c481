"""Compares compression after training with compression during training, model by model.

After training is the primary ladder. During training is the same grid in each forward pass (`qat:grid=int3`).
Nothing is selected: every model that was measured both ways under the same sampling seeds takes part. As in
any mean over sizes, a size stays out if it lacks a training seed that the commonest size has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.methods.notation import CONTROL, LADDER, during, is_trained, ladder, rung_trained
from bench.records.schema import FINISHED, Record
from bench.stats.compressibility import recalibrated_ladder, retention_of
from bench.stats.domain import Domain, units_of
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, ModelLadder, Outcome, grouped, has_items, measured


@dataclass(frozen=True)
class BothWays:
    """The same models and rungs of one domain, compressed after and during training.

    `change` holds retention during training minus retention after it, so positive means that training keeps
    more.
    """

    after: Domain
    during: Domain
    change: Domain

    @property
    def models(self) -> int:
        """The number of models in the means."""
        return sum(map(len, self.during.units))

    @property
    def seeds(self) -> int:
        """The number of training seeds in the means."""
        return len(self.during.units)

    def difference(self, role: str, rung: str) -> Estimate | None:
        """During minus after at one rung, paired by model. The error is over training seeds: one has none."""
        return over_seeds(self.change, role, rung)


@dataclass(frozen=True)
class DuringTraining:
    """The comparison of one domain."""

    name: str
    rungs: Mapping[str, BothWays]  # by rung, mildest first; a rung may lack models that another has
    together: BothWays  # all these rungs, of the models that have any of them
    control: Domain | None  # its one rung is `finetune`: the same steps without compression


def over_seeds(domain: Domain, role: str, rung: str) -> Estimate | None:
    """The mean retention at one rung with its error over training seeds. The error is unknown for one."""
    found = domain.retention(role, rung)
    return found if found is None or len(domain.units) > 1 else replace(found, variance=None)


def compare_ways(records: Sequence[Record]) -> list[DuringTraining]:
    """The comparison of each domain with a rung measured both ways, by name.

    records: of each model those under the same conditions (`bench.stats.ladder.with_records`).
    """
    found = []
    for name, group in grouped(records, lambda r: r.domain):
        if any(is_trained(r.method) for r in group) and (one := _domain(name, group)) is not None:
            found.append(one)
    return found


def _domain(name: str, records: Sequence[Record]) -> DuringTraining | None:
    trained = {rung_trained(r.method) for r in records}
    models = [group for _, group in grouped(records, lambda r: r.model)]
    rungs: dict[str, BothWays] = {}
    for rung in LADDER:
        if rung in trained and (row := _both_ways(name, models, (rung,))) is not None:
            rungs[rung] = row
    together = _both_ways(name, models, tuple(rungs)) if rungs else None
    if together is None:
        return None
    controls = [m for group in models if (m := measured(group, {CONTROL: CONTROL})) is not None and m.rungs]
    return DuringTraining(name, rungs, together, domain_of(name, controls) if controls else None)


def _both_ways(name: str, models: Sequence[Sequence[Record]], rungs: Sequence[str]) -> BothWays | None:
    """None where no model has a rung both ways."""
    pairs = [pair for group in models if (pair := paired(group, rungs)) is not None]
    if not pairs:
        return None
    after, trained, change = zip(*((a, b, minus(b, a)) for a, b in pairs))
    return BothWays(domain_of(name, after), domain_of(name, trained), domain_of(name, change))


def domain_of(name: str, models: Sequence[ModelLadder]) -> Domain:
    """Models of one domain, with the units that its mean averages."""
    return Domain(name, tuple(models), units_of(models))


def paired(records: Sequence[Record], rungs: Sequence[str]) -> tuple[ModelLadder, ModelLadder] | None:
    """One model's rungs (after, during) training that it has both ways, under the same sampling seeds.

    A model with running statistics is recalibrated after training. None without such a rung.
    """
    every = dict(zip(LADDER, ladder(recalibrated_ladder(records))))
    after, trained = {rung: every[rung] for rung in rungs}, {rung: during(rung) for rung in rungs}
    usable = {(r.method, r.sample_seed): r for r in records if _is_known(r)}
    kept = [r for r in records if r.method == "none"]
    for rung in rungs:
        other = {after[rung]: trained[rung], trained[rung]: after[rung]}
        kept += [r for (method, seed), r in usable.items() if (other.get(method), seed) in usable]
    a, b = measured(kept, after), measured(kept, trained)
    return (_in_part(a), _in_part(b)) if a is not None and b is not None and a.rungs else None


def _in_part(m: ModelLadder) -> ModelLadder:
    """The ladder with all other rungs as missing, so that no score is made of a few rungs."""
    return replace(m, missing=tuple(rung for rung in LADDER if rung not in m.rungs))


def _is_known(record: Record) -> bool:
    """Whether a record has flags and both retentions. Those of a network that diverged are 0."""
    known = record.status in FINISHED and has_items(record)
    return known and all(retention_of(record, role) is not None for role in ROLES)


def minus(a: ModelLadder, b: ModelLadder) -> ModelLadder:
    """The retentions of a minus those of b, item by item: the same model, rungs and sampling seeds.

    The result has no score, so all its rungs count as missing.
    """
    outcomes = {role: _minus(a.outcomes[role], b.outcomes[role]) for role in ROLES}
    return replace(a, outcomes=outcomes, lengths=None, missing=LADDER)


def _minus(a: Outcome, b: Outcome) -> Outcome:
    # both sides count two more failed items, so their variance is added twice: span / sqrt(2)
    span = min(a.span, b.span) / math.sqrt(2)
    return Outcome(a.retention - b.retention, a.influence - b.influence, a.crossed, span)
