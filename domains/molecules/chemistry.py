"""What RDKit and ChemNet know of a string. Both are the extra `molecules`, and are imported when first used.

RDKit decides which string is a molecule: it parses it, and checks valences and aromatic rings. ChemNet (Mayr
et al. 2018) predicts what molecules do in bioassays; its penultimate layer is the space of the Fréchet
ChemNet distance (Preuer et al. 2018, arXiv:1803.09518).
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BadInput

PACKAGES = {"rdkit": "rdkit", "fcd_torch": "fcd-torch"}  # module -> its package
HINT = "pip install -e '.[molecules]'"
BITS = 1024  # of a Morgan fingerprint
RADIUS = 2  # bonds around each atom
CHEMNET_SHA256 = "a36658cc7c94d3c728eacd7ed2d2f104753bb2fde742c2817daefe9533a28080"
ACTIVATIONS = 512
KEPT: dict[str, np.ndarray] = {}  # string -> its activations
MOST_KEPT = 20_000  # strings: 41 MB
SYMBOLS = 35  # that ChemNet knows
CHEMNET_LENGTH = 350  # symbols of a string that ChemNet reads, its end included
PRINTABLE = re.compile("[!-~]+")  # RDKit drops white space at the ends, and takes what follows it for a name


def missing() -> list[str]:
    """The packages of the extra that are not installed."""
    return [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]


def need_the_extra() -> None:
    """Raises `BadInput` where a package is missing."""
    if absent := missing():
        raise BadInput(f"the domain 'molecules' needs the package {', '.join(absent)}: {HINT}")


@functools.lru_cache(maxsize=4)
def parsed(strings: tuple[str, ...]) -> list[Any]:
    """RDKit's molecule of each string; None where it is none.

    Neither is the empty string, nor one with white space or other characters that no SMILES string has.
    """
    need_the_extra()
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():  # a line for each wrong string
        return [Chem.MolFromSmiles(string) if PRINTABLE.fullmatch(string) else None for string in strings]


def is_valid(strings: Sequence[str]) -> np.ndarray:
    """[n] bool: which strings RDKit can read as a molecule."""
    return np.array([molecule is not None for molecule in parsed(tuple(strings))], bool)


@functools.lru_cache(maxsize=4)
def canonical(strings: tuple[str, ...]) -> tuple[str, ...]:
    """RDKit's one string of each molecule, for those that are valid."""
    need_the_extra()
    from rdkit import Chem

    return tuple(Chem.MolToSmiles(molecule) for molecule in parsed(strings) if molecule is not None)


@functools.lru_cache(maxsize=4)
def scaffolds(strings: tuple[str, ...]) -> tuple[str, ...]:
    """Bemis and Murcko's scaffold of each string (1996): rings and what links them.

    It is empty where there is no ring, or no molecule.
    """
    need_the_extra()
    from rdkit import Chem
    from rdkit.Chem.Scaffolds.MurckoScaffold import GetScaffoldForMol

    return tuple("" if one is None else Chem.MolToSmiles(GetScaffoldForMol(one)) for one in parsed(strings))


def fingerprints(strings: Sequence[str], bits: int = BITS) -> np.ndarray:
    """[n, bits] bool: Morgan fingerprints (Rogers & Hahn 2010); no bit is set where a string is no
    molecule.
    """
    need_the_extra()
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=bits)
    found = np.zeros((len(strings), bits), bool)
    for row, molecule in enumerate(parsed(tuple(strings))):
        if molecule is not None:
            found[row] = generator.GetFingerprintAsNumPy(molecule)
    return found


@functools.cache
def chemnet() -> Any:
    """The network from `fcd_torch`'s file: symbols [n, 35, 350] -> activations [n, 512]."""
    import torch

    need_the_extra()
    from fcd_torch.utils import load_imported_model

    spec = importlib.util.find_spec("fcd_torch")
    assert spec is not None and spec.origin is not None
    weights = Path(spec.origin).parent / "ChemNet_v0.13_pretrained.pt"
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != CHEMNET_SHA256:
        raise BadInput(
            f"{weights.name} of the installed fcd-torch is another than was validated here (SHA-256 "
            f"{found[:12]}...)"
        )
    return load_imported_model(torch.load(weights, weights_only=True)).eval()


def symbols(string: str) -> np.ndarray:
    """[35, 350]: ChemNet's symbols of any string, molecule or not, as `fcd_torch` scales them.

    What is no symbol of its is one more symbol. A string ends at its first dot, and where it is too long.
    """
    from fcd_torch.utils import get_one_hot

    found = get_one_hot(string or ".", CHEMNET_LENGTH)
    return (found / found.shape[1]).T.astype("f4")  # type: ignore[no-any-return]


def activations(strings: Sequence[str], batch: int = 64) -> np.ndarray:
    """ChemNet's penultimate activations [n, 512] of any strings, float32.

    Those of the last strings are kept: an evaluator and the Fréchet distance ask for most strings twice.
    """
    import torch

    new = [string for string in dict.fromkeys(strings) if string not in KEPT]
    with torch.inference_mode():
        for start in range(0, len(new), batch):
            some = new[start : start + batch]
            read = np.zeros((batch, SYMBOLS, CHEMNET_LENGTH), "f4")  # always of one size: equal floats
            read[: len(some)] = [symbols(string) for string in some]
            made = chemnet()(torch.from_numpy(read)).numpy()
            KEPT.update((string, row.copy()) for string, row in zip(some, made))
    found = np.zeros((len(strings), ACTIVATIONS), "f4")
    for row, string in zip(found, strings):
        KEPT[string] = KEPT.pop(string)  # the last ones used are the last ones to go
        row[:] = KEPT[string]
    for string in [*itertools.islice(KEPT, max(0, len(KEPT) - MOST_KEPT))]:
        del KEPT[string]
    return found


def frechet(some: np.ndarray, others: np.ndarray) -> float:
    """The Fréchet distance of activations [n, d] and [m, d] (Dowson & Landau 1982).

    |mean - mean'|^2 + tr(C + C' - 2 (C C')^1/2), by torch-fidelity. `fcd_torch`'s own function gives SciPy an
    argument that SciPy 1.18 drops.
    """
    import torch
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    moments = [fid_features_to_statistics(torch.from_numpy(x).double()) for x in (some, others)]
    return float(fid_statistics_to_metric(*moments, verbose=False)["frechet_inception_distance"])
