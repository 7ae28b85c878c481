"""Writes what other projects' tools cost the published models: a table of docs/tools.md, from the records.

`python -m scripts.tools_records`
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from bench.methods.notation import without_recalibration
from bench.records.schema import Record, read_records
from bench.registry import METHODS
from bench.report.cells import table
from bench.report.report_data import ReportData, report_data
from bench.stats.model_file import read_models
from bench.util.files import write_atomically
from scripts import blocks
from scripts.figures import ROOT, retained, short

PAGE = ROOT / "docs" / "tools.md"
HEADERS = (
    *("domain", "method", "tool's own file ↑", "our coding ↑", "numbers skipped ↓"),
    *("quality ↑", "diversity ↑"),
)
OURS = ("int8", "int4", "nf4")  # beside the tools


def main() -> None:
    found = report_data(read_records(ROOT / "results"), read_models(ROOT / "results"))
    write_atomically(PAGE, filled(PAGE.read_text(encoding="utf-8"), found))


def filled(page: str, found: ReportData) -> str:
    """The page with the present table."""
    return blocks.filled(page, {"records": text(found)})


def text(found: ReportData) -> str:
    """The table, smallest files of each domain last, and the methods of tools that cover no layer."""
    cells: dict[tuple[str, str], list[Record]] = {}
    for r in found.records:
        method = without_recalibration(r.method)
        if r.model == "s@0" and (r.tools or method in OURS):
            cells.setdefault((r.domain, method), []).append(r)
    # a network with running statistics is recalibrated where that was measured
    chosen = [[r for r in same if r.method != key[1]] or same for key, same in cells.items()]
    rows = [row(same) for same in sorted(chosen, key=lambda same: (same[0].domain, ratio(same)))]
    return "\n".join(
        [table(HEADERS, rows, left=2), *(["", *without] if (without := none_covered(found)) else [])]
    )


def none_covered(found: ReportData) -> list[str]:
    """A line for each domain with methods of tools that cover no layer of its network."""
    methods: dict[str, set[str]] = {}
    for r in found.records:
        of_tool = METHODS.get(r.method.partition(":")[0], "").startswith("bench.methods.tools.")
        if r.model == "s@0" and of_tool and r.status == "unsupported":
            methods.setdefault(r.domain, set()).add(f"`{without_recalibration(r.method)}`")
    return [f"- {domain}, no layer covered: {', '.join(sorted(m))}." for domain, m in sorted(methods.items())]


def ratio(same: Sequence[Record]) -> float:
    """Of the float32 file to ours."""
    return fmean(r.cost.ratio for r in same if r.cost)


def row(same: Sequence[Record]) -> tuple[str, ...]:
    """One method on one network, means over sampling seeds."""
    reports = [(r.cost.fp32_bytes, r.tools[0]) for r in same if r.tools and r.cost]
    own = f"{fmean(whole / tool.file_bytes for whole, tool in reports):.2f}x" if reports else "ours"
    skipped = f"{fmean(sum(tool.skipped.values()) for _, tool in reports):.0%}" if reports else "-"
    return (
        same[0].domain,
        f"`{same[0].method}`",
        own,
        f"{ratio(same):.2f}x",
        skipped,
        *map(short, retained(same)),
    )


if __name__ == "__main__":
    main()
