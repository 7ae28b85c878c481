"""`bench edge`: what a compressed generator costs in real runtimes, and what its samples there are worth."""

from __future__ import annotations

import gc
import os
import secrets
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.artifact.format import rebuild, save
from bench.edge.candidates import (
    SEED,
    Candidate,
    Subject,
    captured,
    for_batches,
    pairs,
    prepare,
    samples_of,
    with_references,
)
from bench.edge.child import Source
from bench.edge.timing import Series, draw_timed, energy_missing, in_turns, times_of
from bench.errors import BadInput, Diverged, Unsupported
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.records.cell import sample_count
from bench.records.edge import DENSE, EAGER, FINISHED, FP32, BatchTimes, EdgeRecord, faster, key_of, read_edge
from bench.records.provenance import instructions, processor, provenance
from bench.registry import RUNTIMES, default_model, open_domain
from bench.runner.evaluation import Evaluation
from bench.runner.run_cell import relative_metrics, twins_of, verdict_of
from bench.runner.session import ModelSession
from bench.util import progress
from bench.util.files import check_writable
from bench.util.progress import Bar

Say = Callable[[str], None]
Name = tuple[str, str, str]  # method, runtime, precision
WARM_UP = 1  # rounds that do not count


@dataclass(frozen=True)
class Request:
    """The options of the user."""

    domain: str
    model: str | None = None
    methods: tuple[str, ...] = ("none",)
    runtimes: tuple[str, ...] = ()  # empty: all that are installed
    precisions: tuple[str, ...] = ()  # empty: all that a runtime offers
    batches: tuple[int, ...] = (1, 64)
    threads: int = 1
    rounds: int = 20
    samples: int | None = None  # None: 2,000, or as many as there are real ones
    results: Path = Path("results/local")
    fresh: bool = False
    command: str = ""


def run(request: Request, say: Say) -> list[EdgeRecord]:
    """Measure what is not finished -> the records of all candidates that were asked for.

    Raises `BadInput` before anything is measured.
    """
    chosen = pairs(request.runtimes, request.precisions, say)
    methods = [parse(text).text for text in dict.fromkeys(request.methods)]
    check_writable(request.results)
    domain = open_domain(request.domain)
    spec = domain.locate(request.model) if request.model is not None else default_model(domain)
    n = sample_count(request.samples, domain)
    session = ModelSession(domain, spec, n, command=request.command)
    evaluation = Evaluation(session)
    scores = {**evaluation.panel.implementation(own=False), **session.floor_method().versions}
    names = [(method, *pair) for method in methods for pair in chosen]
    known = {record.key: record for record in read_edge(request.results, say)}
    keys = {name: key_of(_content(request, session, scores, name)) for name in with_references(names)}
    open_names = [one for one in names if request.fresh or not _finished(known.get(keys[one]))]
    if open_names:
        with tempfile.TemporaryDirectory() as folder:
            made = _Run(request, evaluation, keys, Path(folder)).measure(open_names)
            known |= {record.key: record for record in made}
    return [known[keys[name]] for name in names]


def _finished(record: EdgeRecord | None) -> bool:
    return record is not None and record.status in FINISHED


def _content(
    request: Request, session: ModelSession, scores: Mapping[str, int], name: Name
) -> dict[str, Any]:
    """What the numbers of a candidate depend on. `scores`: versions of all that gives scores."""
    method, runtime, precision = name
    kind = RUNTIMES.load(runtime)
    return {
        "scores": [session.domain.name, dict(scores)],
        "model": [session.weights_sha256, session.generator.identity(), session.settings],
        "method": [method, parse(method).versions],
        "runtime": [runtime, precision, kind.version, kind.versions()],
        "how": [list(request.batches), request.threads, request.rounds, session.n],
        "processor": [processor(), instructions()],
    }


