"""Images a second of the two image generators, by batch size, and through `torch.compile`.

A run has two networks: does compiling pay?
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domains.image_diffusion import adapter as diffusion
from domains.image_gan import adapter as gan

DOMAINS = {
    "image_gan": (gan.GanDomain, gan, 2000),
    "image_diffusion": (diffusion.DiffusionDomain, diffusion, 200),
}


def opened(name: str):
    kind, module, items = DOMAINS[name]
    domain = kind()
    return domain.open(domain.models["s@0"]), module, items


@pytest.mark.parametrize("batch", [10, 50, 100, 250])
@pytest.mark.parametrize("name", list(DOMAINS))
def test_eager(benchmark, monkeypatch, name: str, batch: int) -> None:
    generator, module, items = opened(name)
    monkeypatch.setattr(module, "BATCH", batch)
    benchmark.pedantic(lambda: generator.sample(generator.network, items, 0), rounds=2, warmup_rounds=1)
    benchmark.extra_info["images_per_s"] = items / benchmark.stats["min"]


@pytest.mark.parametrize("variant", ["channels_last", "compiled"])
@pytest.mark.parametrize("name", list(DOMAINS))
def test_variants(benchmark, name: str, variant: str) -> None:
    """The first call, with its compilation, is not timed but noted; twins must stay twins."""
    import time

    generator, _, items = opened(name)
    before = generator.sample(generator.network, items, 0)
    if variant == "compiled":
        network = torch.compile(generator.network)
    else:
        network = generator.network.to(memory_format=torch.channels_last)
    start = time.perf_counter()
    after = generator.sample(network, 100, 0)
    benchmark.extra_info["first_call_s"] = time.perf_counter() - start
    benchmark.pedantic(lambda: generator.sample(network, items, 0), rounds=2)
    benchmark.extra_info["images_per_s"] = items / benchmark.stats["min"]
    benchmark.extra_info["pixels_that_differ"] = float(np.mean(after != before[:100]))
    assert np.abs(after.astype(int) - before[:100].astype(int)).max() <= 2, "twins must stay twins"
