"""Where OpenVINO spends its time: `python -m scripts.studies.edge_profile image_diffusion s@0 int8 64`.

Prints milliseconds of one call by kind of layer, kernel and precision, beside float32.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.edge.candidates import captured
from bench.interfaces import Exportable
from bench.registry import RUNTIMES, open_domain

CALLS = 10


def main(domain_name: str, model: str, precision: str, batch: str) -> None:
    from tabulate import tabulate

    domain = open_domain(domain_name)
    generator = domain.open(domain.locate(model))
    exportable = generator.exportable(generator.network)
    for one in dict.fromkeys(["fp32", precision]):
        rows = sorted(profiled(exportable, one, int(batch)), key=lambda row: -row[3])
        print(f"\n{domain_name} {model} {one}, batch {batch}: {sum(row[3] for row in rows):.2f} ms a call")
        print(tabulate(rows, headers=["layer", "kernel", "layers", "ms"], floatfmt=".3f"))


def profiled(exportable: Exportable, precision: str, batch: int) -> Iterator[tuple[str, str, int, float]]:
    """(kind of layer, kernel with its precision, how many, milliseconds of a call)"""
    import openvino

    inputs, _ = captured(exportable, batch)
    with tempfile.TemporaryDirectory() as folder:
        RUNTIMES.load("openvino")().export(exportable, precision, Path(folder))
        core = openvino.Core()
        model = core.read_model(Path(folder) / "model.xml")
        shapes: dict[Any, Any] = {name: list(array.shape) for name, array in zip(exportable.inputs, inputs)}
        model.reshape(shapes)
        options = {"PERF_COUNT": True, "INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        request = core.compile_model(model, "CPU", options).create_infer_request()
        found: dict[tuple[str, str], list[float]] = defaultdict(list)
        for number in range(CALLS + 1):
            request.infer(list(inputs))
            for info in request.get_profiling_info() if number else ():
                found[info.node_type, info.exec_type].append(info.real_time.total_seconds() * 1000)
    for (kind, kernel), times in found.items():
        if sum(times) > 0:
            yield kind, kernel, len(times) // CALLS, sum(times) / CALLS


if __name__ == "__main__":
    main(*sys.argv[1:])
