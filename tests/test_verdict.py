"""The sentence and its paragraph, on made-up figures: what is claimed, what is not, and what is missing."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from made_up import RATES, model

from bench.analysis.intervals import Difference
from bench.analysis.measured import ROLES, Measured
from bench.analysis.scores import COUNTS_FROM, REGRESSED_FROM, Comparison, compare, domains_of
from bench.analysis.simulation import Scenario, made_up_domain
from bench.analysis.verdict import CANNOT, NOTHING, TWO_JUDGES, Situation, Support, paragraph, sentence, situation, support_of


def seeds(domain: str, *quality: float, diversity: float | tuple[float, ...] = 0.9, u: float = 0.9, size: str = "s") -> list[Measured]:
    """A model for each retention of quality."""
    both = diversity if isinstance(diversity, tuple) else (diversity,) * len(quality)
    return [model(domain, f"{size}@{i}", q, d, u) for i, (q, d) in enumerate(zip(quality, both))]


GOOD, BAD = seeds("good", 0.90, 0.91, 0.92, diversity=(0.9, 0.8, 0.7)), seeds("bad", 0.50, 0.51, 0.52, diversity=(0.8, 0.7, 0.9))
BAD_AS_GOOD = [replace(m, domain="bad") for m in GOOD]
GOOD_AS_BAD = [replace(m, domain="good") for m in BAD]
CLAIM = re.compile(r"\*\*(\w+) is more compressible than (\w+) in (quality|diversity)\*\*")


def said(models: list[Measured], missing: dict[str, list[str]] | None = None, second: Support | None = None) -> str:
    missing = missing or {}
    return paragraph(situation(models, missing, second=second), situation(models, missing, REGRESSED_FROM, second))


# ------------------------------------------------------------------------------------------------------------ sentence


def test_a_clear_win_is_claimed_with_its_figures() -> None:
    """C is (1 + R) / 2 over two halvings and R over two: the difference of .4 in R is .3 in C."""
    text = sentence(situation([*GOOD, *BAD], {}))
    assert CLAIM.findall(text) == [("good", "bad", "quality")]
    assert text.startswith("**good is more compressible than bad in quality** (C differs by 0.300, 95 % interval 0.2")
    assert re.search(r"adjusted p below 0\.001\)\. Not distinguishable in diversity with these models: ", text)


def test_a_tie_is_said_with_how_much_may_hide() -> None:
    text = sentence(situation([*seeds("a", 0.7, 0.9), *seeds("b", 0.7, 0.8)], {}))
    assert not CLAIM.search(text) and text.count("Not distinguishable in") == 2
    found = re.search(
        r"a and b, whose C differs by 0\.038 here \(95 % interval of this pair alone (-\d\.\d{3}) to (\+\d\.\d{3}); adjusted p 1\.000", text
    )
    assert found and float(found[1]) < 0 < float(found[2])
    assert "quality with these models" in text and "diversity with these models" in text


def test_exactly_the_same_figures_are_a_tie() -> None:
    text = sentence(situation([*seeds("a", 0.9, 0.9), *seeds("b", 0.9, 0.9)], {}))
    assert not CLAIM.search(text) and "adjusted p 1.000" in text


def test_a_single_training_seed_allows_no_test() -> None:
    text = sentence(situation([*seeds("a", 0.99), *seeds("b", 0.01, 0.02)], {}))
    assert not CLAIM.search(text) and "Not distinguishable" not in text
    assert "No test is possible in quality, since a domain has fewer than two training seeds: a and b." in text


def test_one_pair_is_shown_another_open_a_third_untested() -> None:
    text = sentence(situation([*GOOD, *BAD, *seeds("also", 0.90, 0.92, 0.91), *seeds("alone", 0.1)], {}))
    assert CLAIM.findall(text) in (
        [("good", "bad", "quality"), ("also", "bad", "quality")],
        [("also", "bad", "quality"), ("good", "bad", "quality")],
    )
    assert text.startswith("**") and text.index("Not distinguishable in quality") < text.index("No test is possible in quality")
    untested = text.split("No test is possible in quality")[1].split("No test is possible in diversity")[0]
    assert all(untested.count(f"{name} and alone") == 1 for name in ("good", "bad", "also"))


@pytest.mark.parametrize("p", [0.0499, 0.05, 0.0501, 0.5, 1.0, None])
def test_nothing_is_claimed_from_p_of_5_percent_on(p: float | None) -> None:
    difference = Difference(0.4, 0.3, 0.5, 1e-9) if p is not None else None  # however clear its own interval and p look
    row = Comparison("quality", "a", "b", difference, p)
    assert bool(CLAIM.search(sentence(Situation([], [row], {})))) is (p is not None and p < 0.05)


def test_claims_are_those_of_the_adjusted_test_over_training_seeds() -> None:
    """Made-up studies with real noise: claimed is what has an adjusted p below .05; every other pair is said to be open."""
    claims = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        made = [
            made_up_domain(Scenario("x", ("slope", "slope"), 0.02, 3, items=200, sampling_seeds=2), name, rng)[0]
            for name in ("cliff", "slope")
        ]
        made += [made_up_domain(Scenario("x", ("slope", "slope"), 0.02, 3, items=200, sampling_seeds=2), "near 1", rng)[0]]
        now = situation([replace(m, domain=d.name.replace(" ", "_")) for d in made for m in d.models], {})
        text = sentence(now)
        shown = {(c.a, c.b, c.role) for c in now.comparisons if c.p is not None and c.p < 0.05}
        assert set(CLAIM.findall(text)) == shown and len(now.comparisons) == 6
        assert all(f"{c.a} and {c.b}, whose C differs by" in text for c in now.comparisons if not c.shown)
        claims += len(shown)
    assert 0 < claims < 36


def test_with_fewer_than_two_domains_there_is_no_sentence() -> None:
    assert sentence(situation(GOOD, {})) == "" and sentence(situation([], {})) == ""
    assert said(GOOD).startswith(NOTHING) and said([]).startswith(NOTHING)


# ----------------------------------------------------------------------------------------------------------- paragraph


def test_it_says_how_sure_and_what_it_cannot_show() -> None:
    text = said([*GOOD, *BAD])
    assert "Models compared: bad 3 training seeds of size s, good 3 training seeds of size s." in text
    assert text.rstrip().endswith(CANNOT) and "One evaluator a role has judged" in text
    assert f"No further model would count if U of {REGRESSED_FROM} were enough instead of {COUNTS_FROM}" in text


def test_two_sizes_and_none() -> None:
    both = [*GOOD, *seeds("good", 0.8, 0.8, 0.8, size="xs"), *BAD, *seeds("bad", 0.8, 0.8, 0.8, size="xs"), *seeds("poor", 0.8, u=0.1)]
    assert "bad 3 training seeds of sizes s and xs, good 3 training seeds of sizes s and xs, poor none." in said(both)


def test_models_that_are_not_measured_are_named() -> None:
    text = said([*GOOD, *BAD], {"good": ["s@3", "m@0"], "bad": []})
    assert "Not measured yet: good s@3, m@0." in text


def test_a_missing_rung_is_named_and_that_model_takes_no_part() -> None:
    text = said([*GOOD, model("good", "s@3", 0.0, missing=("int4", "binary")), *BAD])
    assert "good s@3 has no score (rungs not measured: int4, binary)." in text
    assert CLAIM.findall(text) == [("good", "bad", "quality")] and "good 3 training seeds" in text


def test_a_model_that_is_out_is_said_to_be() -> None:
    """Its files do not reach a sixteenth: nothing is claimed about that domain, and the others are compared as before."""
    out = [replace(m, domain="short", rates=np.array(RATES) * 0.8) for m in BAD]
    text = said([*GOOD, *BAD, *out])
    for m in out:
        assert f"short {m.model} has no score (it is out, since its files do not reach a sixteenth)." in text
    assert CLAIM.findall(text) == [("good", "bad", "quality")] and "and short" not in text


def test_a_size_that_is_not_known_reaches_nothing() -> None:
    nowhere = replace(BAD[0], domain="odd", rates=np.array([*RATES[:7], np.nan]))
    assert "odd s@0 has no score" in said([*GOOD, *BAD, nowhere])


def test_a_baseline_near_the_floor_is_a_reason() -> None:
    flat = replace(model("flat", "s@0"), undefined=("int8", "int6"), u={"quality": 0.01, "diversity": 0.9})
    assert "flat s@0 has no score (its baseline is too near the floor for a retention: int8, int6)." in said([*GOOD, *BAD, flat])


# ------------------------------------------------------------------------------------------------- with a wider threshold


def test_a_wider_threshold_that_changes_nothing() -> None:
    more = [replace(model("good", "s@3", 0.93, 0.8), u=dict.fromkeys(ROLES, 0.3))]
    text = said([*GOOD, *BAD, *more])
    assert "With models of U from 0.25 as well (good s@3) the conclusions stay the same." in text


def test_a_wider_threshold_that_changes_the_conclusion_shows_the_other_sentence() -> None:
    poor = [replace(model("good", "s@3", 0.0, 0.8), u=dict.fromkeys(ROLES, 0.3))]
    first, second = said([*GOOD, *BAD, *poor]).split("With models of U from 0.25 as well (good s@3) it reads: ")
    assert CLAIM.search(first) and not CLAIM.search(second) and "Not distinguishable in quality" in second


def test_a_domain_with_sizes_of_its_own_is_named_and_changes_no_conclusion() -> None:
    other = seeds("third", 0.5, 0.5, u=0.3, size="own")
    text = said([*GOOD, *BAD, *other])
    assert "No further model would count" not in text
    assert "With models of U from 0.25 as well (third own@0, third own@1) the conclusions stay the same." in text
    strong = said([*GOOD, *BAD, *seeds("third", 0.5, 0.5, size="own")])
    assert "(no size in common with the others: not compared)" in strong and CLAIM.findall(strong) == CLAIM.findall(text)


def test_why_a_model_is_in_no_mean_is_said() -> None:
    weak, lonely = seeds("good", 0.9, 0.9, u=0.1, size="xs")[:1], seeds("good", 0.9, 0.9, size="m")[:1]
    text = said([*GOOD, *BAD, *weak, *lonely])
    assert "good xs@0 does not count, since its U is below 0.5." in text
    assert "good m@0 is in no mean, since not every compared domain and training seed has its size." in text


# ------------------------------------------------------------------------------------------------------ second evaluators


def by_second_judges(*models: Measured) -> Support:
    return support_of(compare(domains_of(models, threshold=-np.inf)))


def test_what_both_judges_show_is_claimed() -> None:
    text = said([*GOOD, *BAD], second=by_second_judges(*GOOD, *BAD))
    assert CLAIM.findall(text) == [("good", "bad", "quality")]
    assert "; by the second judges +0.300, adjusted p below 0.001)" in text
    assert "One evaluator a role has judged" not in text and TWO_JUDGES in text


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (by_second_judges(*BAD_AS_GOOD, *GOOD_AS_BAD), "by the second judges -0.300, adjusted p below 0.001"),  # the other way round
        (by_second_judges(*seeds("good", 0.5, 0.9), *seeds("bad", 0.5, 0.8)), "by the second judges +0.038, adjusted p 1.000"),
        (by_second_judges(*seeds("good", 0.9), *seeds("bad", 0.5)), "the second judges allow no test"),
        (by_second_judges(*GOOD), "not compared by the second judges"),
    ],
)
def test_what_only_the_first_judges_show_is_not_claimed(second: Support, words: str) -> None:
    text = said([*GOOD, *BAD], second=second)
    assert not CLAIM.search(text)
    assert re.search(r"Not claimed, since only the first judges show a difference: good beside bad in quality \(C differs by 0\.300,", text)
    assert words in text


def test_what_only_the_second_judges_show_stays_undecided() -> None:
    text = said([*seeds("good", 0.7, 0.9), *seeds("bad", 0.7, 0.8)], second=by_second_judges(*GOOD, *BAD))
    assert not CLAIM.search(text) and "Not distinguishable in quality with these models: good and bad" in text
    assert "though the second judges do tell them apart: good ahead by 0.300, adjusted p below 0.001" in text
    assert "do tell them apart" not in said(
        seeds("good", 0.7, 0.9) + seeds("bad", 0.7, 0.8), second=by_second_judges(*seeds("good", 0.9, 0.5), *seeds("bad", 0.5, 0.8))
    )


def test_without_a_second_evaluator_that_is_said_once() -> None:
    text = said([*GOOD, *BAD])
    assert text.count("a second one may disagree") == 1 and "second judges" not in text
