"""Commands that read records or measure them again: leaderboard, site, pictures, describe, show,
list, reproduce.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.shared import (
    DEVICE,
    FAILED,
    JSON,
    LOCAL,
    OK,
    PATH,
    PUBLISHED,
    check_domain,
    command_line,
    commands,
    conditional,
    say,
)
from bench.errors import BadInput

if TYPE_CHECKING:
    from bench.interfaces import Conditions


@commands.command()
@click.option(
    "--results", type=PATH, help="The records to read.  [default: results; with --local results/local]"
)
@click.option(
    "--output",
    type=PATH,
    help="[default: leaderboard.md for the published records, else leaderboard.md beside the records]",
)
@click.option(
    "--local", is_flag=True, help="From your own records in results/local instead of the published ones."
)
def leaderboard(results: Path | None, output: Path | None, local: bool) -> int:
    """Make leaderboard.md and one page for each model from the records."""
    from bench.records.schema import read_records
    from bench.report.leaderboard import write_pages
    from bench.stats.model_file import out_of_date, read_models

    results = results or (LOCAL if local else PUBLISHED)
    if output is None:
        beside = Path() if results.resolve() == PUBLISHED.resolve() else results
        output = beside / "leaderboard.md"
    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    records = read_records(results, say)
    for domain, model in out_of_date(read_models(results), records):
        where = "" if results == PUBLISHED else f" --results {results}"
        mend = f"python -m bench describe --domain {domain}{where}"
        say(f"{domain} {model}: the file model.json was made from other records; `{mend}` updates it")
    written = write_pages(records, results, output)
    say(f"{output}: {len(records)} records; {len(written) - 1} more pages below {results}")
    return OK


@commands.command(short_help="One page to explore the records.")
@click.option(
    "--results",
    type=PATH,
    default=PUBLISHED,
    show_default=True,
    help="The records. Others than the published ones stand beside those.",
)
@click.option(
    "--output", type=PATH, default=Path("site"), show_default=True, help="Folder for the page, index.html."
)
def site(results: Path, output: Path) -> int:
    """Write one page with all records: curves, a table to filter, samples, comparisons.

    It is one file that asks nothing of any server.
    """
    from bench.report.site.page import sources_of, write_page

    path, rows = write_page(sources_of(PUBLISHED, results, say), output, say)
    say(f"{path}: {rows} cells, {path.stat().st_size / 1e6:.2f} MB")
    return OK


@commands.command(short_help="Draw pictures from the records.")
@click.option("--results", type=PATH, default=PUBLISHED, show_default=True, help="The records to read.")
@click.option(
    "--output", type=PATH, default=Path("docs/images"), show_default=True, help="Folder for the pictures."
)
def pictures(results: Path, output: Path) -> int:
    """Draw pictures of retention, survival and domains, from the records."""
    from bench.report.figures.gallery import draw_all

    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    for path in draw_all(results, output, say):
        say(f"wrote {path}")
    return OK


@commands.command(short_help="Which samples survive? model.json of models.")
@click.option("--domain", "-d", required=True, help="See `list domains`; `all` for every one.")
@click.option(
    "--model", "-m", "models", multiple=True, help="Repeatable.  [default: every model that has records]"
)
@click.option(
    "--results",
    type=PATH,
    default=PUBLISHED,
    show_default=True,
    help="The records; model.json goes beside each model's.",
)
@conditional
def describe(domain: str, models: tuple[str, ...], results: Path, conditions: Conditions | None) -> int:
    """Describe models that have records: the network, which samples survive, and whether the same ones
    fail at the next rung.
    """
    check_domain(domain, also=("all",))
    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    from bench.runner import describe as descriptions

    _, failed = descriptions.describe(domain, models, results, say, conditions)
    return FAILED if failed else OK


@commands.command(short_help="One record in full.")
@click.argument("cell")
@click.option(
    "--results", type=PATH, help="The records to read.  [default: the published ones, then your own]"
)
@JSON
def show(cell: str, results: Path | None, as_json: bool) -> int:
    """Show one record and the command that repeats it. CELL is the beginning of its cell's hash."""
    from bench.report.show import find, text_of

    record = find(cell, [results] if results else [PUBLISHED, LOCAL], say)
    click.echo(record.model_dump_json() if as_json else text_of(record))
    return OK


