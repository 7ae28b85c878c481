"""What generated strings are good for: more training text.

A small model of bytes is trained on them and tried on real strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.interfaces import Task

# bytes that the longest context and the byte after it have together; chosen on the text's validation part
# (docs/training-log.md)
ORDER = 6


class StringsOfUse(Task):
    """Utility: bits a byte that the model saves on real test strings, of the 8 that a byte has without any
    model.
    """

    name = "byte_model"
    version = 1

    def real(self) -> list[str]:
        """The test part."""
        raise NotImplementedError

    def score(self, samples: Sequence[str]) -> np.ndarray:
        model, real = NGrams.fit(samples), Written.of(self.real())
        return per_text(8 - model.bits(real.symbols), real.lengths)


@dataclass(frozen=True)
class Written:
    """Texts as one row of bytes, each text ended by a zero."""

    symbols: np.ndarray  # uint64 [total]
    lengths: np.ndarray  # [texts]

    @classmethod
    def of(cls, texts: Sequence[str]) -> Written:
        raw = [text.encode("utf-8", "surrogatepass").replace(b"\0", b" ") + b"\0" for text in texts]
        return cls(
            np.frombuffer(b"".join(raw), np.uint8).astype(np.uint64), np.array([len(text) for text in raw])
        )


def per_text(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[total] -> [texts], weighted so that their mean is that of all bytes: long texts have more to say."""
    sums = np.add.reduceat(values, np.concatenate([[0], np.cumsum(lengths)[:-1]]))
    return sums / lengths.mean()


class NGrams:
    """Counts of all byte sequences up to `order`, interpolated as Witten and Bell (1991) do.

    p(c | context) = (count of it with c + kinds of bytes after it * p(c | shorter context)) / (count of it +
    kinds), down to 1/256. A context reaches back over the ends of texts, which come in a fixed order here and
    in no order there: a little noise for all alike.
    """

    def __init__(self, tables: Sequence[tuple[np.ndarray, ...]]) -> None:
        self.tables = tables  # by order: sequences, their counts, contexts, their counts, their kinds

    @classmethod
    def fit(cls, texts: Sequence[str], order: int = ORDER) -> NGrams:
        symbols = Written.of(texts).symbols
        tables = []
        for n in range(1, order + 1):
            sequences, counts = np.unique(_grams(symbols, n), return_counts=True)
            # sorted, since the sequences are
            contexts, first = np.unique(sequences >> np.uint64(8), return_index=True)
            kinds = np.diff(np.append(first, len(sequences)))
            tables.append(
                (sequences, counts, contexts, np.add.reduceat(counts, first) if len(first) else counts, kinds)
            )
        return cls(tables)

    def bits(self, symbols: np.ndarray) -> np.ndarray:
        """Of each byte given those before it, [total]."""
        p = np.full(len(symbols), 1 / 256)
        for n, (sequences, counts, contexts, totals, kinds) in enumerate(self.tables, 1):
            grams = _grams(symbols, n)
            seen, after, different = (
                _look_up(grams, sequences, counts),
                *(_look_up(grams >> np.uint64(8), contexts, x) for x in (totals, kinds)),
            )
            p[n - 1 :] = np.where(
                after > 0, (seen + different * p[n - 1 :]) / np.maximum(after + different, 1), p[n - 1 :]
            )
        return -np.log2(p)


def _grams(symbols: np.ndarray, n: int) -> np.ndarray:
    """uint64 [total - n + 1]: each byte with the n - 1 before it, as one number (n at most 8)."""
    total = max(0, len(symbols) - n + 1)
    grams = np.zeros(total, np.uint64)
    for i in range(n):
        grams = (grams << np.uint64(8)) | symbols[i : i + total]
    return grams


def _look_up(keys: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each key; 0 where it is not known."""
    if not len(known):
        return np.zeros(len(keys), int)
    place = np.searchsorted(known, keys).clip(max=len(known) - 1)
    return np.where(known[place] == keys, values[place], 0)
