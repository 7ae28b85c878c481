"""nncf: OpenVINO's compression framework (Apache-2.0). Weight-only, for all layers but recurrent ones.

In PyTorch it can save and reload only its fake-quantized form: float weights beside scales. Its file is
therefore as large as the uncompressed network's. The packed form exists for an export to OpenVINO, and its
`get_config` refuses it.
"""

from __future__ import annotations

import json
import os
import re
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

MODES = ("int8_sym", "int8_asym", "int4_sym", "int4_asym")


@dataclass(frozen=True)
class NNCF(Tool):
    """A scale for each output channel.

    In the int4 modes the tool keeps 8 bits in convolutions, in embeddings and in the last layer.
    """

    mode: str = field(default="int8_sym", metadata={"shown": True})

    name = "nncf"
    description = f"nncf's weight compression, fake-quantized form; mode={'|'.join(MODES)}"
    package = "nncf"
    keeps_ties = True

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BadInput(f"mode={self.mode!r} of 'nncf' is not one of: {', '.join(MODES)}")
        super().__post_init__()

    def quantize(self, network: Module, layers: AbstractSet[str], context: Context) -> Module:
        """Replace the layers that the tool covers."""
        without_telemetry()
        import nncf

        from bench.methods.tools.inputs import by_name, calls

        nncf.set_log_level(40)
        example = by_name(network, next(iter(calls(network, context, self.name))))
        others = [
            path for path, layer in network.named_modules() if path not in layers and not [*layer.children()]
        ]
        ignored = [f"{re.escape(path.replace('.', '/'))}/.*" for path in others]
        return nncf.compress_weights(
            network,
            mode=nncf.CompressWeightsMode(self.mode),
            group_size=-1,
            dataset=nncf.Dataset([example]),
            ignored_scope=nncf.IgnoredScope(patterns=ignored, validate=False),
            compression_format=nncf.CompressionFormat.FQ,
        )

    def save(self, network: Module, folder: Path) -> None:
        """Write the file with the tool's own function."""
        import nncf.torch
        from safetensors.torch import save_file

        save_file(unshared(network), folder / "model.safetensors")
        config = nncf.torch.get_config(network)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    def load(self, fresh: Module, folder: Path, context: Context) -> Module:
        """Read the file into a network without weights."""
        import nncf.torch
        from safetensors.torch import load_file

        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        network: Module = nncf.torch.load_from_config(fresh, config)
        network.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        return network

    def codes(self, network: Module, path: str) -> Codes | None:
        """The whole numbers and scales of a layer, as the tool holds them."""
        import torch
        from nncf.torch.quantization.reference import ReferenceQuantizedFunctions

        from bench.methods.tools.codes import Codes, whole

        quantizer = quantizer_of(network, path)
        if quantizer is None:
            return None
        low, high = quantizer.get_input_low_input_high()
        layout, levels = along(low.shape), quantizer.levels
        step = (high - low) / (levels - 1)
        # the tool's forward would compile a C++ extension, which gives the same values
        weight: Any = network.get_submodule(path).weight
        values = ReferenceQuantizedFunctions.Quantize_forward(weight.clone(), low, high - low, levels)
        zero = torch.round(-low / step)
        indices = torch.round(values / step) + zero
        if (zero == zero.flatten()[0]).all():  # symmetric
            first = -int(zero.flatten()[0])
            return Codes(indices, whole(first, first + levels - 1), step, values, layout)
        return Codes(indices, whole(0, levels - 1), step, values, layout, offset=-zero * step)


def without_telemetry() -> None:
    """The tool sends statistics of its use unless this variable is set before it is imported."""
    os.environ.setdefault("NNCF_CI", "1")


def quantizer_of(network: Module, path: str) -> Any:
    """The tool's quantizer of the weight of the layer at a path; None: it has none."""
    hooks = getattr(network, "__nncf_hooks", None)
    start = f"post_hooks.{path.replace('.', ':')}:weight__"
    found = {} if hooks is None else dict(hooks.named_modules())
    return next(
        (hook for name, hook in found.items() if name.startswith(start) and hasattr(hook, "levels")), None
    )


def along(shape: tuple[int, ...]) -> Any:
    """The layout of scales of a shape such as [1, 24, 1, 1]: one for each index of an axis."""
    from bench.interfaces import Layout

    axes = [axis for axis, size in enumerate(shape) if size > 1]
    return Layout(axis=axes[0]) if axes else Layout("tensor")
