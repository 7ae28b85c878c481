"""Calibrated quantizers: the grid and scales of `int8` ... `int2`, with indices that spare a layer's output.

Rounding to nearest minimises the error of the weights. These methods minimise the error of what the layer
computes, tr(D H D^T) for a change D of the weights and the second moments H of its inputs.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Layout, StoredTensor
from bench.layers import Weight
from bench.methods.calibration import layer_by_layer
from bench.methods.error_feedback import feed_back, inverse_factor
from bench.methods.quantize import Grid, Quantizer
from bench.methods.scale_search import SMALLEST_SCALE, nearest
from bench.methods.weightwise import kept_of


@dataclass(frozen=True)
class Rounding:
    """One weight, ready for its indices: its rows as its layer multiplies them, [groups, rows, n] each."""

    rows: Tensor  # float32
    mask: Tensor  # bool: False where a weight was pruned
    scales: Tensor  # of each weight
    levels: Tensor  # [l], ascending, one step apart

    def columns(self, order: Tensor) -> Rounding:
        """Some of the columns, or all in another order: [groups, c]."""
        places = order[:, None].expand(-1, self.rows.shape[1], -1)
        rows, mask, scales = (part.gather(2, places) for part in (self.rows, self.mask, self.scales))
        return Rounding(rows, mask, scales, self.levels)

    def in_steps(self, rows: Tensor) -> Tensor:
        """Values over their scales, as `Quantizer` divides them."""
        return rows / self.scales.clamp(min=SMALLEST_SCALE)

    def nearest(self, rows: Tensor) -> Tensor:
        """The nearest index of each value."""
        return nearest(self.in_steps(rows), self.levels)

    def values(self, indices: Tensor) -> Tensor:
        """What indices stand for; pruned weights are zero."""
        return self.levels[indices] * self.scales * self.mask

    def neighbours(self) -> tuple[Tensor, Tensor]:
        """(the lower neighbour's index as float, where the weight is between it and the upper one: 0 to 1)"""
        place = self.in_steps(self.rows) - self.levels[0]
        low = place.floor().clamp(0, len(self.levels) - 2)
        return low, (place - low).clamp(0, 1)

    def error(self, indices: Tensor, moments: Tensor) -> Tensor:
        """The mean squared error of each row's output, [groups, rows]."""
        change = self.values(indices) - self.rows * self.mask
        return ((change @ moments.float()) * change).sum(2)


@dataclass(frozen=True)
class CalibratedQuantizer(Quantizer):
    """Base class: subclasses choose the indices into the grid of `int{bits}`, whose scales stay."""

    bits: int = field(default=4, metadata={"shown": True, "leads": True})

    calibrates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 2 <= self.bits <= 8:
            raise BadInput(f"bits={self.bits} of {self.name!r} is outside of 2 to 8: give 4, say")

    def quantized(
        self, compressed: Compressed, context: Context, weights: Mapping[str, Weight]
    ) -> Compressed:
        """All of these weights, each with what is known of its inputs."""
        return layer_by_layer(compressed, context, weights, self.step)

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Round to nearest, with the scales of least squared error."""
        return self.grid.fit(rows, mask)

    @property
    def grid(self) -> Quantizer:
        """The quantizer that rounds to nearest."""
        from bench.registry import METHODS

        made = METHODS.load(f"int{self.bits}")(granularity=self.granularity, group=self.group)
        assert isinstance(made, Quantizer)
        return made

    def step(self, stored: StoredTensor, weight: Weight, moments: Tensor) -> StoredTensor:
        """One weight, with the second moments [groups, n, n] of its inputs."""
        nearest, channels = self.quantize(stored, weight.axis, weight.blocks), weight.layout()
        task = rounding_of(stored, nearest, channels, groups=len(moments))
        assert nearest.indices is not None
        indices = self.choose(task, moments).flatten(0, 1).to(nearest.indices.dtype)
        return dataclasses.replace(nearest, indices=channels.restore(indices, stored.shape))

    @abstractmethod
    def choose(self, task: Rounding, moments: Tensor) -> Tensor:
        """The indices, [groups, rows, n]."""


def rounding_of(stored: StoredTensor, nearest: StoredTensor, channels: Layout, groups: int) -> Rounding:
    """The rows of a weight, in as many groups as its layer's inputs."""
    assert nearest.scales is not None

    def rows(tensor: Tensor) -> Tensor:
        return channels.rows(tensor).unflatten(0, (groups, -1))

    dense = nearest.layout.each(nearest.scales[0].float(), stored.shape)
    levels = torch.tensor(nearest.codebook[0], device=dense.device)
    return Rounding(rows(stored.residual().dequantize()), rows(kept_of(stored)), rows(dense), levels)


@dataclass(frozen=True)
class Gptq(CalibratedQuantizer):
    """GPTQ (Frantar et al. 2022, arXiv:2210.17323): later columns make good what rounding earlier ones costs.

    Columns with the largest inputs come first, while most of the others can still follow.
    """

    name = "gptq"
    description = "uniform, rounding errors fed forward on calibration inputs"

    def choose(self, task: Rounding, moments: Tensor) -> Tensor:
        """The indices, [groups, rows, n]."""
        order = moments.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)  # [groups, n]
        across, down = order[:, None].expand_as(moments), order[:, :, None].expand_as(moments)
        factor, ordered = inverse_factor(moments.gather(1, down).gather(2, across)), task.columns(order)
        found: list[Tensor] = []

        def rounding(column: Tensor, j: int) -> Tensor:
            one = ordered.columns(torch.full_like(order[:, :1], j))
            found.append(one.nearest(column))
            return one.values(found[-1])

        def mask(part: Tensor, start: int) -> Tensor:
            return ordered.mask[:, :, start : start + part.shape[2]]

        feed_back(ordered.rows, factor, mask, rounding)
        indices = torch.cat(found, 2)
        return torch.empty_like(indices).scatter_(2, order[:, None].expand_as(indices), indices)


