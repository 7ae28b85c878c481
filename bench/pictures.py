"""Rate-retention pictures from the records alone: what is left of quality and of diversity at which file size.

Drawn are raw means over sampling seeds with their standard deviations, not the fits behind the scores. Nothing is measured here, and
equal records give equal bytes.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.compressibility import is_recalibrated, ladder_of, retention_of
from bench.errors import BadInput
from bench.files import slug, write_atomically
from bench.measured import conditions, grouped
from bench.methods.notation import LADDER, PATTERN, RECALIBRATED
from bench.record import FINISHED, Record
from bench.registry import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROLES = ("quality", "diversity")
BASELINE = "none"
SIZE, DPI = (9.0, 8.0), 150  # inches, pixels an inch
# Okabe & Ito 2008: told apart with any kind of colour vision; the markers tell them apart in grey, too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#666666"
MARKER, BAR = {"markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.7}, {"elinewidth": 1.1, "capsize": 2.5}
LOOK = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e8e8e8",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
}
TOUCHING = 5.0  # points: nearer to a marker's centre, a label would hide it
NEIGHBOURS = 60  # pixels
OFFSETS = (  # where a label may lie beside its marker, in points: the first place that is free
    *((0, 6, "center", "bottom"), (6, 5, "left", "bottom"), (7, 0, "left", "center"), (0, -6, "center", "top")),
    *((-7, 0, "right", "center"), (6, -5, "left", "top"), (-6, -5, "right", "top"), (-6, 5, "right", "bottom")),
)


@dataclass(frozen=True)
class Point:
    """One method: the mean of its seeds."""

    method: str
    ratio: float
    quality: tuple[float, float] | None  # mean and standard deviation; None: not measured, which is not zero
    diversity: tuple[float, float] | None


@dataclass(frozen=True)
class Series:
    """Points that share a colour, a marker and an entry in the legend; largest file first."""

    name: str
    points: Sequence[Point]
    colour: str
    marker: str
    line: bool = True


def draw(records: Sequence[Record], folder: Path, model: str = "s@0") -> list[Path]:
    """One picture with the ladder of every domain, and one for each domain with all its methods -> the files.

    Where a domain's ladder is recalibrated, methods that were not are left out. Raises `BadInput` when nothing can be drawn.
    """
    by_domain = grouped([r for r in records if r.model == model], lambda r: r.domain)
    domains = {domain: group for domain, every in by_domain if points_of(group := sameconditions(every))}
    if not domains:
        raise BadInput(f"there are no records of model {model!r} to draw")
    drawn = {}
    if ladders := ladders_of(domains):
        drawn["rate-retention.png"] = _picture(ladders, f"What the ladder of quantizers leaves of each domain's network ({model})")
    for domain, group in domains.items():
        ending = ", all recalibrated" if is_recalibrated(group) else ""
        title = f"What each method leaves of the network: {domain} ({model}{ending})"
        drawn[f"rate-retention-{slug(domain)}.png"] = _picture(families_of(group), title)
    for name, data in drawn.items():
        write_atomically(folder / name, data)
    return [folder / name for name in drawn]


# ------------------------------------------------------------------------------------------------------ records -> series


def sameconditions(records: Sequence[Record]) -> list[Record]:
    """Of one model's records those that may be compared with each other; the group with most of the ladder."""
    return max((group for _, group in grouped(records, conditions)), key=lambda group: (len(ladder_of(group).rungs), len(group)))


def points_of(records: Sequence[Record]) -> list[Point]:
    """The methods of one model, largest file first; those without a size or any retention have no place in a picture.

    Where the ladder is recalibrated, only the baseline and methods ending in `+recalibrate` stay, and the ending goes.
    """
    recalibrated = is_recalibrated(records)
    kept = [r for r in records if r.status in FINISHED and (not recalibrated or r.method == BASELINE or r.method.endswith(RECALIBRATED))]
    points = []
    for method, group in grouped(kept, lambda r: r.method):
        rates = [math.log2(r.cost.ratio) for r in group if r.cost]
        quality, diversity = (_spread([retention_of(r, role) for r in group]) for role in ROLES)
        if rates and (quality or diversity):
            points.append(Point(method.removesuffix(RECALIBRATED) if recalibrated else method, 2 ** mean(rates), quality, diversity))
    return sorted(points, key=lambda point: point.ratio)


