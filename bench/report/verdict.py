"""Writes the sentence that says which domain is more compressible. It is made from the test results.

A domain is called more compressible only where the Holm-adjusted test over training seeds shows it. This must
hold by the primary evaluators and, where they were used, by the secondary evaluators. Every other pair is
undecided, and the text then gives the largest difference that remains possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean

from bench.stats.compressibility import FULL_RANGE
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.scores import (
    COUNTS_FROM,
    REGRESSED_FROM,
    Comparison,
    Domain,
    Score,
    compare,
    counts,
    domains_of,
    good_enough,
    model_score,
)
from bench.util.markup import joined

# (role, domain, domain), domains sorted -> result of the secondary evaluators
Support = Mapping[tuple[str, str, str], Comparison]


MOST_PAIRS = 3  # that a sentence names


def support_of(comparisons: Sequence[Comparison]) -> Support:
    """(role, domain, domain) -> comparison, with the domains sorted."""
    return {_pair(c): c for c in comparisons}


def _pair(c: Comparison) -> tuple[str, str, str]:
    first, second = sorted((c.a, c.b))
    return c.role, first, second


@dataclass(frozen=True)
class ClaimContext:
    """The comparisons that the sentences describe."""

    domains: Sequence[Domain]
    comparisons: Sequence[Comparison]
    missing: Mapping[str, Sequence[str]]  # domain -> models of the published grid without a ladder
    second: Support | None = None  # None: no secondary evaluator was used
    second_domains: Sequence[Domain] = ()  # as the secondary evaluators score them
    # where several sizes are compared: size -> the comparisons of that size alone
    alone: Mapping[str, ClaimContext] = field(default_factory=dict)

    def claimed(self, c: Comparison) -> bool:
        """Whether the primary evaluators show it, and the secondary evaluators too where they were used."""
        other = self.theirs(c)
        return c.shown and (self.second is None or (other is not None and other.shown and other.a == c.a))

    def conclusions(self) -> list[tuple[str, str, str, bool]]:
        """(role, ahead, behind, claimed), sorted."""
        return sorted((c.role, c.a, c.b, self.claimed(c)) for c in self.comparisons)

    def theirs(self, c: Comparison) -> Comparison | None:
        """The comparison of the same pair by the secondary evaluators."""
        return (self.second or {}).get(_pair(c))


def claim_context(
    models: Sequence[ModelLadder],
    missing: Mapping[str, Sequence[str]],
    threshold: float = COUNTS_FROM,
    second: Support | None = None,
) -> ClaimContext:
    """Compare the domains by the primary evaluators."""
    domains = domains_of(models, threshold)
    return ClaimContext(domains, compare(domains), missing, second)


def with_secondary(now: ClaimContext, second: Sequence[Domain] | None) -> ClaimContext:
    """Add the results of the secondary evaluators."""
    return now if second is None else replace(now, second=support_of(compare(second)), second_domains=second)


def sentence(now: ClaimContext) -> str:
    """The sentences about shown, undecided and untestable differences. Empty with fewer than two domains.

    Of many undecided pairs they give the count.
    """
    undecided = {frozenset((c.a, c.b)) for c in now.comparisons if not c.shown and c.difference is not None}
    if len(undecided) > MOST_PAIRS:
        rest = [_tally(now)]
    else:
        rest = [_disputed(now), _undecided(now), _second_alone(now)]
    return " ".join(filter(None, [_shown(now), *rest, _untested(now)]))


def _shown(now: ClaimContext) -> str:
    rows = [(c.a, c.b, c.role) for c in now.comparisons if now.claimed(c)]
    claims = []
    for a, others, roles in together(rows):
        than = joined([f"than {b}" for b in others])
        claims.append(f"**{a} is more compressible {than}, in {in_roles(roles)}**")
    return _averaged(now) + "; ".join(claims) + "." if claims else ""


def _averaged(now: ClaimContext) -> str:
    """The sizes that a claim averages. Empty where there is one size."""
    sizes = [*dict.fromkeys(m.size for d in now.domains if d.compared for unit in d.units for m in unit)]
    return f"On the ladder, averaged over sizes {joined(sizes)}, " if len(sizes) > 1 else ""


def _tally(now: ClaimContext) -> str:
    """How many comparisons are claimed and how many are open; between them, what one set of evaluators
    shows.
    """
    claimed = sum(map(now.claimed, now.comparisons))
    contrary, first, second = _contrary_to(now), _first_alone(now), _shown_by_second(now)
    left = len(now.comparisons) - claimed - len(contrary) - len(first) - len(second)
    rest = "open" if now.second is None else "shown by neither set of evaluators"
    every = f"Of all {len(now.comparisons)} comparisons (two domains in one role)"
    said = [f"{every}, {claimed} are claimed and {left} are {rest}."]
    for who, rows in (
        ("The secondary evaluators show the opposite of", contrary),
        ("The primary evaluators alone show", first),
        ("The secondary evaluators alone show", second),
    ):
        said += [f"{who} {_listed(rows)}."] if rows else []
    return " ".join(said)


def _disputed(now: ClaimContext) -> str:
    """The claims that only the primary evaluators show."""
    return " ".join(
        filter(
            None,
            [
                _ahead("the secondary evaluators show the opposite", _contrary_to(now)),
                _ahead("only the primary evaluators show it", _first_alone(now)),
            ],
        )
    )


def _second_alone(now: ClaimContext) -> str:
    """The claims that only the secondary evaluators show."""
    return _ahead("only the secondary evaluators show it", _shown_by_second(now))


def _contrary_to(now: ClaimContext) -> list[Comparison]:
    return [c for c in now.comparisons if c.shown and _contrary(c, now)]


def _first_alone(now: ClaimContext) -> list[Comparison]:
    return [c for c in now.comparisons if c.shown and not now.claimed(c) and not _contrary(c, now)]


def _shown_by_second(now: ClaimContext) -> list[Comparison]:
    theirs = [now.theirs(c) for c in now.comparisons if not c.shown]
    return [c for c in theirs if c is not None and c.shown]


def _contrary(c: Comparison, now: ClaimContext) -> bool:
    other = now.theirs(c)
    return other is not None and other.shown and other.a != c.a


def _ahead(why: str, rows: Sequence[Comparison]) -> str:
    return f"Not claimed, because {why}: {_listed(rows)}." if rows else ""


def _listed(rows: Sequence[Comparison]) -> str:
    merged = together([(c.a, c.b, c.role) for c in rows])
    return "; ".join(f"{a} ahead of {joined(others)} in {in_roles(roles)}" for a, others, roles in merged)


def _undecided(now: ClaimContext) -> str:
    """Undecided pairs, each with the largest difference that its interval allows."""
    rows = [
        (c, f"up to {c.difference.widest:.3f} in {c.role}")
        for c in now.comparisons
        if not c.shown and c.difference is not None
    ]
    said = [f"{names}, whose C may differ by {' and by '.join(how)} (95 %)" for names, how in _by_pair(rows)]
    return f"Undecided with these models: {'; '.join(said)}." if said else ""


def _untested(now: ClaimContext) -> str:
    rows = [(c, c.role) for c in now.comparisons if c.difference is None]
    said = "; ".join(f"{names} in {in_roles(roles)}" for names, roles in _by_pair(rows))
    return f"No test is possible, because a domain has fewer than two training seeds: {said}." if said else ""


def _by_pair(rows: Sequence[tuple[Comparison, str]]) -> list[tuple[str, list[str]]]:
    """(`a and b`, the statements about each role). The order of the two domains does not matter."""
    found: dict[str, list[str]] = {}
    for c, said in rows:
        found.setdefault(joined(sorted((c.a, c.b))), []).append(said)
    return [*found.items()]


def together(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, list[str], tuple[str, ...]]]:
    """(better, worse, role) -> (better, all domains that it is ahead of in the same roles, those roles)."""
    roles: dict[tuple[str, str], tuple[str, ...]] = {}
    for a, b, role in rows:
        roles[a, b] = (*roles.get((a, b), ()), role)
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (a, b), same in roles.items():
        found.setdefault((a, same), []).append(b)
    return [(a, others, same) for (a, same), others in found.items()]


def in_roles(roles: Sequence[str]) -> str:
    """`quality and in diversity`: what follows the word `in`."""
    return " and in ".join(roles)


# ----------------------------------------------------------------------------------------------- pair by pair

PAIR_HEADERS = (
    *("pair", "role", "C differs by", "95 % interval", "adjusted p"),
    *("secondary: C differs by", "secondary: 95 % interval", "secondary: adjusted p", "claimed"),
)


def pairs(now: ClaimContext) -> list[list[str]]:
    """The numbers behind the sentence: one line for each pair of domains and role, in the order of
    `PAIR_HEADERS`.
    """
    lines = []
    for c in now.comparisons:
        other = now.theirs(c)
        mirrored = other is not None and other.a != c.a
        lines.append([f"{c.a} - {c.b}", c.role, *_test(c), *_test(other, mirrored), _claimed(c, now)])
    return lines


def _test(c: Comparison | None, mirrored: bool = False) -> list[str]:
    if c is None or c.difference is None or c.p is None:
        return ["-"] * 3
    d = c.difference
    value, low, high = (-d.value, -d.high, -d.low) if mirrored else (d.value, d.low, d.high)
    return [f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}", _p(c.p)]


def _claimed(c: Comparison, now: ClaimContext) -> str:
    other = now.theirs(c)
    if now.claimed(c):
        return "yes"
    if c.difference is None:
        return "no test"
    if c.shown:
        return "no: evaluators disagree" if _contrary(c, now) else "no: primary evaluators alone"
    return "no: secondary evaluators alone" if other is not None and other.shown else "no"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


# -------------------------------------------------------------------------------------------------- paragraph


def answer(now: ClaimContext) -> str:
    """The sentence, or a note that there is nothing to compare."""
    return (sentence(now) or NOTHING) + "\n"


def caveats(now: ClaimContext, crossed: bool = False) -> str:
    """How certain the sentence is, and what the data cannot show.

    crossed: some domains share their data and some their network, and the page contrasts them.
    """
    together = IN_SOME_ROWS if crossed else IN_ALL_ROWS
    return _paragraphs([_size_by_size(now), _how_sure(now), CANNOT.format(together=together)])


def checks(now: ClaimContext, wider: ClaimContext) -> str:
    """Whether other choices give another answer. `wider` also ranks models whose U is at least 0.25."""
    return _paragraphs(
        [
            *_not_ranked(now),
            _evaluators_apart(now),
            _with_and_without(now, wider),
            _gaps(now),
        ]
    )


def _paragraphs(paragraphs: Sequence[str]) -> str:
    return "\n\n".join(filter(None, paragraphs)) + "\n"


BOTH = " A difference is claimed only if the secondary evaluators show it too."
NOTHING = "Fewer than two domains have a score for the same sizes: there is nothing to compare."
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
        shown = [f"size {size} alone shows {len(claims) - len(found)}" for size, found in lost.items()]
        said = f"Of these {len(claims)} claims, each of one pair and role, {joined(shown)}."
    else:
        said = " ".join(f"Size {size} alone {_does_not_show(found)}." for size, found in lost.items())
    return f"**Each size alone** has fewer models. {said}"


def _does_not_show(lost: Sequence[Comparison]) -> str:
    if not lost:
        return "shows all of this"
    merged = together([(c.a, c.b, c.role) for c in lost])
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
        found = [own[_pair(c)] for c in lost if _pair(c) in own]
        lines += [[size, *line] for line in pairs(replace(one, comparisons=found))]
    return lines


def _not_ranked(now: ClaimContext) -> list[str]:
    """Whether the sizes outside the averages have the same order. This comparison is not tested."""
    claims = [c for c in now.comparisons if now.claimed(c)]
    others: dict[str, list[ModelLadder]] = {}
    for d in now.domains:
        if d.compared:
            others[d.name] = [m for m in d.models if counts(m) and not _counted(now, m)]
    lines = []
    for size in sorted({m.size for models in others.values() for m in models}) if claims else ():
        of_size = {name: _models_of_size(models, size) for name, models in others.items()}
        if not all(of_size.values()):
            continue
        but = _exceptions(claims, of_size)
        networks = ", ".join(f"{name} {len(models)}" for name, models in of_size.items())
        order = (
            f"Its ranking by C is the same, except that {but}." if but else "Its ranking by C is the same."
        )
        lines.append(
            f"**Size {size}** is excluded from averages and tests: it has fewer training seeds (networks: "
            f"{networks}). {order}"
        )
    return lines


def _models_of_size(models: Sequence[ModelLadder], size: str) -> list[ModelLadder]:
    return [m for m in models if m.size == size]


def _exceptions(claims: Sequence[Comparison], of_size: Mapping[str, Sequence[ModelLadder]]) -> str:
    """The claims that the ranking by C of models of one size does not follow. Empty where it follows all."""
    against: dict[str, list[str]] = {}
    for c in claims:
        of_a, of_b = _scores(of_size[c.a], c.role), _scores(of_size[c.b], c.role)
        a, b = mean(one.value for one in of_a), mean(one.value for one in of_b)
        if _alike(of_a, of_b):
            against.setdefault(f"{c.a} and {c.b} are level", []).append(f"in {c.role} ({a:.3f}, {b:.3f})")
        elif a <= b:
            against.setdefault(f"{c.b} is ahead of {c.a}", []).append(f"in {c.role} ({b:.3f}, {a:.3f})")
    return joined([f"{what} {' and '.join(how)}" for what, how in against.items()]) if against else ""


def _scores(models: Sequence[ModelLadder], role: str) -> list[Score]:
    return [one for m in models if (one := model_score(m, role)) is not None]


def _alike(some: Sequence[Score], others: Sequence[Score]) -> bool:
    """Whether the intervals of two single networks overlap."""
    if len(some) != 1 or len(others) != 1:
        return False
    a, b = some[0].interval(), others[0].interval()
    return a is not None and b is not None and a[0] <= b[1] and b[0] <= a[1]


def _evaluators_apart(now: ClaimContext) -> str:
    """Domains whose C by the secondary evaluators lies outside the primary interval."""
    theirs = {d.name: d for d in now.second_domains}
    found = []
    for role in ROLES:
        for d in now.domains:
            first = d.score(role)
            second = theirs[d.name].score(role) if d.name in theirs and theirs[d.name].units else None
            interval = first.interval() if first is not None else None
            if (
                first is None
                or second is None
                or interval is None
                or interval[0] <= second.value <= interval[1]
            ):
                continue
            found.append(
                f"{d.name} in {role} ({first.value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], secondary "
                f"{second.value:.3f})"
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
    models = ", ".join(f"{name} {said}" for name, said in counts.items())
    compared = f"in each domain {counts[now.domains[0].name]}" if alike else models
    tail = BOTH if now.second is not None else " Each role has one evaluator; another one may disagree."
    return (
        f"**How sure.** Models compared: {compared}. "
        "The tests are Welch's, over training seeds, adjusted for all comparisons "
        f"(Holm). {_largest_p(now)}With few seeds the intervals are wide "
        f"([statistics.md](docs/statistics.md)).{tail}"
    )


def _largest_p(now: ClaimContext) -> str:
    """The weakest evidence behind a claim, over both kinds of evaluators; empty without claims."""
    tests = [test for c in now.comparisons if now.claimed(c) for test in (c, now.theirs(c))]
    found = [test.p for test in tests if test is not None and test.p is not None]
    return f"The largest adjusted p of a claim is {_p(max(found))}. " if found else ""


def _count(domain: Domain) -> str:
    seeds = len(domain.units)
    if not seeds:
        return "none"
    sizes = [m.size for m in domain.units[0]]
    of = f"size{'s' if len(sizes) > 1 else ''} {joined(sizes)}"
    apart = "" if domain.compared else " (not compared: no size in common with the others)"
    return f"{seeds} training seed{'s' if seeds > 1 else ''} of {of}{apart}"


def _with_and_without(now: ClaimContext, wider: ClaimContext) -> str:
    added = [
        f"{d.name} {m.model}" for d in wider.domains for unit in d.units for m in unit if not _counted(now, m)
    ]
    # then other sizes are compared
    fewer = any(not _counted(wider, m) for d in now.domains for unit in d.units for m in unit)
    same = now.conclusions() == wider.conclusions()
    if not added and not fewer and same:
        return (
            f"A threshold of U = {REGRESSED_FROM} instead of {COUNTS_FROM} adds no model: the "
            f"conclusions are the same."
        )
    verdict = "the conclusions are the same." if same else f"the conclusion is: {sentence(wider) or NOTHING}"
    names = f" ({', '.join(sorted(added))})" if added else ""
    return f"With a threshold of U = {REGRESSED_FROM}{names} {verdict}"


def _counted(now: ClaimContext, m: ModelLadder) -> bool:
    return any(one is m for d in now.domains for unit in d.units for one in unit)


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
    found = [f"{d.name} {', '.join(names)}" for d in now.domains if (names := now.missing.get(d.name))]
    parts = [f"Not measured yet: {'; '.join(found)}."] if found else []
    without_partners = []
    for d in now.domains:
        for m in d.models:
            if reasons := why_no_score(m):
                parts.append(f"{d.name} {m.model} has no score ({'; '.join(reasons)}).")
            elif not good_enough(m):
                parts.append(f"{d.name} {m.model} is not ranked, because its U is below {COUNTS_FROM}.")
            elif not _counted(now, m):
                without_partners.append(f"{d.name} {m.model}")
    if without_partners:
        parts.append(
            f"Not ranked, because not every compared domain and training seed has their size: "
            f"{', '.join(without_partners)}."
        )
    samples = sorted(
        {m.outcomes["quality"].influence.shape[-1] for d in now.domains for unit in d.units for m in unit}
    )
    if len(samples) > 1:
        parts.append(
            f"Models have different numbers of samples ({', '.join(map(str, samples))}), and the metrics "
            f"depend on that number."
        )
    return " ".join(parts)
