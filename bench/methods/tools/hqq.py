"""hqq: half-quadratic quantization (Badri and Shaji 2023; Apache-2.0). Weight-only, for Linear."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.interfaces import Context
from bench.methods.tools.tool import Tool, replace_layers, unshared

if TYPE_CHECKING:
    from torch.nn import Module

    from bench.methods.tools.codes import Codes

BITS = (8, 6, 5, 4, 3, 2, 1)


@dataclass(frozen=True)
class HQQ(Tool):
    """Scale and zero for each `group` weights of a row; the zeros minimise a norm below 1 of the error."""

    bits: int = field(default=4, metadata={"shown": True})
    group: int = 64

    name = "hqq"
    description = "half-quadratic quantization, weight-only; bits=8|6|5|4|3|2|1, group=64"
    package = "hqq"

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise BadInput(f"bits={self.bits} of 'hqq' is not one of: {', '.join(map(str, BITS))}")
        if self.group < 8 or self.group % 8:
            raise BadInput(f"group={self.group} of 'hqq' is no multiple of 8: give 64, for example")
        super().__post_init__()

    def quantize(self, network: Module, layers: AbstractSet[str], context: Context) -> Module:
        """Replace the layers that the tool covers."""
        import torch
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear
        from torch import nn

        per_byte = 8 // self.bits if self.bits in (4, 2, 1) else 1

        def quantized(layer: Module) -> Module | None:
            if type(layer) is not nn.Linear or layer.in_features % self.group:
                return None
            if layer.weight.numel() // self.group % per_byte:  # the tool would drop the last groups
                return None
            config = BaseQuantizeConfig(nbits=self.bits, group_size=self.group, axis=1)
            return HQQLinear(layer, config, compute_dtype=torch.float32, device="cpu")

        replace_layers(network, layers, quantized)
        return network

    def save(self, network: Module, folder: Path) -> None:
        """Write the file with the tool's own function."""
        from safetensors.torch import save_file

        state = {name: tensor.contiguous() for name, tensor in unshared(network).items()}
        save_file(state, folder / "model.safetensors")

    def load(self, fresh: Module, folder: Path, context: Context) -> Module:
        """Read the file into a network without weights."""
        import torch
        from hqq.core.quantize import HQQLinear
        from safetensors.torch import load_file

        state = load_file(folder / "model.safetensors")
        quantized = {name.removesuffix(".W_q") for name in state if name.endswith(".W_q")}

        def empty(layer: Module) -> Module:
            return HQQLinear(None, None, compute_dtype=torch.float32, device="cpu")

        replace_layers(fresh, quantized, empty)
        fresh.load_state_dict(state, strict=False)
        return fresh

    def codes(self, network: Module, path: str) -> Codes | None:
        """The whole numbers and scales of a layer, as the tool holds them."""
        import torch
        from hqq.core.quantize import HQQLinear, Quantizer

        from bench.methods.tools.codes import of_groups, whole

        layer: Any = network.get_submodule(path)
        if not isinstance(layer, HQQLinear) or layer.W_q is None:
            return None
        meta = layer.meta
        unpacked = Quantizer.unpack[meta["packing"]](layer.W_q, dtype=torch.uint8)
        values = layer.dequantize()
        indices = unpacked[: values.numel() // self.group].int()  # three bits are padded to whole words
        offset = -meta["zero"].float() * meta["scale"].float()
        return of_groups(indices, whole(0, 2**self.bits - 1), self.group, meta["scale"], values, offset)
