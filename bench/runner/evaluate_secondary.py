"""`bench evaluate`: adds the scores of secondary evaluators to finished records.

It uses the cached samples, which the digest of their network's tensors identifies. Without them it samples
from the cached artifact, or it applies the method again. The samples must be those that the record's primary
evaluators scored.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.nn import Module

from bench.artifact.format import rebuild, tensors_digest
from bench.errors import KNOWN_ERRORS, BadInput, Diverged
from bench.evaluation.panel import find_evaluator
from bench.evaluation.secondary import is_by
from bench.interfaces import Conditions, Samples
from bench.methods.notation import expand, parse, without_recalibration
from bench.records.cell import Cell, cell_of
from bench.records.provenance import git_state
from bench.records.schema import (
    FINISHED,
    PRIMARY_METRIC,
    EvaluatorBlock,
    Record,
    read_record,
    records_in_place,
)
from bench.registry import DOMAINS, open_domain
from bench.runner.describe import OTHER_FLOATS, check_same_model
from bench.runner.devices import pick_device
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.runner.workers import measure
from bench.stats.ladder import grouped
from bench.util.progress import Bar

Say = Callable[[str], None]


class Unlike(Exception):
    """The samples here are not those that the record's primary evaluators scored."""


@dataclass(frozen=True)
class Wanted:
    """Which records to evaluate, and the evaluators beside the domain's own.

    An empty field means every model or method.
    """

    domain: str  # or `all`
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    conditions: Conditions | None = None  # whose records to evaluate; None: those that were made of none

    def chosen(self, records: Sequence[Record]) -> list[Record]:
        """The matching records. Raises `BadInput` where no record matches."""
        found = [r for r in records if r.domain in DOMAINS and self.domain in (r.domain, "all")]
        if not found:
            raise BadInput(f"there is no record of domain {self.domain!r}")
        wanted = None if self.conditions is None else self.conditions.settings
        found = [r for r in found if r.conditions == wanted]
        if not found:
            raise BadInput(
                f"no record of domain {self.domain!r} was measured with the same --prompts or --labels"
            )
        methods = expand(self.methods)
        if self.models and not any(r.model in self.models for r in found):
            raise _no_record("model", self.models[0], {r.model for r in found})
        if methods and not any(_is_one_of(r.method, methods) for r in found):
            raise _no_record("method", methods[0], {r.method for r in found})
        return [
            r
            for r in found
            if (not self.models or r.model in self.models)
            and (not methods or r.method == "none" or _is_one_of(r.method, methods))
        ]


def _is_one_of(method: str, methods: Sequence[str]) -> bool:
    """Whether a record's method is named, as it is or in its recalibrated form: `ladder` means either."""
    return method in methods or without_recalibration(method) in methods


def _no_record(what: str, asked: str, known: Iterable[str]) -> BadInput:
    return BadInput(f"no record is of {what} {asked!r}; there are {', '.join(sorted(known))}")


def evaluate_secondary(wanted: Wanted, results: Path, device: str, workers: int, say: Say) -> tuple[int, int]:
    """Add the secondary evaluators' scores to records -> (records with new scores, records that failed).

    It can be resumed: each record is written when it is evaluated, and a record with all scores is skipped.
    Raises `BadInput` where no record matches.
    """
    device = pick_device(device)
    found = [(path, record) for path, record in records_in_place(results, say) if can_be_evaluated(record)]
    where = {(record.domain, record.model, record.cell): path for path, record in found}
    done = failed = 0
    for (domain, model, _, _), group in grouped(
        wanted.chosen([record for _, record in found]), lambda r: (r.domain, r.model, r.samples, r.k)
    ):
        paths = {record.cell: where[domain, model, record.cell] for record in group}
        opener = Opener(
            domain, model, group[0].samples, group[0].k, wanted.named, device, paths, wanted.conditions
        )
        left = len(group)
        try:
            wanted_scores = opener.wanted_scores()
            lacking = [record for record in group if lacks(record, wanted_scores)]
            say(f"{domain} {model}: {len(lacking)} of {len(group)} records lack a score")
            left = len(lacking)
            with Bar("records", len(lacking)) as bar:
                for record, evaluated in _evaluated(lacking, opener, workers):
                    bar.describe(f"{record.method} seed {record.sample_seed}")
                    if evaluated is None or evaluated.status == "failed":
                        say(
                            f"left {paths[record.cell]}: "
                            f"{evaluated.reason if evaluated else 'its worker process died'}"
                        )
                        failed += 1
                    else:
                        evaluated.write(paths[record.cell])
                        done += 1
                    left -= 1
                    bar.update()
        except KNOWN_ERRORS as error:  # this model is missing or incomplete; go on with the others
            say(f"left {left} records of {domain} {model}: {error}")
            failed += left
    return done, failed


