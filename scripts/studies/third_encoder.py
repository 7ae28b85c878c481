"""Asks an encoder that was trained on other damages whether it comes to the same conclusions about diversity.

    python -m scripts.studies.third_encoder            # what is missing is measured, then all tables

It measures the matrix of damages, then the ladders of s@0 in both image domains, sampling seed 0. That takes
about 20 minutes on one core. `third_encoder.json` holds what is done, so a stopped run continues. All three
encoders score the very same samples, which are drawn again here. File sizes, and the scores of text, come
from the published records.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.evaluation.bounds import Bounds
from bench.evaluation.secondary import OneEvaluator, secondary_block
from bench.methods.notation import LADDER, ladder, parse
from bench.records.schema import PRIMARY_METRIC, EvaluatorBlock, Record, metric_of, read_records
from bench.registry import open_domain
from bench.report.cells import table, with_interval
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.stats.compressibility import recalibrated_ladder
from bench.stats.ladder import ModelLadder, comparable, measured
from bench.stats.rank_agreement import as_secondary_sees
from bench.stats.scores import Score, model_score
from bench.util.files import write_atomically
from domains.images.damages import DAMAGES
from domains.images.encoder import SPOILS, Spoil
from domains.images.third_encoder import HELD_OUT, TRAINED, ThirdEncoder
from domains.images.training import generator

RESULTS = Path("results")
FILE = Path(__file__).with_suffix(".json")
DOMAINS, MODEL, SAMPLES = ("image_gan", "image_diffusion"), "s@0", 2000
FIRST, SECOND, THIRD = "encoder", "restorer", "third_encoder"
PRUNED = ("magnitude", "magnitude:sparsity=0.75")
ROLE = "diversity"
MUTUAL_RECALL = PRIMARY_METRIC[ROLE]
HALF = 0.5  # of the largest strength in training; a smear is then five pixels long
# known damages that no encoder was trained with, and those of variety, which every encoder must see
OTHER = (
    *("JPEG 10", "block of 7x7 lost", "rotated 3°"),
    *("averages of two", "half repeated", "ten copies of a tenth", "five of ten classes"),
)
KEPT = 0.95  # of the undamaged mutual recall, where only a surface is damaged: the bound of `DAMAGES`
CLIFFS = (0.9, 0.5)  # retentions whose rung is named


@click.command()
def main() -> None:
    """Measure what `third_encoder.json` lacks, and print the tables of docs/secondary-evaluators.md."""
    found = Found(ThirdEncoder().identity())
    measure_matrix(found)
    click.echo(matrix_table(found.content["matrix"]))
    seen: dict[str, Seen] = {"text": as_published(records_of("text"))}
    for domain in DOMAINS:
        measure_ladder(domain, found)
        records = records_of(domain)
        seen[domain] = by_evaluator(records, found.blocks(domain))
        click.echo(f"\n{domain} {MODEL}, retention of diversity\n\n{ladder_table(seen[domain])}")
        click.echo(f"\nFarthest from the published records: {farthest(records, seen[domain]):.3f}")
    click.echo(f"\n{score_table(seen)}")


class Found:
    """What was measured so far, for one set of weights; each addition is written at once."""

    def __init__(self, weights_sha256: str, path: Path = FILE) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if self.content.get("weights_sha256") != weights_sha256:
            self.content = {"weights_sha256": weights_sha256, "matrix": {}}

    def add(self, part: str, name: str, value: Any) -> None:
        """Keep a value under a part and a name."""
        self.content.setdefault(part, {})[name] = value
        write_atomically(self.path, json.dumps(self.content, indent=1, ensure_ascii=False) + "\n")

    def blocks(self, domain: str) -> dict[str, dict[str, EvaluatorBlock]]:
        """Method -> encoder -> what it says about the samples."""
        found = {}
        for method, said in self.content.get(domain, {}).items():
            found[method] = {name: EvaluatorBlock.model_validate(block) for name, block in said.items()}
        return found


# ---------------------------------------------------------------------------------------- matrix of damages


def cases() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Damage -> pixels to damaged pixels: every kind at half of its strength, and the known ones."""
    kinds = {**TRAINED, **HELD_OUT}
    found = {name: functools.partial(damaged, kind=kind) for name, kind in kinds.items()}
    return {**found, **{name: DAMAGES[name].apply for name in OTHER}}


