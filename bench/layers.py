"""Finds the tensors of a network that can be compressed, and the axis of their output channels."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from bench.interfaces import Layout

# type name -> {parameter, or pattern of parameters: axis of the output channels}. A name, not a class:
# transformers' Conv1D needs no
# import here. Subclasses are covered with their parents. To cover another layer type, add a line.
COVERED: Mapping[str, Mapping[str, int]] = {
    "Linear": {"weight": 0},
    **{f"Conv{d}d": {"weight": 0} for d in (1, 2, 3)},
    **{f"ConvTranspose{d}d": {"weight": 1} for d in (1, 2, 3)},  # stored [in, out / groups, ...]
    "Conv1D": {"weight": 1},  # transformers' (GPT-2): stored [in, out]
    "Embedding": {"weight": 0},
    "EmbeddingBag": {"weight": 0},
    "RNNBase": {"weight_*": 0},  # RNN, LSTM, GRU: [gates * hidden, in] for each layer and direction
    "RNNCellBase": {"weight_*": 0},
    "MultiheadAttention": {"*proj_weight": 0},  # its output projection is a Linear of its own
}


@dataclass(frozen=True)
class Weight:
    """One compressible tensor. A tensor that layers share has the first of its names."""

    name: str
    layer: str  # type of the first layer that owns it
    axis: int  # of the output channels
    tied: tuple[str, ...] = ()
    blocks: int = 1  # groups of a transposed convolution: each has output channels of its own

    @property
    def paths(self) -> tuple[str, ...]:
        """The layers that own it."""
        return tuple(name.rpartition(".")[0] for name in (self.name, *self.tied))

    def layout(self, granularity: str = "channel", group: int = 0) -> Layout:
        """How the tensor becomes rows that share a scale."""
        return Layout(granularity, self.axis, group, self.blocks)


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Everything that an artifact must hold: parameters and persistent buffers.

    Tied parameters appear once, under their first name.
    """
    persistent = set(network.state_dict(keep_vars=True))
    named = {name: p.detach() for name, p in network.named_parameters()}
    named.update({name: b.detach() for name, b in network.named_buffers() if name in persistent})
    return named


def weights_of(network: nn.Module) -> dict[str, Weight]:
    """The compressible weights by name, in the order of the network."""
    first = {id(p): name for name, p in network.named_parameters()}
    found: dict[str, Weight] = {}
    for path, module in network.named_modules():
        kind = next((c.__name__ for c in type(module).__mro__ if c.__name__ in COVERED), None)
        for parameter, axis in _parameters(module, COVERED.get(kind or "", {})):
            own_name = f"{path}.{parameter}" if path else parameter
            name = first.get(id(getattr(module, parameter)), "")
            if not name:
                # computed from other parameters (torch.nn.utils.parametrizations): `uncovered` lists those
                continue
            if name in found:
                known = found[name]
                found[name] = dataclasses.replace(known, tied=(*known.tied, own_name))
            else:
                tied = () if name == own_name else (own_name,)  # the first owner may be of another type
                found[name] = Weight(name, str(kind), axis, tied, _blocks(module, axis))
    return found


def _blocks(module: nn.Module, axis: int) -> int:
    """The groups of a layer that stores [in, out / groups, ...].

    A layer that stores [out, in / groups, ...] has all its output channels at axis 0.
    """
    return int(getattr(module, "groups", 1)) if axis else 1


def _parameters(module: nn.Module, patterns: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """(attribute, axis of the output channels) of a layer's weights, including those computed from other
    parameters.
    """
    own = [name for name, _ in module.named_parameters(recurse=False)]
    for pattern, axis in patterns.items():
        for name in fnmatch.filter(own, pattern) or ([pattern] if hasattr(module, pattern) else []):
            yield name, axis


def uncovered(network: nn.Module) -> dict[str, str]:
    """Tensors of two or more dimensions that no method compresses -> the reason. The record lists them."""
    covered = weights_of(network)
    owners = {
        f"{path}.{n}" if path else n: type(m).__name__
        for path, m in network.named_modules()
        for n, _ in m.named_parameters(recurse=False)
    }
    return {
        name: f"layers of type {owners.get(name, 'unknown')} are not covered"
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and name not in covered
    }
