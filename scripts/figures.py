"""Numbers of the published records, as the findings cite them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean

from bench.methods.notation import LADDER
from bench.records.schema import VALUE as ITEMS
from bench.records.schema import Record
from bench.report.leaderboard import survival_of
from bench.report.report_data import ReportData, judged_twice, table
from bench.stats.agreement import as_second_judges_see
from bench.stats.compressibility import retention_of
from bench.stats.ladder import ROLES, ModelLadder, grouped, models_of
from bench.stats.order import Order, order_of
from bench.stats.scores import Domain

ROOT = Path(__file__).parent.parent
GAN, DIFFUSION, TEXT = "image_gan", "image_diffusion", "text"
DOMAINS = (GAN, DIFFUSION, TEXT)
SEEDS = "--seed 0 --seed 1 --seed 2"


class Figures:
    """Numbers of the records by domain and method; rungs are means over all compared models, other methods those of `s@0`."""

    def __init__(self, found: ReportData) -> None:
        self.found = found
        self.domains = {d.name: d for d in found.now.domains}
        self.seconds = {d.name: d for d in found.now.second_domains}

    def orders(self) -> tuple[list[Order], list[Order]]:
        """What goes first in each model with a whole ladder: by the first judges, and by the second."""
        first, second = ([order_of(m) for m in models if m.whole] for models in (self.found.models, self.judged_twice))
        return first, second

    @functools.cached_property
    def judged_twice(self) -> list[ModelLadder]:
        """As the second judges see them: the models of which they have seen the whole ladder, compared or not."""
        both = [same for _, same in grouped(self.found.records, lambda r: (r.domain, r.model)) if judged_twice(same)]
        seen = [as_second_judges_see(r) for same in both for r in same]
        return [m for m in models_of([r for r in seen if r is not None]) if m.whole]

    def domain(self, name: str) -> Domain:
        return self.domains[name]

    def retention(self, domain: str, method: str, role: str) -> float:
        if method in LADDER:
            estimate = self.domains[domain].retention(role, method)
            assert estimate is not None, f"{domain} has no {method}"
            return estimate.value
        return mean(v for r in self.records(domain, method) if (v := retention_of(r, role)) is not None)

    def ratio(self, domain: str, method: str) -> float:
        if method in LADDER:
            return 2 ** (self.domains[domain].rate(method) or math.nan)
        return mean(r.cost.ratio for r in self.records(domain, method) if r.cost)

    def alone(self, domain: str, method: str, model: str = "s@0") -> str:
        """As `both`, of one model: to stand beside methods that were not measured of every model."""
        return self._both(domain, self.records(domain, method, model))

    def plain(self, domain: str, method: str, model: str = "s@0") -> str:
        """Of one model without recalibration."""
        return self._both(domain, [r for r in self.found.records if (r.domain, r.model, r.method) == (domain, model, method)])

    def _both(self, domain: str, records: list[Record]) -> str:
        q, d = (mean(v for r in records if (v := retention_of(r, role)) is not None) for role in ROLES)
        return f"{mean(r.cost.ratio for r in records if r.cost):.1f}x: {short(q)}/{short(d)}"

    def compared(self, domain: str) -> list[str]:
        """Models of the first table."""
        return [m.model for unit in self.domains[domain].units for m in unit]

    def records(self, domain: str, method: str, model: str = "s@0") -> list[Record]:
        """Of one model; recalibrated where the domain's ladder is."""
        of_model = [r for r in self.found.records if (r.domain, r.model) == (domain, model)]
        named = [r for r in of_model if r.method == method + "+recalibrate"] or [r for r in of_model if r.method == method]
        assert named, f"{domain} {model} has no records of {method}"
        return named

    def both(self, domain: str, method: str) -> str:
        """`9.0x: .99/.98`: ratio, quality, diversity."""
        q, d = (self.retention(domain, method, role) for role in ROLES)
        return f"{self.ratio(domain, method):.1f}x: {short(q)}/{short(d)}"

    def everywhere(self, method: str) -> str:
        return "; ".join(f"{domain} {self.both(domain, method)}" for domain in DOMAINS)

    def second_of(self, domain: str, rung: str) -> str:
        """`.99/.91`: of the same models, as the second judges see them."""
        return "/".join(short(e.value) for role in ROLES if (e := self.seconds[domain].retention(role, rung)) is not None)

    def second(self, domain: str, method: str, role: str, model: str = "s@0") -> float:
        """What the second judges say of one model, under those sampling seeds that they have judged."""
        seen = [other for r in self.records(domain, method, model) if (other := as_second_judges_see(r)) is not None]
        return mean(v for r in seen if (v := retention_of(r, role)) is not None)

    def second_alone(self, method: str, model: str = "s@0") -> str:
        """`image_gan .99/.91; ...` of one model each, whatever the method."""
        return "; ".join(f"{d} {'/'.join(short(self.second(d, method, role, model)) for role in ROLES)}" for d in DOMAINS)

    def by_size(self, said: Callable[[Sequence[ModelLadder]], str]) -> str:
        """What is `said` of all models with a whole ladder, domain by domain and size by size: `text s .92 to .96, xs .92; ...`"""
        return "; ".join(f"{domain} {self.by_size_of(domain, said)}" for domain in DOMAINS)

    def by_size_of(self, domain: str, said: Callable[[Sequence[ModelLadder]], str]) -> str:
        models = [m for m in self.found.models if m.domain == domain and m.whole]
        return ", ".join(f"`{size}` {said([m for m in models if m.size == size])}" for size in dict.fromkeys(m.size for m in models))

    def absolute(self, domain: str, size: str, rung: str) -> tuple[float, float, float]:
        """(bytes, share of valid samples, mutual recall): means over all models of a size and their sampling seeds."""
        models = [m.model for m in self.found.models if m.domain == domain and m.size == size]
        records = [r for model in models for r in self.records(domain, rung, model) if r.cost]
        valid, recall = (mean(r.metric(f"{role}_{ITEMS[role]}") or 0.0 for r in records) for role in ROLES)
        return mean(r.cost.stored_bytes for r in records if r.cost), valid, recall

    def survival(self, domain: str, method: str, model: str) -> float:
        """Mean over sampling seeds."""
        return mean(s for r in self.records(domain, method, model) if (s := survival_of(r)) is not None)


def by_domain(headers: Sequence[str], cells: Callable[[str], Sequence[str]]) -> str:
    """A table with a line for each domain."""
    return table(["domain", *headers], [[domain, *cells(domain)] for domain in DOMAINS], left=1 + len(headers))


def span(values: Iterable[float]) -> str:
    """`.32 to .84`"""
    found = sorted(values)
    low, high = short(found[0]), short(found[-1])
    return low if low == high else f"{low} to {high}"


def ratios(values: Iterable[float]) -> str:
    """`6.4x to 7.4x`"""
    found = sorted(values)
    low, high = (f"{value:.1f}x" for value in (found[0], found[-1]))
    return low if low == high else f"{low} to {high}"


def short(value: float) -> str:
    """.99, 1.02, -.05"""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"
