"""Candidates of one run: a network, a runtime and a precision; how they are chosen, exported and loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.edge.child import COMPILED, Footprint, Source, footprint, rebuilt
from bench.edge.program import CALIBRATION_ROWS
from bench.edge.runtime import PRECISIONS, Loaded, Runtime, Setup
from bench.edge.timing import Series, Watched
from bench.errors import BadInput, Unsupported, of_plug_in, unknown
from bench.interfaces import Exportable
from bench.records.schema import Status
from bench.registry import RUNTIMES

if TYPE_CHECKING:
    from torch import Tensor

Say = Callable[[str], None]
FP32_TOLERANCE = 1e-3  # of the largest output; float32 kernels that sum in another order differ by about 1e-5
CAPTURED = 2  # which call of a sampling gives the arrays for comparison: not the first, whose cache is empty
SEED = 0


@dataclass(frozen=True)
class Subject:
    """One network that is exported: what a method left of the model, rebuilt from its file."""

    method: str
    exportable: Exportable
    source: Source
    inputs: Mapping[int, tuple[np.ndarray, ...]]  # batch -> arrays of one call
    outputs: Mapping[int, tuple[np.ndarray, ...]]  # batch -> what PyTorch makes of them in float32


@dataclass
class Candidate:
    """One network in one runtime and precision, with what is known of it so far."""

    subject: Subject
    runtime: str
    precision: str
    threads: int
    status: Status = "ok"
    reason: str | None = None
    file_bytes: int | None = None
    footprint: Footprint | None = None
    difference: float | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    loaded: dict[int, Loaded] = field(default_factory=dict)
    series: dict[int, Series] = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, str, str]:
        """(method, runtime, precision)"""
        return self.subject.method, self.runtime, self.precision

    @property
    def works(self) -> bool:
        """Whether it can be timed."""
        return self.reason is None

    def refuse(self, error: BaseException | str) -> None:
        """Keep the reason why it cannot be measured."""
        said = error if isinstance(error, str) else of_plug_in(error)
        said = str(error) if isinstance(error, Unsupported) else said
        self.status, self.reason = "unsupported", " ".join(said.split())[:300]
        self.loaded = {}


def pairs(runtimes: Sequence[str], precisions: Sequence[str], say: Say) -> list[tuple[str, str]]:
    """The pairs of runtime and precision that were asked for; without names, all that are installed.

    Raises `BadInput` for an unknown name, for a runtime that is not installed, and where no pair is left.
    """
    found = []
    known = [*PRECISIONS, *(p for kind in map(RUNTIMES.load, RUNTIMES) for p in kind.precisions)]
    for precision in precisions:
        if precision not in known:
            raise unknown("precision", precision, list(dict.fromkeys(known)))
    kinds = _named(runtimes) if runtimes else installed(RUNTIMES, say)
    for name, kind in kinds.items():
        found += [(name, p) for p in kind.precisions if not precisions or p in precisions]
    if not found:
        allowed = "; ".join(f"{name} {', '.join(kind.precisions)}" for name, kind in kinds.items())
        raise BadInput(f"precision {', '.join(precisions)!r} is not offered here; allowed: {allowed}")
    return found


def _named(names: Sequence[str]) -> dict[str, type[Runtime]]:
    kinds: dict[str, type[Runtime]] = {name: RUNTIMES.load(name) for name in names}
    for name, kind in kinds.items():
        if (reason := kind.missing()) is not None:
            raise BadInput(f"runtime {name!r} {reason}")
    return kinds


def installed(names: Iterable[str], say: Say) -> dict[str, type[Runtime]]:
    """Name -> its runtime, without those that lack a package, which `say` is told."""
    found: dict[str, type[Runtime]] = {}
    for name in names:
        kind: type[Runtime] = RUNTIMES.load(name)
        if (reason := kind.missing()) is None:
            found[name] = kind
        else:
            say(f"runtime {name} is left out: it {reason}")
    return found


def with_references(wanted: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Those candidates and what their ratios are to: eager, the runtime's own float32, the dense network."""
    found = dict.fromkeys([("none", "eager", "fp32")])
    for method, runtime, precision in wanted:
        found |= dict.fromkeys([(method, runtime, "fp32"), ("none", runtime, precision)])
        found[method, runtime, precision] = None
    return [one for one in found if one[2] in RUNTIMES.load(one[1]).precisions]


