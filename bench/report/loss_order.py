"""Writes which is lost first, quality or diversity, by domain and by model, and what others report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from bench.report.cells import DASH, table
from bench.report.report_data import ReportData
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.order import Onset, Order, order_of
from bench.util.markup import as_text, joined

UNDECIDED = "undecided"
ELSEWHERE = (
    "Mordido et al. (2021, arXiv:2103.11912) report the opposite for GANs after quantization: quality stays "
    "and diversity falls. They measure other GANs, with precision and recall by hashing."
)


def by_domain(found: ReportData) -> str:
    """How often each role is lost first, by domain. Empty where no model has a whole ladder."""
    orders = [order_of(m) for m in found.models if m.whole]
    if not orders:
        return ""
    theirs = [order_of(m) for m in found.second_models if m.whole]
    lines = []
    for name in dict.fromkeys(o.model.domain for o in orders):
        own = [o for o in orders if o.model.domain == name]
        other = [o for o in theirs if o.model.domain == name]
        lines.append([as_text(name), str(len(own)), *(_middle(own, role) for role in ROLES), *_counts(own)])
        lines[-1] += _counts(other) if other else [DASH] * len(ROLES)
    headers = ["domain", "models", *(f"{role} below 0.90 at" for role in ROLES)]
    headers += [f"{who}{role} first" for who in ("", "secondary: ") for role in ROLES]
    return f"{_said(orders, theirs)} {ELSEWHERE}\n\n{table(headers, lines)}\n"


def _middle(orders: Sequence[Order], role: str) -> str:
    """The median onset over models, with its range: `6.1x (4.3x to 8.0x)`."""
    ratios = [o.onsets[role].ratio for o in orders]
    return f"{ratio_text(median(ratios))} ({ratio_text(min(ratios))} to {ratio_text(max(ratios))})"


def ratio_text(ratio: float) -> str:
    """A ratio; `∞` where the ladder never falls so far."""
    return f"{ratio:.1f}x" if math.isfinite(ratio) else "∞"


def _counts(orders: Sequence[Order]) -> list[str]:
    firsts = [o.first for o in orders]
    return [str(firsts.count(role)) for role in ROLES]


def _said(orders: Sequence[Order], theirs: Sequence[Order]) -> str:
    """In how many models each role is lost first, and where diversity is so more often than quality."""
    quality, diversity = _counts(orders)
    said = [f"Quality is lost first in {quality} of {len(orders)} models and diversity in {diversity}."]
    if theirs:
        quality, diversity = _counts(theirs)
        said.append(f"By the secondary evaluators these are {quality} and {diversity} of {len(theirs)}.")
    names = [*dict.fromkeys(o.model.domain for o in orders)]
    turned = [name for name in names if _diversity_more_often(orders, name)]
    where = f"in {joined([*map(as_text, turned)])}" if turned else "in no domain"
    return " ".join([*said, f"Diversity is lost first more often than quality {where}."])


def _diversity_more_often(orders: Sequence[Order], domain: str) -> bool:
    firsts = [o.first for o in orders if o.model.domain == domain]
    return firsts.count("diversity") > firsts.count("quality")


# ------------------------------------------------------------------------------------------------- each model

ORDER_NOTES = """\
The compression ratio at which retention falls below 0.90, on straight lines between the rungs. The intervals
are of that model, over sampling seeds and items. **lost first** names a role only where the two intervals do
not overlap.
"""


def losses(found: ReportData) -> str:
    """The ratios at which quality and diversity fall below 0.90, for each model."""
    lines = []
    for m in found.models:
        if m.whole:
            order = order_of(m)
            onsets = [onset_text(order.onsets[role]) for role in ROLES]
            lines.append([f"{as_text(m.domain)} {as_text(m.model)}", *onsets, order.first or UNDECIDED])
    return table(["model", *(f"{role} below 0.90 at" for role in ROLES), "lost first"], lines)


def losses_of(m: ModelLadder) -> list[str]:
    """[quality below 0.90 at, diversity below 0.90 at, lost first] of a model with a whole ladder."""
    order = order_of(m)
    return [*(ratio_text(order.onsets[role].ratio) for role in ROLES), order.first or UNDECIDED]


def onset_text(onset: Onset) -> str:
    """A ratio with its interval: `8.0x [7.5x, 8.4x]`."""
    return f"{ratio_text(onset.ratio)} [{ratio_text(onset.low)}, {ratio_text(onset.high)}]"
