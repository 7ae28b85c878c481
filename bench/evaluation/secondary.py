"""Secondary evaluators: evaluators of another kind, and a task. Do they agree with the primary ones on the same samples?

A cell's hash does not name them, so one can be added to existing records (`bench/runner/evaluate_secondary.py`). Each has its
own floors and ceiling: shares of valid samples cannot be compared between evaluators, retentions can.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from bench.errors import BadInput, Diverged
from bench.evaluation.bounds import Bounds
from bench.evaluation.panel import Panel, find_evaluator
from bench.evaluation.verdicts import Verdict, retention, usable
from bench.interfaces import Evaluator, Samples, Task
from bench.metrics.shared import SHARED_METRICS_VERSION
from bench.records.schema import USE, VALUE, EvaluatorBlock, Items
from bench.util.cache import Latest


class Judging(Protocol):
    """What floors and ceilings are made by: a panel of evaluators, or a task."""

    @property
    def primary(self) -> Mapping[str, str]: ...
    def implementation(self, own: bool = True) -> dict[str, int]: ...
    def ceiling(self, own: bool = True) -> dict[str, float]: ...
    def score(self, samples: Samples) -> dict[str, float]: ...


class Trial:
    """A task, in the place of a panel: what samples are good for."""

    def __init__(self, task: Task, panel: Panel) -> None:
        self.task, self.panel, self.primary = task, panel, {USE: task.name}
        self._latest: Latest[Verdict] = Latest()

    def implementation(self, own: bool = True) -> dict[str, int]:
        domain = self.panel.domain
        return {
            "shared metrics": SHARED_METRICS_VERSION,
            f"domain {domain.name}": domain.version,
            f"task {self.task.name}": self.task.version,
        }

    def ceiling(self, own: bool = True) -> dict[str, float]:
        """Other real samples in the place of generated ones."""
        return self.score(self.panel.domain.reference("ceiling", self.panel.source)[: self.panel.n])

    def score(self, samples: Samples) -> dict[str, float]:
        return {f"{USE}_{VALUE[USE]}": self.verdict(samples).metrics[VALUE[USE]]}

    def verdict(self, samples: Samples) -> Verdict:
        return self._latest.of(samples, lambda: self._verdict(samples))

    def _verdict(self, samples: Samples) -> Verdict:
        shares = self.task.score(samples)
        return Verdict({VALUE[USE]: float(shares.mean())}, {}, shares)


class SecondaryEvaluators:
    """Those of a domain, its task, and evaluators that the user named; his are loaded at once, theirs when first asked.

    `bounds_by`: a judge -> its floors and ceiling for the model; `baseline`: sampling seed -> the uncompressed network's samples.
    """

    def __init__(
        self, first: Panel, bounds_by: Callable[[Judging], Bounds], baseline: Callable[[int], Samples], named: Sequence[str] = ()
    ) -> None:
        self.first = first
        self._bounds = functools.cache(lambda name: bounds_by(self.judges[name]))
        self._before = functools.cache(lambda name, seed: self._verdict(name, baseline(seed)))
        self.named: dict[str, Evaluator] = {}
        for name in named:
            if name in first.domain.evaluators():
                raise BadInput(f"evaluator {name!r} judges every cell anyway; allowed are further ones")
            self.named[name] = find_evaluator(first.domain, name, first.device)

    @functools.cached_property
    def judges(self) -> dict[str, Panel | Trial]:
        """By name; evaluators have a panel of one each."""
        ours = self.first
        roles = {**ours.domain.second_evaluators(), **{name: evaluator.role for name, evaluator in self.named.items()}}
        found: dict[str, Panel | Trial] = {
            name: Panel(
                ours.domain,
                ours.n,
                ours.k,
                judges={name: role},
                opened=self.named,
                reference=ours.source,
                device=ours.device,
                cache=ours.cache,
            )
            for name, role in roles.items()
        }
        task = ours.domain.task(ours.device)
        return found | ({task.name: Trial(task, ours)} if task is not None else {})

    def blocks(self, samples: Samples, seed: int, is_baseline: bool = False, commit: str | None = None) -> dict[str, EvaluatorBlock]:
        """What each says of a cell's samples; `commit` of the code that judges, where the record is older."""
        return dict(self._blocks(samples, seed, is_baseline, commit))

    def _blocks(self, samples: Samples, seed: int, is_baseline: bool, commit: str | None) -> Iterator[tuple[str, EvaluatorBlock]]:
        for name in self.judges:
            try:
                with self.first.watch("second judges"):
                    yield name, self._block(name, samples, seed, is_baseline).model_copy(update={"commit": commit})
            except Diverged:  # samples that it cannot look at, though the first judges could: it has no opinion
                continue

    def _block(self, name: str, samples: Samples, seed: int, is_baseline: bool) -> EvaluatorBlock:
        judge, now, before = self.judges[name], self._verdict(name, samples), self._before(name, seed)
        (role,) = judge.primary
        bounds, what = self._bounds(name), VALUE[role]
        floor, value, base = bounds.floor(f"{role}_{what}"), now.metrics[what], before.metrics[what]
        kept = retained(value, base, floor, before, what)
        found = {"retention": kept, "error": None if kept is None else error_of(now, before, kept, base - float(np.mean(floor)), what)}
        if is_baseline:
            found["u"] = usable(value, floor, bounds.ceiling[f"{role}_{what}"])
        evaluator = judge.task if isinstance(judge, Trial) else judge.evaluators[name]
        return EvaluatorBlock(
            role=role,
            version=evaluator.version,
            second=True,
            identity="" if isinstance(evaluator, Task) else evaluator.identity(),
            metrics=now.metrics | {key: number for key, number in found.items() if number is not None},
            items={item: Items.pack(flags) for item, flags in now.items.items()},
        )

    def _verdict(self, name: str, samples: Samples) -> Verdict:
        judge = self.judges[name]
        return judge.verdict(samples) if isinstance(judge, Trial) else judge.judge(judge.observe(samples, "samples"))[name]


def is_by(block: EvaluatorBlock | None, evaluator: Evaluator) -> bool:
    """Whether an opinion is this very judge's, of this version: a folder may hold other weights now."""
    return block is not None and (block.version, block.identity) == (evaluator.version, evaluator.identity())


def retained(value: float, base: float, floor: list[float], before: Verdict, what: str) -> float | None:
    """As `judging.retention`, also where what counts is no share: None unless the baseline lies 5 standard errors above the floor."""
    if before.shares is None:
        return retention(value, base, floor, len(before.items[what]))
    error = math.hypot(_error(before.shares), float(np.std(floor, ddof=1)) / math.sqrt(len(floor)))
    span = base - float(np.mean(floor))
    return (value - float(np.mean(floor))) / span if span > 5 * error else None


def error_of(now: Verdict, before: Verdict, kept: float, span: float, what: str) -> float:
    """Standard error of a retention over items, which both networks were tried on: of (m - R b) / span."""
    return _error(_values(now, what) - kept * _values(before, what)) / span


def _values(verdict: Verdict, what: str) -> np.ndarray:
    return verdict.shares if verdict.shares is not None else verdict.items[what].astype(float)


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))
