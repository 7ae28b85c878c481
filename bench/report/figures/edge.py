"""`edge.png`: time against quality in real runtimes. The area of a point is the bytes of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.records.edge import EdgeRecord, by
from bench.report.edge import latest, machine_of
from bench.report.figures import canvas
from bench.report.figures.canvas import COLOURS, MARKERS, Curve, Label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.4, 5.4  # inches; of one panel, of the picture
AREA = 240.0  # square points of the largest file of a panel


@dataclass(frozen=True)
class Point:
    """One runtime and precision."""

    runtime: str
    precision: str
    ms: float
    quality: float
    size_bytes: int


@dataclass(frozen=True)
class Panel:
    """One uncompressed model at the largest batch."""

    title: str
    machine: str
    points: tuple[Point, ...]


def panels_of(records: Sequence[EdgeRecord]) -> list[Panel]:
    """One panel for each model; empty where nothing was measured."""
    found = []
    dense = [one for one in latest(records) if one.method == "none" and one.times and one.file_bytes]
    for (domain, model), same in by(dense, lambda r: (r.domain, r.model)).items():
        points = []
        for one in same:
            quality = one.metrics.get("quality_retention")
            if quality is not None:
                ms = 1000 * one.times[-1].seconds_per_sample
                points.append(Point(one.runtime, one.precision, ms, quality, one.file_bytes or 0))
        if points:
            title = f"{domain} {model}, batch {same[0].times[-1].batch}"
            found.append(Panel(title, machine_of(same[0]), tuple(points)))
    return found


def picture(panels: Sequence[Panel]) -> bytes:
    """PNG: the models side by side."""
    size = (max(1.5, len(panels)) * WIDTH, HEIGHT)
    runtimes = list(dict.fromkeys(point.runtime for panel in panels for point in panel.points))

    def paint(figure: Figure, renderer: Any) -> None:
        from matplotlib.lines import Line2D

        left = 0.85 / size[0]
        handles = [Line2D([], [], linestyle="", markersize=7, **_look(runtimes, name)) for name in runtimes]
        figure.text(left, 0.955, "Quality and speed in real runtimes", fontsize=12.5, va="center")
        bottom = canvas.legend(figure, handles, runtimes, renderer, (left - 0.005, 0.92))
        machines = "; ".join(dict.fromkeys(panel.machine for panel in panels))
        note = f"area of a point: bytes of the runtime's files; labels: precision; {machines}"
        grid = figure.subplots(1, len(panels), squeeze=False)
        lower = canvas.footnote(figure, note, left) + 0.6 / HEIGHT
        figure.subplots_adjust(
            left=left, right=1 - 0.12 / size[0], top=bottom - 0.08, bottom=lower, wspace=0.22
        )
        for axes, panel in zip(grid[0], panels):
            _plot(axes, panel, runtimes, renderer)

    return canvas.png(size, paint)


def _look(runtimes: Sequence[str], name: str) -> dict[str, Any]:
    i = runtimes.index(name)
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def _plot(axes: Axes, panel: Panel, runtimes: Sequence[str], renderer: Any) -> None:
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.set_xscale("log")
    axes.set_xlabel("ms a sample (logarithmic)", loc="left")
    axes.set_ylabel("quality retention")
    times, values = [p.ms for p in panel.points], [p.quality for p in panel.points]
    axes.set_xlim(min(times) / 1.5, max(times) * 1.5)
    room = 0.12 * (max(1.0, *values) - min(values) + 0.1)
    axes.set_ylim(min(values) - room, max(1.0, *values) + room)
    _plain_ticks(axes)
    axes.axhline(1, color="#b8b8b8", linewidth=0.9, zorder=1)
    largest = max(p.size_bytes for p in panel.points)
    for point in panel.points:
        area = AREA * point.size_bytes / largest
        axes.scatter([point.ms], [point.quality], s=area, alpha=0.75, **_look(runtimes, point.runtime))
    labels = []
    for point in panel.points:
        colour = _look(runtimes, point.runtime)["color"]
        labels.append(Label(point.precision, point.ms, point.quality, colour))
    canvas.write_labels(axes, labels, [Curve(times, values, line=False)], renderer)


def _plain_ticks(axes: Axes) -> None:
    """0.5, 1, 2 in place of powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
