"""`bench show CELL`: prints one record, found by the first characters of its hash, with the command that
repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import BadInput
from bench.records.schema import Record, ToolReport, read_records
from bench.report.model_page import command

SHORTEST = 4  # characters of a cell's hash; fewer would match too many cells


def find(cell: str, folders: Sequence[Path], warn: Callable[[str], None]) -> Record:
    """The record whose cell's hash starts with these characters.

    Raises `BadInput` where there is none, or more than one.
    """
    start = cell.lower().removesuffix(".json")
    if len(start) < SHORTEST or any(letter not in "0123456789abcdef" for letter in start):
        raise BadInput(
            f"cell {cell!r} is not the beginning of a cell's hash: give at least {SHORTEST} of 0-9 and a-f"
        )
    found = [
        r
        for folder in folders
        if folder.is_dir()
        for r in read_records(folder, warn)
        if r.cell.startswith(start)
    ]
    names = sorted({record.cell[:16] for record in found})
    if len(names) > 1:
        raise BadInput(
            f"cell {cell!r} matches several cells: "
            f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        )
    if not found:
        raise BadInput(f"there is no record of cell {cell!r} below {', '.join(map(str, folders))}")
    return found[0]


def skipped(tool: ToolReport) -> str:
    """How much of a network a tool left in floats."""
    share = sum(tool.skipped.values())
    return (
        f"it skipped {len(tool.skipped)} weights, {share:.0%} of all numbers"
        if tool.skipped
        else "all weights"
    )


def text_of(record: Record) -> str:
    """The record as text: what was measured, the results, where and how, and how to repeat it."""
    p = record.provenance
    cost = (
        []
        if record.cost is None
        else [("stored bytes", f"{record.cost.stored_bytes:,}"), ("ratio", f"{record.cost.ratio:.2f}x")]
    )
    tools = [
        (
            f"{one.tool}'s file",
            f"{one.file_bytes:,} bytes, written by {one.tool} {one.version}; {skipped(one)}",
        )
        for one in record.tools
    ]
    versions = ", ".join(f"{name} {version}" for name, version in p.versions.items())
    state = {True: " (with changes that were not committed)", False: "", None: ""}[p.dirty]
    facts = [
        *(
            ("cell", record.cell),
            ("domain", record.domain),
            ("model", record.model),
            ("method", record.method),
        ),
        *(
            ("sampling seed", record.sample_seed),
            ("training seed", record.train_seed),
            ("samples", record.samples),
            ("k", record.k),
        ),
        *(
            ("sampler", record.sampler or "-"),
            ("reference", record.reference),
            ("weights", f"SHA-256 {record.weights_sha256}"),
        ),
        ("status", record.status + (f": {record.reason}" if record.reason else "")),
        *cost,
        *tools,
        *((name, "-" if value is None else f"{value:.4g}") for name, value in record.metrics.items()),
        *(("commit", f"{p.commit or 'none'}{state}"), ("versions", f"Python {p.python}, {versions}")),
        *(("machine", f"{p.processor}; {p.platform}; {p.device}, {p.threads} threads"), ("time", p.time)),
        ("seconds", ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in p.seconds.items()) or "-"),
        ("repeat", command(record, [record.method], [record])),
    ]
    wide = max(len(name) for name, _ in facts)
    return "\n".join(f"{name:<{wide}}  {value}" for name, value in facts)
