"""Noise by item: the same for a seed and an item, whatever else is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def item_noise(seed: int, items: Iterable[int], shape: Sequence[int]) -> Tensor:
    """Standard normal [items, *shape] float32, on the CPU, so that every device starts from the same."""
    return torch.stack([torch.randn(tuple(shape), generator=_of(seed, item)) for item in items])


def item_generators(seed: int, items: Iterable[int], use: str) -> list[torch.Generator]:
    """A generator for each item, for noise that is drawn later; each `use` has its own."""
    return [_of(seed, item, f":{use}") for item in items]


def _of(seed: int, item: int, use: str = "") -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}:{item}{use}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
