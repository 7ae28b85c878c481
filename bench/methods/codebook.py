"""Levels that fit a tensor: the optimal scalar quantizer of a given number of levels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bench.errors import BadInput
from bench.methods.quantize import Quantizer
from bench.methods.scale_search import Grid, divisor, nearest, storable

BINS = 2048  # of the histogram that places many levels
PLACES = 200
MOST_ROUNDS = 1000


@dataclass(frozen=True)
class CodeBook(Quantizer):
    """2^bits levels of least squared error (Lloyd 1957, Max 1960: k-means in one dimension).

    A tensor has its own levels, in units of the root mean square of its rows: one row by default. The file
    counts the levels, and its indices are entropy-coded. For a Gaussian, D = 0.363, 0.117, 0.0345 and 0.0095
    of the variance at 1 to 4 bits (Max 1960).
    """

    granularity: str = "tensor"
    bits: int = field(default=3, metadata={"shown": True, "leads": True})

    name = "codebook"
    description = "2^bits levels of each tensor by k-means (Lloyd-Max)"
    one_book = True

    def __post_init__(self) -> None:
        if self.group and self.granularity == "tensor":
            object.__setattr__(self, "granularity", "channel")
        super().__post_init__()
        if not 1 <= self.bits <= 8:
            raise BadInput(f"bits={self.bits} of {self.name!r} is outside of 1 to 8: give 3, say")

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """Quantize rows of weights."""
        power = (rows.square() * mask).sum(1) / mask.sum(1).clamp(min=1)
        scales = storable(power.sqrt())
        units = rows / divisor(scales)
        levels = lloyd_max(units[mask > 0].cpu().numpy(), 2**self.bits).tolist()
        grid = torch.tensor(levels, dtype=torch.float32, device=rows.device)
        return Grid((tuple(levels),), scales[None], nearest(units, grid))


def lloyd_max(values: np.ndarray, count: int) -> np.ndarray:
    """Values [n] -> at most `count` ascending levels, as float16 holds them.

    Lloyd's iteration starts from the best cells whose ends are among some hundred places, and from the levels
    that are best where they are many. The better end counts. Where the density is log-concave, as a
    Gaussian's, both ends are the same (Fleischer 1964).
    """
    if not len(values):
        return np.zeros(1)
    ordered = np.sort(values.astype(np.float64))
    ends = [lloyd(ordered, start(ordered, count)) for start in (best_cells, companded)]
    levels = min(ends, key=lambda end: end[1])[0]
    return np.unique(np.clip(levels, -65504, 65504).astype(np.float16).astype(np.float64))


def best_cells(ordered: np.ndarray, count: int) -> np.ndarray:
    """The means of the cells of least squared error, found by dynamic programming (Bruce 1965; Wang and Song
    2011).

    A cell ends at one of `PLACES` quantiles, or at one of as many even steps from the least to the greatest.
    """
    steps = np.searchsorted(ordered, np.linspace(ordered[0], ordered[-1], PLACES))
    places = np.unique(np.append(np.linspace(0, len(ordered), PLACES).astype(int), steps))
    sums, squares = (np.append(0.0, x.cumsum())[places] for x in (ordered, np.square(ordered)))
    counts = np.maximum(places - places[:, None], 1)  # [from, to]
    cost = squares - squares[:, None] - np.square(sums - sums[:, None]) / counts
    cost[np.tril_indices(len(places), -1)] = np.inf
    error, cuts = cost[0], []
    for _ in range(count - 1):
        total = error[:, None] + cost
        cuts.append(total.argmin(0))
        error = total.min(0)
    ends = [len(places) - 1]
    for cut in reversed(cuts):
        ends.append(int(cut[ends[-1]]))
    ends = [0, *reversed(ends)]
    filled = np.diff(places[ends]) > 0
    means = np.diff(sums[ends])[filled] / np.diff(places[ends])[filled]
    return np.append(means, np.full(count - len(means), means[-1]))


def companded(ordered: np.ndarray, count: int) -> np.ndarray:
    """Quantiles of the cube root of the density, from a histogram: the best placement of many levels (Panter
    and Dite 1951).
    """
    if ordered[0] == ordered[-1]:
        return np.full(count, ordered[0])
    counts, edges = np.histogram(ordered, BINS)
    share = np.cbrt(counts).cumsum()
    return np.interp((np.arange(count) + 0.5) / count, np.append(0, share) / share[-1], edges)


def lloyd(ordered: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float]:
    """Move levels to the means of their cells, until nothing moves -> (levels, squared error).

    Sums over cells are differences of one running sum, so a round costs no pass over the values.
    """
    sums = np.append(0.0, ordered.cumsum())
    places = np.empty(0, np.int64)
    for _ in range(MOST_ROUNDS):
        before, places = places, np.searchsorted(ordered, (levels[1:] + levels[:-1]) / 2)
        if np.array_equal(before, places) and len(before):
            break
        ends = np.concatenate([[0], places, [len(ordered)]])
        counts = np.diff(ends)
        means = np.diff(sums[ends]) / np.maximum(counts, 1)
        levels = np.sort(np.where(counts > 0, means, levels))
    nearest_level = np.searchsorted((levels[1:] + levels[:-1]) / 2, ordered)
    return levels, float(np.square(ordered - levels[nearest_level]).sum())
