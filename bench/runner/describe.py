"""`bench describe`: makes a small file about each model, `<domain>/<model>/model.json`, with what its records
do not hold.

The baseline's samples are drawn again or read from the cache, and every flag of the records is joined with
the covariates of its sample. Floats are rounded to six significant digits, so equal records and weights give
equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import KNOWN_ERRORS, BadInput
from bench.evaluation.panel import Panel
from bench.interfaces import Conditions, Domain, SampleFeatures, Samples
from bench.methods.notation import ladder
from bench.metrics.anatomy import anatomy
from bench.records.schema import FINISHED, MODEL_FILE, Record, read_records
from bench.registry import DOMAINS, open_domain
from bench.runner.devices import pick_device
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.stats import survivors
from bench.stats.compressibility import recalibrated_ladder
from bench.stats.ladder import comparable, conditions, grouped
from bench.stats.model_file import ModelFile, Step, records_digest
from bench.stats.survivors import Bins, Survival
from bench.util.files import slug, write_atomically
from bench.util.progress import Bar

SURPRISAL, RARITY = "surprisal", "rarity"
# share of a baseline's flags that may differ between two machines; other samples differ in far more
OTHER_FLOATS = 0.01
Flags = Mapping[int, np.ndarray]  # sampling seed -> bool [n]
Say = Callable[[str], None]


# ----------------------------------------------------------------------------------------------- which models


def describe(
    domain: str, models: Sequence[str], results: Path, say: Say, conditions: Conditions | None = None
) -> tuple[list[Path], int]:
    """Describe the named models, or all models of a domain (or of `all`) -> (the files written, how many
    models failed).

    Raises `BadInput` when no record belongs to a named model. A model that cannot be described is reported to
    `say`, and the others go on.
    """
    written, failed, records = [], 0, read_records(results, say)
    if domain == "all" and (strange := sorted({r.domain for r in records} - set(DOMAINS))):
        say(f"left out: records of domains that are not installed: {', '.join(strange)}")
    for (name, model), group in chosen(domain, models, records):
        try:
            file = describe_model(open_domain(name), model, group, say, conditions)
            path = results / slug(name) / slug(model) / MODEL_FILE
            write_atomically(path, file.text())
            say(f"wrote {path}: {len(file.survival)} methods, {file.records} records")
            written.append(path)
        except KNOWN_ERRORS as error:
            say(f"error: {name} {model}: {error}")
            failed += 1
    return written, failed


def chosen(
    domain: str, models: Sequence[str], records: Sequence[Record]
) -> list[tuple[tuple[str, str], list[Record]]]:
    """The records of the requested models, in domains that are installed.

    Raises `BadInput` where there are none.
    """
    here = grouped(
        [r for r in records if r.domain in DOMAINS and domain in (r.domain, "all")],
        lambda r: (r.domain, r.model),
    )
    known = {model for (_, model), _ in here}
    if missing := [model for model in models if model not in known]:
        names = ", ".join(sorted(known)) or "none"
        raise BadInput(
            f"no records of model {missing[0]!r} in domain {domain!r}; models with records: {names}"
        )
    if not here:
        raise BadInput(f"no records of domain {domain!r}")
    return [(key, group) for key, group in here if not models or key[1] in models]


# -------------------------------------------------------------------------------------------------- one model


def describe_model(
    domain: Domain, model: str, records: Sequence[Record], say: Say, conditions: Conditions | None = None
) -> ModelFile:
    """Describe one model. With conditions, the records whose samples were made of them.

    Raises `BadInput` where the records are not of this model, or its samples cannot be reproduced.
    """
    if conditions is not None:
        records = [record for record in records if record.conditions == conditions.settings]
    if not records:
        raise BadInput("no record of it was measured with these conditions")
    records = comparable_ones(records, say)
    base = {r.sample_seed: r for r in records if r.method == "none" and r.status in FINISHED and r.evaluators}
    if not base:
        raise BadInput("the uncompressed network `none` has no record")
    first = next(iter(base.values()))
    session = ModelSession(
        domain,
        domain.locate(model),
        first.samples,
        device=pick_device(first.provenance.device),
        conditions=conditions,
    )
    evaluation = Evaluation(session, k=first.k)
    check_same_model(first, evaluation)
    methods = sorted({r.method for r in records} - {"none"})
    with Bar(f"{domain.name} {model}", len(base)) as bar:
        items = Items.of(evaluation, base, bar)
    if not any(flags.any() for flags in items.valid.values()):
        raise BadInput("no sample of its uncompressed network is valid, so none can survive")
    outcomes = {}
    for method in methods:
        outcomes[method] = twin_outcomes_of([r for r in records if r.method == method], items, say)
    say_disputed(outcomes, first.samples, say)
    bins = {name: survivors.bins_of(items.pooled(name, items.valid)) for name in items.names}
    return ModelFile(
        domain=domain.name,
        model=model,
        kind_of_data=domain.kind_of_data,
        kind_of_network=domain.kind_of_network,
        weights_sha256=first.weights_sha256,
        anatomy=anatomy(session.generator.network, session.spec),
        samples=first.samples,
        k=first.k,
        sample_seeds=sorted(base),
        sampler=first.sampler,
        reference=first.reference,
        records=len(records),
        records_sha256=records_digest(records),
        covariates=bins,
        survival={method: survival_of(seeds, items, bins) for method, seeds in outcomes.items() if seeds},
        ladder=ladder_steps(outcomes, recalibrated_ladder(records)),
    )


def comparable_ones(records: Sequence[Record], say: Say) -> list[Record]:
    """The records under the conditions that the leaderboard compares. Only these can be joined."""
    if (groups := len({conditions(record) for record in records})) > 1:
        model = f"{records[0].domain} {records[0].model}"
        say(
            f"{model}: {groups} groups of records under different conditions; the group with most of the "
            f"ladder is described"
        )
    return comparable(records)


def check_same_model(record: Record, evaluation: Evaluation) -> None:
    """Raises `BadInput` where samples drawn here would differ from those of the record."""
    for name in ("weights_sha256", "companions", "sampler", "reference"):
        measured, here = getattr(record, name), getattr(evaluation.template, name)
        if measured != here:
            raise BadInput(
                f"its records belong to another model: {name} is {_short(measured)} there and "
                f"{_short(here)} here"
            )


def _short(value: Any) -> str:
    return value[:24] if isinstance(value, str) else json.dumps(value, sort_keys=True)


# ------------------------------------------------------------------------------------------------------ items


@dataclass(frozen=True)
class Items:
    """The baseline's samples by sampling seed: which are valid, and their covariates."""

    valid: Flags
    covariates: Mapping[int, Mapping[str, np.ndarray]]  # seed -> name -> [n] numbers or labels

    @classmethod
    def of(cls, evaluation: Evaluation, base: Mapping[int, Record], bar: Bar) -> Items:
        """Draw the samples again. Raises `BadInput` where they are not those of the records."""
        valid, covariates = {}, {}
        for seed, record in base.items():
            bar.describe(f"baseline, seed {seed}")
            seen, verdicts = evaluation.baseline(seed)
            quality = evaluation.panel.primary["quality"]
            valid[seed] = check_flags(
                verdicts[quality].items["valid"], record.evaluators[quality].items["valid"].unpack(), seed
            )
            covariates[seed] = covariates_of(evaluation.panel, seen)
            bar.update()
        return cls(valid, covariates)

    @property
    def names(self) -> list[str]:
        """The names of the covariates."""
        return list(next(iter(self.covariates.values())))

    def pooled(self, name: str, which: Flags) -> np.ndarray:
        """A covariate of the flagged samples, one seed after the other."""
        return np.concatenate([self.covariates[seed][name][flags] for seed, flags in which.items()])


