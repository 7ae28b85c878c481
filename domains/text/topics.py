"""The secondary evaluator of diversity: what a verse is about, by the corpus' own words (latent semantic
analysis).

Deerwester et al. 1990: words weighted by how rare they are among training verses (TF-IDF), then 64 main
directions of those (truncated SVD), unit length. Blind to word order like the first, but it knows nothing
from outside: no pre-training, no pieces of words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Evaluator

if TYPE_CHECKING:
    from scipy.sparse import csr_array

WEIGHTS = Path(__file__).parent / "weights" / "topics"
COMPONENTS = 64
LEAST = 3  # training verses that a word must stand in


class Topics(Evaluator):
    """Features: [n, 64], unit length; a text without a known word is the zero vector."""

    name = "topics"
    role = "diversity"
    version = 1

    def __init__(self, device: str = "cpu", folder: Path = WEIGHTS) -> None:
        from safetensors.torch import load_file

        try:
            self.words = {
                word: i for i, word in enumerate((folder / "words.txt").read_text(encoding="utf-8").split())
            }
            # [words, 64], weighted by rarity
            self.table = load_file(folder / "topics.safetensors")["table"].double()
        except OSError as error:
            raise BadInput(
                f"the evaluator of topics is not there: {error.strerror}: {str(folder)!r}"
            ) from None

    def features(self, samples: Sequence[str]) -> Tensor:
        found = torch.zeros(len(samples), self.table.shape[1], dtype=torch.float64)
        for row, text in enumerate(samples):
            known = {self.words[word]: count for word, count in counts(text).items() if word in self.words}
            if known:  # row by row, so that a sample's features do not depend on its neighbours
                weights = torch.tensor([damped(count) for count in known.values()], dtype=torch.float64)
                found[row] = weights @ self.table[list(known)]
        return F.normalize(found, dim=1).float()


def counts(text: str) -> Counter[str]:
    return Counter(re.findall(r"[a-z']+", text.lower()))


def damped(count: int) -> float:
    """A word that comes twice says less than twice as much."""
    return 1 + float(np.log(count))


def fit(texts: Sequence[str]) -> tuple[list[str], Tensor]:
    """-> the words, and what each adds to a verse's topics: rarity times its place in the main directions,
    [words, 64] fp16.
    """
    from scipy.sparse.linalg import svds

    found = [counts(text) for text in texts]
    words, rarity = vocabulary(found)
    matrix = weighted(found, words, rarity)
    _, values, directions = svds(matrix, COMPONENTS, v0=np.ones(min(matrix.shape)), solver="arpack")
    directions = directions[np.argsort(-values)].T  # [words, 64]
    # the sign is arbitrary: fix it
    directions *= np.sign(np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0))
    return words, torch.from_numpy(directions * rarity[:, None]).half()


def vocabulary(found: Iterable[Counter[str]]) -> tuple[list[str], np.ndarray]:
    """The words of at least `LEAST` verses, and how rare each is: ln(verses / verses with it) + 1."""
    found = list(found)
    verses_with = Counter(word for verse in found for word in verse)
    words = sorted(word for word, number in verses_with.items() if number >= LEAST)
    return words, np.log(len(found) / np.array([verses_with[word] for word in words])) + 1


def weighted(found: Sequence[Counter[str]], words: Sequence[str], rarity: np.ndarray) -> csr_array:
    """[verses, words], sparse, each verse of unit length."""
    from scipy.sparse import csr_array

    place = {word: i for i, word in enumerate(words)}
    rows, columns, values = [], [], []
    for row, verse in enumerate(found):
        known = [(place[word], damped(count)) for word, count in verse.items() if word in place]
        weights = np.array([value * rarity[i] for i, value in known])
        rows += [row] * len(known)
        columns += [i for i, _ in known]
        values += list(weights / max(np.linalg.norm(weights), 1e-12))
    return csr_array((values, (rows, columns)), shape=(len(found), len(words)))


if __name__ == "__main__":
    from safetensors.torch import save_file

    from domains.text.data import verses

    WEIGHTS.mkdir(parents=True, exist_ok=True)
    known, table = fit(verses("train"))
    (WEIGHTS / "words.txt").write_text("\n".join(known) + "\n", encoding="utf-8")
    save_file({"table": table.contiguous()}, WEIGHTS / "topics.safetensors")
