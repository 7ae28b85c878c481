"""Parametrizations for training-time methods: from latent weights to the values that the file will hold.

A parametrized layer computes with these values in each forward pass, and the optimizer updates the latent
weights behind them (`torch.nn.utils.parametrize`). The gradient passes through rounding unchanged: the
straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bench.interfaces import Layout, StoredTensor
from bench.methods.plain import plain
from bench.methods.scale_search import divisor, nearest, storable
from bench.methods.weightwise import kept_of

CLIP = 1.5  # scales; chosen on the validation part of text at 1 bit (docs/training-time.md)
SMALLEST_START = 1e-3  # of the tensor's mean scale: a row of zeros could never leave a learned scale of 0


class Parametrization(nn.Module):
    """Latent weights [*shape] -> the weights that the layer computes with, and how a file stores them."""

    def forward(self, latent: Tensor) -> Tensor:
        """[*shape] -> [*shape], differentiable."""
        raise NotImplementedError

    def advance(self, latent: Tensor, share: float) -> None:
        """Called before each step with the share of the steps that are done after it."""

    def stored(self, latent: Tensor) -> StoredTensor:
        """What the file holds. Its `dequantize` equals `forward`, bit for bit."""
        raise NotImplementedError


def register(layer: nn.Module, parameter: str, made: Parametrization) -> None:
    """Let a layer compute with `made(latent)` in place of one of its parameters, which becomes the latent.

    A recurrent layer keeps a list of its weights. Computed weights cannot be copied with a layer, so the list
    is made whenever it is read.
    """
    parametrize.register_parametrization(layer, parameter, made, unsafe=True)
    if isinstance(layer, nn.RNNBase):
        layer.__dict__.pop("_flat_weights", None)
        # a parametrized layer has a class of its own
        type(layer)._flat_weights = property(_weights_now, _ignore)  # type: ignore[assignment]


def _weights_now(layer: nn.RNNBase) -> list[Tensor]:
    return [getattr(layer, name) for name in layer._flat_weights_names]


def _ignore(layer: nn.RNNBase, weights: list[Tensor]) -> None:
    """PyTorch refreshes the list before each forward pass."""


class StraightThrough(torch.autograd.Function):
    """Round rows to the nearest level of their scale. Gradients as in LSQ (Esser et al. 2020,
    arXiv:1902.08153).

    A latent weight within the grid's range gets the gradient of its rounded value, one outside of it gets 0.
    The scale's gradient is the sum of gradient times (level - weight / scale), or times the outermost level.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scales: Tensor, levels: Tensor) -> Tensor:  # type: ignore[override]
        """Rows [r, n], scales [r], levels [l] -> [r, n]."""
        relative = rows / divisor(scales)
        chosen = levels[nearest(relative, levels)]
        inside = (relative >= levels[0]) & (relative <= levels[-1])
        ctx.save_for_backward(torch.where(inside, chosen - relative, chosen), inside)
        return chosen * scales[:, None]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        """Gradient [r, n] -> those of rows and scales."""
        offsets, inside = ctx.saved_tensors
        return gradient * inside, (gradient * offsets).sum(1), None


