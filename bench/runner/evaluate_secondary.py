"""`bench judge`: ask second evaluators about cells that were measured before they were there.

Nothing is compressed or sampled again where the cache has it: samples are found by the digest of the tensors that made them; else they are
drawn anew from the cached artifact; else the method is applied once more. Whatever the way, they have to be the samples that the
record's own evaluators judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.nn import Module

from bench.artifact.format import rebuild, tensors_digest
from bench.errors import BadInput, Diverged
from bench.evaluation.panel import find_evaluator
from bench.evaluation.secondary import is_by
from bench.interfaces import Samples
from bench.methods.notation import RECALIBRATED, expand
from bench.records.cell import Cell, cell_of
from bench.records.provenance import git_state
from bench.records.schema import FINISHED, VALUE, EvaluatorBlock, Record, read_record, records_in_place
from bench.registry import DOMAINS, open_domain
from bench.runner.describe import OTHER_FLOATS, check_same_model
from bench.runner.session import Workbench
from bench.runner.sweep import pick_device
from bench.runner.workers import measure
from bench.stats.ladder import grouped
from bench.util.progress import Bar

Say = Callable[[str], None]


class Unlike(Exception):
    """Why a record cannot be judged further: its samples are not what its own judges saw."""


@dataclass(frozen=True)
class Wanted:
    """Which records are to be judged, and by whom beside the domain's own; empty: every model, every method."""

    domain: str  # or `all`
    models: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    def chosen(self, records: Sequence[Record]) -> list[Record]:
        """Raises `BadInput` where no record is meant."""
        found = [r for r in records if r.domain in DOMAINS and self.domain in (r.domain, "all")]
        if not found:
            raise BadInput(f"there is no record of domain {self.domain!r}")
        for what, asked, known in (
            ("model", self.models, {r.model for r in found}),
            ("method", self._spelled(), {r.method for r in found}),
        ):
            if asked and not known & set(asked):
                raise BadInput(f"no record is of {what} {asked[0]!r}; there are {', '.join(sorted(known))}")
        methods = {"none", *self._spelled()}
        return [r for r in found if (not self.models or r.model in self.models) and (not self.methods or r.method in methods)]

    def _spelled(self) -> list[str]:
        """The rungs of a ladder may be recalibrated ones."""
        return [spelled for method in expand(self.methods) for spelled in (method, method + RECALIBRATED)]


def judge(wanted: Wanted, results: Path, device: str, workers: int, say: Say) -> tuple[int, int]:
    """Add to the records below `results` what second evaluators say -> (records that got an opinion, records that could not).

    Resumable: each record is written when it is judged, and one that has all opinions is left alone. Raises `BadInput` where no
    record is meant.
    """
    device = pick_device(device)
    found = [(path, record) for path, record in records_in_place(results, say) if can_be_judged(record)]
    where = {(record.domain, record.model, record.cell): path for path, record in found}
    done = failed = 0
    for (domain, model, _, _), group in grouped(
        wanted.chosen([record for _, record in found]), lambda r: (r.domain, r.model, r.samples, r.k)
    ):
        paths = {record.cell: where[domain, model, record.cell] for record in group}
        opener = Opener(domain, model, group[0].samples, group[0].k, wanted.named, device, paths)
        opinions = opener.opinions()
        lacking = [record for record in group if lacks(record, opinions)]
        say(f"{domain} {model}: {len(lacking)} of {len(group)} records lack an opinion")
        left = len(lacking)
        with Bar("records", len(lacking)) as bar:
            try:
                for record, judged in _judged(lacking, opener, workers):
                    bar.describe(f"{record.method} seed {record.sample_seed}")
                    if judged is None or judged.status == "failed":
                        say(f"left {paths[record.cell]}: {judged.reason if judged else 'the process that judged it died'}")
                        failed += 1
                    else:
                        judged.write(paths[record.cell])
                        done += 1
                    left -= 1
                    bar.update()
            except BadInput as error:  # the model is no longer there, or no longer whole: others are
                say(f"left {left} records of {domain} {model}: {error}")
                failed += left
    return done, failed