def damaged(pixels: np.ndarray, kind: Spoil, strength: float = HALF) -> np.ndarray:
    """uint8 [n, 1, 28, 28] -> the same pictures after one kind of damage."""
    images = torch.from_numpy(pixels).float() / 255
    spoilt = kind(images, torch.full((len(images), 1, 1, 1), strength), generator(0, 0, "study"))
    return (255 * spoilt.clamp(0, 1)).round().to(torch.uint8).numpy()


def was_trained(encoder: str, damage: str) -> bool:
    """Whether an encoder learnt to look through a kind of damage."""
    old = {function.__name__.strip("_") for function in SPOILS}
    return ("rotate" if damage == "rotated 3°" else damage) in (TRAINED if encoder == THIRD else old)


def measure_matrix(found: Found) -> None:
    """Add the share of the undamaged mutual recall that each encoder keeps, damage by damage."""
    undamaged = open_domain(DOMAINS[0]).reference("ceiling")[:SAMPLES]
    for name, apply in cases().items():
        if name not in found.content["matrix"]:
            pictures = apply(undamaged)
            shares = {encoder: share(encoder, undamaged, pictures) for encoder in (FIRST, SECOND, THIRD)}
            found.add("matrix", name, shares)


def share(encoder: str, undamaged: np.ndarray, pictures: np.ndarray) -> float:
    """The mutual recall of damaged pictures, divided by that of equally many undamaged ones."""
    panel = OneEvaluator(open_domain(DOMAINS[0]), len(pictures), roles={encoder: ROLE})
    now, before = (panel.verdict(x).metrics[MUTUAL_RECALL] for x in (pictures, undamaged[: len(pictures)]))
    return round(now / before, 4)


def matrix_table(matrix: Mapping[str, Mapping[str, float]]) -> str:
    """One row a damage; a star marks a kind that the encoder was trained with."""
    lines = []
    for name in cases():
        hurts = DAMAGES[name].hurts if name in OTHER else "surface"
        shares = matrix[name]
        marked = [f"{shares[e]:.2f}{' *' if was_trained(e, name) else ''}" for e in (FIRST, SECOND, THIRD)]
        lines.append([name, hurts, *marked])
    return table(["damage", "hurts", FIRST, SECOND, THIRD], lines, left=2)


# ------------------------------------------------------------------------------------------------- the ladder


def records_of(domain: str) -> list[Record]:
    """The published records of the model under sampling seed 0, of one set of conditions."""
    known = [r for r in read_records(RESULTS) if (r.domain, r.model) == (domain, MODEL)]
    return [r for r in comparable(known) if r.sample_seed == 0]


def methods_of(records: Sequence[Record]) -> list[str]:
    """The baseline, the primary ladder and two levels of pruning, as this model's records name them."""
    recalibrated = recalibrated_ladder(records)
    suffix = "+recalibrate" if recalibrated else ""
    return ["none", *ladder(recalibrated), *(method + suffix for method in PRUNED)]


def measure_ladder(domain_name: str, found: Found) -> None:
    """Add what the three encoders say about the samples of every cell that the file lacks."""
    known = found.content.get(domain_name, {})
    lacking = [method for method in methods_of(records_of(domain_name)) if method not in known]
    if not lacking:
        return
    domain = open_domain(domain_name)
    session = ModelSession(domain, domain.locate(MODEL), SAMPLES)
    asked = judges(Evaluation(session, evaluators=(THIRD,)))
    baseline = session.sample(session.generator.network, 0).samples
    before = {name: scorer.verdict(baseline) for name, (scorer, _) in asked.items()}
    for method in lacking:
        samples = session.sample(session.compressed(parse(method), 0), 0).samples
        said = {}
        for name, (scorer, bounds) in asked.items():
            block = secondary_block(scorer, scorer.verdict(samples), before[name], bounds, method == "none")
            flags = {MUTUAL_RECALL: block.items[MUTUAL_RECALL]}
            said[name] = block.model_copy(update={"items": flags}).model_dump()
        found.add(domain_name, method, said)


