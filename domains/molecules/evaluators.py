"""The evaluators: language models of SMILES strings for quality, and what a molecule is like for diversity.

The judges know whether a string is well-formed. ChemNet's activations and Morgan fingerprints say what
molecule it is. `python -m domains.molecules.evaluators` fits the main directions of both on training
molecules; those of the judges are fitted when their training ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.interfaces import Evaluator
from domains.language.judges import ConvolutionalJudge, Directions, RecurrentJudge
from domains.molecules.chemistry import activations, fingerprints, need_the_extra

WEIGHTS = Path(__file__).parent / "weights"
BITS = 2048  # of the fingerprints
LARGEST = 2  # one wrong character spoils a molecule: the mean over 37 would hide it


class Judge(RecurrentJudge):
    """The primary evaluator of quality. Each character is a token.

    Surprisal: the mean cost of the two characters that cost most.
    """

    name = "judge"
    version = 1
    largest = LARGEST
    weights = WEIGHTS


class ConvJudge(ConvolutionalJudge):
    """The secondary evaluator of quality. Its tokens end at brackets and digits.

    Surprisal: as that of the primary one, over its own tokens.
    """

    name = "conv_judge"
    version = 1
    largest = LARGEST
    weights = WEIGHTS


class ChemNet(Evaluator):
    """What a molecule does in bioassays: ChemNet's penultimate activations, in 64 main directions.

    It reads any string, so a molecule with a lost bracket stays near the whole one.
    """

    name = "chemnet"
    role = "diversity"
    version = 1

    def __init__(self, device: str = "cpu", folder: Path = WEIGHTS / "chemnet") -> None:
        need_the_extra()
        self.directions = Directions.read(folder / "directions.safetensors")

    def features(self, samples: Sequence[str]) -> Tensor:
        return self.directions(torch.from_numpy(activations(tuple(samples))))


class Fingerprints(Evaluator):
    """The secondary evaluator of diversity: which atoms stand beside which, by Morgan fingerprints.

    Rogers & Hahn 2010, radius 2, 2,048 bits, in their 64 main directions (truncated SVD), unit length. A
    string that RDKit cannot parse is the zero vector: it lies at distance 1 from every molecule.
    """

    name = "fingerprints"
    role = "diversity"
    version = 1

    def __init__(self, device: str = "cpu", folder: Path = WEIGHTS / "fingerprints") -> None:
        need_the_extra()
        self.directions = Directions.read(folder / "directions.safetensors")  # their mean is 0

    def features(self, samples: Sequence[str]) -> Tensor:
        return F.normalize(self.directions(torch.from_numpy(fingerprints(samples, BITS))), dim=1)


def fit(training: Sequence[str]) -> None:
    """Write the main directions of training molecules."""
    seen = torch.from_numpy(activations(tuple(training)))
    Directions.fit(seen).write(WEIGHTS / "chemnet" / "directions.safetensors")
    bits = torch.from_numpy(fingerprints(training, BITS))
    directions = Directions.fit(bits, centred=False)  # no bit set stays the zero vector
    directions.write(WEIGHTS / "fingerprints" / "directions.safetensors")


if __name__ == "__main__":
    from domains.language.training import spread
    from domains.molecules.data import molecules

    fit(spread(molecules("train"), 10_000))
