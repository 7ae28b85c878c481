"""`survival.png`: what becomes of the samples. Each is compared with its twin, made from the same noise by the uncompressed network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.analysis.measured import comparable, grouped
from bench.compressibility import is_recalibrated
from bench.drawing import canvas
from bench.drawing.overview import BASELINE, DomainSeries, models_in
from bench.methods.notation import LADDER, primary_rung
from bench.record import FINISHED, Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# bottom to top: the first three are valid samples
STATES = {
    "intact": ("intact: valid, as before", "#009E73"),
    "drifted": ("drifted: valid, another sample", "#56B4E9"),
    "repaired": ("repaired: valid only now", "#F0E442"),
    "degraded": ("degraded: valid only before", "#D55E00"),
    "still_invalid": ("still invalid", "#c8c8c8"),
}
VALID = 3
WIDTH, HEIGHT, MOST = 3.9, 5.0, 3  # inches of a panel; panels in a row


@dataclass(frozen=True)
class Fates:
    """Shares of all samples [1 + rungs, states] that sum to 1, from the uncompressed network on; means over seeds, then over models."""

    title: str
    rungs: tuple[str, ...]
    ratios: Sequence[float]
    shares: np.ndarray


def fates_of(one: DomainSeries, records: Sequence[Record]) -> Fates | None:
    """Of the models in the mean; where none counts, of every whole one. None where their records hold no twins."""
    models = {m.model for unit in one.domain.units for m in unit} or {m.model for m in one.domain.models}
    by_model = grouped([r for r in records if r.domain == one.domain.name and r.model in models], lambda r: r.model)
    found = [rows for _, group in by_model if (rows := model_fates(group)) is not None]
    if not found:
        return None
    rungs = tuple(rung for rung in (BASELINE, *LADDER) if all(rung in rows for rows in found))
    ratios = [2 ** mean(rows[rung][0] for rows in found) for rung in rungs]
    shares = np.array([np.mean([rows[rung][1] for rows in found], axis=0) for rung in rungs])
    return Fates(f"{one.domain.name} ({models_in(one.domain)})", rungs, ratios, shares)


def model_fates(records: Sequence[Record]) -> dict[str, tuple[float, np.ndarray]] | None:
    """Rung -> (log2 of the ratio, shares [states]), means over the seeds that have a baseline; None without one."""
    group = comparable(records)
    recalibrated = is_recalibrated(group)
    base = {r.sample_seed: s for r in group if r.method == BASELINE and r.status in FINISHED and (s := _shares(r)) is not None}
    found: dict[str, list[tuple[float, np.ndarray]]] = {}
    for r in group:
        rung = BASELINE if r.method == BASELINE else primary_rung(r.method, recalibrated)
        if rung is None or r.status not in FINISHED or r.cost is None or r.sample_seed not in base:
            continue
        shares = lost(base[r.sample_seed]) if r.status == "diverged" else _shares(r)
        if shares is not None:
            found.setdefault(rung, []).append((math.log2(r.cost.ratio), shares))
    rows = {rung: (mean(rate for rate, _ in each), np.mean([s for _, s in each], axis=0)) for rung, each in found.items()}
    return rows if BASELINE in rows and len(rows) > 1 else None


def lost(base: np.ndarray) -> np.ndarray:
    """A network that diverged has made nothing valid: what was valid is degraded, the rest is still invalid."""
    valid = base[:VALID].sum()
    return np.array([0.0] * VALID + [valid, 1 - valid])


def _shares(record: Record) -> np.ndarray | None:
    values = [record.metric(name) for name in STATES]
    return None if any(value is None for value in values) else np.array(values, float)


# -------------------------------------------------------------------------------------------------------- fates -> picture


def picture(domains: Sequence[Fates]) -> bytes:
    """PNG: a panel for each domain."""
    columns = min(MOST, len(domains))
    rows = math.ceil(len(domains) / columns)
    size = (max(2.4, columns) * WIDTH, 1.0 + rows * (HEIGHT - 0.9))

    def paint(figure: Figure, renderer: Any) -> None:
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        left, inch = 0.6 / size[0], 1 / size[1]
        handles: list[Any] = [Patch(color=colour, linewidth=0) for _, colour in STATES.values()]
        handles.append(Line2D([], [], color="black", linewidth=1.6))
        names = [*(name for name, _ in STATES.values()), "valid samples lie below this line"]
        bottom = canvas.legend(figure, handles, names, renderer, (left - 0.005, 1 - 0.36 * inch))
        figure.text(left, 1 - 0.2 * inch, "Which samples survive compression", fontsize=12.5, va="center")
        grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
        lower, upper = canvas.footnote(figure, FOOTNOTE, left) + 0.55 * inch, bottom - 0.75 * inch
        figure.subplots_adjust(left=left, right=1 - 0.3 / size[0], top=upper, bottom=lower, wspace=0.08, hspace=0.45)
        for axes, fates in zip(grid.flat, domains):
            _plot(axes, fates)
        for axes in grid[:, 0]:
            axes.set_ylabel("share of all samples")
        for axes in grid.flat[len(domains) :]:
            axes.remove()

    return canvas.png(size, paint)


FOOTNOTE = "each sample beside its twin from the uncompressed network; means over models and sampling seeds; measured at the white lines"


def _plot(axes: Axes, fates: Fates) -> None:
    axes.stackplot(fates.ratios, *fates.shares.T, colors=[colour for _, colour in STATES.values()], linewidth=0)
    axes.plot(fates.ratios, fates.shares[:, :VALID].sum(axis=1), color="black", linewidth=1.6)
    for ratio in fates.ratios[1:-1]:
        axes.axvline(ratio, color="white", linewidth=0.7)
    canvas.ratio_axis(axes, fates.ratios, 1.0, 1.0)
    axes.set_xlim(min(fates.ratios), max(fates.ratios))
    axes.set_ylim(0, 1)
    axes.grid(False)
    axes.set_xlabel(canvas.COMPRESSION, loc="left")
    axes.set_title(fates.title, loc="left", fontsize=11, pad=38)
    top = axes.secondary_xaxis("top")
    top.set_xticks(fates.ratios[1:], fates.rungs[1:], rotation=60, ha="left", rotation_mode="anchor", fontsize=8.5)
    top.minorticks_off()
    top.spines["top"].set_visible(False)
    top.tick_params(axis="x", length=2, pad=1)