class FakeQuantize(Parametrization):
    """The values of a grid, with one scale for each row of the layout.

    start: the tensor as a quantizer stores it before training. Its grid and layout are kept.
    learned: each scale is trained (LSQ), in the log domain, from the start's scale. Otherwise a scale is the
    mean magnitude of its row (Rastegari et al. 2016, arXiv:1603.05279; Ma et al. 2024, arXiv:2402.17764), and
    the gradient passes to latent weights up to `CLIP` times the scale. Those far out would never return.
    anneal: share of the steps in which the values move from the latent weights to the grid, in proportion to
    the steps (Liu and Mattina 2019, arXiv:1903.01061). 0: they are on the grid from the first step.
    """

    levels: Tensor
    on_grid: Tensor  # 0: latent weights; 1: the grid
    start_scales: Tensor
    mask: Tensor  # bool [rows, n]

    def __init__(self, start: StoredTensor, learned: bool, anneal: float = 0.0) -> None:
        super().__init__()
        self.anneal = anneal
        if anneal:  # state, so that an average of the network and a training that resumes have it
            self.register_buffer("on_grid", torch.tensor(0.0))
        assert start.scales is not None and len(start.codebook) == 1
        self.form, self.learned = dataclasses.replace(start, indices=None, scales=None, mask=None), learned
        levels = torch.tensor(start.codebook[0], device=start.scales.device)
        self.register_buffer("levels", levels, persistent=False)
        if learned:
            scales = start.scales[0].float()
            self.register_buffer("start_scales", scales.clamp(min=self.least_start(scales)))
            self.log_scales = nn.Parameter(torch.zeros_like(scales))
        self.masked = start.mask is not None
        if start.mask is not None:
            self.register_buffer("mask", self.form.layout.rows(start.mask))

    def least_start(self, scales: Tensor) -> float:
        """The least scale to start from. A tensor of zeros gets an untrained one's range, 1 / sqrt(n)."""
        if scales.any():
            return SMALLEST_START * scales.mean().item()
        layout, shape = self.form.layout, self.form.shape
        length = math.prod(shape) / max(1, layout.row_count(shape))
        return max(1.0, length) ** -0.5 / self.levels[-1].item()

    def rows_of(self, latent: Tensor) -> Tensor:
        """[*shape] -> [rows, n], without pruned weights."""
        return self.kept(self.form.layout.rows(latent))

    def kept(self, rows: Tensor) -> Tensor:
        """[rows, n], 0 where weights are pruned."""
        return without(rows, self.mask) if self.masked else rows

    def scales_of(self, rows: Tensor) -> Tensor:
        """[rows, n] -> [rows], as float16 holds them."""
        if self.learned:
            exact = self.start_scales * self.log_scales.exp()
            return exact + (storable(exact) - exact).detach()
        kept = self.mask.sum(1).clamp(min=1) if self.masked else max(rows.shape[1], 1)
        return storable(rows.detach().abs().sum(1) / kept)

    def forward(self, latent: Tensor) -> Tensor:
        """[*shape] -> the grid's values [*shape]."""
        rows = self.rows_of(latent)
        scales = self.scales_of(rows)
        if self.learned:
            values = StraightThrough.apply(rows, scales, self.levels)
        else:
            relative = rows.detach() / divisor(scales)
            chosen = self.levels[nearest(relative, self.levels)] * scales[:, None]
            values = Replaced.apply(rows, chosen, relative.abs() <= CLIP)
        values = self.kept(values)
        if self.anneal and self.on_grid < 1:
            values = torch.lerp(rows, values, self.on_grid)
        return self.form.layout.restore(values, self.form.shape)

    def advance(self, latent: Tensor, share: float) -> None:
        """Move the values on towards the grid."""
        if self.anneal:
            self.on_grid.fill_(min(1.0, share / self.anneal))

    @torch.no_grad()
    def stored(self, latent: Tensor) -> StoredTensor:
        """Indices, scales and mask."""
        rows, layout, shape = self.rows_of(latent), self.form.layout, self.form.shape
        scales = self.scales_of(rows)
        indices = nearest(rows / divisor(scales), self.levels).to(torch.uint8)
        return dataclasses.replace(
            self.form,
            indices=layout.restore(indices, shape),
            scales=scales.half()[None],
            mask=layout.restore(self.mask, shape) if self.masked else None,
        )


def without(values: Tensor, mask: Tensor) -> Tensor:
    """The values where the mask is True, else 0.0, as `StoredTensor.dequantize` gives them (never -0.0)."""
    return torch.where(mask, values, torch.zeros_like(values))


class Replaced(torch.autograd.Function):
    """Other values in the forward pass; in the backward pass the identity, and 0 where `passes` is False."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, values: Tensor, passes: Tensor) -> Tensor:  # type: ignore[override]
        """-> values."""
        ctx.save_for_backward(passes)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        """-> the gradient of `rows`."""
        return gradient * ctx.saved_tensors[0], None, None


class Masked(Parametrization):
    """Weights times a mask.

    layout: how a file orders the weights, output channels first.
    stage: share of the steps -> the number of the mask that is due then.
    choose: (latent weights, number) -> the mask, bool [*shape], once for each number. Without it the mask
    stays.
    """

    mask: Tensor
    before: Tensor
    number: Tensor

    def __init__(
        self,
        start: StoredTensor,
        layout: Layout,
        stage: Callable[[float], int] | None = None,
        choose: Callable[[Tensor, int], Tensor] | None = None,
    ) -> None:
        super().__init__()
        before = kept_of(start)
        # all three are state, so a training that resumes chooses no mask that is chosen already
        self.register_buffer("mask", before.clone())
        self.register_buffer("before", before.clone())
        self.register_buffer("number", torch.tensor(-1))
        self.stage, self.choose, self.layout, self.pattern = stage, choose, layout, start.pattern

    def advance(self, latent: Tensor, share: float) -> None:
        """Choose the mask again where a new one is due. What was pruned before training stays pruned."""
        if self.stage is None or self.choose is None or (number := self.stage(share)) == self.number.item():
            return
        self.number.fill_(number)
        self.mask.copy_(self.choose(without(latent.detach(), self.before), number) & self.before)

    def forward(self, latent: Tensor) -> Tensor:
        """[*shape] -> the kept weights [*shape]."""
        return without(latent, self.mask)

    @torch.no_grad()
    def stored(self, latent: Tensor) -> StoredTensor:
        """Plain values with their mask."""
        kept = plain(without(latent, self.mask).clone())
        return dataclasses.replace(kept, mask=self.mask.clone(), pattern=self.pattern, layout=self.layout)
