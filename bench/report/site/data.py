"""The page's data: one row for each domain, model and method, as plain values that JSON can hold.

Every number is made from the records by functions of `bench.stats`. Means are over sampling seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from bench.methods.notation import is_trained, without_recalibration
from bench.records.schema import Record
from bench.report.figures.families import FAMILIES, family_of
from bench.report.model_page import MACS_LEFT, SURVIVAL, Column, command, methods_in_order
from bench.report.report_data import ReportData, report_data
from bench.report.site.compare import half_widths, model_pairs, rung_of, with_every_method
from bench.report.site.samples import Twins, read_twins
from bench.stats.compressibility import retention_of
from bench.stats.ladder import ROLES, ModelLadder, conditions, grouped, size_of
from bench.stats.model_file import read_models, rounded
from bench.stats.scores import model_score
from bench.stats.use import use_by_method

Say = Callable[[str], None]
Row = dict[str, Any]
BASELINE = "none"
UNCOMPRESSED = "uncompressed"
# the columns of the table that hold numbers -> the digits that are shown
NUMBERS = {
    "ratio": 2,
    "quality": 3,
    "diversity": 3,
    "survival": 3,
    "use": 3,
    "bits_per_param": 2,
    "stored_bytes": 0,
    "macs_left": 3,
}
TEXTS = ("source", "domain", "model", "size", "method", "family", "when", "status")


@dataclass(frozen=True)
class Source:
    """Records of one origin: the published ones, or a user's own."""

    name: str
    results: Path
    records: Sequence[Record]

    @cached_property
    def found(self) -> ReportData:
        """The data of the leaderboard's tables."""
        return report_data(self.records, read_models(self.results))


@dataclass(frozen=True)
class SiteData:
    """The data of the whole page. `main` is the source of the headline and of the curves."""

    main: Source
    rows: list[Row]
    twins: list[Twins]
    # "source domain model" -> the methods in the order of their half widths, by role
    paired: dict[str, dict[str, Any]] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)  # C of each model, and their differences

    @property
    def sources(self) -> list[str]:
        """The names of the sources, each once."""
        return [*dict.fromkeys(row["source"] for row in self.rows)]

    def for_script(self) -> dict[str, Any]:
        """What the script reads: columns once, then a list for each row. Floats have six digits, half widths
        four.

        The metrics of a row begin with an index into `metric_names`; their values follow.
        """
        columns = list(self.rows[0]) if self.rows else []
        values: list[list[Any]] = []
        places: dict[tuple[str, ...], int] = {}
        for row in self.rows:
            metrics = row["metrics"]
            place = places.setdefault(tuple(metrics), len(places))
            short = {**row, "metrics": [place, *metrics.values()]}
            values.append([short[name] for name in columns])
        return {
            "columns": columns,
            "rows": rounded(values),
            "metric_names": list(places),
            "twins": [vars(t) for t in self.twins],
            "paired": rounded(self.paired, 4),
            "models": rounded(self.models),
            "numbers": NUMBERS,
            "main": self.main.name,
        }


def site_data(sources: Sequence[Source], say: Say) -> SiteData:
    """Collect the data. The first source with a ranking is the main one; without one it is the first."""
    main = next((s for s in sources if s.found.comparable), sources[0])
    site = SiteData(main, [], [], {}, _models(sources))
    for source in sources:
        _collect(source, site, say)
    return site


def _collect(source: Source, site: SiteData, say: Say) -> None:
    """Add the rows, twins and paired differences of one source."""
    richest = {id(r) for group in source.found.richest.values() for r in group}
    for (domain, model), of_model in grouped(source.records, lambda r: (r.domain, r.model)):
        groups = grouped(of_model, conditions)
        for _, group in groups:
            every, use = with_every_method(group), use_by_method(group)
            rows = methods_in_order(group)
            for method, same in rows:
                kept = use.get(method)
                row = _row(source.name, method, same, _ladder_with(method, same, group, every))
                site.rows.append({**row, "use": kept and kept.value})
            seeds = {frozenset(_seeds(same)) for _, same in rows}
            # a name stands for one group, and a difference is paired over all seeds of a row
            if every is not None and len(groups) == len(seeds) == 1:
                site.paired[f"{source.name} {domain} {model}"] = {
                    "methods": every.rungs,
                    **half_widths(every),
                }
            every_method = any(id(r) in richest for r in group)
            found = read_twins(source.name, source.results, group, every_method, say)
            site.twins.extend([] if found is None else [found])


