"""The studies of compression during training: what is measured, and in which order.

    python -m scripts.studies.training_time run 1           # measure the cells of study 1 that are missing
    python -m scripts.studies.training_time list 1          # their commands
    python -m scripts.studies.training_time curves 4        # quality and diversity at each tenth of the steps
    python -m scripts.studies.training_time ship 1          # copy trained files to the models' folders

A cell trains a network first, which takes 5 to 60 minutes on one core. A run that was stopped continues.
`python -m scripts.studies.training_tables` writes the tables of all studies to docs/training-time.md.
`curves` reads the snapshots of trainings that this machine made, and adds to `training_curves.json`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.artifact.format import rebuild
from bench.evaluation.verdicts import retention
from bench.interfaces import Samples
from bench.methods.notation import CONTROL, parse, with_seed
from bench.methods.plain import original
from bench.methods.trained import OUTCOME, RESULT, Attempt, TrainingTimeMethod
from bench.records.schema import metric_of
from bench.registry import open_domain
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.runner.sweep import Request, run
from bench.stats.ladder import ROLES
from bench.util.files import write_atomically

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
CURVES = Path(__file__).parent / "training_curves.json"
TEXT, DIFFUSION, GAN = DOMAINS = ("text", "image_diffusion", "image_gan")
SAMPLING_SEEDS = (0, 1, 2)
CURVE_SAMPLES = 1000
LARGEST_SHIPPED = 220_000  # bytes


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


def from_scratch(method: str, domains: Sequence[str] = DOMAINS, networks: str = "") -> list[Planned]:
    """The whole recipe from untrained weights. The seed of the model is that of its weights, too."""
    return [
        Planned(cell.domain, cell.model, with_seed(cell.method, int(cell.model.partition("@")[2])))
        for cell in every(XS, (f"{method},{FROM_SCRATCH}{networks}",), domains)
    ]


GRIDS = ("qat:grid=binary", "qat:grid=ternary", "qat:grid=int3")
XS, S = ("xs@0", "xs@1", "xs@2"), ("s@0", "s@1", "s@2")
FROM_SCRATCH = "start=scratch,budget=1"
BINARY, TERNARY, INT3 = GRIDS
PAIR = ("", ",networks=discriminator", ",networks=both")
SEEDS = range(5)
STUDIES: Mapping[str, list[Planned]] = {
    # after or during training?
    "1": [
        *every(XS, (BINARY, TERNARY, CONTROL)),
        *every(S, (*GRIDS, CONTROL)),
        *every(("s@0",), ("qat:grid=int2",)),
        *every(XS, (INT3,)),
    ],
    # from scratch or from the trained network? Each model has untrained weights of its own
    "2": [
        *every(XS, (f"{BINARY},budget=1",)),
        *from_scratch(BINARY),
    ],
    # which network of the GAN?
    "3": [
        *(cell for which in PAIR for cell in from_scratch(BINARY, (GAN,), which)),
        *from_scratch("qat:grid=int4", (GAN,), ",networks=both"),
    ],
    # stability: five seeds of the training's noise
    "4": every(
        ("xs@0",),
        [with_seed(text, seed) for seed in SEEDS for text in (CONTROL, TERNARY, BINARY)],
    ),
    # pruning with training
    "5": every(("s@0",), ("prune_train:sparsity=0.9", "prune_train:pattern=2:4")),
    # what helps where a grid loses much
    "6": [
        *every(("xs@0",), [f"{grid},ends=int8" for grid in (BINARY, TERNARY)]),
        *every(("xs@0",), [f"{BINARY},teacher"]),
        *every(("xs@0",), [f"{BINARY},anneal=0.5", "parq:grid=binary"], (TEXT,)),
        *every(("s@0",), [f"{BINARY},teacher"], (GAN,)),
    ],
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


Curves = dict[str, list[dict[str, float]]]  # `domain model method` -> step and retentions of snapshots


def read_curves() -> Curves:
    """All curves that were measured."""
    found: Curves = json.loads(CURVES.read_text(encoding="utf-8")) if CURVES.exists() else {}
    return found


def curves(study: str, only: Sequence[str]) -> None:
    """Add the retentions of all snapshots of this machine that the file lacks."""
    found = read_curves()
    for (name, model), cells in itertools.groupby(chosen(study, only), key=lambda c: (c.domain, c.model)):
        domain = open_domain(name)
        session = ModelSession(domain, domain.locate(model), CURVE_SAMPLES)
        evaluation = Evaluation(session)
        for cell in cells:
            key = f"{cell.domain} {cell.model} {cell.method}"
            lines = found.get(key, [])
            known = {line["step"] for line in lines}
            for step, path in networks_over_time(attempt_of(cell, session).folder).items():
                if step not in known:
                    lines.append({"step": step, **retentions(path, evaluation)})
                    print(key, json.dumps(lines[-1]), flush=True)
                    found[key] = sorted(lines, key=lambda line: line["step"])
                    write_atomically(CURVES, json.dumps(found, indent=1) + "\n")


def networks_over_time(folder: Path) -> dict[int, Path]:
    """Step -> file, at each tenth of the steps of a finished training; none where it is not finished."""
    if not (folder / RESULT).exists():
        return {}
    steps = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))["steps"]
    snapshots = sorted((folder / "snapshots").glob("*.genc"))
    return {**{int(path.stem): path for path in snapshots}, steps: folder / RESULT}


def retentions(path: Path, evaluation: Evaluation) -> dict[str, float]:
    """Retention of quality and of diversity of one snapshot, on sampling seed 0."""
    session = evaluation.session
    return kept_of(session.sample(rebuild(path, session.generator), 0).samples, evaluation)


def kept_of(samples: Samples, evaluation: Evaluation) -> dict[str, float]:
    """Retention of quality and of diversity of samples of seed 0."""
    seen = evaluation.panel.observe(samples, "samples")
    metrics = evaluation.panel.metrics_of(seen, evaluation.panel.verdicts(seen))
    before = evaluation.panel.metrics_of(*evaluation.baseline(0))
    found = {}
    for role in ROLES:
        name = metric_of(role)
        value = metrics[name]
        assert value is not None
        kept = retention(value, before[name], evaluation.bounds.floor(name), evaluation.session.n)
        assert kept is not None, "a published model lies above its floor"
        found[role] = kept
    return found


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
    "ship": ship,
}


def main(action: str, study: str, *only: str) -> None:
    if action not in ACTIONS or study not in STUDIES or not set(only) <= set(DOMAINS):
        sys.exit(f"usage: {'|'.join(ACTIONS)} {'|'.join(STUDIES)} [{'|'.join(DOMAINS)}]")
    ACTIONS[action](study, only)


if __name__ == "__main__":
    main(*sys.argv[1:])
