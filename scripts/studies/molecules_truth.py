"""Measures how often the judges of molecules and RDKit agree on damaged real molecules.

    python -m scripts.studies.molecules_truth

RDKit says which string is a molecule. The molecules are those of the ceiling, which no judge was trained on.
Per damage: the share of strings that RDKit reads, the share that each judge accepts, its sensitivity (share
of the wrong strings that it rejects), and its specificity (share of the right strings that it accepts).

A judge also rejects right strings that are unlike the training part, and real
molecules at the edge of its range. So the specificity on undamaged molecules is the most that it can reach.

Then the published records: whether the judges and RDKit rank the methods alike, by Kendall's tau.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from bench.evaluation.panel import Panel
from bench.evaluation.verdicts import VERDICTS, features_of
from bench.records.schema import Record, read_records
from bench.report.cells import DASH
from bench.report.secondary_table import tau_text
from bench.stats.compressibility import retention_of
from bench.stats.ladder import grouped
from bench.stats.rank_agreement import APART, Reading, agreement, retentions, second_retention
from domains.molecules.adapter import MoleculesDomain
from domains.molecules.chemistry import is_valid

HEADERS = ["damage", "evaluator", "right by RDKit", "accepted", "sensitivity", "specificity"]
RANK_HEADERS = ["judge", "models x methods", "tau", f"pairs {APART} apart", "ranked alike", "farthest apart"]
JUDGES: Mapping[str, Reading] = {
    "judge": lambda record: retention_of(record, "quality"),
    "conv_judge": lambda record: second_retention(record, "quality"),
}


@click.command()
@click.option("--samples", default=2000, show_default=True, help="Molecules a damage.")
@click.option("--results", default="results", show_default=True, help="The folder of the records.")
def main(samples: int, results: str) -> None:
    """One line per damage and judge, and one for all of these damages together; then the ranks."""
    records = [r for r in read_records(Path(results)) if r.domain == MoleculesDomain.name]
    click.echo(f"{damage_table(samples)}\n\n{rank_table(records)}")


def damage_table(samples: int) -> str:
    """The judges and RDKit, string by string."""
    domain = MoleculesDomain()
    lines = []
    for name in JUDGES:
        panel = Panel(domain, samples, roles={name: "quality"})
        judge, real = panel.evaluators[name], panel.real.by_evaluator[name]
        together: list[np.ndarray] = []
        for title, strings in damaged(domain, samples).items():
            accepted = VERDICTS["quality"](real, features_of(judge, strings), panel.k).items["valid"]
            flags = np.stack([is_valid(strings), accepted])
            together += [flags] if title != "none" else []
            lines.append([title, name, *shares(flags)])
        lines.append(["all of these damages", name, *shares(np.concatenate(together, 1))])
    return tabulate(lines, headers=HEADERS, tablefmt="pipe", disable_numparse=True)


def rank_table(records: Sequence[Record]) -> str:
    """Do RDKit and each judge rank the methods alike? Retentions of one model are paired with each other."""
    by_rdkit = {r.cell: kept for r in records if (kept := kept_by_rdkit(r, records)) is not None}
    lines = []
    for name, judge in JUDGES.items():
        readings = (lambda record: by_rdkit.get(record.cell), judge)
        tables = {model: retentions(same, readings) for model, same in grouped(records, lambda r: r.model)}
        found = agreement(MoleculesDomain.name, "quality", ("RDKit", name), tables)
        if not found.disagreements:
            continue
        worst = found.disagreements[0]
        apart = f"{worst.model} `{worst.method}`: RDKit {worst.first:.3f}, {name} {worst.second:.3f}"
        alike = DASH if found.concordant is None else f"{found.concordant:.3f}"
        lines.append([name, str(found.methods), tau_text(found.tau), str(found.pairs), alike, apart])
    return tabulate(lines, headers=RANK_HEADERS, tablefmt="pipe", disable_numparse=True)


def kept_by_rdkit(record: Record, records: Sequence[Record]) -> float | None:
    """The share of molecules that are right by RDKit, over that of the uncompressed network's samples.

    That is a retention whose floor is taken as 0.
    """
    if record.status == "diverged":
        return 0.0
    base = next((r for r in records if r.method == "none" and same_samples(r, record)), None)
    shares = [None if r is None else r.metrics.get("valid_rdkit") for r in (record, base)]
    return shares[0] / shares[1] if shares[0] is not None and shares[1] else None


def same_samples(some: Record, other: Record) -> bool:
    """Whether both records are of one model and of the same noise."""
    return (some.model, some.sample_seed, some.samples) == (other.model, other.sample_seed, other.samples)


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
