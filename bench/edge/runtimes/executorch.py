"""ExecuTorch with XNNPACK (BSD-3-Clause): PyTorch's runtime for phones, here on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.edge.program import calibration_calls, exported_program
from bench.edge.runtime import Loaded, Runtime, Setup
from bench.interfaces import Exportable

if TYPE_CHECKING:
    import numpy as np

FILE = "model.pte"


class ExecuTorch(Runtime):
    """Layers that XNNPACK does not take run in ExecuTorch's portable kernels, one operation after another."""

    name = "executorch"
    description = "ExecuTorch with XNNPACK on the CPU; int8 by PT2E"
    packages = ("executorch", "torchao")
    precisions = ("fp32", "int8")

    def export(self, exportable: Exportable, precision: str, folder: Path) -> None:
        """Lower the program to XNNPACK and write `model.pte`."""
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from bench.methods.tools.tool import quietly

        # PyTorch chooses the kernel of a convolution by the batch, and lowering would narrow the range of
        # batches to that choice
        kernels = torch.backends
        with quietly(), kernels.mkldnn.flags(enabled=False), kernels.nnpack.flags(enabled=False):
            program = exported_program(exportable)
            if precision == "int8":
                program = exported_program(
                    exportable, _quantized(program.module(check_guards=False), exportable)
                )
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            (folder / FILE).write_bytes(lowered.to_executorch().buffer)

    def load(self, folder: Path, setup: Setup) -> Loaded:
        """Load the method `forward`."""
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Machine

        portable_lib._unsafe_reset_threadpool(setup.threads)
        method = Machine.get().load_program(folder / FILE).load_method("forward")
        assert method is not None

        def call(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            made = method.execute([torch.from_numpy(array).contiguous() for array in arrays])
            return [one.numpy().copy() for one in made]

        return Loaded(call, dict)


def _quantized(module: Any, exportable: Exportable) -> Any:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(module, quantizer)
    for call in calibration_calls(exportable):
        prepared(*call)
    return convert_pt2e(prepared)
