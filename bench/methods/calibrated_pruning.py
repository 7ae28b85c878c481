"""Calibrated pruning: which weights matter depends on what they are multiplied with."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, StoredTensor
from bench.layers import Weight
from bench.methods.calibration import layer_by_layer
from bench.methods.error_feedback import BLOCK, feed_back, inverse_factor
from bench.methods.plain import half
from bench.methods.prune import pattern_of, without_smallest
from bench.methods.weightwise import Weightwise, kept_of


@dataclass(frozen=True)
class CalibratedPruning(Weightwise):
    """Base class: subclasses choose what stays of a weight's rows, and may change what stays."""

    sparsity: float = field(default=0.5, metadata={"leads": True})
    pattern: str = field(default="", metadata={"leads": True})

    calibrates = True

    def __post_init__(self) -> None:
        if not 0 < self.sparsity < 1:
            raise BadInput(f"sparsity={self.sparsity:g} of {self.name!r} is outside of (0, 1): give 0.5, say")
        if self.pattern and self.sparsity != type(self).sparsity:
            raise BadInput(f"{self.name!r} takes a sparsity or a pattern: give one of them")
        _ = self.kept_of_every  # raises for what is no pattern

    @property
    def kept_of_every(self) -> tuple[int, int] | None:
        """(n, m) of the pattern, where there is one."""
        return pattern_of(self.name, self.pattern) if self.pattern else None

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        weights, exempt = self.weights(compressed, context)
        return layer_by_layer(compressed, context, weights, self.step).replace({}, exempt)

    def step(self, stored: StoredTensor, weight: Weight, moments: Tensor) -> StoredTensor:
        """One weight, with the second moments [groups, n, n] of its inputs."""
        channels = weight.layout()
        rows, before = (
            channels.rows(t).unflatten(0, (len(moments), -1)) for t in (stored.dequantize(), kept_of(stored))
        )
        values, kept = self.prune(rows, before, moments)
        mask = channels.restore(kept.flatten(0, 1), stored.shape)
        made = dataclasses.replace(
            stored,
            mask=mask,
            pattern=None if stored.mask is not None else self.kept_of_every,
            layout=stored.layout if stored.quantized else channels,
        )
        if stored.values is None:
            return made
        dense = channels.restore(values.flatten(0, 1), stored.shape)
        made = dataclasses.replace(made, values=dense, factors=None)  # their product is in the values
        return half(made) if stored.values.dtype == torch.float16 else made

    @abstractmethod
    def prune(self, rows: Tensor, kept: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
        """float32 rows and their mask [groups, rows, n] -> (the values, the mask), at most as many kept."""


def largest(score: Tensor, n: int) -> Tensor:
    """bool: the n largest of the last dimension. Of equal ones, the last stay, as in `magnitude`."""
    order = score.argsort(dim=-1, stable=True)[..., -n:]
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order, True)


def by_pattern(score: Tensor, n: int, m: int) -> Tensor:
    """bool: the n largest of every m along the last dimension. Of equal ones, the first stay, as in `2:4`."""
    length = score.shape[-1]
    groups = torch.nn.functional.pad(score, (0, -length % m), value=-1.0).unflatten(-1, (-1, m))
    order = groups.argsort(dim=-1, descending=True, stable=True)[..., :n]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order, True).flatten(-2)[..., :length]


@dataclass(frozen=True)
class Wanda(CalibratedPruning):
    """Prunes each row's smallest |w| * ||x|| (Sun et al. 2023, arXiv:2306.11695). What stays is unchanged.

    Each row loses round(sparsity * n) of its n weights, and keeps at least one.
    """

    name = "wanda"
    description = "small weights of small inputs become zero"

    def prune(self, rows: Tensor, kept: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
        """Nothing is computed but the mask."""
        norms = moments.diagonal(dim1=1, dim2=2).sqrt()[:, None].float()
        score = torch.where(kept, rows.abs() * norms, -0.5)
        if self.kept_of_every:
            return rows, by_pattern(score, *self.kept_of_every) & kept
        n = rows.shape[2]
        return rows, largest(score, max(1, n - round(self.sparsity * n))) & kept


@dataclass(frozen=True)
class SparseGpt(CalibratedPruning):
    """SparseGPT (Frantar and Alistarh 2023, arXiv:2301.00774): later columns make good what pruning costs.

    In each block of 128 columns, the share `sparsity` with the smallest w^2 / U_jj^2 goes. So a row may lose
    more than another one.
    """

    name = "sparsegpt"
    description = "pruning whose errors the other weights make good"
    rewrites = True

    def prune(self, rows: Tensor, kept: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
        """The mask and the values."""
        factor, every = inverse_factor(moments), self.kept_of_every
        cost = factor.diagonal(dim1=1, dim2=2)[:, None].float()
        chosen: list[Tensor] = []

        def choose(part: Tensor, start: int) -> Tensor:
            stop = start + part.shape[2]
            known = kept[:, :, start:stop]
            score = torch.where(known, (part / cost[:, :, start:stop]).square(), -1.0)
            if every:
                stay = by_pattern(score, *every)
            else:
                stay = torch.stack([without_smallest(group, self.sparsity) for group in score])
            chosen.append(stay & known)
            return chosen[-1]

        values = feed_back(rows, factor, choose, lambda column, _: column, every[1] if every else BLOCK)
        return values, torch.cat(chosen, 2)
