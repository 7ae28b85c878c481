"""Quantizers: a weight becomes an index into a few levels, times a scale for its output channel.

Every scale minimises the squared error of its channel. (With min/max scales 1 bit is worse than setting the tensor to
zero, and the benchmark would measure the quantizer's failure, not the model's.) Scales are stored as float16, and
indices are chosen after that rounding. Zeros of pruned weights stay in the mask, and take no part in choosing a scale.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Method, Stored
from bench.layers import weights_of
from bench.methods.plain import halve_the_rest

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-24, 65504.0  # of float16


class Quantizer(Method):
    """Subclasses say how one matrix [channels, weights per channel] maps to levels and scales."""

    quantizes = True

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        changed = {}
        kept = {}
        for name, weight in weights_of(compressed.network).items():
            stored = compressed.tensors[name]
            if stored.quantized:
                raise BadInput(f"{self.name!r} would quantize {name!r} a second time: give one quantizer")
            if name in context.kept:
                kept[name] = context.kept[name]
            else:
                changed[name] = self.quantize(stored, weight.axis)
        return halve_the_rest(compressed.replace(changed, kept), context.kept)

    def quantize(self, stored: Stored, axis: int) -> Stored:
        rows, mask = (by_channel(t, axis) for t in (stored.dequantize(), kept_of(stored)))
        scales = storable(self.scales(rows, mask.float()))  # [channels]
        levels = torch.tensor(self.levels, dtype=torch.float32, device=rows.device)
        indices = nearest(rows / divisor(scales), levels).to(torch.uint8)
        moved = [stored.shape[axis], *(size for i, size in enumerate(stored.shape) if i != axis)]
        dense = indices.reshape(moved).movedim(0, axis).contiguous()
        return Stored(stored.shape, indices=dense, levels=self.levels, scales=scales.half(), axis=axis, mask=stored.mask)

    @property
    @abstractmethod
    def levels(self) -> tuple[float, ...]:
        """The grid in units of the scale, ascending."""

    @abstractmethod
    def scales(self, rows: Tensor, mask: Tensor) -> Tensor:
        """[channels, n], 1.0 where kept else 0.0 [channels, n] -> the scale of each channel [channels]."""


def by_channel(tensor: Tensor, axis: int) -> Tensor:
    """[..., channels at axis, ...] -> [channels, n]."""
    return tensor.movedim(axis, 0).reshape(tensor.shape[axis], -1).contiguous()


def kept_of(stored: Stored) -> Tensor:
    if stored.mask is not None:
        return stored.mask
    return torch.ones(stored.shape, dtype=torch.bool, device=stored.dequantize().device)


def storable(scales: Tensor) -> Tensor:
    """float32 as float16 holds it; a scale that is too small becomes 0, and its channel with it."""
    return scales.clamp(max=LARGEST_SCALE).half().float()


def divisor(scales: Tensor) -> Tensor:
    """[channels] -> [channels, 1], never 0."""
    return scales.clamp(min=SMALLEST_SCALE)[:, None]


def nearest(values: Tensor, levels: Tensor) -> Tensor:
    """The index of the nearest level; a value half-way goes to the upper one."""
    return torch.bucketize(values, (levels[1:] + levels[:-1]) / 2, right=True)


# ------------------------------------------------------------------------------------------------------ uniform grids


class Uniform(Quantizer):
    """`bits` bits, symmetric. 2 and 3 bits: odd multiples of half a step (mid-rise, all 2^bits levels are used);
    4 and more: multiples of a step, zero among them (mid-tread, 2^bits - 1 levels)."""

    bits: ClassVar[int]

    @property
    def levels(self) -> tuple[float, ...]:
        top = 2 ** (self.bits - 1)
        if self.bits <= 3:
            return tuple(step + 0.5 for step in range(-top, top))
        return tuple(float(step) for step in range(-top + 1, top))

    def scales(self, rows: Tensor, mask: Tensor, coarse: int = 96, fine: int = 21, refinements: int = 4) -> Tensor:
        """The best of a sweep of clipping points, of a finer one around it, and of alternating least squares.

        For a fixed scale rounding is optimal; for fixed indices q the optimal scale is <w, q> / <q, q>. Every candidate is
        judged as float16 stores it and kept only where it lowers the error; the first is the min/max scale.
        """
        levels = torch.tensor(self.levels, dtype=torch.float32, device=rows.device)
        largest = (rows.abs() * mask).amax(1).clamp(min=1e-30)
        best, least = storable(largest / levels[-1]), torch.full_like(largest, torch.inf)

        def judge(candidate: Tensor) -> None:
            nonlocal best, least
            scale = storable(candidate)
            error = squared_error(rows, mask, levels, scale)
            best, least = torch.where(error < least, scale, best), torch.minimum(error, least)

        step = 0.9 / (coarse - 1)
        for share in torch.linspace(1.0, 0.1, coarse).tolist():
            judge(largest * share / levels[-1])
        centre = best
        for offset in torch.linspace(-step, step, fine).tolist():
            judge(centre + largest * offset / levels[-1])
        for _ in range(refinements):
            chosen = levels[nearest(rows / divisor(best), levels)] * mask
            judge((rows * chosen).sum(1) / (chosen * chosen).sum(1).clamp(min=1e-30))
        return best


def squared_error(rows: Tensor, mask: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    """[channels]: of rounding every kept weight to the nearest level."""
    rounded = levels[nearest(rows / divisor(scale), levels)] * scale[:, None]
    return ((rows - rounded).square() * mask).sum(1)


@dataclass(frozen=True)
class Int2(Uniform):
    name, description, bits = "int2", "uniform, 2 bits, per output channel", 2


@dataclass(frozen=True)
class Int3(Uniform):
    name, description, bits = "int3", "uniform, 3 bits, per output channel", 3


@dataclass(frozen=True)
class Int4(Uniform):
    name, description, bits = "int4", "uniform, 4 bits, per output channel", 4


@dataclass(frozen=True)
class Int5(Uniform):
    name, description, bits = "int5", "uniform, 5 bits, per output channel", 5


@dataclass(frozen=True)
class Int6(Uniform):
    name, description, bits = "int6", "uniform, 6 bits, per output channel", 6


@dataclass(frozen=True)
class Int7(Uniform):
    name, description, bits = "int7", "uniform, 7 bits, per output channel", 7


@dataclass(frozen=True)
class Int8(Uniform):
    name, description, bits = "int8", "uniform, 8 bits, per output channel", 8


# ------------------------------------------------------------------------------------------------- ternary and binary


@dataclass(frozen=True)
class Ternary(Quantizer):
    """-s, 0, s with the threshold and scale of least squared error, exactly.

    With the t largest magnitudes kept, the best scale is their mean and the error falls by (their sum)^2 / t; the best t
    is found among all by sorting once. (Li and Liu 2016, arXiv:1605.04711, approximate this threshold as 0.7 mean|w|.)
    """

    name = "ternary"
    description = "-s, 0, s per output channel, optimal threshold"
    levels = (-1.0, 0.0, 1.0)  # type: ignore[assignment]

    def scales(self, rows: Tensor, mask: Tensor) -> Tensor:
        largest_first = (rows.abs() * mask).sort(1, descending=True).values.double()
        counts = torch.arange(1, rows.shape[1] + 1, device=rows.device)
        sums = largest_first.cumsum(1)
        best = (sums.square() / counts).argmax(1, keepdim=True)
        return (sums.gather(1, best) / (best + 1))[:, 0].float()


@dataclass(frozen=True)
class Binary(Quantizer):
    """sign(w) * mean|w|: the least squared error of two levels -s, s (Rastegari et al. 2016, arXiv:1603.05279)."""

    name = "binary"
    description = "sign times the mean magnitude of each output channel"
    levels = (-1.0, 1.0)  # type: ignore[assignment]

    def scales(self, rows: Tensor, mask: Tensor) -> Tensor:
        return (rows.abs() * mask).sum(1) / mask.sum(1).clamp(min=1)
