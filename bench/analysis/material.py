"""What all tables of the first part of the leaderboard are made of, and how a table is set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.measured import Measured, with_records
from bench.analysis.scores import REGRESSED_FROM, Score
from bench.analysis.verdict import Situation, situation
from bench.model_file import ModelFile
from bench.record import Record
from bench.registry import DOMAINS

DASH = "-"
ModelFiles = Mapping[tuple[str, str], ModelFile]


@dataclass(frozen=True)
class Material:
    """What all tables are made of."""

    records: Sequence[Record]  # of each model those under the conditions of its ladder
    models: Sequence[Measured]
    files: ModelFiles
    now: Situation
    wider: Situation

    def of(self, domain: str) -> list[Record]:
        return [r for r in self.records if r.domain == domain]

    def parameters(self, m: Measured) -> int | None:
        return next((r.cost.parameters for r in self.records if (r.domain, r.model) == (m.domain, m.model) and r.cost), None)


def material(records: Sequence[Record], files: ModelFiles) -> Material:
    found = with_records(records)
    models = [m for m, _ in found]
    missing = _missing(models)
    used = [r for _, same in found for r in same]
    return Material(used, models, files, situation(models, missing), situation(models, missing, REGRESSED_FROM))


def _missing(models: Sequence[Measured]) -> dict[str, list[str]]:
    """Domain -> what the published grid asks for and has no ladder."""
    known = {(m.domain, m.model) for m in models}
    domains = sorted({m.domain for m in models})
    return {d: [name for name in DOMAINS.load(d)().grid() if (d, name) not in known] for d in domains if d in DOMAINS}


def table(headers: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    from tabulate import tabulate

    align = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def with_interval(score: Score | None, digits: int = 3) -> str:
    if score is None:
        return DASH
    interval = score.interval()
    return f"{score.value:.{digits}f}" + ("" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]")
