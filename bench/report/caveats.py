"""Says how certain the sentence of `bench.report.verdict` is, and whether other choices give another one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from bench.report.verdict import (
    MOST_PAIRS,
    NOTHING,
    ClaimContext,
    answer,
    p_text,
    pair_of,
    pairs,
    sentence,
    support_of,
    together,
)
from bench.stats.comparison import Comparison
from bench.stats.compressibility import FULL_RANGE
from bench.stats.domain import Domain
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.scores import COUNTS_FROM, REGRESSED_FROM, good_enough
from bench.util.markup import as_text, joined


def caveats(now: ClaimContext, crossed: bool = False) -> str:
    """How certain the sentence is, and what the data cannot show.

    crossed: some domains share their data and some their network, and the page contrasts them.
    """
    cannot = CANNOT.format(together=IN_SOME_ROWS if crossed else IN_ALL_ROWS)
    return _paragraphs([_size_by_size(now), _how_sure(now), cannot])


def checks(now: ClaimContext, wider: ClaimContext) -> str:
    """Whether other choices give another answer. `wider` also ranks models whose U is at least 0.25."""
    return _paragraphs(
        [
            *_outside(now),
            _evaluators_apart(now),
            _with_and_without(now, wider),
            _gaps(now),
        ]
    )


def _paragraphs(paragraphs: Sequence[str]) -> str:
    return "\n\n".join(filter(None, paragraphs)) + "\n"


BOTH = " A difference is claimed only if the secondary evaluators show it too."
IN_ALL_ROWS = "Domain, architecture, normalization, training recipe and evaluator change together."
IN_SOME_ROWS = """\
Rows with the same data differ in network, normalization, recipe and sampler. Rows with the same network
differ in data, evaluators and length of samples. Other rows differ in all of these."""
CANNOT = """\
**What this cannot show.** {together}
A difference between two rows is a difference between these models as they were trained. It is not a law of
images or of text. All models are small."""


def _size_by_size(now: ClaimContext) -> str:
    """The claims that each size alone does not show; of many claims, how many it shows.

    Empty without claims, or with one size.
    """
    lost = lost_by_size(now)
    if not lost:
        return ""
    claims = [c for c in now.comparisons if now.claimed(c)]
    if len({(c.a, c.b) for c in claims}) > MOST_PAIRS:
        shown = [
            f"size {as_text(size)} alone shows {len(claims) - len(found)}" for size, found in lost.items()
        ]
        said = f"Of these {len(claims)} claims, each of one pair and role, {joined(shown)}."
    else:
        said = " ".join(
            f"Size {as_text(size)} alone {_does_not_show(found)}." for size, found in lost.items()
        )
    return f"**Each size alone** has fewer models. {said}"


def _does_not_show(lost: Sequence[Comparison]) -> str:
    if not lost:
        return "shows all of this"
    merged = together([(as_text(c.a), as_text(c.b), c.role) for c in lost])
    said = [f"{a} ahead of {joined(others)} in {' or '.join(roles)}" for a, others, roles in merged]
    return f"does not show {', or '.join(said)}"


def lost_by_size(now: ClaimContext) -> dict[str, list[Comparison]]:
    """Size -> the claims that this size alone does not show. Empty without claims, or with one size."""
    claims = [c for c in now.comparisons if now.claimed(c)]
    found: dict[str, list[Comparison]] = {}
    for size, one in now.alone.items() if claims else ():
        shown = {(c.role, c.a, c.b) for c in one.comparisons if one.claimed(c)}
        found[size] = [c for c in claims if (c.role, c.a, c.b) not in shown]
    return found


def pairs_not_shown(now: ClaimContext) -> list[list[str]]:
    """One line for each claim and each size that alone does not show it: the size, then what it finds in the
    order of `PAIR_HEADERS`.
    """
    lines = []
    for size, lost in lost_by_size(now).items():
        one = now.alone[size]
        own = support_of(one.comparisons)
        found = [own[pair_of(c)] for c in lost if pair_of(c) in own]
        lines += [[as_text(size), *line] for line in pairs(replace(one, comparisons=found))]
    return lines


def _outside(now: ClaimContext) -> list[str]:
    """What each size finds that is in no average of all domains."""
    lines = []
    for size, one in now.outside.items():
        networks = ", ".join(f"{as_text(d.name)} {len(d.units)}" for d in one.domains)
        lines.append(
            f"**Size {as_text(size)}** is in no average of all domains, because not every compared domain "
            f"has it for each training seed (networks: {networks}). Alone: {answer(one).strip()}"
        )
        if wider := now.including.get(size):
            lines.append(
                f"**Size {as_text(size)} in averages of the domains that have it.** {answer(wider).strip()}"
            )
    return lines


def _evaluators_apart(now: ClaimContext) -> str:
    """Domains whose C by the secondary evaluators lies outside the primary interval."""
    found = []
    for role, (d, other) in itertools.product(ROLES, now.by_both()):
        first, second = d.score(role), other.score(role)
        interval = first.interval() if first is not None else None
        if first is None or second is None or interval is None:
            continue
        if not interval[0] <= second.value <= interval[1]:
            found.append(
                f"{as_text(d.name)} in {role} ({first.value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], "
                f"secondary {second.value:.3f})"
            )
    if not found:
        return ""
    return (
        "**The evaluator matters too.** The intervals cover training seeds, not evaluators. "
        "C by the secondary evaluators lies outside: "
        f"{'; '.join(found)}."
    )


def _how_sure(now: ClaimContext) -> str:
    counts = {d.name: _count(d) for d in now.domains}
    alike = len(set(counts.values())) == 1 < len(counts)
    models = ", ".join(f"{as_text(name)} {said}" for name, said in counts.items())
    compared = f"in each domain {counts[now.domains[0].name]}" if alike else models
    tail = BOTH if now.second is not None else " Each role has one evaluator; another one may disagree."
    return (
        f"**How sure.** Models compared: {compared}. "
        "The tests are Welch's, over training seeds, adjusted for all comparisons "
        f"(Holm). {_largest_p(now)}With few seeds the intervals are wide, and small p rest on normality "
        f"([statistics.md](docs/statistics.md)).{tail}"
    )


def _largest_p(now: ClaimContext) -> str:
    """The weakest evidence behind a claim, over both kinds of evaluators; empty without claims."""
    tests = [test for c in now.comparisons if now.claimed(c) for test in (c, now.theirs(c))]
    found = [test.p for test in tests if test is not None and test.p is not None]
    return f"The largest adjusted p of a claim is {p_text(max(found))}. " if found else ""


def _count(domain: Domain) -> str:
    seeds = len(domain.units)
    if not seeds:
        return "none"
    sizes = [as_text(m.size) for m in domain.units[0]]
    of = f"size{'s' if len(sizes) > 1 else ''} {joined(sizes)}"
    apart = "" if domain.compared else " (not compared: no size in common with the others)"
    return f"{seeds} training seed{'s' if seeds > 1 else ''} of {of}{apart}"


def _with_and_without(now: ClaimContext, wider: ClaimContext) -> str:
    added = [_named(d, m) for d in wider.domains for m in d.averaged if not _counted(now, m)]
    # then other sizes are compared
    fewer = any(not _counted(wider, m) for d in now.domains for m in d.averaged)
    same = now.conclusions() == wider.conclusions()
    if not added and not fewer and same:
        return (
            f"A threshold of U = {REGRESSED_FROM} instead of {COUNTS_FROM} adds no model: the "
            f"conclusions are the same."
        )
    verdict = "the conclusions are the same." if same else f"the conclusion is: {sentence(wider) or NOTHING}"
    names = f" ({', '.join(sorted(added))})" if added else ""
    return f"With a threshold of U = {REGRESSED_FROM}{names} {verdict}"


def _named(domain: Domain, m: ModelLadder) -> str:
    return f"{as_text(domain.name)} {as_text(m.model)}"


def _counted(now: ClaimContext, m: ModelLadder) -> bool:
    return any(one is m for d in now.domains for one in d.averaged)


def why_no_score(m: ModelLadder) -> list[str]:
    """Why a model has no C. Empty where it has one."""
    reasons = []
    if m.missing:
        reasons.append(f"rungs not measured: {', '.join(m.missing)}")
    if m.undefined:
        reasons.append(f"its baseline is too close to the floor for a retention: {', '.join(m.undefined)}")
    if m.whole and not m.rates.max() >= FULL_RANGE[1]:
        reasons.append("its files do not reach a sixteenth")
    return reasons


def _gaps(now: ClaimContext) -> str:
    """Models that are not ranked or not measured. They never count as zero."""
    found = [
        f"{as_text(d.name)} {', '.join(map(as_text, names))}"
        for d in now.domains
        if (names := now.missing.get(d.name))
    ]
    parts = [f"Not measured yet: {'; '.join(found)}."] if found else []
    without_partners = []
    for d in now.domains:
        for m in d.models:
            if reasons := why_no_score(m):
                parts.append(f"{_named(d, m)} has no score ({'; '.join(reasons)}).")
            elif not good_enough(m):
                parts.append(f"{_named(d, m)} is not ranked, because its U is below {COUNTS_FROM}.")
            elif not _counted(now, m):
                without_partners.append(_named(d, m))
    if without_partners:
        parts.append(
            f"Not ranked, because not every compared domain and training seed has their size: "
            f"{', '.join(without_partners)}."
        )
    samples = sorted({m.outcomes["quality"].influence.shape[-1] for d in now.domains for m in d.averaged})
    if len(samples) > 1:
        parts.append(
            f"Models have different numbers of samples ({', '.join(map(str, samples))}), and the metrics "
            f"depend on that number."
        )
    return " ".join(parts)
