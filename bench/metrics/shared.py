"""The metrics that all domains share: their names, and the constants that their values depend on."""

from __future__ import annotations

from collections.abc import Mapping

K = 5  # nearest neighbours that make a ball
SHARED_METRICS_VERSION = 1  # version of the shared metrics: validity, mutual recall, survival, retention

SHARED: Mapping[str, str] = {
    "quality_valid": "share of samples inside a (capped) real ball and of typical surprisal: quality",
    "quality_precision": "share inside a real ball, uncapped (Kynkäänniemi et al. 2019)",
    "quality_typicality": "share whose surprisal lies within the central 95 % of real samples'",
    "quality_density": "real balls around a sample, over k (Naeem et al. 2020)",
    "quality_surprisal": "mean surprisal, nats",
    "diversity_mutual_recall": (
        "share of real samples with a generated one, each in the ball of the other: diversity"
    ),
    "diversity_recall": "share of real samples inside a generated ball (Kynkäänniemi et al. 2019)",
    "diversity_coverage": "share of real balls that hold a generated sample (Naeem et al. 2020)",
    "quality_retention": "quality_valid between floor (0) and baseline (1)",
    "diversity_retention": "diversity_mutual_recall between floor (0) and baseline (1)",
    "intact": "share of twins valid before and after, and the same",
    "drifted": "share of twins valid before and after, but another sample",
    "degraded": "share of twins valid only before",
    "repaired": "share of twins valid only after",
    "still_invalid": "share of twins valid neither before nor after",
}
