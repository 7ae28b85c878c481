"""Measures the baselines of the text generator: held-out bits per byte of a Kneser-Ney 5-gram and of xz.

    python -m scripts.studies.text_baselines --part validation --json text_baselines.json

Bits are those that encode every verse of a part, its end included (the token END, or the line break), and are
divided by the verses' UTF-8 bytes, line breaks not counted. The part "test" is for one use, after freezing.
"""

from __future__ import annotations

import argparse
import json
import lzma
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from domains.text.data import PARTS, verses

ORDER = 5
WEIGHTS = Path(__file__).parents[2] / "domains" / "text" / "weights" / "s@0"
FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts allow no estimate (KenLM's --discount_fallback)
CHUNK = 1 << 16
Keys = NDArray[np.int64]  # n-grams as numbers: the last token in the lowest bits
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """The n-grams of one order, and what their contexts need for interpolation."""

    grams: Keys  # [g] sorted
    gram_mass: Floats  # [g] (count - discount) / total of its context
    contexts: Keys  # [c] sorted
    context_backoff: Floats  # [c] mass left for the next lower order
    discounts: tuple[float, float, float]
    estimated: bool

    def mix(self, grams: Keys, contexts: Keys, lower: Floats) -> Floats:
        """p(w | h) = mass(h, w) + backoff(h) * p(w | shorter h) [q]; an unseen h leaves all to the lower
        order.
        """
        backoff = _look_up(self.contexts, self.context_backoff, contexts, 1.0)
        return _look_up(self.grams, self.gram_mass, grams, 0.0) + backoff * lower


class KneserNey:
    """Interpolated modified Kneser-Ney over a closed vocabulary.

    Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling": three discounts
    per order from counts of counts, lower orders count distinct left neighbours, the lowest is interpolated
    with 1 / vocabulary. The left of a sequence is padded with START; padded n-grams are counted like any
    other (their own counts, as KenLM takes, were worse: 1.3347 bits per byte on the validation part against
    1.3323).
    """

    def __init__(
        self, sequences: Sequence[Sequence[int]], vocabulary: int, start: int, never: Sequence[int]
    ) -> None:
        """`sequences` begin with `start`; tokens in `never` (START, PAD) are never predicted."""
        self.bits = (vocabulary - 1).bit_length()
        if self.bits * ORDER > 62:
            raise ValueError(f"a vocabulary of {vocabulary} is too large for 64-bit keys of order {ORDER}")
        self.start = start
        self.predicted = np.setdiff1d(np.arange(vocabulary), never)
        unique, counts = np.unique(self.keys(sequences), return_counts=True)
        levels = [_level(unique, counts, unique >> self.bits)]
        for order in tqdm(range(ORDER - 1, 0, -1), desc="Kneser-Ney", unit="order"):
            # counts of left neighbours
            unique, counts = np.unique(unique & self._mask(order), return_counts=True)
            levels.append(_level(unique, counts, unique >> self.bits))
        self.levels = levels[::-1]  # [0] unigrams ... [ORDER - 1]

    def keys(self, sequences: Sequence[Sequence[int]]) -> Keys:
        """Every position's n-gram of the highest order, START padded to its left [positions]."""
        padded = [
            np.r_[[self.start] * (ORDER - 1), np.asarray(each[1:], dtype=np.int64)] for each in sequences
        ]
        return np.concatenate(
            [self._roll(np.lib.stride_tricks.sliding_window_view(each, ORDER)) for each in padded]
        )

    def probabilities(self, keys: Keys) -> Floats:
        """p(last token | the others) of n-grams of the highest order [q]."""
        p = np.full(len(keys), 1.0 / len(self.predicted))
        for order, level in enumerate(self.levels, start=1):
            grams = keys & self._mask(order)
            p = level.mix(grams, grams >> self.bits, p)
        return p

    def check_sums(self, keys: Keys) -> float:
        """The largest |1 - sum over the vocabulary| over the contexts of `keys`."""
        sums = [self.probabilities((key >> self.bits << self.bits) | self.predicted).sum() for key in keys]
        return float(np.abs(np.array(sums) - 1).max())

    def _roll(self, windows: Keys) -> Keys:
        """[n, ORDER] tokens -> [n] keys."""
        return (windows << self.bits * np.arange(ORDER - 1, -1, -1)).sum(1)

    def _mask(self, order: int) -> int:
        return (1 << self.bits * order) - 1


def _level(grams: Keys, counts: NDArray[np.int64], context_of: Keys) -> Level:
    """Discounted masses of one order's n-grams, and their contexts' back-off masses."""
    discounts, estimated = discounts_from(counts)
    contexts, index = np.unique(context_of, return_inverse=True)
    total = np.bincount(index, weights=counts)  # [c]
    taken = np.array(discounts)[np.minimum(counts, 3) - 1]  # [g]
    backoff = np.bincount(index, weights=taken) / total
    return Level(grams, (counts - taken) / total[index], contexts, backoff, discounts, estimated)


def discounts_from(counts: NDArray[np.int64]) -> tuple[tuple[float, float, float], bool]:
    """D1, D2, D3+ from the numbers of n-grams seen 1, 2, 3, 4 times; `FALLBACK` where that gives no 0 <=
    Dk <= k.
    """
    n1, n2, n3, n4 = (int((counts == k).sum()) for k in (1, 2, 3, 4))
    if not (n1 and n2 and n3 and n4):
        return FALLBACK, False
    y = n1 / (n1 + 2 * n2)
    found = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    valid = all(0 <= d <= k for k, d in enumerate(found, start=1))
    return (found, True) if valid else (FALLBACK, False)


def _look_up(table: Keys, values: Floats, wanted: Keys, default: float) -> Floats:
    """`values` of `wanted` in the sorted `table` [q]; `default` for what it does not hold."""
    at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return np.where(table[at] == wanted, values[at], default)


def kneser_ney(training: Sequence[str], held_out: Sequence[str]) -> dict[str, object]:
    """Bits per byte of the 5-gram on the generator's own tokens."""
    tokenizer, source = load_tokenizer(training)
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    ids = [tokenizer(list(texts))["input_ids"] for texts in (training, held_out)]
    if any(each[0] != start or each[-1] != end for each in ids[0] + ids[1]):
        raise ValueError("the tokenizer must encode <s> text </s>")
    model = KneserNey(ids[0], len(tokenizer), start, never=[start, tokenizer.pad_token_id])
    keys = model.keys(ids[1])
    off = max(model.check_sums(keys[:20]), model.check_sums(keys[:: max(1, len(keys) // 200)]))
    if off > 1e-9:  # float64 rounding over 1,022 terms is near 1e-14
        raise ArithmeticError(f"the distribution does not sum to 1: off by {off}")
    bits = float(-np.log2(model.probabilities(keys)).sum())
    return {
        "bits": bits,
        "bits_per_byte": bits / utf8_bytes(held_out),
        "bits_per_token": bits / len(keys),
        "tokens": len(keys),
        "tokenizer": source,
        "largest_error_of_sums": off,
        "n_grams": [len(level.grams) for level in model.levels],
        "discounts": [[round(d, 4) for d in level.discounts] for level in model.levels],
        "discounts_estimated": [level.estimated for level in model.levels],
    }


def xz(training: Sequence[str], held_out: Sequence[str]) -> dict[str, object]:
    """Bits per byte of xz -9e with the training text as context: what appending the held-out text adds."""
    before, after = ("".join(f"{verse}\n" for verse in texts).encode() for texts in (training, held_out))
    alone, both = xz_size(before, "xz, training text"), xz_size(before + after, "xz, both texts")
    bits = 8 * (both - alone)
    return {
        "bits": bits,
        "bits_per_byte": bits / utf8_bytes(held_out),
        "training_size": alone,
        "both_size": both,
    }


def xz_size(data: bytes, label: str) -> int:
    """Bytes of `xz -9e`; its dictionary of 64 MiB must hold all of `data`."""
    if len(data) > 1 << 26:
        raise ValueError(f"{len(data)} bytes do not fit into the dictionary of 64 MiB")
    compressor, size = lzma.LZMACompressor(preset=9 | lzma.PRESET_EXTREME), 0
    with tqdm(total=len(data), desc=label, unit="B", unit_scale=True) as bar:
        for at in range(0, len(data), CHUNK):
            size += len(compressor.compress(data[at : at + CHUNK]))
            bar.update(len(data[at : at + CHUNK]))
    return size + len(compressor.flush())


def load_tokenizer(training: Sequence[str]) -> tuple[Any, str]:
    """The generator's tokenizer and where it is from; trained again as long as no generator is shipped."""
    if WEIGHTS.is_dir():
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(WEIGHTS)), WEIGHTS.name
    from domains.language.network import train_tokenizer

    return train_tokenizer(training), "trained here"


def utf8_bytes(texts: Sequence[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=[part for part in PARTS if part != "train"], default="test")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    training, held_out = verses("train"), verses(arguments.part)
    results: dict[str, dict[str, object]] = {}
    for name, opponent in (("kneser_ney_5", kneser_ney), ("xz_9e", xz)):
        began = time.perf_counter()
        results[name] = opponent(training, held_out)
        results[name]["seconds"] = round(time.perf_counter() - began, 1)
    print(f"\npart {arguments.part}: {len(held_out)} verses, {utf8_bytes(held_out)} bytes")
    print(f"{'opponent':<14}{'bits per byte':>14}{'seconds':>10}")
    for name, result in results.items():
        print(f"{name:<14}{result['bits_per_byte']:>14.4f}{result['seconds']:>10}")
    if arguments.json:
        facts = {"part": arguments.part, "verses": len(held_out), "bytes": utf8_bytes(held_out), **results}
        arguments.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
