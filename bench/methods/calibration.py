"""Calibration: the second moments of what each layer is given, taken layer by layer.

A layer computes W x. If its weights change by D, its output's mean squared error is tr(D H D^T), where
H = E[x x^T]. So H is all that GPTQ, AdaRound, Wanda and SparseGPT have to know of the inputs. A convolution
multiplies the same weights with a patch of its input at each position (im2col); its x are those patches.

Inputs are those in the network as it was before the method, so all layers are measured in one pass. The
published form measures each layer behind compressed ones, and needs a pass for each. Measured on the models
`s@0` of text and of the diffusion model, the two hardly differed.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.artifact.format import fill
from bench.artifact.structure import rebuilt
from bench.errors import Unsupported, in_a_line
from bench.interfaces import Compressed, Context, StoredTensor
from bench.layers import Weight

LEAST_ROWS, ROWS_PER_INPUT = 8192, 32  # patches that a layer of n inputs is measured on: the larger number
MOST_NUMBERS = 2**27  # of all moments at once: 1 GiB
Batch = tuple[tuple[Any, ...], Mapping[str, Any]]  # what the network is called with
# (stored, weight, moments [groups, n, n]) -> stored in another way
Step = Callable[[StoredTensor, Weight, Tensor], StoredTensor]

LINEAR, CONVOLUTIONS = ("Linear", "Conv1D"), ("Conv1d", "Conv2d", "Conv3d")
TRANSPOSED = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d")


# ------------------------------------------------------------------------------------------------- one layer


def kind_of(layer: nn.Module) -> str | None:
    """The layer type by which inputs are read; None where they do not multiply the weights row by row."""
    known = (*LINEAR, *CONVOLUTIONS, *TRANSPOSED)
    return next((c.__name__ for c in type(layer).__mro__ if c.__name__ in known), None)


def patches(layer: nn.Module, x: Tensor, most: int, seed: int = 0) -> Tensor:
    """[groups, positions, n]: what the rows of `Layout.rows` are multiplied with, each group by its own.

    `most` positions are drawn where there are more.
    """
    kind = kind_of(layer)
    if kind in LINEAR:
        flat = x.flatten(0, -2) if x.ndim > 1 else x[None]
        return flat[_draw(len(flat), most, seed).to(x.device)][None]
    windows = _transposed_windows(layer, x) if kind in TRANSPOSED else _windows(layer, x)
    dimensions = len(layer.kernel_size)  # type: ignore[arg-type]
    windows = windows.movedim(1, dimensions + 1)  # [b, *out, channels, *kernel]
    shape = windows.shape[: dimensions + 1]
    drawn = torch.unravel_index(_draw(shape.numel(), most, seed).to(x.device), shape)
    rows = windows[drawn]  # [m, channels, *kernel]
    if kind in TRANSPOSED:  # which multiplies the last input of a window with the first weight
        rows = rows.flip(tuple(range(2, rows.ndim)))
    groups: Any = layer.groups
    return rows.unflatten(1, (groups, -1)).flatten(2).movedim(1, 0)


def _draw(count: int, most: int, seed: int) -> Tensor:
    """`most` of `count` positions, ascending; all where there are no more."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most].sort().values


