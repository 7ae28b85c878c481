"""torchao: PyTorch's own quantization library (BSD-3-Clause). Weight-only, for Linear and Embedding."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.interfaces import Context
from bench.methods.tools.tool import Tool, unshared

if TYPE_CHECKING:
    from torch.nn import Module

    from bench.methods.tools.codes import Codes

DTYPES = ("int8", "int7", "int6", "int5", "int4", "int3", "int2", "float8")


@dataclass(frozen=True)
class TorchAO(Tool):
    """`int8` and `float8` scale each output channel, fewer bits each group of `group` weights.

    `quantize_` changes Linear layers alone unless it is told otherwise; Embedding layers work, too. Its int8
    tensors of convolutions cannot be computed with, so convolutions stay as they are.
    """

    dtype: str = field(default="int8", metadata={"shown": True})
    group: int = 32

    name = "torchao"
    description = f"torchao's weight-only quantization; dtype={'|'.join(DTYPES)}, group=32 below 8 bits"
    package = "torchao"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise BadInput(f"dtype={self.dtype!r} of 'torchao' is not one of: {', '.join(DTYPES)}")
        if self.group < 2:
            raise BadInput(f"group={self.group} of 'torchao' is too small: give 2 or more, such as 32")
        super().__post_init__()

    def config(self) -> Any:
        """The tool's own configuration."""
        import torch
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, IntxWeightOnlyConfig
        from torchao.quantization.granularity import PerGroup

        if self.dtype == "int8":
            return Int8WeightOnlyConfig()
        if self.dtype == "float8":
            return Float8WeightOnlyConfig()
        return IntxWeightOnlyConfig(getattr(torch, self.dtype), PerGroup(self.group))

    def quantize(self, network: Module, layers: AbstractSet[str], context: Context) -> Module:
        """Replace the layers that the tool covers."""
        from torch import nn
        from torchao.quantization import quantize_

        def chosen(layer: Any, path: str) -> bool:
            if path not in layers or not isinstance(layer, (nn.Linear, nn.Embedding)):
                return False
            return self.dtype in ("int8", "float8") or layer.weight.shape[-1] % self.group == 0

        quantize_(network, self.config(), filter_fn=chosen)
        return network

    def save(self, network: Module, folder: Path) -> None:
        """Write the file with the tool's own function."""
        from safetensors.torch import save_file
        from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict

        tensors, metadata = flatten_tensor_state_dict(unshared(network))
        save_file(tensors, folder / "model.safetensors", metadata)

    def load(self, fresh: Module, folder: Path, context: Context) -> Module:
        """Read the file into a network without weights."""
        from safetensors import safe_open
        from torchao.prototype.safetensors.safetensors_support import unflatten_tensor_state_dict

        with safe_open(folder / "model.safetensors", "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
            state = unflatten_tensor_state_dict(tensors, file.metadata())
        state = state[0] if isinstance(state, tuple) else state
        fresh.load_state_dict(state, strict=False, assign=True)
        return fresh

    def codes(self, network: Module, path: str) -> Codes | None:
        """The whole numbers and scales of a layer, as the tool holds them."""
        import torch

        from bench.methods.tools.codes import of_groups, whole

        weight: Any = network.get_submodule(path).weight
        if not hasattr(weight, "qdata"):
            return None
        group, values = weight.block_size[-1], weight.dequantize()
        if weight.qdata.dtype == torch.float8_e4m3fn:
            levels, indices = weight.qdata.float().unique(return_inverse=True)
            return of_groups(indices, tuple(levels.tolist()), group, weight.scale, values)
        if weight.zero_point is not None and weight.zero_point.any():
            raise BadInput("'torchao' gives a zero point, which its symmetric grids do not have")
        low, high = int(weight.qdata.min()), int(weight.qdata.max())
        return of_groups(weight.qdata.int() - low, whole(low, high), group, weight.scale, values)