def check_flags(here: np.ndarray, recorded: np.ndarray, seed: int) -> np.ndarray:
    """The recorded flags. Raises `BadInput` unless the flags here are the same, but for `OTHER_FLOATS`.

    Otherwise items would be joined with wrong outcomes.
    """
    if here.shape != recorded.shape or (here != recorded).mean() > OTHER_FLOATS:
        differ = (
            f"{int((here != recorded).sum())} of "
            if here.shape == recorded.shape
            else f"{len(here)} here, there "
        )
        raise BadInput(
            f"the uncompressed network's samples of seed {seed} are not those of its record: "
            f"{differ}{len(recorded)} flags of validity "
            "differ (another machine or library computes other floats); "
            "measure `none` and the methods again here"
        )
    return recorded


def covariates_of(panel: Panel, seen: SampleFeatures) -> dict[str, np.ndarray]:
    """Name -> values [n]: surprisal (nats), rarity (units of the diversity space), and the domain's own
    traits.
    """
    quality, diversity = (seen.by_evaluator[panel.primary[role]] for role in ("quality", "diversity"))
    assert quality.surprisal is not None
    real = panel.real.by_evaluator[panel.primary["diversity"]].features
    found = {SURPRISAL: quality.surprisal.double().numpy(), RARITY: rarity(diversity.features, real, panel.k)}
    return {**found, **traits_of(panel.domain, seen.samples, taken=found)}


def rarity(samples: Tensor, real: Tensor, k: int, block: int = 256) -> np.ndarray:
    """The distance of each sample [n, d] to its k-th nearest real one [N, d] -> float64 [n]. High means rare.

    It sums float64 differences. A matrix product would lose small distances to rounding.
    """
    exact = "donot_use_mm_for_euclid_dist"
    found = [
        torch.cdist(some.double(), real.double(), compute_mode=exact).kthvalue(k, dim=1).values
        for some in samples.split(block)
    ]
    return torch.cat(found).cpu().numpy()


