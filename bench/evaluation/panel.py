"""The evaluator panel: a domain's real samples and evaluators, which can score any samples.

It needs no generator.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BadInput, BrokenPlugIn, blamed, unknown
from bench.evaluation.verdicts import VERDICTS, Verdict, features_of, prefixed, same_distance
from bench.interfaces import Domain, Evaluator, Metric, SampleFeatures, Samples, Task
from bench.metrics.shared import SHARED, SHARED_METRICS_VERSION, K
from bench.records.cell import check_samples
from bench.records.provenance import Stopwatch
from bench.registry import DOMAINS
from bench.util.cache import Cache, content_digest, source_digest


class Panel:
    """Compares `n` samples with the first `n` real ones.

    `roles` maps evaluators to roles, and the first evaluator of each role is the primary one; the default is
    the domain's own. `opened` holds evaluators that are loaded already. The others are loaded at first use.
    Raises `BadInput` where the reference has fewer than `n` samples.
    """

    def __init__(
        self,
        domain: Domain,
        n: int,
        k: int = K,
        *,
        roles: Mapping[str, str] | None = None,
        opened: Mapping[str, Evaluator] | None = None,
        reference: str | None = None,
        device: str = "cpu",
        cache: Cache | None = None,
        watch: Stopwatch | None = None,
        extra: Sequence[Metric] = (),
    ) -> None:
        self.domain, self.n, self.k, self.source, self.device = domain, n, k, reference, device
        self.cache, self.watch, self.opened = cache or Cache(), watch or Stopwatch(), opened or {}
        check_samples(n, k, len(self._reference("test")))
        self.roles = dict(domain.evaluators()) if roles is None else dict(roles)
        self.primary = {role: _first_of(self.roles, role) for role in VERDICTS if role in self.roles.values()}
        for role in VERDICTS if roles is None else ():
            if role not in self.primary:
                raise BrokenPlugIn(f"domain {domain.name!r} has no primary evaluator of the role {role!r}")
        self.own = metrics_of(domain)
        for metric in extra:
            if metric.name in self.own or metric.name in SHARED:
                raise BadInput(
                    f"a metric of your own cannot be called {metric.name!r}: the benchmark has one of "
                    f"that name"
                )
            self.own[metric.name] = metric

    # ------------------------------------------------------------------------------------------- real samples

    @functools.cached_property
    def evaluators(self) -> dict[str, Evaluator]:
        """Name -> evaluator, loaded at first use."""
        with self.watch("load evaluators"):
            return {
                name: self.opened.get(name) or find_evaluator(self.domain, name, self.device)
                for name in self.roles
            }

    @functools.cached_property
    def real(self) -> SampleFeatures:
        """The features of the real samples."""
        return self.observe(self._reference("test")[: self.n], "real samples", real=True)

    def _reference(self, split: str) -> Samples:
        with blamed(f"domain {self.domain.name!r}, split {split!r} of the reference"):
            return self.domain.reference(split, self.source)

    @functools.cached_property
    def same_within(self) -> float:
        """The largest distance of two twins in the diversity space that still count as the same."""
        return same_distance(self.real.by_evaluator[self.primary["diversity"]])

    @functools.cached_property
    def reference_name(self) -> str:
        """The name of the real samples, made of their content."""
        return f"{'own' if self.source else 'shipped'}:{content_digest(self.real.samples)[:16]}"

    @functools.cached_property
    def ceiling_sha256(self) -> str:
        """The digest of the other real samples, which make the ceiling."""
        return content_digest(self._reference("ceiling")[: self.n])

    def ceiling(self, own: bool = True) -> dict[str, float]:
        """The metrics of equally many other real samples: the scores of perfect samples."""
        others = self._reference("ceiling")
        if len(others) < self.n:
            raise BadInput(
                f"samples={self.n} is not possible: only {len(others)} other real samples can serve as "
                f"the ceiling"
            )
        seen = self.observe(others[: self.n], "other real samples", real=True)
        return {**self.metrics_of(seen), **(self.own_metrics_of(seen) if own else {})}

    # ----------------------------------------------------------------------------------------------- verdicts

    def score(self, samples: Samples) -> dict[str, float]:
        """The primary evaluators' metrics of any samples."""
        return self.metrics_of(self.observe(samples, "samples"))

    def observe(self, samples: Samples, title: str, real: bool = False) -> SampleFeatures:
        """The features of all evaluators, from the cache where the same samples were seen before.

        real: features of these samples must be finite, or the evaluator is broken.
        """
        found = {}
        for name, evaluator in self.evaluators.items():
            # domains that share an evaluator share its features
            kind = f"{type(evaluator).__module__}.{type(evaluator).__qualname__}"
            key = [
                "view",
                kind,
                name,
                evaluator.version,
                evaluator.identity(),
                content_digest(samples),
                self.device,
                *self.source_key(evaluator),
            ]
            with self.watch(f"judge {title}"):
                found[name] = self.cache.features(
                    key, functools.partial(features_of, evaluator, samples, self.domain.name, real)
                )
        return SampleFeatures(samples, found)

    def source_key(self, part: Evaluator | Task) -> list[str]:
        """What keys of the cache also hold for a part that is not published here: its source."""
        return [] if self.domain.name in DOMAINS.published else [source_digest(type(part))]

    @property
    def source_keys(self) -> list[str]:
        """The same, of all evaluators."""
        return [key for evaluator in self.evaluators.values() for key in self.source_key(evaluator)]

    def verdicts(self, seen: SampleFeatures) -> dict[str, Verdict]:
        """Evaluator -> its metrics and flags."""
        with self.watch("metrics"):
            return {
                name: VERDICTS[self.roles[name]](self.real.by_evaluator[name], found, self.k)
                for name, found in seen.by_evaluator.items()
            }

    def metrics_of(
        self, seen: SampleFeatures, verdicts: Mapping[str, Verdict] | None = None
    ) -> dict[str, float]:
        """The primary evaluators' metrics, such as `quality_valid` and `diversity_mutual_recall`."""
        verdicts = verdicts or self.verdicts(seen)
        return prefixed({role: verdicts[name] for role, name in self.primary.items()})

    def own_metrics_of(self, seen: SampleFeatures) -> dict[str, float]:
        """The domain's own metrics that need only samples."""
        found: dict[str, float] = {}
        with self.watch("metrics"):
            for name, metric in self.own.items():
                if metric.compute:
                    with blamed(f"metric {name!r} of domain {self.domain.name!r}"):
                        found[name] = float(metric.compute(seen, self.real))
        return found

    def implementation(self, own: bool = True) -> dict[str, int]:
        """The versions of everything that the numbers depend on. `own` includes the domain's own metrics."""
        metrics = {f"metric {name}": metric.version for name, metric in self.own.items() if own}
        evaluators = {
            f"evaluator {name} {e.identity()[:12]}".rstrip(): e.version for name, e in self.evaluators.items()
        }
        return {
            "shared metrics": SHARED_METRICS_VERSION,
            f"domain {self.domain.name}": self.domain.version,
            **evaluators,
            **metrics,
        }


