"""A weight as a tool holds it, and our coding of the same values."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.interfaces import Layout, StoredTensor

# Of the largest weight of a row. Our file holds scale and offset as float16, each rounded by at most 2^-11
# of itself. Scale times level is at most twice the largest weight, and the offset at most once:
# 3 * 2^-11 < 2^-9.
TOLERANCE = 2.0**-9
SMALLEST_NORMAL = 2.0**-14  # of float16; smaller numbers lose digits


@dataclass(frozen=True)
class Codes:
    """A quantized weight: value = scale * codebook[index] + offset, where rows share scale and offset."""

    indices: Tensor  # [*shape], whole numbers from 0
    codebook: tuple[float, ...]
    scale: Tensor  # [rows of the layout]
    values: Tensor  # [*shape]: as the tool itself dequantizes it
    layout: Layout
    offset: Tensor | None = None  # [rows of the layout]
    # what the tool multiplies each input of the layer with, [inputs]; the weights are those behind it
    input_scales: Tensor | None = None

    def stored(self, like: StoredTensor) -> StoredTensor:
        """Our coding. A weight that was pruned before stays zero: the mask of `like` is kept."""
        scale, unit = self.scale.float().reshape(-1), 1.0
        positive = scale[scale > 0]
        if len(positive) and positive.min() < SMALLEST_NORMAL:  # a power of two moves into the code book
            unit = 2.0 ** math.floor(math.log2(positive.max().item()))
        levels = tuple(unit * level for level in self.codebook)
        planes, scales = [levels], [scale / unit]
        if self.offset is not None:
            planes.append((1.0,) * len(levels))
            scales.append(self.offset.float().reshape(-1))
        kind = torch.uint8 if len(levels) <= 256 else torch.int16
        return StoredTensor(
            like.shape,
            indices=self.indices.to(kind).reshape(like.shape).contiguous(),
            codebook=tuple(planes),
            scales=torch.stack(scales).half(),
            layout=self.layout,
            mask=None if like.mask is None else like.mask.cpu(),
            pattern=like.pattern,
        )

    def same(self, other: Codes) -> bool:
        """Whether both stand for the same layer, bit for bit."""
        if (self.input_scales is None) != (other.input_scales is None):
            return False
        if self.input_scales is not None and other.input_scales is not None:
            if not torch.equal(self.input_scales, other.input_scales):
                return False
        return torch.equal(self.values, other.values)

    def transposed(self) -> Codes:
        """The same codes of the transposed weight."""
        layout = dataclasses.replace(self.layout, axis=1)
        return dataclasses.replace(
            self, indices=self.indices.T, values=self.values.T.contiguous(), layout=layout
        )

    def deviation(self, stored: StoredTensor) -> float:
        """The largest difference between our values and the tool's, in units of the largest weight of a row.

        Weights that were pruned before do not count.
        """
        theirs = self.values.float().reshape(stored.shape)
        if stored.mask is not None:
            theirs = theirs * stored.mask
        difference = self.layout.rows((stored.dequantize() - theirs).abs())
        largest = self.layout.rows(theirs.abs()).amax(1, keepdim=True).clamp(min=1e-30)
        return float((difference / largest).max())


def whole(lowest: int, highest: int) -> tuple[float, ...]:
    """The code book of whole numbers."""
    return tuple(float(level) for level in range(lowest, highest + 1))


def consecutive(shape: tuple[int, ...], group: int) -> tuple[Layout, int]:
    """Tools give each `group` consecutive weights one scale -> (layout, rows of the layout for each scale).

    A layout cuts each channel for itself. A group that reaches into the next channel becomes several rows
    with the same scale.
    """
    length = Layout().channel_length(shape)
    row = math.gcd(group, length)
    layout = Layout() if row == length else Layout("group", group=row)
    return layout, group // row


def spread(scale: Tensor, times: int, layout: Layout, shape: tuple[int, ...]) -> Tensor:
    """The scale of each group [groups] -> of each row of the layout [rows]; the last group may be shorter."""
    return scale.reshape(-1).repeat_interleave(times)[: layout.row_count(shape)]


def of_groups(
    indices: Tensor,
    codebook: tuple[float, ...],
    group: int,
    scale: Tensor,
    values: Tensor,
    offset: Tensor | None = None,
) -> Codes:
    """The codes of a tool whose groups are `group` consecutive weights of a contiguous tensor."""
    shape = tuple(values.shape)
    layout, times = consecutive(shape, group)
    codes = Codes(indices.reshape(shape), codebook, spread(scale, times, layout, shape), values, layout)
    return (
        codes if offset is None else dataclasses.replace(codes, offset=spread(offset, times, layout, shape))
    )
