"""Compares MAUVE's ranking of the methods with the benchmark's; needs `gencompress[mauve]`.

    python -m scripts.studies.rank_by_mauve

Reads the published text records that second judges have seen; samples come from the cache, or are drawn
again. Prints Kendall's tau with each retention, and with the two together.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean

from bench.records.schema import FINISHED, Record, read_records
from bench.registry import open_domain
from bench.report.secondary_table import tau_text
from bench.runner.evaluate_secondary import samples_of
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.stats.compressibility import retention_of
from bench.stats.ladder import ROLES, grouped
from bench.stats.rank_agreement import agreement, retentions
from bench.stats.use import use_retention
from bench.util.progress import bar
from domains.text.mauve import mauve, mauve_metric


def both(record: Record) -> float | None:
    """Quality times diversity: what a sample set has of both."""
    kept = [retention_of(record, role) for role in ROLES]
    return None if None in kept else max(0.0, kept[0] or 0.0) * max(0.0, kept[1] or 0.0)


VIEWS: dict[str, Callable[[Record], float | None]] = {
    "quality": lambda r: retention_of(r, "quality"),
    "diversity": lambda r: retention_of(r, "diversity"),
    "their product": both,
    "use": use_retention,
}


def _score(scores: Mapping[str, float], record: Record) -> float | None:
    return scores[record.cell]


def main() -> None:
    mauve_metric()  # raises where the package is missing
    known = [r for r in read_records(Path("results")) if r.domain == "text" and r.status in FINISHED]
    records = [r for r in known if any(block.second for block in r.evaluators.values())]
    tables: dict[str, dict[str, dict[str, tuple[float, float]]]] = {name: {} for name in VIEWS}
    for (model, n), group in grouped(records, lambda r: (r.model, r.samples)):
        domain = open_domain("text")
        evaluation = Evaluation(ModelSession(domain, domain.locate(model), n))
        scores = {
            r.cell: mauve(
                evaluation.panel.observe(samples_of(r, evaluation), "samples"), evaluation.panel.real
            )
            for r in bar(group, model, len(group))
        }
        print(
            model,
            {
                m: round(mean(scores[r.cell] for r in same), 3)
                for m, same in grouped(group, lambda r: r.method)
            },
        )
        for name, view in VIEWS.items():
            tables[name][model] = retentions(group, (functools.partial(_score, scores), view))
    for name, by_model in tables.items():
        found = agreement("text", name, ("mauve", name), by_model)
        print(f"tau of MAUVE and {name}: {tau_text(found.tau)} over {found.methods} methods")


if __name__ == "__main__":
    main()
