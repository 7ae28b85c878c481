"""Prints cells per hour by domain and stage, from the published records, as Markdown.

    python -m scripts.studies.stages [MODEL]

Seconds are those that each record says its stages took, on its machine; what a cache answered costs (nearly)
nothing and is left out where a stage took less than a tenth of a second.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

from bench.records.schema import read_records
from bench.report.cells import table
from bench.stats.ladder import grouped

LEAST_S = 0.1


def main(model: str) -> None:
    records = [r for r in read_records(Path("results")) if r.model == model and r.method != "none"]
    stages = list(dict.fromkeys(stage for r in records for stage in r.provenance.seconds))
    lines = []
    for domain, group in grouped(records, lambda r: r.domain):
        means = {s: mean(r.provenance.seconds.get(s, 0.0) for r in group) for s in stages}
        total = sum(means.values())
        lines.append(
            [
                domain,
                str(len(group)),
                f"{3600 / total:.0f}",
                *(f"{m:.1f}" if m >= LEAST_S else "-" for m in means.values()),
            ]
        )
    print(table(["domain", "cells", "cells an hour", *(f"{stage}, s" for stage in stages)], lines))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "s@2")
