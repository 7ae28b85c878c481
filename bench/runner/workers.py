"""Measures cells in several processes, each with its own model session. Only this process writes records.

A worker stays with one sampling seed as long as there are cells of it, because it already has the baseline of
that seed.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from bench.errors import BadInput, Failed
from bench.records.cell import Cell
from bench.records.schema import Record

Work = Callable[[Cell], Record]  # it may have `files()`: entries of the cache that the last cell used
Setup = Callable[[], Work]  # called once in each worker: opens the model, and gives what measures a cell


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    cell: Cell | None = None
    seed: int | None = None


def measure(cells: Sequence[Cell], setup: Setup, workers: int) -> Iterator[tuple[Cell, Record | None]]:
    """Measure all cells in any order, and yield (cell, its record) when one is finished.

    None means that the worker died.

    `setup` must be picklable. Raises `BadInput` where a worker does, and `Failed` when no worker is left.
    """
    spawn = multiprocessing.get_context("spawn")
    left: dict[int, list[Cell]] = {}
    for cell in cells:
        left.setdefault(cell.sample_seed, []).append(cell)
    crew = [_start(spawn, setup) for _ in range(min(workers, len(cells)))]
    try:
        for worker in list(crew):
            _give(worker, left, crew)
        while busy := [worker for worker in crew if worker.cell is not None]:
            ready = wait([worker.pipe for worker in busy])
            for worker in (w for w in busy if w.pipe in ready):
                asked, record = worker.cell, _answer(worker)
                assert asked is not None
                worker.cell = None
                if record is None:
                    _dismiss(worker, crew)
                else:
                    _give(worker, left, crew)
                yield asked, record
        if any(left.values()):
            raise Failed("every worker died (killed or out of memory); run the same command again to resume")
    finally:
        for worker in crew:
            worker.pipe.close()  # an idle worker ends when its pipe does
            if worker.cell is not None:
                worker.process.terminate()
            worker.process.join()


def _start(spawn: Any, setup: Setup) -> _Worker:
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_work, args=(theirs, setup), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _give(worker: _Worker, left: dict[int, list[Cell]], crew: list[_Worker]) -> None:
    """Give the worker the next cell of its own seed.

    Without one, take a seed without a worker, else that with most cells left.
    """
    if not left.get(worker.seed if worker.seed is not None else -1):
        taken = {other.seed for other in crew if other is not worker}
        worker.seed = max(
            (seed for seed, todo in left.items() if todo),
            key=lambda s: (s not in taken, len(left[s])),
            default=None,
        )
    if worker.seed is None:
        return
    cell = left[worker.seed].pop(0)
    try:
        worker.pipe.send(cell)
        worker.cell = cell
    except OSError:  # the worker died after its last answer
        left[worker.seed].insert(0, cell)
        _dismiss(worker, crew)


def _dismiss(worker: _Worker, crew: list[_Worker]) -> None:
    """Release the resources of a dead worker."""
    crew.remove(worker)
    worker.pipe.close()
    worker.process.join()


def _answer(worker: _Worker) -> Record | None:
    try:
        kind, text = worker.pipe.recv()
    except (EOFError, OSError):  # the worker died, perhaps while it was sending its answer
        return None
    if kind == "bad input":
        raise BadInput(text)
    return Record.model_validate_json(text)


def _end_with_parent() -> None:
    """End the worker when its parent dies. Otherwise it would compute a cell whose result nobody reads."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _work(pipe: Connection, setup: Setup) -> None:
    """The worker: it runs one thread, shows no bars, and turns cells into records until the pipe ends."""
    import signal
    import threading

    threading.Thread(target=_end_with_parent, daemon=True).start()

    import torch

    from bench.util import progress
    from bench.util.memory import keep_freed_memory

    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    torch.set_num_threads(1)
    progress.silent = True
    try:
        work = setup()
        while True:
            pipe.send(("record", work(pipe.recv()).model_dump_json()))
    except EOFError:
        return
    except BadInput as error:
        pipe.send(("bad input", str(error)))
