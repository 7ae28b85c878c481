"""nvidia-modelopt: NVIDIA's Model Optimizer (Apache-2.0). Weight-only, for Linear and all convolutions."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.interfaces import Context
from bench.methods.tools.inputs import call_all, called_by_layers, evenly, paths_called
from bench.methods.tools.tool import Tool

if TYPE_CHECKING:
    from torch.nn import Module

    from bench.methods.tools.codes import Codes

# setting -> the tool's name of the configuration
CONFIGS = {
    "int8": "INT8_WEIGHT_ONLY_CFG",
    "int4": "INT4_BLOCKWISE_WEIGHT_ONLY_CFG",
    "int4_awq": "INT4_AWQ_CFG",
    "fp8": "FP8_DEFAULT_CFG",
}
BLOCK = 128  # consecutive weights of 4 bits that share a scale


@dataclass(frozen=True)
class ModelOpt(Tool):
    """int8 scales each index of axis 0, int4 each 128 consecutive weights, fp8 each tensor.

    int4_awq is int4 of Linear layers whose inputs are scaled first (Lin et al. 2023, arXiv:2306.00978). It
    measures them on the generator's calibration, and leaves layers alone that this never calls. Axis 0 of a
    transposed convolution is its inputs. The tool's file is PyTorch's pickle of tensors, which is read with
    `weights_only`.
    """

    config: str = field(default="int8", metadata={"shown": True})

    name = "modelopt"
    description = f"nvidia-modelopt's quantization, weights only; config={'|'.join(CONFIGS)}"
    package = "nvidia-modelopt"
    transposes_conv1d = True

    def __post_init__(self) -> None:
        if self.config not in CONFIGS:
            raise BadInput(f"config={self.config!r} of 'modelopt' is not one of: {', '.join(CONFIGS)}")
        super().__post_init__()

    def quantize(self, network: Module, layers: AbstractSet[str], context: Context) -> Module:
        """Replace the layers that the tool covers."""
        import modelopt.torch.quantization as mtq

        seen = evenly(network, context, self.name) if self.awq else []
        called = paths_called(network, seen) if self.awq else layers
        others = self.others(network, layers & called)
        if layers <= set(others):  # for which the tool raises an error
            return network
        config = copy.deepcopy(getattr(mtq, CONFIGS[self.config]))
        off = ["*input_quantizer", *(f"{path}.weight_quantizer" for path in others)]
        config["quant_cfg"] += [{"quantizer_name": name, "enable": False} for name in off]
        with called_by_layers(network):  # without calls, the tool takes the largest weights
            mtq.quantize(network, config, functools.partial(call_all, calls=seen))
        mtq.compress(network)
        return network

    @property
    def awq(self) -> bool:
        """Whether inputs are scaled."""
        return self.config == "int4_awq"

    def others(self, network: Module, layers: AbstractSet[str]) -> list[str]:
        """The layers that stay as they are.

        The tool packs int4 in pairs along the last axis and in whole blocks, and fails where they do not fit.
        It can scale the inputs of layers that are called.
        """
        from bench.methods.quantized_inputs import reason_in_floats

        def fits(layer: Any) -> bool:
            weight = getattr(layer, "weight", None)
            if not self.config.startswith("int4") or weight is None:
                return True
            if self.awq and (weight.ndim != 2 or reason_in_floats(layer)):
                return False
            return not (weight.shape[-1] % 2 or weight.numel() % BLOCK)

        every = dict(network.named_modules())
        return [path for path, layer in every.items() if path and (path not in layers or not fits(layer))]

    def save(self, network: Module, folder: Path) -> None:
        """Write the file with the tool's own function."""
        import modelopt.torch.opt as mto

        mto.save(network, folder / "model.pt")

    def load(self, fresh: Module, folder: Path, context: Context) -> Module:
        """Read the file into a network without weights."""
        import modelopt.torch.opt as mto

        return mto.restore(fresh, folder / "model.pt")

    def codes(self, network: Module, path: str) -> Codes | None:
        """The whole numbers and scales of a layer, as the tool holds them."""
        import torch

        from bench.interfaces import Layout
        from bench.methods.tools.codes import Codes, of_groups, whole

        layer: Any = network.get_submodule(path)
        if type(layer.weight).__name__ != "QTensorWrapper":
            return None
        values, scale = layer.weight_quantizer(layer.weight).float(), layer.weight_quantizer._scale.float()
        data = layer.weight.data
        if self.config == "fp8":
            levels, indices = data.float().unique(return_inverse=True)
            return Codes(indices, tuple(levels.tolist()), scale.reshape(1), values, Layout("tensor"))
        if self.config == "int8":
            return Codes(data.int() + 128, whole(-128, 127), scale.reshape(-1), values, Layout())
        # packed int4 knows the reciprocal of a scale
        steps = scale.reshape(-1).reciprocal()
        indices = torch.round(values.reshape(-1, BLOCK) / steps[:, None]) + 8
        held = of_groups(indices, whole(-8, 7), BLOCK, steps, values)
        scales = getattr(layer.input_quantizer, "_pre_quant_scale", None)
        return held if scales is None else dataclasses.replace(held, input_scales=scales.detach())