def traits_of(domain: Domain, samples: Samples, taken: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The domain's own traits.

    Raises `BadInput` where a trait lacks a finite number or label for a sample, or has the name of another
    covariate.
    """
    found = {name: np.asarray(values) for name, values in domain.traits(samples).items()}
    for name, values in found.items():
        if name in taken:
            raise BadInput(
                f"domain {domain.name!r} has a trait {name!r}, but every domain has a covariate of that name"
            )
        number = np.issubdtype(values.dtype, np.number)
        if values.shape != (len(samples),) or (number and not np.isfinite(values).all()):
            raise BadInput(
                f"trait {name!r} of domain {domain.name!r} needs one finite number or label for each of "
                f"{len(samples)} samples"
            )
    return {name: found[name] for name in sorted(found)}


# ---------------------------------------------------------------------------------------------- twin outcomes


@dataclass(frozen=True)
class TwinOutcome:
    """The outcomes of one seed's samples under one method."""

    counted: np.ndarray  # bool [n]: the items, which are the valid baseline samples
    failed: np.ndarray  # bool [n]
    disputed: int = 0  # samples that are not counted, since the record's own baseline has other flags


def twin_outcomes_of(records: Sequence[Record], items: Items, say: Say) -> dict[int, TwinOutcome]:
    """Sampling seed -> outcome. Seeds whose network diverged have no twins and are left out."""
    found = {}
    for record in records:
        if record.status not in FINISHED or not record.items:
            continue
        if record.sample_seed in items.valid:
            found[record.sample_seed] = outcome_of(record, items.valid[record.sample_seed])
        else:
            say(
                f"left out {record.method} seed {record.sample_seed}: the baseline of this seed has no record"
            )
    return found


def outcome_of(record: Record, valid: np.ndarray) -> TwinOutcome:
    """The outcome of one record. `valid` [n] is the recorded baseline.

    The record's twins were compared with a baseline of its own run, perhaps on another machine. Samples on
    whose validity the two disagree are not counted. Raises `BadInput` where more than `OTHER_FLOATS` of all
    samples disagree.
    """
    intact, drifted, degraded = (record.items[name].unpack() for name in ("intact", "drifted", "degraded"))
    own = intact | drifted | degraded
    differ = int((own != valid).sum()) if own.shape == valid.shape else len(own)
    if differ > OTHER_FLOATS * len(valid):
        what = f"the twins of {record.method} seed {record.sample_seed}"
        raise BadInput(
            f"{what} were compared with another baseline: {differ} of {len(valid)} flags of validity differ"
        )
    return TwinOutcome(own & valid, degraded & valid, differ)


def say_disputed(outcomes: Mapping[str, Mapping[int, TwinOutcome]], n: int, say: Say) -> None:
    """Report in one line where baselines were computed with other floats."""
    found = {}
    for method, seeds in outcomes.items():
        if most := max((one.disputed for one in seeds.values()), default=0):
            found[method] = most
    if found:
        methods = (
            f"{len(found)} methods ({min(found)} ...) were compared with a baseline from another "
            f"machine, whose floats differ"
        )
        say(
            f"{methods}; samples with other flags are not counted: at most {max(found.values())} of {n} a "
            f"seed"
        )


def survival_of(outcomes: Mapping[int, TwinOutcome], items: Items, bins: Mapping[str, Bins]) -> Survival:
    """Survival under one method, with its seeds pooled."""
    counted = {seed: one.counted for seed, one in outcomes.items()}
    failed = np.concatenate([one.failed[one.counted] for one in outcomes.values()])
    return survivors.survival(failed, {name: items.pooled(name, counted) for name in bins}, bins)


def ladder_steps(outcomes: Mapping[str, Mapping[int, TwinOutcome]], recalibrated: bool) -> list[Step]:
    """Neighbouring rungs of the primary ladder that both have twins.

    Their common seeds and items are pooled.
    """
    found = []
    for milder, harsher in pairwise(ladder(recalibrated)):
        before, after = outcomes.get(milder, {}), outcomes.get(harsher, {})
        if both := {
            seed: before[seed].counted & after[seed].counted for seed in sorted(before.keys() & after.keys())
        }:
            table = survivors.transition(_failed(before, both), _failed(after, both))
            found.append(Step(milder=milder, harsher=harsher, table=table))
    return found


def _failed(outcomes: Mapping[int, TwinOutcome], counted: Flags) -> np.ndarray:
    """Which of the counted samples failed, with the seeds pooled."""
    return np.concatenate([outcomes[seed].failed[which] for seed, which in counted.items()])
