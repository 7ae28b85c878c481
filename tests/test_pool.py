"""Several workers measure the same as one process; a worker that dies costs one cell, bad input ends the
run, nothing is done twice.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from test_leaderboard import record

from bench.errors import BadInput, Failed
from bench.records.cell import Cell, cell_of
from bench.records.schema import Record
from bench.runner.sweep import Request, run
from bench.runner.workers import _answer, _give, _Worker, measure


@dataclass(frozen=True)
class Fake:
    """Instead of a model: notes which process measured what, and does as the method says."""

    folder: Path

    def __call__(self) -> Callable[[Cell], Record]:
        return self.measure

    def measure(self, cell: Cell) -> Record:
        with (self.folder / f"{os.getpid()}").open("a", encoding="utf-8") as notes:
            notes.write(f"{cell.method} {cell.sample_seed}\n")
        if cell.method == "dies":
            os._exit(9)
        if cell.method == "bad":
            raise BadInput("no such thing")
        return record(cell.method, cell.sample_seed, quality_retention=0.5)


def asked(*methods: str, seeds: int = 1) -> list[Cell]:
    template = cell_of(record("none", 0))
    return [replace(template, method=method, sample_seed=seed) for seed in range(seeds) for method in methods]


def test_every_cell_once_and_a_worker_keeps_to_a_seed(tmp_path: Path) -> None:
    cells = asked("none", "int8", "int4", seeds=4)
    found = [
        (cell.method, cell.sample_seed, made.metric("quality_retention"))
        for cell, made in measure(cells, Fake(tmp_path), 2)
        if made
    ]
    assert sorted(found) == sorted((cell.method, cell.sample_seed, 0.5) for cell in cells)
    notes = [path.read_text(encoding="utf-8").splitlines() for path in tmp_path.iterdir()]
    assert len(notes) == 2
    for lines in notes:
        seeds = [line.split()[1] for line in lines]
        assert sum(a != b for a, b in itertools.pairwise(seeds)) < len(set(seeds)) + 1, (
            "no going back and forth"
        )


def test_a_dead_worker_costs_its_cell_and_no_other(tmp_path: Path) -> None:
    found = {
        cell.method: made
        for cell, made in measure(
            asked("dies", "int8", seeds=1) + asked("int6", "int4", seeds=2), Fake(tmp_path), 2
        )
    }
    assert found["dies"] is None and all(found[method] is not None for method in ("int8", "int6", "int4"))


def test_when_all_workers_are_dead_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="every worker died"):
        list(measure(asked("dies", "int8"), Fake(tmp_path), 1))


def test_a_worker_that_died_after_its_last_answer_costs_no_cell() -> None:
    """The pipe to it is broken when the next cell is sent."""
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    gone = multiprocessing.get_context("spawn").Process()
    gone.start()
    crew, cells = [_Worker(gone, ours)], asked("int8", "int4")
    left = {0: list(cells)}
    _give(crew[0], left, crew)
    assert crew == [] and left == {0: cells}


def test_an_answer_that_was_cut_off_is_none() -> None:
    ours, theirs = multiprocessing.Pipe()
    os.write(theirs.fileno(), (1000).to_bytes(4, "big") + b"half")
    theirs.close()
    assert _answer(_Worker(None, ours)) is None


def test_bad_input_of_a_worker_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such thing"):
        list(measure(asked("bad", "int8"), Fake(tmp_path), 2))


def test_two_workers_measure_what_one_process_measures(tmp_path: Path) -> None:
    """The toy, from end to end; then nothing is left to do."""
    alone, together = (
        Request("toy", methods=("int2",), seeds=(0, 1), samples=100, results=tmp_path / name)
        for name in ("a", "b")
    )
    together = replace(together, workers=2)
    said: list[str] = []
    first, second = run(alone, said.append), run(together, said.append)
    assert [(r.cell, r.metrics, r.tensors_sha256, r.status) for r in first] == [
        (r.cell, r.metrics, r.tensors_sha256, r.status) for r in second
    ]
    assert {r.provenance.threads for r in second} == {1}
    said.clear()
    run(together, said.append)
    assert "4 finished before" in said[0]
