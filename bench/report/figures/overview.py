"""`domains.png`: retention by file size of all domains.

Each curve is the mean over the domain's models, with its interval.

The curves and bands are the estimates and intervals of `bench.stats.domain`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.methods.notation import LADDER
from bench.records.schema import Record
from bench.report.figures import canvas
from bench.report.figures.canvas import COLOURS, MARKER, MARKERS, Curve, Label
from bench.stats.complete import not_compared_yet, without
from bench.stats.compressibility import recalibrated_ladder
from bench.stats.domain import Domain, domains_of
from bench.stats.ladder import ROLES, ModelLadder, grouped, with_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Say = Callable[[str], None]
SIZE = (9.0, 8.4)  # inches
# lower limit, smallest and largest upper limit of retention; wide bands may leave the picture
SHOWN = (-0.1, 1.12, 1.25)
BASELINE = "none"


@dataclass(frozen=True)
class Rung:
    """A mean over models with its 95 % interval. The interval is None for a single observation."""

    name: str
    ratio: float
    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Single:
    """One model's ladder, [1 + rungs], beginning with the uncompressed network."""

    model: str
    ratios: Sequence[float]
    values: dict[str, Sequence[float]]  # by role
    counts: bool  # is in the mean


@dataclass(frozen=True)
class DomainSeries:
    """The curves of one domain. `mean` is empty where the domain's score averages no model."""

    domain: Domain
    label: str
    colour: str
    marker: str
    mean: dict[str, Sequence[Rung]]  # by role
    singles: Sequence[Single]


def series_of(records: Sequence[Record], say: Say) -> list[DomainSeries]:
    """Each compared domain with a whole ladder, by name. Others, and models that lack rungs, are reported to
    `say` and left out.
    """
    pairs = with_records(records)
    found, used = [m for m, _ in pairs], [r for _, same in pairs for r in same]
    for m in found:
        if not m.whole:
            say(f"{m.domain} {m.model} is not drawn: {_why(m)}")
    known = {(m.domain, m.model) for m in found}
    for name, _ in grouped(records, lambda r: (r.domain, r.model)):
        if name not in known:
            say(f"{' '.join(name)} is not drawn: no rung of its ladder has a baseline")
    recalibrated = {name: recalibrated_ladder(group) for name, group in grouped(records, lambda r: r.domain)}
    shipped = [m for m, same in pairs if not same[0].own_reference] or found  # one reference a domain
    kept = {(m.domain, m.model) for m in shipped}
    for m in found:
        if (m.domain, m.model) not in kept:
            say(f"{m.domain} {m.model} is not drawn: it was scored against other real samples")
    waiting = not_compared_yet([r for r in used if (r.domain, r.model) in kept], shipped)
    for waits, lacks in waiting.items():
        say(f"{waits} is not drawn: not compared yet (missing: {'; '.join(lacks)})")
    domains = domains_of([m for m in without(shipped, waiting) if m.whole])
    return [_series(domain, recalibrated[domain.name], i) for i, domain in enumerate(domains)]


def _why(m: ModelLadder) -> str:
    parts = {"not measured": m.missing, "no retention": m.undefined}
    return "; ".join(f"{what}: {', '.join(rungs)}" for what, rungs in parts.items() if rungs)


def _series(domain: Domain, recalibrated: bool, i: int) -> DomainSeries:
    counting = {m.model for m in domain.averaged}
    label = f"{domain.name}{', recalibrated' if recalibrated else ''} ({models_in(domain)})"
    mean: dict[str, Sequence[Rung]] = {role: mean_of(domain, role) if domain.units else () for role in ROLES}
    singles = (
        []
        if len(domain.models) == len(counting) == 1
        else [single_of(m, m.model in counting) for m in domain.models]
    )
    return DomainSeries(domain, label, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], mean, singles)


def models_in(domain: Domain) -> str:
    """A description of the models that the mean averages."""
    seeds = len(domain.units)
    sizes = len(domain.units[0]) if seeds else 0
    if seeds * sizes <= 1:
        return f"{seeds * sizes} model" if seeds else "no model counts"
    return f"{seeds} training seed{'s' if seeds > 1 else ''}" + (f" of {sizes} sizes" if sizes > 1 else "")


def mean_of(domain: Domain, role: str) -> list[Rung]:
    """The mean curve from the uncompressed network, whose retention is 1 by definition, to the last rung."""
    found = [Rung(BASELINE, 1.0, 1.0, (1.0, 1.0))]
    for rung in LADDER:
        estimate, rate = domain.retention(role, rung), domain.rate(rung)
        if estimate is not None and rate is not None:
            found.append(Rung(rung, 2**rate, estimate.value, estimate.interval()))
    return found


def single_of(m: ModelLadder, counts: bool) -> Single:
    """The curve of one model."""
    return Single(
        m.model, [1.0, *2.0**m.rates], {role: [1.0, *m.outcomes[role].mean] for role in ROLES}, counts
    )