def captured(exportable: Exportable, batch: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """One call of a sampling at this batch size and what PyTorch makes of it, as arrays."""
    import torch

    calls: list[tuple[Tensor, ...]] = []

    def call(*tensors: Tensor) -> tuple[Tensor, ...]:
        if len(calls) <= CAPTURED:
            calls.append(tuple(tensor.clone() for tensor in tensors))
        return as_tuple(exportable.module(*tensors))

    exportable.sample(call, batch, SEED, batch)
    with torch.no_grad():
        made = as_tuple(exportable.module(*calls[-1]))
    return tuple(one.numpy() for one in calls[-1]), tuple(one.numpy() for one in made)


def for_batches(exportable: Exportable, largest: int) -> Exportable:
    """The same for batches up to this one: some runtimes reserve memory for the largest that may come."""
    longest = dict(exportable.longest)
    longest["batch"] = min(longest["batch"], max(largest, CALIBRATION_ROWS))
    return dataclasses.replace(exportable, longest=longest)


def as_tuple(made: Any) -> tuple[Any, ...]:
    """What a module gives, as a tuple of tensors."""
    return tuple(made) if isinstance(made, (tuple, list)) else (made,)


def prepare(candidate: Candidate, folder: Path) -> None:
    """Export, measure in a fresh process, load here, and compare with PyTorch. A failure is a result."""
    try:
        _prepare(candidate, folder)
    except (BadInput, KeyboardInterrupt):
        raise
    except Exception as error:  # whatever a runtime's exporter raises is its result
        candidate.refuse(error)


def _prepare(candidate: Candidate, folder: Path) -> None:
    subject, runtime = candidate.subject, RUNTIMES.load(candidate.runtime)()
    files = folder / "files"
    files.mkdir(parents=True)
    runtime.export(subject.exportable, candidate.precision, files)
    candidate.file_bytes = sum(one.stat().st_size for one in files.rglob("*") if one.is_file())
    smallest = min(subject.inputs)
    held = folder / "inputs.npz"
    named: dict[str, Any] = dict(zip(subject.exportable.inputs, subject.inputs[smallest]))
    np.savez(held, **named)
    setup = _setup(candidate, smallest)
    candidate.footprint = footprint(candidate.runtime, files, held, setup, subject.source)
    # what the fresh process compiled need not be compiled again
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / COMPILED)
    for batch in subject.inputs:
        candidate.loaded[batch] = runtime.load(files, _setup(candidate, batch))
    candidate.layers = candidate.loaded[smallest].layers()
    candidate.difference = max(difference(candidate, batch) for batch in subject.inputs)
    if not np.isfinite(candidate.difference):
        candidate.difference = None
        candidate.refuse("its output is not finite")
    elif candidate.precision == "fp32" and candidate.difference > FP32_TOLERANCE:
        candidate.refuse(f"float32 differs from PyTorch by {candidate.difference:.1e} of the largest output")


def _setup(candidate: Candidate, batch: int) -> Setup:
    subject = candidate.subject
    shapes = subject.exportable.shapes(batch)
    return Setup(candidate.precision, shapes, candidate.threads, lambda: rebuilt(subject.source))


def difference(candidate: Candidate, batch: int) -> float:
    """The largest difference to PyTorch in float32, as a share of the largest output."""
    made = candidate.loaded[batch].call(*candidate.subject.inputs[batch])
    found = []
    for own, theirs in zip(made, candidate.subject.outputs[batch], strict=True):
        found.append(float(np.abs(np.asarray(own) - theirs).max() / np.abs(theirs).max()))
    return max(found)


def samples_of(candidate: Candidate, n: int) -> Any:
    """Samples that this runtime makes, twins of the eager ones."""
    batch = max(candidate.loaded)
    call = Watched(candidate.loaded[batch].call)
    return candidate.subject.exportable.sample(call, n, SEED, batch)