def judges(evaluation: Evaluation) -> dict[str, tuple[OneEvaluator, Bounds]]:
    """Encoder -> the panel of it alone, and its floors and ceiling."""
    domain, n = evaluation.session.domain, evaluation.session.n
    panels = {name: OneEvaluator(domain, n, roles={name: ROLE}) for name in (FIRST, SECOND, THIRD)}
    bounds = {name: evaluation.secondary_bounds(name) for name in (SECOND, THIRD)}
    return {name: (panel, bounds.get(name, evaluation.bounds)) for name, panel in panels.items()}


def as_seen(record: Record, name: str, block: EvaluatorBlock) -> Record:
    """The record with a block of this study in the place of the primary evaluator of diversity."""
    others = {other: b for other, b in record.evaluators.items() if b.role != ROLE}
    said = {f"{ROLE}_{what}": block.metrics[what] for what in ("retention", "u") if what in block.metrics}
    metrics = {**record.metrics, metric_of(ROLE): block.metrics[MUTUAL_RECALL], **said}
    return record.model_copy(update={"metrics": metrics, "evaluators": {**others, name: block}})


Seen = Mapping[str, Mapping[str, Record]]  # evaluator -> method -> the record as it sees it


def by_evaluator(records: Sequence[Record], blocks: Mapping[str, Mapping[str, EvaluatorBlock]]) -> Seen:
    """The records of a domain as each of this study's encoders sees them; `blocks` by method."""
    seen: dict[str, dict[str, Record]] = {FIRST: {}, SECOND: {}, THIRD: {}}
    for record in records:
        for name, block in blocks.get(record.method, {}).items():
            seen[name][record.method] = as_seen(record, name, block)
    return seen


def as_published(records: Sequence[Record]) -> Seen:
    """The same by the published blocks of both sets of evaluators: for text, which has other ones."""
    second = {r.method: other for r in records if (other := as_secondary_sees(r)) is not None}
    return {"wordllama": {r.method: r for r in records}, "topics": second}


def kept_of(record: Record) -> float:
    """The retention of diversity. Raises `ValueError` where the record has none."""
    value = record.metric(f"{ROLE}_retention")
    if value is None:
        raise ValueError(f"{record.domain} {record.method} has no retention of diversity")
    return value


def ladder_table(seen: Seen) -> str:
    """One row a method: the file's ratio and each encoder's retention."""
    lines = []
    for method in methods_of(list(seen[THIRD].values())):
        ratio = cost.ratio if (cost := seen[THIRD][method].cost) else math.nan
        lines.append([method, f"{ratio:.1f}", *(f"{kept_of(by[method]):.3f}" for by in seen.values())])
    return table(["method", "times smaller", *seen], lines)


def farthest(records: Sequence[Record], seen: Seen) -> float:
    """The largest difference of the first encoder's retention here from that of the published records."""
    published = {r.method: r for r in records}
    return max(abs(kept_of(r) - kept_of(published[m])) for m, r in seen[FIRST].items())


# --------------------------------------------------------------------------------------------- conclusions


def scored(records: Mapping[str, Record]) -> tuple[ModelLadder, Score]:
    """The ladder and its score of diversity. Raises `ValueError` where rungs are missing."""
    found = measured(list(records.values()))
    score = None if found is None else model_score(found, ROLE)
    if found is None or score is None:
        raise ValueError(f"rungs are missing of {sorted({r.domain for r in records.values()})}")
    return found, score


def cliff(found: ModelLadder, below: float) -> str:
    """The mildest rung from which on every retention is below a bound."""
    kept = dict(zip(found.rungs, found.outcomes[ROLE].mean))
    lost: list[str] = []
    for rung in reversed(LADDER):
        if kept[rung] >= below:
            break
        lost.append(rung)
    return lost[-1] if lost else "none"


def score_table(seen: Mapping[str, Seen]) -> str:
    """C and the cliffs of each domain, by each encoder."""
    lines = []
    for domain, by in seen.items():
        for evaluator, by_method in by.items():
            model, score = scored(by_method)
            lines.append([domain, evaluator, with_interval(score), *(cliff(model, b) for b in CLIFFS)])
    headers = ["domain", "evaluator", "C of diversity", *(f"below {bound:g} from" for bound in CLIFFS)]
    return table(headers, lines, left=2)


if __name__ == "__main__":
    main()