def _ladder_with(
    method: str, same: Sequence[Record], group: Sequence[Record], every: ModelLadder | None
) -> ModelLadder | None:
    """The ladder whose interval of a method is over all of its sampling seeds: that of all methods, if they
    share these seeds, or else of this method alone.
    """
    if every is None or len(_seeds(same)) == every.outcomes["quality"].retention.shape[1]:
        return every
    return with_every_method([r for r in group if r.method in (BASELINE, method)])


def _seeds(records: Sequence[Record]) -> set[int]:
    return {r.sample_seed for r in records}


def _row(source: str, method: str, records: Sequence[Record], every: ModelLadder | None) -> Row:
    """One line of the table, with all that its details show."""
    first = records[0]
    return {
        "source": source,
        "domain": first.domain,
        "model": first.model,
        "size": size_of(first.model),
        "method": method,
        "family": _family(method),
        "when": "during training" if is_trained(method) else "after training",
        "status": ", ".join(sorted({r.status for r in records})),
        **_numbers(records),
        **_intervals(method, every),
        **_details(first, method, records),
    }


def _family(method: str) -> str:
    if method == BASELINE:
        return UNCOMPRESSED
    return FAMILIES[family_of(without_recalibration(method))].name


SIZES = {
    "ratio": Column("", lambda r: r.cost.ratio if r.cost else None),
    "bits_per_param": Column("", lambda r: r.cost.bits_per_param if r.cost else None),
    "stored_bytes": Column("", lambda r: r.cost.stored_bytes if r.cost else None),
    "macs_left": MACS_LEFT,
    "survival": SURVIVAL,
}


def _numbers(records: Sequence[Record]) -> Row:
    found: Row = {}
    for name, column in SIZES.items():
        found[name] = _mean(map(column.value, records))
    for role in ROLES:
        found[role] = _retention(records, role)
    return {**found, "use": None}


def _retention(records: Sequence[Record], role: str) -> float | None:
    """The mean retention. That of the uncompressed network is 1 by definition."""
    if all(r.method == BASELINE for r in records):
        return 1.0
    return _mean([retention_of(r, role) for r in records])


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return mean(known) if known else None


def _intervals(method: str, every: ModelLadder | None) -> Row:
    """The ends of the 95 % intervals over sampling seeds and items; None where they are not known."""
    found: Row = {}
    for role in ROLES:
        ends: tuple[float | None, float | None] = (None, None)
        if every is not None and method in every.rungs:
            ends = rung_of(every.outcomes[role], every.rungs.index(method)).interval() or ends
        found |= {f"{role}_low": ends[0], f"{role}_high": ends[1]}
    return found


def _details(first: Record, method: str, records: Sequence[Record]) -> Row:
    names = dict.fromkeys(name for r in records for name in r.metrics)
    metrics = {}
    for name in names:
        metrics[name] = _mean(r.metric(name) for r in records)
    return {
        "seeds": [r.sample_seed for r in records],
        "cells": [r.cell[:16] for r in records],
        "reason": next((r.reason for r in records if r.reason), None),
        "command": command(first, [method], records),
        "samples": first.samples,
        "k": first.k,
        "weights": first.weights_sha256[:16],
        "commit": (first.provenance.commit or "")[:10] or None,
        "metrics": {name: value for name, value in metrics.items() if value is not None},
    }


def _models(sources: Sequence[Source]) -> dict[str, Any]:
    """C of each model with its interval, and the differences between all pairs."""
    named = {f"{s.name} {m.domain} {m.model}": m for s in sources for m in s.found.models}
    models = [*named.values()]
    found: dict[str, Any] = {"names": [*named], "pairs": {}}
    for role in ROLES:
        scores = [model_score(m, role) for m in models]
        found[role] = [s and [s.value, *(s.interval() or (None, None))] for s in scores]
    for role, rows in model_pairs(models).items():
        found["pairs"][role] = []
        for row in rows:
            found["pairs"][role].append([pair and [pair.value, pair.low, pair.high, pair.p] for pair in row])
    return found
