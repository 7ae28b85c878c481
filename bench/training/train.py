"""`bench train`: runs a domain's recipe to its end, and resumes where the last run stopped."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.errors import BadInput, in_a_line
from bench.interfaces import Domain, Training
from bench.util.files import cache_folder, check_writable, slug, write_atomically
from bench.util.progress import bar, report

CHECKPOINT_EVERY_S = 60.0
VALIDATE_EVERY = 0.05  # of all steps
# of all steps: frozen models beside the checkpoint, so that quality over training time can be measured later
SNAPSHOT_EVERY = 0.1
FINISHED = "training.jsonl"  # the last file of a finished model's folder; without it the folder is incomplete


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
    with locked(folder, title):
        checkpoint, log = folder / "checkpoint.pt", Log(folder / "log.jsonl")
        if checkpoint.exists():
            core_seconds, losses = _resume(training, checkpoint, device)
            log.truncate(training.step_number, core_seconds)
            log.losses = losses
        else:
            log.truncate(0, 0.0)  # lines of a run that was killed before its first checkpoint
        _run(training, checkpoint, log, title, progress)
        _finish(training, log, output)
    return log.lines[-1]


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


@contextlib.contextmanager
def locked(folder: Path, title: str) -> Iterator[None]:
    """Keep other processes from training into the same folder.

    The system releases the lock when this process ends.

    Raises `BadInput` when another process holds it. It has no effect where the file system has no such locks.
    """
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BadInput(
                f"{title} is being trained already, by process {file.read().strip() or 'unknown'}"
            ) from None
        except (ImportError, OSError):
            pass
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _finish(training: Training, log: Log, output: Path) -> None:
    """Freeze the model beside the output and rename it.

    An existing folder is replaced file by file, with `FINISHED` last.
    """
    output = output.resolve()
    # no `@`: never a model's folder
    part = (output if output.exists() else output.parent) / f".{output.name.replace('@', '-')}.part"
    shutil.rmtree(part, ignore_errors=True)  # left by a run that was stopped here
    training.freeze(part)
    shutil.copyfile(log.path, part / FINISHED)
    if not output.exists():
        part.rename(output)
        return
    (output / FINISHED).unlink(missing_ok=True)
    for path in sorted(
        (path for path in part.rglob("*") if path.is_file()), key=lambda path: path == part / FINISHED
    ):
        target = output / path.relative_to(part)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(part)


def _run(training: Training, checkpoint: Path, log: Log, title: str, progress: Path | None = None) -> None:
    saved_at = time.monotonic()
    every, snapshot = (
        max(1, round(training.total_steps * share)) for share in (VALIDATE_EVERY, SNAPSHOT_EVERY)
    )
    first, total = training.step_number, training.total_steps
    left = range(first, total)
    for _ in bar(left, title, total, first) if progress is None else report(left, progress, total, first):
        log.losses.append(training.step())
        if (
            training.keeps_snapshots
            and training.step_number % snapshot == 0
            and training.step_number < training.total_steps
        ):
            training.freeze(checkpoint.parent / "snapshots" / f"{training.step_number:07}")
        if training.step_number % every == 0 or training.step_number == training.total_steps:
            log.add(training.step_number, training.validate())
        if time.monotonic() - saved_at > CHECKPOINT_EVERY_S or training.step_number == training.total_steps:
            _save(checkpoint, training, log)
            saved_at = time.monotonic()


def _save(path: Path, training: Training, log: Log) -> None:
    import torch

    buffer = io.BytesIO()
    torch.save(
        {"training": training.state_dict(), "cpu_seconds": log.cpu_seconds(), "losses": log.losses}, buffer
    )
    write_atomically(path, buffer.getvalue())


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
                self.lines = [json.loads(line) for line in path.read_text().splitlines()]
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
        figures = {}
        for name in self.losses[0]:
            figures[name] = sum(row[name] for row in self.losses) / len(self.losses)
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