def _windows(layer: Any, x: Tensor) -> Tensor:
    """A convolution's windows: a view [b, channels, *out, *kernel]."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(_batched(layer, x), layer._reversed_padding_repeated_twice, mode=mode)
    return _slide(padded, layer.kernel_size, layer.stride, layer.dilation)


def _transposed_windows(layer: Any, x: Tensor) -> Tensor:
    """A transposed convolution is a convolution of an input with zeros between its values."""
    x, ends = _batched(layer, x), []
    for i, stride in enumerate(layer.stride):
        spread = x.new_zeros(*x.shape[: 2 + i], (x.shape[2 + i] - 1) * stride + 1, *x.shape[3 + i :])
        spread[(slice(None),) * (2 + i) + (slice(None, None, stride),)] = x
        x = spread
        reach = layer.dilation[i] * (layer.kernel_size[i] - 1) - layer.padding[i]
        ends.append((reach, reach + layer.output_padding[i]))
    padded = F.pad(x, [end for pair in reversed(ends) for end in pair])
    return _slide(padded, layer.kernel_size, (1,) * len(ends), layer.dilation)


def _batched(layer: Any, x: Tensor) -> Tensor:
    """[b, channels, ...], also of one input without a batch."""
    return x if x.ndim == len(layer.kernel_size) + 2 else x[None]


def _slide(x: Tensor, kernel: Iterable[int], stride: Iterable[int], dilation: Iterable[int]) -> Tensor:
    for i, (size, step, apart) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + i, apart * (size - 1) + 1, step)[..., ::apart]
    return x


# ----------------------------------------------------------------------------------------------- all of them


@dataclass(frozen=True)
class Calibration:
    """A network, and the batches that it is called with."""

    network: nn.Module
    batches: list[Batch]

    def holders(self, name: str) -> list[nn.Module]:
        """The layers of a tensor; several share a tied one."""
        wanted = self.network.get_parameter(name)
        return [module for module in self.network.modules() if owns(module, wanted)]

    def layers(self, name: str) -> list[nn.Module]:
        """The layers that multiply their inputs with this tensor; none where one uses it in another way.

        Measured: with the moments of the head alone, a tied embedding lost more than by rounding to nearest.
        """
        found = self.holders(name)
        return found if all(kind_of(layer) for layer in found) else []

    def moments(self, inputs: Mapping[str, int]) -> dict[str, Tensor]:
        """Name of a tensor with rows of n weights -> E[x x^T] as the network is now, float64 [groups, n, n].

        Layers that are not called are missing. Only proportions count, so mean diagonals are 1.
        """
        most = {
            name: -(-max(LEAST_ROWS, ROWS_PER_INPUT * n) // len(self.batches)) for name, n in inputs.items()
        }
        total: dict[str, Tensor] = {}
        calls = itertools.count()

        def add(name: str, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            x = (args or tuple(kwargs.values()))[0]
            rows = patches(layer, x.float(), most[name], next(calls))  # [groups, m, n]
            gram = (rows.mT @ rows).double()
            total[name] = total[name] + gram if name in total else gram

        handles = [
            layer.register_forward_pre_hook(functools.partial(add, name), with_kwargs=True)
            for name in inputs
            for layer in self.layers(name)
        ]
        with torch.no_grad():
            for args, kwargs in self.batches:
                self.network(*args, **kwargs)
        for handle in handles:
            handle.remove()
        return {name: proportions(gram) for name, gram in total.items()}


def owns(layer: nn.Module, wanted: Tensor) -> bool:
    """Whether a tensor is a parameter of the layer itself."""
    return any(own is wanted for own in layer.parameters(recurse=False))


def proportions(gram: Tensor) -> Tensor:
    """[groups, n, n] over its mean diagonal; the identity for a group whose inputs are all zero."""
    mean = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    return torch.where(mean > 0, gram / mean.clamp(min=1e-300), unknown_inputs(gram.shape, gram.device))


def unknown_inputs(shape: tuple[int, ...], device: Any) -> Tensor:
    """The moments of inputs that weigh the same and are independent: the identity for each group."""
    return torch.eye(shape[-1], dtype=torch.float64, device=device).expand(shape)


def calibration_of(compressed: Compressed, context: Context) -> Calibration:
    """The network that earlier methods made, with the generator's own inputs. Raises `Unsupported`."""
    if context.generator is None:
        raise Unsupported("there is no generator to take calibration inputs from")
    try:
        batches = list(context.generator.calibration(context.seed))
    except LookupError as error:
        raise Unsupported(f"the model has no calibration inputs: {in_a_line(error)}") from None
    if not batches:
        raise Unsupported("the model has no calibration inputs: it gives no batch")
    network = rebuilt(context.generator, compressed.structure).to(context.device).eval()
    fill(network, compressed.tensors)
    return Calibration(network, batches)


def layer_by_layer(
    compressed: Compressed, context: Context, weights: Mapping[str, Weight], step: Step
) -> Compressed:
    """Store each weight in another way, given the inputs that it has in the network as it was before.

    A weight whose inputs are unknown gets the identity as its moments, and the record says why. Such weights,
    embeddings above all, come first, and the inputs of the others are those behind them.
    """
    calibration, lacking = calibration_of(compressed, context), dict(compressed.uncalibrated)
    lengths = {name: row_length(compressed.tensors[name], weight) for name, weight in weights.items()}
    changed: dict[str, StoredTensor] = {}

    def settle(name: str, known: Tensor | None) -> None:
        lacking.pop(name, None)
        if known is None or not known.isfinite().all():
            lacking[name] = reason(calibration, name)
            known = unknown_inputs((1, lengths[name], lengths[name]), context.device)
        changed[name] = step(compressed.tensors[name], weights[name], known)

    for name in weights:
        if not calibration.layers(name):
            settle(name, None)
    fill(calibration.network, {**compressed.tensors, **changed})
    for group in that_fit_into_memory({name: n for name, n in lengths.items() if name not in changed}):
        moments = calibration.moments(group)
        for name in group:
            settle(name, moments.pop(name, None))
    return dataclasses.replace(compressed.replace(changed), uncalibrated=lacking)


def that_fit_into_memory(lengths: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Groups of layers whose moments, n^2 numbers of each, are held at once. Each group is one more pass."""
    group: dict[str, int] = {}
    for name, n in lengths.items():
        if group and sum(known**2 for known in group.values()) + n**2 > MOST_NUMBERS:
            yield group
            group = {}
        group[name] = n
    if group:
        yield group


def row_length(stored: StoredTensor, weight: Weight) -> int:
    """Weights of an output channel."""
    return weight.layout().channel_length(stored.shape)


def reason(calibration: Calibration, name: str) -> str:
    """Why the inputs of a weight are unknown."""
    other = [type(layer).__name__ for layer in calibration.holders(name) if not kind_of(layer)]
    if not other:
        return "the calibration never calls its layer, or its inputs are not finite"
    if other[0].startswith("Embedding"):
        return "an embedding is looked up and not multiplied, so all its columns weigh the same"
    return f"the inputs of layers of type {other[0]} are not known row by row"
