"""What samples are good for: the n-gram model against its definition, the classifier, and what both see of
worse samples.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from domains.images.use import Classifier, as_rows, classify
from domains.language.byte_model import NGrams, Written, per_text
from domains.text.use import ByteModel


def by_definition(trained: bytes, tried: bytes, order: int) -> list[float]:
    """Witten and Bell's interpolation, one byte at a time."""
    counts = [Counter(trained[i : i + n] for i in range(len(trained) - n + 1)) for n in range(order + 1)]

    def p(context: bytes, byte: bytes) -> float:
        shorter = p(context[1:], byte) if context else 1 / 256
        after = {seen: count for seen, count in counts[len(context) + 1].items() if seen[:-1] == context}
        if not after:
            return shorter
        return (after.get(context + byte, 0) + len(after) * shorter) / (sum(after.values()) + len(after))

    return [-math.log2(p(tried[max(0, i - order + 1) : i], tried[i : i + 1])) for i in range(len(tried))]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_bits_are_those_of_the_definition(order: int) -> None:
    trained, tried = ["in the beginning", "and the earth", "", "the the"], ["the end", "zebra", "in the"]
    written, symbols = Written.of(trained).symbols.astype(np.uint8).tobytes(), Written.of(tried).symbols
    expected = by_definition(written, symbols.astype(np.uint8).tobytes(), order)
    assert NGrams.fit(trained, order).bits(symbols) == pytest.approx(expected)


def test_probabilities_of_all_bytes_add_up_to_one() -> None:
    model = NGrams.fit(["abracadabra", "banana"], 3)
    ends = [np.array([*b"abr", byte], np.uint64) for byte in range(256)]
    assert sum(2 ** -model.bits(symbols)[-1] for symbols in ends) == pytest.approx(1)


def test_texts_count_by_their_length() -> None:
    values, lengths = np.array([1.0, 3.0, 5.0]), np.array([1, 2])
    assert (
        per_text(values, lengths).mean() == pytest.approx(values.mean())
        and len(per_text(values, lengths)) == 2
    )


@pytest.mark.parametrize("texts", [[], [""], ["\0\ud800x"], ["a" * 10_000]])
def test_any_texts_can_be_learned_from(texts: list[str]) -> None:
    score = ByteModel().score(texts)
    assert np.isfinite(score).all() and score.mean() < 1.5


def test_worse_verses_are_of_less_use() -> None:
    from domains.text.damages import DAMAGES
    from domains.text.data import verses

    whole = verses("ceiling")[:2000]
    found = {
        name: ByteModel().score(DAMAGES[name].apply(whole)).mean()
        for name in ("words replaced 20 %", "ten copies of a tenth", "words drawn uniformly")
    }
    best = ByteModel().score(whole).mean()
    assert best > 6 and best > found["words replaced 20 %"] > found["words drawn uniformly"]
    assert best - found["ten copies of a tenth"] > 0.3


def test_the_classifier_is_kernel_ridge_regression() -> None:
    """Three points, solved by hand with numpy."""
    known, classes = (
        torch.tensor([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0]], dtype=torch.float64),
        torch.tensor([1, 5, 7]),
    )
    unknown = torch.tensor([[0.1, 0.2], [3.0, 0.5], [0.5, 2.0]], dtype=torch.float64)
    kernel = lambda a, b: np.exp(-((a[:, None] - b[None]) ** 2).sum(2) / (2 * 2.0**2))
    k = kernel(known.numpy(), known.numpy()) + 0.3 * np.eye(3)
    by_hand = kernel(unknown.numpy(), known.numpy()) @ np.linalg.solve(k, np.eye(10)[classes])
    assert classify(known, classes, unknown, 2.0, 0.3).tolist() == by_hand.argmax(1).tolist() == [1, 7, 5]


def test_worse_pictures_are_of_less_use() -> None:
    from domains.images.damages import DAMAGES
    from domains.images.data import part

    whole = part("ceiling").pixels[:1000]
    found = {
        name: Classifier().score(DAMAGES[name].apply(whole)).mean()
        for name in ("ten copies of a tenth", "five of ten classes", "blur 1 px")
    }
    best = Classifier().score(whole).mean()
    assert best > 0.75
    assert best - found["ten copies of a tenth"] > 0.05 and found["five of ten classes"] < 0.6
    assert as_rows(whole).shape == (1000, 784)
