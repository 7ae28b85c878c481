"""MAUVE (Pillutla et al. 2021, arXiv:2102.01454) in the features of evaluator `judge`: `--metric mauve`.

The package is GPL-3.0, and therefore an optional extra: `pip install 'gencompress[mauve]'`.
"""

from __future__ import annotations

from bench.errors import BadInput
from bench.interfaces import Metric, SampleFeatures


def mauve(generated: SampleFeatures, real: SampleFeatures) -> float:
    """In (0, 1]; 1 = the two sets fall alike into the clusters of their union.

    The package's defaults: N / 10 clusters, scaling 5, seed 25.

    Not comparable with published values, which need the features of a large model.
    """
    from mauve import compute_mauve

    sets = (seen.by_evaluator["judge"].features.numpy() for seen in (real, generated))
    return float(compute_mauve(*sets, verbose=False).mauve)


def mauve_metric() -> Metric:
    """Raises `BadInput` where the package is missing."""
    import importlib.util

    if importlib.util.find_spec("mauve") is None:
        raise BadInput(
            "the metric mauve needs the package mauve-text (GPL-3.0): pip install 'gencompress[mauve]'"
        )
    return Metric(
        "mauve",
        "MAUVE in the features of evaluator `judge`; quality and diversity in one",
        "higher",
        compute=mauve,
    )
