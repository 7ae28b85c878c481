"""`survival.png`: the outcomes of the samples.

Each sample is compared with its twin from the uncompressed network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.report.figures import canvas
from bench.stats.twin_outcomes import TWIN_OUTCOMES, TwinOutcomes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOOKS = {  # bottom to top
    "intact": ("intact: valid, as before", "#009E73"),
    "drifted": ("drifted: valid, another sample", "#56B4E9"),
    "repaired": ("repaired: valid only now", "#F0E442"),
    "degraded": ("degraded: valid only before", "#D55E00"),
    "still_invalid": ("still invalid", "#c8c8c8"),
}
assert tuple(LOOKS) == TWIN_OUTCOMES
WIDTH, HEIGHT, MOST = 3.9, 5.0, 3  # inches of a panel; panels in a row


# ---------------------------------------------------------------------------------------- outcomes -> picture


def picture(domains: Mapping[str, TwinOutcomes]) -> bytes:
    """PNG: one panel for each domain, by its title."""
    columns = min(MOST, len(domains))
    rows = math.ceil(len(domains) / columns)
    size = (max(2.4, columns) * WIDTH, 1.0 + rows * (HEIGHT - 0.9))

    def paint(figure: Figure, renderer: Any) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        left, inch = 0.6 / size[0], 1 / size[1]
        handles: list[Any] = [Patch(color=colour, linewidth=0) for _, colour in LOOKS.values()]
        handles.append(Line2D([], [], color="black", linewidth=1.6))
        names = [
            *(name for name, _ in LOOKS.values()),
            "valid samples lie below this line; bars: 95 % intervals over training seeds",
        ]
        bottom = canvas.legend(figure, handles, names, renderer, (left - 0.005, 1 - 0.36 * inch))
        figure.text(left, 1 - 0.2 * inch, "Which samples survive compression", fontsize=12.5, va="center")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        lower, upper = canvas.footnote(figure, FOOTNOTE, left) + 0.55 * inch, bottom - 0.75 * inch
        figure.subplots_adjust(
            left=left, right=1 - 0.3 / size[0], top=upper, bottom=lower, wspace=0.08, hspace=0.45
        )
        for axes, (title, outcomes) in zip(grid.flat, domains.items()):
            _plot(axes, title, outcomes)
        for axes in grid[:, 0]:
            axes.set_ylabel("share of all samples")
        for axes in grid.flat[len(domains) :]:
            axes.remove()

    return canvas.png(size, paint)


FOOTNOTE = (
    "each sample is compared with its twin from the uncompressed network; means over models and "
    "sampling seeds; measured at the white lines"
)


def _plot(axes: Axes, title: str, outcomes: TwinOutcomes) -> None:
    axes.stackplot(
        outcomes.ratios, *outcomes.shares.T, colors=[colour for _, colour in LOOKS.values()], linewidth=0
    )
    axes.plot(outcomes.ratios, outcomes.valid, color="black", linewidth=1.6)
    if outcomes.intervals is not None:
        axes.vlines(
            outcomes.ratios[1:], *outcomes.intervals[1:, -1].T, color="black", linewidth=2.2, zorder=4
        )
    for ratio in outcomes.ratios[1:-1]:
        axes.axvline(ratio, color="white", linewidth=0.7)
    canvas.ratio_axis(axes, outcomes.ratios, 1.0, 1.0)
    axes.set_xlim(min(outcomes.ratios), max(outcomes.ratios))
    axes.set_ylim(0, 1)
    axes.grid(False)
    axes.set_xlabel(canvas.COMPRESSION, loc="left")
    axes.set_title(title, loc="left", fontsize=11, pad=38)
    top = axes.secondary_xaxis("top")
    top.set_xticks(
        outcomes.ratios[1:], outcomes.rungs[1:], rotation=60, ha="left", rotation_mode="anchor", fontsize=8.5
    )
    top.minorticks_off()
    top.spines["top"].set_visible(False)
    top.tick_params(axis="x", length=2, pad=1)
