"""`bench run`: all cells that the user asked for, from wherever the last run stopped."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BadInput
from bench.evaluation.secondary import is_by
from bench.interfaces import Domain, Evaluator, Metric, ModelSpec, Samples
from bench.methods.notation import expand, parse
from bench.metrics.custom import load_metric
from bench.records.cell import Cell, cells, is_finished, look_up
from bench.records.schema import Record
from bench.registry import DOMAINS, open_domain
from bench.runner.run_cell import record_of, run_cell
from bench.runner.session import OtherTensors, Workbench
from bench.runner.workers import measure
from bench.util.cache import Cache
from bench.util.files import check_writable, slug
from bench.util.progress import Bar

TWINS_SHOWN = 20


@dataclass(frozen=True)
class Request:
    """What the user asked for."""

    domain: str
    model: str | None = None
    methods: tuple[str, ...] = ("int8",)
    seeds: tuple[int, ...] = (0,)
    samples: int = 2000
    results: Path = Path("results/local")
    device: str = "auto"
    save_samples: Path | None = None
    fresh: bool = False
    reference: str | None = None
    metrics: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    trust_remote_code: bool = False
    command: str = ""
    workers: int = 1  # processes of one thread each; with one, this process and all its threads


def run(request: Request, say: Callable[[str], None]) -> list[Record]:
    """Measure what is not finished -> one record a cell, in the order of the plan: the baseline first, for each seed.

    Bad input raises `BadInput` before anything is written. A cell that fails leaves a `failed` record and the run goes on.
    """
    expand(request.methods)  # raises before anything is opened
    domains = [open_domain(name) for name in (DOMAINS if request.domain == "all" else [request.domain])]
    opened = [(domain, domain.locate(request.model) if request.model else default_model(domain)) for domain in domains]
    for folder in filter(None, (request.results, request.save_samples)):
        check_writable(folder)
    metrics = [_metrics_of(domain, request) for domain, _ in opened]
    return [record for (domain, spec), extra in zip(opened, metrics) for record in _run_model(domain, spec, extra, request, say)]


def _metrics_of(domain: Domain, request: Request) -> list[Metric]:
    """Those that the user named: the domain's optional ones, or somebody's own."""
    device = pick_device(request.device)
    return [domain.optional_metric(name, device) or load_metric(name, request.trust_remote_code) for name in request.metrics]


def default_model(domain: Domain) -> ModelSpec:
    """The first that ships with the domain."""
    for spec in domain.models.values():
        return spec
    raise BadInput(f"domain {domain.name!r} ships no model; name one with --model")


def workbench(domain: Domain, spec: ModelSpec, extra: list[Metric], request: Request) -> Workbench:
    return Workbench(
        domain,
        spec,
        request.samples,
        reference=request.reference,
        device=pick_device(request.device),
        cache=Cache(use=not request.fresh),
        command=request.command,
        extra=extra,
        evaluators=request.evaluators,
    )


@dataclass(frozen=True)
class OpenModel:
    """What a worker process does first: open the model, as this process did."""

    domain: str
    spec: ModelSpec
    request: Request

    def __call__(self) -> Callable[[Cell], Record]:
        domain = open_domain(self.domain)
        bench = workbench(domain, self.spec, _metrics_of(domain, self.request), self.request)
        return lambda cell: attempt(cell, bench)


def _run_model(domain: Domain, spec: ModelSpec, extra: list[Metric], request: Request, say: Callable[[str], None]) -> list[Record]:
    bench = workbench(domain, spec, extra, request)
    methods = expand(request.methods, recalibrate=bench.has_statistics)
    planned = cells(bench.template, methods, request.seeds, {m: parse(m).versions for m in ["none", *methods]})
    found = {cell.hash: look_up(cell, request.results) for cell in planned}
    done = lambda record: is_finished(record) and not request.fresh and knows_all(record, bench.second.named)
    records = {name: record for name, (record, _) in found.items() if record is not None and done(record)}
    missing = [cell for cell in planned if cell.hash not in records]
    say(f"{domain.name} {spec.name}: {len(planned)} cells, {len(records)} finished before; N = {request.samples}, device {bench.device}")
    with Bar("cells", len(missing)) as bar:
        for cell, fresh in _measured(missing, bench, OpenModel(domain.name, spec, request), request.workers, bar):
            records[cell.hash] = fresh
            before, path = found[cell.hash]
            if fresh.status == "failed" and is_finished(before):
                say(f"{fresh.method} seed {fresh.sample_seed} failed: {fresh.reason}; {path} stays as it was")
            else:
                with_opinions(fresh, before).write(path)
            bar.update()
    made = [records[cell.hash] for cell in planned]
    keep_samples(bench, [record for record in made if record.status in ("ok", "collapsed")], request)
    return made


def knows_all(record: Record, named: Mapping[str, Evaluator]) -> bool:
    """Whether the judges that the user named have judged it; a network that diverged has nothing to judge."""
    return record.status == "diverged" or all(is_by(record.evaluators.get(name), evaluator) for name, evaluator in named.items())


def with_opinions(fresh: Record, before: Record | None) -> Record:
    """A cell that was measured again keeps what further judges said of it, where their samples came from the same tensors."""
    if before is None or fresh.status not in ("ok", "collapsed") or fresh.tensors_sha256 != before.tensors_sha256:
        return fresh
    kept = {name: block for name, block in before.evaluators.items() if block.second and name not in fresh.evaluators}
    of_then = {name: block.model_copy(update={"commit": block.commit or before.provenance.commit}) for name, block in kept.items()}
    return fresh.model_copy(update={"evaluators": {**fresh.evaluators, **of_then}})


def _measured(missing: Sequence[Cell], bench: Workbench, setup: OpenModel, workers: int, bar: Bar) -> Iterator[tuple[Cell, Record]]:
    """Each cell with its record, as it is measured: here, or by workers."""
    if workers == 1 or len(missing) < 2:
        for cell in missing:
            bar.describe(f"{cell.method} seed {cell.sample_seed}")
            yield cell, attempt(cell, bench)
        return
    bench.make_all_bounds()
    for cell, record in measure(missing, setup, workers):
        bar.describe(f"{cell.method} seed {cell.sample_seed} done")
        yield cell, record or record_of(cell, bench, "failed", "its worker process died: out of memory, or killed")


def attempt(cell: Cell, bench: Workbench) -> Record:
    """Run a cell; an error of the program becomes a `failed` record with its reason."""
    try:
        return run_cell(cell, bench)
    except BadInput:
        raise
    except Exception as error:
        line = next(iter(str(error).splitlines()), "no message")
        return record_of(cell, bench, "failed", f"{type(error).__name__}: {line}")


def keep_samples(bench: Workbench, made: Sequence[Record], request: Request) -> None:
    """Twins of the first seed beside the records, for people; all samples where the user wants them."""
    if not made:
        return
    first = [record for record in made if record.sample_seed == made[0].sample_seed]
    samples = [(record, samples_of(record, bench)) for record in (made if request.save_samples else first)]
    folder = request.results / slug(bench.domain.name) / slug(bench.spec.name)
    columns = {record.method: some[:TWINS_SHOWN] for record, some in samples if record.sample_seed == first[0].sample_seed}
    if columns:
        bench.domain.show(columns, folder / "twins")
    if request.save_samples:
        request.save_samples.mkdir(parents=True, exist_ok=True)
        for record, some in samples:
            name = f"{slug(bench.domain.name)}-{slug(bench.spec.name)}-{slug(record.method)}-seed{record.sample_seed}"
            bench.domain.write_samples(some, request.save_samples / name)
        bench.domain.show(columns, request.save_samples / f"{slug(bench.domain.name)}-{slug(bench.spec.name)}-twins")


def samples_of(record: Record, bench: Workbench) -> Samples:
    """From memory or the cache, by the tensors that were measured; else of the network as this machine makes it."""
    compressed = functools.partial(bench.compressed, record.method, record.sample_seed)
    if record.tensors_sha256 is not None:
        with contextlib.suppress(OtherTensors):
            return bench.samples_of(record.tensors_sha256, record.sample_seed, compressed)
    return bench.samples(compressed(), record.sample_seed)


def pick_device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        usable = ["auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])]
        raise BadInput(f"device {name!r} is not available; allowed: {', '.join(usable)}")
    return name
