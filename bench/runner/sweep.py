"""`bench run`: measures all cells that the user asked for, and resumes where the last run stopped."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadInput, BrokenPlugIn, in_a_line, of_plug_in, unknown
from bench.evaluation.secondary import is_by
from bench.interfaces import Conditions, Domain, Evaluator, Metric, ModelSpec, Samples
from bench.methods.notation import expand, parse
from bench.methods.trained import TrainingTimeMethod
from bench.metrics.custom import load_metric
from bench.records.cell import Cell, cells, is_finished, look_up, sample_count
from bench.records.schema import SEED_OF_TWINS, Record
from bench.registry import DOMAINS, default_model, open_all, open_domain
from bench.runner.cluster import EXECUTORS, Cluster, load_ray, measure_on_ray
from bench.runner.devices import pick_device
from bench.runner.evaluation import Evaluation
from bench.runner.run_cell import record_of, run_cell
from bench.runner.session import ModelSession, OtherTensors
from bench.runner.workers import Work, measure
from bench.stats.ladder import conditions_digest
from bench.util.cache import Cache, Files, read_files
from bench.util.files import check_writable, shortened, slug, write_atomically
from bench.util.progress import Bar

TWINS_SHOWN = 20


@dataclass(frozen=True)
class Request:
    """The options of the user."""

    domain: str
    model: str | None = None
    methods: tuple[str, ...] = ("int8",)
    seeds: tuple[int, ...] = (0,)
    samples: int | None = None  # None: 2,000, or as many as there are real ones
    results: Path = Path("results/local")
    device: str = "auto"
    save_samples: Path | None = None
    fresh: bool = False
    reference: str | None = None
    conditions: Conditions | None = None
    metrics: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    trust_remote_code: bool = False
    command: str = ""
    # processes of one thread each; 1 or None: only this process, with all its threads. With Ray: the most
    # cells at a time, None: as many as the cluster has processors
    workers: int | None = None
    executor: str = "processes"
    address: str | None = None  # of a Ray cluster; None: this machine alone


def run(request: Request, say: Callable[[str], None]) -> list[Record]:
    """Measure what is not finished -> one record for each cell, in the order of the plan: the baseline first,
    for each seed.

    Bad input raises `BadInput` before anything is written. A cell that fails leaves a `failed` record, and
    the run goes on.
    """
    expand(request.methods)  # raises an error before any model is opened
    check_executor(request)
    domains = _domains_of(request, say)
    if request.conditions is not None:
        for domain in domains:
            domain.check_takes(request.conditions)
    opened = [
        (domain, domain.locate(request.model) if request.model is not None else default_model(domain))
        for domain in domains
    ]
    for folder in filter(None, (request.results, request.save_samples)):
        check_writable(folder)
    metrics = [_metrics_of(domain, request) for domain, _ in opened]
    return [
        record
        for (domain, spec), extra in zip(opened, metrics)
        for record in _run_model(domain, spec, extra, request, say)
    ]


def _domains_of(request: Request, say: Callable[[str], None]) -> list[Domain]:
    """The domain that the user named; `all` means those that are installed whole and ship the model.

    A plug-in that cannot be opened is reported, and the others go on.
    """
    if request.domain != "all":
        return [open_domain(request.domain, request.reference)]
    ready = []
    for domain in open_all(DOMAINS, say):
        if (missing := domain.missing()) is None:
            ready.append(open_domain(domain.name, request.reference))
        else:
            say(f"left out: domain {domain.name!r} {missing}")
    if request.model is None:
        return [domain for domain in ready if domain.models]
    # a folder or an unknown name: each domain says what it makes of it
    return [domain for domain in ready if request.model in domain.models] or ready


def check_executor(request: Request) -> None:
    """Raises `BadInput` for an unknown executor, one that is not installed, and an address without one."""
    if request.executor not in EXECUTORS:
        raise unknown("executor", request.executor, EXECUTORS)
    if request.executor == "ray":
        load_ray()
    elif request.address is not None:
        raise BadInput(f"--address {request.address!r} is of a Ray cluster: add --executor ray")


def _metrics_of(domain: Domain, request: Request) -> list[Metric]:
    """The metrics that the user named: optional ones of the domain, or the user's own."""
    device = pick_device(request.device)
    return [
        domain.optional_metric(name, device) or load_metric(name, request.trust_remote_code)
        for name in request.metrics
    ]


