"""The canvas of all pictures: colours for any colour vision, no global state, and labels that do not
overlap.
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150  # pixels an inch
# Okabe & Ito 2008: told apart with any kind of colour vision; the markers tell them apart in grey, too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#666666"
MARKER: dict[str, Any] = {"markersize": 6.5, "markeredgecolor": "white", "markeredgewidth": 0.7}
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
TOUCHING = 5.0  # points: a label nearer to a marker's centre would hide it
NEIGHBOURS = 60  # pixels
Offset = tuple[float, float, str, str]
# where a label may lie beside its marker, in points: the first place that is free
OFFSETS: tuple[Offset, ...] = (
    *(
        (0, 6, "center", "bottom"),
        (6, 5, "left", "bottom"),
        (7, 0, "left", "center"),
        (0, -6, "center", "top"),
    ),
    *(
        (-7, 0, "right", "center"),
        (6, -5, "left", "top"),
        (-6, -5, "right", "top"),
        (-6, 5, "right", "bottom"),
    ),
)
LEADER = 12.0  # points: a label farther away gets a line to its marker
CLEAR = 4.0  # pixels between such a line and all else
LETTER, LINE = 0.071, 0.17  # inches: mean width of a letter and height of a line, in a footnote
COMPRESSION = "compression: fp32 bytes / stored bytes"
ZERO_AND_ONE = "(1 = like the uncompressed network,\n0 = like permuted weights)"


def png(size: tuple[float, float], paint: Callable[[Figure, Any], None]) -> bytes:
    """Draw a picture of `size` inches -> PNG.

    `paint(figure, renderer)` draws it through matplotlib's objects.

    The user's settings of matplotlib have no effect, and they are not changed.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = io.BytesIO()
    with matplotlib.style.context(["default", LOOK]):
        figure = Figure(figsize=size, dpi=DPI)
        paint(figure, FigureCanvasAgg(figure).get_renderer())
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def ratio_axis(axes: Axes, ratios: Sequence[float], left: float, right: float) -> None:
    """A logarithmic compression axis: each halving of the file has the same width.

    Limits grow for ratios outside of them.
    """
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(left, left * min(ratios)), max(right, 1.12 * max(ratios)))
    ticks = [2**i for i in range(max(6, 1 + int(math.log2(1.12 * max(ratios)))))]
    axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
    axes.minorticks_off()
    axes.tick_params(axis="x", length=0)


def levels(axes: Axes, *, both: bool = False) -> None:
    """Draw lines at the retentions 0 and 1."""
    for level in (0, 1):
        axes.axhline(level, color="#b8b8b8", linewidth=0.9, zorder=1)
        if both:
            axes.axvline(level, color="#b8b8b8", linewidth=0.9, zorder=1)


