"""Commands that measure: run, score, evaluate, damages, bounds, costs."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.shared import (
    COUNT,
    DEVICE,
    DOMAIN,
    EVALUATOR,
    FAILED,
    JSON,
    LOCAL,
    MODEL,
    OK,
    PATH,
    PUBLISHED,
    REFERENCE,
    WORKERS,
    check_domain,
    command_line,
    commands,
    conditional,
    renamed,
    say,
)
from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.interfaces import Conditions


@commands.command(short_help="Compress, sample, evaluate: records and a table.")
@click.option("--domain", "-d", required=True, help="See `list domains`; `all` for every one.")
@click.option(
    "--model",
    "-m",
    help="See `list models`; or a folder or hub id that the domain can open.  [default: the domain's first]",
)
@click.option(
    "--method",
    "-M",
    "methods",
    multiple=True,
    default=["int8"],
    show_default=True,
    help="Repeatable. `ladder`: all eight rungs. `a+b`: a, then b. See `list methods`.",
)
@click.option(
    "--seed",
    "-s",
    "seeds",
    multiple=True,
    type=click.IntRange(0, 2**31 - 1),
    default=[0],
    show_default=True,
    help="Sampling seed; repeatable.",
)
@click.option("--samples", "-n", type=int, help=f"Samples a seed.  {COUNT}")
@click.option(
    "--results",
    type=PATH,
    default=LOCAL,
    show_default=True,
    help="Folder of the records. A stopped run goes on from there.",
)
@DEVICE
@click.option(
    "--save-samples", type=PATH, help="Also write all samples, and twins side by side, to this folder."
)
@click.option(
    "--fresh",
    is_flag=True,
    help="Re-run finished cells and ignore cached samples. Floors and ceilings are reused.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Processes; with several, one thread each.  [default: 1; with Ray: all processors]",
)
@click.option(
    "--executor",
    default="processes",
    show_default=True,
    help="processes, or ray: the cells as tasks of a cluster (docs/many-machines.md).",
)
@click.option("--address", help="Of a running Ray cluster, or `auto`.  [default: this machine alone]")
@REFERENCE
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help=("One more metric, repeatable: fid, kid, is (images), mauve (text), or a folder with a script."),
)
@EVALUATOR
@click.option("--trust-remote-code", is_flag=True, help="Allow --metric to run code from the hub.")
@JSON
@conditional
def run(methods: tuple[str, ...], seeds: tuple[int, ...], as_json: bool, **options: Any) -> int:
    """Compress, sample, evaluate: one record for each method and seed.

    The uncompressed baseline `none` is always measured too. Finished cells are not measured again.
    """
    check_domain(options["domain"], also=("all",))
    from bench.interfaces import outside_of_its_size
    from bench.records.schema import read_records
    from bench.report.leaderboard import write_pages
    from bench.report.run_table import comparison
    from bench.runner.sweep import Request
    from bench.runner.sweep import run as run_sweep

    own = PUBLISHED.resolve() == options["results"].resolve()
    published = read_records(PUBLISHED, say) if PUBLISHED.is_dir() and not own else []
    request = Request(methods=methods, seeds=seeds, command=command_line(), **options)
    with redirect_stdout(sys.stderr):  # a metric that prints must not spoil the JSON
        records = run_sweep(request, say)
    results = request.results
    write_pages(read_records(results, say), results, results / "leaderboard.md")
    if as_json:
        click.echo(json.dumps([json.loads(record.model_dump_json()) for record in records]))
    click.echo(comparison(records, published), err=as_json)
    say(f"records and leaderboard.md are in {results}")
    counts = {(r.domain, r.model): r.cost.parameters for r in records if r.cost}
    for (domain, model), count in counts.items():
        if outside := outside_of_its_size(model, count):
            say(f"warning: {domain} {outside}; it takes part in no comparison of domains")
    for warning in dict.fromkeys(
        f"{record.method}: {line}" for record in records for line in record.warnings
    ):
        say(f"warning: {warning}")
    for reason in dict.fromkeys(record.reason for record in records if record.status == "diverged"):
        same = [f"{r.method} seed {r.sample_seed}" for r in records if r.reason == reason]
        say(f"diverged: {', '.join(same)}: {reason}")
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        say(f"error: {record.method} seed {record.sample_seed} failed: {record.reason}")
    return FAILED if failed else OK


@commands.command(short_help="Score any samples, ours or foreign.")
@DOMAIN
@click.option("--samples", "path", required=True, type=PATH, help="The samples, in the domain's file format.")
@REFERENCE
@DEVICE
@JSON
def score(domain: str, path: Path, reference: str | None, device: str, as_json: bool) -> int:
    """Score any samples, ours or foreign, against as many real ones."""
    check_domain(domain)
    from bench.evaluation.panel import score_samples
    from bench.registry import open_domain
    from bench.runner.devices import pick_device

    found = score_samples(open_domain(domain, reference), path, reference, pick_device(device))
    if as_json:
        click.echo(json.dumps(found))
        return OK
    from tabulate import tabulate

    rows = [[name, value, found["ceiling"].get(name)] for name, value in found["metrics"].items()]
    click.echo(
        tabulate(
            rows,
            headers=["metric", f"{path.name} (N = {found['samples']})", "other real samples"],
            floatfmt=".4f",
        )
    )
    return OK


@commands.command(short_help="Add secondary evaluators to finished records.")
@click.option("--domain", "-d", required=True, help="See `list domains`; `all` for every one.")
@click.option(
    "--model", "-m", "models", multiple=True, help="Repeatable.  [default: every model that has records]"
)
@click.option(
    "--method",
    "-M",
    "methods",
    multiple=True,
    help="Repeatable; `ladder`: all eight rungs.  [default: every method with records]",
)
@click.option("--results", type=PATH, default=LOCAL, show_default=True, help="The records to evaluate.")
@EVALUATOR
@WORKERS
@DEVICE
@conditional
def evaluate(
    domain: str,
    models: tuple[str, ...],
    methods: tuple[str, ...],
    results: Path,
    evaluators: tuple[str, ...],
    conditions: Conditions | None,
    **how: Any,
) -> int:
    """Add the scores of secondary evaluators to records that lack them.

    Samples come from the cache, or are drawn again.
    """
    check_domain(domain, also=("all",))
    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    from bench.runner.evaluate_secondary import Wanted, evaluate_secondary

    done, failed = evaluate_secondary(
        Wanted(domain, models, methods, evaluators, conditions), results, say=say, **how
    )
    say(f"{done} records have new scores" + (f"; {failed} could not be evaluated" if failed else ""))
    return FAILED if failed else OK


@commands.command(short_help="Do the evaluators detect known damages?")
@DOMAIN
@click.option(
    "--samples",
    "-n",
    type=click.IntRange(20),
    help=f"Real samples to damage.  {COUNT}",
)
@REFERENCE
@click.option("--second", is_flag=True, help="Use the secondary evaluators instead of the primary ones.")
@click.option(
    "--save",
    type=PATH,
    help="A folder of records: also write its <domain>/damages.json, the landmarks of `pictures`.",
)
@click.option("--fresh", is_flag=True, help="Ignore cached features.")
@JSON
def damages(
    domain: str,
    samples: int | None,
    reference: str | None,
    second: bool,
    save: Path | None,
    fresh: bool,
    as_json: bool,
) -> int:
    """Damage real samples on purpose and check that the evaluators detect it.

    Exit status 1 if they do not.
    """
    check_domain(domain)
    from bench.evaluation import damage
    from bench.evaluation.damage import file_of
    from bench.records.cell import sample_count
    from bench.registry import open_domain
    from bench.util.cache import Cache
    from bench.util.files import check_writable

    if save is not None:
        if reference is not None:
            raise BadInput(f"--save keeps what the shipped samples show: leave out --reference {reference!r}")
        if second:
            raise BadInput(
                "--save needs the primary evaluators: their damages are the landmarks of the pictures; "
                "leave out --second"
            )
        check_writable(save)
    opened = open_domain(domain, reference)
    n = sample_count(samples, opened, reference)
    rows = damage.damage_matrix(
        opened,
        n,
        roles=damage.secondary_evaluators(opened) if second else None,
        cache=Cache(use=not fresh),
        reference=reference,
        say=say,
    )
    failures = damage.failures(rows)
    click.echo(json.dumps([row.numbers() for row in rows]) if as_json else damage.as_table(rows))
    if save is not None:
        say(f"wrote {file_of(opened, rows, n, command_line()).write(save)}")
    for line in failures:
        say(f"error: {line}")
    return FAILED if failures else OK


@commands.command(short_help="Floors and ceiling of a model, to ship with it.")
@DOMAIN
@MODEL
@click.option("--samples", "-n", type=int, help=COUNT)
@click.option("--output", type=PATH, help="Folder.  [default: `bounds` in the folder of the model's weights]")
@DEVICE
def bounds(domain: str, model: str | None, samples: int | None, output: Path | None, device: str) -> int:
    """Make the floors (permuted networks) and the ceiling (other real samples) of a model, to ship with
    it.
    """
    check_domain(domain)
    from bench.evaluation.bounds import write_bounds
    from bench.records.cell import sample_count
    from bench.registry import default_model, open_domain
    from bench.runner.devices import pick_device
    from bench.runner.evaluation import Evaluation
    from bench.runner.session import ModelSession
    from bench.util.files import check_writable

    opened = open_domain(domain)
    if output is None and model is not None and model not in opened.models:
        raise BadInput(
            f"model {model!r} does not ship with the benchmark: name a folder with --output (`run` makes "
            f"what it needs)"
        )
    spec = opened.locate(model) if model is not None else default_model(opened)
    if output is None and not Path(spec.source).is_dir():
        raise BadInput(
            f"model {spec.name!r} has no folder of weights ({spec.source!r}): name a folder with --output"
        )
    n = sample_count(samples, opened)
    evaluation = Evaluation(ModelSession(opened, spec, n, device=pick_device(device), command=command_line()))
    folder = output or evaluation.shipped_bounds
    check_writable(folder)
    for scorer in evaluation.scorers():
        say(f"wrote {write_bounds(evaluation.make_bounds(scorer), folder)}")
    return OK


@commands.command(short_help="Recompute sizes and counts of records.")
@click.option(
    "--results", type=PATH, default=LOCAL, show_default=True, help="The records whose costs to recompute."
)
@DEVICE
def costs(results: Path, device: str) -> int:
    """Recompute sizes and operation counts of records, without sampling.

    The tensors must be those that were measured.
    """
    from bench.runner.devices import pick_device
    from bench.runner.recompute_costs import recompute_costs

    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    say(f"{recompute_costs(results, say, pick_device(device))} records have recomputed costs")
    return OK


commands.add_command(renamed(evaluate, "judge"))
commands.add_command(renamed(costs, "recost"))
