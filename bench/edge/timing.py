"""Times candidates in turns: each round times every candidate once, so drift of the machine hits all."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.edge.runtime import Call
from bench.interfaces import Exportable
from bench.records.edge import BatchTimes

if TYPE_CHECKING:
    from torch import Tensor

RAPL = Path("/sys/class/powercap")


@dataclass
class Watched:
    """A candidate's call at one batch size, as the domain's sampler uses it: tensors in, tensors out."""

    call: Call
    network_seconds: float = 0.0
    calls: int = 0
    rows: int = 0
    first_at: float = 0.0

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        import torch

        arrays = [tensor.numpy() for tensor in tensors]
        start = time.perf_counter()
        made = self.call(*arrays)
        now = time.perf_counter()
        self.network_seconds += now - start
        self.calls += 1
        self.rows += len(made[0])
        self.first_at = self.first_at or now
        return tuple(torch.from_numpy(one) for one in made)


@dataclass
class Series:
    """What the rounds of one candidate at one batch size gave."""

    seconds: list[float] = field(default_factory=list)  # of a whole batch
    network_seconds: list[float] = field(default_factory=list)
    first_call_seconds: list[float] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)


def draw_timed(exportable: Exportable, call: Call, batch: int, seed: int, series: Series) -> None:
    """Draw one batch and add its times."""
    watched = Watched(call)
    before, start = energy_joules(), time.perf_counter()
    exportable.sample(watched, batch, seed, batch)
    seconds, after = time.perf_counter() - start, energy_joules()
    series.seconds.append(seconds)
    series.network_seconds.append(watched.network_seconds)
    series.first_call_seconds.append(watched.first_at - start)
    series.calls.append(watched.calls)
    series.rows.append(watched.rows)
    if before is not None and after is not None and after >= before:  # the counter wraps
        series.joules.append(after - before)


def in_turns(candidates: Sequence[Any], rounds: int) -> Iterator[tuple[int, Any]]:
    """(round, candidate): every candidate once a round, each round begins with another one."""
    for number in range(rounds if candidates else 0):
        first = number % len(candidates)
        for candidate in [*candidates[first:], *candidates[:first]]:
            yield number, candidate


def times_of(batch: int, series: Series) -> BatchTimes:
    """The summary of a series, without ratios."""
    per_sample = sorted(one / batch for one in series.seconds)
    middle = median(per_sample)
    last = per_sample[math.ceil(0.95 * len(per_sample)) - 1]
    return BatchTimes(
        batch=batch,
        seconds_per_sample=middle,
        seconds_per_sample_p95=last,
        network_seconds_per_sample=median(series.network_seconds) / batch,
        samples_per_second=1 / middle,
        calls=median(series.calls),
        first_call_seconds=median(series.first_call_seconds),
        rows_per_second=median(rows / seconds for rows, seconds in zip(series.rows, series.seconds)),
        joules_per_sample=median(series.joules) / batch if series.joules else None,
    )


# ----------------------------------------------------------------------------------------------------- energy


def energy_joules(folder: Path = RAPL) -> float | None:
    """What the processor's packages have used, by their counters (RAPL); None: they cannot be read."""
    try:
        counters = [zone / "energy_uj" for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1]
        return sum(int(one.read_text(encoding="utf-8")) for one in counters) / 1e6 if counters else None
    except (OSError, ValueError):
        return None


def energy_missing(folder: Path = RAPL) -> str | None:
    """Why no energy is measured; None: it is."""
    if energy_joules(folder) is not None:
        return None
    if not any(folder.glob("intel-rapl:*")):
        return f"no counters of energy in {folder}: the machine or its host does not offer RAPL"
    return f"the counters of energy in {folder} are not readable for this user"
