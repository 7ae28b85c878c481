"""optimum-quanto: Hugging Face's quantization library (Apache-2.0). Weight-only, for Linear and Conv2d."""

from __future__ import annotations

import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.interfaces import Context
from bench.methods.tools.tool import Tool, unshared

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from bench.methods.tools.codes import Codes


@dataclass(frozen=True)
class Quanto(Tool):
    """8 bits scale each output channel. 4 and 2 bits have scale and offset for each group of up to 128."""

    bits: int = field(default=8, metadata={"shown": True})

    name = "quanto"
    description = "optimum-quanto's weight-only quantization; bits=8|4|2"
    package = "optimum-quanto"

    def __post_init__(self) -> None:
        if self.bits not in (8, 4, 2):
            raise BadInput(f"bits={self.bits} of 'quanto' is not one of: 8, 4, 2")
        super().__post_init__()

    def quantize(self, network: Module, layers: AbstractSet[str], context: Context) -> Module:
        """Replace the layers that the tool covers."""
        from optimum.quanto import freeze, quantize

        without_compiler()
        others = [path for path, _ in network.named_modules() if path not in layers]
        quantize(network, weights=f"qint{self.bits}", exclude=others)
        freeze(network)
        return network

    def save(self, network: Module, folder: Path) -> None:
        """Write the file with the tool's own function."""
        from optimum.quanto import quantization_map
        from safetensors.torch import save_file

        save_file(unshared(network), folder / "model.safetensors")
        (folder / "quantization_map.json").write_text(json.dumps(quantization_map(network)), encoding="utf-8")

    def load(self, fresh: Module, folder: Path, context: Context) -> Module:
        """Read the file into a network without weights."""
        from optimum.quanto import requantize
        from safetensors.torch import load_file

        names = json.loads((folder / "quantization_map.json").read_text(encoding="utf-8"))
        requantize(fresh, load_file(folder / "model.safetensors"), names)
        return fresh

    def codes(self, network: Module, path: str) -> Codes | None:
        """The whole numbers and scales of a layer, as the tool holds them."""
        from optimum.quanto import QTensor

        from bench.methods.tools.codes import of_groups, whole

        weight: Any = network.get_submodule(path).weight
        if not isinstance(weight, QTensor):
            return None
        values, length = weight.dequantize(), weight.numel() // weight.shape[0]
        if self.bits == 8:
            return of_groups(weight._data.int() + 128, whole(-128, 127), length, weight._scale, values)
        indices, group = weight._data.unpack().int(), weight._group_size or length
        codebook = whole(0, 2**self.bits - 1)
        return of_groups(indices, codebook, group, weight._scale, values, offset=-weight._shift)


def unpack(packed: Tensor, bits: int) -> Tensor:
    """[rows / (8 / bits), n] bytes -> [rows, n] numbers: the lowest bits hold the first rows."""
    import torch

    return torch.cat([(packed >> bits * part) & (2**bits - 1) for part in range(8 // bits)])


def without_compiler() -> None:
    """Make the tool unpack bits with the function above.

    On a CPU it would compile its own of C++ at first use, which takes minutes and needs a compiler.
    """
    from optimum.quanto.library.extensions import get_extension

    get_extension("quanto_cpp")._lib = SimpleNamespace(unpack=unpack)
