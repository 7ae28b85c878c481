"""Measures U of the snapshots of one training, on the validation part.

    python -m scripts.studies.u_over_training image_gan FOLDER...

Each folder is a snapshot that `bench train` kept (in the user's cache, below training/). U = (value - floor) / (ceiling - floor); the
floor is one permuted network, of the last snapshot.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.evaluation.verdicts import usable
from bench.runner import sweep as campaign
from bench.runner.session import Workbench

ROOT = Path(__file__).parents[2]
VALIDATION = {"text": "domains/text/data/validation.parquet"}
IMAGES = "domains/images/data/validation.parquet"
N = 1000  # each half of the shortest validation part, text's


def main(domain_name: str, *folders: str) -> None:
    domain = campaign.open_domain(domain_name)
    reference = str(ROOT / VALIDATION.get(domain_name, IMAGES))
    benches = [Workbench(domain, domain.locate(folder), N, reference=reference) for folder in sorted(folders)]
    last = benches[-1]
    floor = last.panel.metrics_of(last.observe(last.compressed(last.floor_method(0), 0), 0))
    ceiling = last.panel.ceiling(own=False)
    for bench in benches:
        seen, verdicts = bench.baseline(0)
        values = bench.panel.metrics_of(seen, verdicts)
        line: dict[str, object] = {"step": Path(bench.spec.source).name}
        for metric in ("quality_valid", "diversity_mutual_recall"):
            u = usable(values[metric], [floor[metric]], ceiling[metric])
            line |= {metric: round(values[metric], 4), f"u_{metric.split('_')[0]}": None if u is None else round(u, 4)}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
