"""Writes which samples survive compression: tables of twin outcomes, and what distinguishes the survivors."""

from __future__ import annotations

from collections.abc import Mapping

from bench.methods.notation import is_recalibrated, rung_of
from bench.report.cells import DASH, bracketed, table
from bench.report.report_data import ReportData
from bench.stats.ladder import ModelLadder
from bench.stats.model_file import ModelFile
from bench.stats.survivors import ByCovariate
from bench.stats.twin_outcomes import BASELINE, TWIN_OUTCOMES, twin_outcomes_of
from bench.util.markup import as_text

TWIN_OUTCOME_NOTES = """\
Each sample is compared with its twin: the sample of the uncompressed network from the same random numbers
([picture](docs/images/survival.png)). Shares of all samples, means over the ranked models, with intervals
over training seeds. A domain without a ranked model shows all its models, without intervals.

- **intact**: both valid, and the same sample. **drifted**: both valid, but another sample.
- **repaired**: only the compressed network's is valid. **degraded**: only the uncompressed network's is
  valid.
- **still invalid**: neither is valid.
"""


def twin_outcomes(found: ReportData) -> list[str]:
    """The share of each outcome, rung by rung. Empty where no record holds twins."""
    lines = []
    for d in found.now.domains:
        if (known := twin_outcomes_of(d, found.records)) is None:
            continue
        for k, rung in enumerate(known.rungs):
            ends = (
                [None] * len(TWIN_OUTCOMES)
                if known.intervals is None
                else [(low, high) for low, high in known.intervals[k].tolist()]
            )
            cells = [bracketed(share, end) for share, end in zip(known.shares[k].tolist(), ends)]
            if rung == BASELINE:  # in the baseline each sample is its own twin
                cells[1:-1] = [DASH] * (len(TWIN_OUTCOMES) - 2)
            lines.append([d.name, f"`{rung}`", *cells])
    headers = ["domain", "rung", *(name.replace("_", " ") for name in TWIN_OUTCOMES)]
    return [TWIN_OUTCOME_NOTES, table(headers, lines, left=2) + "\n"] if lines else []


SURVIVOR_NOTES = """\
**Which properties predict survival?** Share of the uncompressed network's valid samples whose twin is still
valid, with intervals over items.

- **AUC**: probability that a sample that failed was more surprising to the evaluator (or rarer: farther from
  its real neighbours) than one that survived. 0.5 means no relation.
- **fails again**: of the samples that failed one rung earlier, the share that fails here; beside it the share
  among those that survived.
- **traits**: for labels, the survival of the worst and of the best label. They are selected as extremes, so
  chance alone separates them.

All numbers: `results/<domain>/<model>/model.json`.
"""


def survivors(found: ReportData) -> list[str]:
    """The section of the page. Empty without twins."""
    lines = [
        line
        for m in found.models
        if (file := found.files.get((m.domain, m.model)))
        for line in _survival_lines(m, file)
    ]
    parts = twin_outcomes(found)
    if not lines:
        return ["## Which samples survive?\n", *parts] if parts else []
    headers = [
        "model",
        "rung",
        "survival ↑",
        "AUC surprisal",
        "AUC rarity",
        "traits of the domain",
        "fails again",
        "fails after surviving",
    ]
    folded = (
        f"<details><summary>All models, rung by "
        f"rung</summary>\n\n{table(headers, lines, left=2)}\n\n</details>\n"
    )
    return ["## Which samples survive?\n", *parts, SURVIVOR_NOTES, folded]


def _survival_lines(m: ModelLadder, file: ModelFile) -> list[list[str]]:
    lines = []
    steps = {step.harsher: step.table for step in file.ladder}
    for rung in m.rungs:
        method = next(
            (name for name in file.survival if is_recalibrated(name) and rung_of(name) == rung), rung
        )
        found = file.survival.get(method)
        if found is None:
            continue
        by = found.by or {}
        step = steps.get(method)
        shares = (step.after_failure, step.after_survival) if step is not None else (None, None)
        lines.append(
            [
                f"{as_text(m.domain)} {as_text(m.model)}",
                f"`{rung}`",
                _bracketed(found.overall.share, found.overall.low, found.overall.high),
                *(
                    _bracketed(a.value, a.low, a.high) if name in by and (a := by[name].auc) else DASH
                    for name in ("surprisal", "rarity")
                ),
                _by_traits(file, by),
                *(_bracketed(s.share, s.low, s.high) if s is not None else DASH for s in shares),
            ]
        )
    return lines


def _by_traits(file: ModelFile, by: Mapping[str, ByCovariate]) -> str:
    """Survival of the labels with the lowest and the highest survival, or the AUC of a numeric trait."""
    parts = []
    for name, found in by.items():
        if found.auc is not None and name not in ("surprisal", "rarity"):
            parts.append(f"{name}: AUC {found.auc.value:.3f}")
        if (ends := found.labels) is not None:
            labels = file.covariates[name].labels
            shares = [
                (label, found.survival[labels.index(label)].share) for label in (ends.lowest, ends.highest)
            ]
            parts.append(
                f"{name}: "
                + " to ".join(f"{label} {share:.2f}" for label, share in shares if share is not None)
            )
    return "; ".join(parts) or DASH


def _bracketed(value: float | None, low: float, high: float) -> str:
    return DASH if value is None else bracketed(value, (low, high))