def evaluation_of(domain: Domain, spec: ModelSpec, extra: list[Metric], request: Request) -> Evaluation:
    """Open a model with its evaluators."""
    session = ModelSession(
        domain,
        spec,
        sample_count(request.samples, domain, request.reference),
        device=pick_device(request.device),
        cache=Cache(use=not request.fresh),
        command=request.command,
        conditions=request.conditions,
    )
    return Evaluation(
        session,
        reference=request.reference,
        extra=extra,
        options=request.metrics,
        evaluators=request.evaluators,
    )


@dataclass(frozen=True)
class OpenModel:
    """Opens the model in a worker as this process did.

    Raises `BadInput` where the worker finds another model, or other versions.
    """

    domain: str
    spec: ModelSpec
    request: Request
    template: Cell

    def __call__(self) -> Work:
        domain = open_domain(self.domain, self.request.reference)
        evaluation = evaluation_of(domain, self.spec, _metrics_of(domain, self.request), self.request)
        evaluation.session.alone = False
        for name, there in vars(evaluation.template).items():
            if there != (here := getattr(self.template, name)):
                raise BadInput(
                    f"worker on {socket.gethostname()}: {name} of {self.domain} {self.spec.name} is "
                    f"{there!r}, but {here!r} where the run was started"
                )
        return Measuring(evaluation)


@dataclass(frozen=True)
class Measuring:
    """What a worker does with each cell."""

    evaluation: Evaluation

    def __call__(self, cell: Cell) -> Record:
        self.evaluation.session.cache.used.clear()
        return attempt(cell, self.evaluation)

    def files(self) -> Files:
        """The samples and features that the last cell read or wrote, for workers on other machines."""
        return shared_files(self.evaluation)


def shared_files(evaluation: Evaluation, bounds: bool = False) -> Files:
    """Entries of the cache that spare other machines the same work: samples, features, `bounds`."""
    cache = evaluation.session.cache
    used = [path for path in cache.used if path.relative_to(cache.folder).parts[0] in ("samples", "view")]
    return read_files([*used, *(evaluation.cached_bounds() if bounds else [])])


def _run_model(
    domain: Domain, spec: ModelSpec, extra: list[Metric], request: Request, say: Callable[[str], None]
) -> list[Record]:
    evaluation = evaluation_of(domain, spec, extra, request)
    session = evaluation.session
    methods = expand(request.methods, recalibrate=session.has_statistics)
    for link in (link for text in methods for link in parse(text).links):
        if isinstance(link, TrainingTimeMethod):
            link.check_networks(session.generator.trained_networks)
    planned = cells(
        evaluation.template, methods, request.seeds, {m: parse(m).versions for m in ["none", *methods]}
    )
    found = {cell.hash: look_up(cell, request.results) for cell in planned}
    records: dict[str, Record] = {}
    for name, (record, _) in found.items():
        if (
            record is not None
            and is_finished(record)
            and not request.fresh
            and has_all(record, evaluation.secondary.named)
        ):
            records[name] = record
    missing = [cell for cell in planned if cell.hash not in records]
    say(
        f"{domain.name} {spec.name}: {len(planned)} cells, {len(records)} finished before; N = "
        f"{session.n}, device {session.device}"
    )
    for note in session.notes():
        say(f"note: {note}")
    with Bar("cells", len(missing)) as bar:
        for cell, fresh in _measured(
            missing, evaluation, OpenModel(domain.name, spec, request, evaluation.template), bar
        ):
            records[cell.hash] = fresh
            before, path = found[cell.hash]
            if fresh.status == "failed" and is_finished(before):
                say(f"{fresh.method} seed {fresh.sample_seed} failed: {fresh.reason}; {path} is unchanged")
            else:
                with_auxiliary_scores(fresh, before).write(path)
            bar.update()
    made = [records[cell.hash] for cell in planned]
    keep_samples(session, [record for record in made if record.status in ("ok", "collapsed")], request)
    return made


def has_all(record: Record, named: Mapping[str, Evaluator]) -> bool:
    """Whether the record has a score of every evaluator that the user named, or its network diverged."""
    return record.status == "diverged" or all(
        is_by(record.evaluators.get(name), evaluator) for name, evaluator in named.items()
    )


