"""Rate-retention pictures: the retention of quality and of diversity by file size.

They show raw means over sampling seeds with standard deviations, and not the fits behind the scores. They
need only the records, and equal records give equal bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.methods.notation import LADDER, PATTERN, is_recalibrated, is_trained, without_recalibration
from bench.records.schema import FINISHED, Record
from bench.registry import METHODS
from bench.report.figures import canvas
from bench.report.figures.canvas import COLOURS, GREY, MARKER, MARKERS, Curve, Label
from bench.stats.compressibility import recalibrated_ladder, retention_of
from bench.stats.ladder import comparable, grouped
from bench.util.files import slug, write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROLES = ("quality", "diversity")
BASELINE = "none"
SIZE = (9.0, 8.0)  # inches
BAR = {"elinewidth": 1.1, "capsize": 2.5}
FRONTIER: dict[str, Any] = {"color": "#DDDDDD", "linewidth": 7, "solid_capstyle": "butt", "zorder": 1}


@dataclass(frozen=True)
class Point:
    """One method: the mean over its seeds."""

    method: str
    ratio: float
    quality: tuple[float, float] | None  # mean and standard deviation; None: not measured, which is not zero
    diversity: tuple[float, float] | None


@dataclass(frozen=True)
class Series:
    """Points that share a colour, a marker and an entry in the legend, largest file first."""

    name: str
    points: Sequence[Point]
    colour: str
    marker: str
    line: bool = True


def draw(records: Sequence[Record], folder: Path, model: str = "s@0") -> list[Path]:
    """Draw one picture with the ladder of every domain, and one for each domain with all its methods -> the
    files.

    If a domain's ladder is recalibrated, other methods are left out. Raises `BadInput` when nothing can be
    drawn.
    """
    by_domain = grouped([r for r in records if r.model == model], lambda r: r.domain)
    domains = {domain: group for domain, every in by_domain if points_of(group := comparable(every))}
    if not domains:
        raise BadInput(f"there are no records of model {model!r} to draw")
    drawn = {}
    if ladders := ladders_of(domains):
        drawn["rate-retention.png"] = _picture(
            ladders, f"What the ladder of quantizers leaves of each domain's network ({model})"
        )
    for domain, group in domains.items():
        ending = ", all recalibrated" if recalibrated_ladder(group) else ""
        title = f"What each method leaves of the network: {domain} ({model}{ending})"
        drawn[f"rate-retention-{slug(domain)}.png"] = _picture(families_of(group), title, frontier=True)
    for name, data in drawn.items():
        write_atomically(folder / name, data)
    return [folder / name for name in drawn]


# ------------------------------------------------------------------------------------------ records -> series


def points_of(records: Sequence[Record]) -> list[Point]:
    """The methods of one model, largest file first.

    Methods without a size or without any retention are left out.

    If the ladder is recalibrated, only the baseline, methods ending in `+recalibrate` and trained methods
    stay, and the ending is removed.
    """
    recalibrated = recalibrated_ladder(records)
    kept = [
        r
        for r in records
        if r.status in FINISHED
        and (not recalibrated or r.method == BASELINE or is_recalibrated(r.method) or is_trained(r.method))
    ]
    points = []
    for method, group in grouped(kept, lambda r: r.method):
        rates = [math.log2(r.cost.ratio) for r in group if r.cost]
        quality, diversity = (_spread(group, role) for role in ROLES)
        if rates and (quality or diversity):
            points.append(
                Point(
                    without_recalibration(method) if recalibrated else method,
                    2 ** mean(rates),
                    quality,
                    diversity,
                )
            )
    return sorted(points, key=lambda point: point.ratio)


def _spread(records: Sequence[Record], role: str) -> tuple[float, float] | None:
    """The mean and the standard deviation of a role's retention; None where it was not measured."""
    known = [value for r in records if (value := retention_of(r, role)) is not None]
    return (mean(known), stdev(known) if len(known) > 1 else 0.0) if known else None


def ladders_of(domains: dict[str, list[Record]]) -> list[Series]:
    """The primary ladder of each domain that has one, after its baseline."""
    found = []
    for i, (domain, records) in enumerate(sorted(domains.items())):
        points = [point for point in points_of(records) if point.method in (BASELINE, *LADDER)]
        if any(point.method in LADDER for point in points):
            name = domain + (" (recalibrated)" if recalibrated_ladder(records) else "")
            found.append(Series(name, points, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]))
    return found


FAMILIES = {
    "ladder": Series(f"ladder, {LADDER[0]} to {LADDER[-1]}", (), COLOURS[0], MARKERS[0]),
    "ecsq": Series("entropy-coded (ecsq)", (), COLOURS[1], MARKERS[1]),
    "tcq": Series("trellis-coded (tcq)", (), "#7F3C8D", "X"),
    "ldlq": Series("trellis-coded, calibrated (ldlq)", (), "#B2182B", "h"),
    "quantizer": Series("other quantizers", (), COLOURS[2], MARKERS[2], line=False),
    "tool": Series("other tools", (), "#444444", "*", line=False),
    "both": Series("pruned and quantized", (), COLOURS[3], MARKERS[3], line=False),
    "pruning": Series("pruned", (), COLOURS[4], MARKERS[4], line=False),
    "trained": Series("compressed while training", (), COLOURS[5], MARKERS[5], line=False),
}


