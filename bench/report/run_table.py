"""The table at the end of a run: the new measurements beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.agreement import COMPARED, agreement
from bench.records.schema import Record
from bench.report.model_page import near_the_floor, survival_of


def comparison(measured: Sequence[Record], published: Sequence[Record]) -> str:
    """The table as plain text, one line for each record."""
    from tabulate import tabulate

    known = {record.cell: record for record in published}
    lines = [[*_line(record), agreement(record, known.get(record.cell), published)] for record in measured]
    beside = {(record.domain, record.model) for record in published}
    headers = [
        "method",
        "seed",
        "status",
        "ratio",
        "bits/param",
        "quality",
        "diversity",
        "survival",
        "published",
    ]
    align = ["left", *["right"] * 7, "left"]
    if not any((record.domain, record.model) in beside for record in measured):  # a model of the user's
        lines, headers, align = [line[:-1] for line in lines], headers[:-1], align[:-1]
    shown = tabulate(lines, headers=headers, disable_numparse=True, colalign=align)
    return shown + near_the_floor(measured) + tools_files(measured)


def tools_files(measured: Sequence[Record]) -> str:
    """A line for each file that another project's tool wrote: its size beside that of our coding."""
    lines = {}
    for record in measured:
        if (cost := record.cost) is None:
            continue
        for tool in record.tools:
            ratio = cost.fp32_bytes / tool.file_bytes
            lines[record.domain, record.model, record.method] = (
                f"{record.method}: the file of {tool.tool} {tool.version} has {tool.file_bytes:,} bytes "
                f"({ratio:.2f}x), our coding of the same values {cost.stored_bytes:,}"
            )
    return "".join(f"\n{line}" for line in lines.values())


def _line(record: Record) -> list[str]:
    def number(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    cost = record.cost
    return [
        record.method,
        str(record.sample_seed),
        record.status,
        number(cost.ratio if cost else None, 2),
        number(cost.bits_per_param if cost else None, 2),
        *(number(record.metric(name)) for name in COMPARED),
        number(survival_of(record)),
    ]
