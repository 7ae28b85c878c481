"""Methods without quantization: the baseline, half precision, and the floor."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Method, StoredTensor
from bench.layers import tensors_of, uncovered, weights_of


def original(network: nn.Module) -> Compressed:
    """Every tensor as plain float32; integer buffers keep their type.

    Each chain of methods starts from these.

    They share the network's memory, and no method writes to its input. Raises `BadInput` for a tensor with
    NaN or infinity.
    """
    for name, value in tensors_of(network).items():
        if value.is_floating_point() and not value.isfinite().all():
            raise BadInput(f"tensor {name!r} holds NaN or infinity: there is nothing to compress")
    tensors = {
        name: plain(value.float() if value.is_floating_point() else value)
        for name, value in tensors_of(network).items()
    }
    return Compressed(network, tensors, untouched=uncovered(network))


def plain(value: Tensor) -> StoredTensor:
    """Store a tensor without quantization."""
    return StoredTensor(tuple(value.shape), values=value)


def half(stored: StoredTensor) -> StoredTensor:
    """The tensor as float16.

    It stays as it is where that would overflow, or where it is not plain float32.
    """
    if stored.values is None or stored.values.dtype != torch.float32:
        return stored
    rounded = stored.values.half()
    return dataclasses.replace(stored, values=rounded) if rounded.isfinite().all() else stored


def halve_the_rest(compressed: Compressed, kept: Container[str] = ()) -> Compressed:
    """Biases and norms as float16, running variances as float32.

    Every method of 8 bits or fewer does this.
    """
    weights = weights_of(compressed.network)
    names = [
        name
        for name in compressed.tensors
        if name not in weights and name not in kept and "running_var" not in name
    ]
    rest = {name: half(compressed.tensors[name]) for name in names}
    return compressed.replace(
        {name: stored for name, stored in rest.items() if stored is not compressed.tensors[name]}
    )


@dataclass(frozen=True)
class NoCompression(Method):
    """The baseline: every tensor as float32."""

    name = "none"
    description = "the baseline: plain float32 tensors"

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        return compressed


@dataclass(frozen=True)
class Half(Method):
    """Every tensor as float16."""

    name = "fp16"
    description = "every tensor as float16 (lossless for the embedded models)"

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        names = [name for name in compressed.tensors if name not in context.excluded]
        kept = {
            name: reason
            for name, reason in context.excluded.items()
            if name in weights_of(compressed.network)
        }
        return compressed.replace({name: half(compressed.tensors[name]) for name in names}, kept)


@dataclass(frozen=True)
class Permute(Method):
    """The floor: each tensor keeps its weights in random order. This destroys everything that was learnt."""

    seed: int = 0

    name = "permute"
    description = "weights permuted within each tensor: the floor that retention is measured from"
    rewrites = True

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"seed={self.seed} is outside of [0, 2^63): give a seed such as 0")

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        noise = torch.Generator().manual_seed(self.seed)
        changed, kept = {}, {}
        for name in weights_of(compressed.network):
            if name in context.excluded:
                kept[name] = context.excluded[name]
                continue
            if compressed.tensors[name].quantized:
                raise BadInput("'permute' has to come before a quantizer")
            dense = compressed.tensors[name].dequantize()
            order = torch.randperm(dense.numel(), generator=noise).to(dense.device)
            changed[name] = plain(dense.flatten()[order].reshape(dense.shape))
        return compressed.replace(changed, kept)
