"""Noise by item: the same for a seed and an item, whatever else is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def item_noise(seed: int, items: Iterable[int], shape: Sequence[int]) -> Tensor:
    """Standard normal [items, *shape] float32, on the CPU, so that every device starts from the same."""
    return torch.stack([torch.randn(tuple(shape), generator=_of(seed, item)) for item in items])


def _of(seed: int, item: int) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}:{item}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
