"""Metrics of plain texts: pure functions, and one `evaluate.Metric` class over each.

A *word* is a match of `WORD` in the lower-cased text: a run of letters and digits (apostrophes inside it
included) or one punctuation mark. Nothing is downloaded, and nothing is written: the classes keep their
inputs in memory.

Why all four have the direction "none" (closest to real texts is best): random words score "better" than real
ones by the published directions of `distinct_2`, `self_bleu_4` and `rep_4`. A value without any n-gram to
count (0/0) is nan, which is "not scored", unlike 0.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

import datasets
import evaluate

from bench.errors import BadInput

WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")
EPSILON = 0.1  # of the smoothing: the count that stands in for a precision's numerator of zero
Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Lower-cased words and punctuation marks: "Aaron's rod, and" -> ["aaron's", "rod", ",", "and"]."""
    return WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> list[Gram]:
    """All max(0, len - n + 1) n-grams, in order."""
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def distinct_2(texts: Sequence[str]) -> float:
    """Distinct bigrams / all bigrams of the whole set, in (0, 1]; nan without any bigram.

    Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models",
    arXiv:1510.03055. It falls as the number and the length of the texts grow: compare equal N and similar
    lengths only. Raises `BadInput` without texts.
    """
    grams = [gram for text in _texts("predictions", texts) for gram in ngrams(words(text), 2)]
    return _ratio(len(set(grams)), len(grams))


def rep_4(texts: Sequence[str]) -> float:
    """Share of 4-grams that repeat an earlier one of the same text, in [0, 1); nan without any 4-gram.

    sum over texts of (4-grams - distinct 4-grams) / sum over texts of 4-grams. After seq-rep-4 of Welleck et
    al. 2020, "Neural Text Generation with Unlikelihood Training", arXiv:1908.04319, which averages the texts'
    own shares: pooling gives a long text more weight and needs no rule for texts of fewer than 4 words. It
    has no systematic dependence on N, but grows with the texts' length. Raises `BadInput` without texts.
    """
    of_text = [ngrams(words(text), 4) for text in _texts("predictions", texts)]
    return _ratio(sum(len(grams) - len(set(grams)) for grams in of_text), sum(map(len, of_text)))


def length_ratio(texts: Sequence[str], references: Sequence[str]) -> float:
    """Mean words (punctuation marks count) of `texts` / the same of `references`; nan if no reference has a
    word.

    The two may differ in number. Blind to what the words are. Raises `BadInput` without texts or references.
    """
    ours, theirs = _texts("predictions", texts), _texts("references", references)
    return _ratio(_count_words(ours) * len(theirs), _count_words(theirs) * len(ours))


def _count_words(texts: Sequence[str]) -> int:
    return sum(len(words(text)) for text in texts)