@dataclass(frozen=True)
class AdaRound(CalibratedQuantizer):
    """AdaRound (Nagel et al. 2020, arXiv:2004.10568): learns for each weight whether to round it up or down.

    Gradient descent moves each weight between its two neighbours on the grid, down the output's error. A
    price on values in between rises until all have settled. The gradient is that of all inputs at once, so
    nothing is drawn.
    """

    name = "adaround"
    description = "uniform, rounding up or down learnt on calibration inputs"

    STEPS: ClassVar[int] = 500
    RATE: ClassVar[float] = 0.02  # of Adam
    PRICE: ClassVar[float] = 30.0  # of a weight in between; round-to-nearest costs 1 a weight on average
    BETA: ClassVar[tuple[float, float]] = (20.0, 2.0)  # exponents of the price, from first to last

    def choose(self, task: Rounding, moments: Tensor) -> Tensor:
        """The indices, [groups, rows, n]; those of round-to-nearest in a row that does not get better."""
        low, share = task.neighbours()
        settled = low + self.learn(task, low, share, moments)
        plain, learnt = task.nearest(task.rows), settled.int()
        better = task.error(learnt, moments) < task.error(plain, moments)
        return torch.where(better[:, :, None], learnt, plain)

    def learn(self, task: Rounding, low: Tensor, share: Tensor, moments: Tensor) -> Tensor:
        """1.0 where a weight goes up, else 0.0.

        share: where it is between its two neighbours; weights at 0 and 1 stay there.
        """
        between, moments = between_of(share, task.mask), moments.float()
        unit = between.sum() / task.error(task.nearest(task.rows), moments).sum().clamp(min=1e-30)
        hidden = as_logit(share)
        optimizer = torch.optim.Adam([hidden], self.RATE)
        for step in range(self.STEPS):
            up = torch.where(between, stretched(hidden), share)
            change = ((low + up + task.levels[0]) * task.scales - task.rows) * task.mask
            slope = 2 * unit * (change @ moments) * task.scales - self.push(up, step / self.STEPS)
            hidden.grad = slope * between * stretched_slope(hidden)
            optimizer.step()
        return torch.where(between, stretched(hidden), share).round()

    def push(self, up: Tensor, progress: float) -> Tensor:
        """To the nearer end: minus the derivative of PRICE * (1 - |2h - 1|^beta).

        With a large beta, only weights next to an end feel it.
        """
        beta, side = self.beta(progress), 2 * up - 1
        return 2 * beta * self.PRICE * side.sign() * side.abs().pow(beta - 1)

    def beta(self, progress: float) -> float:
        """The exponent of the price, from 0, the first step, to 1."""
        first, last = self.BETA
        return first + (last - first) * progress


def between_of(share: Tensor, mask: Tensor) -> Tensor:
    """The weights between two neighbours; those on the grid, outside of it, or pruned have no choice."""
    return (share > 0) & (share < 1) & mask


def as_logit(share: Tensor) -> Tensor:
    """Hidden values that `stretched` maps to these shares."""
    return ((share.clamp(0.001, 0.999) + 0.1) / 1.2).logit()


def stretched(hidden: Tensor) -> Tensor:
    """A sigmoid from -0.1 to 1.1, cut at 0 and 1, so that it reaches both."""
    return (1.2 * hidden.sigmoid() - 0.1).clamp(0, 1)


def stretched_slope(hidden: Tensor) -> Tensor:
    """Its derivative."""
    plain, value = hidden.sigmoid(), stretched(hidden)
    return 1.2 * plain * (1 - plain) * ((value > 0) & (value < 1))