def with_auxiliary_scores(fresh: Record, before: Record | None) -> Record:
    """Copy the scores of other evaluators to a cell that was measured again, if the tensors are the same."""
    if (
        before is None
        or fresh.status not in ("ok", "collapsed")
        or fresh.tensors_sha256 != before.tensors_sha256
    ):
        return fresh
    kept = {
        name: block
        for name, block in before.evaluators.items()
        if block.second and name not in fresh.evaluators
    }
    of_then = {
        name: block.model_copy(update={"commit": block.commit or before.provenance.commit})
        for name, block in kept.items()
    }
    return fresh.model_copy(update={"evaluators": {**fresh.evaluators, **of_then}})


def _measured(
    missing: Sequence[Cell], evaluation: Evaluation, setup: OpenModel, bar: Bar
) -> Iterator[tuple[Cell, Record]]:
    """Yield each cell with its record when it is measured, here or by workers."""
    request = setup.request
    if not missing or (request.executor == "processes" and ((request.workers or 1) == 1 or len(missing) < 2)):
        for cell in missing:
            bar.describe(f"{cell.method} seed {cell.sample_seed}")
            yield cell, attempt(cell, evaluation)
        return
    for cell, record in _by_workers(missing, evaluation, setup):
        bar.describe(f"{cell.method} seed {cell.sample_seed} done")
        yield (
            cell,
            record
            or record_of(
                cell, evaluation.session, "failed", "its worker process died: out of memory, or killed"
            ),
        )


def _by_workers(
    missing: Sequence[Cell], evaluation: Evaluation, setup: OpenModel
) -> Iterator[tuple[Cell, Record | None]]:
    """Measure cells by worker processes or by Ray. Floors and ceiling are made here, for all of them."""
    request = setup.request
    if request.executor == "processes":
        evaluation.make_all_bounds()
        return measure(missing, setup, request.workers or 1)
    read_real = list(evaluation.session.cache.used)  # by now: the features of the real samples
    evaluation.make_all_bounds()
    evaluation.session.cache.used[:] = read_real
    cluster = Cluster(request.address, request.workers, gpu=evaluation.session.device == "cuda")
    return measure_on_ray(missing, setup, cluster, shared_files(evaluation, bounds=True))


def attempt(cell: Cell, evaluation: Evaluation) -> Record:
    """Run a cell. An error of the program becomes a `failed` record with its reason."""
    try:
        return run_cell(cell, evaluation)
    except BadInput:
        raise
    except Exception as error:
        line = in_a_line(error) if isinstance(error, BrokenPlugIn) else of_plug_in(error)
        return record_of(cell, evaluation.session, "failed", line)


def keep_samples(session: ModelSession, made: Sequence[Record], request: Request) -> None:
    """Write twins of the first seed beside the records, for readers, and all samples where the user wants
    them.
    """
    if not made:
        return
    first = [record for record in made if record.sample_seed == made[0].sample_seed]
    samples = [(record, samples_of(record, session)) for record in (made if request.save_samples else first)]
    folder = request.results / slug(session.domain.name) / slug(session.spec.name)
    columns = {
        record.method: some[:TWINS_SHOWN]
        for record, some in samples
        if record.sample_seed == first[0].sample_seed
    }
    (folder / SEED_OF_TWINS).unlink(missing_ok=True)  # of older twins: none is better than a wrong one
    if columns and session.domain.show(columns, folder / "twins") is not None:
        text = f"{first[0].sample_seed}\n{conditions_digest(first[0])}\n"
        write_atomically(folder / SEED_OF_TWINS, text)
    if request.save_samples:
        request.save_samples.mkdir(parents=True, exist_ok=True)
        for record, some in samples:
            parts = (session.domain.name, session.spec.name, record.method)
            name = f"{shortened('-'.join(map(slug, parts)), 200)}-seed{record.sample_seed}"
            session.domain.write_samples(some, request.save_samples / name)
        session.domain.show(
            columns, request.save_samples / f"{slug(session.domain.name)}-{slug(session.spec.name)}-twins"
        )


def samples_of(record: Record, session: ModelSession) -> Samples:
    """Samples from memory or from the cache, by the measured tensors.

    Without them the network is sampled here.
    """
    compressed = functools.partial(session.compressed, parse(record.method), record.sample_seed)
    if record.tensors_sha256 is not None:
        with contextlib.suppress(OtherTensors):
            return session.sample_tensors(record.tensors_sha256, record.sample_seed, compressed).samples
    return session.sample(compressed(), record.sample_seed).samples
