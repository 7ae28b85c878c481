"""The image domains' own metrics: distances between distributions, and which classes are still made."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bench.interfaces import Metric, SampleFeatures

if TYPE_CHECKING:
    from torch import Tensor

# all at once up to here: the usual 100 subsets of 1,000 cost 18 s and add noise of their own
KID_SUBSET = 2000
COVERED = 0.02  # a class counts as covered from this share on: a fifth of its share among real pictures
INCEPTION = {
    "fid": ("frechet_inception_distance", "Fréchet distance in torch-fidelity's Inception features", "lower"),
    "kid": (
        "kernel_inception_distance_mean",
        "kernel distance in torch-fidelity's Inception features",
        "lower",
    ),
    "is": ("inception_score_mean", "inception score, torch-fidelity's", "higher"),
}


def fid_effnet(generated: SampleFeatures, real: SampleFeatures) -> float:
    """Fréchet distance between Gaussians fitted to the quality evaluator's 64 features (Heusel et al. 2017).

    Biased upwards for small N.
    """
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    statistics = [
        fid_features_to_statistics(seen.by_evaluator["effnet"].features.double())
        for seen in (generated, real)
    ]
    return float(fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"])


def kid_effnet(generated: SampleFeatures, real: SampleFeatures) -> float:
    """Squared maximum mean discrepancy, cubic polynomial kernel, in the same features (Binkowski et al.
    2018). Unbiased.
    """
    from torch_fidelity.metric_kid import kid_features_to_metric

    features = [seen.by_evaluator["effnet"].features.double() for seen in (generated, real)]
    fewest = min(map(len, features))
    size = min(KID_SUBSET, fewest)
    found = kid_features_to_metric(
        *features,
        kid_subsets=fewest // size,
        kid_subset_size=size,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=2020,
        verbose=False,
    )
    return float(found["kernel_inception_distance_mean"])


def shares(observed: SampleFeatures) -> Tensor:
    """[10]: the share of each class, as the labeller sees it."""
    import torch

    from domains.images.labeller import CLASSES, labels

    return torch.bincount(labels(observed.samples), minlength=len(CLASSES)) / len(observed.samples)  # type: ignore[arg-type]


def classes_covered(generated: SampleFeatures, real: SampleFeatures) -> float:
    return float((shares(generated) >= COVERED).sum())


def class_entropy(generated: SampleFeatures, real: SampleFeatures) -> float:
    """In bits; ten classes of equal share have log2 10 = 3.32."""
    p = shares(generated)
    return float(-(p[p > 0] * p[p > 0].log2()).sum()) + 0.0


METRICS = (
    Metric(
        "fid_effnet",
        "Fréchet distance in the quality evaluator's features; biased for small N",
        "lower",
        compute=fid_effnet,
        headline=True,
    ),
    Metric("kid_effnet", "kernel distance (MMD^2) in the same features", "lower", compute=kid_effnet),
    Metric(
        "classes_covered",
        f"classes with a share of at least {COVERED:g}, of 10",
        "higher",
        compute=classes_covered,
        headline=True,
    ),
    Metric(
        "class_entropy",
        f"entropy of the classes; at most {math.log2(10):.2f}",
        "higher",
        "bits",
        compute=class_entropy,
    ),
)


def inception_metric(name: str, device: str) -> Metric | None:
    """`fid`, `kid` or `is` as others publish them.

    Raises `BadInput` when Inception's weights cannot be had.
    """
    if name not in INCEPTION:
        return None
    key, description, direction = INCEPTION[name]
    from domains.images.inception import inception_metrics, load_inception

    load_inception()

    def compute(generated: SampleFeatures, real: SampleFeatures) -> float:
        return inception_metrics(generated, real, device)[key]

    return Metric(name, description, direction, compute=compute)  # type: ignore[arg-type]
