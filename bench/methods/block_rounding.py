"""BRECQ (Li et al. 2021, arXiv:2102.05426): rounding learnt block by block.

AdaRound spares the output of each layer. The errors of a block's layers add up or cancel in its output, so
here the layers of a block learn together, and spare the block's output.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bench.interfaces import Compressed, Context, StoredTensor
from bench.layers import Weight
from bench.methods.calibrated_rounding import (
    AdaRound,
    Rounding,
    as_logit,
    between_of,
    rounding_of,
    stretched,
)
from bench.methods.calibration import Calibration, calibration_of

CALLS = 32  # of the network that blocks are seen in, evenly from all calibration batches


@dataclass(frozen=True)
class Brecq(AdaRound):
    """Weights outside of blocks are rounded by AdaRound, and so are blocks that do not get better."""

    name = "brecq"
    description = "uniform, rounding up or down learnt together by the layers of a block"

    BLOCK_STEPS: ClassVar[int] = 400

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        made, (weights, _) = super().__call__(compressed, context), self.weights(compressed, context)
        calibration, changed = calibration_of(compressed, context), dict[str, StoredTensor]()
        for path, block in blocks_of(calibration.network, weights).items():
            own = inside(path, weights)
            layers = {name: Layer.of(compressed, made, weights[name], path) for name in own}
            changed |= self.reconstruct(block, layers, calls_of(block, calibration))
        return made.replace(changed)

    def reconstruct(
        self, block: nn.Module, layers: Mapping[str, Layer], calls: list[Call]
    ) -> dict[str, StoredTensor]:
        """The block's weights, rounded together; nothing where that is not better than layer by layer."""
        before = error(block, {one.name: one.settled for one in layers.values()}, calls)
        nearest = error(block, {one.name: one.nearest for one in layers.values()}, calls)
        if not calls or not 0 < min(before, nearest) < math.inf:
            return {}
        found = self.learn_together(block, layers, calls, nearest)
        stored = {name: one.with_indices(found[name]) for name, one in layers.items()}
        values = {layers[name].name: one.dequantize() for name, one in stored.items()}
        return stored if error(block, values, calls) < before else {}

    def learn_together(
        self, block: nn.Module, layers: Mapping[str, Layer], calls: list[Call], nearest: float
    ) -> dict[str, Tensor]:
        """The index of each weight. `nearest`: the error of round-to-nearest, which costs 1 a weight here."""
        hidden = {name: as_logit(one.share).requires_grad_() for name, one in layers.items()}
        count = sum(int(one.free.sum()) for one in layers.values())
        optimizer = torch.optim.Adam(hidden.values(), self.RATE)
        drawn = torch.Generator().manual_seed(0)
        for step in range(self.BLOCK_STEPS):
            call = calls[int(torch.randint(len(calls), (), generator=drawn))]
            up = {name: one.up(hidden[name]) for name, one in layers.items()}
            dense = {one.name: one.dense(one.low + up[name]) for name, one in layers.items()}
            loss = count / nearest * call.error(block, dense)
            loss = loss + sum(self.price(up[name], step / self.BLOCK_STEPS) for name in layers)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {name: (one.low + one.up(hidden[name]).round()).detach() for name, one in layers.items()}

    def price(self, up: Tensor, progress: float) -> Tensor:
        """Of weights in between, whose slope is `push`."""
        return self.PRICE * (1 - (2 * up - 1).abs().pow(self.beta(progress))).sum()


