"""The U-Net as other runtimes take it: two tensors in, one out."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.nn import Module


class Step(Module):
    """The network, called with a time for each item and without diffusers' output class."""

    def __init__(self, network: Module) -> None:
        super().__init__()
        self.network = network

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
