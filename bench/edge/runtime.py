"""The contract of a runtime: it exports a network into its own files, and loads them as a function.

A runtime is one class in one short file, found by the entry-point group `gencompress.runtimes`. `load` needs
nothing but its files, so the measured process holds no PyTorch unless the runtime is PyTorch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

    from bench.interfaces import Exportable

INSTALL = "pip install -e '.[edge]'"
PRECISIONS: Mapping[str, str] = {  # name -> one line
    "fp32": "float32",
    "bf16": "bfloat16, where the processor or the runtime has it",
    "fp16": "weights as float16",
    "int8": "weights and inputs of layers, calibrated on the generator's own inputs",
    "int8-dynamic": "weights, and inputs of layers by the range of each call",
    "int8-weights": "weights alone",
    "int4-weights": "weights alone; the tool may keep 8 bits in some layers",
}
Call = Callable[..., "Sequence[np.ndarray]"]  # arrays in the order of the inputs -> arrays
Layers = Mapping[str, str]  # layer with weights -> the precision that it is computed in


@dataclass(frozen=True)
class Setup:
    """How a network is loaded."""

    precision: str
    shapes: Mapping[str, tuple[int | None, ...]]  # of the inputs, in order; None: it differs between calls
    threads: int
    rebuild: Callable[[], Module]  # the module without its weights, for runtimes that run PyTorch's own


@dataclass(frozen=True)
class Loaded:
    """A network in a runtime."""

    call: Call
    layers: Callable[[], Layers]  # empty: the runtime does not tell


class Runtime(ABC):
    """One way to run a network. It has no settings beside those of `Setup`."""

    name: ClassVar[str]  # as in the entry point that names the class
    description: ClassVar[str]  # one line for `bench list`
    packages: ClassVar[Sequence[str]] = ()  # that it needs, as pip names them
    precisions: ClassVar[Sequence[str]]  # that it offers, of `PRECISIONS` or its own; fp32 first
    version: ClassVar[int] = 1  # raise it when exports change: older records no longer count as finished

    @classmethod
    def missing(cls) -> str | None:
        """Which package is not installed, with the command that installs it; None: none."""
        absent = [name for name in cls.packages if _version(name) is None]
        if not absent:
            return None
        verb = "is" if len(absent) == 1 else "are"
        return f"needs {', '.join(absent)}, which {verb} not installed: {INSTALL}"

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Package -> its version, of those that numbers depend on."""
        return {name: _version(name) or "" for name in ("torch", *cls.packages)}

    @abstractmethod
    def export(self, exportable: Exportable, precision: str, folder: Path) -> None:
        """Write the network's files into an empty folder.

        Raises `bench.errors.Unsupported` with the reason where the runtime cannot hold this network.
        """

    @abstractmethod
    def load(self, folder: Path, setup: Setup) -> Loaded:
        """Read what `export` wrote."""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
