"""Figures of the published records, and how docs/findings.md writes them."""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import TypeVar

import numpy as np

from bench.methods.notation import LADDER
from bench.records.schema import Record
from bench.report.leaderboard import survival_of
from bench.report.report_data import ReportData, judged_twice, table
from bench.stats.agreement import Agreement, agreements, as_second_judges_see
from bench.stats.compressibility import FULL_RANGE, retention_of, score
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, VALUE, ModelLadder, grouped, models_of
from bench.stats.order import Order, order_of
from bench.stats.scores import model_score
from bench.stats.sizes import OwnSlopes, of_sizes_trained_often, own_slopes, points
from bench.stats.survivors import Share
from bench.stats.use import foretold, use_by_method

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
GAN, DIFFUSION, TEXT = DOMAINS = ("image_gan", "image_diffusion", "text")
SIZES = ("m", "s", "xs")
STEPS = {GAN: ("int3", "int2"), DIFFUSION: ("int6", "int5"), TEXT: ("int6", "int5")}  # where many samples fail


class Figures:
    """Means over records: of a rung over all compared models, of another method over the records of `s@0`."""

    def __init__(self, found: ReportData) -> None:
        self.found = found
        self.domains = {d.name: d for d in found.now.domains}
        self.whole = [m for m in found.models if m.whole]

    def of(self, domain: str, size: str | None = None) -> list[ModelLadder]:
        """Models with a whole ladder."""
        return [m for m in self.whole if m.domain == domain and size in (None, m.size)]

    def compared(self, domain: str) -> list[ModelLadder]:
        """Models whose mean is the score of the domain."""
        return [m for unit in self.domains[domain].units for m in unit]

    @functools.cached_property
    def secondary(self) -> list[ModelLadder]:
        """The ladders that the secondary evaluators have scored as a whole, by their scores."""
        seen: list[Record | None] = []
        for _, same in grouped(self.found.records, lambda r: (r.domain, r.model)):
            if judged_twice(same):
                seen += [as_second_judges_see(r) for r in same]
        return [m for m in models_of([r for r in seen if r is not None]) if m.whole]

    def orders(self) -> tuple[list[Order], list[Order]]:
        """Which role falls first in each model: by the primary evaluators, and by the secondary ones."""
        return [order_of(m) for m in self.whole], [order_of(m) for m in self.secondary]

    def records(self, domain: str, method: str, model: str = "", plain: bool = False) -> list[Record]:
        """Of one model, or else of all compared models for a rung, of `s@0` for another method; the GAN's recalibrated if not `plain`."""
        every = [m.model for m in self.compared(domain)] if method in LADDER else ["s@0"]
        models, name = [model] if model else every, method + "+recalibrate" * (domain == GAN and not plain)
        found = [r for r in self.found.records if (r.domain, r.method) == (domain, name) and r.model in models]
        return known(found or None)

    def kept(self, domain: str, method: str, model: str = "", plain: bool = False) -> list[float]:
        """Retention of quality and of diversity."""
        return retained(self.records(domain, method, model, plain))

    def quality(self, domain: str, method: str) -> float:
        return self.kept(domain, method)[0]

    def diversity(self, domain: str, method: str) -> float:
        return self.kept(domain, method)[1]

    def kept_secondary(self, domain: str, method: str, model: str = "") -> list[float]:
        """The same by the secondary evaluators."""
        return retained([s for r in self.records(domain, method, model) if (s := as_second_judges_see(r))])

    def least(self, domain: str, method: str) -> float:
        """The smallest retention by any role and evaluator."""
        return min(self.kept(domain, method) + self.kept_secondary(domain, method))

    def ratio(self, domain: str, method: str, model: str = "", plain: bool = False) -> float:
        """Mean over halvings of the file."""
        records = self.records(domain, method, model, plain)
        return 2.0 ** mean(math.log2(r.cost.ratio) for r in records if r.cost)

    def stored(self, domain: str, method: str) -> float:
        """Bytes of the compressed `s@0`."""
        return mean(r.cost.stored_bytes for r in self.records(domain, method, "s@0") if r.cost)

    def losers(self) -> tuple[list[ModelLadder], list[ModelLadder]]:
        """Models that lose more than 5 % of either role at 6 bits, by the primary and by the secondary evaluators."""
        return list(filter(loses, self.whole)), list(filter(loses, self.secondary))

    def best_at_8x(self) -> float:
        """The largest mean quality that a method keeps of the diffusion model `s@0` at 8x or more."""
        kept: dict[str, list[float]] = {}
        for r in self.found.records:
            small = (r.domain, r.model) == (DIFFUSION, "s@0") and r.cost is not None and r.cost.ratio >= 8
            if small and (value := retention_of(r, "quality")) is not None:
                kept.setdefault(r.method, []).append(value)
        return max(map(mean, kept.values()))

    def survivors(self, m: ModelLadder) -> float:
        """Of its valid samples, those whose twin is still valid at 4 bits; mean over sampling seeds."""
        return mean(s for r in self.records(m.domain, "int4", m.model) if (s := survival_of(r)) is not None)

    def fate(self, domain: str, fate: str) -> float:
        """Mean share of a fate of the samples at 4 bits, over the compared models."""
        return mean(r.metric(fate) or 0.0 for r in self.records(domain, "int4"))

    def absolute(self, domain: str, size: str, rung: str) -> tuple[float, float, float]:
        """(bytes, share of valid samples, mutual recall): means over all models of a size and their sampling seeds."""
        records = [r for m in self.of(domain, size) for r in self.records(domain, rung, m.model)]
        valid, recall = (mean(r.metric(VALUE[role]) or 0.0 for r in records) for role in ROLES)
        return mean(r.cost.stored_bytes for r in records if r.cost), valid, recall

    def use(self, m: ModelLadder, rung: str) -> float:
        """Retention of the use of samples as training data."""
        (estimate,) = use_by_method(self.records(m.domain, rung, m.model)).values()
        return estimate.value

    def use_taus(self) -> dict[tuple[str, str], Estimate]:
        """How well each role orders methods by use, by domain and role."""
        return {(one.domain, one.role): one.tau for one in foretold(self.found.records)}

    @functools.cached_property
    def agreements(self) -> dict[tuple[str, str], Agreement]:
        """Between primary and secondary evaluator, by domain and role."""
        return {(row.domain, row.role): row for row in agreements(self.found.records)}

    def failures(self, domain: str) -> list[tuple[str, Share, Share]]:
        """(model, P(fails | failed at the milder rung), P(fails | survived it)) at the domain's step, where enough samples do."""
        found = []
        for m in self.of(domain):
            for step in self.found.files[domain, m.model].ladder:
                failed, survived = step.table.after_failure, step.table.after_survival
                if step.harsher.startswith(STEPS[domain][1]) and failed and survived:
                    found.append((f"{domain} {m.model}", failed, survived))
        return found

    def unsure(self) -> list[str]:
        """Models in which these two intervals overlap."""
        return [name for d in DOMAINS for name, failed, survived in self.failures(d) if failed.low <= survived.high]

    def aucs(self, domain: str, trait: str) -> list[float]:
        """How well a trait of the samples predicts which of them fail at 4 bits, in each model with enough failures."""
        found = []
        for m in self.of(domain):
            survival = self.found.files[domain, m.model].survival
            by = survival["int4+recalibrate" if domain == GAN else "int4"].by
            if by and (auc := by[trait].auc):
                found.append(auc.value)
        return found

    def slopes(self, role: str) -> tuple[OwnSlopes, OwnSlopes]:
        """Of C over size: with all models, and without sizes that were trained once."""
        data = points(self.found.models, self.found.parameters, role)
        repeated = of_sizes_trained_often([p for p in data if not p.hollow])
        return known(own_slopes(data)), known(own_slopes(repeated))

    def of_one_size(self, domain: str) -> list[list[ModelLadder]]:
        """The compared models by size."""
        groups: dict[str, list[ModelLadder]] = {}
        for m in self.compared(domain):
            groups.setdefault(m.size, []).append(m)
        return list(groups.values())

    def spread(self, domain: str, role: str) -> float:
        """Standard deviation of C between training seeds of one size, pooled over sizes."""
        squares, df = 0.0, 0
        for group in self.of_one_size(domain):
            values = [known(model_score(m, role)).value for m in group]
            squares, df = squares + float(np.var(values)) * len(values), df + len(values) - 1
        return math.sqrt(squares / df)

    def c_up_to_16x(self) -> float:
        """C of the GAN's quality from the rungs up to the first that reaches 16x."""
        scores = []
        for m in self.compared(GAN):
            end = int(np.argmax(m.rates >= FULL_RANGE[1])) + 1
            kept = m.outcomes["quality"].mean[:end].tolist()
            scores.append(known(score(m.rates[:end].tolist(), kept, FULL_RANGE)))
        return mean(scores)

    def six_below_five(self) -> list[str]:
        """Diffusion models that keep more quality at 5 bits than at 6 by both evaluators: `xs@0` .87 and 1.00, ..."""
        found = []
        for m in self.of(DIFFUSION):
            first = [self.kept(DIFFUSION, rung, m.model)[0] for rung in ("int6", "int5")]
            second = [self.kept_secondary(DIFFUSION, rung, m.model)[0] for rung in ("int6", "int5")]
            if max(first[0] - first[1], second[0] - second[1]) < -0.05:
                theirs = " and ".join(map(short, second))
                found.append(f"`{m.model}` {' and '.join(map(short, first))}, by the secondary evaluator {theirs}")
        return found

    def discriminator(self) -> float:
        """Its share of the numbers of the trained GAN."""
        folder = ROOT / "domains" / "image_gan" / "weights" / "s@0"
        one, other = (numbers_in(folder / f"{name}.safetensors") for name in ("discriminator", "generator"))
        return one / (one + other)

    # ------------------------------------------------------------------------------------------------ as text

    def widest(self) -> str:
        """Where models of one size differ most: `quality of text s at ..., from .. to ..`"""
        found = []
        groups = [group for d in DOMAINS for group in self.of_one_size(d)]
        for role, rung, group in itertools.product(ROLES, LADDER, groups):
            values = [left(m, role, rung) for m in group]
            where = f"{role} of {group[0].domain} {group[0].size} at `{rung}`"
            found.append((max(values) - min(values), f"{where}, from {short(min(values))} to {short(max(values))}"))
        return max(found)[1]

    def classes(self) -> str:
        """Survival of the worst and the best class in each diffusion model: `.04 sneaker to .58 coat (`s@0`); ...`"""
        told, none_left = [], []
        for m in self.of(DIFFUSION):
            file = self.found.files[DIFFUSION, m.model]
            by = file.survival["int4"].by
            if not by:  # too few samples survive
                none_left.append(f"`{m.model}`")
                continue
            ends = known(by["class"].labels)
            shares = dict(zip(file.covariates["class"].labels, by["class"].survival))
            worst, best = (f"{short(known(shares[name].share))} {name}" for name in (ends.lowest, ends.highest))
            told.append(f"{worst} to {best} (`{m.model}`)")
        return "; ".join(told) + (f" ({' and '.join(none_left)}: hardly any survives)" if none_left else "")

    def cell(self, domain: str, method: str, model: str = "", plain: bool = False) -> str:
        """`9.0x: .99/.98`: ratio, quality, diversity."""
        return f"{self.ratio(domain, method, model, plain):.1f}x: {slash(self.kept(domain, method, model, plain))}"

    def methods(self, *methods: str, secondary: Sequence[str] = ()) -> str:
        """A table with a column for each method, and one more for those that the secondary evaluators score."""
        headers, lines = [], {d: [d] for d in DOMAINS}
        for method in methods:
            headers += [f"`{method}`", "secondary evaluators"][: 1 + (method in secondary)]
            for d, line in lines.items():
                line += [self.cell(d, method)] + [slash(self.kept_secondary(d, method))] * (method in secondary)
        return by_domain(headers, lambda d: lines[d][1:])

    def sizes(self, value: Callable[[ModelLadder], float]) -> str:
        """A table with the range of a value over the models of each domain and size."""
        return by_domain(SIZES, lambda d: [span(map(value, self.of(d, size))) for size in SIZES])


