"""Measures one cell: from the cell to its record."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch.nn import Module

from bench.artifact.format import rebuild, save, tensors_digest
from bench.errors import BrokenPlugIn, Diverged, Unsupported, blamed
from bench.evaluation.verdicts import Verdict, headroom, retention, survival
from bench.interfaces import SampleFeatures
from bench.methods.notation import Chain, parse
from bench.methods.plain import original
from bench.methods.trained import DivergedInTraining
from bench.metrics.cost import cost_of, warnings_of
from bench.records.cell import Cell
from bench.records.provenance import provenance
from bench.records.schema import (
    Cost,
    EvaluatorBlock,
    Items,
    Record,
    Speed,
    Status,
    ToolReport,
    TrainingReport,
    metric_of,
)
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.stats.ladder import ROLES

COLLAPSED_BELOW = 0.1  # threshold of either retention


@dataclass
class Made:
    """The parts of a cell's record that are known so far."""

    cost: Cost | None = None
    tensors_sha256: str | None = None
    speed: Speed | None = None
    trainings: list[TrainingReport] = field(default_factory=list)
    tools: list[ToolReport] = field(default_factory=list)


def run_cell(cell: Cell, evaluation: Evaluation) -> Record:
    """Compress, store, rebuild from the file, sample, evaluate, and compare with the baseline's twins."""
    session, watch = evaluation.session, evaluation.session.watch
    watch.restart()
    made = Made()
    try:
        method = parse(cell.method)
        network = compress(method, cell, session, made)
        drawn = session.sample(network, cell.sample_seed)
        seen = evaluation.panel.observe(drawn.samples, "samples")
        made.speed = session.speed(drawn)
        before, verdicts_before = evaluation.baseline(cell.sample_seed)
        verdicts = evaluation.panel.verdicts(seen)
        metrics = metrics_of(cell, evaluation, network, seen, verdicts)
        with watch("metrics"):
            twins = twins_of(evaluation, seen, before, verdicts, verdicts_before)
        metrics |= {name: float(flags.mean()) for name, flags in twins.items()}
        status, reason = verdict_of(metrics)
    except Diverged as error:
        return record_of(cell, session, "diverged", str(error), made)
    except Unsupported as error:
        return record_of(cell, session, "unsupported", str(error), made)
    blocks = primary_blocks(evaluation, verdicts)
    blocks |= evaluation.secondary_blocks(seen.samples, cell.sample_seed, cell.method == "none")
    items = {name: Items.pack(flags) for name, flags in twins.items()}
    made_record = record_of(cell, session, status, reason, made, metrics, blocks, items)
    return made_record.model_copy(update={"metric_info": evaluation.metric_info()})


