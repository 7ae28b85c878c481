"""Entropy-coded scalar quantization. The rate is the entropy of the indices and not the number of levels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bench.errors import BadInput
from bench.methods.quantize import Quantizer
from bench.methods.scale_search import SMALLEST_SCALE, Grid, divisor, storable

BINS = 2**16  # in which thresholds are looked for; the weights themselves are then rounded exactly
MOST_LEVELS = 2**14
SLOPE = math.log(2) / 6  # lambda / step^2 of a fine uniform quantizer: dD/dR = -2 ln 2 * step^2 / 12


@dataclass(frozen=True)
class EntropyCoded(Quantizer):
    """`bits` is the entropy of the indices in bits a weight, and it may be fractional: `ecsq:bits=1.6`.

    Reconstruction is uniform: whole multiples of one step, by default one step a tensor. Rounding minimises
    squared error + lambda * code length (entropy-constrained quantization: Chou, Lookabaugh and Gray 1989).
    This widens the dead zone around zero and removes rare levels. For an iid Gaussian the rate stays within a
    quarter of a bit of rate-distortion theory. `granularity=channel` or `group=G` first divides each row by
    its root mean square.
    """

    granularity: str = "tensor"
    bits: float = field(default=2.0, metadata={"shown": True})

    name = "ecsq"
    description = "uniform steps, entropy-coded indices of `bits` bits, rate-distortion-optimised rounding"
    one_book = True

    def __post_init__(self) -> None:
        if self.group and self.granularity == "tensor":
            object.__setattr__(self, "granularity", "channel")
        super().__post_init__()
        if not 0 < self.bits <= 8:
            raise BadInput(f"bits={self.bits:g} of {self.name!r} is outside of (0, 8]: give 2 or 1.5, say")

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Quantize rows of weights."""
        unit = units(rows, mask)
        step, levels, thresholds = search(
            (rows / unit.clamp(min=1e-30)[:, None])[mask > 0].cpu().numpy(), self.bits, least_step(unit)
        )
        scales = storable(unit * step)
        edges = torch.tensor(thresholds, dtype=torch.float32, device=rows.device)
        chosen = torch.bucketize(rows / divisor(scales), edges, right=True, out_int32=True)
        places = torch.tensor(levels - levels[0], device=rows.device)
        return Grid((tuple(map(float, range(levels[0], levels[-1] + 1))),), scales[None], places[chosen])


def units(rows: Tensor, mask: Tensor) -> Tensor:
    """The root mean square of each row's kept weights [rows]; 1 for a single row."""
    if len(rows) == 1:
        return torch.ones(1, device=rows.device)
    return ((rows.square() * mask).sum(1) / mask.sum(1).clamp(min=1)).sqrt()


def least_step(unit: Tensor) -> float:
    """The smallest step that float16 can store, in units of the largest row."""
    return SMALLEST_SCALE / max(float(unit.max()), SMALLEST_SCALE)


def search(weights: np.ndarray, bits: float, least: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Find the quantizer of entropy `bits` for weights float32 [n], with a step of `least` or more.

    Returns (step, levels [l] in use, thresholds between them [l - 1]), the last two in steps. Entropy falls
    as the step grows, so the step is found by bisection. A few weights have less entropy than `bits` at any
    step, and get a small one.
    """
    peak = float(np.abs(weights).max(initial=0.0))
    if not peak:
        return 1.0, np.zeros(1, int), np.empty(0)
    histogram = Histogram(weights, peak)
    low, high = (math.log(max(step, least)) for step in (peak / (MOST_LEVELS // 2 - 1), 4 * peak))
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if histogram.quantize(math.exp(middle)).entropy > bits else (low, middle)
    best = histogram.quantize(math.exp(high))
    return best.step, best.levels, best.thresholds


@dataclass(frozen=True)
class Rounding:
    """A uniform quantizer whose thresholds depend on the code length of each level."""

    step: float
    levels: np.ndarray  # int [l], ascending
    thresholds: np.ndarray  # [l - 1], in steps
    entropy: float  # bits a weight


class Histogram:
    """Weights counted in fine bins, so that testing a quantizer needs no pass over them."""

    def __init__(self, weights: np.ndarray, peak: float) -> None:
        counts, self.edges = np.histogram(weights, BINS, (-peak, peak))
        self.below = np.concatenate([[0], counts.cumsum()]) / len(weights)  # share of weights below each edge
        self.peak = peak

    def quantize(self, step: float, rounds: int = 30) -> Rounding:
        """Fit thresholds and code lengths to each other, in turn (Lloyd's iteration)."""
        top = math.floor(self.peak / step + 0.5)
        levels = np.arange(-top, top + 1)
        thresholds = levels[:-1] + 0.5
        for _ in range(rounds):
            share = np.diff(np.interp(thresholds * step, self.edges, self.below), prepend=0.0, append=1.0)
            levels, share = levels[share > 0], share[share > 0]
            length = -np.log2(share)
            before, (levels, thresholds) = thresholds, boundaries(levels, SLOPE * length)
            if len(before) == len(thresholds) and np.abs(before - thresholds).max(initial=0.0) < 1e-3:
                break
        return Rounding(step, levels, thresholds, float((share * length).sum()))


def boundaries(levels: np.ndarray, price: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best levels and the thresholds between them.

    A threshold between neighbouring levels a and b solves (x - a)^2 + price(a) = (x - b)^2 + price(b).
    """
    while True:
        a, b = levels[:-1], levels[1:]
        thresholds = (a + b) / 2 + np.diff(price) / (2 * (b - a))
        alive = np.ones(len(levels), bool)
        alive[1:-1] = np.diff(thresholds) > 0
        if alive.all():
            return levels, thresholds
        levels, price = levels[alive], price[alive]
