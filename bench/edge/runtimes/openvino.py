"""OpenVINO on the CPU, with NNCF for whole numbers (both Apache-2.0)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.edge.program import calibration_arrays, exported_program
from bench.edge.runtime import Layers, Loaded, Runtime, Setup
from bench.interfaces import Exportable

if TYPE_CHECKING:
    import numpy as np

FILE = "model.xml"
HINTS = {"bf16": "bf16", "fp16": "f16"}  # of the type to compute in; a processor without it uses float32
WITH_WEIGHTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")  # how names of kinds begin
NAMES = {"f32": "fp32", "f16": "fp16", "i8": "int8", "u8": "int8"}


class OpenVINO(Runtime):
    """The graph is fixed to the batch where all calls have it."""

    name = "openvino"
    description = "OpenVINO on the CPU, quantized by NNCF"
    packages = ("openvino", "nncf")
    precisions = ("fp32", "bf16", "fp16", "int8", "int8-weights", "int4-weights")

    def export(self, exportable: Exportable, precision: str, folder: Path) -> None:
        """Convert the program, quantize it, and write `model.xml` and `model.bin`."""
        import openvino

        from bench.methods.tools.tool import quietly

        with quietly():
            model = openvino.convert_model(exported_program(exportable))
            for port, name in zip(model.inputs, exportable.inputs):
                port.get_tensor().set_names({name})
            if precision.startswith("int"):
                model = _quantized(model, exportable, precision)
        openvino.save_model(model, folder / FILE, compress_to_fp16=precision == "fp16")

    def load(self, folder: Path, setup: Setup) -> Loaded:
        """Fix what can be fixed of the shapes, and compile for this processor."""
        import openvino

        core = openvino.Core()
        model = core.read_model(folder / FILE)
        model.reshape({name: _partial(shape) for name, shape in setup.shapes.items()})
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": setup.threads,
            "INFERENCE_PRECISION_HINT": HINTS.get(setup.precision, "f32"),
        }
        compiled = core.compile_model(model, "CPU", options)
        request = compiled.create_infer_request()

        ranks = [port.partial_shape.rank.get_length() for port in model.outputs]

        def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            made = request.infer(list(arrays), share_inputs=True).values()
            # some versions put axes of length 1 before those of the model, in whole numbers
            return [one.reshape(one.shape[one.ndim - rank :]) for one, rank in zip(made, ranks)]

        return Loaded(call, lambda: _layers(compiled))


def _partial(shape: Sequence[int | None]) -> list[int]:
    return [-1 if length is None else length for length in shape]


def _quantized(model: Any, exportable: Exportable, precision: str) -> Any:
    from bench.methods.tools.nncf import without_telemetry

    without_telemetry()
    import nncf

    nncf.set_log_level(40)
    if precision == "int8-weights":
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
    if precision == "int4-weights":  # a scale for each channel: our rows are no multiples of its groups
        mode = nncf.CompressWeightsMode.INT4_SYM
        return nncf.compress_weights(model, mode=mode, group_size=-1, ratio=1.0)
    arrays = calibration_arrays(exportable)
    kinds = {op.get_type_name() for op in model.get_ops()}
    attends = kinds & {"ScaledDotProductAttention", "Softmax"}
    return nncf.quantize(
        model,
        nncf.Dataset(arrays),
        subset_size=len(arrays),
        model_type=nncf.ModelType.TRANSFORMER if attends else None,
        ignored_scope=nncf.IgnoredScope(names=_conditions(model), validate=False),
    )


def _conditions(model: Any) -> list[str]:
    """Linear layers with one row a sample, in a network of convolutions: they bring in the time step.

    Their share of the operations is small. One range for all steps is too coarse: with them in eight bits, a
    U-Net's output had four times the error at its last step.
    """
    operations = model.get_ops()
    if not any(op.get_type_name().startswith("Convolution") for op in operations):
        return []
    matrices = [op for op in operations if op.get_type_name() == "MatMul"]
    return [op.get_friendly_name() for op in matrices if len(op.input(0).get_partial_shape()) == 2]


def _layers(compiled: Any) -> Layers:
    """What the processor's plug-in chose, from its own graph."""
    found = {}
    for op in compiled.get_runtime_model().get_ops():
        info = op.get_rt_info()
        if info["layerType"].astype(str).startswith(WITH_WEIGHTS):
            kind = info["runtimePrecision"].astype(str)
            found[op.get_friendly_name()] = NAMES.get(kind, kind)
    return found
