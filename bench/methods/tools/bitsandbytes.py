"""bitsandbytes: 4-bit and 8-bit linear layers (MIT). Weight-only, for Linear."""

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

TYPES = ("nf4", "fp4", "int8")
BLOCK = 64  # consecutive weights of a 4-bit layer that share a scale


@dataclass(frozen=True)
class BitsAndBytes(Tool):
    """4 bits: a plain scale for each 64 consecutive weights. int8: one for each row.

    The tool's int8 layers quantize activations, too; here only their weights count.
    """

    type: str = field(default="nf4", metadata={"shown": True})

    name = "bitsandbytes"
    description = f"bitsandbytes' linear layers, weights only; type={'|'.join(TYPES)}"
    package = "bitsandbytes"

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise BadInput(f"type={self.type!r} of 'bitsandbytes' is not one of: {', '.join(TYPES)}")
        super().__post_init__()

    def empty(self, layer: Any) -> Any:
        """A layer of the tool without weights; None for a layer that is no Linear."""
        import torch
        from bitsandbytes.nn import Linear4bit, Linear8bitLt
        from torch import nn

        if type(layer) is not nn.Linear:
            return None
        sizes = (layer.in_features, layer.out_features, layer.bias is not None)
        if self.type == "int8":
            return Linear8bitLt(*sizes, has_fp16_weights=False)
        return Linear4bit(*sizes, torch.float32, compress_statistics=False, quant_type=self.type)

    def quantize(self, network: Module, layers: AbstractSet[str], context: Context) -> Module:
        """Replace the layers that the tool covers."""

        def quantized(layer: Module) -> Module | None:
            made = self.empty(layer)
            if made is not None:
                made.load_state_dict(layer.state_dict())
                made.weight = made.weight.to("cpu")  # which quantizes
            return made

        replace_layers(network, layers, quantized)
        return network

    def save(self, network: Module, folder: Path) -> None:
        """Write the file with the tool's own function."""
        from safetensors.torch import save_file

        save_file(unshared(network), folder / "model.safetensors")

    def load(self, fresh: Module, folder: Path, context: Context) -> Module:
        """Read the file into a network without weights."""
        import torch
        from bitsandbytes.nn import Int8Params, Params4bit
        from safetensors.torch import load_file

        state = load_file(folder / "model.safetensors")
        end = ".SCB" if self.type == "int8" else ".weight.absmax"
        paths = {name.removesuffix(end) for name in state if name.endswith(end)}
        replace_layers(fresh, paths, self.empty)
        for path in paths:
            layer: Any = fresh.get_submodule(path)
            weight = state.pop(f"{path}.weight")
            if self.type == "int8":
                layer.weight = Int8Params(
                    weight, requires_grad=False, CB=weight, SCB=state.pop(f"{path}.SCB")
                )
                state.pop(f"{path}.weight_format")
                continue
            start = f"{path}.weight."
            held = {name.removeprefix(start): state.pop(name) for name in [*state] if name.startswith(start)}
            layer.weight = Params4bit.from_prequantized(
                weight, held, device=torch.device("cpu"), module=layer
            )
        fresh.load_state_dict(state, strict=False)
        return fresh

    def codes(self, network: Module, path: str) -> Codes | None:
        """The whole numbers and scales of a layer, as the tool holds them."""
        import torch
        from bitsandbytes.backends.default.ops import _dequantize_4bit_compute as dequantized
        from bitsandbytes.nn import Linear4bit, Linear8bitLt

        from bench.methods.tools.codes import of_groups, whole

        layer: Any = network.get_submodule(path)
        if isinstance(layer, Linear8bitLt) and layer.weight.dtype == torch.int8:
            scale = layer.weight.SCB.float() / 127
            values, length = layer.weight.float() * scale[:, None], layer.in_features
            return of_groups(layer.weight.int() + 128, whole(-128, 127), length, scale, values)
        if not isinstance(layer, Linear4bit) or layer.weight.quant_state is None:
            return None
        state, packed = layer.weight.quant_state, layer.weight.data.reshape(-1)
        indices = torch.stack([packed >> 4, packed & 15], 1).reshape(-1)[
            : layer.in_features * layer.out_features
        ]
        levels, order = state.code.sort()
        # its kernel for AVX-512 is wrong where a row is a multiple of 16, and not of the block
        values = dequantized(packed, state.absmax, state.code, BLOCK, state.shape, torch.float32)
        return of_groups(order.argsort()[indices.long()], tuple(levels.tolist()), BLOCK, state.absmax, values)
