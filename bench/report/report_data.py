"""The data of the leaderboard's tables, and the functions that format a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

from bench.errors import BadInput, Failed, blamed
from bench.records.schema import FINISHED, Record
from bench.registry import DOMAINS, open_domain
from bench.report.verdict import ClaimContext, averaged_sizes, claim_context, with_secondary
from bench.stats.complete import has_secondary, not_compared_yet, without
from bench.stats.contrasts import OTHER, Contrast, Kinds, contrasts_of, kinds_of
from bench.stats.domain import Domain
from bench.stats.during import DuringTraining, compare_ways
from bench.stats.ladder import ModelLadder, grouped, models_of, with_records
from bench.stats.model_file import ModelFile
from bench.stats.rank_agreement import secondary_views
from bench.stats.scores import COUNTS_FROM, REGRESSED_FROM, counts, good_enough

ModelFiles = Mapping[tuple[str, str], ModelFile]


@dataclass(frozen=True)
class ReportData:
    """The data of all tables."""

    records: Sequence[Record]  # for each model, the records under the conditions of its ladder
    models: Sequence[ModelLadder]
    files: ModelFiles
    now: ClaimContext
    wider: ClaimContext
    second_models: Sequence[ModelLadder] = ()  # by the secondary evaluators, where these scored the ladder
    # domain that is not compared yet -> what it lacks; its models are in no average and in no test
    waiting: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kinds: Mapping[str, Kinds] = field(default_factory=dict)  # of the compared domains

    @cached_property
    def compared(self) -> list[ModelLadder]:
        """The models of the domains that are compared, scored against the domain's real samples."""
        own = {(r.domain, r.model) for r in self.records if r.own_reference}
        return [m for m in without(self.models, self.waiting) if (m.domain, m.model) not in own]

    @property
    def comparable(self) -> bool:
        """Whether at least two domains have records. Otherwise there is no ranking."""
        return len(self.now.domains) > 1

    @cached_property
    def contrasts(self) -> list[Contrast]:
        """The compared domains that share their data or their network."""
        return contrasts_of(self.kinds)

    @cached_property
    def crossed(self) -> bool:
        """Whether some domains share their data, and some their network."""
        return {contrast.shared for contrast in self.contrasts} == set(OTHER)

    @cached_property
    def _shipped(self) -> list[Record]:
        """The records that are scored against the domains' own real samples."""
        return [r for r in self.records if not r.own_reference]

    @cached_property
    def ways(self) -> list[DuringTraining]:
        """The domains with rungs that were measured after and during training."""
        return compare_ways(self._shipped)

    @cached_property
    def second_ways(self) -> dict[str, DuringTraining]:
        """The same by the secondary evaluators, by domain."""
        return {one.name: one for one in compare_ways(secondary_views(self._shipped))}

    @cached_property
    def richest(self) -> dict[str, list[Record]]:
        """Ranked domain -> the records of its model with the most methods."""
        found = {}
        for d in self.now.domains:
            groups = [same for _, same in grouped(self.of(d.name), lambda r: r.model)]
            if groups:
                found[d.name] = max(groups, key=lambda group: len(methods(group)))
        return found

    def of(self, domain: str) -> list[Record]:
        """The records of one domain, scored against its real samples."""
        return [r for r in self._shipped if r.domain == domain]

    def largest_size(self, models: Iterable[ModelLadder]) -> str:
        """The size of the models with the most parameters."""
        return max(models, key=lambda m: self.parameters(m) or 0).size

    def parameters(self, m: ModelLadder) -> int | None:
        """The number of parameters of a model; None where no record gives it."""
        return next(
            (
                r.cost.parameters
                for r in self.records
                if (r.domain, r.model) == (m.domain, m.model) and r.cost
            ),
            None,
        )


def report_data(records: Sequence[Record], files: ModelFiles) -> ReportData:
    """Compare the models of the records, by the primary and by the secondary evaluators."""
    found = with_records(records)
    models = [m for m, _ in found]
    used = [r for _, same in found for r in same]
    second = _by_secondary([same for _, same in found])
    shipped = [m for m, same in found if not same[0].own_reference]  # one reference a model
    of_shipped = [r for r in used if not r.own_reference]
    waiting = not_compared_yet(of_shipped, shipped)
    now = _by_size(second, _claims(second, without(shipped, waiting), COUNTS_FROM))
    others = without(shipped, not_compared_yet(of_shipped, shipped, REGRESSED_FROM))
    wider = _claims(second, others, REGRESSED_FROM)
    kinds = kinds_of([d.name for d in now.domains if d.compared and d.units], files)
    return ReportData(used, models, files, now, wider, second, waiting, kinds)


