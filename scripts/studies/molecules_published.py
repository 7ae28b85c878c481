"""Sets samples of the molecules domain beside the figures that MOSES publishes.

    python -m scripts.studies.molecules_published molsets-0.3.1-py3-none-any.whl

MOSES compares 30,000 samples with its whole test parts, so this study reads them from the wheel. Only
ChemNet, which takes 3 ms a molecule, sees a hashed choice of as many test molecules as there are samples.
That raises FCD. The first row shows by how much: it is real training molecules by the same code, and MOSES
publishes such a row of its whole training part. About 20 minutes on one core.

The published figures: Polykovskiy et al. 2020, arXiv:1811.12823, as the last version of the readme of
molecularsets/moses gives them, means of three runs. An earlier version, of 250,000 training molecules, gives
other figures (CharRNN: .960 valid, FCD .323).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from bench.util.progress import bar
from domains.molecules.adapter import MoleculesDomain
from domains.molecules.chemistry import activations, canonical, fingerprints, frechet
from domains.molecules.data import hashed, read_wheel
from domains.molecules.metrics import similarities

UNIQUE = 10_000  # molecules of `unique@10k`, and of the two figures of similarity
BLOCK = 5_000  # real molecules whose similarities are in memory at once
HEADERS = [
    *("", "samples", "valid ↑", "unique@10k ↑", "FCD test ↓", "FCD scaffolds ↓"),
    *("SNN test ↑", "SNN scaffolds ↑", "internal diversity", "novel"),
]
PUBLISHED = [
    ["training molecules, MOSES", "", "1.000", "1.000", "0.008", "0.476", "0.642", "0.586", "0.857", "-"],
    ["CharRNN, MOSES", "30,000", "0.975", "0.999", "0.073", "0.520", "0.602", "0.565", "0.856", "0.842"],
    ["VAE, MOSES", "30,000", "0.977", "0.998", "0.099", "0.567", "0.626", "0.578", "0.856", "0.695"],
]


@click.command()
@click.argument("wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-m", "--model", "models", multiple=True, default=["s@0"], show_default=True)
@click.option("--samples", default=30_000, show_default=True, help="Molecules of each row.")
def main(wheel: Path, models: Sequence[str], samples: int) -> None:
    """One row of real molecules, one for each model, and those of MOSES."""
    files = read_wheel(wheel)
    real = Real(files, samples)
    rows = [row("training molecules, by this study", hashed(files["train"])[:samples], real, novel=False)]
    domain = MoleculesDomain()
    for name in models:
        generator = domain.open(domain.locate(name))
        strings = list(generator.sample(generator.network, samples, 0))
        rows.append(row(f"{name} of this project", strings, real))
    click.echo(tabulate([*rows, *PUBLISHED], headers=HEADERS, tablefmt="pipe", disable_numparse=True))


class Real:
    """The whole parts of MOSES, and ChemNet's activations of a hashed choice of both test parts."""

    def __init__(self, files: dict[str, list[str]], samples: int) -> None:
        self.training = frozenset(files["train"])
        some = hashed(files["train"])[:samples]
        same = np.mean([a == b for a, b in zip(some, canonical(tuple(some)))])
        click.echo(f"{100 * same:.2f} % of MOSES' strings are those that the installed RDKit writes")
        tests = files["test"], files["test_scaffolds"]
        self.activations = [activations(canonical(tuple(hashed(part)[:samples]))) for part in tests]
        self.fingerprints = [packed(part) for part in tests]


def row(title: str, strings: Sequence[str], real: Real, novel: bool = True) -> list[str]:
    """The figures of one set of strings. All but the first are of those that are molecules. `novel` counts
    those that MOSES' whole training part lacks; networks of this project have seen 600,000 of it.
    """
    found = canonical(tuple(strings))
    seen, first = activations(found), found[:UNIQUE]
    distances = [frechet(seen, others) for others in real.activations]
    bits = fingerprints(first).astype("f4")
    similar = [nearest(bits, part).mean() for part in real.fingerprints]
    diversity = 1 - np.mean([similarities(one[None], bits).mean() for one in bits])
    distinct = set(found)
    outside = f"{1 - len(distinct & real.training) / len(distinct):.3f}" if novel else "-"
    shares = [len(found) / len(strings), len(set(first)) / len(first), *distances, *similar, diversity]
    return [title, f"{len(strings):,}", *[f"{share:.3f}" for share in shares], outside]


def packed(strings: Sequence[str]) -> np.ndarray:
    """[n, bytes] uint8: eight bits of a fingerprint in each byte."""
    starts = range(0, len(strings), BLOCK)
    found = [
        np.packbits(fingerprints(strings[start : start + BLOCK]), axis=1)
        for start in bar(starts, "fingerprints", len(starts))
    ]
    return np.concatenate(found)


def nearest(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Fingerprints [n, bits], float32, and packed ones -> [n]: similarity to the nearest of the others."""
    best = np.zeros(len(some), "f4")
    starts = range(0, len(others), BLOCK)
    for start in bar(starts, "nearest molecules", len(starts)):
        bits = np.unpackbits(others[start : start + BLOCK], axis=1).astype("f4")
        best = np.maximum(best, similarities(some, bits).max(1))
    return best


if __name__ == "__main__":
    main()
