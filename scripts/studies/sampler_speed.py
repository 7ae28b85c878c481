"""Texts a second of a text sampler by batch size, on a GPU and on the CPU:
`python -m scripts.studies.sampler_speed [DOMAIN] [MODEL] [TEXTS]`.

The last column is the share of texts that equal those of the CPU at its own batch size. Sums in another order
may change a few.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import torch

from bench.registry import open_domain
from domains.language.sampler import ACCELERATOR_BATCH

BATCHES = (64, 256, 1024, ACCELERATOR_BATCH)
SEED, WARM_UP = 0, 64


def main(domain: str = "text", model: str = "s@0", texts: str = "4096") -> None:
    from tabulate import tabulate

    n = int(texts)
    _, expected = timed(domain, model, "cpu", None, n)
    rows = [row for device in devices() for row in rows_of(domain, model, device, n, expected)]
    headers = ["device", "threads", "batch", "texts a second", "equal to the CPU's"]
    print(tabulate(rows, headers=headers, floatfmt=("", "", "", ".0f", ".4f")))


def devices() -> list[str]:
    """The CPU, and a GPU where there is one."""
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def rows_of(
    domain: str, model: str, device: str, n: int, expected: list[str]
) -> Iterator[tuple[str, int, int | str, float, float]]:
    """One row for each batch size. `own`: what the sampler chooses."""
    for batch in (*(b for b in BATCHES if b <= n), None):
        seconds, made = timed(domain, model, device, batch, n)
        same = sum(a == b for a, b in zip(made, expected, strict=True)) / n
        yield device, torch.get_num_threads(), batch or "own", n / seconds, same


def timed(domain: str, model: str, device: str, batch: int | None, n: int) -> tuple[float, list[str]]:
    """(seconds, texts)"""
    opened = open_domain(domain)
    generator = opened.open(opened.locate(model), device)
    generator.batch = batch  # type: ignore[attr-defined]
    generator.sample(generator.network, min(n, WARM_UP), SEED)
    began = time.perf_counter()
    made = generator.sample(generator.network, n, SEED)  # texts are on the host, so the device has finished
    return time.perf_counter() - began, list(made)


if __name__ == "__main__":
    main(*sys.argv[1:])