def methods(records: Sequence[Record]) -> set[str]:
    """The methods that these records measured, without the baseline."""
    return {r.method for r in records if r.status in FINISHED} - {"none"}


def _by_secondary(groups: Sequence[Sequence[Record]]) -> list[ModelLadder]:
    """The ladders by the secondary evaluators, of the models whose ladder they have scored."""
    return models_of([seen for same in groups if has_secondary(same) for seen in secondary_views(same)])


def _claims(second: Sequence[ModelLadder], models: Sequence[ModelLadder], threshold: float) -> ClaimContext:
    """The comparison of these models, by the primary and by the secondary evaluators."""
    made = claim_context(models, _missing(models), threshold)
    return with_secondary(made, secondary_domains(second, made, threshold))


def _by_size(second: Sequence[ModelLadder], now: ClaimContext) -> ClaimContext:
    """With the comparison of each size alone: the sizes of the averages, where these count several, and those
    in no average that several domains have. Each of the latter also enters an average of these domains.
    """
    compared = [d for d in now.domains if d.compared]
    averaged = [m for d in compared for m in d.averaged]
    sizes = {m.size for m in averaged}
    others = [m for d in compared for m in d.models if counts(m) and m.size not in sizes]
    alone = _alone(second, now, averaged) if len(sizes) > 1 else {}
    outside = {size: one for size, one in _alone(second, now, others).items() if len(one.domains) > 1}
    including = {}
    for size, one in outside.items():
        domains = [d.name for d in one.domains]
        of_all_sizes = [m for m in (*averaged, *others) if m.size in {*sizes, size}]
        wider = _compared(second, now, [m for m in of_all_sizes if m.domain in domains])
        if {*sizes, size} <= set(averaged_sizes(wider)):
            including[size] = wider
    return replace(now, alone=alone, outside=outside, including=including)


def _alone(
    second: Sequence[ModelLadder], now: ClaimContext, models: Sequence[ModelLadder]
) -> dict[str, ClaimContext]:
    """Size -> the comparison of these models of that size alone."""
    found = {}
    for size in sorted({m.size for m in models}):
        found[size] = _compared(second, now, [m for m in models if m.size == size])
    return found


def _compared(
    second: Sequence[ModelLadder], now: ClaimContext, models: Sequence[ModelLadder]
) -> ClaimContext:
    """The comparison of these models, by the secondary evaluators where these were used."""
    one = claim_context(models, {})
    return one if now.second is None else with_secondary(one, secondary_domains(second, one) or ())


def secondary_domains(
    second: Sequence[ModelLadder], one: ClaimContext, threshold: float = COUNTS_FROM
) -> list[Domain] | None:
    """The domains as the secondary evaluators score them. None where they scored none of the models.

    A model counts if the primary comparison includes it and the secondary evaluators scored its whole ladder.
    Its U by the secondary evaluators must be at least `threshold`.
    """
    scored = {(m.domain, m.model): m for m in second}
    if not any((m.domain, m.model) in scored for d in one.domains for m in d.averaged):
        return None
    theirs = {name: m for name, m in scored.items() if m.whole and good_enough(m, threshold)}
    found = []
    for d in one.domains:
        units = []
        for unit in d.units:
            counted = tuple(theirs[m.domain, m.model] for m in unit if (m.domain, m.model) in theirs)
            if len(counted) == len(unit):
                units.append(counted)
        if units:
            found.append(replace(d, models=tuple(m for unit in units for m in unit), units=tuple(units)))
    return found


def _missing(models: Sequence[ModelLadder]) -> dict[str, list[str]]:
    """Domain -> models of the published grid without a ladder."""
    known = {(m.domain, m.model) for m in models}
    domains = sorted({m.domain for m in models})
    found = {}
    for domain in domains:
        with (
            suppress(BadInput, Failed),
            blamed("grid"),
        ):  # a plug-in that is broken now says nothing of what it lacks
            if domain in DOMAINS:
                found[domain] = [n for n in open_domain(domain).grid() if (domain, n) not in known]
    return found