def can_be_evaluated(record: Record) -> bool:
    """Whether the cell was measured, and its samples can be drawn again."""
    return record.status in FINISHED and bool(record.evaluators and record.tensors_sha256)


@dataclass(frozen=True)
class Opener:
    """Opens the model in each process before it evaluates. It can be pickled."""

    domain: str
    model: str
    samples: int
    k: int
    named: tuple[str, ...]
    device: str
    paths: dict[str, Path]
    conditions: Conditions | None = None

    def open(self) -> Evaluation:
        """Open the model with its evaluators."""
        domain = open_domain(self.domain)
        session = ModelSession(
            domain,
            domain.locate(self.model),
            self.samples,
            device=self.device,
            conditions=self.conditions,
        )
        return Evaluation(session, k=self.k, evaluators=self.named)

    def wanted_scores(self) -> dict[str, Callable[[EvaluatorBlock], bool]]:
        """Evaluator or task -> whether a block is of its present version."""
        domain = open_domain(self.domain)
        task = domain.task()
        versions = {name: domain.evaluator(name).version for name in domain.second_evaluators()}
        versions |= {task.name: task.version} if task is not None else {}
        named = {name: find_evaluator(domain, name, self.device) for name in self.named}
        return {
            **{name: functools.partial(_is_version, version=version) for name, version in versions.items()},
            **{name: functools.partial(is_by, evaluator=evaluator) for name, evaluator in named.items()},
        }

    def __call__(self) -> Callable[[Cell], Record]:
        evaluation = self.open()

        def work(cell: Cell) -> Record:
            return attempt(read_record(self.paths[cell.hash]), evaluation)

        return work


def _is_version(block: EvaluatorBlock, version: int) -> bool:
    return block.version == version


def lacks(record: Record, wanted_scores: Mapping[str, Callable[[EvaluatorBlock], bool]]) -> bool:
    """Whether a score is missing, or of an older version."""
    blocks = record.evaluators
    return not all(name in blocks and is_current(blocks[name]) for name, is_current in wanted_scores.items())


def _evaluated(
    wanting: Sequence[Record], opener: Opener, workers: int
) -> Iterator[tuple[Record, Record | None]]:
    by_cell = {record.cell: record for record in wanting}
    if workers > 1 and len(wanting) > 1:
        opener.open().make_all_bounds()
        for cell, evaluated in measure([cell_of(record) for record in wanting], opener, workers):
            yield by_cell[cell.hash], evaluated
    elif wanting:
        work = opener()
        for record in wanting:
            yield record, work(cell_of(record))


def attempt(record: Record, evaluation: Evaluation) -> Record:
    """The record with all scores, or a `failed` one with the reason where its samples cannot be had."""
    try:
        samples = samples_of(record, evaluation)
        commit, dirty = git_state()
        said = evaluation.secondary_blocks(
            samples, record.sample_seed, record.method == "none", f"{commit}-dirty" if dirty else commit
        )
    except (Unlike, BadInput, Diverged) as error:
        return record.model_copy(update={"status": "failed", "reason": str(error)})
    return record.model_copy(update={"evaluators": {**record.evaluators, **said}})


def samples_of(record: Record, evaluation: Evaluation) -> Samples:
    """The samples that a record measured.

    Raises `BadInput` where they cannot be drawn here, and `Unlike` where they differ.
    """
    check_same_model(record, evaluation)
    assert record.tensors_sha256 is not None
    session, panel = evaluation.session, evaluation.panel
    make = functools.partial(network_of, record, session)
    samples = session.sample_tensors(record.tensors_sha256, record.sample_seed, make).samples
    quality, valid = panel.primary["quality"], PRIMARY_METRIC["quality"]
    here = panel.verdicts(panel.observe(samples, "samples"))[quality].items[valid]
    differ = int((here != record.evaluators[quality].items[valid].unpack()).sum())
    if differ > OTHER_FLOATS * len(here):
        raise Unlike(f"the samples made here differ: {differ} of {len(here)} flags of validity")
    return samples


def network_of(record: Record, session: ModelSession) -> Module:
    """The measured network, from the cached artifact if that holds the same tensors, else compressed
    again.
    """
    method = parse(record.method)
    file = session.cache.kept(session.artifact_key(method, record.sample_seed), "artifact")
    if file is not None:
        try:
            network = rebuild(file, session.generator).to(session.device)
            if tensors_digest(network) == record.tensors_sha256:
                return network
        except BadInput:  # a damaged file in the cache is made again
            pass
    return session.compressed(method, record.sample_seed)