def families_of(records: Sequence[Record]) -> list[Series]:
    """All methods of one model by family.

    The ladder's line starts at the baseline. Families without points are left out.
    """
    members: dict[str, list[Point]] = {family: [] for family in FAMILIES}
    for point in points_of(records):
        members["ladder" if point.method == BASELINE else family_of(point.method)].append(point)
    return [
        Series(look.name, members[f], look.colour, look.marker, look.line)
        for f, look in FAMILIES.items()
        if members[f]
    ]


def family_of(method: str) -> str:
    """The family of a method, from its text alone, because the record of a plug-in can be read without the
    plug-in.
    """
    if method in LADDER:
        return "ladder"
    if is_trained(method):
        return "trained"
    links = without_recalibration(method).split("+")
    names = ["nm" if PATTERN.match(link) else link.partition(":")[0] for link in links]
    if any(METHODS.get(name, "").startswith("bench.methods.tools.") for name in names):
        return "tool"
    modules = ("bench.methods.prune:", "bench.methods.calibrated_pruning:", "bench.methods.channels:")
    prunes = [METHODS.get(name, "").startswith(modules) for name in names]
    if any(prunes):
        return "pruning" if all(prunes) else "both"
    return names[0] if names in (["ecsq"], ["tcq"], ["ldlq"]) else "quantizer"


def frontier_of(series: Sequence[Series], role: str) -> list[tuple[float, float]]:
    """(ratio, the largest mean in a file at least as small), largest file first."""
    found: list[tuple[float, float]] = []
    for ratio, value in sorted(((x, y) for one in series for x, y, _ in _shown(one, role)), reverse=True):
        found.append((ratio, max(value, found[-1][1] if found else -math.inf)))
    return found[::-1]


def label_of(method: str) -> str:
    """The label of a method: `magnitude 0.9` for `magnitude:sparsity=0.9`. The baseline has none."""
    return "" if method == BASELINE else re.sub(r"[:,](?=[a-z])(sparsity=|bits=|scope=)?", " ", method)


# ------------------------------------------------------------------------------------------ series -> picture


def _picture(series: Sequence[Series], title: str, frontier: bool = False) -> bytes:
    """PNG: quality above, diversity below. A frontier is a band of steps behind the points."""

    def paint(figure: Figure, renderer: Any) -> None:
        panels = _panels(figure, series, top=_legend(figure, series, renderer, frontier) - 0.015)
        figure.text(0.105, 0.965, title, fontsize=12.5, va="center")
        for role, axes in zip(ROLES, panels):
            if frontier and (best := frontier_of(series, role)):
                axes.step(*zip(*best), where="pre", **FRONTIER)
            for one in series:
                _plot(axes, one, role)
            _write_labels(axes, series, role, renderer)

    return canvas.png(SIZE, paint)


def _panels(figure: Figure, series: Sequence[Series], top: float) -> Sequence[Axes]:
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.105, right=0.985, top=top, bottom=0.07, hspace=0.08)
    known = [
        spread
        for one in series
        for p in one.points
        for spread in (p.quality, p.diversity)
        if spread is not None
    ]
    lowest, highest = min(m - bar for m, bar in known), max(m + bar for m, bar in known)
    canvas.ratio_axis(panels[0], [point.ratio for one in series for point in one.points], 0.92, 36.0)
    panels[0].set_ylim(min(-0.07, lowest - 0.06), max(1.12, highest + 0.1))
    panels[1].set_xlabel(canvas.COMPRESSION, loc="left")
    figure.text(
        0.985,
        0.026,
        "mean ± standard deviation over sampling seeds",
        ha="right",
        va="center",
        fontsize=9,
        color=GREY,
    )
    for role, axes in zip(ROLES, panels):
        axes.set_ylabel(f"{role} retention\n{canvas.ZERO_AND_ONE}")
        canvas.levels(axes)
    return panels


def _shown(series: Series, role: str) -> list[tuple[float, float, float]]:
    """(ratio, mean, standard deviation) of the points that have this role."""
    return [(point.ratio, *known) for point in series.points if (known := getattr(point, role)) is not None]


def _plot(axes: Axes, series: Series, role: str) -> None:
    """Markers with bars for the standard deviation over seeds, and a line where the series has one."""
    x, y, bar = zip(*shown) if (shown := _shown(series, role)) else ((), (), ())
    style: dict[str, Any] = {
        "color": series.colour,
        "marker": series.marker,
        "linestyle": "-" if series.line else "none",
        **MARKER,
        **BAR,
    }
    axes.errorbar(x, y, bar, **style)


def _legend(figure: Figure, series: Sequence[Series], renderer: Any, frontier: bool) -> float:
    """A legend without the error bars that `errorbar` would add -> its lower edge, 0 to 1."""
    from matplotlib.lines import Line2D

    looks: list[dict[str, Any]] = [
        {"color": s.colour, "marker": s.marker, "linestyle": "-" if s.line else "none", **MARKER}
        for s in series
    ] + ([FRONTIER] if frontier else [])
    return canvas.legend(
        figure,
        [Line2D([], [], **look) for look in looks],
        [*(one.name for one in series), *(["best of all at this size or smaller"] if frontier else [])],
        renderer,
        (0.1, 0.948),
    )


def _write_labels(axes: Axes, series: Sequence[Series], role: str, renderer: Any) -> None:
    labels = [
        Label(label_of(point.method), point.ratio, known[0], one.colour)
        for one in series
        for point in one.points
        if (known := getattr(point, role)) is not None
    ]
    curves = []
    for one in series:
        x, y, bars = zip(*shown) if (shown := _shown(one, role)) else ((), (), ())
        curves.append(Curve(x, y, bars, one.line))
    canvas.write_labels(axes, labels, curves, renderer)