def _spread(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (mean(known), stdev(known) if len(known) > 1 else 0.0) if known else None


def ladders_of(domains: dict[str, list[Record]]) -> list[Series]:
    """The primary ladder of each domain that has one, after its baseline."""
    found = []
    for i, (domain, records) in enumerate(sorted(domains.items())):
        points = [point for point in points_of(records) if point.method in (BASELINE, *LADDER)]
        if any(point.method in LADDER for point in points):
            name = domain + (" (recalibrated)" if is_recalibrated(records) else "")
            found.append(Series(name, points, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]))
    return found


FAMILIES = {
    "ladder": Series(f"ladder, {LADDER[0]} to {LADDER[-1]}", (), COLOURS[0], MARKERS[0]),
    "ecsq": Series("entropy-coded (ecsq)", (), COLOURS[1], MARKERS[1]),
    "quantizer": Series("other quantizers", (), COLOURS[2], MARKERS[2], line=False),
    "both": Series("pruned and quantized", (), COLOURS[3], MARKERS[3], line=False),
    "pruning": Series("pruned", (), COLOURS[4], MARKERS[4], line=False),
}


def families_of(records: Sequence[Record]) -> list[Series]:
    """All methods of one model by family; the ladder's line starts at the baseline. Families without points are left out."""
    members: dict[str, list[Point]] = {family: [] for family in FAMILIES}
    for point in points_of(records):
        members["ladder" if point.method == BASELINE else family_of(point.method)].append(point)
    return [Series(look.name, members[f], look.colour, look.marker, look.line) for f, look in FAMILIES.items() if members[f]]


def family_of(method: str) -> str:
    """From the text alone: a record may come from a plug-in that is not installed here."""
    if method in LADDER:
        return "ladder"
    links = method.removesuffix(RECALIBRATED).split("+")
    names = ["nm" if PATTERN.match(link) else link.partition(":")[0] for link in links]
    prunes = [METHODS.get(name, "").startswith("bench.methods.prune:") for name in names]
    if any(prunes):
        return "pruning" if all(prunes) else "both"
    return "ecsq" if names == ["ecsq"] else "quantizer"


def label_of(method: str) -> str:
    """`magnitude 0.9` for `magnitude:sparsity=0.9`, `int4 group=32` for `int4:group=32`; the baseline needs no name."""
    return "" if method == BASELINE else re.sub(r"[:,](?=[a-z])(sparsity=|bits=|scope=)?", " ", method)


# ------------------------------------------------------------------------------------------------------- series -> picture


def _picture(series: Sequence[Series], title: str) -> bytes:
    """PNG: quality above, diversity below. Through matplotlib's objects alone, whatever the user's own settings of it are."""
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.style.context(["default", LOOK]):
        figure = Figure(figsize=SIZE, dpi=DPI)
        renderer = FigureCanvasAgg(figure).get_renderer()
        panels = _panels(figure, series, top=_legend(figure, series, renderer) - 0.015)
        figure.text(0.105, 0.965, title, fontsize=12.5, va="center")
        for role, axes in zip(ROLES, panels):
            for one in series:
                _plot(axes, one, role)
            _write_labels(axes, series, role, renderer)
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _panels(figure: Figure, series: Sequence[Series], top: float) -> Sequence[Axes]:
    panels = figure.subplots(2, 1, sharex=True, sharey=True)
    figure.subplots_adjust(left=0.105, right=0.985, top=top, bottom=0.07, hspace=0.08)
    ratios = [point.ratio for one in series for point in one.points]
    known = [spread for one in series for p in one.points for spread in (p.quality, p.diversity) if spread is not None]
    lowest, highest = min(m - bar for m, bar in known), max(m + bar for m, bar in known)
    panels[0].set_xscale("log", base=2)
    panels[0].set_xlim(min(0.92, 0.92 * min(ratios)), max(36.0, 1.12 * max(ratios)))
    panels[0].set_ylim(min(-0.07, lowest - 0.06), max(1.12, highest + 0.1))
    ticks = [2**i for i in range(max(6, 1 + int(math.log2(1.12 * max(ratios)))))]
    panels[0].set_xticks(ticks, [f"{tick}x" for tick in ticks])
    panels[0].minorticks_off()
    panels[0].tick_params(axis="x", length=0)
    panels[1].set_xlabel("compression: fp32 bytes / stored bytes", loc="left")
    figure.text(0.985, 0.026, "mean ± standard deviation over sampling seeds", ha="right", va="center", fontsize=9, color=GREY)
    for role, axes in zip(ROLES, panels):
        axes.set_ylabel(f"{role} retention\n(1 = like the uncompressed network,\n0 = like permuted weights)")
        for level in (0, 1):
            axes.axhline(level, color="#b8b8b8", linewidth=0.9, zorder=1)
    return panels


