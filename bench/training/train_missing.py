"""`bench train` without --model or with --domain all: trains every missing model, in several processes.

A worker runs the command that trains one model. So its checkpoints stay when this run stops, and the next run
continues.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BadInput
from bench.interfaces import Domain
from bench.training.train import default_output, is_finished
from bench.util.progress import Overview

POLL_EVERY_S = 0.5
STOP_WITHIN_S = 10.0


@dataclass(frozen=True)
class Options:
    """The options of `train`."""

    threads: int = 1
    device: str = "auto"
    steps: int | None = None


@dataclass(frozen=True)
class Job:
    """One model to train."""

    domain: str
    model: str
    options: Options = Options()

    def __str__(self) -> str:
        return f"{self.domain} {self.model}"

    @property
    def output(self) -> Path:
        """The folder of the finished model."""
        return default_output(self.domain, self.model, self.options.steps)

    def command(self, progress: Path) -> list[str]:
        """The worker's command line. The worker reports to the file `progress`."""
        options = {
            "domain": self.domain,
            "model": self.model,
            "progress-file": progress,
            **vars(self.options),
        }
        given = [(f"--{name}", str(value)) for name, value in options.items() if value is not None]
        return [sys.executable, "-m", "bench", "train", *itertools.chain(*given)]


@dataclass
class Worker:
    """A running training. `folder` holds its progress and its standard error."""

    job: Job
    folder: Path
    before: int | None = None  # steps that an earlier run had made
    step: int = 0
    total: int | None = None  # steps; None until the worker reports it
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        with open(self.folder / "stderr", "wb") as errors:
            command, nothing = self.job.command(self.folder / "progress"), subprocess.DEVNULL
            self.process = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=errors)

    def look(self) -> None:
        """Read its progress."""
        with contextlib.suppress(OSError):
            found = json.loads((self.folder / "progress").read_text(encoding="utf-8"))
            self.step, self.total = found["step"], found["total"]
            self.before = self.step if self.before is None else self.before

    def reason(self) -> str:
        """Why it failed: the last line of its standard error."""
        lines = [
            line
            for line in (self.folder / "stderr").read_text(errors="replace", encoding="utf-8").splitlines()
            if line.strip()
        ]
        status = self.process.returncode
        return (
            lines[-1].strip().removeprefix("error: ")
            if lines
            else f"exit status {status}"
            if status > 0
            else f"signal {-status}"
        )


def missing(
    domains: Sequence[Domain], model: str | None, options: Options, say: Callable[[str], None]
) -> list[Job]:
    """The models that neither ship nor are finished, round-robin over the domains.

    `model` restricts them to that model of every domain. With other steps than the recipe's, no model ships.
    Raises `BadInput` where there is nothing to train.
    """
    rows: list[list[Job | None]] = []
    for domain in domains:
        names = domain.grid() if model is None else [model] if domain.trainings() else []
        shipped = domain.models if options.steps is None else {}
        jobs = [Job(domain.name, name, options) for name in names]
        state = {
            job: "ships"
            if job.model in shipped
            else "finished before"
            if is_finished(job.output)
            else "missing"
            for job in jobs
        }
        for kind in dict.fromkeys(state.values()):
            say(f"{domain.name}: {', '.join(job.model for job in jobs if state[job] == kind)} {kind}")
        rows.append([job if state[job] == "missing" else None for job in jobs])
    if not any(rows):
        raise BadInput(
            f"no published models to train in {', '.join(domain.name for domain in domains)}; name one "
            f"with --model"
        )
    return [job for turn in itertools.zip_longest(*rows) for job in turn if job is not None]


def train_missing(jobs: Sequence[Job], workers: int) -> list[str]:
    """Train models, `workers` at a time -> one line for each that failed.

    SIGINT and SIGTERM stop the workers first.
    """
    waiting, running, ended, failures = list(jobs), list[Worker](), list[Worker](), list[str]()
    with (
        interruptible(),
        tempfile.TemporaryDirectory(prefix="train-") as folder,
        Overview(f"{len(jobs)} models") as overview,
    ):
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    job = waiting.pop(0)
                    with undisturbed():  # an unregistered worker would outlive this run
                        running.append(Worker(job, Path(folder) / str(jobs.index(job))))
                    overview.say(f"{job}: started")
                time.sleep(POLL_EVERY_S)
                for worker in list(running):
                    worker.look()
                    if worker.process.poll() is not None:
                        running.remove(worker)
                        ended.append(worker)
                        failures += close(worker, overview.say)
                overview.show(*steps_of([*ended, *running], waiting))
        finally:
            stop(running)
    return failures


def close(worker: Worker, say: Callable[[str], None]) -> list[str]:
    """Report how a worker ended -> its failure or None."""
    if worker.process.returncode == 0:
        say(f"{worker.job}: finished, {worker.job.output}")
        return []
    worker.total = worker.step  # its remaining steps no longer count
    say(f"{worker.job}: failed, {worker.reason()}")
    return [f"{worker.job} failed: {worker.reason()}"]


def steps_of(begun: Sequence[Worker], waiting: Sequence[Job]) -> tuple[int, int, int]:
    """(done, total, done by earlier runs), summed over all models.

    A model without a known total is assumed to equal another one of its domain, or the mean of the known
    ones.
    """
    told = [
        (worker.job.domain, worker.total)
        for worker in begun
        if worker.total and worker.process.returncode in (None, 0)
    ]
    of_domain, mean = dict(told), sum(total for _, total in told) // max(1, len(told))
    silent = [*(worker.job for worker in begun if worker.total is None), *waiting]
    total = sum(worker.total or 0 for worker in begun) + sum(
        of_domain.get(job.domain, mean) for job in silent
    )
    return sum(worker.step for worker in begun), total, sum(worker.before or 0 for worker in begun)


def stop(running: Sequence[Worker]) -> None:
    """Stop the running workers. Each loses at most a minute of training."""
    for worker in running:
        worker.process.terminate()
    for worker in running:
        try:
            worker.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Make SIGTERM end this run as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Delay SIGINT and SIGTERM to the end of the block."""
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in came[:1]:
            signal.raise_signal(first)
