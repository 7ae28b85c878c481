"""The sentence: which domain is more compressible, made from the figures and never typed in.

A domain is called more compressible only where the Holm-adjusted test over training seeds says so, by the first judges and, where they
were asked, by the second. Everything else is said to be undecided, with how large a difference could hide there.
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

Support = Mapping[tuple[str, str, str], Comparison]  # (role, domain, domain), the domains in order -> what the second judges find


def support_of(comparisons: Sequence[Comparison]) -> Support:
    return {(c.role, *sorted((c.a, c.b))): c for c in comparisons}  # type: ignore[misc]


@dataclass(frozen=True)
class ClaimContext:
    """All that the paragraph speaks of."""

    domains: Sequence[Domain]
    comparisons: Sequence[Comparison]
    missing: Mapping[str, Sequence[str]]  # domain -> models of the published grid without a ladder
    second: Support | None = None  # None: no second judge was asked
    second_domains: Sequence[Domain] = ()  # as the second judges score them
    # where several sizes are compared: size -> the same with it only; and the same with the networks of a seed's number as one value
    alone: Mapping[str, ClaimContext] = field(default_factory=dict)
    by_number: ClaimContext | None = None

    def claimed(self, c: Comparison) -> bool:
        """Shown by the first judges, and, where second ones were asked, by them as well."""
        other = self.theirs(c)
        return c.shown and (self.second is None or (other is not None and other.shown and other.a == c.a))

    def conclusions(self) -> list[tuple[str, str, str, bool]]:
        """(role, ahead, behind, claimed), in an order of their own."""
        return sorted((c.role, c.a, c.b, self.claimed(c)) for c in self.comparisons)

    def theirs(self, c: Comparison) -> Comparison | None:
        """The same pair as the second judges see it."""
        return (self.second or {}).get((c.role, *sorted((c.a, c.b))))  # type: ignore[arg-type]


def situation(
    models: Sequence[ModelLadder],
    missing: Mapping[str, Sequence[str]],
    threshold: float = COUNTS_FROM,
    second: Support | None = None,
) -> ClaimContext:
    domains = domains_of(models, threshold)
    return ClaimContext(domains, compare(domains), missing, second)


def judged_by(now: ClaimContext, second: Sequence[Domain] | None) -> ClaimContext:
    """The same with what second judges say of it."""
    return now if second is None else replace(now, second=support_of(compare(second)), second_domains=second)


def paired(now: ClaimContext) -> ClaimContext:
    """The same with the networks of one training seed's number taken as one value."""
    domains, second = ([replace(d, paired=True) for d in group] for group in (now.domains, now.second_domains))
    return judged_by(ClaimContext(domains, compare(domains), now.missing), None if now.second is None else second)


def sentence(now: ClaimContext) -> str:
    """In plain words: what is shown, what is undecided, what cannot be tested. Empty where there are not two domains to compare.

    The figures of each pair are `pairs`.
    """
    return " ".join(filter(None, [_shown(now), _disputed(now), _undecided(now), _second_alone(now), _untested(now)]))


def _shown(now: ClaimContext) -> str:
    rows = [(c.a, c.b, c.role) for c in now.comparisons if now.claimed(c)]
    claims = [
        f"**{a} is more compressible {_and([f'than {b}' for b in others])}, in {_roles(roles)}**" for a, others, roles in _merged(rows)
    ]
    return _averaged(now) + "; ".join(claims) + "." if claims else ""


def _averaged(now: ClaimContext) -> str:
    """Over which sizes a claim holds on average; nothing where a single one is compared."""
    sizes = [*dict.fromkeys(m.size for d in now.domains if d.compared for unit in d.units for m in unit)]
    return f"On average over sizes {_and(sizes)}, " if len(sizes) > 1 else ""


def _disputed(now: ClaimContext) -> str:
    """What the first judges alone would claim."""
    rows = [c for c in now.comparisons if c.shown and not now.claimed(c)]
    contrary = [c for c in rows if _contrary(c, now)]
    return " ".join(
        filter(
            None,
            [
                _ahead("the second judges show the contrary", contrary),
                _ahead("only the first judges show it", [c for c in rows if c not in contrary]),
            ],
        )
    )


def _second_alone(now: ClaimContext) -> str:
    """What the second judges would claim where the first do not."""
    theirs = [now.theirs(c) for c in now.comparisons if not c.shown]
    return _ahead("only the second judges show it", [c for c in theirs if c is not None and c.shown])


