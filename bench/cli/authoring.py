"""Commands for authors of plug-ins and owners of models: new, check, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.shared import (
    DEVICE,
    DOMAIN,
    FAILED,
    MODEL,
    OK,
    PATH,
    REFERENCE,
    check_domain,
    commands,
    conditional,
)

if TYPE_CHECKING:
    from bench.interfaces import Conditions

KINDS = ("domain", "method", "metric")


@commands.command(short_help="A package for your own domain, method or metric.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--output", "-o", type=PATH, default=Path(), help="Where its folder goes.  [default: the current folder]"
)
def new(kind: str, name: str, output: Path) -> int:
    """Write an installable package with a toy that keeps all contracts.

    Replace it piece by piece, and run `check` after each.
    """
    from bench.contracts.new import write_plug_in

    folder = write_plug_in(kind, name, output)
    for path in sorted(folder.iterdir()):
        click.echo(path)
    click.echo(f"next: pip install -e {folder} && python -m bench check {name}")
    return OK


@commands.command(short_help="Does a plug-in keep its contracts?")
@click.argument("name")
@click.option(
    "--domain",
    "-d",
    "domains",
    multiple=True,
    help="On whose real samples a metric is tried; repeatable.  [default: all installed ones]",
)
@click.option("--all", "show_all", is_flag=True, help="Also list the contracts that are kept or skipped.")
def check(name: str, domains: tuple[str, ...], show_all: bool) -> int:
    """Check an installed domain, method or metric against its contracts.

    Each contract that it does not keep is one line with what to do. Exit status 1 if there is any.
    """
    from collections import Counter

    from bench.contracts.check import check as outcomes_of

    for domain in domains:
        check_domain(domain)
    counts: Counter[str] = Counter()
    for outcome in outcomes_of(name, domains):
        counts[outcome.status] += 1
        if show_all or outcome.status == "broken":
            click.echo(str(outcome))
    total = ", ".join(f"{counts[word]} {word}" for word in ("kept", "broken", "skipped"))
    why = " (--all says why)" if counts["skipped"] and not show_all else ""
    click.echo(f"{name}: {total}{why}")
    return FAILED if counts["broken"] else OK


@commands.command(short_help="A look at a model before a long run.")
@DOMAIN
@MODEL
@REFERENCE
@DEVICE
@conditional
def doctor(
    domain: str, model: str | None, reference: str | None, device: str, conditions: Conditions | None
) -> int:
    """Open a model and say what a run would do with it, in under a minute for a small one.

    Which tensors each method touches, the size at each rung, the headroom on 200 samples, and the time of a
    full ladder by estimate. It writes nothing.
    """
    check_domain(domain)
    from bench.registry import default_model, open_domain
    from bench.runner.devices import pick_device
    from bench.runner.doctor import as_text, diagnose

    opened = open_domain(domain, reference)
    spec = opened.locate(model) if model is not None else default_model(opened)
    click.echo(as_text(diagnose(opened, spec, pick_device(device), conditions, reference)))
    return OK
