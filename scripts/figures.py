"""Figures of the published records: the numbers behind docs/findings.md."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TypeVar

import numpy as np
from safetensors.numpy import load_file

from bench.methods.notation import LADDER, is_trained
from bench.records.schema import Record, metric_of
from bench.report.model_page import survival_of
from bench.report.report_data import ReportData
from bench.stats.compressibility import FULL_RANGE, mean_retention, score
from bench.stats.contrasts import What
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.order import Order, order_of
from bench.stats.rank_agreement import Agreement, agreements, secondary_views
from bench.stats.scores import model_score
from bench.stats.sizes import SizeSlopes, common_sizes, points, size_slopes
from bench.stats.survivors import Share
from bench.stats.use import use_by_method, utility_correlations
from scripts.studies.explanation import FILE
from scripts.studies.explanation_tables import c_with_decoder
from scripts.studies.training_tables import (
    by_method,
    cells_of,
    collapses,
    decidable,
    kept,
    more_spread,
    spreads,
)
from scripts.studies.training_time import BINARY, Planned, from_scratch

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
GAN, DIFFUSION, TEXT = DOMAINS = ("image_gan", "image_diffusion", "text")  # measured with every method
TOKENS, MOLECULES = OTHERS = ("image_tokens", "molecules")  # measured with the ladder and few other methods
FEW_BITS = ("ternary", "binary")
# binary networks of a GAN -> the setting of `qat`
BINARY_GANS = {"generator": "", "both": ",networks=both", "discriminator": ",networks=discriminator"}
# neighbouring rungs between which many samples fail
STEPS = {GAN: ("int3", "int2"), DIFFUSION: ("int6", "int5"), TEXT: ("int6", "int5")}


class Figures:
    """Means over records: of a rung over all compared models, of another method over the records of `s@0`.

    Methods beside the ladder are of the three `DOMAINS` that were measured with every method.
    """

    def __init__(self, found: ReportData) -> None:
        self.found = found
        self.domains = {d.name: d for d in found.now.domains}
        self.whole = [m for m in found.compared if m.whole]

    def of(self, domain: str, size: str | None = None) -> list[ModelLadder]:
        """Models with a whole ladder."""
        return [m for m in self.whole if m.domain == domain and size in (None, m.size)]

    def compared(self, domain: str) -> list[ModelLadder]:
        """Models whose mean is the score of the domain."""
        return self.domains[domain].averaged

    def of_one_size(self, domain: str) -> list[list[ModelLadder]]:
        """The compared models by size."""
        groups: dict[str, list[ModelLadder]] = {}
        for m in self.compared(domain):
            groups.setdefault(m.size, []).append(m)
        return list(groups.values())

    @functools.cached_property
    def secondary(self) -> list[ModelLadder]:
        """The ladders that the secondary evaluators have scored as a whole, by their scores."""
        return [m for m in self.found.second_models if m.whole and m.domain not in self.found.waiting]

    def orders(self, secondary: bool = False) -> list[Order]:
        """Which role falls below 0.90 first in each model."""
        return [order_of(m) for m in (self.secondary if secondary else self.whole)]

    def losers(self, secondary: bool = False) -> list[ModelLadder]:
        """Models that lose more than 5 % of either role at 6 bits."""
        return [m for m in (self.secondary if secondary else self.whole) if min(both_left(m, "int6")) < 0.95]

    def records(self, domain: str, method: str, model: str = "", plain: bool = False) -> list[Record]:
        """Of one model, or else as the class says; those of the GAN are recalibrated, if not `plain`."""
        every = [m.model for m in self.compared(domain)] if method in LADDER else ["s@0"]
        models, name = [model] if model else every, method + "+recalibrate" * (domain == GAN and not plain)
        of_method = [r for r in self.found.records if (r.domain, r.method) == (domain, name)]
        return known([r for r in of_method if r.model in models] or None)

    def measured(self, domain: str, method: str) -> bool:
        """Whether `s@0` was measured with a method, recalibrated in the GAN."""
        name = method + "+recalibrate" * (domain == GAN)
        return any((r.domain, r.model, r.method) == (domain, "s@0", name) for r in self.found.records)

    def kept(self, domain: str, method: str, model: str = "", plain: bool = False) -> list[float]:
        """Retention of quality and of diversity."""
        return retained(self.records(domain, method, model, plain))

    def quality(self, domain: str, method: str) -> float:
        return self.kept(domain, method)[0]

    def diversity(self, domain: str, method: str) -> float:
        return self.kept(domain, method)[1]

    def kept_secondary(self, domain: str, method: str, model: str = "", plain: bool = False) -> list[float]:
        """Retention by the secondary evaluators."""
        return retained(secondary_views(self.records(domain, method, model, plain)))

    def least(self, domain: str, method: str) -> float:
        """The smallest retention by any role and evaluator."""
        return min(self.kept(domain, method) + self.kept_secondary(domain, method))

    def loss_of_pruning(self) -> float:
        """The least that calibrated rounding of `s@0` keeps more than pruning while training, in fewer bytes.

        Negative where a file of it is larger.
        """
        during, after = "prune_train:sparsity=0.9", "ldlq:bits=3.5,mixed"
        losses = []
        for domain in DOMAINS:
            pruned, rounded = (self.kept(domain, *one) for one in ((during, "s@0", True), (after, "s@0")))
            losses += [b - a for a, b in zip(pruned, rounded)]
            if self.ratio(domain, after, "s@0") < self.ratio(domain, during, "s@0", True):
                losses.append(-1.0)
        return min(losses)

    def on_ladder(self, domain: str, ratio: float) -> list[float]:
        """What the ladder of `s@0` keeps of each role at a ratio: straight lines in log2(ratio)."""
        (m,) = (m for m in self.whole if (m.domain, m.model) == (domain, "s@0"))
        return [float(np.interp(math.log2(ratio), m.rates, m.outcomes[role].mean)) for role in ROLES]

    def ratio(self, domain: str, method: str, model: str = "", plain: bool = False) -> float:
        """Mean over halvings of the file."""
        records = self.records(domain, method, model, plain)
        return 2.0 ** mean(math.log2(r.cost.ratio) for r in records if r.cost)

    def trainings(self, grids: Sequence[str] = ()) -> dict[Planned, list[Record]]:
        """The records of each training, of all or of those whose generator has some grids."""
        cells = {cell: same for cell, same in cells_of(self.found.records).items() if is_trained(cell.method)}
        if not grids:
            return cells
        of_generators = {c: same for c, same in cells.items() if "networks=discriminator" not in c.method}
        return {c: r for c, r in of_generators.items() if any(f"grid={grid}" in c.method for grid in grids)}

    def collapsed(self, secondary: bool = False) -> set[Planned]:
        """Trainings with few bits that keep less than .1 of quality."""
        views = {c: secondary_views(r) if secondary else r for c, r in self.trainings(FEW_BITS).items()}
        return {cell for cell, same in views.items() if same and collapses(same)[0]}

    @functools.cached_property
    def gan_models(self) -> list[str]:
        """GANs that were trained from scratch in each way of `BINARY_GANS`."""
        ways = [
            {cell.model for cell in from_scratch(BINARY, (GAN,), n) if cell in self.trainings()}
            for n in BINARY_GANS.values()
        ]
        return sorted(set.intersection(*ways))

    def gan_networks(self, role: str, which: str) -> float:
        """What these GANs keep where these networks were trained with binary weights from scratch."""
        cells = from_scratch(BINARY, (GAN,), BINARY_GANS[which])
        trained = self.trainings()
        return mean(kept(trained[cell], role) for cell in cells if cell.model in self.gan_models)

    def gan_gain(self, role: str) -> float:
        """What a binary discriminator adds to what a binary generator keeps, both from scratch."""
        return self.gan_networks(role, "both") - self.gan_networks(role, "generator")

    def spread_of_equal(self, domain: str, method: str) -> list[float]:
        """Of each role: the standard deviation of the retention over equal trainings of `xs@0` with a method.

        They differ in the seed of order and noise alone. Empty for fewer than two trainings.
        """
        cells = by_method(self.trainings()).get((domain, method), [])
        return [stdev(kept(same, role) for same in cells) for role in ROLES] if len(cells) > 1 else []

    def p_of_spread(self, role: str, secondary: bool = False) -> float | None:
        """p of a permutation test over domains: do equal trainings spread more at 1 bit?

        None for too few trainings.
        """
        records = [r for same in self.trainings().values() for r in same]
        seen = secondary_views(records) if secondary else records
        pairs = spreads(by_method(cells_of(seen)), BINARY, role)
        return more_spread(pairs) if decidable(pairs) else None

    def tested_spreads(self, role: str) -> list[str]:
        """The domains that this test counts: with three trainings of both, and without a collapse."""
        return [d for d in DOMAINS if spreads(by_method(self.trainings()), BINARY, role, (d,))]

    def gain_of_pruning(self) -> float:
        """The least that pruning nine of ten weights while training adds to a role of `s@0`."""
        during, after = "prune_train:sparsity=0.9", "magnitude:sparsity=0.9"
        measured = [c.domain for c in self.trainings() if (c.model, c.method) == ("s@0", during)]
        pairs = [(self.kept(d, during, "s@0", plain=True), self.kept(d, after, "s@0")) for d in measured]
        return min(now - then for one in pairs for now, then in zip(*one))

    def survivors(self, m: ModelLadder) -> float:
        """Of its valid samples, those whose twin is still valid at 4 bits; mean over sampling seeds."""
        return mean(s for r in self.records(m.domain, "int4", m.model) if (s := survival_of(r)) is not None)

    def fate(self, domain: str, fate: str) -> float:
        """Mean share of a fate of the samples at 4 bits."""
        return mean(r.metric(fate) or 0.0 for r in self.records(domain, "int4"))

    def absolute(self, domain: str, size: str, rung: str) -> tuple[float, float, float]:
        """(bytes, share of valid samples, mutual recall): means over the models of a size."""
        records = [r for m in self.of(domain, size) for r in self.records(domain, rung, m.model)]
        valid, recall = (mean(r.metric(metric_of(role)) or 0.0 for r in records) for role in ROLES)
        return mean(r.cost.stored_bytes for r in records if r.cost), valid, recall

    def use(self, m: ModelLadder, rung: str) -> float:
        """Retention of the use of samples as training data."""
        (estimate,) = use_by_method(self.records(m.domain, rung, m.model)).values()
        return estimate.value

    @functools.cached_property
    def use_taus(self) -> dict[tuple[str, str], Estimate]:
        """How well each role orders methods by use, by domain and role."""
        return {(one.domain, one.role): one.tau for one in utility_correlations(self.found.records)}

    @functools.cached_property
    def agreements(self) -> dict[tuple[str, str], Agreement]:
        """Between primary and secondary evaluator, by domain and role."""
        return {(row.domain, row.role): row for row in agreements(self.found.records)}

    def failures(self, domain: str) -> list[tuple[str, Share, Share]]:
        """(model, P(fails | failed at the milder rung), P(fails | survived it)), where both are known."""
        found = []
        for m in self.of(domain):
            for step in self.found.files[domain, m.model].ladder:
                failed, survived = step.table.after_failure, step.table.after_survival
                if step.harsher.startswith(STEPS[domain][1]) and failed and survived:
                    found.append((f"{domain} {m.model}", failed, survived))
        return found

    def unsure(self) -> list[str]:
        """Models in which these two intervals overlap."""
        rows = [row for d in DOMAINS for row in self.failures(d)]
        return [name for name, failed, survived in rows if failed.low <= survived.high]

    def aucs(self, domain: str, trait: str) -> list[float]:
        """How well a trait of the samples predicts which fail at 4 bits, in models with enough failures."""
        found = []
        for m in self.of(domain):
            survival = self.found.files[domain, m.model].survival
            by = survival["int4" + "+recalibrate" * (domain == GAN)].by
            if by and (auc := by[trait].auc):
                found.append(auc.value)
        return found

    def slopes(self, role: str, common: bool = False) -> SizeSlopes:
        """Of C over size, of all compared domains. `common`: over the sizes that all of them have."""
        data = points(self.found.compared, self.found.parameters, role)
        return known(size_slopes(common_sizes(data) if common else data))

    def span_of_c(self, shared: What, role: str, secondary: bool = False) -> float:
        """How far C lies apart between the domains that share their data, or their network."""
        (contrast,) = (c for c in self.found.contrasts if c.shared == shared)
        domains = self.found.now.second_domains if secondary else self.found.now.domains
        values = [known(d.score(role)).value for d in domains if d.name in contrast.words]
        return max(values) - min(values)

    def span_of(self, method: str, shared: What, role: str, secondary: bool = False) -> float:
        """The same of the retentions of `s@0` with a method."""
        (contrast,) = (c for c in self.found.contrasts if c.shared == shared)
        kept = self.kept_secondary if secondary else self.kept
        values = [kept(domain, method, "s@0")[ROLES.index(role)] for domain in contrast.words]
        return max(values) - min(values)

    def spread(self, domain: str, role: str) -> float:
        """Standard deviation of C between training seeds of one size, pooled over sizes."""
        squares, df = 0.0, 0
        for group in self.of_one_size(domain):
            values = [known(model_score(m, role)).value for m in group]
            squares, df = squares + float(np.var(values)) * len(values), df + len(values) - 1
        return math.sqrt(squares / df)

    def c_of_s(self, domain: str, decoder: bool = False, secondary: bool = False) -> float:
        """C of quality, the mean over the networks of size s.

        decoder: that of image_tokens is compressed, too (docs/explanation.md).
        """
        every = self.secondary if secondary else self.whole
        models = [m for m in every if (m.domain, m.size) == (domain, "s")]
        if not decoder:
            return mean(known(model_score(m, "quality")).value for m in models)
        measured = json.loads(FILE.read_text(encoding="utf-8"))
        return mean(c_with_decoder(measured, m, "quality", secondary) for m in models)

    def lead_left(self, behind: str, secondary: bool = False) -> float:
        """The share of the lead of image_tokens in C of quality, size s, that a compressed decoder leaves."""
        alone, with_decoder = (self.c_of_s(TOKENS, decoder, secondary) for decoder in (False, True))
        other = self.c_of_s(behind, secondary=secondary)
        return (with_decoder - other) / (alone - other)

    def c_up_to_16x(self, domain: str) -> float:
        """C of quality from the rungs up to the first that reaches 16x."""
        scores = []
        for m in self.compared(domain):
            end = int(np.argmax(m.rates >= FULL_RANGE[1])) + 1
            kept = m.outcomes["quality"].mean[:end].tolist()
            scores.append(known(score(m.rates[:end].tolist(), kept, FULL_RANGE)))
        return mean(scores)

    def six_below_five(self) -> list[tuple[str, list[float], list[float]]]:
        """Diffusion models that keep more quality at 5 bits than at 6: both, by both evaluators."""
        found = []
        for m in self.of(DIFFUSION):
            first = [self.kept(DIFFUSION, rung, m.model)[0] for rung in ("int6", "int5")]
            second = [self.kept_secondary(DIFFUSION, rung, m.model)[0] for rung in ("int6", "int5")]
            if max(first[0] - first[1], second[0] - second[1]) < -0.05:
                found.append((m.model, first, second))
        return found

    def numbers_in(self, network: str) -> int:
        """How many numbers a network of the GAN `s@0` holds."""
        path = ROOT / "domains" / "image_gan" / "weights" / "s@0" / f"{network}.safetensors"
        return sum(tensor.size for tensor in load_file(path).values())

    def least_u(self) -> float:
        return min(m.u[role] for m in self.whole + self.secondary for role in ROLES)


def known(value: T | None) -> T:
    """Raises `ValueError` where the records lack a figure."""
    if value is None:
        raise ValueError("the records lack a figure that the findings need")
    return value


def both_left(m: ModelLadder, rung: str) -> list[float]:
    """Retention of quality and of diversity of one model."""
    return [float(m.outcomes[role].mean[m.rungs.index(rung)]) for role in ROLES]


def retained(records: Sequence[Record]) -> list[float]:
    """Mean retention of quality and of diversity."""
    return [known(mean_retention(records, role)) for role in ROLES]


def short(value: float) -> str:
    """.99, 1.02, -.05"""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"
