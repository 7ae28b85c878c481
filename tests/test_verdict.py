"""The sentence and its caveats, on made-up figures: what is claimed, what is not, and what is missing."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from made_up import RATES, model

from bench.report.caveats import BOTH, caveats, checks, pairs_not_shown
from bench.report.verdict import (
    NOTHING,
    ClaimContext,
    Support,
    answer,
    claim_context,
    pairs,
    sentence,
    support_of,
    with_secondary,
)
from bench.stats.comparison import Comparison, compare
from bench.stats.domain import domains_of
from bench.stats.intervals import Difference
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.scores import COUNTS_FROM, REGRESSED_FROM
from scripts.studies.simulation import Scenario, made_up_domain


def seeds(
    domain: str, *quality: float, diversity: float | tuple[float, ...] = 0.9, u: float = 0.9, size: str = "s"
) -> list[ModelLadder]:
    """A model for each retention of quality."""
    both = diversity if isinstance(diversity, tuple) else (diversity,) * len(quality)
    return [model(domain, f"{size}@{i}", q, d, u) for i, (q, d) in enumerate(zip(quality, both))]


GOOD, BAD = (
    seeds("good", 0.90, 0.91, 0.92, diversity=(0.9, 0.8, 0.7)),
    seeds("bad", 0.50, 0.51, 0.52, diversity=(0.8, 0.7, 0.9)),
)
BAD_AS_GOOD = [replace(m, domain="bad") for m in GOOD]
GOOD_AS_BAD = [replace(m, domain="good") for m in BAD]


def claims(text: str) -> set[tuple[str, str, str]]:
    """(better, worse, role) of what stands in bold."""
    found = re.findall(r"\*\*(\w+) is more compressible (.+?), in (.+?)\*\*", text)
    return {
        (a, b.removeprefix("than "), role)
        for a, others, roles in found
        for b in re.split(r", | and ", others)
        for role in roles.split(" and in ")
    }


def paragraph(now: ClaimContext, wider: ClaimContext) -> str:
    """All sentences, those of the first page and those of the details."""
    return answer(now) + caveats(now) + checks(now, wider)


def said(
    models: list[ModelLadder], missing: dict[str, list[str]] | None = None, second: Support | None = None
) -> str:
    missing = missing or {}
    return paragraph(
        claim_context(models, missing, second=second), claim_context(models, missing, REGRESSED_FROM, second)
    )


# --------------------------------------------------------------------------------------------------- sentence


def test_a_clear_win_is_claimed_with_its_figures() -> None:
    """C is (1 + R) / 2 over two halvings and R over two: the difference of .4 in R is .3 in C."""
    now = claim_context([*GOOD, *BAD], {})
    text = sentence(now)
    assert text.startswith(
        "**good is more compressible than bad, in quality**. Undecided with these models: bad and good, whose"
    )
    assert claims(text) == {("good", "bad", "quality")}
    (row, *_) = pairs(now)
    assert (
        row[:3] == ["good - bad", "quality", "+0.300"]
        and row[3].startswith("+0.2")
        and row[4] == "below 0.001"
        and row[-1] == "yes"
    )


def test_a_tie_is_said_with_how_much_may_hide() -> None:
    now = claim_context([*seeds("a", 0.7, 0.9), *seeds("b", 0.7, 0.8)], {})
    text = sentence(now)
    assert not claims(text)
    found = re.search(
        r"a and b, whose C may differ by up to (\d\.\d{3}) in quality "
        r"and by up to 0\.\d{3} in diversity \(95 %\)\.",
        text,
    )
    (row, _) = pairs(now)
    ends = [abs(float(end)) for end in row[3].split(" to ")]
    assert (
        found
        and float(found[1]) == max(ends)
        and row[2] == "+0.038"
        and row[3].startswith("-")
        and row[4] == "1.000"
        and row[-1] == "no"
    )


def test_exactly_the_same_figures_are_a_tie() -> None:
    now = claim_context([*seeds("a", 0.9, 0.9), *seeds("b", 0.9, 0.9)], {})
    assert not claims(sentence(now)) and [row[4] for row in pairs(now)] == ["1.000", "1.000"]


def test_a_single_training_seed_allows_no_test() -> None:
    now = claim_context([*seeds("a", 0.99), *seeds("b", 0.01, 0.02)], {})
    assert sentence(now) == (
        "No test is possible, because a domain has fewer than two training seeds: a and b in quality "
        "and in diversity."
    )
    assert [row[2:] for row in pairs(now)] == [["-"] * 6 + ["no test"]] * 2


def test_one_pair_is_shown_another_open_a_third_untested() -> None:
    text = sentence(claim_context([*GOOD, *BAD, *seeds("also", 0.90, 0.92, 0.91), *seeds("alone", 0.1)], {}))
    assert claims(text) == {("good", "bad", "quality"), ("also", "bad", "quality")}
    assert text.startswith("**") and text.index("Undecided") < text.index("No test is possible")
    untested = text.split("No test is possible")[1]
    assert all(
        untested.count(f"{' and '.join(sorted((name, 'alone')))} in quality and in diversity") == 1
        for name in ("good", "bad", "also")
    )


def test_claims_of_one_domain_are_said_together() -> None:
    clear = Difference(0.4, 0.3, 0.5, 1e-9)
    rows = [
        Comparison(role, "a", b, clear, 0.001)
        for role in ROLES
        for b in ("b", "c", "d")
        if (role, b) != ("diversity", "c")
    ]
    text = sentence(ClaimContext([], rows, {}))
    assert text == (
        "**a is more compressible than b and than d, in quality and in diversity**. **a is more "
        "compressible than c, in quality**."
    )
    assert claims(text) == {(row.a, row.b, row.role) for row in rows}


@pytest.mark.parametrize("p", [0.0499, 0.05, 0.0501, 0.5, 1.0, None])
def test_nothing_is_claimed_from_p_of_5_percent_on(p: float | None) -> None:
    # however clear its own interval and p look
    difference = Difference(0.4, 0.3, 0.5, 1e-9) if p is not None else None
    row = Comparison("quality", "a", "b", difference, p)
    assert bool(claims(sentence(ClaimContext([], [row], {})))) is (p is not None and p < 0.05)


def test_claims_are_those_of_the_adjusted_test_over_training_seeds() -> None:
    """Made-up studies with real noise: claimed is what has an adjusted p below .05; every other pair is
    said to be open.
    """
    total = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        made = [
            made_up_domain(
                Scenario("x", ("slope", "slope"), 0.02, 3, items=200, sampling_seeds=2), name, rng
            )[0]
            for name in ("cliff", "slope")
        ]
        made += [
            made_up_domain(
                Scenario("x", ("slope", "slope"), 0.02, 3, items=200, sampling_seeds=2), "near 1", rng
            )[0]
        ]
        now = claim_context([replace(m, domain=d.name.replace(" ", "_")) for d in made for m in d.models], {})
        text = sentence(now)
        shown = {(c.a, c.b, c.role) for c in now.comparisons if c.p is not None and c.p < 0.05}
        assert claims(text) == shown and len(now.comparisons) == 6
        assert all(
            f"{' and '.join(sorted((c.a, c.b)))}, whose C may differ" in text
            for c in now.comparisons
            if not c.shown
        )
        total += len(shown)
    assert 0 < total < 36


def test_with_fewer_than_two_domains_there_is_no_sentence() -> None:
    assert sentence(claim_context(GOOD, {})) == "" and sentence(claim_context([], {})) == ""
    assert said(GOOD).startswith(NOTHING) and said([]).startswith(NOTHING)


# -------------------------------------------------------------------------------------------------- paragraph


def test_the_order_of_seeds_within_a_size_changes_nothing() -> None:
    """Networks are exchangeable within their size: any numbering gives the same intervals and p, of what
    items share, too.
    """
    large, small = (0.60, 0.72, 0.81), (0.55, 0.58, 0.69)
    rng = np.random.default_rng(9)
    flags = {kept: rng.standard_normal((8, 2, 1000)) + rng.standard_normal(1000) for kept in (*large, *small)}

    def with_items(m: ModelLadder, kept: float) -> ModelLadder:
        both = {role: replace(outcome, influence=flags[kept]) for role, outcome in m.outcomes.items()}
        return replace(m, outcomes=both)

    found = []
    for order in ((0, 1, 2), (1, 2, 0), (2, 1, 0)):
        of = [small[i] for i in order]
        models = [
            *(with_items(m, kept) for m, kept in zip(seeds("a", *large), large)),
            *(with_items(m, kept) for m, kept in zip(seeds("a", *of, size="xs"), of)),
            *seeds("b", 0.1, 0.2, 0.3),
            *seeds("b", 0.1, 0.2, 0.2, size="xs"),
        ]
        now = claim_context(models, {})
        (one,) = (d for d in now.domains if d.name == "a")
        quality, rung = one.score("diversity"), one.retention("diversity", "int4")
        assert quality is not None and rung is not None and quality.estimate.known > 0
        ends = [*(quality.interval() or ()), *(rung.interval() or ())]
        found.append((pairs(now), pytest.approx(ends)))
        assert ends == found[0][1] and pairs(now) == found[0][0] and len(ends) == 4


def test_secondary_scores_outside_the_primary_interval_are_named_whatever_the_claims() -> None:
    now = claim_context([*GOOD, *BAD], {})
    kinder = [*GOOD, *(replace(m, outcomes=o.outcomes) for m, o in zip(BAD, seeds("bad", 0.70, 0.71, 0.72)))]
    text = paragraph(with_secondary(now, domains_of(kinder)), now)
    (said,) = (line for line in text.splitlines() if line.startswith("**The evaluator matters"))
    assert "bad in quality (0." in said and "good in quality" not in said
    assert "evaluator matters" not in paragraph(
        with_secondary(now, now.domains), now
    ) and "evaluator matters" not in paragraph(now, now)


def test_a_claim_is_looked_for_in_each_size_alone() -> None:
    """Small models of both domains are alike here: the claim rests on the larger ones, and that is said,
    with what the small ones find.
    """
    small = [*seeds("good", 0.70, 0.72, 0.71, size="xs"), *seeds("bad", 0.71, 0.70, 0.73, size="xs")]
    large = [*seeds("good", 0.90, 0.91, 0.92), *seeds("bad", 0.50, 0.51, 0.52)]
    now = replace(
        claim_context([*large, *small], {}),
        alone={"s": claim_context(large, {}), "xs": claim_context(small, {})},
    )
    text = paragraph(now, now)
    assert "Size s alone shows all of this. Size xs alone does not show good ahead of bad in quality." in text
    (row,) = (row for row in pairs(now.alone["xs"]) if row[1] == "quality")
    assert pairs_not_shown(now) == [["xs", *row]]
    assert row[0] == "bad - good" and float(row[2]) > 0
    assert "Each size alone" not in paragraph(replace(now, alone={}), now)
    assert "Each size alone" not in paragraph(replace(claim_context(small, {}), alone=now.alone), now), (
        "nothing is claimed"
    )


def test_a_size_in_no_mean_says_what_it_finds_alone() -> None:
    """Two domains of three have a large size, and there the order is the other one."""
    large = [*seeds("good", 0.50, 0.51, 0.52, size="m"), *seeds("bad", 0.90, 0.91, 0.92, size="m")]
    models = [*GOOD, *BAD, *seeds("third", 0.1, 0.11, 0.12), *large]
    now = replace(claim_context(models, {}), outside={"m": claim_context(large, {})})
    assert ("good", "bad", "quality") in claims(sentence(now)), "the size changes no claim of the averages"
    (said,) = (line for line in paragraph(now, now).splitlines() if line.startswith("**Size m**"))
    assert "(networks: bad 3, good 3). Alone: **bad is more compressible than good, in quality**." in said


def test_a_size_in_no_mean_with_one_network_each_is_not_tested() -> None:
    large = [*seeds("good", 0.5, size="m"), *seeds("bad", 0.9, size="m")]
    now = replace(claim_context([*GOOD, *BAD, *large], {}), outside={"m": claim_context(large, {})})
    (said,) = (line for line in paragraph(now, now).splitlines() if line.startswith("**Size m**"))
    assert "(networks: bad 1, good 1). Alone: No test is possible" in said and not claims(said)


def test_what_one_size_does_not_show_is_named_beside_what_it_does() -> None:
    """Of three claims the small models show two; and that claims are about averages over sizes is said
    first.
    """
    small = [
        *seeds("good", 0.70, 0.72, 0.71, size="xs"),
        *seeds("bad", 0.71, 0.70, 0.73, size="xs"),
        *seeds("worse", 0.1, 0.11, 0.1, size="xs"),
    ]
    large = [
        *seeds("good", 0.90, 0.91, 0.92),
        *seeds("bad", 0.50, 0.51, 0.52),
        *seeds("worse", 0.1, 0.11, 0.1),
    ]
    now = replace(claim_context([*large, *small], {}), alone={"xs": claim_context(small, {})})
    text = paragraph(now, now)
    assert text.startswith(
        "On the ladder, averaged over sizes s and xs, **good is more compressible than bad and than worse, "
        "in quality**. **bad is "
    )
    assert "Size xs alone does not show good ahead of bad in quality." in text
    assert sentence(now.alone["xs"]).startswith("**"), "of a single size nothing is averaged"


def test_of_many_claims_it_says_how_many_each_size_shows() -> None:
    """Six pairs of four domains are claimed. The small models of two of them are alike."""
    last = [("bad", 0.50), ("worse", 0.30), ("worst", 0.1)]
    large = [*seeds("good", 0.90, 0.91, 0.92), *(m for d, v in last for m in seeds(d, v, v + 0.01, v + 0.02))]
    small = [*seeds("good", 0.49, 0.51, 0.50, size="xs")]
    small += [m for d, v in last for m in seeds(d, v, v + 0.01, v + 0.02, size="xs")]
    alone = {"s": claim_context(large, {}), "xs": claim_context(small, {})}
    now = replace(claim_context([*large, *small], {}), alone=alone)
    assert len(claims(sentence(now))) == 6
    text = paragraph(now, now)
    assert (
        "Of these 6 claims, each of one pair and role, size s alone shows 6 and size xs alone shows 5."
        in text
    )
    (row,) = pairs_not_shown(now)
    assert row[0] == "xs" and set(row[1].split(" - ")) == {"good", "bad"} and row[2] == "quality"


def test_it_says_how_sure_and_what_it_cannot_show() -> None:
    text = said([*GOOD, *BAD])
    assert (
        "Models compared: in each domain 3 training seeds of size s." in text
        and "adjusted p of a claim is" in text
    )
    assert "**What this cannot show.** Domain, architecture, normalization" in text
    assert "Each role has one evaluator" in text
    assert (
        f"A threshold of U = {REGRESSED_FROM} instead of {COUNTS_FROM} adds no model: the conclusions are "
        f"the same."
    ) in text


def test_two_sizes_and_none() -> None:
    both = [
        *GOOD,
        *seeds("good", 0.8, 0.8, 0.8, size="xs"),
        *BAD,
        *seeds("bad", 0.8, 0.8, 0.8, size="xs"),
        *seeds("poor", 0.8, u=0.1),
    ]
    assert (
        "bad 3 training seeds of sizes s and xs, good 3 training seeds of sizes s and xs, poor none."
        in said(both)
    )


def test_models_that_are_not_measured_are_named() -> None:
    text = said([*GOOD, *BAD], {"good": ["s@3", "m@0"], "bad": []})
    assert "Not measured yet: good s@3, m@0." in text


def test_a_missing_rung_is_named_and_that_model_takes_no_part() -> None:
    text = said([*GOOD, model("good", "s@3", 0.0, missing=("int4", "binary")), *BAD])
    assert "good s@3 has no score (rungs not measured: int4, binary)." in text
    assert (
        claims(text) == {("good", "bad", "quality")} and "in each domain 3 training seeds of size s" in text
    )


def test_a_model_that_is_out_is_said_to_be() -> None:
    """Its files do not reach a sixteenth: nothing is claimed about that domain, and the others are
    compared as before.
    """
    out = [replace(m, domain="short", rates=np.array(RATES) * 0.8) for m in BAD]
    text = said([*GOOD, *BAD, *out])
    for m in out:
        assert f"short {m.model} has no score (its files do not reach a sixteenth)." in text
    assert claims(text) == {("good", "bad", "quality")} and "and short" not in text


def test_a_size_that_is_not_known_reaches_nothing() -> None:
    nowhere = replace(BAD[0], domain="odd", rates=np.array([*RATES[:7], np.nan]))
    assert "odd s@0 has no score" in said([*GOOD, *BAD, nowhere])


def test_a_baseline_near_the_floor_is_a_reason() -> None:
    flat = replace(model("flat", "s@0"), undefined=("int8", "int6"), u={"quality": 0.01, "diversity": 0.9})
    assert (
        "flat s@0 has no score (its baseline is too close to the floor for a retention: int8, int6)."
        in said([*GOOD, *BAD, flat])
    )


# ------------------------------------------------------------------------------------- with a wider threshold


def test_a_wider_threshold_that_changes_nothing() -> None:
    more = [replace(model("good", "s@3", 0.93, 0.8), u=dict.fromkeys(ROLES, 0.3))]
    text = said([*GOOD, *BAD, *more])
    assert "With a threshold of U = 0.25 (good s@3) the conclusions are the same." in text


def test_a_wider_threshold_that_changes_the_conclusion_shows_the_other_sentence() -> None:
    poor = [replace(model("good", "s@3", 0.0, 0.8), u=dict.fromkeys(ROLES, 0.3))]
    first, second = said([*GOOD, *BAD, *poor]).split(
        "With a threshold of U = 0.25 (good s@3) the conclusion is: "
    )
    assert claims(first) and not claims(second) and "Undecided with these models: bad and good" in second


def test_a_domain_with_sizes_of_its_own_is_named_and_changes_no_conclusion() -> None:
    other = seeds("third", 0.5, 0.5, u=0.3, size="own")
    text = said([*GOOD, *BAD, *other])
    assert "adds no model" not in text
    assert "With a threshold of U = 0.25 (third own@0, third own@1) the conclusions are the same." in text
    strong = said([*GOOD, *BAD, *seeds("third", 0.5, 0.5, size="own")])
    assert "(not compared: no size in common with the others)" in strong and claims(strong) == claims(text)


def test_why_a_model_is_in_no_mean_is_said() -> None:
    weak, lonely = seeds("good", 0.9, 0.9, u=0.1, size="xs")[:1], seeds("good", 0.9, 0.9, size="m")[:1]
    text = said([*GOOD, *BAD, *weak, *lonely])
    assert "good xs@0 is not ranked, because its U is below 0.5." in text
    assert "Not ranked, because not every compared domain and training seed has their size: good m@0." in text


# ------------------------------------------------------------------------------------------ second evaluators


def by_secondary(*models: ModelLadder) -> Support:
    return support_of(compare(domains_of(models, threshold=-np.inf)))


ALONE, CONTRARY = "only the primary evaluators show it", "the secondary evaluators show the opposite"


def quality_row(first: list[ModelLadder], second: Support) -> list[str]:
    return next(row for row in pairs(claim_context(first, {}, second=second)) if row[1] == "quality")


def test_what_primary_and_secondary_evaluators_show_is_claimed() -> None:
    second = by_secondary(*GOOD, *BAD)
    text = said([*GOOD, *BAD], second=second)
    assert claims(text) == {("good", "bad", "quality")} and "Not claimed" not in text
    row = quality_row([*GOOD, *BAD], second)
    assert row[5] == "+0.300" and row[7:] == ["below 0.001", "yes"]
    assert "Each role has one evaluator" not in text and BOTH in text


@pytest.mark.parametrize(
    ("second", "figures", "why", "claimed"),
    [
        (
            by_secondary(*BAD_AS_GOOD, *GOOD_AS_BAD),
            ["-0.300", "below 0.001"],
            CONTRARY,
            "no: evaluators disagree",
        ),
        (
            by_secondary(*seeds("good", 0.5, 0.9), *seeds("bad", 0.5, 0.8)),
            ["+0.038", "1.000"],
            ALONE,
            "no: primary evaluators alone",
        ),
        (
            by_secondary(*seeds("good", 0.9), *seeds("bad", 0.5)),
            ["-", "-"],
            ALONE,
            "no: primary evaluators alone",
        ),
        (by_secondary(*GOOD), ["-", "-"], ALONE, "no: primary evaluators alone"),
    ],
)
def test_what_only_the_primary_evaluators_show_is_not_claimed(
    second: Support, figures: list[str], why: str, claimed: str
) -> None:
    text = said([*GOOD, *BAD], second=second)
    assert not claims(text) and text.count("Not claimed") == 1
    assert f"Not claimed, because {why}: good ahead of bad in quality." in text
    row = quality_row([*GOOD, *BAD], second)
    assert [row[5], row[7]] == figures and row[8] == claimed and row[2] == "+0.300"


def test_of_many_pairs_the_evaluators_are_counted_and_their_differences_named() -> None:
    """The primary evaluators show `a` ahead of four others that are alike. The secondary ones agree on two of
    them, show the opposite of one and nothing of another; and they alone show what follows from these.
    """
    alike = 0.1, 0.5, 0.9
    first = [*seeds("a", 0.90, 0.91, 0.92)]
    first += [m for name in "bcde" for m in seeds(name, 0.1, 0.11, 0.12)]
    second = [*seeds("a", 0.90, 0.91, 0.92), *seeds("b", 0.3, 0.31, 0.32), *seeds("c", 0.3, 0.31, 0.32)]
    second += [*seeds("d", 1.4, 1.41, 1.42), *seeds("e", *alike)]
    text = said(first, second=by_secondary(*second))
    assert claims(text) == {("a", "b", "quality"), ("a", "c", "quality")}
    assert (
        "Of all 20 comparisons (two domains in one role), 2 are claimed and 14 are shown by neither" in text
    )
    assert "The secondary evaluators show the opposite of a ahead of d in quality." in text
    assert "The primary evaluators alone show a ahead of e in quality." in text
    assert "The secondary evaluators alone show d ahead of b and c in quality." in text
    assert "Undecided" not in text and "Not claimed" not in text


def test_the_secondary_interval_is_of_the_same_difference() -> None:
    """Where they put the other domain first, its sign and ends are turned round."""
    straight, turned = (
        quality_row([*GOOD, *BAD], by_secondary(*GOOD, *BAD)),
        quality_row([*GOOD, *BAD], by_secondary(*BAD_AS_GOOD, *GOOD_AS_BAD)),
    )
    low, high = straight[6].split(" to ")
    assert straight[3] == straight[6] and turned[6] == f"-{high[1:]} to -{low[1:]}"


def test_what_only_the_secondary_evaluators_show_stays_undecided() -> None:
    first = [*seeds("good", 0.7, 0.9), *seeds("bad", 0.7, 0.8)]
    text = said(first, second=by_secondary(*GOOD, *BAD))
    assert not claims(text) and "Undecided with these models: bad and good" in text
    assert "Not claimed, because only the secondary evaluators show it: good ahead of bad in quality." in text
    assert quality_row(first, by_secondary(*GOOD, *BAD))[-1] == "no: secondary evaluators alone"
    assert "Not claimed" not in said(
        first, second=by_secondary(*seeds("good", 0.9, 0.5), *seeds("bad", 0.5, 0.8))
    )


def test_without_a_second_evaluator_that_is_said_once() -> None:
    text = said([*GOOD, *BAD])
    assert text.count("another one may disagree") == 1 and "secondary evaluators" not in text
