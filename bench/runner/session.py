"""What all cells of one model share: the generator, the panel of judges, baselines, floors and ceilings."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module

from bench.artifact.format import encode, fill, tensors_digest
from bench.errors import BadInput, Diverged
from bench.evaluation.bounds import FLOORS, Bounds, find_bounds
from bench.evaluation.panel import Panel
from bench.evaluation.secondary import Judging, SecondaryEvaluators
from bench.evaluation.verdicts import Verdict
from bench.interfaces import Context, Domain, Generator, Metric, ModelSpec, SampleFeatures, Samples
from bench.layers import tensors_of
from bench.methods.batch_norm import layers_with_statistics
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.metrics.shared import K
from bench.records.cell import FLOOR_RECALIBRATED, Cell
from bench.records.provenance import Stopwatch, provenance
from bench.records.schema import VALUE, Speed
from bench.util.cache import Cache

if TYPE_CHECKING:
    from bench.metrics.macs import Macs


def context_of(generator: Generator, spec: ModelSpec, seed: int, device: str) -> Context:
    """What a method may look at. Raises `BadInput` where the model keeps tensors that its network does not have."""
    unknown = sorted(spec.excluded.keys() - tensors_of(generator.network).keys())
    if unknown:
        raise BadInput(f"model {spec.name!r} keeps tensors that its network does not have: {', '.join(unknown)}")
    return Context(generator, seed, device, spec.excluded)


class OtherTensors(BadInput):
    """A network that was measured comes out otherwise here: another machine, another version of a library."""


class Workbench:
    """One model with its judges. Everything expensive is made when first wanted, once."""

    def __init__(
        self,
        domain: Domain,
        spec: ModelSpec,
        n: int,
        *,
        k: int = K,
        reference: str | None = None,
        device: str = "cpu",
        cache: Cache | None = None,
        command: str = "",
        extra: Sequence[Metric] = (),
        evaluators: Sequence[str] = (),
    ) -> None:
        self.domain, self.spec, self.n, self.device, self.command = domain, spec, n, device, command
        self.panel = Panel(domain, n, k, reference=reference, device=device, cache=cache, extra=extra)
        self.second = SecondaryEvaluators(self.panel, self.bounds_by, lambda seed: self.samples(self.generator.network, seed), evaluators)
        with self.watch("load model"):
            self.generator = domain.open(spec, device)
        self._macs: dict[str, Macs | None] = {}
        self._drawn_in_s: float | None = None  # the last samples; None: they came from a cache
        self._samples: dict[str, Samples] = {}  # of this process, so that --fresh samples each network once
        self._baselines: dict[int, tuple[SampleFeatures, dict[str, Verdict]]] = {}

    @property
    def watch(self) -> Stopwatch:
        return self.panel.watch

    def restart_watch(self) -> Stopwatch:
        """A new stopwatch for the next cell."""
        self.panel.watch = Stopwatch()
        return self.panel.watch

    @functools.cached_property
    def template(self) -> Cell:
        """The cell of the baseline; `bench.records.cell.cells` varies its method and seed."""
        return Cell(
            domain=self.domain.name,
            model=self.spec.name,
            train_seed=self.spec.train_seed,
            weights_sha256=tensors_digest(self.generator.network),
            companions=self.generator.identity(),
            method="none",
            sample_seed=0,
            samples=self.n,
            k=self.panel.k,
            sampler=self.generator.settings(),
            reference=self.panel.reference_name,
            implementation={**self.panel.implementation(), **self._floor_version()},
        )

    @functools.cached_property
    def fp32_bytes(self) -> int:
        """Length of the artifact of the uncompressed network."""
        return len(encode(original(self.generator.network), "none"))

    def context(self, seed: int) -> Context:
        return context_of(self.generator, self.spec, seed, self.device)

    @functools.cached_property
    def has_statistics(self) -> bool:
        """Whether the network normalises by running statistics: then its ladder is recalibrated."""
        return bool(layers_with_statistics(self.generator.network))

    def compressed(self, method: str, seed: int) -> Module:
        """The network that a method makes, without the detour over a file."""
        made = parse(method)(original(self.generator.network), self.context(seed))
        network = self.generator.rebuild(made.structure)
        fill(network, made.tensors)
        return network.to(self.device)

    def artifact_key(self, method: str, seed: int) -> list[Any]:
        """What a compressed file depends on."""
        versions = {f"domain {self.domain.name}": self.domain.version, **parse(method).versions}
        return ["artifact", self.template.weights_sha256, self.generator.identity(), method, seed, versions, self.device]

    def samples(self, network: Module, seed: int) -> Samples:
        """The network's samples. Networks of equal tensors share them."""
        return self.samples_of(tensors_digest(network), seed, lambda: network)

    def samples_of(self, tensors: str, seed: int, network: Callable[[], Module]) -> Samples:
        """The same by the digest of the network's tensors; it is only made where the samples are not at hand.

        Raises `OtherTensors` where what is made then is another network.
        """

        def checked() -> Module:
            made = network()
            if tensors_digest(made) != tensors:
                raise OtherTensors("its tensors are not those that were measured")
            return made

        key = ["samples", self.domain.name, self.domain.version, tensors, self.generator.identity()]
        key += [self.generator.settings(), seed, self.n, self.device]
        self._drawn_in_s = None
        with self.watch("sample"):
            memo = json.dumps(key, sort_keys=True)
            if memo not in self._samples:
                self._samples[memo] = self.panel.cache.samples(key, self.domain, lambda: self._draw(checked(), seed))
            return self._samples[memo]

    def _draw(self, network: Module, seed: int) -> Samples:
        start = time.perf_counter()
        samples = self.generator.sample(network, self.n, seed)
        self._drawn_in_s = time.perf_counter() - start
        return samples

    def speed(self) -> Speed | None:
        """Of the samples that were asked for last; None where they came from a cache."""
        if not self._drawn_in_s:
            return None
        where = f"torch {torch.__version__}, eager, float32 on {self.device}, threads {torch.get_num_threads()}"
        return Speed(samples_per_second=round(self.n / self._drawn_in_s, 2), runtime=f"{where}; compressed networks simulated")

    def macs(self, network: Module) -> Macs | None:
        """Counted on a few samples of the network's own, once for equal networks; None where it diverges."""
        from bench.metrics.macs import count_macs

        key = tensors_digest(network)
        if key not in self._macs:
            try:
                self._macs[key] = count_macs(self.generator, network, self.generator.macs_sample_count)
            except Diverged:
                self._macs[key] = None
        return self._macs[key]

    def observe(self, network: Module, seed: int) -> SampleFeatures:
        """The network's samples as the evaluators see them."""
        return self.panel.observe(self.samples(network, seed), "samples")

    def baseline(self, seed: int) -> tuple[SampleFeatures, dict[str, Verdict]]:
        """The uncompressed network's samples of this seed, judged."""
        if seed not in self._baselines:
            try:
                seen = self.observe(self.generator.network, seed)
            except Diverged as error:
                raise Diverged(f"the baseline: {error}") from None
            self._baselines[seed] = (seen, self.panel.judge(seen))
        return self._baselines[seed]

    # ------------------------------------------------------------------------------------------- floors and ceilings

    @functools.cached_property
    def bounds(self) -> Bounds:
        return self.bounds_by(self.panel)

    def bounds_by(self, panel: Judging) -> Bounds:
        """As a panel, or a task, judges them: those that ship with the model, else from the cache, else made now."""
        shipped = self.shipped_bounds if self.spec.name in self.domain.models else None
        return find_bounds(self.bounds_key(panel), shipped, lambda: self.make_bounds(panel))

    def judges(self) -> list[Judging]:
        """All who have floors and ceilings of their own: the panel, second judges, a task."""
        return [self.panel, *self.second.judges.values()]

    def make_all_bounds(self) -> None:
        """Of every judge, in this process, so that workers need not each make those that do not ship with the model."""
        for judge in self.judges():
            self.bounds_by(judge)

    def bounds_key(self, panel: Judging) -> dict[str, Any]:
        """What floors and ceiling depend on; not a user's own metrics, which they do not hold."""
        implementation = {**panel.implementation(own=False), **parse(self.floor_method()).versions}
        return {**vars(self.template), "implementation": implementation, "ceiling_sha256": self.panel.ceiling_sha256}

    @property
    def shipped_bounds(self) -> Path:
        return Path(self.spec.source) / "bounds"

    def make_bounds(self, panel: Judging) -> Bounds:
        watch = self.watch
        floors = [self._floor(i, panel) for i in range(FLOORS)]
        fields = {name: value for name, value in self.bounds_key(panel).items() if name in Bounds.model_fields}
        return Bounds(
            **fields, floors=floors, ceiling=panel.ceiling(own=False), provenance=provenance(self.command, self.device, watch.seconds)
        )

    def _floor(self, seed: int, panel: Judging) -> dict[str, float]:
        try:
            return panel.score(self.samples(self.compressed(self.floor_method(seed), seed), seed))
        except Diverged:  # a permuted network without finite samples has neither quality nor diversity
            return {f"{role}_{VALUE[role]}": 0.0 for role in panel.primary}

    def _floor_version(self) -> dict[str, int]:
        """In the cell's hash; it also says, later, that this model's ladder is the recalibrated one."""
        return {FLOOR_RECALIBRATED: parse("recalibrate").versions["recalibrate"]} if self.has_statistics else {}

    def floor_method(self, seed: int = 0) -> str:
        """Permuted weights, with running statistics that fit them where the network has any."""
        return f"permute:seed={seed}" + ("+recalibrate" if self.has_statistics else "")
