"""What several runtimes need: a network as one graph of tensors, and arrays to calibrate with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench.interfaces import Exportable

if TYPE_CHECKING:
    import numpy as np

CALIBRATION_CALLS, CALIBRATION_ROWS, SEED = 64, 32, 0


def exported_program(exportable: Exportable, module: Any = None) -> Any:
    """The network as a `torch.export` program, for any length of the named axes."""
    import torch
    from torch.export import Dim

    dims = {name: Dim(name, min=1, max=longest) for name, longest in exportable.longest.items()}
    shapes = []
    for name in exportable.inputs:
        shapes.append({axis: dims[what] for axis, what in exportable.axes.get(name, {}).items()})
    with torch.no_grad():
        return torch.export.export(
            exportable.module if module is None else module,
            tuple(exportable.inputs.values()),
            dynamic_shapes=tuple(shapes),
            strict=False,
            # code that branches on a length becomes a check; `bench edge` compares every length that it uses
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def calibration_calls(exportable: Exportable) -> Iterator[tuple[Any, ...]]:
    """A few calls of the network as tensors, evenly from all; long batches are cut."""
    every = list(exportable.calibration(SEED))
    step = max(1, -(-len(every) // CALIBRATION_CALLS))
    for call in itertools.islice(every, 0, None, step):
        named = zip(exportable.inputs, call)
        yield tuple(_first_rows(exportable, name, one) for name, one in named)


def _first_rows(exportable: Exportable, name: str, tensor: Any) -> Any:
    for axis, what in exportable.axes.get(name, {}).items():
        if what == "batch":
            tensor = tensor.narrow(axis, 0, min(CALIBRATION_ROWS, tensor.shape[axis]))
    return tensor.contiguous()


def calibration_arrays(exportable: Exportable) -> list[dict[str, np.ndarray]]:
    """The same as arrays by the name of the input."""
    found = []
    for call in calibration_calls(exportable):
        arrays = [tensor.cpu().numpy() for tensor in call]
        found.append(dict(zip(exportable.inputs, arrays)))
    return found
