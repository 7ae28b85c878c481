"""What a method makes of a network: stored tensors, their layout, and edits of the structure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class StructureEdit:
    """What a state dict cannot say about a network: a pruned channel count, a low-rank split, an
    activation quantizer.
    """

    path: str  # of the module in the network, for example `model.layers.0.mlp`
    # what the edit does: one of `bench.artifact.structure.KINDS`, or a kind that `Generator.rebuild` repeats
    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)  # of the edit, as JSON


@dataclass(frozen=True)
class Layout:
    """How a tensor becomes a matrix whose rows share a scale: output channels first, each cut into groups of
    `group` weights.

    Example: `Layout("group", axis=0, group=64)`.

    A grouped transposed convolution has several `blocks`: equal parts along axis 0, which each have output
    channels of their own. So `blocks=2` of a weight [in, out / 2, ...] gives `out` channels.
    """

    # `tensor`: one row; `channel`: one row a channel; `group`: several, the last one padded with zeros
    granularity: str = "channel"
    axis: int = 0  # of the output channels
    group: int = 0  # weights a row, for `group` only
    blocks: int = 1  # parts along axis 0 whose channels are not the same; above 1 only where axis > 0
    # a file holds the first weight of each channel, then the second ones, and so on; rows stay as they are
    by_column: bool = False

    def rows(self, tensor: Tensor) -> Tensor:
        """[..., channels at axis, ...] -> [rows, n]: one row for each scale."""
        import torch.nn.functional as F

        if not tensor.ndim or self.granularity == "tensor":
            return (self._channels_first(tensor) if tensor.ndim else tensor).reshape(1, -1)
        channels = self._channels_first(tensor).flatten(1) if tensor.ndim > 1 else tensor[:, None]
        if self.granularity == "group":
            rest = -channels.shape[1] % self.group
            channels = (F.pad(channels, (0, rest)) if rest else channels).reshape(-1, self.group)
        return channels.contiguous()

    def restore(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[rows, n] -> [*shape], contiguous: the inverse of `rows`."""
        if self.granularity == "group":
            rows = rows.reshape(self.channels(shape), -1)[:, : self.channel_length(shape)]
        return self._from_channels(rows.reshape(-1), shape)

    def each(self, of_rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[rows] -> [*shape]: what each weight's row has, such as its scale."""
        import torch

        width = self.rows(torch.empty(shape, device="meta")).shape[1]
        return self.restore(of_rows[:, None].expand(-1, width), shape)

    def flat(self, tensor: Tensor) -> Tensor:
        """[*shape] -> [numel]: the order in which a file holds weights, without padding."""
        channels = self._channels_first(tensor) if tensor.ndim else tensor
        if self.by_column:
            channels = channels.reshape(self.channels(tuple(tensor.shape)), -1).T
        return channels.reshape(-1)

    def unflat(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[numel] -> [*shape]: the inverse of `flat`."""
        if self.by_column:
            flat = flat.reshape(-1, self.channels(shape)).T.reshape(-1)
        return self._from_channels(flat, shape)

    def _from_channels(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[numel], one channel after the other -> [*shape]."""
        if not shape:
            return flat.reshape(())
        others = [size for i, size in enumerate(shape) if i != self.axis]
        if self.blocks == 1:
            return flat.reshape(shape[self.axis], *others).movedim(0, self.axis).contiguous()
        parts = flat.reshape(self.blocks, shape[self.axis], others[0] // self.blocks, *others[1:])
        return parts.movedim(1, self.axis + 1).flatten(0, 1).contiguous()

    def _channels_first(self, tensor: Tensor) -> Tensor:
        """[..., channels at axis, ...] -> [channels, ...]; the channels of the first block come first."""
        if self.blocks == 1:
            return tensor.movedim(self.axis, 0)
        parts = tensor.unflatten(0, (self.blocks, tensor.shape[0] // self.blocks))
        return parts.movedim(self.axis + 1, 1).flatten(0, 1)

    def channels(self, shape: tuple[int, ...]) -> int:
        """Output channels of a tensor of this shape."""
        return shape[self.axis] * self.blocks

    def channel_length(self, shape: tuple[int, ...]) -> int:
        """Weights of one output channel of a tensor of this shape."""
        return math.prod(size for i, size in enumerate(shape) if i != self.axis) // self.blocks

    def row_count(self, shape: tuple[int, ...]) -> int:
        """Rows of the matrix that a tensor of this shape becomes: how many scales it has."""
        if not shape or self.granularity == "tensor":
            return 1
        groups = -(-self.channel_length(shape) // self.group) if self.granularity == "group" else 1
        return self.channels(shape) * groups


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it is written: plain values, or indices into a code book that each row of a layout scales
    for itself.

    value[i] = sum over planes p of scales[p, row(i)] * codebook[p][indices[i]],   exactly 0 where mask[i] is
    False. A product of two small factors may be added to that.

    One plane is the usual scaled grid; two are a grid with an offset (the second plane all ones), or two
    binary bases.
    """

    shape: tuple[int, ...]  # of the tensor in the network
    values: Tensor | None = None  # plain: float16 or float32 (buffers: any dtype), [*shape]
    indices: Tensor | None = None  # uint8, or int16 above 256 levels, [*shape]
    # [planes][levels]; the values that an index stands for, before scaling
    codebook: tuple[tuple[float, ...], ...] = ()
    scales: Tensor | None = None  # float16 [planes, rows]
    layout: Layout = Layout()  # which weights form a row
    mask: Tensor | None = None  # bool [*shape]; True = kept
    pattern: tuple[int, int] | None = None  # (n, m): the mask keeps n of every m weights of a channel
    # the kept indices, in the order of a file, are a path through a trellis of 2^trellis states; 0: they are
    # free. A file then needs fewer bits for them (`bench.artifact.trellis`); values do not depend on it.
    trellis: int = 0
    # (left [channels, rank], right [rank, weights of a channel]): their product is added to the values
    factors: tuple[StoredTensor, StoredTensor] | None = None

    @property
    def quantized(self) -> bool:
        """Whether it is stored as indices into a code book."""
        return self.indices is not None

    @property
    def levels(self) -> int:
        """How many values a weight of one row can have; 0 for plain values."""
        return len(self.codebook[0]) if self.codebook else 0

    def dequantize(self) -> Tensor:
        """`[*shape]`: the tensor that the network computes with, float32 (a plain integer buffer keeps its
        type).
        """
        import torch

        dense = self._before_mask()
        if self.factors is not None:
            dense = self._with_product(dense, *self.factors)
        return dense if self.mask is None else torch.where(self.mask, dense, torch.zeros_like(dense))

    def residual(self) -> StoredTensor:
        """What is stored beside the factors; all of it where there are none."""
        return self if self.factors is None else dataclasses.replace(self, factors=None)

    def _before_mask(self) -> Tensor:
        """The values without factors and without the mask."""
        import torch

        if self.indices is not None and self.scales is not None:
            rows = self.layout.rows(self.indices).int()
            planes = torch.tensor(self.codebook, dtype=torch.float32, device=rows.device)
            dense = planes[0][rows] * self.scales[0].float()[:, None]
            for levels, scales in zip(planes[1:], self.scales[1:]):
                dense += levels[rows] * scales.float()[:, None]
            dense = self.layout.restore(dense, self.shape)
        else:
            assert self.values is not None
            dense = self.values.float() if self.values.is_floating_point() else self.values
        return dense

    def _with_product(self, dense: Tensor, left: StoredTensor, right: StoredTensor) -> Tensor:
        """Add left x right. Each product and each sum is rounded, one rank after the other, so that every
        machine gets the same.
        """
        columns, rows = left.dequantize(), right.dequantize()
        channels = Layout(axis=self.layout.axis, blocks=self.layout.blocks)
        matrix = channels.rows(dense).clone()
        size = max(1, 2**18 // max(matrix.shape[1], 1))  # bounds the memory
        for part, own in zip(matrix.split(size), columns.split(size)):
            product = own[:, :1] * rows[:1]
            for rank in range(1, len(rows)):
                product += own[:, rank, None] * rows[rank]
            part += product
        return channels.restore(matrix, self.shape)


@dataclass(frozen=True)
class Compressed:
    """What one method, or a chain of them, made of a network."""

    network: Module  # the original; methods read its layer types and never write to it
    # every parameter and persistent buffer; tied ones once, under their first name
    tensors: Mapping[str, StoredTensor]
    structure: tuple[StructureEdit, ...] = ()  # what changed of the network itself, in order
    touched: frozenset[str] = frozenset()  # names of tensors that a method stored again
    # compressible-looking tensor -> why it was left alone
    untouched: Mapping[str, str] = field(default_factory=dict)
    # what each training-time method did, in order: its text, steps, core-seconds and log, as JSON
    trainings: tuple[Mapping[str, Any], ...] = ()
    # tensor that a calibrated method compressed without knowing its inputs -> why
    uncalibrated: Mapping[str, str] = field(default_factory=dict)
    # a method's text -> {layer or operation that it left as it was: why}
    exceptions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # what each method of another project's tool did: `bench.records.schema.ToolReport`, as JSON
    tools: tuple[Mapping[str, Any], ...] = ()

    def replace(
        self, tensors: Mapping[str, StoredTensor], untouched: Mapping[str, str] | None = None
    ) -> Compressed:
        """A copy with some tensors replaced; `untouched` adds tensors that were left alone, with the
        reason.
        """
        return dataclasses.replace(
            self,
            tensors={**self.tensors, **tensors},
            touched=self.touched | frozenset(tensors),
            untouched={k: v for k, v in {**self.untouched, **(untouched or {})}.items()},
        )
