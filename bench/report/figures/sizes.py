"""`sizes.png`: C of every model by parameters, with the leaderboard's regression.

It shows every point, since there are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.records.schema import Record
from bench.report.figures import canvas
from bench.report.figures.canvas import GREY, MARKER
from bench.report.figures.overview import DomainSeries
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.sizes import REFERENCE_SIZE, Point, SizeSlopes, points, size_slopes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (9.0, 4.6)  # inches
APART = 0.09  # of a doubling: the distance between models of one domain and size, whose markers would overlap
LEVEL = 0.94  # of the picture: where the legend begins


@dataclass(frozen=True)
class Panel:
    """One role: its points and its regression lines."""

    role: str
    points: Sequence[Point]
    lines: SizeSlopes


def panels_of(series: Sequence[DomainSeries], records: Sequence[Record]) -> list[Panel]:
    """One panel for each role. Empty where no regression is possible."""
    counts = {(r.domain, r.model): r.cost.parameters for r in records if r.cost}
    models = [m for one in series for m in one.domain.models]

    def parameters(m: ModelLadder) -> int | None:
        return counts.get((m.domain, m.model))

    data = {role: points(models, parameters, role) for role in ROLES}
    return [
        Panel(role, found, lines) for role, found in data.items() if (lines := size_slopes(found)) is not None
    ]


def places(found: Sequence[Point]) -> list[float]:
    """The x-coordinate of each point.

    Models of one domain and size stand side by side around their number of parameters.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for i, point in enumerate(found):
        groups.setdefault((point.domain, point.parameters), []).append(i)
    x = [float(point.parameters) for point in found]
    for members in groups.values():
        for rank, i in enumerate(members):
            x[i] *= 2 ** (APART * (rank - (len(members) - 1) / 2))
    return x


# ------------------------------------------------------------------------------------------ panels -> picture


def picture(panels: Sequence[Panel], series: Sequence[DomainSeries]) -> bytes:
    """PNG: one panel for each role, side by side on one scale."""
    looks = {one.domain.name: one for one in series}

    def paint(figure: Figure, renderer: Any) -> None:
        from matplotlib.lines import Line2D

        shown = {point.domain for panel in panels for point in panel.points}
        names = [name for name in looks if name in shown]
        handles: list[Any] = [
            Line2D([], [], color=looks[n].colour, marker=looks[n].marker, linestyle="none", **MARKER)
            for n in names
        ]
        bottom = canvas.legend(figure, handles, names, renderer, (0.075, LEVEL - 0.03))
        figure.text(
            0.08,
            LEVEL + 0.015,
            "Does size matter? C of each model by its parameters",
            fontsize=12.5,
            va="center",
        )
        lower = canvas.footnote(figure, _footnote(panels), 0.08) + 0.6 / SIZE[1]
        rows = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        figure.subplots_adjust(left=0.08, right=0.985, top=bottom - 0.075, bottom=lower, wspace=0.06)
        _axes(rows, panels)
        for axes, panel in zip(rows, panels):
            _plot(axes, panel, looks)

    return canvas.png(SIZE, paint)


def _footnote(panels: Sequence[Panel]) -> str:
    parts = [
        "bars: 95 % intervals of the model alone",
        "models of one size side by side",
        "lines: a slope for each domain; in the title their mean",
    ]
    if any(point.hollow for panel in panels for point in panel.points):
        parts.append("hollow: U below 0.5, not in the means")
    return "; ".join(parts)


def _axes(rows: Sequence[Axes], panels: Sequence[Panel]) -> None:
    sizes = [point.parameters for panel in panels for point in panel.points]
    first, last = (
        math.floor(math.log2(min(sizes) / REFERENCE_SIZE)),
        math.ceil(math.log2(max(sizes) / REFERENCE_SIZE)),
    )
    ticks = [REFERENCE_SIZE * 2.0**i for i in range(first, last + 1)]
    rows[0].set_xscale("log", base=2)
    rows[0].set_xticks(ticks, [f"{tick / 1e6:.3g} M" for tick in ticks])
    rows[0].minorticks_off()
    rows[0].set_xlim(min(sizes) / 1.3, max(sizes) * 1.3)
    rows[0].set_ylabel("C (1 = nothing is lost down to a sixteenth)")
    for axes, panel in zip(rows, panels):
        average = panel.lines.average
        low, high = average.interval() or (math.nan, math.nan)
        slope = f"{average.value:+.3f} a doubling [{low:+.3f}, {high:+.3f}]"
        axes.set_title(f"{panel.role}: {slope}", loc="left", fontsize=10)
        axes.set_xlabel("parameters", loc="left")


def _plot(axes: Axes, panel: Panel, looks: Mapping[str, DomainSeries]) -> None:
    for x, point in zip(places(panel.points), panel.points):
        look = looks[point.domain]
        low, high = point.interval or (point.score, point.score)
        axes.plot([x, x], [low, high], color=look.colour, linewidth=1, alpha=0.7, zorder=2)
        style: dict[str, Any] = (
            {**MARKER, "markeredgecolor": look.colour, "markerfacecolor": "white"} if point.hollow else MARKER
        )
        axes.plot([x], [point.score], color=look.colour, marker=look.marker, zorder=3, **style)
    for domain, estimate in panel.lines.slopes.items():
        level, slope = panel.lines.levels[domain].value, estimate.value
        sizes = [point.parameters for point in panel.points if point.domain == domain]
        ends = [min(sizes), max(sizes)]
        if ends[0] < ends[1]:
            height = [level + slope * math.log2(end / REFERENCE_SIZE) for end in ends]
            axes.plot(
                ends, height, color=looks[domain].colour, linewidth=1.4, linestyle=(0, (5, 2)), zorder=1.5
            )
    axes.axhline(1, color=GREY, linewidth=0.6, zorder=1)
