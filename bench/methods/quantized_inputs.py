"""Quantized activations: what layers are given has 8 bits, beside weights of 8 or 4 bits.

Hardware that multiplies integers needs both factors quantized. Here both are simulated: a layer rounds its
input to a grid, and computes on in floats (`bench.artifact.structure.InputGrid`). The file holds the grids,
so that the network rebuilt from it computes with them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.artifact.structure import QUANTIZE_INPUT
from bench.errors import Unsupported
from bench.interfaces import Compressed, Context, StructureEdit
from bench.layers import weights_of
from bench.methods.calibration import Calibration, calibration_of, kind_of
from bench.methods.quantize import Int4, Int8, Uniform
from bench.methods.weightwise import one_of

INPUT_BITS = 8
ELSEWHERE = {
    "other operations": "norms, activation functions, sums, and products of two activations, as in "
    "attention, stay in floats"
}


@dataclass(frozen=True)
class QuantizedInputs(Uniform):
    """Base class: the grids of weights are those of `int8` and `int4`, and inputs have grids of 8 bits.

    `static`: one range for each layer, from the least to the greatest number of the calibration inputs,
    measured behind quantized weights (Jacob et al. 2018, arXiv:1712.05877). `dynamic`: each row of a matrix,
    or each input of a convolution, has the range of its own numbers. A few large channels widen the range of
    all. SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) avoids that; this method does not.
    """

    activations: str = "static"

    calibrates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "activations", self.activations, ("static", "dynamic"))

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        made = super().__call__(compressed, context)
        paths, left = layers_of(made, self.weights(compressed, context)[1])
        grids: Mapping[str, Mapping[str, Any]] = {path: {"bits": INPUT_BITS} for path in paths}
        if self.activations == "static":
            grids = ranges(calibration_of(made, context), paths)
            left |= {
                path: "the calibration never calls it, or its inputs are not finite"
                for path in paths
                if path not in grids
            }
        if not grids:
            raise Unsupported(f"{self.name!r} finds no layer whose input it can quantize")
        edits = tuple(StructureEdit(path, QUANTIZE_INPUT, args) for path, args in grids.items())
        return dataclasses.replace(
            made,
            structure=(*made.structure, *edits),
            exceptions={**made.exceptions, self.text: {**left, **ELSEWHERE}},
        )


def layers_of(compressed: Compressed, exempt: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """(paths of the layers whose input is quantized, paths of the others -> why not).

    exempt: weights that stay as they are -> why.
    """
    paths, left = [], {}
    for name, weight in weights_of(compressed.network).items():
        for path in weight.paths:
            layer = compressed.network.get_submodule(path)
            reason = exempt.get(name, reason_in_floats(layer))
            if reason:
                left[path or name] = reason
            else:
                paths.append(path)
    return paths, left


def reason_in_floats(layer: nn.Module) -> str:
    """Why the input of a layer stays in floats; empty: it does not."""
    if type(layer).__name__ == "NonDynamicallyQuantizableLinear":
        return "its attention layer computes with its weight and never calls it"
    if kind_of(layer):
        return ""
    if type(layer).__name__.startswith("Embedding"):
        return "an embedding looks its rows up; they have the values of its weights"
    return f"a layer of type {type(layer).__name__} is computed as a whole"


def ranges(calibration: Calibration, paths: list[str]) -> dict[str, dict[str, Any]]:
    """Path -> the grid of its input. Layers that are not called, or not with finite numbers, are missing."""
    extremes: dict[str, tuple[float, float]] = {}

    def note(path: str, layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        x = (args or tuple(kwargs.values()))[0]
        low, high = extremes.get(path, (0.0, 0.0))
        if not x.isfinite().all():
            extremes[path] = -torch.inf, torch.inf
        elif x.numel():
            extremes[path] = min(low, x.min().item()), max(high, x.max().item())

    handles = [
        calibration.network.get_submodule(path).register_forward_pre_hook(
            functools.partial(note, path), with_kwargs=True
        )
        for path in paths
    ]
    with torch.no_grad():
        for args, kwargs in calibration.batches:
            calibration.network(*args, **kwargs)
    for handle in handles:
        handle.remove()
    return {
        path: grid(*extremes[path])
        for path in paths
        if path in extremes and max(map(abs, extremes[path])) < torch.inf
    }


def grid(low: float, high: float) -> dict[str, Any]:
    """The grid of a range that holds 0. Its step has four digits, so that it is short in a file."""
    step = max(float(f"{(high - low) / (2**INPUT_BITS - 1):.4g}"), 1e-30)
    return {"bits": INPUT_BITS, "step": step, "zero": min(round(-low / step), 2**INPUT_BITS - 1)}


@dataclass(frozen=True)
class W8A8(QuantizedInputs, Int8):
    """Weights as in `int8`, inputs of layers with 8 bits."""

    name, description = "w8a8", "int8, and inputs of layers with 8 bits; simulated in floats"


@dataclass(frozen=True)
class W4A8(QuantizedInputs, Int4):
    """Weights as in `int4`, inputs of layers with 8 bits."""

    name, description = "w4a8", "int4, and inputs of layers with 8 bits; simulated in floats"
