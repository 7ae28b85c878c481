"""The studies of compression during training: what is measured, in which order, and their tables.

    python -m scripts.studies.training_time run 1           # measure the cells of study 1 that are missing
    python -m scripts.studies.training_time list 1          # their commands
    python -m scripts.studies.training_time curves 4        # quality and diversity at each tenth of the steps
    python -m scripts.studies.training_time table 4         # the table of study 4, from the records
    python -m scripts.studies.training_time ship 1          # copy trained files to the models' folders

A cell trains a network first, which takes 5 to 60 minutes on one core. A run that was stopped continues.
`curves` reads the snapshots of trainings that this machine made, and adds to `training_curves.json`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, stdev

import numpy as np
from tabulate import tabulate

from bench.artifact.format import rebuild
from bench.evaluation.verdicts import retention
from bench.methods.batch_norm import layers_with_statistics, reestimate
from bench.methods.notation import CONTROL, parse, without_seed
from bench.methods.plain import original
from bench.methods.trained import OUTCOME, RESULT, Attempt, TrainingTimeMethod
from bench.records.schema import Record, metric_of, read_records
from bench.registry import open_domain
from bench.runner.evaluation import Evaluation
from bench.runner.run_cell import COLLAPSED_BELOW
from bench.runner.session import ModelSession
from bench.runner.sweep import Request, run
from bench.stats.ladder import ROLES
from bench.util.files import write_atomically

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
CURVES = Path(__file__).parent / "training_curves.json"
DOMAINS = ("text", "image_diffusion", "image_gan")
SAMPLING_SEEDS = (0, 1, 2)
CURVE_SAMPLES = 1000
LARGEST_SHIPPED = 200_000  # bytes
PERMUTATIONS = 10_000


@dataclass(frozen=True)
class Planned:
    """A cell of a study."""

    domain: str
    model: str
    method: str

    @property
    def command(self) -> str:
        seeds = " ".join(f"--seed {seed}" for seed in SAMPLING_SEEDS)
        return (
            f"python -m bench run --domain {self.domain} --model {self.model} --method {self.method} {seeds} "
            f"--results results"
        )


def every(models: Sequence[str], methods: Sequence[str], domains: Sequence[str] = DOMAINS) -> list[Planned]:
    """Model by model, so that whole comparisons come first."""
    return [Planned(d, m, text) for m, text, d in itertools.product(models, methods, domains)]


GRIDS = ("qat:grid=binary", "qat:grid=ternary", "qat:grid=int3")
XS, S = ("xs@0", "xs@1", "xs@2"), ("s@0", "s@1", "s@2")
FROM_SCRATCH = "start=scratch,budget=1"
PAIR = ("", ",networks=discriminator", ",networks=both")
SEEDS = range(5)
STUDIES: Mapping[str, list[Planned]] = {
    # after or during training?
    "1": [
        *every(XS, (*GRIDS[:2], "finetune")),
        *every(S, (*GRIDS, "finetune")),
        *every(("s@0",), ("qat:grid=int2",)),
        *every(XS, GRIDS[2:]),
    ],
    # from scratch or from the trained network?
    "2": every(XS, ("qat:grid=binary,budget=1", f"qat:grid=binary,{FROM_SCRATCH}")),
    # which network of the GAN?
    "3": every(
        XS,
        [
            *(
                f"qat:grid=binary,{FROM_SCRATCH}{which}"
                for which in ("", ",networks=discriminator", ",networks=both")
            ),
            f"qat:grid=int4,{FROM_SCRATCH},networks=both",
        ],
        ("image_gan",),
    ),
    # stability: five seeds of the training's noise
    "4": every(
        ("xs@0",),
        [
            text + (f",seed={seed}" if ":" in text else f":seed={seed}") * (seed > 0)
            for seed in SEEDS
            for text in ("finetune", "qat:grid=ternary", "qat:grid=binary")
        ],
    ),
    # pruning with training
    "5": every(("s@0",), ("prune_train:sparsity=0.9", "prune_train:pattern=2:4")),
}


# ------------------------------------------------------------------------------------------------ measure


def measure(study: str, only: Sequence[str]) -> None:
    for cell in chosen(study, only):
        print(cell.command, flush=True)
        request = Request(
            cell.domain,
            cell.model,
            (cell.method,),
            SAMPLING_SEEDS,
            results=RESULTS,
            command=cell.command,
        )
        run(request, lambda line: print(line, flush=True))


def chosen(study: str, only: Sequence[str]) -> list[Planned]:
    """The cells of a study, of some domains or of all."""
    return [cell for cell in STUDIES[study] if not only or cell.domain in only]


# ------------------------------------------------------------------------------- quality over the training


def curves(study: str, only: Sequence[str]) -> None:
    """Add the retentions of all snapshots of this machine that the file lacks."""
    found = json.loads(CURVES.read_text(encoding="utf-8")) if CURVES.exists() else {}
    for (name, model), cells in itertools.groupby(chosen(study, only), key=lambda c: (c.domain, c.model)):
        domain = open_domain(name)
        session = ModelSession(domain, domain.locate(model), CURVE_SAMPLES)
        evaluation = Evaluation(session)
        for cell in cells:
            key = f"{cell.domain} {cell.model} {cell.method}"
            folder = attempt_of(cell, session).folder
            lines = found.get(key, [])
            known = {line["step"] for line in lines}
            for path in sorted((folder / "snapshots").glob("*.genc")):
                if int(path.stem) not in known:
                    lines.append({"step": int(path.stem), **retentions(path, evaluation)})
                    print(key, json.dumps(lines[-1]), flush=True)
                    found[key] = sorted(lines, key=lambda line: line["step"])
                    write_atomically(CURVES, json.dumps(found, indent=1) + "\n")


def retentions(path: Path, evaluation: Evaluation) -> dict[str, float | None]:
    """Retention of quality and of diversity of one snapshot, on sampling seed 0."""
    session = evaluation.session
    network = rebuild(path, session.generator)
    if layers_with_statistics(network):
        reestimate(network, session.generator.calibration(0))
    seen = evaluation.panel.observe(session.sample(network, 0).samples, "samples")
    metrics = evaluation.panel.metrics_of(seen, evaluation.panel.verdicts(seen))
    before = evaluation.panel.metrics_of(*evaluation.baseline(0))
    found = {}
    for role in ROLES:
        name = metric_of(role)
        value = metrics[name]
        assert value is not None
        found[role] = retention(value, before[name], evaluation.bounds.floor(name), CURVE_SAMPLES)
    return found


# ------------------------------------------------------------------------------------------------- tables


def table(study: str, only: Sequence[str]) -> None:
    """Print the table of a study, from the records."""
    found: dict[Planned, list[Record]] = {cell: [] for cell in chosen(study, only)}
    for record in read_records(RESULTS):
        cell = Planned(record.domain, record.model, record.method)
        if cell in found:
            found[cell].append(record)
    found = {cell: records for cell, records in found.items() if records}
    if study == "4":
        print(stability(found))
        return
    lines = [[*vars(cell).values(), *figures(records)] for cell, records in found.items()]
    headers = ["domain", "model", "method", "ratio", "quality", "diversity", "steps", "core-minutes"]
    print(tabulate(lines, headers, tablefmt="github", floatfmt=".3f", disable_numparse=True))


def figures(records: Sequence[Record]) -> list[str]:
    """[ratio, quality, diversity, steps, core-minutes] of one cell, means over its sampling seeds."""
    sizes = [r.cost.ratio for r in records if r.cost]
    trainings = records[0].trainings
    return [
        f"{fmean(sizes):.1f}x" if sizes else "-",
        *(f"{kept(records, role):.3f}" for role in ROLES),
        f"{sum(one.steps for one in trainings):,}" if trainings else "diverged",
        f"{sum(one.core_seconds for one in trainings) / 60:.0f}",
    ]


def kept(records: Sequence[Record], role: str) -> float:
    """The mean retention over sampling seeds; 0 for a network that diverged."""
    return fmean(r.metric(f"{role}_retention") or 0.0 for r in records)


def stability(found: Mapping[Planned, Sequence[Record]]) -> str:
    """One line for each domain and method, over the seeds of the training's noise.

    - failed: trainings that diverged, or whose quality or diversity collapsed.
    - spread: standard deviation of the retention over the seeds. p: of a permutation test against the
      control's spread, one-sided.
    - oscillation: standard deviation of the main loss within the last tenth of the steps, over its mean.
    - gradient: 99th percentile of the gradient's norm over its median, mean over the tenths of the training.
    """
    groups: dict[tuple[str, str], list[Sequence[Record]]] = {}
    for cell, records in found.items():
        groups.setdefault((cell.domain, without_seed(cell.method)), []).append(records)
    lines = []
    for (domain, method), cells in groups.items():
        line = [domain, method, str(len(cells)), str(sum(map(failed, cells)))]
        for role in ROLES:
            values = [kept(records, role) for records in cells]
            control = [kept(records, role) for records in groups.get((domain, CONTROL), [])]
            line += [f"{fmean(values):.3f}", f"{stdev(values):.3f}" if len(values) > 1 else "-"]
            tested = method != CONTROL and min(len(values), len(control)) > 2
            line.append(f"{more_spread(values, control):.3f}" if tested else "-")
        logs = [records[0].trainings[0].log for records in cells if records[0].trainings]
        lines.append(
            [*line, *(f"{fmean(map(of, logs)):.3f}" if logs else "-" for of in (oscillation, peaks))]
        )
    headers = ["domain", "method", "seeds", "failed"]
    headers += [f"{role}{part}" for role in ROLES for part in ("", " spread", " p")]
    return tabulate(lines, [*headers, "oscillation", "gradient"], tablefmt="github", disable_numparse=True)


def failed(records: Sequence[Record]) -> bool:
    """Whether the training diverged, or the mean retention of a role is below `COLLAPSED_BELOW`."""
    return any(r.status == "diverged" for r in records) or any(
        kept(records, role) < COLLAPSED_BELOW for role in ROLES
    )


def oscillation(log: Sequence[Mapping[str, float]]) -> float:
    """Of the last tenth of the steps: standard deviation of the main loss over its mean."""
    main = "generator" if "generator" in log[-1] else "loss"
    return log[-1][f"{main}_sd"] / abs(log[-1][main])


def peaks(log: Sequence[Mapping[str, float]]) -> float:
    """How far the gradient's 99th percentile lies above its median."""
    return fmean(line["gradient_norm_p99"] / max(line["gradient_norm"], 1e-12) for line in log)