@commands.command(name="list", short_help="Domains, methods, models, metrics, evaluators, runtimes.")
@click.argument(
    "what",
    type=click.Choice(["domains", "methods", "models", "metrics", "evaluators", "runtimes"]),
    required=False,
)
def list_(what: str | None) -> int:
    """List domains, methods, models, metrics, evaluators or runtimes. Without a name, list all of them."""
    from bench.report.listing import LISTS

    for name in [what] if what else list(LISTS):
        if what is None:
            click.echo(f"{name}:")
        for line in LISTS[name]():
            click.echo(("" if what else "  ") + line)
    return OK


@commands.command(short_help="Measure published cells again.")
@click.option(
    "--check",
    "only_check",
    is_flag=True,
    help="Only a random 2 % of the cells, some of each domain, without the cache.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Chooses the cells of a check."
)
@click.option("--cell", "cells", multiple=True, help="Check this one: the beginning of its name; repeatable.")
@click.option(
    "--results",
    type=PATH,
    default=Path("results/local/reproduced"),
    show_default=True,
    help="Where records of a whole run go.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Processes of a whole run, one thread each.",
)
@click.option(
    "--edge", "of_edge", is_flag=True, help="The records of `bench edge`: ratios are compared, not times."
)
@DEVICE
def reproduce(
    only_check: bool,
    seed: int,
    cells: tuple[str, ...],
    results: Path,
    workers: int,
    of_edge: bool,
    device: str,
) -> int:
    """Measure all published cells again (days of one core, resumable), or --check a few (an hour).

    Cells whose packages are not installed are left out, and named. Exit status 1 if anything disagrees.
    """
    if of_edge:
        if only_check or cells:
            raise BadInput(
                "--edge measures all records of `bench edge`; --check and --cell do not go with it"
            )
        return _reproduce_edge(results)
    from bench.records.schema import read_records
    from bench.report.leaderboard import write_pages
    from bench.report.show import find
    from bench.runner import reproduce as repeating
    from bench.runner.devices import pick_device

    records = read_records(PUBLISHED, say) if PUBLISHED.is_dir() else []
    device = pick_device(device)
    if only_check or cells:
        chosen = [find(cell, [PUBLISHED], say) for cell in cells]
        drawn = chosen or repeating.measurable(repeating.draw_cells(records, seed), say)
        repetitions = repeating.check(records, drawn, command_line(), device, say)
        click.echo(repeating.as_table(repetitions))
        return OK if all(one.agrees for one in repetitions) else FAILED
    here = repeating.measurable(records, say)
    made = repeating.reproduce(here, results, command_line(), device, say, workers)
    write_pages(made, results, results / "leaderboard.md")
    wrong = repeating.all_disagreements(here, made)
    for record, said in wrong:
        say(
            f"error: {record.domain} {record.model} {record.method} seed {record.sample_seed}: "
            f"{'; '.join(said)}"
        )
    say(f"{len(made)} cells measured; {len(wrong)} published ones disagree; {results / 'leaderboard.md'}")
    return FAILED if wrong else OK


def _reproduce_edge(results: Path) -> int:
    from bench.edge.repeat import disagreements, repeat
    from bench.records.edge import read_edge

    records = read_edge(PUBLISHED, say)
    if not records:
        raise BadInput(f"no records of `bench edge` are published in {PUBLISHED}")
    made = repeat(records, results, command_line(), say)
    wrong = disagreements(records, made)
    for record, said in wrong:
        name = f"{record.domain} {record.model} {record.method} {record.runtime} {record.precision}"
        say(f"error: {name}: {'; '.join(said)}")
    say(f"{len(made)} candidates measured; {len(wrong)} published ones disagree")
    return FAILED if wrong else OK
