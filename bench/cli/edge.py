"""The command `edge`: networks in real runtimes."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bench.cli.shared import (
    COUNT,
    DOMAIN,
    FAILED,
    JSON,
    LOCAL,
    MODEL,
    OK,
    PATH,
    check_domain,
    command_line,
    commands,
    say,
)


@commands.command(short_help="Speed, memory and quality in real runtimes.")
@DOMAIN
@MODEL
@click.option(
    "--method",
    "-M",
    "methods",
    multiple=True,
    default=["none"],
    show_default=True,
    help="Repeatable: what is exported, rebuilt from its compressed file.",
)
@click.option(
    "--runtime",
    "-r",
    "runtimes",
    multiple=True,
    help="Repeatable: eager, compile, openvino, onnxruntime, executorch; see `list runtimes`.  "
    "[default: all that are installed]",
)
@click.option(
    "--precision",
    "-p",
    "precisions",
    multiple=True,
    help="Repeatable: fp32, bf16, fp16, int8, int8-dynamic, int8-weights, int4-weights.  [default: all]",
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=click.IntRange(1, 512),
    default=[1, 64],
    show_default=True,
    help="Samples drawn together; repeatable.",
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--rounds", type=click.IntRange(1), default=20, show_default=True, help="Each times every candidate once."
)
@click.option("--samples", "-n", type=int, help=f"For quality.  {COUNT}")
@click.option(
    "--results", type=PATH, default=LOCAL, show_default=True, help="Records go to its folder `edge`."
)
@click.option("--fresh", is_flag=True, help="Measure finished candidates again.")
@JSON
def edge(as_json: bool, results: Path, **options: object) -> int:
    """Measure a network in real runtimes: latency, memory, bytes, and the quality of the samples made there.

    All candidates are timed in turns. A stopped run goes on from its records.
    """
    domain = str(options["domain"])
    check_domain(domain)
    from bench.edge.run import Request, run
    from bench.registry import EDGE_FOLDER
    from bench.report.edge import run_table

    records = run(Request(results=results, command=command_line(), **options), say)  # type: ignore[arg-type]
    if as_json:
        click.echo(json.dumps([json.loads(record.model_dump_json()) for record in records]))
    click.echo(run_table(records), err=as_json)
    for record in records:
        if record.status != "ok":
            say(f"{record.method} {record.runtime} {record.precision}: {record.status}: {record.reason}")
    say(f"records are in {results / EDGE_FOLDER}")
    return OK if any(record.status == "ok" for record in records) else FAILED
