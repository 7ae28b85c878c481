"""`bench train`: run a domain's recipe to its end, from wherever the last run stopped."""

from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.files import cache_folder, slug, write_atomically
from bench.interfaces import Domain, Training
from bench.progress import bar

CHECKPOINT_EVERY_S = 60.0
VALIDATE_EVERY = 0.05  # of all steps
SNAPSHOT_EVERY = 0.1  # of all steps: frozen models beside the checkpoint, so that quality over training time can be measured later


def train(domain: Domain, name: str, data: str | None, output: Path, device: str = "cpu", steps: int | None = None) -> dict[str, Any]:
    """Train, validate now and then, checkpoint, freeze to `output` -> the last line of the log.

    The checkpoint and the log lie in the user's cache folder, under a name made of domain, model, data and recipe, so that
    the same command continues a run that was stopped at any point.
    """
    import torch

    training = domain.train(name, data, device)
    if steps is not None:
        training.shorten(steps)
    folder = cache_folder() / "training" / slug(domain.name) / f"{slug(name)}-{training.identity()[:12]}"
    checkpoint, log = folder / "checkpoint.pt", Log(folder / "log.jsonl")
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        training.load_state_dict(state["training"])
        log.truncate(training.step_number, state["cpu_seconds"])
    _run(training, checkpoint, log, f"{domain.name} {name}")
    training.freeze(output)
    shutil.copyfile(log.path, output / "training.jsonl")
    return log.lines[-1]


def _run(training: Training, checkpoint: Path, log: Log, title: str) -> None:
    saved_at, losses = time.monotonic(), []
    every, snapshot = (max(1, round(training.total_steps * share)) for share in (VALIDATE_EVERY, SNAPSHOT_EVERY))
    for _ in bar(range(training.step_number, training.total_steps), title, total=training.total_steps, initial=training.step_number):
        losses.append(training.step())
        if training.keeps_snapshots and training.step_number % snapshot == 0 and training.step_number < training.total_steps:
            training.freeze(checkpoint.parent / "snapshots" / f"{training.step_number:07}")
        if training.step_number % every == 0 or training.step_number == training.total_steps:
            means = {k: sum(row[k] for row in losses) / len(losses) for k in losses[0]}
            log.add(training.step_number, {**means, **{f"validation_{k}": v for k, v in training.validate().items()}})
            losses = []
        if time.monotonic() - saved_at > CHECKPOINT_EVERY_S or training.step_number == training.total_steps:
            _save(checkpoint, training, log)
            saved_at = time.monotonic()


def _save(path: Path, training: Training, log: Log) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save({"training": training.state_dict(), "cpu_seconds": log.cpu_seconds()}, buffer)
    write_atomically(path, buffer.getvalue())


class Log:
    """One JSON line a validation: step, losses, figures, core-seconds spent so far (over all resumed parts)."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.before = path, [], 0.0
        self.started = time.process_time()
        if path.exists():
            try:
                self.lines = [json.loads(line) for line in path.read_text().splitlines()]
            except ValueError:
                raise BadInput(f"the training log {str(path)!r} is damaged; remove its folder to train anew") from None

    def truncate(self, step: int, cpu_seconds: float) -> None:
        """Forget what came after the checkpoint."""
        self.lines, self.before = [line for line in self.lines if line["step"] <= step], cpu_seconds

    def cpu_seconds(self) -> float:
        return self.before + time.process_time() - self.started

    def add(self, step: int, figures: dict[str, float]) -> None:
        self.lines.append({"step": step, **{k: round(v, 5) for k, v in figures.items()}, "core_seconds": round(self.cpu_seconds())})
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
