"""The sentence: which domain is more compressible, made from the figures and never typed in.

A domain is called more compressible only where the Holm-adjusted test over training seeds says so, by the first judges and, where they
were asked, by the second. Everything else is said to be undecided, with how large a difference could hide there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.analysis.intervals import Difference
from bench.analysis.measured import ROLES, Measured
from bench.analysis.scores import COUNTS_FROM, REGRESSED_FROM, Comparison, Domain, compare, domains_of, good_enough
from bench.compressibility import FULL

Support = Mapping[tuple[str, str, str], Comparison]  # (role, domain, domain), the domains in order -> what the second judges find


def support_of(comparisons: Sequence[Comparison]) -> Support:
    return {(c.role, *sorted((c.a, c.b))): c for c in comparisons}  # type: ignore[misc]


@dataclass(frozen=True)
class Situation:
    """All that the paragraph speaks of."""

    domains: Sequence[Domain]
    comparisons: Sequence[Comparison]
    missing: Mapping[str, Sequence[str]]  # domain -> models of the published grid without a ladder
    second: Support | None = None  # None: no second judge was asked

    def claimed(self, c: Comparison) -> bool:
        """Shown by the first judges, and, where second ones were asked, by them as well."""
        other = self.theirs(c)
        return c.shown and (self.second is None or (other is not None and other.shown and other.a == c.a))

    def theirs(self, c: Comparison) -> Comparison | None:
        """The same pair as the second judges see it."""
        return (self.second or {}).get((c.role, *sorted((c.a, c.b))))  # type: ignore[arg-type]


def situation(
    models: Sequence[Measured],
    missing: Mapping[str, Sequence[str]],
    threshold: float = COUNTS_FROM,
    second: Support | None = None,
) -> Situation:
    domains = domains_of(models, threshold)
    return Situation(domains, compare(domains), missing, second)


def sentence(now: Situation) -> str:
    """In plain words: what is shown, what is undecided, what cannot be tested. Empty where there are not two domains to compare."""
    statements = [_shown(now), _disputed(now), *(_undecided(role, now) for role in ROLES), *(_untested(role, now) for role in ROLES)]
    return " ".join(filter(None, statements))


def _shown(now: Situation) -> str:
    rows = [c for c in now.comparisons if now.claimed(c)]
    claims = [f"**{c.a} is more compressible than {c.b} in {c.role}** ({_figures(c)}{_seconded(c, now)})" for c in rows]
    return "; ".join(claims) + "." if claims else ""


def _disputed(now: Situation) -> str:
    """What the first judges alone would claim."""
    rows = [c for c in now.comparisons if c.shown and not now.claimed(c)]
    said = [f"{c.a} beside {c.b} in {c.role} ({_figures(c)}; {_second_figures(now.theirs(c), c)})" for c in rows]
    return f"Not claimed, since only the first judges show a difference: {'; '.join(said)}." if said else ""


def _seconded(c: Comparison, now: Situation) -> str:
    return "" if now.second is None else f"; {_second_figures(now.theirs(c), c)}"


def _second_figures(other: Comparison | None, c: Comparison) -> str:
    if other is None:
        return "not compared by the second judges"
    if other.difference is None or other.p is None:
        return "the second judges allow no test"
    sign = 1 if other.a == c.a else -1
    return f"by the second judges {sign * other.difference.value:+.3f}, adjusted p {_p(other.p)}"


def _undecided(role: str, now: Situation) -> str:
    rows = [c for c in now.comparisons if c.role == role and not c.shown and c.difference is not None]
    pairs = "; ".join(f"{c.a} and {c.b}, {_hides(c)}{_second_alone(c, now)}" for c in rows)
    return f"Not distinguishable in {role} with these models: {pairs}." if pairs else ""


def _untested(role: str, now: Situation) -> str:
    pairs = "; ".join(f"{c.a} and {c.b}" for c in now.comparisons if c.role == role and c.difference is None)
    return f"No test is possible in {role}, since a domain has fewer than two training seeds: {pairs}." if pairs else ""


def _figures(c: Comparison) -> str:
    assert c.difference is not None and c.p is not None
    d = c.difference
    return f"C differs by {d.value:.3f}, 95 % interval {d.low:.3f} to {d.high:.3f}, adjusted p {_p(c.p)}"


def _hides(c: Comparison) -> str:
    """How much they may differ, either way. The interval is of this pair alone; only p is adjusted for there being several."""
    assert c.difference is not None and c.p is not None
    d: Difference = c.difference
    interval = f"95 % interval of this pair alone {d.low:+.3f} to {d.high:+.3f}"
    return f"whose C differs by {d.value:.3f} here ({interval}; adjusted p {_p(c.p)})"


def _second_alone(c: Comparison, now: Situation) -> str:
    """What the second judges would claim where the first do not."""
    other = now.theirs(c)
    if other is None or not other.shown or other.difference is None or other.p is None:
        return ""
    return f", though the second judges do tell them apart: {other.a} ahead by {other.difference.value:.3f}, adjusted p {_p(other.p)}"


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


# -------------------------------------------------------------------------------------------------------------- paragraph


def paragraph(now: Situation, wider: Situation) -> str:
    """What the data show, how sure, and what they cannot show. `wider` also lets models count whose U is at least 0.25."""
    lines = [sentence(now) or NOTHING]
    lines.append(_how_sure(now))
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


def _how_sure(now: Situation) -> str:
    counts = [f"{d.name} {_count(d)}" for d in now.domains]
    tail = TWO_JUDGES if now.second is not None else " One evaluator a role has judged; a second one may disagree."
    return (
        f"**How sure.** Models compared: {', '.join(counts)}. Intervals are over training seeds (Student's t; between domains Welch's "
        f"test, Holm over all comparisons): with few seeds they are wide ([docs/statistics.md](docs/statistics.md)).{tail}"
    )


def _count(domain: Domain) -> str:
    seeds = len(domain.units)
    if not seeds:
        return "none"
    sizes = [m.size for m in domain.units[0]]
    of = f"size {sizes[0]}" if len(sizes) == 1 else f"sizes {', '.join(sizes[:-1])} and {sizes[-1]}"
    apart = "" if domain.compared else " (no size in common with the others: not compared)"
    return f"{seeds} training seed{'s' if seeds > 1 else ''} of {of}{apart}"


def _with_and_without(now: Situation, wider: Situation) -> str:
    added = [f"{d.name} {m.model}" for d in wider.domains for unit in d.units for m in unit if not _counted(now, m)]
    fewer = any(not _counted(wider, m) for d in now.domains for unit in d.units for m in unit)  # other sizes are compared
    if not added and not fewer:
        return f"No further model would count if U of {REGRESSED_FROM} were enough instead of {COUNTS_FROM}: the conclusions are the same."
    same = [(c.role, c.a, c.b, now.claimed(c)) for c in now.comparisons] == [
        (c.role, c.a, c.b, wider.claimed(c)) for c in wider.comparisons
    ]
    verdict = "the conclusions stay the same." if same else f"it reads: {sentence(wider) or NOTHING}"
    names = f" ({', '.join(sorted(added))})" if added else ""
    return f"With models of U from {REGRESSED_FROM} as well{names} {verdict}"


def _counted(now: Situation, m: Measured) -> bool:
    return any(one is m for d in now.domains for unit in d.units for one in unit)


def _gaps(now: Situation) -> str:
    """Models that are out, or not measured, or not trained: never counted as zero."""
    found = [f"{d.name} {', '.join(names)}" for d in now.domains if (names := now.missing.get(d.name))]
    parts = [f"Not measured yet: {'; '.join(found)}."] if found else []
    for d in now.domains:
        for m in d.models:
            reasons = []
            if m.missing:
                reasons.append(f"rungs not measured: {', '.join(m.missing)}")
            if m.undefined:
                reasons.append(f"its baseline is too near the floor for a retention: {', '.join(m.undefined)}")
            if m.whole and not m.rates.max() >= FULL[1]:
                reasons.append("it is out, since its files do not reach a sixteenth")
            if reasons:
                parts.append(f"{d.name} {m.model} has no score ({'; '.join(reasons)}).")
            elif not good_enough(m):
                parts.append(f"{d.name} {m.model} does not count, since its U is below {COUNTS_FROM}.")
            elif not _counted(now, m):
                parts.append(f"{d.name} {m.model} is in no mean, since not every compared domain and training seed has its size.")
    samples = sorted({m.outcomes["quality"].influence.shape[-1] for d in now.domains for unit in d.units for m in unit})
    if len(samples) > 1:
        parts.append(
            f"Models were measured with different numbers of samples ({', '.join(map(str, samples))}), on which the metrics depend."
        )
    return " ".join(parts)