def _first_of(roles: Mapping[str, str], role: str) -> str:
    return next(name for name, found in roles.items() if found == role)


def find_evaluator(domain: Domain, name: str, device: str = "cpu") -> Evaluator:
    """An evaluator of the domain, or an optional one that the user names.

    Raises `BadInput` for an unknown name.
    """
    part = f"evaluator {name!r} of domain {domain.name!r}"
    with blamed(part):
        own = {**domain.evaluators(), **domain.second_evaluators()}
        listed = name in own or name in domain.evaluator_table()
        found = domain.evaluator(name, device) if listed else domain.optional_evaluator(name, device)
    if found is None:
        raise unknown("evaluator", name, own)
    for what, wanted in (("name", name), ("role", own.get(name))):
        if listed and wanted is not None and (said := getattr(found, what, None)) != wanted:
            raise BrokenPlugIn(f"{part}: its {what} is {said!r}; the domain's table says {wanted!r}")
    return found


def metrics_of(domain: Domain) -> dict[str, Metric]:
    """The domain's own metrics.

    Raises `BrokenPlugIn` where a metric has another name than its key, or that of a shared metric.
    """
    with blamed(f"metrics of domain {domain.name!r}"):
        found = dict(domain.metrics())
        for name, metric in found.items():
            if metric.name != name:
                raise BrokenPlugIn(f"metric {name!r} of domain {domain.name!r} calls itself {metric.name!r}")
            if name in SHARED:
                raise BrokenPlugIn(
                    f"metric {name!r} of domain {domain.name!r} has the name of a shared metric"
                )
    return found


def score_samples(
    domain: Domain, path: Path, reference: str | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Compare the N samples of a file with the first N real ones -> the output of `bench score --json`."""
    samples = domain.read_samples(path)
    panel = Panel(domain, len(samples), reference=reference, device=device)
    seen = panel.observe(samples, "samples")
    metrics = {**panel.metrics_of(seen), **panel.own_metrics_of(seen)}
    return {
        "domain": domain.name,
        "samples": len(samples),
        "metrics": _plain(metrics),
        "ceiling": _plain(panel.ceiling()),
    }


def _plain(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Replace NaN and infinity, which JSON cannot hold."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