def _plot(axes: Axes, series: Series, role: str) -> None:
    """A line where the series is one, markers, and bars for the seeds' standard deviation."""
    shown = [(point.ratio, *known) for point in series.points if (known := getattr(point, role)) is not None]
    x, y, bar = zip(*shown) if shown else ((), (), ())
    style: dict[str, Any] = {"color": series.colour, "marker": series.marker, "linestyle": "-" if series.line else "none", **MARKER, **BAR}
    axes.errorbar(x, y, bar, **style)


def _legend(figure: Figure, series: Sequence[Series], renderer: Any) -> float:
    """Below the title, in as few rows as fit, without the bars that `errorbar` would put there -> its lower edge, 0 to 1."""
    from matplotlib.lines import Line2D

    looks: list[dict[str, Any]] = [
        {"color": s.colour, "marker": s.marker, "linestyle": "-" if s.line else "none", **MARKER} for s in series
    ]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0.1, 0.948), "borderaxespad": 0.0, "borderpad": 0.2}
    spaces: dict[str, Any] = {"handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.2}
    handles = [Line2D([], [], **look) for look in looks]
    for columns in range(len(series), 0, -1):
        legend = figure.legend(handles, [one.name for one in series], ncols=columns, frameon=False, **place, **spaces)
        box = legend.get_window_extent(renderer)
        if box.x1 < figure.bbox.x1 or columns == 1:
            break
        legend.remove()
    return float(box.y0 / figure.bbox.height)


def _write_labels(axes: Axes, series: Sequence[Series], role: str, renderer: Any) -> None:
    """The names of methods where there is room: a label that would hide a marker, a line or another label is left out.

    So is one that a neighbour already has: where lines meet, the name of a rung is written once for all of them.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    taken = _obstacles(axes, series, role)
    boxes: list[Any] = []
    named: list[tuple[str, np.ndarray]] = []
    for one in series:
        dark = tuple(0.75 * part for part in to_rgb(one.colour))  # thin letters need more contrast than markers
        look: dict[str, Any] = {"fontsize": 9, "color": dark, "path_effects": [withStroke(linewidth=2, foreground="white")]}
        for point in one.points:
            known, text = getattr(point, role), label_of(point.method)
            if known is None or not text:
                continue
            here = axes.transData.transform((point.ratio, known[0]))
            if any(text == name and np.hypot(*(here - there)) < NEIGHBOURS for name, there in named):
                continue
            for dx, dy, across, along in OFFSETS:
                look |= {"ha": across, "va": along}
                label = axes.annotate(text, (point.ratio, known[0]), (dx, dy), textcoords="offset points", **look)
                box = label.get_window_extent(renderer).padded(1.5)
                inside = axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and axes.bbox.y0 < box.y0 and box.y1 < axes.bbox.y1
                if inside and not box.count_contains(taken) and not box.count_overlaps(boxes):
                    boxes.append(box)
                    named.append((text, here))
                    break
                label.remove()


def _obstacles(axes: Axes, series: Sequence[Series], role: str) -> np.ndarray:
    """Pixels that no label may cover [n, 2]: round every marker, and along every bar and line."""
    share = np.linspace(0, 1, 50)[:, None]
    around = TOUCHING * DPI / 72 * np.array([(0, 0), *((math.cos(i * math.pi / 4), math.sin(i * math.pi / 4)) for i in range(8))])
    found = [np.empty((0, 2))]
    for one in series:
        shown = [(p.ratio, *known) for p in one.points if (known := getattr(p, role)) is not None]
        middle, low, high = (axes.transData.transform([(x, y + way * bar) for x, y, bar in shown] or found[0]) for way in (0, -1, 1))
        found += [middle + step for step in around]
        found += [a + (b - a) * share for a, b in zip(low, high)]
        found += [a + (b - a) * share for a, b in itertools.pairwise(middle)] if one.line else []
    return np.concatenate(found)
