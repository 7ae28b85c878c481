"""A session with one model: the generator, its compressed networks, their samples and operation counts."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module

from bench.artifact.format import encode, fill, tensors_digest
from bench.artifact.structure import rebuilt
from bench.errors import BadInput, BrokenPlugIn, Diverged, blamed
from bench.interfaces import Conditions, Context, Domain, Generator, ModelSpec, Samples
from bench.layers import tensors_of
from bench.methods.batch_norm import layers_with_statistics
from bench.methods.notation import Chain, parse
from bench.methods.plain import original
from bench.records.provenance import Stopwatch
from bench.records.schema import CONDITIONS, Speed
from bench.registry import DOMAINS
from bench.util.cache import Cache, source_digest

if TYPE_CHECKING:
    from bench.metrics.macs import Macs


def context_of(generator: Generator, spec: ModelSpec, seed: int, device: str) -> Context:
    """The context that a method may use.

    Raises `BadInput` where the model excludes tensors that its network does not have.
    """
    unknown = sorted(spec.excluded.keys() - tensors_of(generator.network).keys())
    if unknown:
        raise BadInput(
            f"model {spec.name!r} excludes tensors that its network does not have: {', '.join(unknown)}"
        )
    folder = Path(spec.source)
    return Context(generator, seed, device, spec.excluded, folder if folder.is_dir() else None)


def open_generator(
    domain: Domain, spec: ModelSpec, device: str, conditions: Conditions | None = None
) -> Generator:
    """Open a model, with conditions for its samples where there are any.

    Raises `BadInput` where the domain takes no such conditions, and `BrokenPlugIn` where its network has
    another number of parameters than its spec says.
    """
    part = f"model {spec.name!r} of domain {domain.name!r}"
    if conditions is not None:
        domain.check_takes(conditions)
    with blamed(part):
        if conditions is None:
            generator = domain.open(spec, device)
        else:
            generator = domain.open_conditional(spec, conditions, device)
        count = sum(p.numel() for p in generator.network.parameters())
    if spec.parameters not in (None, count):
        raise BrokenPlugIn(
            f"{part}: its `ModelSpec` says {spec.parameters:,} parameters, and its network has {count:,}"
        )
    return generator


class OtherTensors(BadInput):
    """A measured network has other tensors here, because of another machine or another version of a
    library.
    """


@dataclass(frozen=True)
class Drawn:
    """The samples of one network, and how long sampling took."""

    samples: Samples
    seconds: float | None  # None: the samples came from memory or from the cache


class ModelSession:
    """One model on one device. Expensive parts are made once, at first use.

    `n` is the number of samples for each seed. Example: `session = ModelSession(domain, domain.locate("s@0"),
    2000)`.
    """

    def __init__(
        self,
        domain: Domain,
        spec: ModelSpec,
        n: int,
        *,
        device: str = "cpu",
        cache: Cache | None = None,
        command: str = "",
        conditions: Conditions | None = None,
    ) -> None:
        self.conditions = conditions
        self.domain, self.spec, self.n, self.device, self.command = domain, spec, n, device, command
        self.cache, self.watch = cache or Cache(), Stopwatch()
        self.alone = True  # False: other cells are measured on the same machine meanwhile
        self._macs: dict[str, Macs | None] = {}
        self._samples: dict[str, Samples] = {}  # without a cache on disk each network is sampled once

    @functools.cached_property
    def generator(self) -> Generator:
        """The uncompressed generator."""
        with self.watch("load model"):
            return open_generator(self.domain, self.spec, self.device, self.conditions)

    @property
    def settings(self) -> dict[str, Any]:
        """The sampler's settings with the conditions: a part of the cell, and of the samples' key."""
        own = self.generator.settings()
        return own if self.conditions is None else {**own, CONDITIONS: self.conditions.settings}

    def notes(self) -> list[str]:
        """What a user must know to read this model's numbers, a line each."""
        found = list(self.generator.notes())
        if self.conditions is not None and self.n < (count := len(self.conditions.texts)):
            found.append(f"only the first {self.n} of {count} {self.conditions.kind} are used")
        return found

    @functools.cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the generator's tensors."""
        return tensors_digest(self.generator.network)

    @functools.cached_property
    def source_keys(self) -> list[str]:
        """What keys of the cache also hold for a generator that is not published here: its source."""
        return [] if self.domain.name in DOMAINS.published else [source_digest(type(self.generator))]

    @functools.cached_property
    def fp32_bytes(self) -> int:
        """The length of the artifact of the uncompressed network."""
        return len(encode(original(self.generator.network), "none"))

    @functools.cached_property
    def has_statistics(self) -> bool:
        """Whether the network has running statistics (batch norm). Then its ladder is recalibrated."""
        return bool(layers_with_statistics(self.generator.network))

    def context(self, seed: int) -> Context:
        """The context that a method may use, for one seed."""
        return context_of(self.generator, self.spec, seed, self.device)

    def floor_method(self, seed: int = 0) -> Chain:
        """Permuted weights, with fitting running statistics where the network has any."""
        return parse(f"permute:seed={seed}" + ("+recalibrate" if self.has_statistics else ""))

    def compressed(self, method: Chain, seed: int) -> Module:
        """The network that a method makes, without its file."""
        made = method(original(self.generator.network), self.context(seed))
        network = rebuilt(self.generator, made.structure)
        fill(network, made.tensors)
        return network.to(self.device)

    def artifact_key(self, method: Chain, seed: int) -> list[Any]:
        """The values that a compressed file depends on, for the cache."""
        versions = {f"domain {self.domain.name}": self.domain.version, **method.versions}
        return [
            "artifact",
            self.weights_sha256,
            self.generator.identity(),
            method.text,
            seed,
            versions,
            self.device,
            *self.source_keys,
        ]

    def sample(self, network: Module, seed: int) -> Drawn:
        """`n` samples of a network.

        Networks with equal tensors share them. Raises `Diverged` for non-finite output.
        """
        return self.sample_tensors(tensors_digest(network), seed, lambda: network)

    def sample_tensors(self, digest: str, seed: int, network: Callable[[], Module]) -> Drawn:
        """Samples by the digest of the network's tensors. `network` makes it only where they are not cached.

        Raises `OtherTensors` where the network has another digest.
        """
        key = ["samples", self.domain.name, self.domain.version, digest, self.generator.identity()]
        key += [self.settings, seed, self.n, self.device, *self.source_keys]
        fresh: list[Drawn] = []

        def draw() -> Samples:
            made = network()
            if tensors_digest(made) != digest:
                raise OtherTensors("the tensors made here are not those that were measured")
            fresh.append(self._draw(made, seed))
            return fresh[0].samples

        memo = json.dumps(key, sort_keys=True)
        with self.watch("sample"):
            samples = self._samples.get(memo)
            if samples is None:
                samples = self.cache.samples(key, self.domain, draw)
                if not self.cache.use:
                    self._samples[memo] = samples
        return fresh[0] if fresh else Drawn(samples, None)

    def _draw(self, network: Module, seed: int) -> Drawn:
        start = time.perf_counter()
        part = f"model {self.spec.name!r} of domain {self.domain.name!r}"
        with blamed(part):
            samples = self.generator.sample(network, self.n, seed)
        if len(samples) != self.n:
            raise BrokenPlugIn(f"{part}: sample(network, {self.n}, {seed}) gave {len(samples)} items")
        return Drawn(samples, time.perf_counter() - start)

    def speed(self, drawn: Drawn) -> Speed | None:
        """Samples a second. None where the samples came from memory or from the cache."""
        if not drawn.seconds:
            return None
        where = (
            f"torch {torch.__version__}, eager, float32 on {self.device}, threads {torch.get_num_threads()}"
        )
        return Speed(
            samples_per_second=round(self.n / drawn.seconds, 2),
            runtime=f"{where}; compressed networks simulated{'' if self.alone else '; beside other cells'}",
        )

    def macs(self, network: Module) -> Macs | None:
        """Operations per sample, counted on a few samples. None where the network diverges."""
        from bench.metrics.macs import count_macs

        key = tensors_digest(network)
        if key not in self._macs:
            try:
                self._macs[key] = count_macs(self.generator, network, self.generator.macs_sample_count)
            except Diverged:
                self._macs[key] = None
        return self._macs[key]
