"""Tests of domains: the ratio at which enough is kept, and whether one domain keeps more than another.

Domains are compared by Welch's test with Holm's adjustment.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.stats.compressibility import FULL_RANGE
from bench.stats.domain import Domain
from bench.stats.intervals import Difference, fixed_sequence, holm, welch
from bench.stats.ladder import ROLES
from bench.stats.scores import Score

# --------------------------------------------------------------------------------------- ratio at a retention


@dataclass(frozen=True)
class Ratio:
    """The largest compression at which the test shows that retention is at least a threshold, as at every
    milder rung.

    `certified` is None where the mildest rung already fails. `refuted` is the mildest rung from which every
    rung is shown to be below the threshold. The true ratio lies between them.
    """

    certified: float | None
    refuted: float | None
    rung: str | None = None
    stopped_by: str = ""  # `interval`, or `length` of the samples


def ratio_at(domain: Domain, role: str, threshold: float) -> Ratio | None:
    """One-sided 95 % tests of the rungs in a fixed order, from the mildest and from the harshest.

    None without models.
    """
    every = domain.units[0][0].rungs if domain.units else ()
    known = {rung: e for rung in every if (e := domain.retention(role, rung)) is not None}
    if not known:
        return None
    rungs, estimates = list(known), list(known.values())
    count = fixed_sequence([e.lower() for e in estimates], threshold)
    short = next((i for i, rung in enumerate(rungs) if not domain.long_enough(rung)), len(rungs))
    lost = fixed_sequence(
        [None if (upper := e.upper()) is None else -upper for e in reversed(estimates)], -threshold
    )
    refuted = len(rungs) - lost if lost else None
    last = min(count, short) - 1

    def ratio(i: int | None) -> float | None:
        rate = None if i is None or i < 0 else domain.rate(rungs[i])
        return None if rate is None else 2**rate

    return Ratio(
        ratio(last),
        ratio(refuted),
        rungs[last] if last >= 0 else None,
        "length" if short < count else "interval",
    )


# -------------------------------------------------------------------------------------------- between domains


@dataclass(frozen=True)
class Comparison:
    """C of one domain minus C of another, in one role.

    Holm adjusts `p` over all comparisons made together.
    """

    role: str
    a: str
    b: str
    difference: Difference | None  # None: a domain has fewer than two training seeds
    p: float | None

    @property
    def shown(self) -> bool:
        """Whether the test shows a difference at the 5 % level."""
        return self.p is not None and self.p < 0.05


def compare(domains: Sequence[Domain], span: tuple[float, float] = FULL_RANGE) -> list[Comparison]:
    """Compare every pair of domains in both roles. The domain with the larger score is first.

    Holm's adjustment counts all pairs, including those that cannot be tested yet for lack of models.
    """
    rows = []
    for role in ROLES:
        scored = [(d.name, s) for d in domains if d.compared and (s := d.score(role, span)) is not None]
        for (a, sa), (b, sb) in itertools.combinations(sorted(scored, key=lambda pair: -pair[1].value), 2):
            rows.append((role, a, b, difference(sa, sb)))
    adjusted = holm([1.0 if d is None else d.p for *_, d in rows])
    return [Comparison(role, a, b, d, None if d is None else p) for (role, a, b, d), p in zip(rows, adjusted)]


def difference(a: Score, b: Score) -> Difference | None:
    """The difference of C as defined.

    Its interval also covers that of the plain integrals, and both have to be significant.
    """
    raw = welch(a.estimate, b.estimate)
    defined = welch(replace(a.estimate, value=a.value), replace(b.estimate, value=b.value))
    if raw is None or defined is None:
        return None
    p = max(raw.p, defined.p) if raw.value * defined.value > 0 else 1.0
    return Difference(
        defined.value, max(-1.0, min(raw.low, defined.low)), min(1.0, max(raw.high, defined.high)), p
    )
