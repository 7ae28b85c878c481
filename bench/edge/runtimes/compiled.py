"""`torch.compile`: the same network, compiled when it is first called. Start-up includes that time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bench.edge.runtime import Setup
from bench.edge.runtimes.eager import Eager

if TYPE_CHECKING:
    from torch.nn import Module


class Compiled(Eager):
    """Its file is that of eager mode; nothing of the compiled code is kept."""

    name = "compile"
    description = "PyTorch with torch.compile; needs a C++ compiler"
    precisions: ClassVar[Sequence[str]] = ("fp32", "bf16", "int8-dynamic")

    def made(self, module: Module, setup: Setup) -> Callable[..., Any]:
        """One graph; lengths that differ between calls are symbols of it."""
        import torch

        dynamic = any(None in shape for shape in setup.shapes.values())
        return torch.compile(module, fullgraph=True, dynamic=dynamic)