def self_bleu_4(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of every text against all the others, in [0, 1]; nan for a single text.

    See `self_bleu_4_items`.

    Zhu et al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models", arXiv:1802.01886. All the
    others are references, none are left out, so the value grows with N: compare equal N only. Raises
    `BadInput` without texts.
    """
    items = self_bleu_4_items(texts)
    return _ratio(math.fsum(items), len(items)) if len(items) > 1 else math.nan


def self_bleu_4_items(texts: Sequence[str]) -> list[float]:
    """BLEU-4 of every text against all the others [n], exact, in time linear in the words.

    BLEU: Papineni et al. 2002, equal weights, counts clipped by the largest count in any *other* text (of
    every n-gram, the two largest counts and the first one's owner are kept), brevity penalty by the closest
    length among the others (the shorter of two equally close). Smoothing: method 1 of Chen & Cherry 2014, so
    a precision without a match is 0.1 / max(1, number of n-grams); a text without a matching word scores 0.
    Equal to nltk's `sentence_bleu` with `SmoothingFunction().method1`. A single text scores 0. Raises
    `BadInput` without texts.
    """
    tokens = [words(text) for text in _texts("predictions", texts)]
    matches = []
    for order in (1, 2, 3, 4):
        matches.append(_clipped_matches([Counter(ngrams(each, order)) for each in tokens]))
    lengths = [len(each) for each in tokens]
    nearest = _closest_other_lengths(lengths)
    return [_bleu(*item) for item in zip(zip(*matches), lengths, nearest, strict=True)]


def _clipped_matches(counts: Sequence[Counter[Gram]]) -> list[int]:
    """Per text: the sum over its n-grams of min(own count, largest count in any other text)."""
    best: dict[Gram, tuple[int, int, int]] = {}  # largest count, its owner, second-largest count
    for i, counter in enumerate(counts):
        for gram, count in counter.items():
            first, owner, second = best.get(gram, (0, -1, 0))
            if count > first:
                best[gram] = count, i, first
            elif count > second:
                best[gram] = first, owner, count

    def clip(i: int, gram: Gram, count: int) -> int:
        first, owner, second = best[gram]
        return min(count, second if owner == i else first)

    found = []
    for i, counter in enumerate(counts):
        found.append(sum(clip(i, gram, count) for gram, count in counter.items()))
    return found


def _closest_other_lengths(lengths: Sequence[int]) -> list[int]:
    """Per text: the other texts' length closest to its own; the shorter of two; its own if there is no
    other text.
    """
    how_many, steps = Counter(lengths), sorted(set(lengths))

    def closest(length: int) -> int:
        at = bisect_left(steps, length)
        beside = steps[max(0, at - 1) : at] + steps[at + 1 : at + 2]
        return (
            length if how_many[length] > 1 or not beside else min(beside, key=lambda x: (abs(x - length), x))
        )

    return [closest(length) for length in lengths]


def _bleu(matches: Sequence[int], length: int, other_length: int) -> float:
    """One text's BLEU from its clipped matches per order, its own length and the closest reference's."""
    if matches[0] == 0:
        return 0.0
    precisions = ((found or EPSILON) / max(1, length - n) for n, found in enumerate(matches))
    brevity = min(0.0, 1 - other_length / length)
    return math.exp(brevity + math.fsum(map(math.log, precisions)) / len(matches))


def _texts(what: str, texts: Iterable[str]) -> list[str]:
    """A checked list of at least one text."""
    if isinstance(texts, str):
        raise BadInput(f"{what} must be a list of texts, not one text: {texts[:40]!r}")
    texts = list(texts)
    for text in texts:
        if not isinstance(text, str):
            raise BadInput(f"{what} must be texts; found {type(text).__name__}: {text!r}")
    if not texts:
        raise BadInput(f"{what} is empty; at least one text is needed")
    return texts


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


class TextMetric(evaluate.Metric):
    """The base class of the four metrics: it checks inputs and writes no files.

    `compute` returns {name: float}.
    """

    name: str  # in place of evaluate's, which is made from the class's name
    unit: str
    direction = "none"  # "higher", "lower", or "none": closest to real texts is best
    version = 1
    citation_key: str
    paired = False  # True: `compute` needs references too, one per prediction

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _build_data_dir(self) -> str:
        return ""  # otherwise evaluate makes a folder below the home folder, even with keep_in_memory

    def _info(self) -> evaluate.MetricInfo:
        columns = ("predictions", "references") if self.paired else ("predictions",)
        references = "references: as many real texts." if self.paired else "references are ignored."
        return evaluate.MetricInfo(
            description=(type(self).__doc__ or "").strip(),
            citation=self.citation_key,
            inputs_description=f"\npredictions: list of texts, at least one. {references}",
            features=datasets.Features({column: datasets.Value("string") for column in columns}),
        )

    def compute(
        self, *, predictions: Iterable[str] | None = None, references: Iterable[str] | None = None
    ) -> dict[str, float]:
        """The metric of `predictions`, or of what `add` and `add_batch` gathered -> {name: value}."""
        if predictions is None and not len(self):
            raise BadInput(f"{self.name} needs predictions")
        if predictions is not None and self.paired and references is None:
            raise BadInput(f"{self.name} needs references beside predictions")
        ours = None if predictions is None else _texts("predictions", predictions)
        theirs = None if references is None or not self.paired else _texts("references", references)
        if ours is not None and theirs is not None and len(ours) != len(theirs):
            raise BadInput(
                f"{self.name} needs one reference per prediction, got {len(theirs)} for {len(ours)}"
            )
        return dict(super().compute(predictions=ours, references=theirs))


class Distinct2(TextMetric):
    """Distinct bigrams / all bigrams over the whole set; falls as N grows, so compare equal N only."""

    name, unit = "distinct_2", "share"
    citation_key = "Li et al. 2016, arXiv:1510.03055"

    def _compute(self, predictions: list[str]) -> dict[str, float]:
        return {self.name: distinct_2(predictions)}


class SelfBleu4(TextMetric):
    """Mean BLEU-4 of every text against all the others; grows with N, so compare equal N only."""

    name, unit = "self_bleu_4", "BLEU, 0 to 1"
    citation_key = "Zhu et al. 2018, arXiv:1802.01886"

    def _compute(self, predictions: list[str]) -> dict[str, float]:
        return {self.name: self_bleu_4(predictions)}


class Rep4(TextMetric):
    """Share of 4-grams that repeat an earlier one of the same text, pooled over all texts."""

    name, unit = "rep_4", "share"
    citation_key = "after Welleck et al. 2020, arXiv:1908.04319"

    def _compute(self, predictions: list[str]) -> dict[str, float]:
        return {self.name: rep_4(predictions)}


class LengthRatio(TextMetric):
    """Mean words per prediction / mean words per reference; 1 for texts of the real length."""

    name, unit = "length_ratio", "ratio"
    citation_key = ""
    paired = True

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        return {self.name: length_ratio(predictions, references)}
