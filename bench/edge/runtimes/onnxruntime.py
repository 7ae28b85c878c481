"""ONNX Runtime on the CPU (MIT): the network as an ONNX file, in whole numbers by its own quantizer."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.edge.program import calibration_arrays, exported_program
from bench.edge.runtime import Layers, Loaded, Runtime, Setup
from bench.interfaces import Exportable

if TYPE_CHECKING:
    import numpy as np

FILE = "model.onnx"
QUANTIZED = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
FLOAT_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedMatMul", "FusedGemm")
INT_LAYERS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "QGemm")


class OnnxRuntime(Runtime):
    """Its quantizer writes pairs of quantize and dequantize (QDQ), which the runtime fuses where it can."""

    name = "onnxruntime"
    description = "ONNX Runtime on the CPU; int8 as QDQ, calibrated"
    packages = ("onnxruntime", "onnx", "onnxscript")
    precisions = ("fp32", "int8")

    def export(self, exportable: Exportable, precision: str, folder: Path) -> None:
        """Write one file with the weights in it."""
        import torch

        from bench.methods.tools.tool import quietly

        names = list(exportable.inputs)
        with quietly():
            program = torch.onnx.export(
                exported_program(exportable), dynamo=True, input_names=names, verbose=False
            )
            assert program is not None
            if precision == "fp32":
                program.save(folder / FILE)
                return
            with tempfile.TemporaryDirectory() as before:
                program.save(Path(before) / FILE)
                _quantize(Path(before), folder / FILE, calibration_arrays(exportable))

    def load(self, folder: Path, setup: Setup) -> Loaded:
        """A session with all of its graph optimizations."""
        import onnxruntime

        session = onnxruntime.InferenceSession(
            folder / FILE, _options(setup.threads), providers=["CPUExecutionProvider"]
        )
        names = [one.name for one in session.get_inputs()]

        def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            found: Sequence[np.ndarray] = session.run(None, dict(zip(names, arrays)))
            return found

        return Loaded(call, lambda: _layers(folder / FILE))


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _quantize(folder: Path, output: Path, arrays: list[dict[str, np.ndarray]]) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(arrays)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next call."""
            return next(self.left, None)

    quant_pre_process(folder / FILE, folder / "whole.onnx", skip_symbolic_shape=True)
    quantize_static(
        folder / "whole.onnx",
        output,
        Reader(),
        op_types_to_quantize=QUANTIZED,  # a mask of attention has no useful range
        per_channel=True,
        reduce_range=True,  # seven bits of weights: without VNNI, eight bits overflow
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _layers(file: Path) -> Layers:
    """From the graph that the runtime optimized for this processor."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = _options(1)
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    found = {}
    for node in graph.node:
        if node.op_type in FLOAT_LAYERS or node.op_type in INT_LAYERS:
            found[node.name] = "int8" if node.op_type in INT_LAYERS else "fp32"
    return found
