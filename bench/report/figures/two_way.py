"""`data-and-network.png`: C of each kind of data under each kind of network.

Rows are kinds of data, columns are kinds of network. A cell that was not measured stays empty.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from bench.records.schema import Record
from bench.report.figures import canvas
from bench.report.figures.canvas import COLOURS
from bench.report.report_data import report_data
from bench.stats.contrasts import Kinds, by_kinds, contrasts_of, kinds_of
from bench.stats.domain import Domain
from bench.stats.ladder import ROLES
from bench.stats.model_file import read_models
from bench.stats.scores import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, ROW = 9.0, 0.85  # inches: of the picture, of one row of cells
TOP, BOTTOM = 0.95, 0.75  # inches above and below the cells
WRAP = 16  # characters of a column's name in one line
DARK = 0.7  # shade of a cell from which its letters are white


@dataclass(frozen=True)
class Cell:
    """The domains of one cell in one role; mostly there is one.

    `secondary` holds C by the secondary evaluators, where they were used.
    """

    scores: Sequence[Score]
    secondary: Sequence[float] = ()

    @property
    def value(self) -> float:
        """The mean C, by the primary evaluators."""
        return mean(score.value for score in self.scores)


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
    panels = []
    for role in ROLES:
        own = _scores(found.now.domains, found.kinds, role)
        other = _scores(found.now.second_domains, found.kinds, role)
        cells = {}
        for at, scores in own.items():
            cells[at] = Cell(scores, [score.value for score in other.get(at, ())])
        panels.append(Panel(role, cells))
    return panels if found.contrasts else []


def _scores(
    domains: Sequence[Domain], kinds: Mapping[str, Kinds], role: str
) -> dict[tuple[str, str], list[Score]]:
    """(data, network) -> the scores of its domains. Cells without a score are left out."""
    found = {}
    for cell, some in by_kinds(domains, kinds).items():
        known = [score for d in some if (score := d.score(role)) is not None]
        if known:
            found[cell] = known
    return found


# ------------------------------------------------------------------------------------------ panels -> picture


def picture(panels: Sequence[Panel]) -> bytes:
    """PNG: one panel for each role, side by side."""
    rows = sorted({data for panel in panels for data, _ in panel.cells})
    columns = sorted({network for panel in panels for _, network in panel.cells})
    height = TOP + ROW * len(rows) + BOTTOM
    left = (0.35 + canvas.LETTER * max(map(len, rows))) / WIDTH
    lowest = min(0.5, *(cell.value for panel in panels for cell in panel.cells.values()))

    def paint(figure: Figure, renderer: Any) -> None:
        title = "Data or network? C of each kind of data under each kind of network"
        figure.text(left, 1 - 0.25 / height, title, fontsize=12.5, va="center")
        canvas.footnote(figure, _footnote(panels), left)
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        figure.subplots_adjust(
            left=left, right=0.99, top=1 - TOP / height, bottom=BOTTOM / height, wspace=0.06
        )
        for i, (one, panel) in enumerate(zip(axes, panels)):
            _frame(one, panel.role, rows if i == 0 else [""] * len(rows), columns)
            for (x, network), (y, data) in product(enumerate(columns), enumerate(rows)):
                _fill(one, x, y, panel.cells.get((data, network)), lowest)

    return canvas.png((WIDTH, height), paint)


def _frame(axes: Axes, role: str, rows: Sequence[str], columns: Sequence[str]) -> None:
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [textwrap.fill(name, WRAP) for name in columns])
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(role, loc="left", fontsize=10.5, pad=8, fontweight="bold")


def _fill(axes: Axes, x: int, y: int, cell: Cell | None, lowest: float) -> None:
    """One cell: its colour is darker the larger C is. A cell that was not measured has an outline."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    box = (x - 0.48, y - 0.46), 0.96, 0.92
    if cell is None:
        axes.add_patch(Rectangle(*box, fill=False, edgecolor="#d0d0d0", linestyle=(0, (3, 3))))
        return
    shade = 0.12 + 0.88 * (cell.value - lowest) / (1 - lowest)
    colour = [1 - shade * (1 - part) for part in to_rgb(COLOURS[0])]
    axes.add_patch(Rectangle(*box, color=colour, linewidth=0))
    look: dict[str, Any] = {"ha": "center", "va": "center", "color": "white" if shade > DARK else "black"}
    axes.text(x, y - 0.17, " / ".join(f"{score.value:.3f}" for score in cell.scores), fontsize=12, **look)
    axes.text(x, y + 0.21, _below(cell), fontsize=7.5, **look)


def _below(cell: Cell) -> str:
    """The intervals, and C by the secondary evaluators."""
    intervals = [found for score in cell.scores if (found := score.interval()) is not None]
    lines = [f"[{low:.3f}, {high:.3f}]" for low, high in intervals]
    if cell.secondary:
        lines.append(f"secondary {' / '.join(f'{value:.3f}' for value in cell.secondary)}")
    return "\n".join(lines)


def _footnote(panels: Sequence[Panel]) -> str:
    said = "1 = nothing is lost down to a sixteenth; brackets: 95 % intervals over training seeds"
    if any(cell.secondary for panel in panels for cell in panel.cells.values()):
        said += "; secondary: by the secondary evaluators"
    return f"{said}; empty: not measured"
