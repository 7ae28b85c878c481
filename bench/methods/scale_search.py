"""Searches the scales of rows: the least squared error, as float16 stores them.

The search evaluates each candidate with the same float32 operations on each machine, and the first of equal
candidates wins. Two shortcuts change no result. A grid of even steps rounds in place of looking up. A
candidate that clips too much is skipped: what it cuts off the largest weights alone exceeds the least error.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-24, 65504.0  # of float16
# torch may add longer rows in another order where they are alone; shorter rows have one order
LONGEST_MOVED = 2**15 - 1
TOGETHER = 2**18  # weights of the candidates that are evaluated together
MOST_LARGEST = 2**12  # weights of a row that tell what a candidate cuts off

CodeBook = tuple[tuple[float, ...], ...]  # [planes][levels]


@dataclass(frozen=True)
class Grid:
    """Quantized rows: value = sum over planes p of scales[p, row] * codebook[p][index]."""

    codebook: CodeBook
    scales: Tensor  # [planes, rows], as float16 holds them
    indices: Tensor  # [rows, n], whole numbers


def storable(scales: Tensor) -> Tensor:
    """Round float32 scales to float16. A scale that is too small becomes 0, and so does its row."""
    return scales.clamp(-LARGEST_SCALE, LARGEST_SCALE).half().float()


def divisor(scales: Tensor) -> Tensor:
    """Scales [rows] -> [rows, 1], never 0."""
    return scales.clamp(min=SMALLEST_SCALE)[:, None]


def nearest(values: Tensor, levels: Tensor) -> Tensor:
    """The index of the nearest level. A value half-way between two levels goes to the upper one."""
    return torch.bucketize(values, (levels[1:] + levels[:-1]) / 2, right=True, out_int32=True)


class Best:
    """Searches the scales of least squared error for each row, as float16 stores them.

    The first of equal candidates wins.
    """

    def __init__(self, rows: Tensor, mask: Tensor, codebook: CodeBook) -> None:
        self.rows, self.mask = rows, mask
        self.planes = torch.tensor(codebook, dtype=torch.float32, device=rows.device)  # [planes, levels]
        self.scales = torch.zeros(len(codebook), len(rows), device=rows.device)
        self.error = torch.full((len(rows),), torch.inf, device=rows.device)

    def assign(self, scales: Tensor) -> Tensor:
        """Scales [planes, rows] -> the index of the nearest value, int32 [rows, n]."""
        if len(self.planes) == 1:
            return nearest(self.rows / divisor(scales[0]), self.planes[0])
        values, order = (scales.T @ self.planes).sort(dim=1, stable=True)  # [rows, levels]
        place = torch.searchsorted((values[:, 1:] + values[:, :-1]) / 2, self.rows, right=True)
        return order.gather(1, place).int()

    def consider(self, *candidate: Tensor) -> None:
        """Keep candidate scales for the rows in which they lower the error.

        Each plane has one tensor [rows].
        """
        scales = torch.stack([storable(c) for c in candidate])
        indices = self.assign(scales)
        rounded = self.planes[0][indices] * scales[0][:, None]
        for levels, scale in zip(self.planes[1:], scales[1:]):
            rounded += levels[indices] * scale[:, None]
        error = ((self.rows - rounded).square() * self.mask).sum(1)
        better = error < self.error
        self.scales, self.error = torch.where(better, scales, self.scales), torch.minimum(error, self.error)

    def refit(self) -> None:
        """Least squares for fixed indices: with one plane of levels q, the best scale is <w, q> / <q, q>."""
        chosen = self.planes[:, self.assign(self.scales)] * self.mask  # [planes, rows, n]
        if len(chosen) == 1:
            self.consider((self.rows * chosen[0]).sum(1) / (chosen[0] * chosen[0]).sum(1).clamp(min=1e-30))
            return
        gram = torch.einsum("prn,qrn->rpq", chosen, chosen).double()
        right = torch.einsum("prn,rn->rp", chosen, self.rows).double()
        # a row that uses one level leaves a plane open
        ridge = 1e-9 * gram.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1e-30)
        eye = torch.eye(len(chosen), dtype=torch.float64, device=self.rows.device)
        self.consider(*torch.linalg.solve(gram + ridge[:, None, None] * eye, right).float().T)

    def grid(self) -> Grid:
        """The best scales with their indices."""
        return Grid(
            tuple(tuple(levels) for levels in self.planes.tolist()), self.scales, self.assign(self.scales)
        )


# ------------------------------------------------------------------------------------------- given code books


def sweep(
    rows: Tensor,
    mask: Tensor,
    levels: tuple[float, ...],
    scale: str = "mse",
    coarse: int = 96,
    fine: int = 21,
) -> Grid:
    """The best of a sweep of clipping points, of a finer sweep around it, and of alternating least squares.

    For a fixed scale rounding is optimal, and for fixed indices least squares is. Every candidate is
    evaluated as float16 stores it. It is kept only where it lowers the error. The first candidate is the
    min/max scale.
    """
    search = ScaleSearch(rows, mask, levels)
    largest = (rows.abs() * mask).amax(1).clamp(min=1e-30)
    search.consider((largest / levels[-1])[:, None])
    if scale == "mse":
        step = 0.9 / (coarse - 1)
        shares = torch.linspace(1.0, 0.1, coarse)[1:].to(rows.device)
        search.consider(largest[:, None] * shares / levels[-1])
        offsets = torch.linspace(-step, step, fine).to(rows.device)
        search.consider(search.scales[:, None] + largest[:, None] * offsets / levels[-1])
        search.refit(4)
    return search.grid()


def _may_move(rows: Tensor) -> bool:
    """Whether a row has the same sum beside any other rows."""
    return rows.device.type == "cpu" and rows.shape[1] <= LONGEST_MOVED


class ScaleSearch:
    """The search for one plane of ascending levels, many candidates at a time."""

    def __init__(self, rows: Tensor, mask: Tensor, levels: tuple[float, ...]) -> None:
        self.rows, self.levels = rows, levels
        self.mask = None if bool(mask.all()) else mask  # a product with 1 changes nothing
        self.scales = torch.zeros(len(rows), device=rows.device)
        self.error = torch.full((len(rows),), torch.inf, device=rows.device)
        self.largest = (rows if self.mask is None else rows * mask).abs()
        count = min(rows.shape[1], max(8, min(rows.shape[1] // 32, MOST_LARGEST)))
        self.largest = self.largest.topk(count, 1).values
        steps = {b - a for a, b in itertools.pairwise(levels)}
        self.even = steps == {1.0} and levels[0] % 0.5 == 0
        self.grid_levels = torch.tensor(levels, dtype=torch.float32, device=rows.device)
        self.moves = _may_move(rows)
        # candidates that are evaluated at once: small tensors cost calls, not arithmetic
        self.size = max(1, TOGETHER // max(rows.numel(), 1)) if self.moves else 1
        self.work = torch.empty(self.size * len(rows), rows.shape[1], device=rows.device)
        self.moved = torch.empty_like(self.work)

    def consider(self, candidates: Tensor) -> None:
        """Keep candidate scales [rows, c] where they lower the error, the first of equal ones."""
        scales = storable(candidates)
        for some, least in zip(scales.split(self.size, 1), self.least_error(scales).split(self.size, 1)):
            needed = least < self.error[:, None]
            if not self.moves:
                needed = needed.any().expand_as(needed)
            chosen, column = needed.nonzero(as_tuple=True)
            if len(chosen):
                self._evaluate(some, chosen, column)

    def least_error(self, scales: Tensor) -> Tensor:
        """A lower bound of the errors: what scales [rows, c] cut off the largest weights of each row.

        The margins, 2^-20 of a weight and a thousandth of the sum, are far above any rounding.
        """
        reach = scales * max(self.levels[-1], -self.levels[0])
        largest = self.largest * (1 - 2.0**-20)
        return (largest[:, :, None] - reach[:, None, :]).clamp_(min=0).square_().sum(1).mul_(0.999)

    def _evaluate(self, scales: Tensor, chosen: Tensor, column: Tensor) -> None:
        """Scales [rows, c], of which those at (chosen, column) [pairs] may lower the error."""
        tried = scales[chosen, column]
        rows, mask = self._of(chosen)
        rounded = self.rounded(rows, tried, self.work[: len(rows)]).mul_(tried[:, None])
        torch.sub(rows, rounded, out=rounded).square_()
        error = torch.full_like(scales, torch.inf)
        error[chosen, column] = (rounded if mask is None else rounded.mul_(mask)).sum(1)
        first = error.argmin(1, keepdim=True)
        error, scale = error.gather(1, first)[:, 0], scales.gather(1, first)[:, 0]
        self.scales = torch.where(error < self.error, scale, self.scales)
        self.error = torch.minimum(error, self.error)

    def rounded(self, rows: Tensor, scales: Tensor, out: Tensor) -> Tensor:
        """The nearest levels of rows [r, n] in units of their scales. A tie goes to the upper level."""
        units = torch.div(rows, divisor(scales), out=out)
        if not self.even:
            chosen = nearest(units, self.grid_levels).flatten()
            return torch.index_select(self.grid_levels, 0, chosen, out=out.view(-1)).view_as(out)
        if self.levels[0] % 1:  # odd multiples of 1/2: whole numbers are the borders
            units.floor_().add_(0.5)
        else:  # the borders are odd multiples of 1/2: floor(2x) tells on which side; x + 1/2 may round
            units.mul_(2).floor_().mul_(0.5).ceil_()
        return units.clamp_(self.levels[0], self.levels[-1])

    def refit(self, rounds: int) -> None:
        """Least squares for fixed levels q: the best scale is <w, q> / <q, q>.

        A row whose scale did not change has nothing more to gain.
        """
        changed = torch.arange(len(self.rows), device=self.rows.device)
        for _ in range(rounds):
            before = self.scales
            fitted = self.scales.index_copy(0, changed, self._least_squares(changed))
            self._evaluate(fitted[:, None], changed, torch.zeros_like(changed))
            if self.moves:
                changed = (before != self.scales).nonzero()[:, 0]
                if not len(changed):
                    return

    def _least_squares(self, chosen: Tensor) -> Tensor:
        rows, mask = self._of(chosen)
        levels = self.rounded(rows, self.scales[chosen], self.work[: len(rows)])
        if mask is not None:
            levels.mul_(mask)
        return storable((rows * levels).sum(1) / levels.square_().sum(1).clamp(min=1e-30))

    def _of(self, chosen: Tensor) -> tuple[Tensor, Tensor | None]:
        """The chosen rows and their mask."""
        rows = torch.index_select(self.rows, 0, chosen, out=self.moved[: len(chosen)])
        return rows, None if self.mask is None else self.mask[chosen]

    def grid(self) -> Grid:
        """The best scales with their indices."""
        chosen = self.rounded(self.rows, self.scales, self.work[: len(self.rows)])
        indices = torch.searchsorted(self.grid_levels, chosen, out_int32=True)
        return Grid((tuple(self.grid_levels.tolist()),), self.scales[None], indices)


def sweep_range(rows: Tensor, mask: Tensor, levels: int, scale: str, coarse: int = 24) -> Grid:
    """An offset and a step for each row: a sweep of ranges from min...max to a tenth of it, then least
    squares.
    """
    best = Best(rows, mask, (tuple(map(float, range(levels))), (1.0,) * levels))
    high = rows.masked_fill(mask == 0, -torch.inf).amax(1)
    low = rows.masked_fill(mask == 0, torch.inf).amin(1)
    # nothing kept: nothing to store
    high, low = (torch.where(high >= low, end, torch.zeros_like(end)) for end in (high, low))
    middle, width = (high + low) / 2, (high - low).clamp(min=1e-30)
    for share in torch.linspace(1.0, 0.1, coarse if scale == "mse" else 1).tolist():
        best.consider(width * share / (levels - 1), middle - width * share / 2)
    for _ in range(8 if scale == "mse" else 0):
        best.refit()
    return best.grid()
