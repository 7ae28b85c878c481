"""Writes what the details say about size: C over parameters, and the best network of each file size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.report.cells import signed, table
from bench.report.report_data import ReportData
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, size_of
from bench.stats.sizes import (
    REFERENCE_SIZE,
    Point,
    SizeSlopes,
    best_within,
    common_sizes,
    points,
    repeated_sizes,
    size_slopes,
    with_sizes,
)
from bench.util.markup import as_text, joined


def sizes(found: ReportData) -> list[str]:
    """The regression of C on size, one line for each role, or the reason why there is none."""
    lines = []
    for role in ROLES:
        data = points(found.compared, found.parameters, role)
        lines.append(f"- {role}: {_regression(data)}")
        solid = [p for p in data if not p.hollow]
        if len(solid) < len(data):
            lines.append(f"- {role}, without the models whose U is below 0.5: {_regression(solid)}")
        if len(often := repeated_sizes(data)) < len(solid) and size_slopes(often) is not None:
            lines.append(
                f"- {role}, without sizes that have fewer training seeds than another: {_regression(often)}"
            )
        if len(common := common_sizes(data)) < len(solid) and size_slopes(common) is not None:
            names = joined(sorted({as_text(size_of(p.model)) for p in common}))
            lines.append(f"- {role}, of sizes {names}, which all domains have: {_regression(common)}")
    return [
        "**Does size matter?** Linear regression of C on log2 of the parameters in each domain, "
        "and the mean of the slopes "
        "([picture](docs/images/sizes.png)):\n",
        "\n".join(lines) + "\n",
    ]


def _regression(data: Sequence[Point]) -> str:
    found = size_slopes(data)
    if found is None:
        return (
            f"no regression: {len(data)} models, and no domain has two sizes with a residual degree of "
            f"freedom."
        )
    slope = found.average
    low, high = slope.interval() or (math.nan, math.nan)
    models = f"{len(data)} models, {slope.df:.3g} degrees of freedom"
    varied = with_sizes(data)
    if len(varied) < len({p.domain for p in data}):
        models += f"; more than one size only in {', '.join(varied)}"
    interval = f"95 % interval {low:+.3f} to {high:+.3f}"
    return (
        f"{slope.value:+.3f} per doubling, {interval} ({models}).{_by_domain(found)}{_levels(found.levels)}"
    )


def _by_domain(found: SizeSlopes) -> str:
    if len(found.slopes) < 2:
        return ""
    said = [f"{domain} {signed(slope)}" for domain, slope in found.slopes.items()]
    return f" By domain: {', '.join(said)}; test of equal slopes: p = {found.p:.3f} (Welch)."


def _levels(levels: Mapping[str, Estimate]) -> str:
    """C at the reference size. The ends of the intervals are clipped to [0, 1]."""
    said = []
    for domain, level in levels.items():
        low, high = (min(1.0, max(0.0, end)) for end in level.interval() or (0.0, 1.0))
        said.append(f"{domain} {level.value:.3f} [{low:.3f}, {high:.3f}]")
    return f" C on these lines at {REFERENCE_SIZE / 1e6:g} M parameters: {', '.join(said)}."


WITHIN_NOTES = """\
**Large and compressed, or small?** The best network of each domain in a file of at most so many bytes, among
all sizes and rungs and the uncompressed networks. The best one has the largest minimum of validity and mutual
recall. Sampling seed 0 selects it; the numbers are means over training seeds on the other sampling seeds.
Sizes with fewer training seeds are left out. A line is left out where the best network is that of the line
above.
"""
LIMITS = tuple(1024 * 2**k for k in range(4, 14))


def large_or_small(found: ReportData) -> list[str]:
    """The best network at each file size. Empty where no domain has two sizes."""
    lines, several = [], False
    for d in found.now.domains:
        records = found.of(d.name)
        several |= len({size_of(r.model) for r in records}) > 1
        for fits in best_within(records, LIMITS):
            values = [f"{fits.values[role]:.3f}" for role in ROLES]
            limit = f"{fits.limit // 1024:,} KB"
            lines.append(
                [d.name, limit, f"`{fits.method}` of {fits.size}", f"{fits.stored / 1024:,.0f} KB", *values]
            )
    headers = ["domain", "at most", "network", "file", "valid ↑", "mutual recall ↑"]
    return [WITHIN_NOTES, table(headers, lines) + "\n"] if several else []
