"""Text metrics: closed forms, invariances, parity with a direct self-BLEU, and use as `evaluate` metrics."""

from __future__ import annotations

import json
import math
import pickle
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import evaluate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadInput
from bench.metrics import text
from bench.metrics.text import Distinct2, LengthRatio, Rep4, SelfBleu4

ROOT = Path(__file__).parents[1]
CLASSES = (Distinct2, SelfBleu4, Rep4, LengthRatio)
PURE = (text.distinct_2, text.self_bleu_4, text.rep_4)
VERSE = "and the lord said unto him , go up to the house of the lord ."

some_texts = st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), min_size=1, max_size=9)
derandomized = settings(derandomize=True, deadline=None, max_examples=100)


def same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def direct_self_bleu(texts: list[str]) -> float:
    """Self-BLEU by its definition, in quadratic time, with products in place of logarithms."""

    def score(i: int) -> float:
        own, others = tokens[i], tokens[:i] + tokens[i + 1 :]
        product = 1.0
        for n in (1, 2, 3, 4):
            counts = [Counter(tuple(t[j : j + n]) for j in range(len(t) - n + 1)) for t in (own, *others)]
            found = sum(
                min(count, max(other[gram] for other in counts[1:])) for gram, count in counts[0].items()
            )
            if n == 1 and found == 0:
                return 0.0
            product *= (found or 0.1) / max(1, len(own) - n + 1)
        nearest = min((abs(len(t) - len(own)), len(t)) for t in others)[1]
        penalty = 1.0 if len(own) >= nearest else math.exp(1 - nearest / len(own))
        return penalty * product**0.25

    tokens = [t.split() for t in texts]
    return sum(score(i) for i in range(len(texts))) / len(texts)


def test_words_and_punctuation_come_apart() -> None:
    assert text.words("And Aaron's rod, budded:\n\n2") == ["and", "aaron's", "rod", ",", "budded", ":", "2"]
    assert text.words("'tis the kings' \u2014 so\u2019s") == [
        "'",
        "tis",
        "the",
        "kings",
        "'",
        "\u2014",
        "so\u2019s",
    ]
    assert text.words(" \t") == []
    assert text.ngrams("abc", 2) == [("a", "b"), ("b", "c")] and text.ngrams("abc", 4) == []


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["a b c"], 1.0),
        (["a b c", "a b"], 2 / 3),  # ab bc | ab
        (["A b", "a B"], 1 / 2),  # case does not count
        (["a a a a a"], 1 / 4),
        (["a b", "b a"], 1.0),  # bigrams do not cross texts
        (["a", "", "b"], math.nan),  # no bigram at all
        (["a", "a b"], 1.0),
    ],
)
def test_distinct_2_by_hand(texts: list[str], value: float) -> None:
    assert same(text.distinct_2(texts), value)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        (["a b c d e"], 0.0),
        (["a a a a a a"], 2 / 3),  # three times aaaa, two of them repeats
        (["a b c d a b c d"], 1 / 5),  # abcd bcda cdab dabc abcd
        (["a b c d", "a b c d"], 0.0),  # the same 4-gram in two texts is no repeat
        (["a a a a a", "a b c d e f g"], 1 / 6),  # pooled: 1 repeat of 2 and 0 of 4
        (["a b c", ""], math.nan),
        (["a b c", "a b c d"], 0.0),
    ],
)
def test_rep_4_by_hand(texts: list[str], value: float) -> None:
    assert same(text.rep_4(texts), value)


