"""From features to flags: which samples are valid, which real samples are covered, and which twins
survived.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.errors import BrokenPlugIn, Diverged, blamed
from bench.interfaces import Evaluator, Features, Samples
from bench.metrics.manifold import Manifold, manifold, nearest_neighbour_distance

TYPICAL = (0.025, 0.975)  # quantiles of real samples' surprisal


def features_of(
    evaluator: Evaluator, samples: Samples, domain: str | None = None, real: bool = False
) -> Features:
    """An evaluator's features of samples, with the surprisal for the role quality.

    Raises `BrokenPlugIn` where the evaluator breaks its contract. Non-finite values of real samples break it;
    those of generated samples raise `Diverged`.
    """
    part = f"evaluator {evaluator.name!r}" + (f" of domain {domain!r}" if domain else "")
    with blamed(part):
        features = evaluator.features(samples)
        surprisal = _surprisal_of(evaluator, samples, part) if evaluator.role == "quality" else None
    for what, values, dimensions in (("features", features, 2), ("surprisal", surprisal, 1)):
        if evaluator.role != "quality" and values is None:
            continue
        values = _checked(f"{part}: {what}", values, len(samples), dimensions)
        bad = int((~values.reshape(len(samples), -1).isfinite()).any(1).sum())
        if bad and real:
            raise BrokenPlugIn(f"{part}: {what} not finite for {bad} of {len(samples)} real samples")
        if bad:
            is_ = "are" if what == "features" else "is"
            raise Diverged(f"the {what} of evaluator {evaluator.name!r} {is_} not finite")
    return Features(features, surprisal)


def _surprisal_of(evaluator: Evaluator, samples: Samples, part: str) -> Tensor:
    if type(evaluator).surprisal is Evaluator.surprisal:
        raise BrokenPlugIn(f"{part}: the role 'quality' needs the member surprisal(samples)")
    return evaluator.surprisal(samples)


def _checked(what: str, values: object, n: int, dimensions: int) -> Tensor:
    """The same values. Raises `BrokenPlugIn` unless they are a float32 tensor, [n, d] or [n]."""
    wanted = f"a float32 tensor [{n}{', d' if dimensions == 2 else ''}]"
    if not isinstance(values, Tensor):
        raise BrokenPlugIn(
            f"{what} of type {type(values).__module__}.{type(values).__name__}; allowed: {wanted}"
        )
    if values.dtype != torch.float32 or values.ndim != dimensions or len(values) != n:
        found = f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
        raise BrokenPlugIn(f"{what} of type {found}; allowed: {wanted}")
    return values


@dataclass(frozen=True)
class Verdict:
    """The result of one evaluator: metrics without the prefix of their role, and one flag per item."""

    metrics: dict[str, float]
    items: dict[str, np.ndarray]  # bool
    # float [items]: the values whose mean is the metric, where it has no flags
    shares: np.ndarray | None = None


def quality_verdict(real: Features, generated: Features, k: int) -> Verdict:
    """Which generated samples are valid.

    A valid sample lies in some (capped) real ball, and its surprisal is within the central 95 % of the real
    samples'.
    """
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
    return Verdict(
        metrics, {"valid": valid.numpy(), "precision": found.precision.numpy(), "typical": typical.numpy()}
    )


def diversity_verdict(real: Features, generated: Features, k: int) -> Verdict:
    """Which real samples are covered: the items of these metrics are the real samples."""
    found = manifold(real.features, generated.features, k)
    flags = {"mutual_recall": found.mutual_recall, "recall": found.recall, "coverage": found.coverage}
    return Verdict(
        {name: _share(flag) for name, flag in flags.items()},
        {name: flag.numpy() for name, flag in flags.items()},
    )


VERDICTS = {"quality": quality_verdict, "diversity": diversity_verdict}


def survival(
    valid: np.ndarray, valid_before: np.ndarray, now: Features, before: Features, same_within: float
) -> dict[str, np.ndarray]:
    """Compare each compressed twin with its baseline twin: exactly one of five outcomes holds.

    All arrays are bool [n].

    Twins are the *same* when their distance in the diversity space is at most `same_within`.
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
    """R = (m - floor) / (baseline - floor). 1 means as good as the baseline, 0 as the permuted network.

    It is None unless the baseline lies 5 standard errors above the floor (binomial, for the baseline's n
    items).
    """
    mean = float(np.mean(floor))
    error = math.sqrt(baseline * (1 - baseline) / n + float(np.var(floor, ddof=1)) / len(floor))
    return (value - mean) / (baseline - mean) if baseline - mean > 5 * error else None


def headroom(baseline: float, floor: list[float], ceiling: float) -> float | None:
    """U = (baseline - floor) / (ceiling - floor): how much the model can lose.

    1 means as good as real samples, 0 as permuted weights.
    """
    mean = float(np.mean(floor))
    return (baseline - mean) / (ceiling - mean) if ceiling > mean else None


def prefixed(verdicts: Mapping[str, Verdict]) -> dict[str, float]:
    """Role -> Verdict to metrics with full names, such as `quality_valid` and `diversity_mutual_recall`."""
    return {
        f"{role}_{name}": value
        for role, verdict in verdicts.items()
        for name, value in verdict.metrics.items()
    }


def _share(flags: Tensor) -> float:
    return flags.double().mean().item()
