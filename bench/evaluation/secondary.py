"""Secondary evaluators: evaluators of another kind, and a task, that score the same samples as the primary
ones.

A cell's hash does not include them, so they can be added to existing records
(`bench/runner/evaluate_secondary.py`). Each has its own floors and ceiling. Shares of valid samples cannot be
compared between evaluators, but retentions can.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from bench.errors import BadInput, BrokenPlugIn, blamed
from bench.evaluation.bounds import Bounds
from bench.evaluation.panel import Panel, find_evaluator
from bench.evaluation.verdicts import Verdict, headroom, retention
from bench.interfaces import Evaluator, Samples, Task
from bench.metrics.shared import SHARED_METRICS_VERSION
from bench.records.schema import PRIMARY_METRIC, USE, EvaluatorBlock, Items, metric_of
from bench.util.cache import Latest


class Scorer(Protocol):
    """Something with floors and ceilings: a panel of evaluators, or a task."""

    @property
    def primary(self) -> Mapping[str, str]:
        """Role -> the name of its evaluator or task."""

    def implementation(self, own: bool = True) -> dict[str, int]:
        """The versions that its numbers depend on. `own` includes those of the domain's own metrics."""

    @property
    def source_keys(self) -> list[str]:
        """The sources of what is not published here, for keys of the cache."""

    def ceiling(self, own: bool = True) -> dict[str, float]:
        """The metrics of other real samples."""

    def score(self, samples: Samples) -> dict[str, float]:
        """The primary metrics of any samples, by their full names."""


class OneEvaluator(Panel):
    """A panel of one evaluator."""

    def verdict(self, samples: Samples) -> Verdict:
        """The evaluator's metrics and flags of any samples."""
        (found,) = self.verdicts(self.observe(samples, "samples")).values()
        return found

    @property
    def member(self) -> Evaluator:
        """The evaluator itself."""
        (found,) = self.evaluators.values()
        return found


class TaskScorer:
    """A task in the place of an evaluator: it measures how useful the samples are."""

    def __init__(self, task: Task, panel: Panel) -> None:
        self.member, self.panel, self.primary = task, panel, {USE: task.name}
        self._latest: Latest[Verdict] = Latest()

    def implementation(self, own: bool = True) -> dict[str, int]:
        """The version of the task."""
        domain = self.panel.domain
        task = {f"task {self.member.name}": self.member.version}
        return {"shared metrics": SHARED_METRICS_VERSION, f"domain {domain.name}": domain.version, **task}

    @property
    def source_keys(self) -> list[str]:
        """The source of a task that is not published here."""
        return self.panel.source_key(self.member)

    def ceiling(self, own: bool = True) -> dict[str, float]:
        """The metrics of other real samples in the place of generated ones."""
        return self.score(self.panel.domain.reference("ceiling", self.panel.source)[: self.panel.n])

    def score(self, samples: Samples) -> dict[str, float]:
        """The primary metric of any samples, by its full name."""
        return {metric_of(USE): self.verdict(samples).metrics[PRIMARY_METRIC[USE]]}

    def verdict(self, samples: Samples) -> Verdict:
        """The task's metrics and flags of any samples."""
        return self._latest.of(samples, lambda: self._verdict(samples))

    def _verdict(self, samples: Samples) -> Verdict:
        with blamed(f"task {self.member.name!r} of domain {self.panel.domain.name!r}"):
            shares = np.asarray(self.member.score(samples), float)
            if shares.ndim != 1 or len(shares) < 2 or not np.isfinite(shares).all():
                raise BrokenPlugIn("`score` has to return a finite number for each of two or more items")
        return Verdict({PRIMARY_METRIC[USE]: float(shares.mean())}, {}, shares)


class SecondaryEvaluators:
    """The secondary evaluators of a domain, its task, and the evaluators that the user named.

    Evaluators that the user named are loaded at once, the others at first use. Raises `BadInput` where a name
    is unknown or primary.
    """

    def __init__(self, primary: Panel, named: Sequence[str] = ()) -> None:
        self.primary = primary
        self.named: dict[str, Evaluator] = {}
        for name in named:
            if name in primary.domain.evaluators():
                raise BadInput(f"evaluator {name!r} is already a primary evaluator; name another one")
            self.named[name] = find_evaluator(primary.domain, name, primary.device)

    @functools.cached_property
    def scorers(self) -> dict[str, OneEvaluator | TaskScorer]:
        """Name -> evaluator or task."""
        ours = self.primary
        roles = {
            **ours.domain.second_evaluators(),
            **{name: evaluator.role for name, evaluator in self.named.items()},
        }
        found: dict[str, OneEvaluator | TaskScorer] = {
            name: OneEvaluator(
                ours.domain,
                ours.n,
                ours.k,
                roles={name: role},
                opened=self.named,
                reference=ours.source,
                device=ours.device,
                cache=ours.cache,
            )
            for name, role in roles.items()
        }
        task = ours.domain.task(ours.device)
        return found | ({task.name: TaskScorer(task, ours)} if task is not None else {})


def secondary_block(
    scorer: OneEvaluator | TaskScorer, now: Verdict, before: Verdict, bounds: Bounds, is_baseline: bool
) -> EvaluatorBlock:
    """The scores of a secondary evaluator with its own retention.

    The baseline's block also has the headroom U.
    """
    (role,) = scorer.primary
    what = PRIMARY_METRIC[role]
    floor, value, base = bounds.floor(metric_of(role)), now.metrics[what], before.metrics[what]
    kept = retained(value, base, floor, before, what)
    found = {
        "retention": kept,
        "error": None if kept is None else error_of(now, before, kept, base - float(np.mean(floor)), what),
    }
    if is_baseline:
        found["u"] = headroom(value, floor, bounds.ceiling[metric_of(role)])
    member = scorer.member
    return EvaluatorBlock(
        role=role,
        version=member.version,
        second=True,
        identity="" if isinstance(member, Task) else member.identity(),
        metrics=now.metrics | {key: number for key, number in found.items() if number is not None},
        items={item: Items.pack(flags) for item, flags in now.items.items()},
    )


def is_by(block: EvaluatorBlock | None, evaluator: Evaluator) -> bool:
    """Whether a block comes from this evaluator and version. A folder may hold other weights now."""
    return block is not None and (block.version, block.identity) == (evaluator.version, evaluator.identity())


def retained(value: float, base: float, floor: list[float], before: Verdict, what: str) -> float | None:
    """The retention as `verdicts.retention`, also for a mean of numbers.

    It is None unless the baseline lies 5 standard errors above the floor.
    """
    if before.shares is None:
        return retention(value, base, floor, len(before.items[what]))
    error = math.hypot(_error(before.shares), float(np.std(floor, ddof=1)) / math.sqrt(len(floor)))
    span = base - float(np.mean(floor))
    return (value - float(np.mean(floor))) / span if span > 5 * error else None


def error_of(now: Verdict, before: Verdict, kept: float, span: float, what: str) -> float:
    """The standard error of a retention over items that both networks were tested on: that of (m - R b) /
    span.
    """
    return _error(_values(now, what) - kept * _values(before, what)) / span


def _values(verdict: Verdict, what: str) -> np.ndarray:
    return verdict.shares if verdict.shares is not None else verdict.items[what].astype(float)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))
