"""`data-and-network.png`: C of each kind of data under each kind of network.

Rows are kinds of data, columns are kinds of network. A cell that was not measured stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.records.schema import Record
from bench.report.figures import canvas
from bench.report.figures.canvas import COLOURS
from bench.report.report_data import report_data
from bench.stats.contrasts import by_kinds, contrasts_of, kinds_of
from bench.stats.ladder import ROLES
from bench.stats.model_file import read_models
from bench.stats.scores import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LEFT, ROW = 9.0, 1.0, 0.85  # inches: of the picture, of the names of rows, of one row
TOP, BOTTOM = 0.95, 0.75  # inches above and below the cells
DARK = 0.6  # shade of a cell from which its letters are white


@dataclass(frozen=True)
class Cell:
    """One domain in one role. `secondary` is C by the secondary evaluators, where they were used."""

    score: Score
    secondary: float | None = None


@dataclass(frozen=True)
class Panel:
    """One role: its cells by (data, network)."""

    role: str
    cells: Mapping[tuple[str, str], Cell]


def panels_of(records: Sequence[Record], results: Path) -> list[Panel]:
    """One panel for each role. Empty where no domains share their data or their network."""
    files = read_models(results)
    if not contrasts_of(kinds_of({r.domain for r in records}, files)):
        return []
    found = report_data(records, files)
    theirs = {d.name: d for d in found.now.second_domains}
    panels = []
    for role in ROLES:
        cells = {}
        for kinds, domains in by_kinds(found.now.domains, found.kinds).items():
            score = domains[0].score(role)
            other = theirs[domains[0].name].score(role) if domains[0].name in theirs else None
            if score is not None:
                cells[kinds] = Cell(score, None if other is None else other.value)
        panels.append(Panel(role, cells))
    return panels if found.contrasts else []


# ------------------------------------------------------------------------------------------ panels -> picture


def picture(panels: Sequence[Panel]) -> bytes:
    """PNG: one panel for each role, side by side."""
    rows = sorted({data for panel in panels for data, _ in panel.cells})
    columns = sorted({network for panel in panels for _, network in panel.cells})
    height = TOP + ROW * len(rows) + BOTTOM
    lowest = min(0.5, *(cell.score.value for panel in panels for cell in panel.cells.values()))

    def paint(figure: Figure, renderer: Any) -> None:
        left = LEFT / WIDTH
        title = "Data or network? C of each kind of data under each kind of network"
        figure.text(left, 1 - 0.25 / height, title, fontsize=12.5, va="center")
        canvas.footnote(figure, _footnote(panels), left)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        figure.subplots_adjust(
            left=left, right=0.99, top=1 - TOP / height, bottom=BOTTOM / height, wspace=0.06
        )
        for i, (one, panel) in enumerate(zip(axes, panels)):
            _frame(one, panel.role, rows if i == 0 else [""] * len(rows), columns)
            for (data, network), cell in panel.cells.items():
                _fill(one, columns.index(network), rows.index(data), cell, lowest)

    return canvas.png((WIDTH, height), paint)


def _frame(axes: Axes, role: str, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(role, loc="left", fontsize=10.5, pad=8, fontweight="bold")


def _fill(axes: Axes, x: int, y: int, cell: Cell, lowest: float) -> None:
    """One cell: its colour is darker the larger C is."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    shade = 0.12 + 0.88 * (cell.score.value - lowest) / (1 - lowest)
    colour = [1 - shade * (1 - part) for part in to_rgb(COLOURS[0])]
    axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, color=colour, linewidth=0))
    letters = "white" if shade > DARK else "black"
    axes.text(x, y - 0.17, f"{cell.score.value:.3f}", ha="center", va="center", color=letters, fontsize=12)
    axes.text(x, y + 0.21, _below(cell), ha="center", va="center", color=letters, fontsize=7.5)


def _below(cell: Cell) -> str:
    """The interval, and C by the secondary evaluators."""
    interval = cell.score.interval()
    lines = [] if interval is None else [f"[{interval[0]:.3f}, {interval[1]:.3f}]"]
    lines += [] if cell.secondary is None else [f"secondary {cell.secondary:.3f}"]
    return "\n".join(lines)


def _footnote(panels: Sequence[Panel]) -> str:
    said = "1 = nothing is lost down to a sixteenth; brackets: 95 % intervals over training seeds"
    if any(cell.secondary is not None for panel in panels for cell in panel.cells.values()):
        said += "; secondary: by the secondary evaluators"
    return f"{said}; empty: not measured"
