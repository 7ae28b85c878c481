"""Weights a second that each method compresses, ours and other projects' tools, in processor time.

`python -m pytest -n 0 -m slow tests/benchmarks/test_compress_speed.py`
"""

from __future__ import annotations

import copy
import functools
import time

import pytest
import torch
from small_network import Given, normal
from torch import nn

from bench.errors import BadInput
from bench.interfaces import Context
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.methods.tools.tool import Tool, quietly

WIDTH, TOOLS_WIDTH = 1000, 1024  # inputs and outputs of each layer; groups of tools have to divide them
OURS = (
    *("int8", "int4", "int2", "nf4", "ternary", "binary", "ecsq:bits=2", "tcq:bits=2", "codebook:bits=3"),
    *("lowrank:rank=8+int4", "magnitude:sparsity=0.9", "2:4", "w8a8", "channels:keep=0.75"),
    *("gptq:bits=4", "wanda", "sparsegpt"),
)
LEARNED = ("adaround:bits=4", "brecq:bits=4", "ldlq:bits=3", "ldlq:bits=3,mixed")
TOOLS = (
    *("torchao:dtype=int8", "torchao:dtype=int4", "quanto:bits=8", "quanto:bits=4", "hqq:bits=4"),
    *("bitsandbytes:type=nf4", "nncf:mode=int8_sym", "nncf:mode=int4_sym", "modelopt:config=int8"),
    "modelopt:config=int4_awq",
)


class Deep(nn.Module):
    """Layers of a million Gaussian weights in a list, so that methods that learn by blocks find some."""

    def __init__(self, millions: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Linear(width, width)) for _ in range(millions // 2)
        )
        for number, weight in enumerate(self.parameters()):
            nn.init.zeros_(weight) if weight.ndim == 1 else weight.data.copy_(
                normal(width, width, seed=number) / width**0.5
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = torch.relu(block(x))
        return x


@functools.lru_cache(maxsize=1)
def given(millions: int, width: int = WIDTH) -> Given:
    """Neighbouring inputs are alike, as those of real layers: eight batches [1024, width]."""
    inputs = normal(8192, width + 4).unfold(1, 5, 1).mean(2)
    return Given(Deep(millions, width), *inputs.split(1024))


def measure(benchmark, action, network: nn.Module) -> None:
    benchmark.pedantic(action, rounds=1)
    count = sum(weight.numel() for weight in network.parameters() if weight.ndim > 1)
    benchmark.extra_info["weights_per_s"] = count / benchmark.stats["min"]
    benchmark.extra_info["weights"] = count


@pytest.mark.slow
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("method, millions", [*((m, 20) for m in OURS), *((m, 2) for m in LEARNED)])
def test_our_methods(benchmark, method: str, millions: int) -> None:
    """The whole method with its calibration. Methods that learn or walk a path get two million weights."""
    generator = given(millions)
    start, context = original(generator.network), Context(generator)
    measure(benchmark, lambda: parse(method)(start, context), generator.network)


@pytest.mark.slow
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("method", TOOLS)
def test_other_tools(benchmark, method: str) -> None:
    """The tool's own work alone, without its file and without ours."""
    try:
        (tool,) = parse(method).links
    except BadInput as error:
        pytest.skip(str(error))
    assert isinstance(tool, Tool)
    generator, small = given(20, TOOLS_WIDTH), given(2, 128)
    with quietly():  # what a tool imports and compiles once is not the network's
        tool.quantize(small.network, {"blocks.0.0"}, Context(small))
    changed, made, context = copy.deepcopy(generator.network), [], Context(generator)
    layers = {path for path, layer in changed.named_modules() if isinstance(layer, nn.Linear)}
    with quietly():
        measure(benchmark, lambda: made.append(tool.quantize(changed, layers, context)), generator.network)
        assert all(tool.codes(made[0], path) is not None for path in layers), "a layer was skipped"