@pytest.mark.parametrize(
    ("texts", "value"),
    [
        ([VERSE, VERSE], 1.0),
        (["a b c d", "e f g h"], 0.0),
        (["", "a b"], 0.0),
        (["a b c d"], math.nan),  # nothing to compare with
        # Text 0 against text 1: precisions 4/5, 3/4, 2/3, 1/2. Text 1 against text 0: the same.
        (["a b c d e", "a b c d f"], (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25),
        # abcd is inside abcde: all precisions 1, too short by one word. The other way: 4/5, 3/4, 2/3, 1/2.
        (["a b c d", "a b c d e"], (math.exp(1 - 5 / 4) + 0.2**0.25) / 2),
        # Clipping: aaaa against a: 1/4 of the words; no n-gram of 2, 3, 4 matches (0.1 of 3, 2, 1). The other
        # way: the
        # word matches, no longer n-gram exists (0.1 of 1), too short by three words.
        (["a a a a", "a"], ((1 / 4 * 0.1 / 3 * 0.1 / 2 * 0.1) ** 0.25 + math.exp(1 - 4) * 0.1**0.75) / 2),
    ],
)
def test_self_bleu_4_by_hand(texts: list[str], value: float) -> None:
    assert text.self_bleu_4(texts) == pytest.approx(value, rel=1e-12, nan_ok=True)  # float64 rounding


def test_brevity_takes_the_closest_other_length_and_the_shorter_of_two() -> None:
    assert text._closest_other_lengths([5, 3, 7, 7, 20]) == [3, 5, 7, 7, 7]
    assert text._closest_other_lengths([4]) == [4]


def test_length_ratio_by_hand_and_its_argument_order() -> None:
    assert text.length_ratio(["a b c d"], ["a b"]) == 2.0
    assert text.length_ratio(["a b"], ["a b c d"]) == 0.5
    assert text.length_ratio(["a b"], ["a", "b b b"]) == 1.0  # means, so the numbers may differ
    assert text.length_ratio([""], ["a"]) == 0.0
    assert math.isnan(text.length_ratio(["a"], [""]))
    assert LengthRatio().compute(predictions=["a b c d"], references=["a b"]) == {"length_ratio": 2.0}


@derandomized
@given(some_texts.filter(lambda texts: len(texts) > 1))
def test_self_bleu_equals_its_definition(texts: list[str]) -> None:
    # float64 rounding
    assert text.self_bleu_4(texts) == pytest.approx(direct_self_bleu(texts), rel=1e-12, abs=1e-15)


def test_self_bleu_equals_its_definition_on_longer_texts() -> None:
    draw = random.Random(0)
    vocabulary = [f"w{int(draw.paretovariate(0.7))}" for _ in range(999)]
    texts = [" ".join(draw.choices(vocabulary, k=draw.randint(1, 40))) for _ in range(60)]
    assert text.self_bleu_4(texts) == pytest.approx(direct_self_bleu(texts), rel=1e-12)  # float64 rounding


@derandomized
@given(some_texts, st.randoms(use_true_random=False))
def test_order_and_case_do_not_matter(texts: list[str], shuffler: random.Random) -> None:
    others = [each.upper() for each in texts]
    shuffler.shuffle(others)
    for metric in PURE:
        assert same(metric(texts), metric(others)), metric.__name__


@derandomized
@given(some_texts)
def test_renaming_the_words_does_not_matter(texts: list[str]) -> None:
    renamed = [each.translate(str.maketrans("abcd", "wxyz")) for each in texts]
    for metric in PURE:
        assert same(metric(texts), metric(renamed)), metric.__name__


@derandomized
@given(some_texts)
def test_ranges_and_what_doubling_the_set_does(texts: list[str]) -> None:
    distinct, bleu, rep = (metric(texts) for metric in PURE)
    assert math.isnan(distinct) or 0 < distinct <= 1
    assert math.isnan(rep) or 0 <= rep < 1
    assert math.isnan(bleu) or 0 <= bleu <= 1
    assert same(text.distinct_2(texts * 2), distinct / 2)  # depends on N, as said
    assert same(text.rep_4(texts * 2), rep)  # does not
    assert text.length_ratio(texts * 2, ["a b"]) == text.length_ratio(texts, ["a b"])
    long = [each for each in texts if len(each.split()) >= 4]
    assert not long or text.self_bleu_4(long * 2) == pytest.approx(1.0, rel=1e-12)  # every text has its copy


def test_shuffled_words_look_more_diverse() -> None:
    """Why the direction is "none": nonsense has more distinct bigrams and a lower self-BLEU."""
    draw = random.Random(0)
    texts = [VERSE] * 20
    nonsense = [" ".join(draw.sample(each.split(), len(each.split()))) for each in texts]
    assert text.distinct_2(nonsense) > 3 * text.distinct_2(texts)
    assert text.self_bleu_4(nonsense) < 0.9 * text.self_bleu_4(texts)


@pytest.mark.parametrize("metric_class", CLASSES)
def test_used_as_an_evaluate_metric(metric_class: type[text.TextMetric]) -> None:
    metric = metric_class()
    texts, references = ["a b c d a b c d", "a b c"], ["a b c d", "e f"]
    pure = getattr(text, metric.name)
    value = pure(texts, references) if metric.paired else pure(texts)
    assert metric.compute(predictions=texts, references=references) == {metric.name: value}
    # a second time
    assert metric.compute(predictions=iter(texts), references=references) == {metric.name: value}
    for prediction, reference in zip(texts, references, strict=True):
        metric.add(**({"prediction": prediction} | ({"reference": reference} if metric.paired else {})))
    assert metric.compute() == {metric.name: value}
    loaded = pickle.loads(pickle.dumps(metric))
    assert loaded.compute(predictions=texts, references=references) == {metric.name: value}
    assert metric.description and metric.unit and metric.direction == "none" and metric.version == 1


def test_combined_and_saved_by_evaluate(tmp_path: Path) -> None:
    both = evaluate.combine([Distinct2(), LengthRatio()])
    values = both.compute(predictions=["a b c", "a b"], references=["a b c d", "a"])
    assert values == {"distinct_2": 2 / 3, "length_ratio": 1.0}
    evaluate.save(tmp_path / "values.json", **values)
    assert json.loads((tmp_path / "values.json").read_text(encoding="utf-8"))["distinct_2"] == 2 / 3


@pytest.mark.parametrize("metric_class", CLASSES)
@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        ([], "predictions is empty"),
        (None, "needs predictions"),
        ("one text", "not one text: 'one text'"),
        (["a", 7], "found int: 7"),
        (["a", None], "found NoneType: None"),
    ],
)
def test_bad_predictions_are_named_and_leave_the_metric_usable(
    metric_class: type[text.TextMetric], predictions: list[str] | None, message: str
) -> None:
    metric = metric_class()
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=["a", "b"])
    assert metric.name in metric.compute(predictions=["a b"], references=["a b"])


