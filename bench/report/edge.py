"""Tables of `bench edge`: what a network costs in each runtime, and what its samples there are worth."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.edge import DENSE, EAGER, FP32, EdgeRecord

DASH = "–"


def run_table(records: Sequence[EdgeRecord]) -> str:
    """The table at the end of a run, as plain text."""
    from tabulate import tabulate

    sizes = sorted({batch for record in records for batch in record.batch_sizes})
    headers = ["method", "runtime", "precision", "bytes", "MB"]
    for batch in sizes:
        headers += [f"ms/sample at {batch}", "x eager", "x fp32", "x dense"]
    lines = [[*_start(one), *_speeds(one, sizes), *_worth(one)] for one in records]
    return tabulate(lines, headers=[*headers, "quality", "diversity"], disable_numparse=True)


def _start(record: EdgeRecord) -> list[str]:
    memory = record.peak_memory_bytes
    size = DASH if record.file_bytes is None else f"{record.file_bytes:,}"
    return [
        record.method,
        record.runtime,
        record.precision,
        size,
        DASH if memory is None else f"{memory / 1e6:.0f}",
    ]


def _speeds(record: EdgeRecord, sizes: Sequence[int]) -> list[str]:
    found = []
    for batch in sizes:
        times = record.at(batch)
        found.append(DASH if times is None else f"{1000 * times.seconds_per_sample:.3f}")
        for to in (EAGER, FP32, DENSE):
            ratio = None if times is None else times.faster.get(to)
            found.append(DASH if ratio is None else f"{ratio:.2f}")
    return found


def _worth(record: EdgeRecord) -> list[str]:
    kept = [record.metrics.get(f"{role}_retention") for role in ("quality", "diversity")]
    return [record.status if one is None else f"{one:.3f}" for one in kept]
