"""Commands about models and their files: train, compress, inspect, decompress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench.cli.shared import (
    DEVICE,
    DOMAIN,
    FAILED,
    JSON,
    MODEL,
    OK,
    PATH,
    check_domain,
    commands,
    conditional,
    say,
)
from bench.errors import BadInput
from bench.registry import DOMAINS, open_all, open_domain

if TYPE_CHECKING:
    from bench.interfaces import Conditions


@commands.command(short_help="Train a model by its recipe; resumable.")
@click.option("--domain", "-d", required=True, help="See `list domains`; `all` for every one.")
@click.option(
    "--model",
    "-m",
    help="What to train; see `list models`.  [default: all that is missing of the published comparison]",
)
@click.option(
    "--data",
    help="Training data of your own: a file, a folder or a hub id.  [default: what the domain ships]",
)
@click.option("--output", type=PATH, help="Folder for the finished model.  [default: in the user's cache]")
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Fewer or more steps than the recipe's; this trains another model than the published one.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Two runs with one thread each are faster than one with two.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Number of trainings at the same time.",
)
@click.option(
    "--progress-file",
    type=PATH,
    hidden=True,
    help="Report there, for another process to show, in place of the bar.",
)
@DEVICE
def train(
    domain: str,
    model: str | None,
    data: str | None,
    output: Path | None,
    steps: int | None,
    workers: int,
    **how: Any,
) -> int:
    """Train a model by its recipe. A stopped training resumes.

    \b
    --domain text --model s@1     this one
    --domain text                 what is missing of this domain's published models, several at a time
    --domain all                  what is missing in every domain
    --domain all --model s@1      this one of every domain
    """
    check_domain(domain, also=("all",))
    if domain == "all" or model is None:
        for option, value in {"--data": data, "--output": output}.items():
            if value is not None:
                raise BadInput(
                    f"{option} {str(value)!r} needs one model of one domain: name it with --domain and "
                    f"--model"
                )
        return _train_missing(domain, model, steps, workers, how["threads"], how["device"])
    import torch

    from bench.runner.devices import pick_device
    from bench.training.train import default_output
    from bench.training.train import train as train_one
    from bench.util.files import check_writable

    torch.set_num_threads(how["threads"])
    folder = output or default_output(domain, model, steps, data)
    check_writable(folder)
    device = pick_device(how["device"])
    final = train_one(open_domain(domain), model, data, folder, device, steps, how["progress_file"])
    click.echo(json.dumps(final))
    say(f"finished: {folder}")
    return OK


def _train_missing(
    domain: str, model: str | None, steps: int | None, workers: int, threads: int, device: str
) -> int:
    from bench.training.train_missing import Options, missing, train_missing

    if device != "auto":
        from bench.runner.devices import pick_device

        # raises before anything is started; `auto` is left to the workers, and this process without torch
        pick_device(device)
    domains = open_all(DOMAINS, say) if domain == "all" else [open_domain(domain)]
    jobs = missing(domains, model, Options(threads, device, steps), say)
    if not jobs:
        say("nothing is missing")
    failures = train_missing(jobs, workers) if jobs else []
    for failure in failures:
        say(f"error: {failure}")
    return FAILED if failures else OK


@commands.command()
@DOMAIN
@MODEL
@click.option(
    "--method",
    "-M",
    default="int8",
    show_default=True,
    help="See `list methods`; `none` packs the plain tensors.",
)
@click.option("--output", "-o", type=PATH, required=True, help="The file to write, under exactly this name.")
@click.option(
    "--seed",
    "-s",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Seed of the calibration, where the method has one.",
)
@DEVICE
@conditional
def compress(
    domain: str,
    model: str | None,
    method: str,
    output: Path,
    seed: int,
    device: str,
    conditions: Conditions | None,
) -> int:
    """Compress a model into one file."""
    check_domain(domain)
    from bench.registry import default_model
    from bench.runner.compress import compress_model
    from bench.runner.devices import pick_device

    opened = open_domain(domain)
    spec = opened.locate(model) if model is not None else default_model(opened)
    click.echo(compress_model(opened, spec, method, output, seed, pick_device(device), conditions))
    return OK


@commands.command(short_help="What a compressed file holds, by tensor.")
@click.argument("file", type=PATH)
@JSON
def inspect(file: Path, as_json: bool) -> int:
    """Report the content of a compressed file: for each tensor its coding, shape, bits and error."""
    from bench.artifact.inspect import account, as_table

    found = account(file)
    click.echo(json.dumps(found) if as_json else as_table(found))
    return OK


@commands.command(short_help="A compressed file's tensors, as safetensors.")
@click.argument("file", type=PATH)
@click.option("--output", "-o", type=PATH, required=True, help="The safetensors file to write.")
def decompress(file: Path, output: Path) -> int:
    """Write a compressed file's tensors, as the network computes with them, to a safetensors file."""
    from bench.runner.compress import decompress_file

    click.echo(decompress_file(file, output))
    return OK