class _Run:
    """One run: its candidates are timed in turns, so drift of the machine hits all alike."""

    def __init__(
        self, request: Request, evaluation: Evaluation, keys: Mapping[Name, str], folder: Path
    ) -> None:
        self.request, self.keys, self.folder = request, keys, folder
        self.evaluation, self.session = evaluation, evaluation.session
        self.batches = tuple(sorted(set(request.batches)))
        self.name = secrets.token_hex(6)

    def measure(self, names: Sequence[Name]) -> list[EdgeRecord]:
        """Measure these candidates and their references -> the records of these, which are written."""
        import torch

        every = with_references(names)
        methods = dict.fromkeys(method for method, _, _ in every)
        subjects = {method: self._subject(method) for method in methods}
        threads = torch.get_num_threads()
        rounds = (self.request.rounds + WARM_UP) * len(self.batches)
        with Bar("edge", len(every) * (2 + rounds) + len(names)) as bar:
            try:
                torch.set_num_threads(self.request.threads)
                candidates = list(self._prepared(every, subjects, bar))
                self._time(candidates, bar)
            finally:
                torch.set_num_threads(threads)
            made = []
            for candidate in (one for one in candidates if one.name in names):
                bar.describe(" ".join(candidate.name))
                made.append(self._record(candidate, candidates))
                made[-1].write(self.request.results)
                bar.update()
        return made

    def _prepared(
        self, names: Sequence[Name], subjects: Mapping[str, Subject], bar: Bar
    ) -> Iterator[Candidate]:
        for number, (method, runtime, precision) in enumerate(names):
            bar.describe(f"export {method} {runtime} {precision}")
            candidate = Candidate(subjects[method], runtime, precision, self.request.threads)
            prepare(candidate, self.folder / str(number))
            bar.update(2)
            yield candidate

    def _subject(self, method: str) -> Subject:
        """Compress, rebuild from the file, and note one call at each batch size."""
        session, file = self.session, self.folder / f"{len(os.listdir(self.folder))}.genc"
        try:
            compressed = parse(method)(original(session.generator.network), session.context(SEED))
            save(compressed, method, file)
            exportable = session.generator.exportable(rebuild(file, session.generator))
            exportable = for_batches(exportable, max(self.batches))
        except (Unsupported, LookupError) as error:
            said = f"{method!r} of model {session.spec.name!r} cannot be measured: {error.args[0]}"
            raise BadInput(said) from None
        seen = {batch: captured(exportable, batch) for batch in self.batches}
        source = Source(session.domain.name, session.spec.name, str(file))
        inputs = {batch: one for batch, (one, _) in seen.items()}
        outputs = {batch: one for batch, (_, one) in seen.items()}
        return Subject(method, exportable, source, inputs, outputs)

    def _time(self, candidates: Sequence[Candidate], bar: Bar) -> None:
        ready = [one for one in candidates if one.works]
        bar.describe("timing in turns")
        gc.collect()
        gc.disable()
        try:
            for number, candidate in in_turns(ready, WARM_UP + self.request.rounds):
                if candidate.works:
                    self._time_once(candidate, number)
                bar.update(len(self.batches))
        finally:
            gc.enable()

    def _time_once(self, candidate: Candidate, number: int) -> None:
        silent, progress.silent = progress.silent, True  # a bar that is drawn would be timed
        try:
            for batch in self.batches:
                kept = candidate.series.setdefault(batch, Series()) if number >= WARM_UP else Series()
                exportable, call = candidate.subject.exportable, candidate.loaded[batch].call
                draw_timed(exportable, call, batch, number, kept)
        except Diverged as error:
            candidate.status, candidate.reason = "diverged", str(error)
        except Exception as error:  # of a runtime
            candidate.refuse(error)
        finally:
            progress.silent = silent

    # -------------------------------------------------------------------------------- from numbers to records

    def _record(self, candidate: Candidate, candidates: Sequence[Candidate]) -> EdgeRecord:
        metrics: dict[str, float | None] = {}
        if candidate.works:
            try:
                metrics = self._metrics(candidate)
                candidate.status, candidate.reason = verdict_of(metrics)
            except Diverged as error:
                candidate.status, candidate.reason = "diverged", str(error)
        by_name = {one.name: one for one in candidates}
        timed = self.batches if candidate.status in ("ok", "collapsed") else ()
        return EdgeRecord(
            **self._identity(candidate.name),
            **_outcome(candidate),
            metrics=metrics,
            times=[_times(candidate, batch, by_name) for batch in timed],
            energy_missing=energy_missing(),
            provenance=provenance(self.session.command, self.session.device, self.session.watch.seconds),
        )

    def _identity(self, name: Name) -> dict[str, Any]:
        """The fields that say what was measured."""
        session, request = self.session, self.request
        method, runtime, precision = name
        return {
            "key": self.keys[name],
            "run": self.name,
            "domain": session.domain.name,
            "model": session.spec.name,
            "weights_sha256": session.weights_sha256,
            "method": method,
            "runtime": runtime,
            "precision": precision,
            "runtime_versions": RUNTIMES.load(runtime).versions(),
            "threads": request.threads,
            "rounds": request.rounds,
            "samples": session.n,
            "batch_sizes": list(self.batches),
            "processor": processor(),
            "instructions": instructions(),
        }

    def _metrics(self, candidate: Candidate) -> dict[str, float | None]:
        """Quality, diversity and survival of the samples that this runtime makes."""
        evaluation, panel = self.evaluation, self.evaluation.panel
        seen = panel.observe(samples_of(candidate, self.session.n), "samples")
        verdicts = panel.verdicts(seen)
        before, verdicts_before = evaluation.baseline(SEED)
        found: dict[str, float | None] = {**panel.metrics_of(seen, verdicts)}
        cell = replace(evaluation.template, method=f"{candidate.subject.method} in {candidate.runtime}")
        found |= relative_metrics(cell, evaluation, found)
        twins = twins_of(evaluation, seen, before, verdicts, verdicts_before)
        return found | {name: float(flags.mean()) for name, flags in twins.items()}


def _outcome(candidate: Candidate) -> dict[str, Any]:
    """The fields that do not depend on times and samples."""
    seen, layers = candidate.footprint, candidate.layers
    whole = candidate.precision.startswith("int")
    return {
        "status": candidate.status,
        "reason": candidate.reason,
        "file_bytes": candidate.file_bytes,
        "startup_seconds": None if seen is None else seen.startup_seconds,
        "peak_memory_bytes": None if seen is None else seen.peak_bytes,
        "bare_memory_bytes": None if seen is None else seen.bare_bytes,
        "layers": dict(Counter(layers.values())),
        "float_layers": [name for name, kind in layers.items() if whole and not kind.startswith("int")],
        "difference": candidate.difference,
    }


def _times(candidate: Candidate, batch: int, by_name: Mapping[Name, Candidate]) -> BatchTimes:
    """The summary of a candidate's times, with its ratios to the references of the same run."""
    own = candidate.series[batch]
    method, runtime, precision = candidate.name
    references = {EAGER: ("none", "eager", "fp32"), FP32: (method, runtime, "fp32")}
    if method != "none":
        references[DENSE] = ("none", runtime, precision)
    whole, network = {}, {}
    for what, name in references.items():
        other = by_name.get(name)
        if name == candidate.name or other is None or batch not in other.series or not other.works:
            continue
        whole[what] = faster(other.series[batch].seconds, own.seconds)
        network[what] = faster(other.series[batch].network_seconds, own.network_seconds)
    found = times_of(batch, own)
    return found.model_copy(update={"faster": whole, "network_faster": network})
