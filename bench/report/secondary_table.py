"""Compares primary and secondary evaluators: rank correlations, the largest disagreements, and the use of
the samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.report.cells import DASH, bracketed, table, with_interval
from bench.report.report_data import ReportData
from bench.stats.compressibility import FULL_RANGE, HIGH_RANGE
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES
from bench.stats.rank_agreement import APART, Agreement, agreements, interval_of
from bench.stats.use import UtilityCorrelation, utility_correlations

NOTES = f"""\
Secondary evaluators are models of another kind that score the same samples
([secondary-evaluators.md](docs/secondary-evaluators.md)).

- **tau**: Kendall's rank correlation between the retentions that both evaluators give to the methods of a
  model. 1 is the same order, 0 no relation. The interval is over methods (jackknife); it does not cover other
  models.
- **same order**: of the pairs of methods that at least one evaluator separates by {APART} or more, the share
  in the same order.
- **largest disagreement**: the method with the largest difference: primary, secondary retention.
"""
SCORES_NOTES = """\
Scores by the secondary evaluators, over the ranked models whose whole ladder they scored:
"""


def secondary_agreement(found: ReportData) -> list[str]:
    """The section of the page. Empty where no secondary evaluator was used."""
    rows = agreements(found.records)
    if not rows:
        return []
    parts = [
        f"## Do other evaluators agree?\n\n{NOTES}",
        agreement_table(rows) + "\n",
        SCORES_NOTES,
        scores_table(found) + "\n",
    ]
    told = utility_correlations(found.records)
    return [*parts, USE_NOTES, use_table(told) + "\n"] if told else parts


USE_NOTES = """\
**Does quality or diversity predict the use of the samples?** Kendall's tau over methods, between the use of a
method's samples as training data and each retention:
"""


def use_table(told: Sequence[UtilityCorrelation]) -> str:
    """How well each role predicts the use of the samples, by domain."""
    lines = []
    for domain in dict.fromkeys(one.domain for one in told):
        by_role = {one.role: one for one in told if one.domain == domain}
        # a retention of a role may be undefined in all of a domain's models
        either = next(iter(by_role.values()))
        taus = [tau_text(by_role[role].tau) if role in by_role else DASH for role in ROLES]
        lines.append([domain, either.task, str(max(one.methods for one in by_role.values())), *taus])
    return table(
        ["domain", "task", "models x methods", *(f"tau with {role}" for role in ROLES)], lines, left=2
    )


def tau_text(tau: Estimate) -> str:
    """A rank correlation with its interval. A dash where an evaluator gave all methods the same value."""
    return DASH if math.isnan(tau.value) else bracketed(tau.value, interval_of(tau), 2)


def agreement_table(rows: Sequence[Agreement]) -> str:
    """One line for each domain and role: the rank correlation and the largest disagreement."""
    lines = []
    for row in rows:
        worst = row.disagreements[0]
        lines.append(
            [
                row.domain,
                row.role,
                ", ".join(row.evaluators),
                str(row.methods),
                tau_text(row.tau),
                DASH if row.concordant is None else f"{row.concordant:.3f} of {row.pairs}",
                f"`{worst.method}` of {worst.model}: {worst.first:.2f}, {worst.second:.2f}",
            ]
        )
    return table(
        ["domain", "role", "evaluators", "models x methods", "tau ↑", "same order ↑", "largest disagreement"],
        lines,
        left=3,
    )


def scores_table(found: ReportData) -> str:
    """C of each domain by the secondary evaluators."""
    headers = [
        "domain",
        "models",
        *(f"C {role} {span}".rstrip() for span in ("", "4x to 16x") for role in ROLES),
    ]
    lines = []
    for d in found.now.second_domains:
        scores = [with_interval(d.score(role, span)) for span in (FULL_RANGE, HIGH_RANGE) for role in ROLES]
        compared = next(sum(map(len, one.units)) for one in found.now.domains if one.name == d.name)
        scored = sum(map(len, d.units))
        lines.append([d.name, str(scored) if scored == compared else f"{scored} of {compared}", *scores])
    return table(headers, lines)
