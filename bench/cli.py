"""The command line: options in, one call, text or JSON out. No logic, and no torch until a command needs it."""

from __future__ import annotations

import json
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click

from bench.errors import BadInput
from bench.registry import DOMAINS

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
LOCAL = Path("results/local")
PUBLISHED = Path("results")

PATH = click.Path(path_type=Path)


def main(arguments: list[str] | None = None) -> int:
    """Run one command -> the exit status: 0 done, 1 something failed, 2 bad input, 130 interrupted."""
    try:
        return commands.main(arguments, prog_name="python -m bench", standalone_mode=False) or OK
    except BadInput as error:
        return _refuse(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return BAD_INPUT
    except click.ClickException as error:
        return _refuse(error.format_message())
    except (KeyboardInterrupt, click.Abort):
        click.echo("\ninterrupted; the same command goes on from here", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return OK


def _refuse(message: str) -> int:
    click.echo("error: " + " ".join(message.split()), err=True)
    return BAD_INPUT


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def commands() -> None:
    """How far can a generative model be compressed before its samples lose quality or diversity?

    \b
    python -m bench run --domain text --method int8      measure one method
    python -m bench run --domain text --method ladder    all eight rungs, 8 bits down to 1
    python -m bench list                                 what there is
    """


DOMAIN = click.option("--domain", "-d", required=True, help="See `list domains`.")
JSON = click.option("--json", "as_json", is_flag=True, help="Standard output holds only JSON; all else goes to standard error.")
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda.")
REFERENCE = click.option("--reference", help="Real samples of your own: a file, a folder or a hub id.")


@commands.command()
@click.option("--domain", "-d", required=True, help="See `list domains`; `all` for every one.")
@click.option("--model", "-m", help="See `list models`; or a folder or hub id that the domain can open.  [default: the domain's first]")
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
@click.option("--samples", "-n", default=2000, show_default=True, help="Samples a seed.")
@click.option("--results", type=PATH, default=LOCAL, show_default=True, help="Where records go, and from where a stopped run goes on.")
@DEVICE
@click.option("--save-samples", type=PATH, help="Also write all samples, and twins side by side, to this folder.")
@click.option("--fresh", is_flag=True, help="Measure again what is finished, without the cache.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes; with several, one thread each.")
@REFERENCE
@click.option(
    "--metric", "metrics", multiple=True, help="One more: a folder with an `evaluate` metric script; for images also fid, kid, is."
)
@click.option("--trust-remote-code", is_flag=True, help="Allow --metric to run code from the hub.")
@JSON
def run(methods: tuple[str, ...], seeds: tuple[int, ...], metrics: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Compress, sample, judge: one record for each method and seed.

    The uncompressed baseline `none` is always measured too. What is finished is not measured again.
    """
    _check_domain(options["domain"], also=("all",))
    from bench import campaign
    from bench.comparison import comparison
    from bench.files import write_atomically
    from bench.leaderboard import write_leaderboard
    from bench.record import read_records

    own = PUBLISHED.resolve() == options["results"].resolve()
    published = read_records(PUBLISHED, _say) if PUBLISHED.is_dir() and not own else []
    request = campaign.Request(methods=methods, seeds=seeds, metrics=metrics, command=_command_line(), **options)
    with redirect_stdout(sys.stderr):  # a metric that prints must not spoil the JSON
        records = campaign.run(request, _say)
    results = request.results
    write_atomically(results / "leaderboard.md", write_leaderboard(read_records(results, _say), results, results / "leaderboard.md"))
    if as_json:
        click.echo(json.dumps([json.loads(record.model_dump_json()) for record in records]))
    click.echo(comparison(records, published), err=as_json)
    _say(f"records and leaderboard.md are in {results}")
    for warning in dict.fromkeys(f"{record.method}: {line}" for record in records for line in record.warnings):
        _say(f"warning: {warning}")
    failed = [record for record in records if record.status == "failed"]
    for record in failed:
        _say(f"error: {record.method} seed {record.sample_seed} failed: {record.reason}")
    return FAILED if failed else OK


@commands.command()
@click.option("--domain", "-d", required=True, help="See `list domains`; `all` for every one.")
@click.option("--model", "-m", help="What to train; see `list models`.  [default: all that is missing of the published comparison]")
@click.option("--data", help="Training data of your own: a file, a folder or a hub id.  [default: what the domain ships]")
@click.option("--output", type=PATH, help="Folder for the finished model.  [default: in the user's cache]")
@click.option("--steps", type=click.IntRange(1), help="Fewer or more steps than the recipe's: another model than the published one.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Two runs on one thread each beat one on two.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Trainings at a time, where there are several.")
@click.option("--progress-file", type=PATH, hidden=True, help="Report there, for another process to show, in place of the bar.")
@DEVICE
def train(domain: str, model: str | None, data: str | None, output: Path | None, steps: int | None, workers: int, **how: Any) -> int:
    """Train a model by its recipe; a stopped training goes on where it was.

    \b
    --domain text --model s@1     this one
    --domain text                 what is missing of this domain's published models, several at a time
    --domain all                  what is missing in every domain
    --domain all --model s@1      this one of every domain
    """
    _check_domain(domain, also=("all",))
    if domain == "all" or model is None:
        for option, value in {"--data": data, "--output": output}.items():
            if value is not None:
                raise BadInput(f"{option} {str(value)!r} goes with one model of one domain: name it with --domain and --model")
        return _train_missing(domain, model, steps, workers, how["threads"], how["device"])
    import torch

    from bench import campaign
    from bench import train as training
    from bench.files import check_writable

    torch.set_num_threads(how["threads"])
    folder = output or training.default_output(domain, model, steps)
    check_writable(folder)
    device = campaign.pick_device(how["device"])
    final = training.train(campaign.open_domain(domain), model, data, folder, device, steps, how["progress_file"])
    click.echo(json.dumps(final))
    _say(f"finished: {folder}")
    return OK


def _train_missing(domain: str, model: str | None, steps: int | None, workers: int, threads: int, device: str) -> int:
    from bench import train_all

    if device != "auto":
        from bench.campaign import pick_device

        pick_device(device)  # raises before anything is started; `auto` is left to the workers, and this process without torch
    domains = [DOMAINS.load(name)() for name in (DOMAINS if domain == "all" else [domain])]
    jobs = train_all.missing(domains, model, train_all.Options(threads, device, steps), _say)
    if not jobs:
        _say("nothing is missing")
    failures = train_all.train_missing(jobs, workers) if jobs else []
    for failure in failures:
        _say(f"error: {failure}")
    return FAILED if failures else OK


@commands.command()
@click.option("--results", type=PATH, default=PUBLISHED, show_default=True, help="The records to read.")
@click.option("--output", type=PATH, help="[default: leaderboard.md; with --local results/local/leaderboard.md]")
@click.option("--local", is_flag=True, help="From your own records in results/local instead of the published ones.")
def leaderboard(results: Path, output: Path | None, local: bool) -> int:
    """Make leaderboard.md from the records."""
    from bench.files import write_atomically
    from bench.leaderboard import write_leaderboard
    from bench.record import read_records

    results = LOCAL if local else results
    output = output or (LOCAL / "leaderboard.md" if local else Path("leaderboard.md"))
    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    records = read_records(results, _say)
    write_atomically(output, write_leaderboard(records, results, output))
    _say(f"{output}: {len(records)} records")
    return OK


@commands.command()
@click.option("--results", type=PATH, default=PUBLISHED, show_default=True, help="The records to read.")
@click.option("--output", type=PATH, default=Path("docs/images"), show_default=True, help="Folder for the pictures.")
def pictures(results: Path, output: Path) -> int:
    """Draw retention, survival and what domains have in common, from the records."""
    from bench.drawing.gallery import draw_all

    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    for path in draw_all(results, output, _say):
        _say(f"wrote {path}")
    return OK


@commands.command()
@click.option("--domain", "-d", required=True, help="See `list domains`; `all` for every one.")
@click.option("--model", "-m", "models", multiple=True, help="Repeatable.  [default: every model that has records]")
@click.option("--results", type=PATH, default=PUBLISHED, show_default=True, help="The records; model.json goes beside each model's.")
def describe(domain: str, models: tuple[str, ...], results: Path) -> int:
    """Describe models with records: what they are, which samples survive, whether those that fail at one rung fail at the next."""
    _check_domain(domain, also=("all",))
    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    from bench import describe as descriptions

    _, failed = descriptions.describe(domain, models, results, _say)
    return FAILED if failed else OK


@commands.command()
@click.argument("cell")
@click.option("--results", type=PATH, help="The records to read.  [default: the published ones, then your own]")
@JSON
def show(cell: str, results: Path | None, as_json: bool) -> int:
    """One record in full: CELL is the beginning of its name; with the command that repeats it."""
    from bench.show import find, text_of

    record = find(cell, [results] if results else [PUBLISHED, LOCAL], _say)
    click.echo(record.model_dump_json() if as_json else text_of(record))
    return OK


@commands.command(name="list")
@click.argument("what", type=click.Choice(["domains", "methods", "models", "metrics", "evaluators"]), required=False)
def list_(what: str | None) -> int:
    """What there is: domains, methods, models, metrics, evaluators; without a name, all of them."""
    from bench.listing import LISTS

    for name in [what] if what else list(LISTS):
        if what is None:
            click.echo(f"{name}:")
        for line in LISTS[name]():
            click.echo(("" if what else "  ") + line)
    return OK


@commands.command()
@DOMAIN
@click.option("--samples", "path", required=True, type=PATH, help="The samples, in the domain's file format.")
@REFERENCE
@DEVICE
@JSON
def score(domain: str, path: Path, reference: str | None, device: str, as_json: bool) -> int:
    """Judge any samples, ours or foreign, against as many real ones."""
    _check_domain(domain)
    from bench import campaign
    from bench.panel import score_samples

    found = score_samples(campaign.open_domain(domain), path, reference, campaign.pick_device(device))
    if as_json:
        click.echo(json.dumps(found))
        return OK
    from tabulate import tabulate

    rows = [[name, value, found["ceiling"].get(name)] for name, value in found["metrics"].items()]
    click.echo(tabulate(rows, headers=["metric", f"{path.name} (N = {found['samples']})", "other real samples"], floatfmt=".4f"))
    return OK


@commands.command()
@DOMAIN
@click.option("--samples", "-n", default=2000, show_default=True, help="Real samples to damage.")
@click.option("--save", type=PATH, help="A folder of records: also write its <domain>/damages.json, the landmarks of `pictures`.")
@JSON
def damages(domain: str, samples: int, save: Path | None, as_json: bool) -> int:
    """Damage real samples on purpose, and see whether the evaluators notice. Exit status 1 if they do not."""
    _check_domain(domain)
    from bench import campaign, damage
    from bench.damage_file import file_of
    from bench.files import check_writable

    if save is not None:
        check_writable(save)
    opened = campaign.open_domain(domain)
    rows = damage.damage_matrix(opened, samples)
    failures = damage.failures(rows)
    if save is not None:
        _say(f"wrote {file_of(opened, rows, samples, _command_line()).write(save)}")
    click.echo(json.dumps([row.numbers() for row in rows]) if as_json else damage.as_table(rows))
    for line in failures:
        _say(f"error: {line}")
    return FAILED if failures else OK


MODEL = click.option("--model", "-m", help="See `list models`; or a folder or hub id.  [default: the domain's first]")


@commands.command()
@DOMAIN
@MODEL
@click.option("--method", "-M", default="int8", show_default=True, help="See `list methods`; `none` packs the plain tensors.")
@click.option("--output", "-o", type=PATH, required=True, help="The file to write, under exactly this name.")
@click.option(
    "--seed", "-s", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of the calibration, where there is one."
)
@DEVICE
def compress(domain: str, model: str | None, method: str, output: Path, seed: int, device: str) -> int:
    """Compress a model into one file."""
    _check_domain(domain)
    from bench import campaign
    from bench.packing import compress_model

    opened = campaign.open_domain(domain)
    spec = opened.locate(model) if model else campaign.default_model(opened)
    click.echo(compress_model(opened, spec, method, output, seed, campaign.pick_device(device)))
    return OK


@commands.command()
@click.argument("file", type=PATH)
@JSON
def inspect(file: Path, as_json: bool) -> int:
    """What a compressed file holds: by tensor the method, the shape, where the bits went, and what was lost."""
    from bench.account import account, as_table

    found = account(file)
    click.echo(json.dumps(found) if as_json else as_table(found))
    return OK


@commands.command()
@click.argument("file", type=PATH)
@click.option("--output", "-o", type=PATH, required=True, help="The safetensors file to write.")
def decompress(file: Path, output: Path) -> int:
    """Write a compressed file's tensors, as the network computes with them, to a safetensors file."""
    from bench.packing import decompress_file

    click.echo(decompress_file(file, output))
    return OK


@commands.command()
@click.option("--results", type=PATH, default=LOCAL, show_default=True, help="The records to cost anew.")
@DEVICE
def recost(results: Path, device: str) -> int:
    """Find sizes and operation counts of records anew, without sampling; tensors must be those that were measured."""
    from bench import campaign
    from bench import recost as costs

    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    _say(f"{costs.recost(results, _say, campaign.pick_device(device))} records have today's cost")
    return OK


@commands.command()
@click.option("--check", "only_check", is_flag=True, help="Only a random 2 % of the cells, some of each domain, without the cache.")
@click.option("--seed", default=0, show_default=True, help="Chooses the cells of a check.")
@click.option("--cell", "cells", multiple=True, help="Check this one: the beginning of its name; repeatable.")
@click.option("--results", type=PATH, default=Path("results/local/reproduced"), show_default=True, help="Where records of a whole run go.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes of a whole run, one thread each.")
@DEVICE
def reproduce(only_check: bool, seed: int, cells: tuple[str, ...], results: Path, workers: int, device: str) -> int:
    """Measure what is published again, from nothing (hours), resumable; or --check a few cells. Exit status 1 if anything disagrees."""
    from bench import reproduce as repeating
    from bench.campaign import pick_device
    from bench.files import write_atomically
    from bench.leaderboard import write_leaderboard
    from bench.record import read_records
    from bench.show import find

    records = read_records(PUBLISHED, _say) if PUBLISHED.is_dir() else []
    device = pick_device(device)
    if only_check or cells:
        chosen = [find(cell, [PUBLISHED], _say) for cell in cells] or repeating.draw_cells(records, seed)
        outcomes = repeating.check(records, chosen, _command_line(), device, _say)
        click.echo(repeating.as_table(outcomes))
        return FAILED if any(one.problems for one in outcomes) else OK
    made = repeating.reproduce(records, results, _command_line(), device, _say, workers)
    write_atomically(results / "leaderboard.md", write_leaderboard(made, results, results / "leaderboard.md"))
    known = {record.cell: record for record in records}
    wrong = [(r, said) for r in made if r.cell in known and (said := repeating.problems(known[r.cell], r, repeating.tolerance(records, r)))]
    for record, said in wrong:
        _say(f"error: {record.domain} {record.model} {record.method} seed {record.sample_seed}: {'; '.join(said)}")
    _say(f"{len(made)} cells measured, {len(wrong)} disagree; {results / 'leaderboard.md'}")
    return FAILED if wrong else OK


@commands.command()
@DOMAIN
@MODEL
@click.option("--samples", "-n", default=2000, show_default=True)
@click.option("--output", type=PATH, help="Folder.  [default: beside the model's weights]")
@DEVICE
def bounds(domain: str, model: str | None, samples: int, output: Path | None, device: str) -> int:
    """Make the floors (permuted networks) and the ceiling (other real samples) of a model, to ship with it."""
    _check_domain(domain)
    from bench import campaign
    from bench.bounds import write_bounds
    from bench.workbench import Workbench

    opened = campaign.open_domain(domain)
    spec = opened.locate(model) if model else campaign.default_model(opened)
    bench = Workbench(opened, spec, samples, device=campaign.pick_device(device), command=_command_line())
    _say(f"wrote {write_bounds(bench.make_bounds(), output or bench.shipped_bounds)}")
    return OK


def _check_domain(name: str, also: tuple[str, ...] = ()) -> None:
    from bench.errors import unknown

    if name not in DOMAINS and name not in also:
        raise unknown("domain", name, [*DOMAINS, *also])


def _command_line() -> str:
    return shlex.join(["python", "-m", "bench", *sys.argv[1:]])