def legend(
    figure: Figure, handles: Sequence[Any], names: Sequence[str], renderer: Any, corner: tuple[float, float]
) -> float:
    """Draw the legend below the title, with its upper left corner at `corner`, in few rows -> its lower
    edge, 0 to 1.
    """
    place: dict[str, Any] = {
        "loc": "upper left",
        "bbox_to_anchor": corner,
        "borderaxespad": 0.0,
        "borderpad": 0.2,
    }
    spaces: dict[str, Any] = {"handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.2}
    for rows in range(1, len(names) + 1):
        made = figure.legend(
            handles, names, ncols=math.ceil(len(names) / rows), frameon=False, **place, **spaces
        )
        box = made.get_window_extent(renderer)
        if box.x1 < figure.bbox.x1 or rows == len(names):
            break
        made.remove()
    return float(box.y0 / figure.bbox.height)


def footnote(figure: Figure, text: str, left: float) -> float:
    """Write a footnote at the bottom, from `left` on (0 to 1) -> its height, 0 to 1."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, int(width * (1 - left) / LETTER))
    figure.text(left, 0.08 / height, "\n".join(lines), fontsize=9, color=GREY, va="bottom", linespacing=1.25)
    return float((0.08 + LINE * len(lines)) / height)


# ----------------------------------------------------------------------------------------------------- labels


@dataclass(frozen=True)
class Label:
    """A name for the marker at (x, y)."""

    text: str
    x: float
    y: float
    colour: str
    offsets: Sequence[Offset] = OFFSETS
    size: float = 9


@dataclass(frozen=True)
class Curve:
    """Shapes that no label may hide: markers, the error bars `bars`, and the line that connects the
    markers.
    """

    x: Sequence[float]
    y: Sequence[float]
    bars: Sequence[float] = ()
    line: bool = True


def write_labels(axes: Axes, labels: Sequence[Label], curves: Sequence[Curve], renderer: Any) -> list[Any]:
    """Write labels where there is room -> the boxes of those written.

    A label that would hide a marker, a line or another label is left out. A label with the same text as a
    neighbour is left out too, so the name of a rung is written once where lines meet.
    """
    taken = np.concatenate([np.empty((0, 2)), *(_obstacles(axes, curve) for curve in curves)])
    boxes: list[Any] = []
    named: list[tuple[str, np.ndarray]] = []
    for label in labels:
        here = axes.transData.transform((label.x, label.y))
        if not label.text or any(
            label.text == name and np.hypot(*(here - there)) < NEIGHBOURS for name, there in named
        ):
            continue
        for offset in label.offsets:
            text, leader = _text(axes, label, offset), _leader(here, offset[:2])
            box = text.get_window_extent(renderer).padded(1.5)
            inside = (
                axes.bbox.x0 < box.x0
                and box.x1 < axes.bbox.x1
                and axes.bbox.y0 < box.y0
                and box.y1 < axes.bbox.y1
            )
            if (
                inside
                and not box.count_contains(taken)
                and not box.count_overlaps(boxes)
                and _is_clear(leader, taken, boxes)
            ):
                boxes.append(box)
                named.append((label.text, here))
                if len(leader):
                    taken = np.concatenate([taken, leader])
                    line = {
                        "arrowstyle": "-",
                        "color": "#a0a0a0",
                        "linewidth": 0.6,
                        "shrinkA": 0,
                        "shrinkB": 3,
                    }
                    axes.annotate(
                        "",
                        (label.x, label.y),
                        offset[:2],
                        textcoords="offset points",
                        arrowprops=line,
                        zorder=1.5,
                    )
                break
            text.remove()
    return boxes


def _text(axes: Axes, label: Label, offset: Offset) -> Any:
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    dx, dy, across, along = offset
    dark = tuple(0.75 * part for part in to_rgb(label.colour))  # thin letters need more contrast than markers
    look: dict[str, Any] = {
        "fontsize": label.size,
        "color": dark,
        "path_effects": [withStroke(linewidth=2, foreground="white")],
    }
    return axes.annotate(
        label.text, (label.x, label.y), (dx, dy), textcoords="offset points", ha=across, va=along, **look
    )


def _leader(marker: np.ndarray, offset: tuple[float, float]) -> np.ndarray:
    """Pixels [n, 2] along the line from a marker to its label, without the marker's surroundings.

    Empty for a near label.
    """
    step = np.array(offset) * DPI / 72
    length = float(np.hypot(*step))
    if length <= LEADER * DPI / 72:
        return np.empty((0, 2))
    start = (TOUCHING * DPI / 72 + CLEAR + 1) / length
    return marker + np.linspace(start, 1, 40)[:, None] * step


def _is_clear(leader: np.ndarray, taken: np.ndarray, boxes: Sequence[Any]) -> bool:
    """Whether a line to a label crosses neither a curve nor another label."""
    if not len(leader):
        return True
    near = len(taken) and np.linalg.norm(leader[:, None] - taken[None], axis=2).min() < CLEAR
    return not near and not any(box.count_contains(leader) for box in boxes)


def _obstacles(axes: Axes, curve: Curve) -> np.ndarray:
    """Pixels [n, 2] that no label may cover: around every marker, and along every bar and line."""
    share = np.linspace(0, 1, 50)[:, None]
    around = (
        TOUCHING
        * DPI
        / 72
        * np.array([(0, 0), *((math.cos(i * math.pi / 4), math.sin(i * math.pi / 4)) for i in range(8))])
    )
    if not len(curve.x):
        return np.empty((0, 2))
    bars = curve.bars or [0.0] * len(curve.x)
    ends = [(list(zip(curve.x, np.array(curve.y) + way * np.array(bars)))) for way in (0, -1, 1)]
    middle, low, high = map(axes.transData.transform, ends)
    found = [middle + step for step in around]
    found += [a + (b - a) * share for a, b in zip(low, high)]
    found += [a + (b - a) * share for a, b in itertools.pairwise(middle)] if curve.line else []
    return np.concatenate(found)
