"""PyTorch's eager mode: each operation is called from Python, as `bench run` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.edge.runtime import INSTALL, Layers, Loaded, Runtime, Setup
from bench.errors import Unsupported
from bench.interfaces import Exportable

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

FILE = "model.safetensors"


class Eager(Runtime):
    """Its file holds the tensors; the structure comes from the domain's code."""

    name = "eager"
    description = "PyTorch, operation by operation"
    precisions: ClassVar[Sequence[str]] = ("fp32", "bf16", "int8-dynamic")

    def export(self, exportable: Exportable, precision: str, folder: Path) -> None:
        """Write the tensors in the precision."""
        import copy

        from safetensors.torch import save_file

        from bench.methods.tools.tool import quietly, unshared

        module = copy.deepcopy(exportable.module)
        if precision == "int8-dynamic":
            with quietly():
                tensors, metadata = _quantized(module)
            save_file(tensors, folder / FILE, metadata)
            return
        if precision == "bf16":
            module = module.bfloat16()
        save_file({name: one.contiguous() for name, one in unshared(module).items()}, folder / FILE)

    def load(self, folder: Path, setup: Setup) -> Loaded:
        """Fill the domain's own module."""
        import torch

        from bench.methods.tools.tool import quietly

        torch.set_num_threads(setup.threads)
        module = setup.rebuild().eval().requires_grad_(False)
        if setup.precision == "bf16":
            module = module.bfloat16()
        with quietly():
            _fill(module, folder / FILE, setup.precision)
        return Loaded(_caller(self.made(module, setup), setup.precision), lambda: _layers(module))

    def made(self, module: Module, setup: Setup) -> Callable[..., Any]:
        """What is called."""
        return module


def _quantized(module: Module) -> Any:
    """(tensors, metadata) by torchao's own coding. Raises `Unsupported` where it quantizes nothing."""
    try:
        from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
    except ImportError:
        raise Unsupported(f"int8-dynamic needs torchao, which is not installed: {INSTALL}") from None
    from torch import nn

    from bench.methods.tools.tool import unshared

    tied = [one for one in module.modules() if isinstance(one, nn.Embedding)]
    shared = {id(one.weight) for one in tied}

    def chosen(layer: Any, path: str) -> bool:
        return isinstance(layer, nn.Linear) and id(layer.weight) not in shared

    if not any(chosen(layer, path) for path, layer in module.named_modules()):
        raise Unsupported("torchao quantizes Linear layers alone, and this network has none")
    quantize_(module, Int8DynamicActivationInt8WeightConfig(), filter_fn=chosen)
    return flatten_tensor_state_dict(unshared(module))


def _fill(module: Module, file: Path, precision: str) -> None:
    from safetensors import safe_open
    from torch import nn

    with safe_open(file, "pt") as opened:
        tensors, metadata = {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata()
    if precision == "int8-dynamic":
        from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

        found: Any = unflatten_tensor_state_dict(tensors, metadata)
        tensors = found[0] if isinstance(found, tuple) else found
        for name in [name for name, tensor in tensors.items() if hasattr(tensor, "qdata")]:
            path, _, own = name.rpartition(".")
            setattr(module.get_submodule(path), own, nn.Parameter(tensors.pop(name), requires_grad=False))
    # the file lacks second names of tied tensors, which are filled with the first
    module.load_state_dict(tensors, strict=False)


def _caller(module: Callable[..., Any], precision: str) -> Callable[..., Sequence[np.ndarray]]:
    """Arrays in, arrays out. In bf16, numbers such as times and positions keep their type."""
    import torch

    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        tensors = [torch.from_numpy(array) for array in arrays]
        if precision == "bf16":
            tensors = [t.bfloat16() if t.is_floating_point() and t.ndim > 1 else t for t in tensors]
        with torch.no_grad():
            made = module(*tensors)
        return [one.float().numpy() for one in ([made] if isinstance(made, torch.Tensor) else made)]

    return call


def _layers(module: Module) -> Layers:
    """Layers with a matrix or kernels -> the type of their weight."""
    names = {"torch.float32": "fp32", "torch.bfloat16": "bf16"}
    found = {}
    for path, layer in module.named_modules():
        weight: Any = getattr(layer, "weight", None)
        if weight is not None and weight.ndim > 1 and type(layer).__name__ != "Embedding":
            kind = "int8" if hasattr(weight, "qdata") else names.get(str(weight.dtype), str(weight.dtype))
            found[path] = kind
    return found
