"""`bench reproduce --edge`: measures published records of `bench edge` again, and compares ratios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.edge.candidates import installed
from bench.edge.run import Request, run
from bench.records.edge import EdgeRecord, by, ratio_disagreements

Say = Callable[[str], None]
NOT_MEASURED = "was not measured here"


def requests_of(records: Sequence[EdgeRecord], results: Path, command: str, say: Say) -> list[Request]:
    """One request for each published run, without the runtimes that are not installed here."""
    kinds, found = installed(sorted({r.runtime for r in records}), say), []
    for group in by(records, lambda r: (r.run,)).values():
        here = [r for r in group if r.runtime in kinds]
        if not here:
            continue
        first = here[0]
        found.append(
            Request(
                domain=first.domain,
                model=first.model,
                methods=tuple(dict.fromkeys(r.method for r in here)),
                runtimes=tuple(dict.fromkeys(r.runtime for r in here)),
                precisions=tuple(dict.fromkeys(r.precision for r in here)),
                batches=tuple(first.batch_sizes),
                threads=first.threads,
                rounds=first.rounds,
                samples=first.samples,
                results=results,
                command=command,
            )
        )
    return found


def disagreements(
    published: Sequence[EdgeRecord], made: Sequence[EdgeRecord]
) -> list[tuple[EdgeRecord, list[str]]]:
    """The published records whose ratios this machine does not confirm, each with its reasons."""
    again = {record.candidate: record for record in made}
    found = []
    for record in published:
        own = again.get(record.candidate)
        said = [NOT_MEASURED] if own is None else ratio_disagreements(own, record)
        if said:
            found.append((record, said))
    return found


def repeat(records: Sequence[EdgeRecord], results: Path, command: str, say: Say) -> list[EdgeRecord]:
    """Measure every published run again, into `results`. A stopped repetition goes on from its records."""
    made = []
    for request in requests_of(records, results, command, say):
        say(f"{request.domain} {request.model}: {', '.join(request.runtimes)}")
        made += run(request, say)
    return made
