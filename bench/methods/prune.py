"""Pruning: weights become exact zeros, which later steps of a chain keep."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Method
from bench.layers import weights_of


@dataclass(frozen=True)
class Magnitude(Method):
    """The share `sparsity` of each tensor's weights that is smallest in magnitude becomes zero (Han et al. 2015)."""

    sparsity: float = 0.5

    name = "magnitude"
    description = "the smallest weights of each tensor become zero"

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise BadInput(f"sparsity={self.sparsity:g} is outside of [0, 1): allowed are 0 <= sparsity < 1, such as 0.5")

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        changed, kept = {}, {}
        for name in weights_of(compressed.network):
            if name in context.kept:
                kept[name] = context.kept[name]
                continue
            stored = compressed.tensors[name]
            magnitude = stored.dequantize().abs().flatten()
            mask = torch.ones(magnitude.numel(), dtype=torch.bool, device=magnitude.device)
            mask[magnitude.argsort(stable=True)[: round(self.sparsity * magnitude.numel())]] = False
            mask = mask.reshape(stored.shape)
            changed[name] = dataclasses.replace(stored, mask=mask if stored.mask is None else mask & stored.mask)
        return compressed.replace(changed, kept)
