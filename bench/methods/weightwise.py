"""The base class of pruning and quantization, which process one compressible weight after another."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Method, StoredTensor
from bench.layers import Weight, weights_of


@dataclass(frozen=True)
class Weightwise(Method):
    """Applies to every compressible weight except those that the model keeps and those that the user exempts
    by `keep`.
    """

    keep: str = field(
        default="", kw_only=True
    )  # patterns of tensor names that stay as they are, joined by `|`: embed*|head.weight

    def weights(self, compressed: Compressed, context: Context) -> tuple[dict[str, Weight], dict[str, str]]:
        """(weights to compress, exempt weights -> the reason).

        Raises `BadInput` for a pattern that matches none.
        """
        every = weights_of(compressed.network)
        exempt = {
            name: "it is empty"
            for name in every
            if not compressed.tensors[name].shape or 0 in compressed.tensors[name].shape
        }
        exempt |= {name: reason for name, reason in context.excluded.items() if name in every}
        for pattern in filter(None, self.keep.split("|")):
            matched = fnmatch.filter(every, pattern)
            if not matched:
                raise BadInput(
                    f"keep={pattern!r} of {self.name!r} matches no weight; there are: {', '.join(every)}"
                )
            exempt |= {
                name: f"exempt by {self.name}:keep={pattern}" for name in matched if name not in exempt
            }
        return {name: weight for name, weight in every.items() if name not in exempt}, exempt


def kept_of(stored: StoredTensor) -> Tensor:
    """bool [*shape]: True where a weight was not pruned."""
    if stored.mask is not None:
        return stored.mask
    found = stored.indices if stored.values is None else stored.values
    assert found is not None
    return torch.ones(stored.shape, dtype=torch.bool, device=found.device)


def one_of(name: str, setting: str, value: str, allowed: Mapping[str, object] | tuple[str, ...]) -> None:
    """Raises `BadInput` when the value of a setting is not an allowed word."""
    if value not in allowed:
        raise BadInput(f"{setting}={value!r} of {name!r} is not one of: {', '.join(allowed)}")