def _contrary(c: Comparison, now: ClaimContext) -> bool:
    other = now.theirs(c)
    return other is not None and other.shown and other.a != c.a


def _ahead(why: str, rows: Sequence[Comparison]) -> str:
    said = [f"{a} ahead of {_and(others)} in {_roles(roles)}" for a, others, roles in _merged([(c.a, c.b, c.role) for c in rows])]
    return f"Not claimed, since {why}: {'; '.join(said)}." if said else ""


def _undecided(now: ClaimContext) -> str:
    """With how much they may differ, either way."""
    rows = [(c, f"by up to {c.difference.widest:.3f} in {c.role}") for c in now.comparisons if not c.shown and c.difference is not None]
    said = [f"{names}, whose C may differ (95 %) {' and '.join(how)}" for names, how in _by_pair(rows)]
    return f"Not distinguishable with these models: {'; '.join(said)}." if said else ""


def _untested(now: ClaimContext) -> str:
    rows = [(c, c.role) for c in now.comparisons if c.difference is None]
    said = "; ".join(f"{names} in {_roles(roles)}" for names, roles in _by_pair(rows))
    return f"No test is possible, since a domain has fewer than two training seeds: {said}." if said else ""


def _by_pair(rows: Sequence[tuple[Comparison, str]]) -> list[tuple[str, list[str]]]:
    """(`a and b`, what is said of either role), whichever of the two is ahead in it."""
    found: dict[str, list[str]] = {}
    for c, said in rows:
        found.setdefault(_and(sorted((c.a, c.b))), []).append(said)
    return [*found.items()]


def _merged(rows: Sequence[tuple[str, str, str]]) -> list[tuple[str, list[str], tuple[str, ...]]]:
    """(better, worse, role) -> (better, all that it beats in the same roles, those roles)."""
    roles: dict[tuple[str, str], tuple[str, ...]] = {}
    for a, b, role in rows:
        roles[a, b] = (*roles.get((a, b), ()), role)
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (a, b), same in roles.items():
        found.setdefault((a, same), []).append(b)
    return [(a, others, same) for (a, same), others in found.items()]


