"""Measures how often the judges of molecules and RDKit agree on damaged real molecules.

    python -m scripts.studies.molecules_truth

RDKit says which string is a molecule. The molecules are those of the ceiling, which no judge was trained on.
Per damage: the share of strings that RDKit reads, the share that each judge accepts, its sensitivity (share
of the wrong strings that it rejects), and its specificity (share of the right strings that it accepts).

A judge also rejects right strings that are unlike the training part, and real
molecules at the edge of its range. So the specificity on undamaged molecules is the most that it can reach.
"""

from __future__ import annotations

from collections.abc import Mapping

import click
import numpy as np
from tabulate import tabulate

from bench.evaluation.panel import Panel
from bench.evaluation.verdicts import VERDICTS, features_of
from domains.molecules.adapter import MoleculesDomain
from domains.molecules.chemistry import is_valid

HEADERS = ["damage", "evaluator", "right by RDKit", "accepted", "sensitivity", "specificity"]


@click.command()
@click.option("--samples", default=2000, show_default=True, help="Molecules a damage.")
def main(samples: int) -> None:
    """One line per damage and judge, and one for all damages of the surface together."""
    domain = MoleculesDomain()
    lines = []
    for name in ("judge", "conv_judge"):
        panel = Panel(domain, samples, roles={name: "quality"})
        judge, real = panel.evaluators[name], panel.real.by_evaluator[name]
        together: list[np.ndarray] = []
        for title, strings in damaged(domain, samples).items():
            accepted = VERDICTS["quality"](real, features_of(judge, strings), panel.k).items["valid"]
            flags = np.stack([is_valid(strings), accepted])
            together += [flags] if title != "none" else []
            lines.append([title, name, *shares(flags)])
        lines.append(["all of these damages", name, *shares(np.concatenate(together, 1))])
    click.echo(tabulate(lines, headers=HEADERS, tablefmt="pipe", disable_numparse=True))


def damaged(domain: MoleculesDomain, samples: int) -> Mapping[str, list[str]]:
    """Other real molecules, and what each damage makes of them that does not keep molecules whole."""
    whole = list(domain.reference("ceiling")[:samples])
    changed = {
        name: list(damage.apply(whole))
        for name, damage in domain.damages().items()
        if damage.hurts != "variety"
    }
    return {"none": whole, **changed}


def shares(flags: np.ndarray) -> list[str]:
    """[2, n] bool, right and accepted -> the four figures; `-` where there is no such string."""
    right, accepted = flags
    kept = accepted[right].mean() if right.any() else None
    caught = (~accepted)[~right].mean() if (~right).any() else None
    return ["-" if x is None else f"{x:.3f}" for x in (right.mean(), accepted.mean(), caught, kept)]


if __name__ == "__main__":
    main()