# ------------------------------------------------------------------------------------------ series -> picture


def picture(series: Sequence[DomainSeries]) -> bytes:
    """PNG: quality above, diversity below."""

    def paint(figure: Figure, renderer: Any) -> None:
        handles = [_handle(one) for one in series]
        bottom = canvas.legend(figure, handles, [one.label for one in series], renderer, (0.1, 0.948))
        figure.text(
            0.105,
            0.965,
            "Retention of each domain along the ladder of quantizers",
            fontsize=12.5,
            va="center",
        )
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        lower = canvas.footnote(figure, _footnote(series), 0.105) + 0.6 / SIZE[1]
        figure.subplots_adjust(left=0.105, right=0.985, top=bottom - 0.015, bottom=lower, hspace=0.08)
        _axes(panels, series)
        for role, axes in zip(ROLES, panels):
            for one in series:
                _plot(axes, one, role)
            canvas.write_labels(axes, *_names(series, role), renderer)

    return canvas.png(SIZE, paint)


def _axes(panels: Sequence[Axes], series: Sequence[DomainSeries]) -> None:
    ratios = [ratio for one in series for m in one.domain.models for ratio in 2.0**m.rates]
    values = [
        value
        for one in series
        for m in one.domain.models
        for role in ROLES
        for value in m.outcomes[role].mean
    ]
    canvas.ratio_axis(panels[0], [1.0, *ratios], 0.92, 36.0)
    tops = [rung.interval[1] for one in series for role in ROLES for rung in one.mean[role] if rung.interval]
    panels[0].set_ylim(
        min(SHOWN[0], min(values) - 0.03),
        max(SHOWN[1], min(SHOWN[2], max(tops, default=1.0)), max(values) + 0.03),
    )
    panels[1].set_xlabel(canvas.COMPRESSION, loc="left")
    for role, axes in zip(ROLES, panels):
        axes.set_ylabel(f"{role} retention\n{canvas.ZERO_AND_ONE}")
        canvas.levels(axes)


def _footnote(series: Sequence[DomainSeries]) -> str:
    over = {len(one.domain.units) > 1 for one in series if one.domain.units}
    ways = {
        (False,): "over the sampling seeds and the samples of the one model",
        (True,): "over training seeds",
        (
            False,
            True,
        ): "over training seeds, or, where there is one model, over its sampling seeds and samples",
    }
    parts = [f"bands: 95 % intervals {ways[tuple(sorted(over))]}"] if over else []
    singles = [single for one in series for single in one.singles]
    if singles:
        parts.append("thin lines: single models")
    if not all(single.counts for single in singles):
        parts.append("dashed: not in the mean")
    return "; ".join(parts)


def _plot(axes: Axes, one: DomainSeries, role: str) -> None:
    """Draw the band, then single models, then the mean on top."""
    for single in one.singles:
        look: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.55, "color": one.colour, "zorder": 2.1}
        if not single.counts:
            look |= {
                "linestyle": (0, (5, 2)),
                "marker": one.marker,
                "markersize": 4,
                "markerfacecolor": "white",
                "alpha": 0.8,
            }
        axes.plot(single.ratios, single.values[role], **look)
    rungs = one.mean[role]
    banded = [rung for rung in rungs if rung.interval is not None]
    low, high = zip(*(rung.interval for rung in banded if rung.interval)) if banded else ((), ())
    axes.fill_between(
        [rung.ratio for rung in banded], low, high, color=one.colour, alpha=0.16, linewidth=0, zorder=1.5
    )
    style: dict[str, Any] = {"color": one.colour, "marker": one.marker, "linewidth": 1.8, **MARKER}
    axes.plot([rung.ratio for rung in rungs], [rung.value for rung in rungs], zorder=3, **style)


def _names(series: Sequence[DomainSeries], role: str) -> tuple[list[Label], list[Curve]]:
    """Labels of the means' rungs, and the curves that they must not hide."""
    means = [(one, one.mean[role]) for one in series]
    labels = [
        Label(rung.name, rung.ratio, rung.value, one.colour)
        for one, rungs in means
        for rung in rungs
        if rung.name != BASELINE
    ]
    return labels, [_curve(rungs) for _, rungs in means]


def _curve(rungs: Sequence[Rung]) -> Curve:
    return Curve([rung.ratio for rung in rungs], [rung.value for rung in rungs])


def _handle(one: DomainSeries) -> Any:
    """The entry of the legend: hollow where the domain's score averages no model."""
    from matplotlib.lines import Line2D

    if one.mean[ROLES[0]]:
        return Line2D([], [], color=one.colour, marker=one.marker, linewidth=1.8, **MARKER)
    return Line2D(
        [], [], color=one.colour, marker=one.marker, linestyle="--", markerfacecolor="white", markersize=5
    )
