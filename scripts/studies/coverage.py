"""How often do the intervals hold the true value, in the made-up studies of `simulation.py`?

    python -m scripts.studies.coverage                        1,000 studies a scenario: a quarter of an hour
    on one core
    python -m scripts.studies.coverage --runs 50 --no-write

Writes the tables of docs/statistics.md.
"""

from __future__ import annotations

from pathlib import Path

import click
from tabulate import tabulate

from bench.records.schema import read_records
from bench.report.cells import DASH
from bench.stats.ladder import models_of
from bench.util.files import write_atomically
from bench.util.progress import bar
from scripts.studies.simulation import REQUIRED, Scenario, Tally, coverage, measured_spread, power, scenarios

DOCUMENT = Path("docs/statistics.md")
REJECTED = (
    *("t on clipped scores", "t without shared items", "normal instead of t"),
    *("percentile bootstrap of training seeds", "items and sampling seeds alone", "sizes of a seed paired"),
)
GAP = 0.05


@click.command()
@click.option("--runs", default=1000, show_default=True, help="Studies a scenario.")
@click.option(
    "--spread",
    type=float,
    help="Standard deviation of C between training seeds.  [default: as the published records have it]",
)
@click.option("--write/--no-write", default=True, show_default=True, help=f"Put the tables into {DOCUMENT}.")
def main(runs: int, spread: float | None, write: bool) -> None:
    """Coverage and width of every interval, rejected estimators included; and the power to tell domains
    apart.
    """
    spread = spread or measured_spread(models_of(read_records(Path("results"))))
    found = [
        (one, coverage(one, runs, watch=bar(range(runs), f"{one.name}, {one.training_seeds} seeds", runs)))
        for one in scenarios(spread)
    ]
    said = f"{runs:,} made-up studies a row; measured spread of C between training seeds: {spread:.4f}.\n\n"
    tables = {"coverage": said + used(found), "rejected": rejected(found), "power": powers(spread)}
    for name, table in tables.items():
        click.echo(f"{name}\n{table}\n")
        if write:
            text = DOCUMENT.read_text(encoding="utf-8")
            before, rest = text.split(f"<!-- {name} -->\n", 1)
            write_atomically(
                DOCUMENT, f"{before}<!-- {name} -->\n{table}\n{rest[rest.index('<!-- end -->') :]}"
            )


def used(found: list[tuple[Scenario, dict[str, Tally]]]) -> str:
    headers = [
        "scenario",
        "training seeds",
        *(f"{name}: held (width)" for name in REQUIRED),
        "worst rung",
        "unsafe ratio at 0.90",
    ]
    lines = []
    for one, tallies in found:
        worst = min(
            (t.coverage for name, t in tallies.items() if name.startswith("retention at")),
            default=float("nan"),
        )
        unsafe = tallies["unsafe ratio_at_90"]
        lines.append(
            [
                one.name,
                one.training_seeds,
                *(_cell(tallies[n]) for n in REQUIRED),
                f"{worst:.3f}",
                f"{unsafe.coverage:.3f}",
            ]
        )
    return tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True)


def rejected(found: list[tuple[Scenario, dict[str, Tally]]]) -> str:
    lines = [
        [one.name, one.training_seeds, *(_cell(tallies[f"C: {name}"]) for name in REJECTED)]
        for one, tallies in found
    ]
    return tabulate(
        lines, headers=["scenario", "training seeds", *REJECTED], tablefmt="pipe", disable_numparse=True
    )


def powers(spread: float) -> str:
    """Chance to tell apart two domains that differ by 0.05 in C, at the strictest of Holm's levels."""
    lines = []
    for factor in (0.125, 0.5, 1.0, 2.0):
        for items in (2000, 10_000):
            row = [f"{power(GAP, spread * factor, seeds, items=items):.2f}" for seeds in (2, 3, 4, 6, 10)]
            lines.append([f"{spread * factor:.4f}", f"{items:,}", *row])
    headers = ["spread of C between seeds", "samples", *(f"{seeds} seeds" for seeds in (2, 3, 4, 6, 10))]
    return tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True)


def _cell(tally: Tally) -> str:
    return f"{tally.coverage:.3f} ({tally.mean_width:.3f})" if tally.total else DASH


if __name__ == "__main__":
    main()
