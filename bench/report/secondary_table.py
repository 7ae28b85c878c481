"""The part of the leaderboard that asks whether other judges would have said the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.report.report_data import DASH, ReportData, bracketed, table, with_interval
from bench.stats.agreement import APART, Agreement, agreements, interval_of
from bench.stats.compressibility import FULL_RANGE, HIGH_RANGE
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES
from bench.stats.use import UtilityCorrelation, foretold

NOTES = f"""\
Samples were also judged by evaluators of another kind ([docs/second-judges.md](docs/second-judges.md)). **tau**: Kendall's rank
correlation between the retentions that the two judges give to the methods of a model; 1 = the same order, 0 = no relation; 95 % interval
by leaving out one method at a time (over methods: of other models it says nothing). **alike**: of the pairs of methods that both judges
tell apart by at least {APART}, the share that both put in the same order. **parting**: the method on which they differ most: first, second.
"""
SCORES_NOTES = """\
The first table as the second judges would have written it, over those of its models whose whole ladder they have judged:
"""


def second_opinions(found: ReportData) -> list[str]:
    """Nothing where no second judge was asked."""
    rows = agreements(found.records)
    if not rows:
        return []
    parts = [f"## Would other judges agree?\n\n{NOTES}", agreement_table(rows) + "\n", SCORES_NOTES, scores_table(found) + "\n"]
    told = foretold(found.records)
    return [*parts, USE_NOTES, use_table(told) + "\n"] if told else parts


USE_NOTES = """\
**Which foretells use better, quality or diversity?** Kendall's tau between what a method's samples are good for as training data and each
retention, over the same methods, with the same kind of interval:
"""


def use_table(told: Sequence[UtilityCorrelation]) -> str:
    lines = []
    for domain in dict.fromkeys(one.domain for one in told):
        by_role = {one.role: one for one in told if one.domain == domain}
        either = next(iter(by_role.values()))  # a retention of a role may be undefined in all of a domain's models
        taus = [tau_text(by_role[role].tau) if role in by_role else DASH for role in ROLES]
        lines.append([domain, either.task, str(max(one.methods for one in by_role.values())), *taus])
    return table(["domain", "task", "methods", *(f"tau with {role}" for role in ROLES)], lines, left=2)


def tau_text(tau: Estimate) -> str:
    """Without a value where a judge gave all methods the same."""
    return DASH if math.isnan(tau.value) else bracketed(tau.value, interval_of(tau), 2)


def agreement_table(rows: Sequence[Agreement]) -> str:
    lines = []
    for row in rows:
        worst = row.partings[0]
        lines.append(
            [
                row.domain,
                row.role,
                ", ".join(row.judges),
                str(row.methods),
                tau_text(row.tau),
                DASH if row.concordant is None else f"{row.concordant:.3f} of {row.pairs}",
                f"`{worst.method}` of {worst.model}: {worst.first:.2f}, {worst.second:.2f}",
            ]
        )
    return table(["domain", "role", "judges", "methods", "tau ↑", "alike ↑", "parting"], lines, left=3)


def scores_table(found: ReportData) -> str:
    headers = ["domain", "models", *(f"C {role} {span}".rstrip() for span in ("", "4x to 16x") for role in ROLES)]
    lines = []
    for d in found.now.second_domains:
        scores = [with_interval(d.score(role, span)) for span in (FULL_RANGE, HIGH_RANGE) for role in ROLES]
        compared = next(sum(map(len, one.units)) for one in found.now.domains if one.name == d.name)
        judged = sum(map(len, d.units))
        lines.append([d.name, str(judged) if judged == compared else f"{judged} of {compared}", *scores])
    return table(headers, lines)
