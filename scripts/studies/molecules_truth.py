"""Do the judges of molecules agree with RDKit, which knows which string is a molecule?

    python -m scripts.studies.molecules_truth measure   # damaged real molecules, and samples of networks
    python -m scripts.studies.molecules_truth tables    # writes the tables of docs/molecules-domain.md

`measure` takes about five minutes on one core and writes `molecules_truth.json`. Of each set of strings it
holds the share that RDKit reads and the share that each judge accepts. *Sensitivity* is the share of the
wrong strings that a judge rejects, *specificity* the share of the right strings that it accepts. The real
molecules are those of the ceiling, which no judge was trained on.

A judge also rejects right strings that are unlike the training part, and real
molecules at the edge of its range. So the specificity on undamaged molecules is the most that it can reach.

`tables` also compares published records: whether the judges and RDKit rank the methods alike, by Kendall's
tau.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.evaluation.damage import damage_matrix, secondary_evaluators
from bench.evaluation.panel import Panel
from bench.evaluation.verdicts import VERDICTS, features_of
from bench.methods.notation import parse
from bench.records.schema import Record, read_records
from bench.report.cells import DASH, table
from bench.report.secondary_table import tau_text
from bench.runner.session import ModelSession
from bench.stats.compressibility import retention_of
from bench.stats.ladder import grouped
from bench.stats.rank_agreement import APART, Reading, agreement, retentions, second_retention
from bench.util.files import write_atomically
from domains.molecules.adapter import MoleculesDomain
from domains.molecules.chemistry import is_valid
from scripts import blocks

ROOT = Path(__file__).parent.parent.parent
FILE, PAGE = Path(__file__).with_suffix(".json"), ROOT / "docs" / "molecules-domain.md"
SAMPLES = 2000
MODEL, METHODS = "s@0", ("none", "int4", "int3", "ldlq:bits=2,mixed")  # whose samples are compared, too
UNDAMAGED = "none (other real samples)"
RANK_HEADERS = ["judge", "models x methods", "tau", f"pairs {APART} apart", "ranked alike"]
RANK_HEADERS += ["farthest apart", "there, by RDKit", "there, by the judge"]
JUDGES: Mapping[str, Reading] = {
    "judge": lambda record: retention_of(record, "quality"),
    "conv_judge": lambda record: second_retention(record, "quality"),
}
Found = dict[str, Any]


@click.group()
def main() -> None:
    """Do the judges of molecules agree with RDKit?"""


@main.command()
@click.option("--samples", default=SAMPLES, show_default=True, help="Strings of each set.")
def measure(samples: int) -> None:
    """Compare the judges with RDKit, string by string."""
    domain = MoleculesDomain()
    sets = dict(strings_of(domain, samples))
    found: Found = {"samples": samples, "truth": truth(domain, sets, samples), "recall": {}}
    for roles in (None, secondary_evaluators(domain)):
        for row in damage_matrix(domain, samples, roles=roles):
            name = next(n for n, role in (roles or domain.evaluators()).items() if role == "diversity")
            line = found["recall"].setdefault(row.name, {"samples": row.samples})
            numbers = row.numbers()
            line[name] = [numbers["mutual_recall"], numbers["mutual_recall_of_ceiling"]]
    write_atomically(FILE, json.dumps(found, indent=1) + "\n")


@main.command()
def tables() -> None:
    """Write the tables of the page, from the file and the published records."""
    found, records = json.loads(FILE.read_text(encoding="utf-8")), read_records(ROOT / "results")
    write_atomically(PAGE, filled(PAGE.read_text(encoding="utf-8"), found, records))


def filled(page: str, found: Found, records: Sequence[Record]) -> str:
    """The page with the present tables."""
    own = [r for r in records if r.domain == MoleculesDomain.name]
    texts = {"truth": truth_table(found), "recall": recall_table(found), "ranks": rank_table(own)}
    return blocks.filled(page, texts)


# ---------------------------------------------------------------------------------------------------- measure


def strings_of(domain: MoleculesDomain, samples: int) -> Iterator[tuple[str, list[str]]]:
    """Other real molecules, what each damage makes of them, and samples of the compressed networks."""
    whole = list(domain.reference("ceiling")[:samples])
    yield UNDAMAGED, whole
    for name, damage in domain.damages().items():
        yield name, list(damage.apply(whole))
    session = ModelSession(domain, domain.models[MODEL], samples)
    for method in METHODS:
        yield f"{MODEL}, `{method}`", session.sample(session.compressed(parse(method), 0), 0).samples


def truth(domain: MoleculesDomain, sets: Mapping[str, list[str]], samples: int) -> Found:
    """Of each set: its length, the share that is right by RDKit, and the figures of each judge."""
    right = {title: is_valid(strings) for title, strings in sets.items()}
    found: Found = {
        title: {"samples": len(flags), "right": float(flags.mean())} for title, flags in right.items()
    }
    for name in JUDGES:
        panel = Panel(domain, samples, roles={name: "quality"})
        judge, real = panel.evaluators[name], panel.real.by_evaluator[name]
        for title, strings in sets.items():
            accepted = VERDICTS["quality"](real, features_of(judge, strings), panel.k).items["valid"]
            found[title][name] = agreement_of(right[title], accepted)
    return found


def agreement_of(right: np.ndarray, accepted: np.ndarray) -> dict[str, float | None]:
    """[n] bool each -> share accepted, sensitivity, specificity; None where there is no such string."""
    return {
        "accepted": float(accepted.mean()),
        "sensitivity": float((~accepted)[~right].mean()) if not right.all() else None,
        "specificity": float(accepted[right].mean()) if right.any() else None,
    }


# ----------------------------------------------------------------------------------------------------- tables


def truth_table(found: Found) -> str:
    """One line for each set of strings."""
    lines = []
    for title, row in found["truth"].items():
        values = [row["right"], *(row[name][key] for name in JUDGES for key in row[name])]
        lines.append([title, str(row["samples"]), *(DASH if x is None else f"{x:.3f}" for x in values)])
    kinds = ("accepts", "sensitivity ↑", "specificity ↑")
    headers = ["strings", "N", "right by RDKit", *(f"`{name}`: {kind}" for name in JUDGES for kind in kinds)]
    return table(headers, lines)


def recall_table(found: Found) -> str:
    """One line for each damage: mutual recall, and its share of that of undamaged molecules."""
    lines = []
    for title, row in found["recall"].items():
        pairs = [value for value in row.values() if isinstance(value, list)]
        lines.append([title, str(row["samples"]), *(f"{x:.3f}" for pair in pairs for x in pair)])
    names = [name for name, value in next(iter(found["recall"].values())).items() if isinstance(value, list)]
    headers = [text for name in names for text in (f"`{name}`", f"`{name}`, share of undamaged")]
    return table(["damage", "N", *headers], lines)


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
        apart = [f"{worst.model} `{worst.method}`", f"{worst.first:.3f}", f"{worst.second:.3f}"]
        alike = DASH if found.concordant is None else f"{found.concordant:.3f}"
        lines.append([name, str(found.methods), tau_text(found.tau), str(found.pairs), alike, *apart])
    return table(RANK_HEADERS, lines)


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


if __name__ == "__main__":
    main()
