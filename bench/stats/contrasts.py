"""Is it the data or the network? Contrasts of domains that share one of the two and differ in the other.

A domain declares its kind of data and its kind of network (`bench.interfaces.HasKinds`). Two domains with the
same word for one and different words for the other form a pair of a contrast. The tests of these pairs are
those of the comparison of domains (`bench.stats.comparison.compare`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bench.errors import BadInput
from bench.registry import DOMAINS
from bench.stats.domain import Domain
from bench.stats.model_file import ModelFile
from bench.stats.scores import model_score

What = Literal["data", "network"]
OTHER: Mapping[What, What] = {"data": "network", "network": "data"}


@dataclass(frozen=True)
class Kinds:
    """What a domain declares. Each word may be empty."""

    data: str = ""
    network: str = ""

    def of(self, what: What) -> str:
        """The word for the data or for the network."""
        return self.data if what == "data" else self.network


@dataclass(frozen=True)
class Contrast:
    """Domains that share one kind, each with its word for the other kind. At least two words differ."""

    shared: What
    word: str
    words: Mapping[str, str]  # domain -> its word for the kind that is not shared

    def has(self, a: str, b: str) -> bool:
        """Whether these two domains are a pair of the contrast."""
        return a in self.words and b in self.words and self.words[a] != self.words[b]

    def label(self, domain: str) -> str:
        """The word of a domain, with its name where another domain has the same word."""
        word = self.words[domain]
        return word if [*self.words.values()].count(word) == 1 else f"{word} ({domain})"


def kinds_of(domains: Iterable[str], files: Mapping[tuple[str, str], ModelFile]) -> dict[str, Kinds]:
    """Domain -> its kinds: those that the installed domain declares, else those in its files `model.json`."""
    found = {}
    for domain in domains:
        known = [Kinds(f.kind_of_data, f.kind_of_network) for (name, _), f in files.items() if name == domain]
        with suppress(BadInput):  # not installed, or broken
            known.insert(0, _declared(domain))
        found[domain] = next((kinds for kinds in known if kinds.data and kinds.network), Kinds())
    return found


def _declared(domain: str) -> Kinds:
    """Raises `BadInput` where the domain cannot be imported."""
    kind = DOMAINS.load(domain)
    return Kinds(getattr(kind, "kind_of_data", ""), getattr(kind, "kind_of_network", ""))


def contrasts_of(kinds: Mapping[str, Kinds]) -> list[Contrast]:
    """All contrasts, those of the same data first."""
    found = []
    for shared, other in OTHER.items():
        groups: dict[str, dict[str, str]] = {}
        for domain, declared in sorted(kinds.items()):
            if declared.data and declared.network:
                groups.setdefault(declared.of(shared), {})[domain] = declared.of(other)
        found += [Contrast(shared, word, of) for word, of in groups.items() if len({*of.values()}) > 1]
    return found


def by_kinds(domains: Sequence[Domain], kinds: Mapping[str, Kinds]) -> dict[tuple[str, str], list[Domain]]:
    """(data, network) -> the domains of that cell. A domain that declares less is in none."""
    found: dict[tuple[str, str], list[Domain]] = {}
    for domain in domains:
        declared = kinds.get(domain.name, Kinds())
        if declared.data and declared.network:
            found.setdefault((declared.data, declared.network), []).append(domain)
    return found


# ------------------------------------------------------------------------------------ components of variance

FACTORS = ("networks", "data", "sizes", "training seeds")


@dataclass(frozen=True)
class Component:
    """The variance of C that one factor causes, estimated with `df` degrees of freedom."""

    variance: float
    df: int


def components(
    domains: Sequence[Domain], contrasts: Sequence[Contrast], role: str
) -> dict[str, Component | None]:
    """Factor -> its component of variance by moments (Searle, Casella and McCulloch 1992), at least 0.

    Each factor is seen where only it and the factors below it differ: networks among domains of the same
    data, data among domains of the same network, sizes within a domain, training seeds within a size. The
    part of the training seeds is subtracted. None where a factor has no degree of freedom. Bias: setting
    negative values to 0 makes small components too large on average.
    """
    scored = {d.name: values for d in domains if (values := _values(d, role)) is not None}
    found: dict[str, Component | None] = {}
    for factor, shared in (("networks", "data"), ("data", "network")):
        found[factor] = _pooled([_between(c, scored) for c in contrasts if c.shared == shared])
    sizes = [(_beyond(v.mean(axis=0), _within(v) / len(v)), v.shape[1] - 1) for v in scored.values()]
    seeds = [(_within(v), v.shape[1] * (len(v) - 1)) for v in scored.values()]
    return {**found, "sizes": _pooled(sizes), "training seeds": _pooled(seeds)}


def shares(found: Mapping[str, Component | None]) -> dict[str, float | None]:
    """Factor -> its share of the sum of the components that are known."""
    total = sum(one.variance for one in found.values() if one is not None)
    return {name: one.variance / total if one and total else None for name, one in found.items()}


def variance_range(df: int) -> tuple[float, float]:
    """The 95 % interval of a variance of normal values, as multiples of an estimate with `df`."""
    from scipy.special import chdtri

    return df / float(chdtri(df, 0.025)), df / float(chdtri(df, 0.975))


def _values(domain: Domain, role: str) -> np.ndarray | None:
    """C of each ranked model, [training seeds, sizes]. None where one has no score."""
    rows = []
    for unit in domain.units:
        scores = [one.value for m in unit if (one := model_score(m, role)) is not None]
        if len(scores) < len(unit):
            return None
        rows.append(scores)
    return np.array(rows) if rows else None


def _within(values: np.ndarray) -> float:
    """The variance between training seeds of one size: [training seeds, sizes] -> its mean over sizes."""
    return float(values.var(axis=0, ddof=1).mean()) if len(values) > 1 else 0.0


def _between(contrast: Contrast, scored: Mapping[str, np.ndarray]) -> tuple[float, int]:
    """(variance between the words of a contrast beyond the error of their means, degrees of freedom)."""
    by_word: dict[str, list[np.ndarray]] = {}
    for domain, word in contrast.words.items():
        if domain in scored:
            by_word.setdefault(word, []).append(scored[domain])
    means, errors = [], []
    for some in by_word.values():
        means.append(np.mean([v.mean() for v in some]))
        errors.append(np.mean([_within(v) / v.size for v in some]) / len(some))
    return (_beyond(np.array(means), float(np.mean(errors))), len(means) - 1) if means else (0.0, 0)


def _beyond(values: np.ndarray, error: float) -> float:
    """The variance of values beyond that of their errors. It can be negative by chance."""
    return float(values.var(ddof=1)) - error if len(values) > 1 else 0.0


def _pooled(parts: Sequence[tuple[float, int]]) -> Component | None:
    """The mean of variances, weighted by their degrees of freedom. None without any."""
    df = sum(part for _, part in parts)
    if not df:
        return None
    return Component(max(0.0, sum(value * part for value, part in parts) / df), df)
