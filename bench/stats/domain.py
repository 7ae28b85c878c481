"""A domain: its models, those whose mean is its score, and which sizes the domains share.

The unit of a claim about a domain is the trained network. Each compared size is a stratum with its own
variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean as mean

import numpy as np

from bench.stats.compressibility import FULL_RANGE
from bench.stats.intervals import Estimate, mean_of, mean_of_strata, shared_variance
from bench.stats.ladder import ROLES, ModelLadder, map_rows
from bench.stats.scores import COUNTS_FROM, Score, counts, model_score, quadrature

LENGTH_KEPT = 0.9  # of the length of the baseline's samples: shorter ones are another task
LEAST_STEP = 0.01  # halvings of the file between two rungs: below, their slope is noise


@dataclass(frozen=True)
class Domain:
    """The models of one domain. `units` are the models that its score averages, [training seeds][sizes].

    A domain that shares no size with the others has a score of its own sizes, and it is not `compared`. Each
    size has its own variance, because the small and the large network of one seed number are independent.
    `paired` treats their mean as one value nevertheless.
    """

    name: str
    models: tuple[ModelLadder, ...]
    units: tuple[tuple[ModelLadder, ...], ...]
    compared: bool = True
    paired: bool = False

    @property
    def averaged(self) -> list[ModelLadder]:
        """The models of the averages."""
        return [m for unit in self.units for m in unit]

    @property
    def names(self) -> list[str]:
        """The names of the models of the averages."""
        return [m.model for m in self.averaged]

    def score(self, role: str, span: tuple[float, float] = FULL_RANGE) -> Score | None:
        """C of the domain: the mean over training seeds of each seed's mean over sizes."""
        scores = self._model_scores(role, span)
        if not scores:
            return None
        values = [mean(unit) for unit in map_rows(lambda one: one.value, scores)]
        raw = map_rows(lambda one: one.estimate, scores)
        return Score(mean(values), self._mean(role, raw, lambda m: quadrature(m.rates, span)[1]))

    def _model_scores(self, role: str, span: tuple[float, float] = FULL_RANGE) -> list[list[Score]]:
        """[training seeds][sizes]; empty where the score of any model is missing."""
        found = []
        for unit in self.units:
            scores = [one for m in unit if (one := model_score(m, role, span)) is not None]
            if len(scores) < len(unit):
                return []
            found.append(scores)
        return found

    def retention(self, role: str, rung: str) -> Estimate | None:
        """The mean retention at one rung over training seeds.

        A single model's own error is over sampling seeds and items.
        """
        if not self.units or any(rung not in m.rungs for m in self.averaged):
            return None
        found = map_rows(lambda m: m.outcomes[role].rung(m.rungs.index(rung)), self.units)
        if len(found) == 1 and len(found[0]) == 1:
            return found[0][0]
        plain = self._mean(role, found, lambda m: np.eye(len(m.rungs))[m.rungs.index(rung)])
        shift = self._shifted[role].get(rung)
        if (
            plain.variance is None
            or shift is None
            or shift.variance is None
            or shift.variance <= plain.variance
        ):
            return plain
        return replace(plain, variance=shift.variance, df=shift.df)

    @cached_property
    def _shifted(self) -> dict[str, dict[str, Estimate]]:
        """Role -> rung -> the error of the mean, if training seeds only shift the whole curve along the
        rates.

        Near a steep fall two models may agree by chance, so their spread at one rung underestimates the
        error. The spread of their scores does not. A shift of one halving moves C by 1/4. The slope at a rung
        is the mean of the slopes to its neighbours. Empty without scores.
        """
        found: dict[str, dict[str, Estimate]] = {}
        for role in ROLES:
            scores = self._model_scores(role)
            if len(scores) < 2:
                found[role] = {}
                continue
            of_scores = self._over_seeds(map_rows(lambda one: one.estimate, scores))
            shift = (FULL_RANGE[1] - FULL_RANGE[0]) ** 2 * (of_scores.variance or 0.0)
            known = [rung for rung in self.units[0][0].rungs if self.rate(rung) is not None]
            rungs = sorted(known, key=lambda rung: self.rate(rung) or 0.0)
            rates = [0.0, *(self.rate(rung) or 0.0 for rung in rungs)]
            curve = [1.0, *(self._plain_mean(role, rung) for rung in rungs)]
            slopes = np.abs(np.diff(curve) / np.maximum(np.diff(rates), LEAST_STEP))
            both = (slopes + np.append(slopes[1:], slopes[-1])) / 2  # [rungs]
            found[role] = {
                rung: replace(of_scores, variance=shift * float(slope) ** 2)
                for rung, slope in zip(rungs, both)
            }
        return found

    def _plain_mean(self, role: str, rung: str) -> float:
        """The mean retention at one rung over all averaged models."""
        return mean(float(m.outcomes[role].mean[m.rungs.index(rung)]) for m in self.averaged)

    def _mean(
        self, role: str, found: Sequence[Sequence[Estimate]], weights: Callable[[ModelLadder], np.ndarray]
    ) -> Estimate:
        """The mean of [seeds][sizes]. `weights` [rungs] are those that the estimates were made with."""
        models = sum(len(unit) for unit in found)
        inside, shared = mean((e.variance or 0.0) + e.known for unit in found for e in unit) / models, 0.0
        if self._shares_items(role):
            # [seeds, sizes, n]
            items = np.array(map_rows(lambda m: weights(m) @ m.outcomes[role].item_mean, self.units))
            strata = items.mean(axis=1)[None] if self.paired else items.swapaxes(0, 1)
            shared = max(0.0, shared_variance(strata))
        inside -= shared / models  # an error that all models share does not make them differ
        return self._over_seeds(found, shared, inside)

    def _over_seeds(
        self, found: Sequence[Sequence[Estimate]], shared: float = 0.0, inside: float = 0.0
    ) -> Estimate:
        """The mean of [seeds][sizes]. Its variance is that between networks of one size.

        If `paired`, the variance is that between the seeds' means over sizes.
        """
        values = map_rows(lambda estimate: estimate.value, found)
        if self.paired:
            return mean_of([mean(unit) for unit in values], shared, inside)
        return mean_of_strata([*zip(*values)], shared, inside)

    def rate(self, rung: str) -> float | None:
        """The mean log2 of the ratio, over the models with known file sizes."""
        rates = [float(m.rates[m.rungs.index(rung)]) for m in self.averaged if rung in m.rungs]
        known = [rate for rate in rates if not math.isnan(rate)]
        return mean(known) if known else None

    def long_enough(self, rung: str) -> bool:
        """Whether the samples are about as long as the baseline's. True where samples have no length."""
        known = [
            float(m.lengths[m.rungs.index(rung)])
            for unit in self.units
            for m in unit
            if m.lengths is not None and rung in m.rungs
        ]
        return not known or mean(known) >= LENGTH_KEPT

    def _shares_items(self, role: str) -> bool:
        """Whether all models are scored against the same real samples. They are not where N differs."""
        outcomes = [m.outcomes[role] for m in self.averaged]
        return outcomes[0].crossed and len({o.influence.shape[-1] for o in outcomes}) == 1


