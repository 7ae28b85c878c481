"""Writes the section "Data or network?": domains that share their data or their network, and differ in the
other.

All sentences are made from the tests of the ranking. Nothing is written where no two domains share either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

from bench.report.cells import DASH, table, with_interval
from bench.report.report_data import ReportData
from bench.report.verdict import (
    PAIR_HEADERS,
    ClaimContext,
    first_alone,
    in_roles,
    pairs,
    shown_by_second,
    together,
)
from bench.stats.comparison import Comparison
from bench.stats.contrasts import (
    FACTORS,
    Component,
    Contrast,
    by_kinds,
    components,
    shares,
    variance_range,
)
from bench.stats.domain import Domain
from bench.stats.ladder import ROLES
from bench.util.markup import as_text, joined

TITLE = "Data or network?"
COMPANION = "companion"  # in the settings of a record: the name of a network that is never compressed
NOTES = """\
Some domains share their data or their network and differ in the other. Their pairs, tests and adjusted
p-values are those of the ranking ([statistics.md](docs/statistics.md#data-or-network)). Where the data are
the same, real samples and evaluators are the same; recipe, normalization and sampler belong to the network.
Where the network is the same, evaluators and length of the samples still belong to the data. **May
differ by up to**: the farthest end of the 95 % intervals of the pairs that are not claimed, by whichever set
of evaluators it is farther.
"""
GRID_NOTES = """\
C of each kind of data (rows) and network (columns) ([picture](docs/images/data-and-network.png)). A dash was
not measured.
"""
SHARE_NOTES = """\
**Where does the variance of C lie?** Each factor is seen where only it differs: networks on the same data,
data under the same network, sizes within a domain, training seeds within a size (sampling noise included).
**SD** is the standard deviation of C that a factor causes, and **share** its part of the sum of variances.
"""


# ------------------------------------------------------------------------------------------------- sentences


def short_answer(found: ReportData, details: str = "") -> str:
    """The sentence of the first page, with a link to the page of details where one is given.

    Empty unless both data and network are contrasted.
    """
    if not found.crossed:
        return ""
    sentences = " ".join([*(_said(c, found.now) for c in found.contrasts), *companions(found)])
    link = f" ([details]({details}#data-or-network))" if details else ""
    return f"**{TITLE}** {sentences}{link}\n"


def said(found: ReportData) -> list[str]:
    """What the tests of each contrast show, as the lines of a list."""
    return [f"- {_said(c, found.now)}" for c in found.contrasts]


def companions(found: ReportData) -> list[str]:
    """A sentence for each contrasted domain that uses a further network, which no method compresses."""
    contrasted = {domain for contrast in found.contrasts for domain in contrast.words}
    named = {r.domain: r.sampler[COMPANION] for r in found.records if r.sampler.get(COMPANION)}
    return [
        f"The {as_text(str(name))} of {as_text(domain)} is never compressed, and no ratio counts it."
        for domain, name in sorted(named.items())
        if domain in contrasted
    ]


def _said(contrast: Contrast, now: ClaimContext) -> str:
    """What the tests of one contrast show, and how large a difference may be that they do not show."""
    rows = _pairs_of(contrast, now.comparisons)
    claims = _larger(contrast, [c for c in rows if now.claimed(c)])
    rest = [c for c in rows if not now.claimed(c)]
    parts = [f"{'It' if i else 'C'} is {claim}." for i, claim in enumerate(claims)]
    if rest or not claims:
        parts.append(_open(rest, now, others=bool(claims)))
    for who, shown in (("primary", first_alone(now)), ("secondary", shown_by_second(now))):
        alone = _larger(contrast, _pairs_of(contrast, shown))
        parts += [f"By the {who} evaluators alone, C is {claim}." for claim in alone]
    return f"With the same {contrast.shared} ({as_text(contrast.word)}), {' '.join(parts)}"


def _pairs_of(contrast: Contrast, rows: Sequence[Comparison]) -> list[Comparison]:
    return [c for c in rows if contrast.has(c.a, c.b)]


def _larger(contrast: Contrast, rows: Sequence[Comparison]) -> list[str]:
    """`larger with the A than with the B and the C, in quality`, and whatever else the rows show."""
    at, article = ("with", "the ") if contrast.shared == "data" else ("on", "")
    labels = {domain: f"{article}{as_text(contrast.label(domain))}" for domain in contrast.words}
    ahead: dict[tuple[str, str], list[str]] = {}
    for a, others, roles in together([(labels[c.a], labels[c.b], c.role) for c in rows]):
        ahead.setdefault((joined(others), in_roles(roles)), []).append(a)
    return [f"larger {at} {joined(a)} than {at} {behind}, in {roles}" for (behind, roles), a in ahead.items()]


def _open(rows: Sequence[Comparison], now: ClaimContext, others: bool) -> str:
    """The pairs that are not claimed, with the largest difference that is possible. `others` are claimed."""
    limits = []
    for role in ROLES:
        if wide := [_widest(c, now) for c in rows if c.role == role and c.difference is not None]:
            limits.append(f"{max(wide):.3f} in {role}")
    if not limits:
        return "No other test is possible." if others else "no test is possible."
    verdict = "no difference is shown: C"
    if others:
        single = len({frozenset((c.a, c.b)) for c in rows}) == 1
        verdict = f"The other {'pair is undecided: its' if single else 'pairs are undecided: their'} C"
    return f"{verdict} may differ by up to {joined(limits)} (95 % intervals)."


def _widest(c: Comparison, now: ClaimContext) -> float:
    """The largest difference within the intervals of both sets of evaluators."""
    both = [one.difference for one in (c, now.theirs(c)) if one is not None]
    return max(d.widest for d in both if d is not None)


# --------------------------------------------------------------------------------------------------- details


def data_or_network(found: ReportData) -> list[str]:
    """The section of the page of details. Empty where no contrast exists."""
    if not found.contrasts:
        return []
    lines = [*said(found), *(f"- {sentence}" for sentence in companions(found))]
    return [
        f"## {TITLE}\n\n{NOTES}",
        "\n".join(lines) + "\n",
        tests(found) + "\n",
        GRID_NOTES,
        grid(found) + "\n",
        *variances(found),
    ]


def tests(found: ReportData) -> str:
    """One line for each pair and role: what both domains share, then the columns of the ranking's pairs."""
    lines = []
    for contrast in found.contrasts:
        shared = f"{contrast.shared}: {as_text(contrast.word)}"
        of_contrast = replace(found.now, comparisons=_pairs_of(contrast, found.now.comparisons))
        lines += [[shared, *line] for line in pairs(of_contrast)]
    return table(["the same", *PAIR_HEADERS], lines, left=3)


def grid(found: ReportData) -> str:
    """C by data and network: a line for each kind of data and role, a column for each kind of network."""
    cells = by_kinds(found.now.domains, found.kinds)
    networks = sorted({network for _, network in cells})
    lines = []
    for data in sorted({data for data, _ in cells}):
        for role in ROLES:
            row = [_cell(cells.get((data, network), []), role) for network in networks]
            lines.append([as_text(data), role, *row])
    return table(["data", "C of", *map(as_text, networks)], lines, left=2)


def _cell(domains: Sequence[Domain], role: str) -> str:
    return "; ".join(with_interval(d.score(role)) for d in domains) or DASH


def variances(found: ReportData) -> list[str]:
    """The components of variance, without a test. Empty unless both data and network are contrasted."""
    second = [d for d in found.now.second_domains if d.units]
    known = {role: components(found.now.domains, found.contrasts, role) for role in ROLES}
    theirs = {role: components(second, found.contrasts, role) for role in ROLES}
    if any(known[role][factor] is None for role in ROLES for factor in FACTORS if factor != "sizes"):
        return []
    lines = []
    for factor in FACTORS:
        one = known[ROLES[0]][factor]
        line = [factor, DASH if one is None else str(one.df)]
        for role in ROLES:
            line += [_deviation(known[role][factor]), _share(known[role], factor)]
        lines.append([*line, *(_share(theirs[role], factor) for role in ROLES if second)])
    headers = ["between", "degrees of freedom", *(f"{role}: {w}" for role in ROLES for w in ("SD", "share"))]
    headers += [f"{role}: share by the secondary evaluators" for role in ROLES if second]
    return [SHARE_NOTES, table(headers, lines) + "\n", _cannot_carry(found, known[ROLES[0]])]


def _deviation(one: Component | None) -> str:
    return DASH if one is None else f"{sqrt(one.variance):.3f}"


def _share(of_role: dict[str, Component | None], factor: str) -> str:
    share = shares(of_role)[factor]
    return DASH if share is None else f"{100 * share:.0f} %"


def _cannot_carry(found: ReportData, known: dict[str, Component | None]) -> str:
    """What so few cells cannot show."""
    cells = by_kinds(found.now.domains, found.kinds)
    every = len({data for data, _ in cells}) * len({network for _, network in cells})
    fewest = min(one.df for one in known.values() if one is not None)
    low, high = variance_range(fewest)
    limits = [
        "**What these shares cannot carry.** They are not tested. "
        f"A variance from {fewest} degrees of freedom is known to within {low:.2f} to {high:.2g} times "
        "its value (95 %, if normal)."
    ]
    if (empty := every - len(cells)) > 0:
        limits.append(
            f"{empty} of {every} pairs of data and network are not measured. So the "
            "design cannot tell whether networks rank alike on other data, or data under other networks."
        )
    return " ".join(limits) + "\n"