def _and(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _roles(roles: Sequence[str]) -> str:
    return " and in ".join(roles)


# ------------------------------------------------------------------------------------------------------------ pair by pair

PAIR_HEADERS = (
    *("pair", "role", "C differs by", "95 % interval", "adjusted p"),
    *("by the second judges", "95 % interval, second", "adjusted p, second", "claimed"),
)


def pairs(now: ClaimContext) -> list[list[str]]:
    """The figures behind the sentence, a line a pair of domains and role, in the order of `PAIR_HEADERS`."""
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
        return "no: judges disagree" if _contrary(c, now) else "no: first judges alone"
    return "no: second judges alone" if other is not None and other.shown else "no"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


# -------------------------------------------------------------------------------------------------------------- paragraph


def paragraph(now: ClaimContext, wider: ClaimContext) -> str:
    """What the data show, how sure, and what they cannot show. `wider` also lets models count whose U is at least 0.25."""
    lines = [sentence(now) or NOTHING]
    lines.append(_size_by_size(now))
    lines += _in_no_mean(now)
    lines.append(_how_sure(now))
    lines.append(_judges_apart(now))
    lines.append(_by_number(now))
    lines.append(_with_and_without(now, wider))
    if gaps := _gaps(now):
        lines.append(gaps)
    lines.append(CANNOT)
    return "\n\n".join(line for line in lines if line) + "\n"


TWO_JUDGES = " A difference is claimed only where second judges of another kind show it as well."
NOTHING = "Fewer than two domains have a score for the same sizes: there is nothing to compare."
CANNOT = """\
**What this cannot show.** Domain, architecture, normalisation, training recipe and judge change together, so a difference between rows is
one between these models as they were trained, and not a law of images or of text. All models are small."""


def _size_by_size(now: ClaimContext) -> str:
    """Whether each claim also holds in each size alone; empty without claims, or where a single size is compared."""
    claims = [c for c in now.comparisons if now.claimed(c)]
    if not claims or not now.alone:
        return ""
    found = [f"size {size} shows {_of(claims, one)}" for size, one in now.alone.items()]
    how = "adjusted" if now.second is None else "adjusted, and both judges asked"
    return f"**In each size alone**, by the same tests ({how}) of fewer models: {'; '.join(found)}."


def _of(claims: Sequence[Comparison], one: ClaimContext) -> str:
    """How much of the claims one size shows; of what it does not show, how much it finds."""
    shown = {(c.role, c.a, c.b) for c in one.comparisons if one.claimed(c)}
    lost: dict[tuple[str, str], list[str]] = {}
    for c in claims:
        if (c.role, c.a, c.b) not in shown:
            lost.setdefault((c.a, c.b), []).append(f"in {c.role}{_finds(c, one)}")
    said = ", and ".join(f"{a} ahead of {b} {' and '.join(how)}" for (a, b), how in lost.items())
    if not said:
        return "all of it"
    return f"none of it: {said}" if sum(map(len, lost.values())) == len(claims) else f"all of it except {said}"


def _in_no_mean(now: ClaimContext) -> list[str]:
    """Whether the claims' order is also that of the sizes which all compared domains have, and which are in no mean; untested."""
    compared = [d for d in now.domains if d.compared]
    claims = [c for c in now.comparisons if now.claimed(c)]
    others = {d.name: [m for m in d.models if counts(m) and not _counted(now, m)] for d in compared}
    lines = []
    for size in sorted({m.size for models in others.values() for m in models}) if claims else ():
        of_size = {name: [m for m in models if m.size == size] for name, models in others.items()}
        if not all(of_size.values()):
            continue
        scores = {
            (name, role): [one for m in models if (one := model_score(m, role)) is not None]
            for name, models in of_size.items()
            for role in ROLES
        }
        against: dict[str, list[str]] = {}
        for c in claims:
            of_a, of_b = scores[c.a, c.role], scores[c.b, c.role]
            a, b = (mean(one.value for one in some) for some in (of_a, of_b))
            if _alike(of_a, of_b):
                against.setdefault(f"{c.a} and {c.b} are level", []).append(f"in {c.role} ({a:.3f}, {b:.3f})")
            elif a <= b:
                against.setdefault(f"{c.b} is ahead of {c.a}", []).append(f"in {c.role} ({b:.3f}, {a:.3f})")
        networks = ", ".join(f"{name} {len(models)}" for name, models in of_size.items())
        but = _and([f"{what} {' and '.join(how)}" for what, how in against.items()]) if against else ""
        order = f"Its ranking by C is the same, except that {but}." if but else "Its ranking by C is the same."
        lines.append(f"**Size {size}** is excluded from averages and tests: it has fewer training seeds (networks: {networks}). {order}")
    return lines


def _alike(some: Sequence[Score], others: Sequence[Score]) -> bool:
    """Of single networks: whether their own intervals overlap."""
    if len(some) != 1 or len(others) != 1:
        return False
    a, b = some[0].interval(), others[0].interval()
    return a is not None and b is not None and a[0] <= b[1] and b[0] <= a[1]


def _finds(c: Comparison, one: ClaimContext) -> str:
    other = next((o for o in one.comparisons if o.role == c.role and {o.a, o.b} == {c.a, c.b}), None)
    value, interval, p = _test(other, mirrored=other is not None and other.a != c.a)
    if other is None or value == "-":
        return ""
    theirs = one.theirs(c)
    second, of_second, p_second = _test(theirs, mirrored=theirs is not None and theirs.a != c.a)
    also = f"; by the second judges {second}, {of_second}, p {p_second}" if other.shown and second != "-" else ""
    return f" (C differs by {value}, 95 % {interval}, p {p}{also})"


def _judges_apart(now: ClaimContext) -> str:
    """Where the second judges' C lies outside the interval of the first: that interval is of trainings, and knows nothing of judges."""
    theirs = {d.name: d for d in now.second_domains}
    found = []
    for role in ROLES:
        for d in now.domains:
            first = d.score(role)
            second = theirs[d.name].score(role) if d.name in theirs and theirs[d.name].units else None
            interval = first.interval() if first is not None else None
            if first is None or second is None or interval is None or interval[0] <= second.value <= interval[1]:
                continue
            found.append(f"{d.name} in {role} ({first.value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}], the second {second.value:.3f})")
    if not found:
        return ""
    return (
        "**The judge matters, too.** Intervals are over trainings, not over judges. The second judges' C lies outside them: "
        f"{'; '.join(found)}."
    )


def _by_number(now: ClaimContext) -> str:
    """Whether conclusions rest on how networks of two sizes are put together; empty with a single size."""
    if now.by_number is None:
        return ""
    widest = max((p for c in now.by_number.comparisons if now.by_number.claimed(c) for p in _ps(c, now.by_number)), default=None)
    margin = f" (largest adjusted p of a claim, either judge: {_p(widest)})" if widest is not None else ""
    verdict = (
        f"the conclusions are the same{margin}."
        if now.conclusions() == now.by_number.conclusions()
        else f"it reads: {sentence(now.by_number)}"
    )
    sizes = _and([*dict.fromkeys(m.size for d in now.domains if d.compared for unit in d.units for m in unit)])
    return f"Sensitivity check: with one value per training seed ({sizes} averaged), {verdict}"


def _ps(c: Comparison, now: ClaimContext) -> list[float]:
    """Adjusted p by the first judges and, where they were asked, by the second."""
    return [one.p for one in (c, now.theirs(c)) if one is not None and one.p is not None]


def _how_sure(now: ClaimContext) -> str:
    counts = [f"{d.name} {_count(d)}" for d in now.domains]
    tail = TWO_JUDGES if now.second is not None else " One evaluator a role has judged; a second one may disagree."
    return (
        f"**How sure.** Models compared: {', '.join(counts)}. Intervals are over training seeds (Student's t, each size with a variance of "
        "its own; between domains Welch's test, Holm over all comparisons): with few seeds they are wide "
        f"([docs/statistics.md](docs/statistics.md)).{tail}"
    )


def _count(domain: Domain) -> str:
    seeds = len(domain.units)
    if not seeds:
        return "none"
    sizes = [m.size for m in domain.units[0]]
    of = f"size{'s' if len(sizes) > 1 else ''} {_and(sizes)}"
    apart = "" if domain.compared else " (no size in common with the others: not compared)"
    return f"{seeds} training seed{'s' if seeds > 1 else ''} of {of}{apart}"


def _with_and_without(now: ClaimContext, wider: ClaimContext) -> str:
    added = [f"{d.name} {m.model}" for d in wider.domains for unit in d.units for m in unit if not _counted(now, m)]
    fewer = any(not _counted(wider, m) for d in now.domains for unit in d.units for m in unit)  # other sizes are compared
    same = now.conclusions() == wider.conclusions()
    if not added and not fewer and same:
        enough = f"if U of {REGRESSED_FROM} were enough instead of {COUNTS_FROM}"
        return f"No further model would enter the means {enough}: the conclusions are the same."
    verdict = "the conclusions stay the same." if same else f"it reads: {sentence(wider) or NOTHING}"
    names = f" ({', '.join(sorted(added))})" if added else ""
    return f"With models of U from {REGRESSED_FROM} as well{names} {verdict}"


def _counted(now: ClaimContext, m: ModelLadder) -> bool:
    return any(one is m for d in now.domains for unit in d.units for one in unit)


def _gaps(now: ClaimContext) -> str:
    """Models that are out, or not measured, or not trained: never counted as zero."""
    found = [f"{d.name} {', '.join(names)}" for d in now.domains if (names := now.missing.get(d.name))]
    parts = [f"Not measured yet: {'; '.join(found)}."] if found else []
    without_partners = []
    for d in now.domains:
        for m in d.models:
            reasons = []
            if m.missing:
                reasons.append(f"rungs not measured: {', '.join(m.missing)}")
            if m.undefined:
                reasons.append(f"its baseline is too near the floor for a retention: {', '.join(m.undefined)}")
            if m.whole and not m.rates.max() >= FULL_RANGE[1]:
                reasons.append("it is out, since its files do not reach a sixteenth")
            if reasons:
                parts.append(f"{d.name} {m.model} has no score ({'; '.join(reasons)}).")
            elif not good_enough(m):
                parts.append(f"{d.name} {m.model} does not count, since its U is below {COUNTS_FROM}.")
            elif not _counted(now, m):
                without_partners.append(f"{d.name} {m.model}")
    if without_partners:
        parts.append(f"In no mean, since not every compared domain and training seed has their size: {', '.join(without_partners)}.")
    samples = sorted({m.outcomes["quality"].influence.shape[-1] for d in now.domains for unit in d.units for m in unit})
    if len(samples) > 1:
        parts.append(
            f"Models were measured with different numbers of samples ({', '.join(map(str, samples))}), on which the metrics depend."
        )
    return " ".join(parts)