def domains_of(models: Sequence[ModelLadder], threshold: float = COUNTS_FROM) -> list[Domain]:
    """Models by domain, with the units to compare: sizes that every compared domain has for the same training
    seeds.

    Domains are compared if they have the size that most domains have. Another size takes part if no domain
    loses a training seed by it. Other sizes are left out of the mean and stay in the regression.
    """
    by_domain: dict[str, list[ModelLadder]] = {}
    counting: dict[str, list[ModelLadder]] = {}
    for name in sorted({m.domain for m in models}):
        by_domain[name] = [m for m in models if m.domain == name]
        counting[name] = [m for m in by_domain[name] if counts(m, threshold)]
    size = _commonest(counting.values())
    compared = [name for name, group in counting.items() if size in map(_size, group)]
    sizes = _shared_sizes([counting[name] for name in compared])
    return [
        Domain(
            name,
            tuple(group),
            _units(counting[name], sizes if name in compared else _shared_sizes([counting[name]])),
            name in compared,
        )
        for name, group in by_domain.items()
    ]


def _size(m: ModelLadder) -> str:
    return m.size


def _commonest(groups: Collection[Sequence[ModelLadder]]) -> str:
    """The size that most domains have; of several, the one with the most models; "" without models."""
    sizes_of = map_rows(_size, groups)
    sizes = sorted({size for of_group in sizes_of for size in of_group})

    def rank(size: str) -> tuple[int, int]:
        numbers = [of_group.count(size) for of_group in sizes_of]
        return sum(map(bool, numbers)), sum(numbers)

    return max(sizes, key=rank, default="")


def _shared_sizes(groups: Collection[Sequence[ModelLadder]]) -> list[str]:
    """The commonest size, and every size that each group has for all training seeds of the commonest size."""
    commonest = _commonest(groups)

    def seeds(group: Sequence[ModelLadder], size: str) -> set[str]:
        return {m.training_seed for m in group if m.size == size}

    def is_shared(size: str) -> bool:
        return all(seeds(group, size) >= seeds(group, commonest) for group in groups)

    sizes = {m.size for group in groups for m in group}
    return sorted(filter(is_shared, sizes))


def units_of(models: Sequence[ModelLadder]) -> tuple[tuple[ModelLadder, ...], ...]:
    """[training seeds][sizes] of one domain alone: the commonest size, and each size that loses none of its
    training seeds.
    """
    return _units(models, _shared_sizes([models]))


def _units(models: Sequence[ModelLadder], sizes: Sequence[str]) -> tuple[tuple[ModelLadder, ...], ...]:
    """Training seeds that have a model of every compared size."""
    found = []
    known = {(m.training_seed, m.size): m for m in reversed(models)}  # of `s` and `s@0` the first counts
    for seed in sorted({m.training_seed for m in models}):
        unit = tuple(known[seed, size] for size in sizes if (seed, size) in known)
        if sizes and len(unit) == len(sizes):
            found.append(unit)
    return tuple(found)
