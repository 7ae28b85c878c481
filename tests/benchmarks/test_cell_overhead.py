"""What a cell costs beside its stages: looking up, writing the record, the bar. pytest
tests/benchmarks/test_cell_overhead.py

On the toy domain, whose stages are short, so that what is left over shows.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.records.cell import Cell
from bench.records.schema import Record
from bench.runner import sweep
from bench.runner.sweep import Request, run

MOST_S = 0.05


def test_overhead_of_a_cell(tmp_path: Path, monkeypatch, capsys) -> None:
    finished: list[float] = []
    attempt = sweep.attempt

    def timed(cell: Cell, evaluation: object) -> Record:
        record = attempt(cell, evaluation)  # type: ignore[arg-type]
        finished.append(time.perf_counter())
        return record

    monkeypatch.setattr(sweep, "attempt", timed)
    records = run(Request("toy", methods=("ladder",), seeds=(0, 1, 2), samples=500, results=tmp_path), print)
    between = [
        b - a - sum(r.provenance.seconds.values()) for a, b, r in zip(finished, finished[1:], records[1:])
    ]
    mean_ms = 1000 * sum(between) / len(between)
    with capsys.disabled():
        print(
            f"\noverhead of a cell: mean {mean_ms:.1f} ms, most {1000 * max(between):.1f} ms, over "
            f"{len(between)} cells"
        )
    assert mean_ms < 1000 * MOST_S
