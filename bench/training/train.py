"""`bench train`: runs a domain's recipe to its end, and resumes where the last run stopped."""

from __future__ import annotations

import hashlib
import io
import json
import math
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BadInput, Diverged, in_a_line
from bench.interfaces import TRAINED, TRAINED_ON, Domain, Training
from bench.training.lock import locked
from bench.util.files import cache_folder, slug, write_atomically
from bench.util.progress import bar, report

CHECKPOINT_EVERY_S = 60.0
VALIDATE_EVERY = 0.05  # of all steps
# of all steps: frozen models beside the checkpoint, so that quality over training time can be measured later
SNAPSHOT_EVERY = 0.1
LOG = "log.jsonl"
FINISHED = TRAINED  # the last file of a finished model's folder; without it the folder is incomplete


def train(
    domain: Domain,
    name: str,
    data: str | None,
    output: Path,
    device: str = "cpu",
    steps: int | None = None,
    progress: Path | None = None,
) -> dict[str, Any]:
    """Train with checkpoints and validation, and freeze the model to `output` -> the last line of the log.

    The checkpoint and the log lie in the user's cache folder, under a name made of domain, model, data and
    recipe. So the same command continues a run that was stopped at any point. `progress` names a file that
    reports progress to another process (`bench.util.progress.report`), in place of the bar. Raises `BadInput`
    when another process trains the same model.
    """
    training = domain.train(name, data, device)
    if steps is not None:
        training.shorten(steps)
    folder = cache_folder() / "training" / slug(domain.name) / f"{slug(name)}-{training.identity()[:12]}"
    title = f"{domain.name} {name}"

    def snapshot(step: int) -> None:
        if training.keeps_snapshots:
            training.freeze(folder / "snapshots" / f"{step:07}")

    with locked(folder, title):
        try:
            log = run(training, folder, title, device, progress, snapshot=snapshot)
        except Diverged as error:
            raise BadInput(f"the training of {title} diverged: {error}") from None
        _finish(training, log, output, data)
    return log.lines[-1]


def run(
    training: Training,
    folder: Path,
    title: str,
    device: str = "cpu",
    progress: Path | None = None,
    *,
    validate_every: float = VALIDATE_EVERY,
    before_step: Callable[[float], None] | None = None,
    snapshot: Callable[[int], None] | None = None,
) -> Log:
    """Train to the end, from the checkpoint in `folder` where there is one -> the log. The caller holds the
    lock.

    validate_every: share of the steps between two lines of the log.
    before_step: called with the share of the steps that are done after this one. snapshot: called at each
    tenth of the steps but the last, with the step. Raises `Diverged` when a loss is not finite.
    """
    checkpoint, log = folder / "checkpoint.pt", Log(folder / LOG)
    if checkpoint.exists():
        core_seconds, losses = _resume(training, checkpoint, device)
        log.truncate(training.step_number, core_seconds)
        log.losses = losses
    else:
        log.truncate(0, 0.0)  # lines of a run that was killed before its first checkpoint
    saved_at = time.monotonic()
    total, first = training.total_steps, training.step_number
    every, tenth = (max(1, round(total * share)) for share in (validate_every, SNAPSHOT_EVERY))
    left = range(first, total)
    for _ in bar(left, title, total, first) if progress is None else report(left, progress, total, first):
        if before_step is not None:
            before_step((training.step_number + 1) / total)
        log.losses.append(checked(training.step(), training.step_number, total))
        step = training.step_number
        if snapshot is not None and step % tenth == 0 and step < total:
            snapshot(step)
        if step % every == 0 or step == total:
            log.add(step, training.validate())
        if time.monotonic() - saved_at > CHECKPOINT_EVERY_S or step == total:
            _save(checkpoint, training, log)
            saved_at = time.monotonic()
    return log


