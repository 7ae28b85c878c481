"""The domain's own metrics: those that generative chemistry reports, on the N samples and as many real ones.

Definitions by Polykovskiy et al. 2020 (MOSES, arXiv:1811.12823). All but `valid_rdkit` are of the valid
samples alone. They depend on N: compare at equal N only, and not with published figures of other N. A network
with few valid samples has few in `fcd`, too, whose bias grows as they become fewer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.interfaces import Metric, SampleFeatures
from domains.molecules.chemistry import (
    activations,
    canonical,
    fingerprints,
    frechet,
    is_valid,
)
from domains.molecules.data import molecules


def _valid(generated: SampleFeatures, real: SampleFeatures) -> float:
    return float(is_valid(generated.samples).mean())


def _unique(generated: SampleFeatures, real: SampleFeatures) -> float:
    found = canonical(tuple(generated.samples))
    return len(set(found)) / len(found) if found else float("nan")


def _novelty(generated: SampleFeatures, real: SampleFeatures) -> float:
    found = set(canonical(tuple(generated.samples)))
    return 1 - len(found.intersection(molecules("train"))) / len(found) if found else float("nan")


def _diversity(generated: SampleFeatures, real: SampleFeatures) -> float:
    found = canonical(tuple(generated.samples))
    return float(1 - tanimoto(found, found).mean()) if found else float("nan")


def _snn(generated: SampleFeatures, real: SampleFeatures) -> float:
    found = canonical(tuple(generated.samples))
    return float(tanimoto(found, real.samples).max(1).mean()) if found else float("nan")


def _fcd(generated: SampleFeatures, real: SampleFeatures) -> float:
    found = canonical(tuple(generated.samples))
    if len(found) < 2:
        return float("nan")
    return frechet(activations(found), activations(canonical(tuple(real.samples))))


def tanimoto(some: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """[n, m]: bits that two fingerprints share, over bits that either has."""
    return similarities(fingerprints(some).astype("f4"), fingerprints(others).astype("f4"))


def similarities(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The same of fingerprints, float32 [n, bits] and [m, bits] of 0 and 1."""
    shared = some @ others.T
    either = some.sum(1)[:, None] + others.sum(1)[None] - shared
    return shared / np.maximum(either, 1)  # type: ignore[no-any-return]


METRICS = (
    Metric("bits_per_byte", "teacher-forced, test molecules with start and end", "lower", "bits"),
    Metric("perplexity", "per token of its own tokenizer: not comparable between tokenizers", "lower"),
    Metric("kl_to_base", "mean KL(base || compressed) of the next token on test molecules", "lower", "nats"),
    Metric("flip_rate", "share of test positions where the most likely token changed", "lower"),
    Metric(
        "valid_rdkit",
        "share of samples that RDKit reads as a molecule",
        "higher",
        compute=_valid,
        headline=True,
    ),
    Metric("unique", "share of distinct molecules among the valid samples", "higher", compute=_unique),
    Metric(
        "novelty", "share of distinct valid molecules outside of the training part", "none", compute=_novelty
    ),
    Metric(
        "internal_diversity",
        "1 - mean Tanimoto similarity of two valid samples (Morgan, 1,024 bits)",
        "none",
        compute=_diversity,
    ),
    Metric("snn", "mean Tanimoto similarity to the nearest real molecule", "higher", compute=_snn),
    Metric(
        "fcd",
        "Fréchet ChemNet distance of the valid samples to the real ones",
        "lower",
        compute=_fcd,
        headline=True,
    ),
)
