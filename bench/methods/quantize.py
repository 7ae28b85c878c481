"""Quantizers: a weight becomes an index into a small code book, and each row of the layout has its own scale.

A quantizer is one function from rows of weights to code book, scales and indices (`Grid`).
`bench.interfaces.Layout` defines how a tensor becomes rows (`granularity=tensor|channel|group`).

Scales minimise the squared error of their row. With min/max scales, 1 bit is worse than setting the tensor to
zero; `scale=minmax` exists for comparison. Scales are stored as float16, and indices are chosen after that
rounding. Pruned weights stay in the mask and do not influence the scales.
"""

from __future__ import annotations

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import torch
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Layout, StoredTensor
from bench.layers import Weight
from bench.methods.plain import halve_the_rest
from bench.methods.scale_search import Best, Grid, sweep, sweep_range
from bench.methods.weightwise import Weightwise, kept_of, one_of

BLOCK = 2**20  # weights whose scales are searched together, to bound the memory


@dataclass(frozen=True)
class Quantizer(Weightwise):
    """Base class: subclasses quantize one matrix whose rows each share a scale."""

    granularity: str = "channel"
    group: int = 0  # weights that share a scale, of one channel; 0: see granularity

    quantizes = True
    one_book: ClassVar[bool] = False  # whether all rows of a tensor have to be seen together

    def __post_init__(self) -> None:
        one_of(self.name, "granularity", self.granularity, ("tensor", "channel", "group"))
        if (
            self.group < 0
            or (self.granularity == "group" and not self.group)
            or (self.granularity == "tensor" and self.group)
        ):
            raise BadInput(
                f"group={self.group} does not go with granularity={self.granularity} of {self.name!r}: "
                f"give group=32 alone"
            )
        if self.granularity == "group":
            # `group=32` implies it, so each method has one text
            object.__setattr__(self, "granularity", "channel")

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        weights, exempt = self.weights(compressed, context)
        self.refuse_quantized(compressed, weights)
        made = self.quantized(compressed, context, weights)
        return halve_the_rest(made.replace({}, exempt), {**context.excluded, **exempt})

    def quantized(
        self, compressed: Compressed, context: Context, weights: Mapping[str, Weight]
    ) -> Compressed:
        """All of these weights, by default one at a time."""
        return compressed.replace(
            {
                name: self.quantize(compressed.tensors[name], weight.axis, weight.blocks)
                for name, weight in weights.items()
            }
        )

    def refuse_quantized(self, compressed: Compressed, names: Iterable[str]) -> None:
        """Raises `BadInput` where an earlier method quantized one of these tensors."""
        for name in names:
            if compressed.tensors[name].quantized:
                raise BadInput(f"{self.name!r} would quantize {name!r} a second time: give one quantizer")

    def quantize(self, stored: StoredTensor, axis: int, blocks: int = 1) -> StoredTensor:
        """Quantize one tensor. `axis` and `blocks` say where its output channels are (`Layout`)."""
        layout = self._layout(Layout(axis=axis, blocks=blocks), stored.shape)
        rows, mask = layout.rows(stored.residual().dequantize()), layout.rows(kept_of(stored))
        if self.granularity == "channel" and not self.one_book:  # scales are independent
            size = max(1, BLOCK // max(rows.shape[1], 1))
            parts = [self.fit(r, m.float()) for r, m in zip(rows.split(size), mask.split(size))]
            grid = Grid(
                parts[0].codebook,
                torch.cat([p.scales for p in parts], 1),
                torch.cat([p.indices for p in parts]),
            )
        else:
            grid = self.fit(rows, mask.float())
        kind = torch.uint8 if len(grid.codebook[0]) <= 256 else torch.int16
        return StoredTensor(
            stored.shape,
            indices=layout.restore(grid.indices.to(kind), stored.shape),
            codebook=grid.codebook,
            scales=grid.scales.half(),
            layout=layout,
            mask=stored.mask,
            pattern=stored.pattern,
            factors=stored.factors,
        )

    def _layout(self, channels: Layout, shape: tuple[int, ...]) -> Layout:
        """The rows of a tensor. A group that is longer than a channel is the channel."""
        if not self.group:
            return dataclasses.replace(channels, granularity=self.granularity)
        group = min(self.group, max(1, channels.channel_length(shape)))
        return dataclasses.replace(channels, granularity="group", group=group)

    @abstractmethod
    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Quantize float32 [rows, n]. The mask [rows, n] is 1.0 where a weight is kept, else 0.0."""


# ------------------------------------------------------------------------------------------- given code books


@dataclass(frozen=True)
class Uniform(Quantizer):
    """`bits` bits, symmetric.

    2 and 3 bits use odd multiples of half a step (mid-rise, all 2^bits levels). 4 bits and more use multiples
    of a step, including zero (mid-tread, 2^bits - 1 levels). `asym` uses all 2^bits levels, from an offset.
    """

    asym: bool = False
    scale: str = "mse"

    bits: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "scale", self.scale, ("mse", "minmax"))

    @property
    def levels(self) -> tuple[float, ...]:
        """The symmetric grid in units of the scale, ascending."""
        top = 2 ** (self.bits - 1)
        if self.bits <= 3:
            return tuple(step + 0.5 for step in range(-top, top))
        return tuple(float(step) for step in range(-top + 1, top))

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Quantize rows of weights."""
        if self.asym:
            return sweep_range(rows, mask, 2**self.bits, self.scale)
        return sweep(rows, mask, self.levels, self.scale)


@dataclass(frozen=True)
class Int2(Uniform):
    """2 bits, a scale for each output channel."""

    name, description, bits = "int2", "uniform, 2 bits, per output channel", 2


@dataclass(frozen=True)
class Int3(Uniform):
    """3 bits, a scale for each output channel."""

    name, description, bits = "int3", "uniform, 3 bits, per output channel", 3


@dataclass(frozen=True)
class Int4(Uniform):
    """4 bits, a scale for each output channel."""

    name, description, bits = "int4", "uniform, 4 bits, per output channel", 4


@dataclass(frozen=True)
class Int5(Uniform):
    """5 bits, a scale for each output channel."""

    name, description, bits = "int5", "uniform, 5 bits, per output channel", 5


@dataclass(frozen=True)
class Int6(Uniform):
    """6 bits, a scale for each output channel."""

    name, description, bits = "int6", "uniform, 6 bits, per output channel", 6


@dataclass(frozen=True)
class Int7(Uniform):
    """7 bits, a scale for each output channel."""

    name, description, bits = "int7", "uniform, 7 bits, per output channel", 7


@dataclass(frozen=True)
class Int8(Uniform):
    """8 bits, a scale for each output channel."""

    name, description, bits = "int8", "uniform, 8 bits, per output channel", 8


@dataclass(frozen=True)
class NF4(Quantizer):
    """16 levels at quantiles of a Gaussian, including zero, for groups of 64 weights (Dettmers et al. 2023,
    arXiv:2305.14314).

    The published form scales a group by its largest magnitude: `nf4:scale=minmax`.
    """

    group: int = 64
    scale: str = "mse"

    name = "nf4"
    description = "16 levels at the quantiles of a Gaussian, per group of 64"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "scale", self.scale, ("mse", "minmax"))

    @property
    def levels(self) -> tuple[float, ...]:
        """Seven quantiles below zero, zero, and eight above.

        They are evenly spaced in probability up to 0.9677; the largest is 1.
        """
        top, quantile = 0.9677083, NormalDist().inv_cdf
        above = [quantile(top + (0.5 - top) * i / 8) for i in range(8)]
        below = [-quantile(top + (0.5 - top) * i / 7) for i in range(7)]
        return tuple(sorted(value / above[0] for value in (*below, 0.0, *above)))

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Quantize rows of weights."""
        return sweep(rows, mask, self.levels, self.scale)


# ----------------------------------------------------------------------------------------- ternary and binary


@dataclass(frozen=True)
class Ternary(Quantizer):
    """-s, 0, s with the exact threshold and scale of least squared error.

    If the t largest magnitudes are kept, the best scale is their mean, and the error falls by (their sum)^2 /
    t. One sort finds the best t. (Li and Liu 2016, arXiv:1605.04711, approximate this threshold as 0.7
    mean|w|.)
    """

    name = "ternary"
    description = "-s, 0, s per output channel, optimal threshold"
    levels: ClassVar[tuple[float, ...]] = (-1.0, 0.0, 1.0)

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Quantize rows of weights."""
        largest_first = (rows.abs() * mask).sort(1, descending=True).values.double()
        counts = torch.arange(1, rows.shape[1] + 1, device=rows.device)
        sums = largest_first.cumsum(1)
        count = (sums.square() / counts).argmax(1, keepdim=True)
        best = Best(rows, mask, (self.levels,))
        best.consider((sums.gather(1, count) / (count + 1))[:, 0].float())
        return best.grid()


