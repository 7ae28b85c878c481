"""Pruning: weights become exact zeros, and later steps of a chain keep them."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Layout, StoredTensor
from bench.layers import Weight
from bench.methods.weightwise import Weightwise, one_of


class Pruning(Weightwise):
    """Base class: subclasses choose which weights stay. A weight that an earlier step pruned stays zero."""

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        weights, exempt = self.weights(compressed, context)
        masks = self.masks({name: compressed.tensors[name] for name in weights}, weights)
        pruned = {
            name: self._pruned(compressed.tensors[name], mask, weights[name].layout())
            for name, mask in masks.items()
        }
        return compressed.replace(pruned, exempt)

    def _pruned(self, stored: StoredTensor, mask: Tensor, channels: Layout) -> StoredTensor:
        pattern = self.kept_of_every if stored.mask is None else None  # two masks together follow no pattern
        # in a file, patterns follow the channels
        layout = stored.layout if stored.quantized else channels
        return dataclasses.replace(
            stored, mask=mask if stored.mask is None else mask & stored.mask, pattern=pattern, layout=layout
        )

    @property
    def kept_of_every(self) -> tuple[int, int] | None:
        """(n, m) where the mask keeps n of every m weights of a channel.

        A file then needs fewer bits for it.
        """
        return None

    @abstractmethod
    def masks(self, tensors: Mapping[str, StoredTensor], weights: Mapping[str, Weight]) -> dict[str, Tensor]:
        """Tensor name -> bool [*shape]: True means kept."""


def without_smallest(score: Tensor, share: float) -> Tensor:
    """bool: all entries except the `share` with the smallest scores.

    Of equal scores, the first are removed.
    """
    flat = score.flatten()
    mask = torch.ones(flat.numel(), dtype=torch.bool, device=flat.device)
    mask[flat.argsort(stable=True)[: round(share * flat.numel())]] = False
    return mask.reshape(score.shape)


def pattern_of(name: str, pattern: str) -> tuple[int, int]:
    """(n, m) of a method's setting `pattern=n:m`. Raises `BadInput` where it is no pattern."""
    n, _, m = pattern.partition(":")
    if not (n.isdecimal() and m.isdecimal() and 1 <= int(n) < int(m) <= 32):
        raise BadInput(
            f"pattern={pattern!r} of {name!r} is no pattern: allowed is n:m with "
            f"1 <= n < m <= 32, such as 2:4"
        )
    return int(n), int(m)


def check_sparsity(sparsity: float) -> None:
    """Raises `BadInput` unless the sparsity is a share."""
    if not 0 <= sparsity < 1:
        raise BadInput(
            f"sparsity={sparsity:g} is outside of [0, 1): allowed are 0 <= sparsity < 1, such as 0.5"
        )


@dataclass(frozen=True)
class Magnitude(Pruning):
    """Prunes the share `sparsity` of weights with the smallest magnitude (Han et al. 2015, arXiv:1506.02626).

    `scope=layer` prunes this share of each tensor. `scope=global` prunes it of all tensors together, so
    tensors of small weights lose more.
    """

    sparsity: float = 0.5
    scope: str = "layer"

    name = "magnitude"
    description = "the smallest weights become zero"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        one_of(self.name, "scope", self.scope, ("layer", "global"))

    def masks(self, tensors: Mapping[str, StoredTensor], weights: Mapping[str, Weight]) -> dict[str, Tensor]:
        """Tensor name -> mask."""
        if self.scope == "layer":
            return {
                name: without_smallest(stored.dequantize().abs(), self.sparsity)
                for name, stored in tensors.items()
            }
        if not tensors:
            return {}
        sizes = [stored.dequantize().numel() for stored in tensors.values()]
        mask = without_smallest(
            torch.cat([stored.dequantize().abs().flatten() for stored in tensors.values()]), self.sparsity
        )
        return {
            name: part.reshape(tensors[name].shape)
            for name, part in zip(tensors, mask.split(sizes), strict=True)
        }


@dataclass(frozen=True)
class RandomPruning(Pruning):
    """The null model of pruning: it removes the share `sparsity` of each tensor's weights at random."""

    sparsity: float = 0.5
    seed: int = 0

    name = "random"
    description = "weights drawn by lot become zero: the null of pruning"

    def __post_init__(self) -> None:
        check_sparsity(self.sparsity)
        if not 0 <= self.seed < 2**63:
            raise BadInput(f"seed={self.seed} is outside of [0, 2^63): give a seed such as 0")

    def masks(self, tensors: Mapping[str, StoredTensor], weights: Mapping[str, Weight]) -> dict[str, Tensor]:
        """Tensor name -> mask."""
        lots = torch.Generator().manual_seed(self.seed)
        return {
            name: without_smallest(torch.rand(stored.shape, generator=lots), self.sparsity).to(
                stored.dequantize().device
            )
            for name, stored in tensors.items()
        }


@dataclass(frozen=True)
class Structured(Pruning):
    """Keeps the `n` largest of every `m` neighbouring weights of an output channel (Mishra et al. 2021,
    arXiv:2104.08378).

    It is written `2:4`. Neighbours follow each other in the channel's row, inputs first, kernel positions
    last. A shorter group at the end keeps at most n.
    """

    n: int = 2
    m: int = 4

    name = "nm"
    description = "of every m weights of a channel the n largest stay; written 2:4"

    def __post_init__(self) -> None:
        if not 1 <= self.n < self.m <= 32:
            raise BadInput(
                f"'{self.n}:{self.m}' is no pattern: allowed is n:m with 1 <= n < m <= 32, such as 2:4"
            )

    @property
    def text(self) -> str:
        """`2:4` is short for `nm:n=2,m=4`."""
        rest = dataclasses.replace(self, n=type(self).n, m=type(self).m)
        return f"{self.n}:{self.m}" + super(Structured, rest).text.removeprefix(self.name).replace(
            ":", ",", 1
        )

    @property
    def kept_of_every(self) -> tuple[int, int]:
        """(n, m)."""
        return self.n, self.m

    def masks(self, tensors: Mapping[str, StoredTensor], weights: Mapping[str, Weight]) -> dict[str, Tensor]:
        """Tensor name -> mask."""
        return {
            name: self._mask(stored.dequantize().abs(), weights[name].layout("group", self.m))
            for name, stored in tensors.items()
        }

    def _mask(self, magnitude: Tensor, layout: Layout) -> Tensor:
        groups = layout.rows(magnitude.double() + 1e-300)  # [groups, m]; padding is 0, so it goes first
        order = groups.argsort(dim=1, descending=True, stable=True)
        mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, : self.n], True)
        return layout.restore(mask, tuple(magnitude.shape))