def test_length_ratio_needs_as_many_references() -> None:
    with pytest.raises(ValueError, match="needs references"):
        LengthRatio().compute(predictions=["a"])
    with pytest.raises(ValueError, match="references is empty"):
        LengthRatio().compute(predictions=["a"], references=[])
    with pytest.raises(ValueError, match="one reference per prediction, got 2 for 1"):
        LengthRatio().compute(predictions=["a"], references=["a", "b"])


@pytest.mark.parametrize("metric_class", CLASSES)
def test_nothing_is_written(
    metric_class: type[text.TextMetric], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    metric_class().compute(predictions=["a b"], references=["a"])
    assert not list(tmp_path.rglob("*"))


def test_the_package_does_not_import_evaluate() -> None:
    code = "import sys, bench.metrics; sys.exit('evaluate' in sys.modules or 'datasets' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# --- MAUVE, an optional extra -------------------------------------------------------------------------


def test_mauve_compares_the_evaluators_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for the package, which may not be installed: real first, then generated, and the
    package's own defaults.
    """
    from types import ModuleType, SimpleNamespace

    import torch

    from bench.interfaces import Features, SampleFeatures
    from domains.text.mauve import mauve

    asked = []
    module = ModuleType("mauve")
    module.compute_mauve = lambda p, q, verbose: asked.append((p, q)) or SimpleNamespace(mauve=0.25)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mauve", module)
    made, real = (SampleFeatures([], {"judge": Features(torch.full((3, 2), float(i)))}) for i in (1, 2))
    assert mauve(made, real) == 0.25 and asked[0][0][0, 0] == 2 and asked[0][1][0, 0] == 1


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from bench.registry import DOMAINS

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"mauve-text \(GPL-3\.0\): pip install 'gencompress\[mauve\]'"):
        DOMAINS.load("text")().optional_metric("mauve")
    assert DOMAINS.load("text")().optional_metric("nonsense") is None
