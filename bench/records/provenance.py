"""Provenance of a number: commit, versions, machine, seconds."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

# whose versions numbers may depend on; some are extras
PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "numpy", "wordllama"),
    *("torch-fidelity", "rdkit", "fcd-torch"),
)


class Provenance(BaseModel):
    """The provenance of one record."""

    commit: str | None  # None: not run from a git checkout
    dirty: bool | None
    command: str
    versions: dict[str, str]
    python: str
    platform: str
    processor: str
    device: str
    threads: int
    time: str  # UTC, ISO 8601
    seconds: dict[str, float]  # by stage; almost 0 where the cache had the result


def provenance(command: str, device: str, seconds: dict[str, float]) -> Provenance:
    """The provenance of a measurement in this process."""

    import torch

    commit, dirty = git_state()
    return Provenance(
        commit=commit,
        dirty=dirty,
        command=command,
        versions=package_versions(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        processor=processor(),
        device=device,
        threads=torch.get_num_threads(),
        time=utc_now(),
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
    )


def utc_now() -> str:
    """The time in ISO 8601, to the second. A later time compares as greater."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@functools.cache
def git_state() -> tuple[str | None, bool | None]:
    """(commit, dirty) of the checkout of this package.

    Records that a run has just written do not make it dirty.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        changed = [line[3:] for line in _git(root, "status", "--porcelain").splitlines()]
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, any(not path.startswith(("results/", "leaderboard.md")) for path in changed)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
        encoding="utf-8",
    ).stdout


@functools.cache
def package_versions() -> dict[str, str]:
    """Package -> its installed version."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@functools.cache
def processor() -> str:
    """The name of the processor and its number of cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    model = next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown"
    )
    return f"{model}, {os.cpu_count()} cores"


# of products in few bits; Arm's kernels call them differently
INSTRUCTIONS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16"),
)


def instructions() -> list[str]:
    """The processor's vector instructions for float32 and for fewer bits; empty where it does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    told = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    known = set(told.split(":", 1)[1].split())
    return [name for name in INSTRUCTIONS if name in known]


class Stopwatch:
    """Seconds by stage: `with watch("sample"): ...`. The times of a repeated stage add up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def restart(self) -> None:
        """Forget all stages, because a new cell begins."""
        self.seconds = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
