"""The U-Net as other runtimes take it: two tensors in, one out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import torch.nn.functional as F
from diffusers.models.upsampling import Upsample2D
from torch import Tensor
from torch.nn import Module


class AnyBatch(Upsample2D):
    """Upsampling without diffusers' branch on 64 or more pictures: no graph for all batches can hold it."""

    def forward(self, hidden_states: Tensor, output_size: Any = None, *_: Any, **__: Any) -> Tensor:
        """[b, c, h, w] -> [b, c, 2h, 2w], or of the size given"""
        factor = 2.0 if output_size is None else None
        larger = F.interpolate(hidden_states, output_size, scale_factor=factor, mode="nearest")
        made: Tensor = cast(Any, self.conv)(larger)
        return made


def for_any_batch(network: Module) -> Module:
    """A copy whose graph does not depend on the size of a batch."""
    made = copy.deepcopy(network)
    for layer in made.modules():
        plain = type(layer) is Upsample2D and layer.norm is None and layer.name == "conv" and layer.use_conv
        if plain and not layer.use_conv_transpose and layer.interpolate:
            layer.__class__ = AnyBatch
    return made


class Step(Module):
    """The network, called with a time for each item and without diffusers' output class."""

    def __init__(self, network: Module) -> None:
        super().__init__()
        self.network = for_any_batch(network)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [b, c, s, s], time [b] -> [b, c, s, s]"""
        made: Tensor = self.network(x, time).sample
        return made


class StandIn(Module):
    """What the sampler calls in place of the network."""

    def __init__(self, call: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: Tensor, time: Tensor) -> Any:
        """As the network's: the sample is an attribute of what it gives."""
        return SimpleNamespace(sample=self.call(x, time.expand(len(x)).float())[0])
