"""`training-curves.png`: validation while training, with grids of few bits and without compression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.methods.notation import CONTROL, during, without_seed
from bench.records.schema import Record
from bench.report.figures import canvas
from bench.report.figures.canvas import COLOURS, MARKER, MARKERS
from bench.stats.ladder import size_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 4.2, 4.4  # inches; of one panel, of the picture
KINDS = {CONTROL: "control: without compression", during("ternary"): "ternary", during("binary"): "binary"}
FOOTNOTE = "lines: means over trainings; bands: from the lowest to the highest of them; one size a domain"
PREFIX = "validation_"
Run = Mapping[int, float]  # step -> validation figure


@dataclass(frozen=True)
class Band:
    """Several trainings of one kind, at the steps that all of them have."""

    steps: np.ndarray  # [steps]
    values: np.ndarray  # [trainings, steps]


@dataclass(frozen=True)
class Panel:
    """One domain, in the size with the most kinds of training, and of these the one with most trainings."""

    domain: str
    size: str
    figure: str  # what was validated
    bands: Mapping[str, Band]  # by method


def panels_of(records: Sequence[Record]) -> list[Panel]:
    """One panel for each domain with a training log, by name. Training seeds and noise seeds are repeats.

    A training that diverged is left out: its log ends early.
    """
    found: dict[str, dict[str, dict[tuple[str, str], tuple[str, Run]]]] = {}
    for r in records:
        one_training = len(r.trainings) == 1 and r.status != "diverged"
        log = r.trainings[0].log if one_training and without_seed(r.method) in KINDS else []
        if (run := _run(log)) is not None:
            sizes = found.setdefault(r.domain, {})
            # the sampling seeds of a cell share the training
            sizes.setdefault(size_of(r.model), {})[r.model, r.method] = run
    return [_panel(domain, sizes) for domain, sizes in sorted(found.items())]


def _run(log: Iterable[Mapping[str, float]]) -> tuple[str, Run] | None:
    """(the last validation figure of each line, its values by step); None for a log without any."""
    steps: dict[int, float] = {}
    name = ""
    for line in log:
        if figures := [key for key in line if key.startswith(PREFIX)]:
            name = figures[-1]
            steps[int(line["step"])] = line[name]
    return (name.removeprefix(PREFIX).replace("_", " "), steps) if steps else None


def _panel(domain: str, sizes: Mapping[str, Mapping[tuple[str, str], tuple[str, Run]]]) -> Panel:
    def shown(size: str) -> tuple[int, int]:
        return len({without_seed(method) for _, method in sizes[size]}), len(sizes[size])

    size = max(sorted(sizes), key=shown)
    bands = {}
    for kind in KINDS:
        runs = [run for (_, method), (_, run) in sorted(sizes[size].items()) if without_seed(method) == kind]
        if steps := sorted(set.intersection(*map(set, runs))) if runs else []:
            values = np.array([run[step] for step in steps for run in runs])
            bands[kind] = Band(np.array(steps), values.reshape(len(steps), len(runs)).T)
    figure, _ = next(iter(sizes[size].values()))
    return Panel(domain, size, figure, bands)


# ------------------------------------------------------------------------------------------ panels -> picture


def picture(panels: Sequence[Panel]) -> bytes:
    """PNG: the domains side by side."""
    size = (max(1.5, len(panels)) * WIDTH, HEIGHT)

    def paint(figure: Figure, renderer: Any) -> None:
        from matplotlib.lines import Line2D

        left = 0.75 / size[0]
        shown = {kind for panel in panels for kind in panel.bands}
        kinds = [kind for kind in KINDS if kind in shown]
        handles = [Line2D([], [], linewidth=1.8, **_look(kind), **MARKER) for kind in kinds]
        names = [KINDS[kind] for kind in kinds]
        bottom = canvas.legend(figure, handles, names, renderer, (left - 0.005, 0.91))
        figure.text(left, 0.945, "Validation during training", fontsize=12.5, va="center")
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        lower = canvas.footnote(figure, FOOTNOTE, left) + 0.6 / HEIGHT
        figure.subplots_adjust(
            left=left, right=1 - 0.15 / size[0], top=bottom - 0.08, bottom=lower, wspace=0.28
        )
        for axes, panel in zip(row, panels):
            _plot(axes, panel)

    return canvas.png(size, paint)


def _look(kind: str) -> dict[str, Any]:
    i = [*KINDS].index(kind)
    return {"color": COLOURS[i], "marker": MARKERS[i]}


def _plot(axes: Axes, panel: Panel) -> None:
    runs = max((len(band.values) for band in panel.bands.values()), default=0)
    axes.set_title(f"{panel.domain} {panel.size} (up to {runs} trainings)", loc="left", fontsize=11)
    axes.set_xlabel("step", loc="left")
    axes.set_ylabel(panel.figure)
    for kind, band in panel.bands.items():
        low, high = band.values.min(axis=0), band.values.max(axis=0)
        axes.fill_between(band.steps, low, high, color=_look(kind)["color"], alpha=0.18, linewidth=0)
        axes.plot(band.steps, band.values.mean(axis=0), linewidth=1.8, **_look(kind), **MARKER)
