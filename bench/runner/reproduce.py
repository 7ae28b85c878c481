"""`bench reproduce`: measure the published cells again, all of them or a random few, and say whether the same comes out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from bench.errors import BadInput
from bench.records.agreement import COMPARED, SIZE_TOLERANCE
from bench.records.provenance import utc_now
from bench.records.schema import FINISHED, Record
from bench.runner.sweep import Request
from bench.runner.sweep import run as run_request
from bench.stats.ladder import grouped

SHARE = 0.02  # of the published cells, for a check
SPREADS = 3.0  # standard deviations between sampling seeds: on other hardware ties fall otherwise, which is less than another seed
LEAST = 0.005  # of a retention: ten of 2,000 samples

OTHER_CELL = "this code measures another cell: versions, weights or reference have changed"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """The published cells of one model that belong into one run: the baseline, features and reference are computed once."""

    domain: str
    model: str
    samples: int
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    seconds: float  # that they took where they were published


def jobs_of(records: Sequence[Record]) -> list[Job]:
    """A job a model and number of samples, in a stable order."""
    found = []
    for (domain, model, samples), group in grouped(records, lambda r: (r.domain, r.model, r.samples)):
        methods = tuple(dict.fromkeys(sorted(r.method for r in group if r.method != "none"))) or ("none",)
        seconds = sum(sum(r.provenance.seconds.values()) for r in group)
        found.append(Job(domain, model, samples, methods, tuple(sorted({r.sample_seed for r in group})), seconds))
    return found


def reproduce(records: Sequence[Record], results: Path, command: str, device: str, say: Say, workers: int = 1) -> list[Record]:
    """Everything published, from nothing, into `results`; resumable, since what is finished there is not measured again."""
    made: list[Record] = []
    jobs, started, began = jobs_of(_published(records)), time.monotonic(), utc_now()
    behind = 0.0
    for i, job in enumerate(jobs):
        ahead = sum(j.seconds for j in jobs[i:])
        pace = (time.monotonic() - started) / behind if behind else 1.0  # of this machine beside the one that published
        say(f"model {i + 1} of {len(jobs)}: {job.domain} {job.model}; about {_duration(ahead * pace)} left in all")
        of_job = run_request(replace(_request(job, results, command, device), workers=workers), say)
        behind += job.seconds * mean(r.provenance.time >= began for r in of_job)  # what was finished before took no time
        made += of_job
    return made


def draw_cells(records: Sequence[Record], seed: int, share: float = SHARE) -> list[Record]:
    """A random share of the published cells, at least one of each domain, chosen by `seed`; baselines are measured along anyway."""
    rng, drawn = np.random.default_rng(seed), []
    for _, group in grouped([r for r in _published(records) if r.method != "none"], lambda r: r.domain):
        count = max(1, round(share * len(group)))
        drawn += [group[i] for i in sorted(rng.choice(len(group), size=min(count, len(group)), replace=False))]
    return drawn


@dataclass(frozen=True)
class Outcome:
    """One cell that was measured again."""

    record: Record
    again: Record
    problems: tuple[str, ...]


def check(records: Sequence[Record], cells: Sequence[Record], command: str, device: str, say: Say) -> list[Outcome]:
    """Measure these cells again, without the cache, and compare them with what is published."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for record in cells:
            job = Job(record.domain, record.model, record.samples, (record.method,), (record.sample_seed,), 0.0)
            again = run_request(_request(job, Path(folder), command, device, fresh=True), say)[-1]
            found.append(Outcome(record, again, tuple(problems(record, again, tolerance(records, record)))))
    return found


def tolerance(records: Sequence[Record], record: Record) -> dict[str, float]:
    """By metric, from the published spread between sampling seeds of the same model and method."""
    repeats = [
        r for r in records if (r.domain, r.model, r.method, r.samples) == (record.domain, record.model, record.method, record.samples)
    ]
    found = {}
    for name in COMPARED:
        values = [value for r in repeats if (value := r.metric(name)) is not None]
        found[name] = max(LEAST, SPREADS * stdev(values)) if len(values) > 1 else 4 * LEAST
    return found


def problems(record: Record, again: Record, allowed: dict[str, float]) -> list[str]:
    """What does not agree; empty: all does."""
    if record.cell != again.cell:
        return [OTHER_CELL]
    if record.status != again.status:
        return [f"status {record.status} published, {again.status} here" + (f" ({again.reason})" if again.reason else "")]
    found = []
    if record.cost and again.cost and abs(again.cost.stored_bytes / record.cost.stored_bytes - 1) > SIZE_TOLERANCE:
        found.append(f"{record.cost.stored_bytes} stored bytes published, {again.cost.stored_bytes} here")
    for name, limit in allowed.items():
        before, now = record.metric(name), again.metric(name)
        if (before is None) != (now is None) or (before is not None and now is not None and abs(before - now) > limit):
            found.append(f"{name} {before} published, {now} here, allowed {limit:.4f}")
    return found


def disagreements(records: Sequence[Record], made: Sequence[Record]) -> list[tuple[Record, list[str]]]:
    """Of the published cells those that did not come out the same, and why; a cell that this code no longer measures is one of them."""
    again = {record.cell: record for record in made}
    found = []
    for record in _published(records):
        same = again.get(record.cell)
        said = [OTHER_CELL] if same is None else problems(record, same, tolerance(records, record))
        if said:
            found.append((record, said))
    return found


def as_table(outcomes: Sequence[Outcome]) -> str:
    from tabulate import tabulate

    lines = []
    for one in outcomes:
        same = one.record.tensors_sha256 == one.again.tensors_sha256 and one.record.metrics == one.again.metrics
        said = "; ".join(one.problems) if one.problems else "identical" if same else "agrees"
        lines.append([one.record.domain, one.record.model, one.record.method, one.record.sample_seed, said])
    return tabulate(lines, headers=["domain", "model", "method", "seed", "outcome"], disable_numparse=True)


def _request(job: Job, results: Path, command: str, device: str, fresh: bool = False) -> Request:
    return Request(job.domain, job.model, job.methods, job.seeds, job.samples, results, device, fresh=fresh, command=command)


def _published(records: Sequence[Record]) -> list[Record]:
    """Those that a repetition could repeat: finished, on shipped real samples. Raises `BadInput` where there are none."""
    found = [r for r in records if r.status in FINISHED and r.reference.startswith("shipped:")]
    if not found:
        raise BadInput("there are no published records to reproduce")
    return found


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"