def can_be_judged(record: Record) -> bool:
    """Whether its cell came to an end, and its samples can be made again."""
    return record.status in FINISHED and bool(record.evaluators and record.tensors_sha256)


@dataclass(frozen=True)
class Opener:
    """What a process does before it judges: open the model. Picklable."""

    domain: str
    model: str
    samples: int
    k: int
    named: tuple[str, ...]
    device: str
    paths: dict[str, Path]

    def open(self) -> Workbench:
        domain = open_domain(self.domain)
        return Workbench(domain, domain.locate(self.model), self.samples, k=self.k, device=self.device, evaluators=self.named)

    def opinions(self) -> dict[str, Callable[[EvaluatorBlock], bool]]:
        """Every opinion that a record should hold -> whether the one it holds is today's."""
        domain = open_domain(self.domain)
        task = domain.task()
        versions = {name: domain.evaluator(name).version for name in domain.second_evaluators()}
        versions |= {task.name: task.version} if task is not None else {}
        named = {name: find_evaluator(domain, name, self.device) for name in self.named}
        return {
            **{name: lambda block, version=v: block.version == version for name, v in versions.items()},  # type: ignore[misc]
            **{name: lambda block, evaluator=e: is_by(block, evaluator) for name, e in named.items()},  # type: ignore[misc]
        }

    def __call__(self) -> Callable[[Cell], Record]:
        bench = self.open()
        return lambda cell: attempt(read_record(self.paths[cell.hash]), bench)


def lacks(record: Record, opinions: Mapping[str, Callable[[EvaluatorBlock], bool]]) -> bool:
    """Whether an opinion is missing, or not today's."""
    blocks = record.evaluators
    return not all(name in blocks and is_current(blocks[name]) for name, is_current in opinions.items())


def _judged(wanting: Sequence[Record], opener: Opener, workers: int) -> Iterator[tuple[Record, Record | None]]:
    by_cell = {record.cell: record for record in wanting}
    if workers > 1 and len(wanting) > 1:
        opener.open().make_all_bounds()
        for cell, judged in measure([cell_of(record) for record in wanting], opener, workers):
            yield by_cell[cell.hash], judged
    elif wanting:
        work = opener()
        for record in wanting:
            yield record, work(cell_of(record))


def attempt(record: Record, bench: Workbench) -> Record:
    """The record with all opinions; a `failed` one with the reason where its samples cannot be had."""
    try:
        samples = samples_of(record, bench)
        commit, dirty = git_state()
        said = bench.second.blocks(samples, record.sample_seed, record.method == "none", f"{commit}-dirty" if dirty else commit)
    except (Unlike, BadInput, Diverged) as error:
        return record.model_copy(update={"status": "failed", "reason": str(error)})
    return record.model_copy(update={"evaluators": {**record.evaluators, **said}})


def samples_of(record: Record, bench: Workbench) -> Samples:
    """The very samples that a record is of. Raises `BadInput` where they cannot be made here, `Unlike` where they come out otherwise."""
    check_same_model(record, bench)
    assert record.tensors_sha256 is not None
    samples = bench.samples_of(record.tensors_sha256, record.sample_seed, lambda: network_of(record, bench))
    quality = bench.panel.primary["quality"]
    here = bench.panel.judge(bench.panel.observe(samples, "samples"))[quality].items[VALUE["quality"]]
    differ = int((here != record.evaluators[quality].items[VALUE["quality"]].unpack()).sum())
    if differ > OTHER_FLOATS * len(here):
        raise Unlike(f"its samples come out otherwise here: {differ} of {len(here)} flags of validity differ")
    return samples


def network_of(record: Record, bench: Workbench) -> Module:
    """From the cached artifact, where that holds the tensors that were measured; else compressed once more."""
    file = bench.panel.cache.kept(bench.artifact_key(record.method, record.sample_seed), "artifact")
    if file is not None:
        try:
            network = rebuild(file, bench.generator).to(bench.device)
            if tensors_digest(network) == record.tensors_sha256:
                return network
        except BadInput:  # a damaged file in the cache: made anew
            pass
    return bench.compressed(record.method, record.sample_seed)
