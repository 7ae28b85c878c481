"""Low-rank correction: the largest singular values of a weight stay in two small factors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, StoredTensor
from bench.layers import Weight
from bench.methods.plain import half, halve_the_rest, plain
from bench.methods.quantize import Int8
from bench.methods.weightwise import Weightwise


@dataclass(frozen=True)
class LowRank(Weightwise):
    """A weight [outputs, rest] becomes left [outputs, rank] x right [rank, rest] + a residual.

    The next link of a chain quantizes the residual: `lowrank:rank=8+int4`. The factors hold the directions of
    the largest singular values, which no longer widen the range of the residual (SVDQuant: Li et al. 2024,
    arXiv:2411.05007). Without a quantizer the residual is float16. Factors are float16, or of 8 bits with a
    scale for each of their `rank` vectors. A rank is clipped where the factors would hold more numbers than
    the matrix.
    """

    rank: int = field(default=8, metadata={"shown": True, "leads": True})
    bits: int = 16  # of the factors

    name = "lowrank"
    description = "the largest singular values in two factors; the next link quantizes the rest"
    rewrites = True

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= 4096:
            raise BadInput(f"rank={self.rank} of {self.name!r} is outside of 1 to 4096: give 8, say")
        if self.bits not in (8, 16):
            raise BadInput(f"bits={self.bits} of {self.name!r} is not one of: 8, 16")

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        weights, exempt = self.weights(compressed, context)
        changed = {}
        for name, weight in weights.items():
            if compressed.tensors[name].quantized:
                raise BadInput(f"{self.name!r} has to come before a quantizer, and {name!r} is quantized")
            changed[name] = self.split(compressed.tensors[name], weight)
        return halve_the_rest(compressed.replace(changed, exempt), {**context.excluded, **exempt})

    def split(self, stored: StoredTensor, weight: Weight) -> StoredTensor:
        """A tensor as factors and residual. Its zeros stay zeros."""
        layout, dense = weight.layout(), stored.dequantize()
        matrix = layout.flat(dense).reshape(layout.channels(stored.shape), -1)
        rank = min(self.rank, matrix.numel() // max(sum(matrix.shape), 1))
        if rank == 0:  # a single row or column is its own factor
            return half(stored)
        left, right = (self._factor(part, axis) for part, axis in zip(leading(matrix, rank), (1, 0)))
        whole = dataclasses.replace(
            stored, values=torch.zeros_like(dense), layout=layout, factors=(left, right)
        )
        return half(dataclasses.replace(whole, values=dense - whole.dequantize()))

    def _factor(self, factor: Tensor, axis: int) -> StoredTensor:
        """A factor as it is stored. Its vectors lie along `axis`."""
        stored = plain(factor)
        return Int8().quantize(stored, axis) if self.bits == 8 else half(stored)


def leading(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best factors of a rank (Eckart and Young 1936): [m, n] -> [m, rank], [rank, n], float32.

    Each singular value is shared equally. The largest entry of each left vector is positive.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    a = (matrix if wide else matrix.T).double()
    vectors = torch.linalg.eigh(a @ a.T).eigenvectors[:, -rank:].flip(1)  # ascending
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    vectors = vectors * torch.where(largest < 0, -1.0, 1.0)
    others = vectors.T @ a
    root = others.norm(dim=1).sqrt().clamp(min=1e-20)
    first, second = (vectors * root).float(), (others / root[:, None]).float()
    return (first, second) if wide else (second.T.contiguous(), first.T.contiguous())
