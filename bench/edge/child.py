"""A fresh process for one candidate: start-up time and peak memory, without the sampler.

`python -m bench.edge.child JOB.json` prints one line of JSON. Only a runtime that is PyTorch loads PyTorch.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.edge.runtime import Setup
from bench.errors import Unsupported, in_a_line
from bench.registry import RUNTIMES

if TYPE_CHECKING:
    from torch.nn import Module

COMPILED = "compiled"  # folder beside the runtime's files, of what is compiled when it starts
TIMEOUT_S = 900
CALLS = 3  # after the first one, so that buffers of the steady state count


@dataclass(frozen=True)
class Source:
    """How PyTorch's own runtimes get the structure of the network again."""

    domain: str
    model: str
    artifact: str  # the compressed file


@dataclass(frozen=True)
class Footprint:
    """What the process measured."""

    startup_seconds: float
    peak_bytes: int
    bare_bytes: int


def footprint(
    runtime: str, folder: Path, inputs: Path, setup: Setup, source: Source, seconds: float = TIMEOUT_S
) -> Footprint:
    """Measure in a child process.

    Raises `Unsupported` with its last line where the child fails or dies: the runtime cannot run the network.
    """
    job: dict[str, Any] = {"runtime": runtime, "folder": str(folder), "inputs": str(inputs)}
    job |= {"precision": setup.precision, "threads": setup.threads, "source": vars(source)}
    job["shapes"] = {name: list(shape) for name, shape in setup.shapes.items()}
    file = folder.parent / "job.json"
    file.write_text(json.dumps(job), encoding="utf-8")
    env = {**os.environ, "OMP_NUM_THREADS": str(setup.threads)}
    # an empty cache of compiled code: a first start on this machine
    env["TORCHINDUCTOR_CACHE_DIR"] = str(folder.parent / COMPILED)
    env["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    command = [sys.executable, "-m", "bench.edge.child", str(file)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", timeout=seconds, env=env
        )
    except subprocess.TimeoutExpired:
        raise Unsupported(f"a fresh process was not ready after {seconds:.0f} s") from None
    if done.returncode != 0:
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
        raise Unsupported(f"a fresh process failed (status {done.returncode}): {last[:200]}")
    return Footprint(**json.loads(done.stdout.splitlines()[-1]))


def main(path: str) -> int:
    """Run the job in this process."""
    import numpy as np

    job = json.loads(Path(path).read_text(encoding="utf-8"))
    bare, start = _peak_bytes(), time.perf_counter()
    with np.load(job["inputs"]) as held:
        arrays = [held[name] for name in job["shapes"]]
    shapes = {name: tuple(shape) for name, shape in job["shapes"].items()}

    def rebuild() -> Module:
        return rebuilt(Source(**job["source"]))

    setup = Setup(job["precision"], shapes, job["threads"], rebuild)
    loaded = RUNTIMES.load(job["runtime"])().load(Path(job["folder"]), setup)
    loaded.call(*arrays)
    ready = time.perf_counter() - start
    for _ in range(CALLS):
        loaded.call(*arrays)
    print(json.dumps({"startup_seconds": ready, "peak_bytes": _peak_bytes(), "bare_bytes": bare}))
    return 0


def rebuilt(source: Source) -> Module:
    """The module that the domain exports, of the structure in the compressed file."""
    from bench.artifact.format import rebuild
    from bench.registry import open_domain

    domain = open_domain(source.domain)
    generator = domain.open(domain.locate(source.model))
    return generator.exportable(rebuild(Path(source.artifact), generator)).module


def _peak_bytes() -> int:
    """The largest resident memory of this process so far.

    Linux hands `ru_maxrss` on from the parent, so its own figure is read where there is one.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024
    except (OSError, StopIteration):
        pass
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


if __name__ == "__main__":
    try:
        status = main(sys.argv[1])
    except Exception as error:
        print(f"{type(error).__name__}: {in_a_line(error)}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without the runtimes' own clean-up, which has nothing to save