@dataclass(frozen=True)
class Layer:
    """One weight of a block. Indices are [1, rows, n], values have the weight's shape."""

    name: str  # within the block
    weight: Weight
    stored: StoredTensor  # as AdaRound left it
    base: Tensor  # what the stored tensor has beside its indices, such as two factors
    task: Rounding
    low: Tensor  # the lower neighbour of each weight
    share: Tensor  # where it is between its two neighbours

    @classmethod
    def of(cls, compressed: Compressed, made: Compressed, weight: Weight, path: str) -> Layer:
        """A weight before and after AdaRound."""
        before, stored = compressed.tensors[weight.name], made.tensors[weight.name]
        task = rounding_of(before, stored, weight.layout(), groups=1)
        low, share = task.neighbours()
        base = before.dequantize() - before.residual().dequantize()
        return cls(weight.name.removeprefix(f"{path}."), weight, stored, base, task, low, share)

    @property
    def free(self) -> Tensor:
        """The weights that have a choice."""
        return between_of(self.share, self.task.mask)

    @property
    def settled(self) -> Tensor:
        """What AdaRound chose."""
        return self.stored.dequantize()

    @property
    def nearest(self) -> Tensor:
        """Rounded to nearest."""
        return self.dense(self.task.nearest(self.task.rows).float())

    def up(self, hidden: Tensor) -> Tensor:
        """Between 0, the lower neighbour, and 1."""
        return torch.where(self.free, stretched(hidden), self.share)

    def dense(self, place: Tensor) -> Tensor:
        """Values of places on the grid, which need not be whole."""
        rows = (place + self.task.levels[0]) * self.task.scales * self.task.mask
        return self.base + self.weight.layout().restore(rows.flatten(0, 1), self.stored.shape)

    def with_indices(self, place: Tensor) -> StoredTensor:
        """The stored tensor with these places on its grid."""
        assert self.stored.indices is not None
        indices = place.flatten(0, 1).to(self.stored.indices.dtype)
        return dataclasses.replace(
            self.stored, indices=self.weight.layout().restore(indices, self.stored.shape)
        )


# ----------------------------------------------------------------------------------------------------- blocks


@dataclass(frozen=True)
class Call:
    """One call of a block in the network as it was, and what it gave."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Tensor

    def error(self, block: nn.Module, values: Mapping[str, Tensor]) -> Tensor:
        """The mean squared error of the block's output with these weights. It works on copies of the inputs,
        since a block may change them in place.
        """
        args, kwargs = copy.deepcopy((self.args, dict(self.kwargs)))
        own = {name: value.to(block.get_parameter(name).dtype) for name, value in values.items()}
        made = first_tensor(functional_call(block, own, args, kwargs))
        return (made.float() - self.output.float()).square().mean()


def error(block: nn.Module, values: Mapping[str, Tensor], calls: list[Call]) -> float:
    """The mean over calls; infinity where it is not finite."""
    with torch.no_grad():
        found = sum(float(call.error(block, values)) for call in calls) / max(len(calls), 1)
    return found if math.isfinite(found) else math.inf


def blocks_of(network: nn.Module, weights: Mapping[str, Weight]) -> dict[str, nn.Module]:
    """Path -> the innermost entries of lists of modules that hold two or more of the weights."""
    entries = {
        f"{path}.{number}" if path else number: entry
        for path, module in network.named_modules()
        if isinstance(module, nn.ModuleList)
        for number, entry in module.named_children()
    }
    large = [path for path in entries if len(inside(path, weights)) >= 2]
    return {path: entries[path] for path in large if not inside(path, large)}


def inside(path: str, names: Iterable[str]) -> list[str]:
    """The names below a path."""
    return [name for name in names if name.startswith(f"{path}.")]


def calls_of(block: nn.Module, calibration: Calibration) -> list[Call]:
    """What the block is called with in a few calls of the network, and what it gives.

    Both are copies: the block or the network may change them in place.
    """
    inputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    outputs: list[Tensor] = []

    def keep_inputs(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs.append(copy.deepcopy((args, kwargs)))

    def keep_output(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        outputs.append(first_tensor(output).clone())

    before = block.register_forward_pre_hook(keep_inputs, with_kwargs=True)
    after = block.register_forward_hook(keep_output)
    with torch.no_grad():
        for args, kwargs in calibration.batches[:: -(-len(calibration.batches) // CALLS)]:
            calibration.network(*args, **kwargs)
    before.remove()
    after.remove()
    return [Call(args, kwargs, output) for (args, kwargs), output in zip(inputs, outputs)]


def first_tensor(output: Any) -> Tensor:
    """A block's output where it gives several."""
    return output if isinstance(output, Tensor) else output[0]
