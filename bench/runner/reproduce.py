"""`bench reproduce`: measures published cells again, all or a random few, and compares the results."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np

from bench.errors import BadInput
from bench.methods.notation import parse
from bench.records.agreement import OTHER_CELL, agreement, disagreements, tolerance
from bench.records.provenance import utc_now
from bench.records.schema import FINISHED, Record
from bench.registry import open_domain
from bench.runner.sweep import Request
from bench.runner.sweep import run as run_request
from bench.stats.ladder import grouped

SHARE = 0.02  # of the published cells, for a check

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """The published cells of one model that form one run, so that baseline, features and reference are
    computed once.
    """

    domain: str
    model: str
    samples: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    seconds: float  # the time that the published cells took


def jobs_of(records: Sequence[Record]) -> list[Job]:
    """One job for each model and number of samples, in a stable order."""
    found = []
    for (domain, model, samples), group in grouped(records, lambda r: (r.domain, r.model, r.samples)):
        methods = tuple(dict.fromkeys(sorted(r.method for r in group if r.method != "none"))) or ("none",)
        seconds = sum(sum(r.provenance.seconds.values()) for r in group)
        found.append(
            Job(domain, model, samples, methods, tuple(sorted({r.sample_seed for r in group})), seconds)
        )
    return found


def measurable(records: Sequence[Record], say: Say) -> list[Record]:
    """The records whose domain and method have all their packages here. The others are counted by reason."""
    lacking: dict[tuple[str, str], str | None] = {}
    for record in records:
        if (key := (record.domain, record.method)) not in lacking:
            lacking[key] = _lacks(*key)
    reasons = [why for r in records if (why := lacking[r.domain, r.method]) is not None]
    for why, count in Counter(reasons).items():
        say(f"left out: {count} cells, since {why}")
    return [r for r in records if lacking[r.domain, r.method] is None]


def _lacks(domain: str, method: str) -> str | None:
    """Why cells of a domain and a method cannot be measured here; None: they can."""
    try:
        parse(method)
        missing = open_domain(domain).missing()
    except BadInput as error:
        return str(error)
    return None if missing is None else f"domain {domain!r} {missing}"


def reproduce(
    records: Sequence[Record], results: Path, command: str, device: str, say: Say, workers: int = 1
) -> list[Record]:
    """Measure everything published again, into `results`.

    It can be resumed, since finished cells are skipped.
    """
    made: list[Record] = []
    jobs, started, began = jobs_of(_published(records)), time.monotonic(), utc_now()
    behind = 0.0
    for i, job in enumerate(jobs):
        ahead = sum(j.seconds for j in jobs[i:])
        # the speed of this machine relative to the one that published
        pace = (time.monotonic() - started) / behind if behind else 1.0
        say(
            f"model {i + 1} of {len(jobs)}: {job.domain} {job.model}; about {_duration(ahead * pace)} "
            f"left in all"
        )
        of_job = run_request(replace(_request(job, results, command, device), workers=workers), say)
        # cells that were finished before took no time
        behind += job.seconds * mean(r.provenance.time >= began for r in of_job)
        made += of_job
    return made


def draw_cells(records: Sequence[Record], seed: int, share: float = SHARE) -> list[Record]:
    """A random share of the published cells, at least one of each domain, chosen by `seed`.

    Baselines are always measured.
    """
    rng, drawn = np.random.default_rng(seed), []
    for _, group in grouped([r for r in _published(records) if r.method != "none"], lambda r: r.domain):
        count = max(1, round(share * len(group)))
        drawn += [
            group[i] for i in sorted(rng.choice(len(group), size=min(count, len(group)), replace=False))
        ]
    return drawn


@dataclass(frozen=True)
class Repetition:
    """One published cell that was measured again. `said` is `identical`, `agrees` or `DIFFERS: ...`."""

    record: Record
    again: Record
    said: str

    @property
    def agrees(self) -> bool:
        """Whether the two measurements agree."""
        return not self.said.startswith("DIFFERS")


def check(
    records: Sequence[Record], cells: Sequence[Record], command: str, device: str, say: Say
) -> list[Repetition]:
    """Measure these cells again without the cache, and compare them with the published records."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for record in cells:
            job = Job(
                record.domain, record.model, record.samples, (record.method,), (record.sample_seed,), 0.0
            )
            again = run_request(_request(job, Path(folder), command, device, fresh=True), say)[-1]
            found.append(Repetition(record, again, agreement(again, record, records)))
    return found


def all_disagreements(records: Sequence[Record], made: Sequence[Record]) -> list[tuple[Record, list[str]]]:
    """The published cells that disagree, each with its reasons.

    A cell that this code cannot measure disagrees.
    """
    again = {record.cell: record for record in made}
    found = []
    for record in _published(records):
        same = again.get(record.cell)
        said = [OTHER_CELL] if same is None else disagreements(same, record, tolerance(records, record))
        if said:
            found.append((record, said))
    return found


def as_table(repetitions: Sequence[Repetition]) -> str:
    """The table of repetitions as plain text."""

    from tabulate import tabulate

    lines = [
        [r.record.domain, r.record.model, r.record.method, r.record.sample_seed, r.said] for r in repetitions
    ]
    return tabulate(lines, headers=["domain", "model", "method", "seed", "outcome"], disable_numparse=True)


def _request(job: Job, results: Path, command: str, device: str, fresh: bool = False) -> Request:
    return Request(
        job.domain,
        job.model,
        job.methods,
        job.seeds,
        job.samples,
        results,
        device,
        fresh=fresh,
        command=command,
    )


def _published(records: Sequence[Record]) -> list[Record]:
    """The records that can be repeated: finished, on shipped real samples, without a user's conditions.

    Raises `BadInput` where there are none.
    """
    found = [
        r
        for r in records
        if r.status in FINISHED and r.reference.startswith("shipped:") and r.conditions is None
    ]
    if not found:
        raise BadInput("there are no published records to reproduce")
    return found


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"