def more_spread(values: Sequence[float], control: Sequence[float]) -> float:
    """One-sided p: do the values deviate more from their median than the control's from theirs?

    A permutation test of the difference of mean absolute deviations (Brown and Forsythe 1974).
    """
    deviations = [np.abs(np.array(group) - median(group)) for group in (values, control)]
    pooled, count = np.concatenate(deviations), len(values)
    observed = deviations[0].mean() - deviations[1].mean()
    noise = np.random.default_rng(0)
    drawn = [noise.permutation(pooled) for _ in range(PERMUTATIONS)]
    larger = sum(order[:count].mean() - order[count:].mean() >= observed - 1e-12 for order in drawn)
    return (larger + 1) / (PERMUTATIONS + 1)


def ship(study: str, only: Sequence[str]) -> None:
    """Copy the results of this machine's trainings to the folders of their models.

    A cell is then measured again without training. Files above `LARGEST_SHIPPED` stay in the cache.
    """
    for (name, model), cells in itertools.groupby(chosen(study, only), key=lambda c: (c.domain, c.model)):
        domain = open_domain(name)
        session = ModelSession(domain, domain.locate(model), CURVE_SAMPLES)
        for cell in cells:
            attempt = attempt_of(cell, session)
            outcome, result = attempt.folder / OUTCOME, attempt.folder / RESULT
            if not outcome.exists() or (result.exists() and result.stat().st_size > LARGEST_SHIPPED):
                continue
            assert attempt.shipped is not None
            for path in filter(Path.exists, (result, outcome)):
                write_atomically(attempt.shipped / path.name, path.read_bytes())
            print(attempt.shipped.relative_to(ROOT))


def attempt_of(cell: Planned, session: ModelSession) -> Attempt:
    """The training of a cell whose method has one link."""
    link = parse(cell.method).links[0]
    assert isinstance(link, TrainingTimeMethod)
    return Attempt(link, original(session.generator.network), session.context(0))


def commands(study: str, only: Sequence[str]) -> None:
    """Print the commands of a study."""
    for cell in chosen(study, only):
        print(cell.command)


ACTIONS: Mapping[str, Callable[[str, Sequence[str]], None]] = {
    "run": measure,
    "list": commands,
    "curves": curves,
    "table": table,
    "ship": ship,
}


def main(action: str, study: str, *only: str) -> None:
    if action not in ACTIONS or study not in STUDIES or not set(only) <= set(DOMAINS):
        sys.exit(f"usage: {'|'.join(ACTIONS)} {'|'.join(STUDIES)} [{'|'.join(DOMAINS)}]")
    ACTIONS[action](study, only)


if __name__ == "__main__":
    main(*sys.argv[1:])