def by_domain(headers: Sequence[str], cells: Callable[[str], Sequence[str]]) -> str:
    """A table with a line for each domain."""
    return table(["domain", *headers], [[d, *cells(d)] for d in DOMAINS], left=1 + len(headers))


def known(value: T | None) -> T:
    """Raises `ValueError` where the records lack a figure."""
    if value is None:
        raise ValueError("the records lack a figure that the findings need")
    return value


def left(m: ModelLadder, role: str, rung: str) -> float:
    """Retention of one model at a rung."""
    return float(m.outcomes[role].mean[m.rungs.index(rung)])


def loses(m: ModelLadder) -> bool:
    """More than 5 % of either role at 6 bits."""
    return min(left(m, role, "int6") for role in ROLES) < 0.95


def retained(records: Sequence[Record]) -> list[float]:
    """Mean retention of quality and of diversity."""
    found = []
    for role in ROLES:
        found.append(mean(kept for r in records if (kept := retention_of(r, role)) is not None))
    return found


def numbers_in(path: Path) -> int:
    """How many numbers a safetensors file holds."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def short(value: float) -> str:
    """.99, 1.02, -.05"""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"


def slash(values: Iterable[float]) -> str:
    """`.99/1.02`"""
    return "/".join(map(short, values))


def span(values: Iterable[float], form: Callable[[float], str] = short) -> str:
    """`.32 to .84`"""
    ordered = sorted(values)
    low, high = form(ordered[0]), form(ordered[-1])
    return low if low == high else f"{low} to {high}"
