"""Measures U of the snapshots of one training, on the validation part.

    python -m scripts.studies.u_over_training image_gan FOLDER...

Each folder is a snapshot that `bench train` kept (in the user's cache, below training/). U = (value - floor)
/ (ceiling - floor); the floor is one permuted network, of the last snapshot.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.evaluation.verdicts import headroom
from bench.registry import open_domain
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession

ROOT = Path(__file__).parents[2]
VALIDATION = {"text": "domains/text/data/validation.parquet"}
IMAGES = "domains/images/data/validation.parquet"
N = 1000  # each half of the shortest validation part, text's


def main(domain_name: str, *folders: str) -> None:
    domain = open_domain(domain_name)
    reference = str(ROOT / VALIDATION.get(domain_name, IMAGES))
    opened = [
        Evaluation(ModelSession(domain, domain.locate(folder), N), reference=reference)
        for folder in sorted(folders)
    ]
    last = opened[-1]
    permuted = last.session.compressed(last.session.floor_method(0), 0)
    floor = last.panel.score(last.session.sample(permuted, 0).samples)
    ceiling = last.panel.ceiling(own=False)
    for evaluation in opened:
        values = evaluation.panel.metrics_of(*evaluation.baseline(0))
        line: dict[str, object] = {"step": Path(evaluation.session.spec.source).name}
        for metric in ("quality_valid", "diversity_mutual_recall"):
            u = headroom(values[metric], [floor[metric]], ceiling[metric])
            line |= {
                metric: round(values[metric], 4),
                f"u_{metric.split('_')[0]}": None if u is None else round(u, 4),
            }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
