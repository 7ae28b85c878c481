"""From features to verdicts: which samples are valid, which kinds of real samples are still made, which twins survived."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.errors import Diverged
from bench.interfaces import Evaluator, Features, Samples
from bench.metrics.manifold import Manifold, manifold, nearest_neighbour_distance

TYPICAL = (0.025, 0.975)  # quantiles of real samples' surprisal


def features_of(evaluator: Evaluator, samples: Samples) -> Features:
    """An evaluator's features of samples, and the surprisal where its role is quality. Raises `Diverged` where that is not finite."""
    seen = Features(evaluator.features(samples), evaluator.surprisal(samples) if evaluator.role == "quality" else None)
    if not seen.features.isfinite().all() or (seen.surprisal is not None and not seen.surprisal.isfinite().all()):
        raise Diverged(f"the features of evaluator {evaluator.name!r} are not finite")
    return seen


@dataclass(frozen=True)
class Verdict:
    """What one evaluator says: metrics without their role's prefix, and one flag per item."""

    metrics: dict[str, float]
    items: dict[str, np.ndarray]  # bool
    shares: np.ndarray | None = None  # float [items], where what counts is the mean of something that is no flag


def quality_verdict(real: Features, generated: Features, k: int) -> Verdict:
    """A sample is valid when it lies in some (capped) real ball and is as surprising as the central 95 % of real samples."""
    assert real.surprisal is not None and generated.surprisal is not None
    found: Manifold = manifold(real.features, generated.features, k)
    low, high = torch.quantile(real.surprisal.double(), torch.tensor(TYPICAL, dtype=torch.float64))
    typical = (generated.surprisal >= low) & (generated.surprisal <= high)
    valid = found.inside_capped & typical
    metrics = {
        "valid": _share(valid),
        "precision": _share(found.precision),
        "typicality": _share(typical),
        "density": found.density.mean().item(),
        "surprisal": generated.surprisal.double().mean().item(),
    }
    return Verdict(metrics, {"valid": valid.numpy(), "precision": found.precision.numpy(), "typical": typical.numpy()})


def diversity_verdict(real: Features, generated: Features, k: int) -> Verdict:
    """The items of these metrics are the real samples: is each kind of them still made?"""
    found = manifold(real.features, generated.features, k)
    flags = {"mutual_recall": found.mutual_recall, "recall": found.recall, "coverage": found.coverage}
    return Verdict({name: _share(flag) for name, flag in flags.items()}, {name: flag.numpy() for name, flag in flags.items()})


VERDICTS = {"quality": quality_verdict, "diversity": diversity_verdict}


def survival(valid: np.ndarray, valid_before: np.ndarray, now: Features, before: Features, same_within: float) -> dict[str, np.ndarray]:
    """Each compressed twin beside its baseline twin: exactly one of five holds. All bool [n].

    Twins are the *same* when they lie no farther apart, in the diversity space, than `same_within`.
    """
    same = ((now.features.double() - before.features.double()).norm(dim=1) <= same_within).numpy()
    return {
        "intact": valid & valid_before & same,
        "drifted": valid & valid_before & ~same,
        "degraded": ~valid & valid_before,
        "repaired": valid & ~valid_before,
        "still_invalid": ~valid & ~valid_before,
    }


def same_distance(real: Features) -> float:
    """The median distance of a real sample to its nearest real neighbour."""
    return nearest_neighbour_distance(real.features).median().item()


def retention(value: float, baseline: float, floor: list[float], n: int) -> float | None:
    """R = (m - floor) / (baseline - floor): 1 = as good as the baseline, 0 = as the permuted network.

    None where the baseline is not above the floor by 5 standard errors (binomial for the baseline's n items).
    """
    mean = float(np.mean(floor))
    error = math.sqrt(baseline * (1 - baseline) / n + float(np.var(floor, ddof=1)) / len(floor))
    return (value - mean) / (baseline - mean) if baseline - mean > 5 * error else None


def headroom(baseline: float, floor: list[float], ceiling: float) -> float | None:
    """U = (baseline - floor) / (ceiling - floor): how much the model has to lose; 1 is as good as real samples, 0 as permuted weights."""
    mean = float(np.mean(floor))
    return (baseline - mean) / (ceiling - mean) if ceiling > mean else None


def prefixed(verdicts: Mapping[str, Verdict]) -> dict[str, float]:
    """role -> Verdict to `quality_valid`, `diversity_mutual_recall`, ..."""
    return {f"{role}_{name}": value for role, verdict in verdicts.items() for name, value in verdict.metrics.items()}


def _share(flags: Tensor) -> float:
    return flags.double().mean().item()
