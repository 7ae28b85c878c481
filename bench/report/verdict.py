"""Writes the sentence that says which domain is more compressible, as Markdown. It is made from the test
results.

A domain is called more compressible only where the Holm-adjusted test over training seeds shows it. This must
hold by the primary evaluators and, where they were used, by the secondary evaluators. Every other pair is
undecided, and the text then gives the largest difference that remains possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.stats.comparison import Comparison, compare
from bench.stats.domain import Domain, domains_of
from bench.stats.ladder import ModelLadder
from bench.stats.scores import COUNTS_FROM
from bench.util.markup import as_text, joined

# (role, domain, domain), domains sorted -> result of the secondary evaluators
Support = Mapping[tuple[str, str, str], Comparison]

MOST_PAIRS = 3  # that a sentence names
NOTHING = "Fewer than two domains have a score for the same sizes: there is nothing to compare."


def support_of(comparisons: Sequence[Comparison]) -> Support:
    """(role, domain, domain) -> comparison, with the domains sorted."""
    return {pair_of(c): c for c in comparisons}


def pair_of(c: Comparison) -> tuple[str, str, str]:
    """(role, domain, domain), with the domains sorted."""
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
    # the same of each size that several domains have and no average counts
    outside: Mapping[str, ClaimContext] = field(default_factory=dict)
    # the same sizes -> these domains, averaged over that size, too
    including: Mapping[str, ClaimContext] = field(default_factory=dict)

    def claimed(self, c: Comparison) -> bool:
        """Whether the primary evaluators show it, and the secondary evaluators too where they were used."""
        other = self.theirs(c)
        return c.shown and (self.second is None or (other is not None and other.shown and other.a == c.a))

    def conclusions(self) -> list[tuple[str, str, str, bool]]:
        """(role, ahead, behind, claimed), sorted. Of a pair that is not claimed nobody is ahead."""
        found = []
        for c in self.comparisons:
            claimed = self.claimed(c)
            first, second = (c.a, c.b) if claimed else sorted((c.a, c.b))
            found.append((c.role, first, second, claimed))
        return sorted(found)

    def by_both(self) -> list[tuple[Domain, Domain]]:
        """The domains by the primary and by the secondary evaluators, where both scored the same models."""
        second = {d.name: d for d in self.second_domains}
        pairs = [(d, second[d.name]) for d in self.domains if d.name in second]
        return [(a, b) for a, b in pairs if a.names == b.names]

    def theirs(self, c: Comparison) -> Comparison | None:
        """The comparison of the same pair by the secondary evaluators."""
        return (self.second or {}).get(pair_of(c))


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


def answer(now: ClaimContext) -> str:
    """The sentence, or a note that there is nothing to compare."""
    return (sentence(now) or NOTHING) + "\n"


def _shown(now: ClaimContext) -> str:
    rows = [(c.a, c.b, c.role) for c in now.comparisons if now.claimed(c)]
    claims = []
    for a, others, roles in together(rows):
        than = joined([f"than {as_text(b)}" for b in others])
        claims.append(f"**{as_text(a)} is more compressible {than}, in {in_roles(roles)}**")
    return _averaged(now) + ". ".join(claims) + "." if claims else ""


def _averaged(now: ClaimContext) -> str:
    """The sizes that a claim averages. Empty where there is one size."""
    sizes = [as_text(size) for size in averaged_sizes(now)]
    return f"On the ladder, averaged over sizes {joined(sizes)}, " if len(sizes) > 1 else ""


def averaged_sizes(now: ClaimContext) -> list[str]:
    """The sizes of the models that the domains' scores average."""
    return [*dict.fromkeys(m.size for d in now.domains if d.compared for m in d.averaged)]


def _tally(now: ClaimContext) -> str:
    """How many comparisons are claimed and how many are open; between them, what one set of evaluators
    shows.
    """
    claimed = sum(map(now.claimed, now.comparisons))
    contrary, first, second = _contrary_to(now), first_alone(now), shown_by_second(now)
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
                _ahead("only the primary evaluators show it", first_alone(now)),
            ],
        )
    )


def _second_alone(now: ClaimContext) -> str:
    """The claims that only the secondary evaluators show."""
    return _ahead("only the secondary evaluators show it", shown_by_second(now))


def _contrary_to(now: ClaimContext) -> list[Comparison]:
    return [c for c in now.comparisons if c.shown and _contrary(c, now)]


def first_alone(now: ClaimContext) -> list[Comparison]:
    """What the primary evaluators show, and the secondary ones show in neither direction."""
    return [c for c in now.comparisons if c.shown and not now.claimed(c) and not _contrary(c, now)]


def shown_by_second(now: ClaimContext) -> list[Comparison]:
    """What the secondary evaluators show, and the primary ones show in neither direction."""
    theirs = [now.theirs(c) for c in now.comparisons if not c.shown]
    return [c for c in theirs if c is not None and c.shown]


def _contrary(c: Comparison, now: ClaimContext) -> bool:
    other = now.theirs(c)
    return other is not None and other.shown and other.a != c.a


def _ahead(why: str, rows: Sequence[Comparison]) -> str:
    return f"Not claimed, because {why}: {_listed(rows)}." if rows else ""


def _listed(rows: Sequence[Comparison]) -> str:
    merged = together([(as_text(c.a), as_text(c.b), c.role) for c in rows])
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
        found.setdefault(joined([as_text(name) for name in sorted((c.a, c.b))]), []).append(said)
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
        lines.append(
            [f"{as_text(c.a)} - {as_text(c.b)}", c.role, *_test(c), *_test(other, mirrored), _claimed(c, now)]
        )
    return lines


def _test(c: Comparison | None, mirrored: bool = False) -> list[str]:
    if c is None or c.difference is None or c.p is None:
        return ["-"] * 3
    d = c.difference
    value, low, high = (-d.value, -d.high, -d.low) if mirrored else (d.value, d.low, d.high)
    return [f"{value:+.3f}", f"{low:+.3f} to {high:+.3f}", p_text(c.p)]


def _claimed(c: Comparison, now: ClaimContext) -> str:
    other = now.theirs(c)
    if now.claimed(c):
        return "yes"
    if c.difference is None:
        return "no test"
    if c.shown:
        return "no: evaluators disagree" if _contrary(c, now) else "no: primary evaluators alone"
    return "no: secondary evaluators alone" if other is not None and other.shown else "no"


def p_text(value: float) -> str:
    """A p-value with three digits: `0.018`, `below 0.001`."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"