@dataclass(frozen=True)
class Binary(Quantizer):
    """sign(w) * mean|w|: the least squared error of two levels -s, s (Rastegari et al. 2016,
    arXiv:1603.05279).

    `residual=2` also makes the residual binary, and it refits both scales to the best signs a few times (Guo
    et al. 2017, arXiv:1706.02021; Xu et al. 2018, arXiv:1802.00150). This takes 2 bits a weight for 4 values
    -+s -+t.
    """

    residual: int = 1

    name = "binary"
    description = "sign times the mean magnitude of each output channel; residual=2: twice"
    levels: ClassVar[tuple[float, ...]] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.residual <= 4:
            raise BadInput(f"residual={self.residual} of {self.name!r} is outside of 1 to 4")

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Quantize rows of weights."""
        kept = mask.sum(1).clamp(min=1)
        left, scales = rows, []
        for _ in range(self.residual):
            scales.append((left.abs() * mask).sum(1) / kept)
            left = left - torch.where(left >= 0, 1.0, -1.0) * scales[-1][:, None]
        signs = [
            tuple(plane) for plane in zip(*itertools.product(self.levels, repeat=self.residual), strict=True)
        ]
        best = Best(rows, mask, tuple(signs))
        best.consider(*scales)
        for _ in range(8 if self.residual > 1 else 0):
            best.refit()
        return best.grid()
