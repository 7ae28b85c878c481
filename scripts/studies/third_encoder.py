"""Asks an encoder that was trained on other damages whether it comes to the same conclusions about diversity.

    python -m scripts.studies.third_encoder            # what is missing is measured, then all tables

It measures the matrix of damages, then the ladders of s@0 in both image domains, sampling seed 0. That takes
about 20 minutes on one core. `third_encoder.json` holds what is done, so a stopped run continues. The other
encoders' scores come from the published records. Samples are drawn again, and must be those of the records.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from bench.evaluation.secondary import OneEvaluator, secondary_block
from bench.methods.notation import LADDER, ladder
from bench.records.schema import PRIMARY_METRIC, EvaluatorBlock, Record, metric_of, read_records
from bench.registry import open_domain
from bench.report.report_data import table, with_interval
from bench.runner.evaluate_secondary import samples_of
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
    for domain in DOMAINS:
        measure_ladder(domain, found)
    click.echo(matrix_table(found.content["matrix"]))
    records = {domain: records_of(domain) for domain in (*DOMAINS, "text")}
    for domain in DOMAINS:
        seen = by_evaluator(records[domain], found.blocks(domain))
        click.echo(f"\n{domain} {MODEL}, retention of diversity\n\n{ladder_table(seen)}")
    click.echo(f"\n{score_table(records, found)}")


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

    def blocks(self, domain: str) -> dict[str, EvaluatorBlock]:
        """Method -> what the third encoder says about its samples."""
        stored = self.content.get(domain, {})
        return {method: EvaluatorBlock.model_validate(block) for method, block in stored.items()}


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
    return damage in (TRAINED if encoder == THIRD else old)


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
    """Add the third encoder's scores of every cell that the file lacks."""
    records = {r.method: r for r in records_of(domain_name)}
    lacking = [m for m in methods_of(list(records.values())) if m not in found.content.get(domain_name, {})]
    if not lacking:
        return
    domain = open_domain(domain_name)
    session = ModelSession(domain, domain.locate(MODEL), SAMPLES)
    evaluation = Evaluation(session, evaluators=(THIRD,))
    scorer = evaluation.secondary.scorers[THIRD]
    assert isinstance(scorer, OneEvaluator)
    bounds = evaluation.secondary_bounds(THIRD)
    before = scorer.verdict(samples_of(records["none"], evaluation))
    for method in lacking:
        now = scorer.verdict(samples_of(records[method], evaluation))
        block = secondary_block(scorer, now, before, bounds, method == "none")
        kept = block.model_copy(update={"items": {MUTUAL_RECALL: block.items[MUTUAL_RECALL]}})
        found.add(domain_name, method, kept.model_dump())


def as_seen(record: Record, block: EvaluatorBlock) -> Record:
    """The record with another evaluator of diversity in the place of the primary one."""
    others = {name: b for name, b in record.evaluators.items() if b.role != ROLE}
    said = {f"{ROLE}_{name}": block.metrics[name] for name in ("retention", "u") if name in block.metrics}
    metrics = {**record.metrics, metric_of(ROLE): block.metrics[MUTUAL_RECALL], **said}
    return record.model_copy(update={"metrics": metrics, "evaluators": {**others, THIRD: block}})


def by_evaluator(
    records: Sequence[Record], blocks: Mapping[str, EvaluatorBlock]
) -> dict[str, dict[str, Record]]:
    """Evaluator -> method -> the record as that evaluator of diversity sees it."""
    seen = {r.method: other for r in records if (other := as_secondary_sees(r)) is not None}
    third = {r.method: as_seen(r, blocks[r.method]) for r in records if r.method in blocks}
    return {FIRST: {r.method: r for r in records}, SECOND: seen, **({THIRD: third} if third else {})}


def kept_of(record: Record) -> float:
    """The retention of diversity. Raises `ValueError` where the record has none."""
    value = record.metric(f"{ROLE}_retention")
    if value is None:
        raise ValueError(f"{record.domain} {record.method} has no retention of diversity")
    return value


def ladder_table(seen: Mapping[str, Mapping[str, Record]]) -> str:
    """One row a method: the file's ratio and each evaluator's retention."""
    lines = []
    for method, record in seen[THIRD].items():
        ratio = f"{record.cost.ratio:.1f}x" if record.cost else ""
        lines.append([method, ratio, *(f"{kept_of(by[method]):.3f}" for by in seen.values())])
    order = {method: i for i, method in enumerate(methods_of(list(seen[FIRST].values())))}
    lines.sort(key=lambda line: order[line[0]])
    return table(["method", "smaller", *seen], lines)


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


def score_table(records: Mapping[str, Sequence[Record]], found: Found) -> str:
    """C and the cliffs of each domain, by each encoder. Text has encoders of its own, for the order."""
    return table(
        ["domain", "evaluator", "C of diversity", *(f"below {bound:g} from" for bound in CLIFFS)],
        list(_score_lines(records, found)),
        left=2,
    )


def _score_lines(records: Mapping[str, Sequence[Record]], found: Found) -> Iterator[list[str]]:
    names = {"text": {FIRST: "wordllama", SECOND: "topics"}}
    for domain, same in records.items():
        for evaluator, by_method in by_evaluator(same, found.blocks(domain)).items():
            model, score = scored(by_method)
            said = names.get(domain, {}).get(evaluator, evaluator)
            yield [domain, said, with_interval(score), *(cliff(model, bound) for bound in CLIFFS)]


if __name__ == "__main__":
    main()