def compress(method: Chain, cell: Cell, session: ModelSession, made: Made) -> Module:
    """Write the compressed file, rebuild the network from its bytes, and add its cost to `made`."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "artifact"
        with session.watch("compress"):
            try:
                compressed = method(original(session.generator.network), session.context(cell.sample_seed))
            except DivergedInTraining as error:
                made.trainings = reports(error.trainings)
                raise
            made.trainings = reports(compressed.trainings)
            made.tools = [ToolReport.model_validate(one) for one in compressed.tools]
            save(compressed, cell.method, file)
            network = rebuild(file, session.generator).to(session.device)
            session.cache.keep(session.artifact_key(method, cell.sample_seed), "artifact", file.read_bytes())
            made.tensors_sha256 = tensors_digest(network)
        with session.watch("count"):
            made.cost = cost_of(compressed, cell.method, file, session.fp32_bytes, session.macs(network))
    return network


def reports(trainings: Iterable[Mapping[str, Any]]) -> list[TrainingReport]:
    """What a record says of the trainings of its chain."""
    return [TrainingReport.model_validate(one) for one in trainings]


def metrics_of(
    cell: Cell, evaluation: Evaluation, network: Module, seen: SampleFeatures, verdicts: Mapping[str, Verdict]
) -> dict[str, float | None]:
    """Metric -> value: primary evaluators, the domain's own metrics, likelihoods, auxiliary scores,
    retentions.
    """
    generator, watch = evaluation.session.generator, evaluation.session.watch
    part = f"model {cell.model!r} of domain {cell.domain!r}"
    with watch("likelihood"), blamed(f"{part}, likelihood"):
        likelihood = generator.likelihood(network, generator.network) or {}
    with watch("metrics"), blamed(f"{part}, auxiliary_scores"):
        auxiliary = generator.auxiliary_scores(seen.samples)
    own = evaluation.panel.own
    if undeclared := sorted((likelihood | auxiliary).keys() - own.keys()):
        raise BrokenPlugIn(
            f"{part} gives {', '.join(undeclared)}, which `metrics` of the domain does not declare; allowed: "
            f"{', '.join(own) or 'none'}"
        )
    found: dict[str, float | None] = {
        **evaluation.panel.metrics_of(seen, verdicts),
        **evaluation.panel.own_metrics_of(seen),
    }
    found |= likelihood | auxiliary
    with watch("metrics"):
        found |= evaluation.condition_kept(seen.samples, verdicts)
    return found | relative_metrics(cell, evaluation, found)


def relative_metrics(
    cell: Cell, evaluation: Evaluation, metrics: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Retention by role, between floor and baseline.

    The baseline also gets its headroom U, between floor and ceiling.
    """
    before = evaluation.panel.metrics_of(*evaluation.baseline(cell.sample_seed))
    found: dict[str, float | None] = {}
    for role in ROLES:
        name = metric_of(role)
        floor, value = evaluation.bounds.floor(name), metrics[name]
        assert value is not None
        found[f"{role}_retention"] = retention(value, before[name], floor, cell.samples)
        if cell.method == "none":
            found[f"{role}_u"] = headroom(value, floor, evaluation.bounds.ceiling[name])
    return found


def twins_of(
    evaluation: Evaluation,
    seen: SampleFeatures,
    before: SampleFeatures,
    verdicts: Mapping[str, Verdict],
    verdicts_before: Mapping[str, Verdict],
) -> dict[str, np.ndarray]:
    """Twin outcome -> bool [n]."""
    quality, diversity = (evaluation.panel.primary[role] for role in ROLES)
    return survival(
        verdicts[quality].items["valid"],
        verdicts_before[quality].items["valid"],
        seen.by_evaluator[diversity],
        before.by_evaluator[diversity],
        evaluation.panel.same_within,
    )


def primary_blocks(evaluation: Evaluation, verdicts: Mapping[str, Verdict]) -> dict[str, EvaluatorBlock]:
    """Primary evaluator -> its block of the record."""
    found = {}
    for name, verdict in verdicts.items():
        found[name] = EvaluatorBlock(
            role=evaluation.panel.roles[name],
            version=evaluation.panel.evaluators[name].version,
            metrics=verdict.metrics,
            items={item: Items.pack(flags) for item, flags in verdict.items.items()},
        )
    return found


def verdict_of(metrics: dict[str, float | None]) -> tuple[Status, str | None]:
    """The status of a cell that was measured, with the reason where it collapsed."""
    for role in ROLES:
        kept = metrics[f"{role}_retention"]
        if kept is not None and kept < COLLAPSED_BELOW:
            return "collapsed", f"{role} retention {kept:.3f} is below {COLLAPSED_BELOW}"
    return "ok", None


def record_of(
    cell: Cell,
    session: ModelSession,
    status: Status,
    reason: str | None,
    made: Made | None = None,
    metrics: dict[str, float | None] | None = None,
    evaluators: dict[str, EvaluatorBlock] | None = None,
    items: dict[str, Items] | None = None,
) -> Record:
    """The record of a cell, whatever its status."""
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
        provenance=provenance(session.command, session.device, session.watch.seconds),
    )
