"""`quality-diversity.png`: the path of each domain down the ladder, quality against diversity.

Known damages of real samples are landmarks: they show what a position means. A panel shows the domains that
the same evaluators scored against the same real samples, because only these share landmarks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.records.damage_file import DamagesFile
from bench.records.schema import Record
from bench.report.figures import canvas
from bench.report.figures.canvas import GREY, MARKER, OFFSETS, Curve, Label, Offset
from bench.report.figures.overview import BASELINE, DomainSeries, Say

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 5.9, 7.0  # inches; of one panel, of the picture
ACROSS, ALONG = (-0.2, 1.2), (-0.2, 1.25)
SAME_PLACE = 0.014
RIGHT, LEFT = OFFSETS[2], OFFSETS[4]
OTHERS = tuple(offset for offset in OFFSETS if offset not in (RIGHT, LEFT))
FAR: tuple[Offset, ...] = (  # many landmarks lie near 1: their names go farther away, with a line
    *OFFSETS,
    *(
        (dx, dy, across, along)
        for dy, along in ((17, "bottom"), (-17, "top"), (29, "bottom"), (-29, "top"))
        for dx, across in ((0, "center"), (10, "left"), (-10, "right"), (24, "left"), (-24, "right"))
    ),
)
# reference, N, k, evaluators with their versions
Conditions = tuple[str, int, int, tuple[tuple[str, int], ...]]


@dataclass(frozen=True)
class Landmark:
    """A damage of real samples: its scores as shares of the scores of undamaged real samples."""

    name: str
    quality: float
    diversity: float


@dataclass(frozen=True)
class Panel:
    """The domains of one panel and their landmarks."""

    series: Sequence[DomainSeries]
    landmarks: Sequence[Landmark]


def panels_of(
    series: Sequence[DomainSeries], records: Sequence[Record], damages: Mapping[str, DamagesFile], say: Say
) -> list[Panel]:
    """One panel for all domains that are scored under the same conditions.

    A file of damages that was made under other conditions is reported to `say` and left out.
    """
    groups: dict[Conditions | str, list[DomainSeries]] = {}
    known = {one.domain.name: conditions_of(one, records) for one in series}
    for one in series:
        if one.domain.units:
            groups.setdefault(known[one.domain.name] or one.domain.name, []).append(one)
    fitting: dict[Conditions | str, DamagesFile] = {}
    for name, file in sorted(damages.items()):
        if conditions_of_file(file) in groups:
            fitting.setdefault(conditions_of_file(file), file)
        elif name in known:
            say(
                f"the damages of {name} are not drawn: other real samples, evaluators, N or k than its "
                f"records'"
            )
    return [
        Panel(group, landmarks_of(fitting[key]) if key in fitting else ()) for key, group in groups.items()
    ]


def conditions_of(one: DomainSeries, records: Sequence[Record]) -> Conditions | None:
    """The conditions under which a domain's baselines were scored.

    None where the records of the averaged models differ in them, or name no evaluators.
    """
    models = {m.model for m in one.domain.averaged}
    found = {
        _conditions_of_record(r)
        for r in records
        if r.domain == one.domain.name and r.model in models and r.method == BASELINE and r.evaluators
    }
    return found.pop() if len(found) == 1 else None


def _conditions_of_record(record: Record) -> Conditions:
    primary = {name: block.version for name, block in record.evaluators.items() if not block.second}
    return record.reference, record.samples, record.k, tuple(sorted(primary.items()))


def conditions_of_file(file: DamagesFile) -> Conditions:
    """The conditions under which the damaged real samples were scored."""
    return file.reference, file.samples, file.k, tuple(sorted(file.evaluators.items()))


def landmarks_of(file: DamagesFile) -> list[Landmark]:
    """Landmarks from left to right, so that the names of neighbours do not cross."""
    found = [Landmark(row.name, row.valid_share, row.mutual_recall_share) for row in file.rows]
    return sorted(found, key=lambda mark: (mark.quality, -mark.diversity, mark.name))


def in_one_place(landmarks: Sequence[Landmark]) -> list[Landmark]:
    """Merge landmarks whose markers overlap under one name: `noise .05, JPEG 20`, at the position of the
    first.
    """
    found: list[Landmark] = []
    for mark in landmarks:
        near = (
            i
            for i, m in enumerate(found)
            if math.hypot(m.quality - mark.quality, m.diversity - mark.diversity) < SAME_PLACE
        )
        i = next(near, None)
        if i is None:
            found.append(mark)
        else:
            found[i] = replace(found[i], name=f"{found[i].name}, {mark.name}")
    return found


def path_of(one: DomainSeries) -> list[tuple[str, float, float]]:
    """(rung, quality, diversity), beginning with the uncompressed network."""
    diversity = {rung.name: rung.value for rung in one.mean["diversity"]}
    return [
        (rung.name, rung.value, diversity[rung.name])
        for rung in one.mean["quality"]
        if rung.name in diversity
    ]


# ------------------------------------------------------------------------------------------ panels -> picture


def picture(panels: Sequence[Panel]) -> bytes:
    """PNG: the panels side by side."""
    size = (max(1.35, len(panels)) * WIDTH, HEIGHT)

    def paint(figure: Figure, renderer: Any) -> None:
        from matplotlib.lines import Line2D

        series = [one for panel in panels for one in panel.series]
        handles = [Line2D([], [], color=one.colour, marker=one.marker, **MARKER) for one in series]
        names = [one.label for one in series]
        if any(panel.landmarks for panel in panels):
            handles.append(Line2D([], [], **LANDMARK))
            names.append("real samples, damaged on purpose")
        left = 0.72 / size[0]
        bottom = canvas.legend(figure, handles, names, renderer, (left - 0.005, 0.937))
        figure.text(
            left,
            0.965,
            "Down the ladder of quantizers, from the uncompressed network at (1, 1)",
            fontsize=12.5,
            va="center",
        )
        lower = canvas.footnote(figure, FOOTNOTE, left) + 0.6 / HEIGHT
        rows = figure.subplots(1, len(panels), squeeze=False)[0]
        figure.subplots_adjust(
            left=left, right=1 - 0.12 / size[0], top=bottom - 0.045, bottom=lower, wspace=0.12
        )
        for axes, panel in zip(rows, panels):
            _axes(axes, panel, first=axes is rows[0])
            _plot(axes, panel)
            canvas.write_labels(axes, *_names(panel), renderer)

    return canvas.png(size, paint)


FOOTNOTE = (
    "paths: 1 = uncompressed network, 0 = permuted weights; damaged samples: 1 = undamaged real "
    "samples, 0 = no valid or covered samples"
)
LANDMARK: dict[str, Any] = {
    "color": "#8a8a8a",
    "marker": "x",
    "markersize": 5,
    "markeredgewidth": 1.3,
    "linestyle": "none",
}


def _axes(axes: Axes, panel: Panel, first: bool) -> None:
    x = [q for one in panel.series for _, q, _ in path_of(one)] + [mark.quality for mark in panel.landmarks]
    y = [d for one in panel.series for _, _, d in path_of(one)] + [mark.diversity for mark in panel.landmarks]
    axes.set_xlim(min(ACROSS[0], min(x) - 0.05), max(ACROSS[1], max(x) + 0.05))
    axes.set_ylim(min(ALONG[0], min(y) - 0.05), max(ALONG[1], max(y) + 0.05))
    axes.set_title(", ".join(one.domain.name for one in panel.series), loc="left", fontsize=11)
    axes.set_xlabel("quality retention", loc="left")
    if first:
        axes.set_ylabel("diversity retention")
    ticks = [i / 5 for i in range(6)]
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    canvas.levels(axes, both=True)


def _plot(axes: Axes, panel: Panel) -> None:
    axes.plot(
        [mark.quality for mark in panel.landmarks],
        [mark.diversity for mark in panel.landmarks],
        zorder=2.5,
        **LANDMARK,
    )
    for one in panel.series:
        _, x, y = zip(*path_of(one))
        style: dict[str, Any] = {"color": one.colour, "marker": one.marker, "linewidth": 1.8, **MARKER}
        axes.plot(x, y, zorder=3, **style)


def beside(x: float) -> tuple[Offset, ...]:
    """Positions for the name of a rung.

    Paths run downwards, so names go to the side, and near the left edge to the left.
    """
    return (LEFT, RIGHT, *OTHERS) if x < 0.2 else (RIGHT, LEFT, *OTHERS)


def _curve(path: Sequence[tuple[str, float, float]]) -> Curve:
    _, x, y = zip(*path)
    return Curve(x, y)


def _names(panel: Panel) -> tuple[list[Label], list[Curve]]:
    """Rungs first, then landmarks where there is room."""
    paths = [(one, path_of(one)) for one in panel.series]
    labels = [
        Label(name, x, y, one.colour, beside(x))
        for one, path in paths
        for name, x, y in path
        if name != BASELINE
    ]
    labels += [
        Label(mark.name, mark.quality, mark.diversity, GREY, FAR, 8) for mark in in_one_place(panel.landmarks)
    ]
    curves = [_curve(path) for _, path in paths]
    curves.append(
        Curve(
            [mark.quality for mark in panel.landmarks],
            [mark.diversity for mark in panel.landmarks],
            line=False,
        )
    )
    return labels, curves
