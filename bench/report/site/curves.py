"""The page's pictures as plain coordinates. The template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import mean

from bench.report.figures.overview import DomainSeries, Rung, series_of
from bench.report.site.data import Say, SiteData
from bench.stats.frontier import Best, frontier
from bench.stats.ladder import ROLES

WIDTH, HEIGHT = 560, 330
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 14, 40  # margins
LOWEST, HIGHEST = -0.1, 1.15  # retention; values outside are drawn at the edge
RATIOS = (1, 2, 4, 8, 16, 32, 64)
LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LOOKS = 6  # colours and shapes; a seventh domain has those of the first


@dataclass(frozen=True)
class Mark:
    """One point. `row` is its line in the table; None for a mean over models."""

    x: float
    y: float
    title: str
    look: int
    row: int | None = None
    own: bool = False  # not of the main source


@dataclass(frozen=True)
class Series:
    """One domain: its line, its band of 95 % intervals, and its marks."""

    name: str
    label: str
    look: int
    line: str
    band: str
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Chart:
    """One picture of one role."""

    role: str
    name: str  # for readers who do not see it
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    series: Sequence[Series]
    width: int = WIDTH
    height: int = HEIGHT


@dataclass(frozen=True)
class Scale:
    """Ratios and retentions as coordinates."""

    halvings: float  # at the right edge

    def x(self, ratio: float) -> float:
        """The coordinate of a compression ratio, on a logarithmic axis."""
        share = math.log2(max(ratio, 1.0)) / self.halvings
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, retention: float) -> float:
        """The coordinate of a retention, kept inside the picture."""
        share = (HIGHEST - min(max(retention, LOWEST), HIGHEST)) / (HIGHEST - LOWEST)
        return round(TOP + share * (HEIGHT - TOP - BOTTOM), 1)


def scale_of(ratios: Iterable[float]) -> Scale:
    """A scale that holds all ratios, at least up to 32x."""
    return Scale(max([5.1, *(math.log2(max(ratio, 1.0)) + 0.1 for ratio in ratios)]))


def looks(site: SiteData) -> dict[str, int]:
    """Domain -> the number of its colour and shape."""
    names = sorted({row["domain"] for row in site.rows})
    return {name: i % LOOKS for i, name in enumerate(names)}


def domain_charts(site: SiteData, say: Say) -> list[Chart]:
    """Retention over ratio, one picture for each role. Empty where no model has a whole ladder."""
    found = [one for one in series_of(site.main.records, say) if one.mean[ROLES[0]]]
    scale = scale_of(rung.ratio for one in found for role in ROLES for rung in one.mean[role])
    number = looks(site)
    charts = []
    for role in ROLES if found else ():
        name = f"Retention of {role} over the compression ratio, by domain"
        series = [_mean_series(one, role, scale, number[one.domain.name]) for one in found]
        charts.append(_chart(role, name, scale, series))
    return charts


def _chart(role: str, name: str, scale: Scale, series: Sequence[Series]) -> Chart:
    ratios = [(scale.x(ratio), f"{ratio}x") for ratio in RATIOS if math.log2(ratio) <= scale.halvings]
    return Chart(role, name, ratios, [(scale.y(level), f"{level:.1f}") for level in LEVELS], series)


def _mean_series(one: DomainSeries, role: str, scale: Scale, look: int) -> Series:
    rungs = one.mean[role]
    marks = [
        Mark(scale.x(r.ratio), scale.y(r.value), f"{one.domain.name}, {_rung_text(r, role)}", look)
        for r in rungs
    ]
    line = path([(mark.x, mark.y) for mark in marks])
    return Series(one.domain.name, one.label, look, line, _band(rungs, scale), marks)


def _rung_text(rung: Rung, role: str) -> str:
    ends = "" if rung.interval is None else f" [{rung.interval[0]:.3f}, {rung.interval[1]:.3f}]"
    return f"{rung.name}: {rung.ratio:.1f}x, {role} {rung.value:.3f}{ends}"


def _band(rungs: Sequence[Rung], scale: Scale) -> str:
    known = [(r.ratio, *r.interval) for r in rungs if r.interval is not None]
    upper = [(scale.x(ratio), scale.y(high)) for ratio, _, high in known]
    lower = [(scale.x(ratio), scale.y(low)) for ratio, low, _ in reversed(known)]
    return path(upper + lower) + "Z" if len(known) > 1 else ""


def path(points: Sequence[tuple[float, float]]) -> str:
    """The points as the `d` of an SVG path."""
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def cell_charts(site: SiteData) -> list[Chart]:
    """Every row of the table as a point, with each domain's frontier over all methods, for each role."""
    sized = [row for row in site.rows if row["ratio"]]
    scale = scale_of(row["ratio"] for row in sized)
    charts = []
    for role in ROLES:
        name = f"Retention of {role} over the compression ratio: every method of every model"
        series = [_cell_series(site, domain, look, role, scale) for domain, look in looks(site).items()]
        charts.append(_chart(role, name, scale, series))
    return charts if sized else []


def _cell_series(site: SiteData, domain: str, look: int, role: str, scale: Scale) -> Series:
    marks = []
    for i, row in enumerate(site.rows):
        if row["domain"] == domain and row["ratio"] and row[role] is not None:
            said = f"{domain} {row['model']} {row['method']}: {row['ratio']:.1f}x, {role} {row[role]:.3f}"
            marks.append(
                Mark(
                    scale.x(row["ratio"]), scale.y(row[role]), said, look, i, row["source"] != site.main.name
                )
            )
    best = frontier(site.main.found.richest.get(domain, []))
    return Series(domain, domain, look, _frontier(best, role, scale), "", marks)


def _frontier(best: Sequence[Best], role: str, scale: Scale) -> str:
    """A line through the best methods, each once."""
    points = {(one.method, one.ratio): mean(one.values[role]) for one in best}
    return path([(scale.x(ratio), scale.y(value)) for (_, ratio), value in points.items()])
