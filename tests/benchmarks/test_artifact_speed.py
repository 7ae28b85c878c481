"""Megabytes of fp32 weights a second that become a file and come back; memory while compressing."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from bench.artifact.format import decode, encode
from bench.interfaces import Compressed, Context
from bench.methods.notation import parse
from bench.methods.plain import original

METHODS = (
    *("none", "int8", "int4", "int2", "nf4", "ternary", "binary", "ecsq:bits=2", "tcq:bits=2"),
    *("tcq:bits=2,states=8", "codebook:bits=3", "lowrank:rank=8+int3"),
    *("magnitude:sparsity=0.9+int4", "2:4+int4"),
)


def synthetic(millions: int) -> nn.Module:
    """Gaussian weights in layers of a million."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(millions)))
        for parameter in network.parameters():
            nn.init.normal_(parameter)
    return network


@functools.cache
def large() -> nn.Module:
    return synthetic(20)


@functools.lru_cache(maxsize=1)
def compressed(method: str) -> tuple[Compressed, float]:
    """-> (what the method made, seconds that it took)."""
    start = time.perf_counter()
    return parse(method)(original(large()), Context()), time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("step", ["encode", "decode"])
@pytest.mark.parametrize("method", METHODS)
def test_twenty_million_weights(benchmark, method: str, step: str) -> None:
    made, seconds = compressed(method)
    data = encode(made, method)

    def read() -> None:
        for stored in decode(data)[2].values():
            stored.dequantize()

    benchmark.pedantic(read if step == "decode" else lambda: encode(made, method), rounds=2)
    megabytes = sum(4 * p.numel() for p in large().parameters()) / 1e6
    benchmark.extra_info["fp32_MB_per_s"] = megabytes / benchmark.stats["min"]
    benchmark.extra_info["compress_fp32_MB_per_s"] = megabytes / seconds
    benchmark.extra_info["compress_weights_per_s"] = megabytes / 4e-6 / seconds
    benchmark.extra_info["file_bytes"] = len(data)


@pytest.mark.parametrize("method", ["tcq:bits=2", "lowrank:rank=8+int3"])
def test_half_a_million_weights_come_back_soon(benchmark, method: str) -> None:
    """The aim is half a second."""
    network = nn.Sequential(*(nn.Linear(250, 100) for _ in range(20)))
    data = encode(parse(method)(original(network), Context()), method)
    benchmark(lambda: [stored.dequantize() for stored in decode(data)[2].values()])


MEASURED = """
import json, resource, sys
from torch import nn
from bench.artifact.format import encode
from bench.interfaces import Context
from bench.methods.notation import parse
from bench.methods.plain import original
def of(millions):
    return nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(millions)))
network, method = of(int(sys.argv[2])), sys.argv[1]
encode(parse(method)(original(of(1)), Context()), method)  # what libraries allocate once is not the network's
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = len(encode(parse(method)(original(network), Context()), method))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
fp32 = sum(4 * p.numel() for p in network.parameters())
print(json.dumps({"grown": peak * 1024, "fp32": fp32, "file": size}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_compressing_needs_at_most_three_times_the_network(method: str) -> None:
    """The network itself and what compressing adds to it, at the peak: the resident set of a process of
    its own.
    """
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, method, "20"],
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    )
    found = json.loads(done.stdout)
    times = 1 + found["grown"] / found["fp32"]
    print(f"{method}: {times:.2f} times the network")
    assert times < 3
