"""The pipeline: one cell in, one record out."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.artifact.format import rebuild, save, tensors_digest
from bench.errors import Diverged, Unsupported
from bench.evaluation.verdicts import prefixed, retention, survival, usable
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.metrics.cost import cost_of, warnings_of
from bench.records.cell import Cell
from bench.records.provenance import provenance
from bench.records.schema import Cost, EvaluatorBlock, Items, Record, Speed, Status
from bench.runner.session import Workbench

COLLAPSED_BELOW = 0.1  # of either retention


@dataclass
class Made:
    """What is known of a cell's network, as far as the pipeline came."""

    cost: Cost | None = None
    tensors_sha256: str | None = None
    speed: Speed | None = None


def run_cell(cell: Cell, bench: Workbench) -> Record:
    """Compress, store, rebuild from the file, sample, judge, compare with the baseline's twins."""
    watch = bench.restart_watch()
    method, made = parse(cell.method), Made()
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "artifact"
            with watch("compress"):
                compressed = method(original(bench.generator.network), bench.context(cell.sample_seed))
                save(compressed, cell.method, file)
                network = rebuild(file, bench.generator).to(bench.device)
                bench.panel.cache.keep(bench.artifact_key(cell.method, cell.sample_seed), "artifact", file.read_bytes())
                made.tensors_sha256 = tensors_digest(network)
            with watch("count"):
                made.cost = cost_of(compressed, cell.method, file, bench.fp32_bytes, bench.macs(network))

        seen = bench.observe(network, cell.sample_seed)
        made.speed = bench.speed()
        before, verdicts_before = bench.baseline(cell.sample_seed)
        verdicts = bench.panel.judge(seen)
        with watch("likelihood"):
            likelihood = bench.generator.likelihood(network, bench.generator.network) or {}
        with watch("metrics"):
            auxiliary = bench.generator.auxiliary_scores(seen.samples)
        metrics: dict[str, float | None] = {
            **bench.panel.metrics_of(seen, verdicts),
            **bench.panel.own_metrics_of(seen),
        }
        metrics |= likelihood | auxiliary
        metrics |= relative_metrics(cell, bench, metrics)

        quality, diversity = bench.panel.primary["quality"], bench.panel.primary["diversity"]
        with watch("metrics"):
            twins = survival(
                verdicts[quality].items["valid"],
                verdicts_before[quality].items["valid"],
                seen.views[diversity],
                before.views[diversity],
                bench.panel.same_within,
            )
        metrics |= {name: float(flags.mean()) for name, flags in twins.items()}
        status, reason = verdict_of(metrics)
    except Diverged as error:
        return record_of(cell, bench, "diverged", str(error), made)
    except Unsupported as error:
        return record_of(cell, bench, "unsupported", str(error), made)

    blocks = {
        name: EvaluatorBlock(
            role=bench.panel.judges[name],
            version=bench.panel.evaluators[name].version,
            metrics=verdict.metrics,
            items={item: Items.pack(flags) for item, flags in verdict.items.items()},
        )
        for name, verdict in verdicts.items()
    }
    blocks |= bench.second.blocks(seen.samples, cell.sample_seed, cell.method == "none")
    items = {name: Items.pack(flags) for name, flags in twins.items()}
    return record_of(cell, bench, status, reason, made, metrics, blocks, items)


def relative_metrics(cell: Cell, bench: Workbench, metrics: dict[str, float | None]) -> dict[str, float | None]:
    """Retention, and for the baseline also U, by role: where between floor and baseline, floor and ceiling, it lies."""
    verdicts_before = bench.baseline(cell.sample_seed)[1]
    before = prefixed({role: verdicts_before[name] for role, name in bench.panel.primary.items()})
    found: dict[str, float | None] = {}
    for role, name in (("quality", "quality_valid"), ("diversity", "diversity_mutual_recall")):
        floor, value = bench.bounds.floor(name), metrics[name]
        assert value is not None
        found[f"{role}_retention"] = retention(value, before[name], floor, cell.samples)
        if cell.method == "none":
            found[f"{role}_u"] = usable(value, floor, bench.bounds.ceiling[name])
    return found


def verdict_of(metrics: dict[str, float | None]) -> tuple[Status, str | None]:
    for role in ("quality", "diversity"):
        kept = metrics[f"{role}_retention"]
        if kept is not None and kept < COLLAPSED_BELOW:
            return "collapsed", f"{role} retention {kept:.3f} is below {COLLAPSED_BELOW}"
    return "ok", None


def record_of(
    cell: Cell,
    bench: Workbench,
    status: Status,
    reason: str | None,
    made: Made | None = None,
    metrics: dict[str, float | None] | None = None,
    evaluators: dict[str, EvaluatorBlock] | None = None,
    items: dict[str, Items] | None = None,
) -> Record:
    return Record(
        cell=cell.hash,
        **vars(cell),
        status=status,
        reason=reason,
        metrics=metrics or {},
        **vars(made or Made()),
        warnings=warnings_of(made.cost) if made and made.cost else [],
        evaluators=evaluators or {},
        items=items or {},
        provenance=provenance(bench.command, bench.device, bench.watch.seconds),
    )
