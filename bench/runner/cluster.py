"""Measures cells on a Ray cluster: each cell is a task of one thread, or of one GPU.

The driver alone writes records, as with worker processes (`bench.runner.workers`). Ray repeats a task whose
worker or node died. What every worker of a node needs is put into Ray's object store once.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.errors import BadInput, Failed, in_a_line
from bench.methods.notation import is_trained
from bench.records.cell import Cell
from bench.records.schema import Record
from bench.runner.workers import Setup, Work
from bench.util.cache import Files, store_files

EXECUTORS = ("processes", "ray")
RETRIES = 3  # of one cell, after which it counts as failed
ANSWERS_WITHIN_S = 10.0  # a cluster at a given address
AHEAD = 2  # tasks that wait at the cluster, for each task that runs: no worker waits for the driver
FORWARDED = ("GENCOMPRESS_CACHE", "GOMP_SPINCOUNT", "HF_HUB_OFFLINE", "PYTHONPATH")
Answer = tuple[str, str, Files]  # kind, text, files of the cache


@dataclass(frozen=True)
class Cluster:
    """Where the tasks run.

    address: of a running cluster, or `auto`. None: a cluster of this machine alone, which ends with the run.
    tasks: the most cells at a time. None: as many as the cluster has processors (or GPUs).
    """

    address: str | None = None
    tasks: int | None = None
    gpu: bool = False


def measure_on_ray(
    cells: Sequence[Cell], setup: Setup, cluster: Cluster, files: Files | None = None
) -> Iterator[tuple[Cell, Record | None]]:
    """Measure all cells in any order, and yield (cell, its record) when one is finished.

    None means that the workers of a cell died, again and again. files: entries of the cache that every worker
    needs. Raises `BadInput` where a worker does, where Ray is missing, and where no cluster answers.
    """
    ray = load_ray()
    with _connected(ray, cluster):
        _check_resources(ray, cluster)
        task = ray.remote(_measure).options(
            num_cpus=1, num_gpus=int(cluster.gpu), max_retries=RETRIES, runtime_env=_environment()
        )
        key, shared = uuid.uuid4().hex, ray.put(_packed((setup, files or {}, os.getcwd())))
        plan, running = Plan.of(cells), dict[Any, Cell]()
        baselines: dict[int, Any] = {}  # sampling seed -> what its baseline left in the cache
        while plan.ready or running:
            window = _window(ray, cluster)
            while plan.ready and len(running) < window:
                cell = plan.ready.popleft()
                running[task.remote(key, shared, cell, baselines.get(cell.sample_seed))] = cell
            for reference in ray.wait(list(running), num_returns=1)[0]:
                cell = running.pop(reference)
                record, made = _answer(ray, reference)
                if made:
                    baselines[cell.sample_seed] = ray.put(_packed(made))
                plan.finish(cell)
                yield cell, record


def load_ray() -> Any:
    """The module. Raises `BadInput` that names the extra where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray starts: nothing is reported
    try:
        import ray
    except ImportError:
        raise BadInput("--executor ray needs Ray: pip install 'gencompress[ray]'") from None
    return ray


