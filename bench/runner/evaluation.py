"""Everything that the cells of one model are compared with: evaluators, baselines, floors and ceilings."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import Diverged, blamed
from bench.evaluation.bounds import FLOORS, Bounds, cached_file, find_bounds
from bench.evaluation.panel import Panel
from bench.evaluation.secondary import Scorer, SecondaryEvaluators, secondary_block
from bench.evaluation.verdicts import Verdict
from bench.interfaces import Metric, SampleFeatures, Samples
from bench.metrics.shared import K
from bench.records.cell import FLOOR_RECALIBRATED, Cell
from bench.records.provenance import provenance
from bench.records.schema import EvaluatorBlock, MetricInfo, metric_of
from bench.runner.session import ModelSession

CONDITION_KEPT = Metric(
    "condition_kept", "share of the valid samples that fit their condition: prompt or class label", "higher"
)


class Evaluation:
    """The evaluators of one model session. Expensive parts are made once, at first use.

    `k` is the number of neighbours, `reference` the user's own real samples. `extra` and `evaluators` are
    metrics and evaluators that the user named; `options` are the texts that name these metrics. Raises
    `BadInput` where the reference has too few samples, or a name is unknown.
    """

    def __init__(
        self,
        session: ModelSession,
        *,
        k: int = K,
        reference: str | None = None,
        extra: Sequence[Metric] = (),
        options: Sequence[str] = (),
        evaluators: Sequence[str] = (),
    ) -> None:
        self.session = session
        if session.conditions is not None:  # last, so that `options` still name the others
            extra = [*extra, CONDITION_KEPT]
        self.options = {metric.name: option for metric, option in zip(extra, options)}
        self.panel = Panel(
            session.domain,
            session.n,
            k,
            reference=reference,
            device=session.device,
            cache=session.cache,
            watch=session.watch,
            extra=extra,
        )
        self.secondary = SecondaryEvaluators(self.panel, evaluators)
        self._baselines: dict[int, tuple[SampleFeatures, dict[str, Verdict]]] = {}
        self._secondary_baselines: dict[tuple[str, int], Verdict] = {}
        self._secondary_bounds: dict[str, Bounds] = {}

    @functools.cached_property
    def template(self) -> Cell:
        """The cell of the baseline. `bench.records.cell.cells` varies its method and seed."""
        session = self.session
        return Cell(
            domain=session.domain.name,
            model=session.spec.name,
            train_seed=session.spec.train_seed,
            weights_sha256=session.weights_sha256,
            companions=session.generator.identity(),
            method="none",
            sample_seed=0,
            samples=session.n,
            k=self.panel.k,
            sampler=session.settings,
            reference=self.panel.reference_name,
            implementation={**self.panel.implementation(), **self._floor_version()},
        )

    def _floor_version(self) -> dict[str, int]:
        """An entry of the cell's hash. It also marks the model's ladder as the recalibrated one."""
        versions = self.session.floor_method().versions
        return {FLOOR_RECALIBRATED: versions["recalibrate"]} if self.session.has_statistics else {}

    def metric_info(self) -> dict[str, MetricInfo]:
        """What the domain's own metrics and the user's are, for the record."""
        found = {}
        for name, metric in self.panel.own.items():
            found[name] = MetricInfo(
                description=metric.description,
                direction=metric.direction,
                headline=metric.headline,
                option=self.options.get(name),
            )
        return found

    def baseline(self, seed: int) -> tuple[SampleFeatures, dict[str, Verdict]]:
        """The uncompressed network's samples of a seed, and their scores by evaluator. Raises `Diverged`."""
        if seed not in self._baselines:
            try:
                seen = self.panel.observe(self._baseline_samples(seed), "samples")
            except Diverged as error:
                raise Diverged(f"the baseline: {error}") from None
            self._baselines[seed] = (seen, self.panel.verdicts(seen))
        return self._baselines[seed]

    def _baseline_samples(self, seed: int) -> Samples:
        return self.session.sample(self.session.generator.network, seed).samples

    def condition_kept(self, samples: Samples, verdicts: Mapping[str, Verdict]) -> dict[str, float | None]:
        """The metric of conditional samples; None where no sample is valid, or fitness cannot be judged."""
        session = self.session
        if session.conditions is None:
            return {}
        with blamed(f"model {session.spec.name!r} of domain {session.domain.name!r}, keeps_condition"):
            kept = session.generator.keeps_condition(samples, self.panel.real.samples)
            valid = verdicts[self.panel.primary["quality"]].items["valid"]
            share = None if kept is None or not valid.any() else float(kept[valid].mean())
        return {CONDITION_KEPT.name: share}

    # ----------------------------------------------------------------------------------- secondary evaluators

    def secondary_blocks(
        self, samples: Samples, seed: int, is_baseline: bool = False, commit: str | None = None
    ) -> dict[str, EvaluatorBlock]:
        """The scores of each secondary evaluator for a cell's samples.

        `commit` is that of the evaluating code, where the record is older.
        """
        return dict(self._secondary_blocks(samples, seed, is_baseline, commit))

    def _secondary_blocks(
        self, samples: Samples, seed: int, is_baseline: bool, commit: str | None
    ) -> Iterator[tuple[str, EvaluatorBlock]]:
        for name, scorer in self.secondary.scorers.items():
            try:
                with self.session.watch("second judges"):
                    now, before = scorer.verdict(samples), self._secondary_baseline(name, seed)
                    block = secondary_block(scorer, now, before, self.secondary_bounds(name), is_baseline)
                    yield name, block.model_copy(update={"commit": commit})
            # its features are not finite, though the primary evaluators' are: no auxiliary score
            except Diverged:
                continue

    def _secondary_baseline(self, name: str, seed: int) -> Verdict:
        if (name, seed) not in self._secondary_baselines:
            self._secondary_baselines[name, seed] = self.secondary.scorers[name].verdict(
                self._baseline_samples(seed)
            )
        return self._secondary_baselines[name, seed]

    # ------------------------------------------------------------------------------------ floors and ceilings

    @functools.cached_property
    def bounds(self) -> Bounds:
        """Of the primary evaluators: shipped with the model, else from the cache, else measured now."""
        return self._bounds_of(self.panel)

    def secondary_bounds(self, name: str) -> Bounds:
        """The bounds of one secondary evaluator or task."""
        if name not in self._secondary_bounds:
            self._secondary_bounds[name] = self._bounds_of(self.secondary.scorers[name])
        return self._secondary_bounds[name]

    def scorers(self) -> list[Scorer]:
        """All that have floors and ceilings: the primary panel, secondary evaluators and the task."""
        return [self.panel, *self.secondary.scorers.values()]

    def make_all_bounds(self) -> None:
        """Make all bounds in this process, so that no worker has to."""
        for scorer in self.scorers():
            self._bounds_of(scorer)

    def cached_bounds(self) -> list[Path]:
        """The files of this cache that hold bounds of this model."""
        return [cached_file(self.bounds_key(s), self._source_keys(s)) for s in self.scorers()]

    def _source_keys(self, scorer: Scorer) -> list[str]:
        """The sources of the evaluators and of the generator, where they are not published."""
        return [*scorer.source_keys, *self.session.source_keys]

    def _bounds_of(self, scorer: Scorer) -> Bounds:
        shipped = self.shipped_bounds if self.session.spec.name in self.session.domain.models else None
        return find_bounds(
            self.bounds_key(scorer), shipped, lambda: self.make_bounds(scorer), self._source_keys(scorer)
        )

    def bounds_key(self, scorer: Scorer) -> dict[str, Any]:
        """The values that floors and ceiling depend on, without a user's own metrics."""
        implementation = {**scorer.implementation(own=False), **self.session.floor_method().versions}
        return {
            **vars(self.template),
            "implementation": implementation,
            "ceiling_sha256": self.panel.ceiling_sha256,
        }

    @property
    def shipped_bounds(self) -> Path:
        """The folder of the bounds that ship with the model."""
        return Path(self.session.spec.source) / "bounds"

    def make_bounds(self, scorer: Scorer) -> Bounds:
        """Measure the floors (permuted networks) and the ceiling (other real samples)."""
        watch = self.session.watch
        floors = [self._floor(i, scorer) for i in range(FLOORS)]
        fields = {
            name: value for name, value in self.bounds_key(scorer).items() if name in Bounds.model_fields
        }
        measured = provenance(self.session.command, self.session.device, watch.seconds)
        return Bounds(**fields, floors=floors, ceiling=scorer.ceiling(own=False), provenance=measured)

    def _floor(self, seed: int, scorer: Scorer) -> dict[str, float]:
        try:
            network = self.session.compressed(self.session.floor_method(seed), seed)
            return scorer.score(self.session.sample(network, seed).samples)
        except Diverged:  # a permuted network without finite samples has neither quality nor diversity
            return {metric_of(role): 0.0 for role in scorer.primary}
