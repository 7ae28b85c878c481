"""`during.png`: retention by file size, compressed after training and during training.

The columns are domains and the rows are roles. Each line is the mean over the same models, with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.records.schema import Record
from bench.report.figures import canvas
from bench.report.figures.canvas import COLOURS, MARKER, MARKERS, Curve, Label
from bench.report.figures.overview import BASELINE, SHOWN, Rung, Single, mean_of, models_in, single_of
from bench.stats.during import DuringTraining, compare_ways, domain_of
from bench.stats.ladder import ROLES, ModelLadder, size_of, with_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.4, 7.6  # inches; of one panel, of the picture
WAYS = ("compressed after training", "compressed during training")
FOOTNOTE = (
    "bands: 95 % intervals over training seeds, or over sampling seeds and samples where there is one model; "
    "thin lines: single models; a marker that no line reaches: a mean over fewer models"
)


@dataclass(frozen=True)
class Line:
    """One way of compression in one domain."""

    mean: Mapping[str, Sequence[Rung]]  # by role
    singles: Sequence[Single]
    partly: frozenset[str] = frozenset()  # rungs that not all models of the panel have


@dataclass(frozen=True)
class Panel:
    """One domain: the lines after and during training."""

    title: str
    lines: tuple[Line, Line]


def panels_of(records: Sequence[Record]) -> list[Panel]:
    """One panel for each domain with a rung that was measured both ways.

    It shows the size with the most trainings: sizes do not keep the same.
    """
    known = with_records(records)
    used = [r for _, same in known for r in same]
    ladders = [m for m, _ in known]
    panels = []
    for one in compare_ways(used):
        size = _size(one)
        (of_size,) = compare_ways([r for r in used if r.domain == one.name and size_of(r.model) == size])
        panels.append(_panel(of_size, ladders))
    return panels


def _size(one: DuringTraining) -> str:
    """The size with the most trainings; of equal ones the first by name."""
    trained: dict[str, int] = {}
    for row in one.rungs.values():
        for m in row.during.averaged:
            trained[m.size] = trained.get(m.size, 0) + 1
    return max(sorted(trained), key=lambda size: trained[size])


def _panel(one: DuringTraining, ladders: Sequence[ModelLadder]) -> Panel:
    """One size: the whole ladder after training, of the models that were also compressed during training."""
    models = one.together.during.averaged
    names = {m.model for m in models}
    after = domain_of(one.name, [m for m in ladders if m.domain == one.name and m.model in names])
    whole = Line({role: mean_of(after, role) for role in ROLES}, _singles(after.models))
    trained = {role: _trained(one, role) for role in ROLES}
    partly = frozenset(rung for rung, row in one.rungs.items() if row.models < len(names))
    during = Line(trained, [_from_first_rung(single) for single in _singles(models)], partly)
    title = f"{one.name}, size {models[0].size} ({models_in(one.together.during)})"
    return Panel(title, (whole, during))


def _singles(models: Sequence[ModelLadder]) -> list[Single]:
    return [single_of(m, counts=True) for m in models]


def _trained(one: DuringTraining, role: str) -> list[Rung]:
    """The rungs during training. A training that diverged left no file: its ratio is that after training."""
    found = []
    for rung, row in one.rungs.items():
        estimate, rate = row.during.retention(role, rung), row.during.rate(rung) or row.after.rate(rung)
        if estimate is not None and rate is not None:
            found.append(Rung(rung, 2**rate, estimate.value, estimate.interval()))
    return found


def _from_first_rung(single: Single) -> Single:
    """Without the uncompressed network, from which no line of training leads."""
    values = {role: kept[1:] for role, kept in single.values.items()}
    return Single(single.model, single.ratios[1:], values, single.counts)


# ------------------------------------------------------------------------------------------ panels -> picture


def picture(panels: Sequence[Panel]) -> bytes:
    """PNG: one column for each domain, quality above diversity."""
    size = (max(1.5, len(panels)) * WIDTH, HEIGHT)

    def paint(figure: Figure, renderer: Any) -> None:
        from matplotlib.lines import Line2D

        left = 1.0 / size[0]
        handles = [Line2D([], [], **_look(i), linewidth=1.8, **MARKER) for i in range(len(WAYS))]
        bottom = canvas.legend(figure, handles, WAYS, renderer, (left - 0.005, 0.945))
        title = "Retention after compression: after training or during training"
        figure.text(left, 0.968, title, fontsize=12.5, va="center")
        grid = figure.subplots(len(ROLES), len(panels), squeeze=False, sharex=True, sharey=True)
        lower = canvas.footnote(figure, FOOTNOTE, left) + 0.6 / HEIGHT
        figure.subplots_adjust(
            left=left, right=1 - 0.12 / size[0], top=bottom - 0.05, bottom=lower, hspace=0.08, wspace=0.06
        )
        _axes(grid, panels)
        for role, row in zip(ROLES, grid):
            for axes, panel in zip(row, panels):
                _plot(axes, panel, role, renderer)

    return canvas.png(size, paint)


def _look(i: int) -> dict[str, Any]:
    return {"color": COLOURS[i], "marker": MARKERS[i]}


def _axes(grid: Any, panels: Sequence[Panel]) -> None:
    """Limits, titles and names of the axes. `grid` is [roles, panels]."""
    rungs = [rung for panel in panels for line in panel.lines for role in ROLES for rung in line.mean[role]]
    values = [rung.value for rung in rungs]
    canvas.ratio_axis(grid[0, 0], [1.0, *(rung.ratio for rung in rungs)], 0.92, 36.0)
    grid[0, 0].set_ylim(min(SHOWN[0], min(values) - 0.03), max(SHOWN[1], max(values) + 0.05))
    for axes, panel in zip(grid[0], panels):
        axes.set_title(panel.title, loc="left", fontsize=11)
    for axes in grid[-1]:
        axes.set_xlabel(canvas.COMPRESSION, loc="left")
    for role, axes in zip(ROLES, grid[:, 0]):
        axes.set_ylabel(f"{role} retention\n{canvas.ZERO_AND_ONE}")
    for axes in grid.flat:
        canvas.levels(axes)


def _plot(axes: Axes, panel: Panel, role: str, renderer: Any) -> None:
    """Draw the two lines with bands and single models, and name their rungs."""
    for i, line in enumerate(panel.lines):
        for single in line.singles:
            thin: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.45, "color": COLOURS[i], "zorder": 2.1}
            axes.plot(single.ratios, single.values[role], **thin)
        rungs = line.mean[role]
        banded = [rung for rung in rungs if rung.interval is not None and rung.name not in line.partly]
        low, high = zip(*(rung.interval for rung in banded if rung.interval)) if banded else ((), ())
        x = [rung.ratio for rung in banded]
        axes.fill_between(x, low, high, color=COLOURS[i], alpha=0.16, linewidth=0, zorder=1.5)
        whole = _curve([rung for rung in rungs if rung.name not in line.partly])
        axes.plot(whole.x, whole.y, zorder=3, linewidth=1.8, **_look(i), **MARKER)
        some = _curve([rung for rung in rungs if rung.name in line.partly])
        axes.plot(some.x, some.y, zorder=3, linestyle="none", **_look(i), **MARKER)
    labels = [
        Label(rung.name, rung.ratio, rung.value, COLOURS[i])
        for i, line in reversed([*enumerate(panel.lines)])
        for rung in line.mean[role]
        if rung.name != BASELINE
    ]
    canvas.write_labels(axes, labels, [_curve(line.mean[role]) for line in panel.lines], renderer)


def _curve(rungs: Sequence[Rung]) -> Curve:
    return Curve([rung.ratio for rung in rungs], [rung.value for rung in rungs])
