"""Commands for authors of plug-ins: new, check."""

from __future__ import annotations

import click

from bench.cli.shared import FAILED, OK, check_domain, commands


@commands.command(short_help="Does a plug-in keep its contracts?")
@click.argument("name")
@click.option(
    "--domain",
    "-d",
    "domains",
    multiple=True,
    help="On whose real samples a metric is tried; repeatable.  [default: all installed ones]",
)
@click.option("--all", "show_all", is_flag=True, help="Also list the contracts that are kept.")
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
    click.echo(f"{name}: " + ", ".join(f"{counts[word]} {word}" for word in ("kept", "broken", "skipped")))
    return FAILED if counts["broken"] else OK