def checked(losses: dict[str, float], step: int, total: int) -> dict[str, float]:
    """The losses of a step. Raises `Diverged` when one is not finite."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} at step {step:,} of {total:,}")
    return losses


def _resume(training: Training, checkpoint: Path, device: str) -> tuple[float, list[dict[str, float]]]:
    """Load a checkpoint into `training` -> (core-seconds spent before, losses since the last line of the
    log).
    """
    import torch

    try:
        state = torch.load(checkpoint, weights_only=True, map_location=device)
        training.load_state_dict(state["training"])
        return state["cpu_seconds"], state.get("losses", [])
    except (OSError, MemoryError, torch.OutOfMemoryError):
        raise  # the file is not at fault
    except Exception as error:  # a damaged checkpoint can fail in many ways
        reason = in_a_line(error)
        raise BadInput(
            f"the checkpoint {str(checkpoint)!r} cannot be read ({reason}); if it is damaged, delete it"
        ) from None


def default_output(domain: str, name: str, steps: int | None = None, data: str | None = None) -> Path:
    """The default folder of a finished model.

    A model of other steps or data than the recipe's has another folder.
    """
    of_steps = f"-steps={steps}" if steps is not None else ""
    of_data = f"-data={hashlib.sha256(data.encode()).hexdigest()[:8]}" if data is not None else ""
    return cache_folder() / "models" / slug(domain) / (slug(name) + of_steps + of_data)


def is_finished(output: Path) -> bool:
    """Whether the folder holds a whole model that `train` wrote."""
    return (output / FINISHED).is_file()


def _finish(training: Training, log: Log, output: Path, data: str | None) -> None:
    """Freeze the model beside the output and rename it. `data`: what the user named to train on.

    An existing folder is replaced file by file, with `FINISHED` last.
    """
    output = output.resolve()
    # no `@`: never a model's folder
    part = (output if output.exists() else output.parent) / f".{output.name.replace('@', '-')}.part"
    shutil.rmtree(part, ignore_errors=True)  # left by a run that was stopped here
    training.freeze(part)
    if data is not None:
        (part / TRAINED_ON).write_text(json.dumps({"data": data}) + "\n", encoding="utf-8")
    shutil.copyfile(log.path, part / FINISHED)
    if not output.exists():
        part.rename(output)
        return
    (output / FINISHED).unlink(missing_ok=True)
    (output / TRAINED_ON).unlink(missing_ok=True)
    for path in sorted(
        (path for path in part.rglob("*") if path.is_file()), key=lambda path: path == part / FINISHED
    ):
        target = output / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(part)


def _save(path: Path, training: Training, log: Log) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save(
        {"training": training.state_dict(), "cpu_seconds": log.cpu_seconds(), "losses": log.losses}, buffer
    )
    write_atomically(path, buffer.getvalue())


def summary(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation of a loss over steps. Of a gradient's norm: median and 99th percentile."""
    if name.startswith("gradient_norm"):
        ordered = sorted(values)
        return {
            name: statistics.median(ordered),
            f"{name}_p99": ordered[math.ceil(0.99 * len(ordered)) - 1],
        }
    return {name: statistics.fmean(values), f"{name}_sd": statistics.pstdev(values)}


class Log:
    """One JSON line for each validation: step, mean losses since the last line, validation metrics,
    core-seconds so far.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.before = path, [], 0.0
        self.losses: list[dict[str, float]] = []  # of the steps since the last line
        self.started = time.process_time()
        if path.exists():
            try:
                self.lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            except ValueError:
                raise BadInput(
                    f"the training log {str(path)!r} is damaged; remove its folder to train again"
                ) from None

    def truncate(self, step: int, cpu_seconds: float) -> None:
        """Remove what came after the checkpoint."""
        self.lines, self.before = [line for line in self.lines if line["step"] <= step], cpu_seconds

    def cpu_seconds(self) -> float:
        """The core-seconds of training, over all resumed parts."""
        return self.before + time.process_time() - self.started

    def add(self, step: int, validation: dict[str, float]) -> None:
        """Add a line to the log, and write it."""
        figures: dict[str, float] = {}
        for name in self.losses[0]:
            figures |= summary(name, [row[name] for row in self.losses])
        figures |= {f"validation_{name}": value for name, value in validation.items()}
        self.lines.append(
            {
                "step": step,
                **{k: round(v, 5) for k, v in figures.items()},
                "core_seconds": round(self.cpu_seconds()),
            }
        )
        self.losses = []
        write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in self.lines))
