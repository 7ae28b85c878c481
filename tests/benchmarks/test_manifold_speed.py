"""Time and peak memory of one manifold pass, beside `prdc` and torch-fidelity's precision and recall.

Not part of the default run:  pytest tests/benchmarks/test_manifold_speed.py  (add `-m "not slow"` for N =
2,000 only)

The three do not compute the same: `manifold` all six metrics; `prdc` four; torch-fidelity two, in float32,
with balls that hold their border. Two threads each, except that `prdc` fixes `n_jobs=8`. Wall-clock seconds
are the benchmark's own table; `cpu_s` is what all threads used in the last round, which other work on the
machine disturbs less. Peak memory is the growth of the resident set over one call, in a process of its own
(Linux only).
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from functools import cache
from pathlib import Path

import pytest
import torch

N_DIMS, K = 64, 5
N_THREADS = 2
WARM_UP = 200  # samples of a first call, so that libraries and threads are loaded before memory is read


def ours(real: torch.Tensor, generated: torch.Tensor) -> float:
    from bench.metrics.manifold import manifold

    return manifold(real, generated, K).means()["precision"]


def prdc(real: torch.Tensor, generated: torch.Tensor) -> float:
    from prdc import compute_prdc

    return float(compute_prdc(real.numpy(), generated.numpy(), nearest_k=K)["precision"])


def torch_fidelity(real: torch.Tensor, generated: torch.Tensor) -> float:
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    return calculate_precision_recall_full(generated, real, K)[0]


def torch_fidelity_blocks(real: torch.Tensor, generated: torch.Tensor) -> float:
    from torch_fidelity.metric_prc import calculate_precision_recall_part

    return calculate_precision_recall_part(generated, real, K, 1024)[0]


def samples(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, N_DIMS, generator=generator), torch.randn(n, N_DIMS, generator=generator)


def memory_mib(key: str) -> float:
    """VmRSS (resident now) or VmHWM (its peak).

    Not `ru_maxrss`, which in a child starts from its parent's peak.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(key))) / 1024


def measure_peak(function, n: int, answer) -> None:
    torch.set_num_threads(N_THREADS)
    function(*samples(WARM_UP))
    real, generated = samples(n)
    Path("/proc/self/clear_refs").write_text(
        "5", encoding="utf-8"
    )  # the peak starts again from what is resident now
    before = memory_mib("VmRSS")
    function(real, generated)
    answer.send(memory_mib("VmHWM") - before)


def peak_growth_mib(function, n: int) -> float:
    spawn = multiprocessing.get_context("spawn")
    receive, send = spawn.Pipe(duplex=False)
    process = spawn.Process(target=measure_peak, args=(function, n, send))
    process.start()
    send.close()
    grown = receive.recv()
    process.join()
    return round(grown, 1)


@cache
def expected(n: int) -> float:
    return ours(*samples(n))


@pytest.fixture
def two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("n", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("function", [ours, prdc, torch_fidelity, torch_fidelity_blocks])
def test_manifold_speed(benchmark, two_threads, function, n):
    def once() -> float:
        started_s = time.process_time()
        precision = function(real, generated)
        benchmark.extra_info["cpu_s"] = round(time.process_time() - started_s, 3)
        return precision

    real, generated = samples(n)
    benchmark.group = f"manifold, N = {n:,}, d = {N_DIMS}, {N_THREADS} threads"
    function(*samples(WARM_UP))
    precision = benchmark.pedantic(once, rounds=3 if n <= 2_000 else 1)
    if sys.platform == "linux":
        benchmark.extra_info["peak_mib"] = peak_growth_mib(function, n)
    benchmark.extra_info["precision"] = precision
    assert precision == pytest.approx(expected(n), abs=2 / n)  # of float32 and of "inside", at most two items