@contextlib.contextmanager
def _connected(ray: Any, cluster: Cluster) -> Iterator[None]:
    """Connect to the cluster, or start one on this machine. A connection that exists already is kept."""
    if ray.is_initialized():
        yield
        return
    own = {"num_cpus": cluster.tasks, "include_dashboard": False} if cluster.address is None else {}
    try:
        _check_answers(cluster.address or "")
        ray.init(cluster.address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except Exception as error:  # of many types: no answer, no such host, other versions of Ray or Python
        where = f"at {cluster.address!r}" if cluster.address else "on this machine"
        raise BadInput(f"there is no Ray cluster {where}: {in_a_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises `OSError` where nothing listens at `host:port`. Ray itself tries for many minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), ANSWERS_WITHIN_S).close()


def _check_resources(ray: Any, cluster: Cluster) -> None:
    """Raises `BadInput` where the cluster lacks what a cell needs. Ray would wait without end."""
    found = ray.cluster_resources()
    needed = ["CPU", "GPU"] if cluster.gpu else ["CPU"]
    if missing := [name for name in needed if found.get(name, 0) < 1]:
        raise BadInput(f"the Ray cluster has no {missing[0]}, and each cell needs one")


def _window(ray: Any, cluster: Cluster) -> int:
    """How many tasks may be at the cluster. Nodes come and go, so it is asked again and again."""
    if cluster.address and cluster.tasks:
        return cluster.tasks
    return AHEAD * max(1, int(ray.cluster_resources().get("GPU" if cluster.gpu else "CPU", 0)))


def _environment() -> dict[str, Any]:
    """The variables of the workers: one thread each, and the driver's own cache where it names one."""
    forwarded = {name: os.environ[name] for name in FORWARDED if name in os.environ}
    return {"env_vars": {**forwarded, "OMP_NUM_THREADS": "1"}}


def _answer(ray: Any, reference: Any) -> tuple[Record | None, Files]:
    try:
        kind, text, files = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # it could not begin: no such package there
        last = str(error).strip().splitlines()[-1]
        raise Failed(f"a worker cannot measure cells: {last}; each machine needs this package") from None
    except ray.exceptions.RayError:  # its worker, its node or its memory is gone, after all repetitions
        return None, {}
    if kind == "bad input":
        raise BadInput(text)
    if kind == "broken":
        raise Failed(text)
    return Record.model_validate_json(text), files


# ----------------------------------------------------------------------------------------- order of the tasks


@dataclass
class Plan:
    """Which cells can start, and which wait for another one that makes what they need."""

    ready: deque[Cell] = field(default_factory=deque)
    waiting: dict[str, list[Cell]] = field(default_factory=dict)  # hash of a cell -> those that come after it
    missing: dict[str, int] = field(default_factory=dict)  # hash of a waiting cell -> how many it waits for

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Plan:
        """A seed's baseline comes before its other cells, and a method's training before its other seeds.

        Otherwise each worker would sample the same baseline, or wait for the same training.
        """
        plan = cls()
        baselines: dict[int, Cell] = {}
        trainings: dict[str, Cell] = {}
        for cell in cells:
            if cell.method == "none":
                baselines[cell.sample_seed] = cell
            elif is_trained(cell.method):
                trainings.setdefault(cell.method, cell)
        for cell in cells:
            first = (baselines.get(cell.sample_seed), trainings.get(cell.method))
            plan._add(cell, [before for before in first if before is not None and before is not cell])
        return plan

    def _add(self, cell: Cell, after: Sequence[Cell]) -> None:
        if not after:
            self._release(cell)
            return
        self.missing[cell.hash] = len(after)
        for before in after:
            self.waiting.setdefault(before.hash, []).append(cell)

    def finish(self, cell: Cell) -> None:
        """Release the cells that waited for this one, whatever became of it."""
        for after in self.waiting.pop(cell.hash, []):
            self.missing[after.hash] -= 1
            if not self.missing[after.hash]:
                self._release(after)

    def _release(self, cell: Cell) -> None:
        """Trainings take longest, so they start first: at the end, no worker waits long for the last one."""
        self.ready.appendleft(cell) if is_trained(cell.method) else self.ready.append(cell)


# --------------------------------------------------------------------------------------------- in the workers

_opened: dict[str, Work] = {}  # of this worker process: the run that it belongs to -> what measures a cell
_stored: set[tuple[str, int]] = set()  # runs and seeds whose baselines this process has in its cache


def _packed(content: Any) -> np.ndarray:
    """As bytes that a task sees where they lie, uint8 [n]. It unpacks them if it needs them."""
    # Ray's pickle also takes what a script or a notebook defines
    return np.frombuffer(load_ray().cloudpickle.dumps(content), np.uint8)


def _measure(key: str, shared: np.ndarray, cell: Cell, baseline: np.ndarray | None) -> Answer:
    """The task. A worker opens the model for its first cell, and keeps it for the next ones."""
    try:
        if key not in _opened:
            _open(key, shared)
        if baseline is not None and (key, cell.sample_seed) not in _stored:
            store_files(pickle.loads(baseline.data))
            _stored.add((key, cell.sample_seed))
        work = _opened[key]
        text = work(cell).model_dump_json()
    except BadInput as error:
        return "bad input", str(error), {}
    except Exception as error:  # of opening the model: cells turn their own errors into records
        line = f"a worker on {socket.gethostname()} failed: {type(error).__name__}: {in_a_line(error)}"
        return "broken", line, {}
    made = work.files() if cell.method == "none" and hasattr(work, "files") else {}
    return "record", text, made


def _open(key: str, shared: np.ndarray) -> None:
    """Open the model of a run, with what its driver has in the cache."""
    from bench.util import progress
    from bench.util.memory import keep_freed_memory

    setup, files, folder = pickle.loads(shared.data)  # of our own driver, as Ray's own messages are
    keep_freed_memory()
    progress.silent = True
    with contextlib.suppress(OSError):
        os.chdir(folder)  # so that relative paths mean the same as for the driver
    store_files(files)
    _opened.clear()  # one model at a time
    _opened[key] = setup()
