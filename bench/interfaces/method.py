"""The contract of a compression method, and what it may look at."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bench.interfaces.generator import Generator
from bench.interfaces.storage import Compressed


@dataclass(frozen=True)
class Context:
    """What a method may look at. Never the reference data."""

    # for methods that need calibration or training; None: they are not available
    generator: Generator | None = None
    seed: int = 0  # of all that the method draws
    device: str = "cpu"  # where the network is
    excluded: Mapping[str, str] = field(default_factory=dict)  # tensors that must stay as they are -> why
    # the model's folder, where it has one: it may ship results of training-time methods
    folder: Path | None = None

    @property
    def kept(self) -> Mapping[str, str]:
        """The old name of `excluded`."""
        return self.excluded


class Method(ABC):
    """One way to compress.

    Subclasses are frozen dataclasses: their fields are the settings that a user may write.

    Example: a field `sparsity: float = 0.5` of the method `magnitude` is written `magnitude:sparsity=0.5`.
    """

    name: ClassVar[str]  # as in the entry point that names the class
    description: ClassVar[str]  # one line for `bench list`
    # raise it when the artifact changes: older records no longer count as finished
    version: ClassVar[int] = 1
    # whether it chooses indices into a grid: a chain may hold one such method
    quantizes: ClassVar[bool] = False
    trains: ClassVar[bool] = False  # whether it trains the network, which takes minutes or hours
    calibrates: ClassVar[bool] = False  # whether it needs `Generator.calibration`
    # whether it gives weights new values, so that in a chain no quantizer may come before it
    rewrites: ClassVar[bool] = False

    @property
    def text(self) -> str:
        """The shortest canonical text of the method.

        It omits settings at their defaults, except those that are always shown (metadata `shown`). Those with
        the metadata `leads` come first.
        """
        values = []
        for own in sorted(dataclasses.fields(self), key=lambda own: not own.metadata.get("leads", False)):  # type: ignore[arg-type]
            value = getattr(self, own.name)
            if value == own.default and not own.metadata.get("shown"):
                continue
            if isinstance(value, bool):
                values.append(own.name if value else f"{own.name}=false")
            else:  # the str of a float is exact
                shown = str(value).removesuffix(".0") if isinstance(value, float) else str(value)
                values.append(f"{own.name}={shown}")
        return self.name + (":" if values else "") + ",".join(values)

    @classmethod
    def missing(cls) -> str | None:
        """Which package the method needs and does not find, with the command that installs it; None: none.

        `bench list` shows it, and the method's contracts are then skipped.
        """
        return None

    @abstractmethod
    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        """A copy of `compressed` with some tensors stored in another way; the input stays as it is.

        Zeros of an earlier pruning stay zeros, quantized tensors stay quantized, and `context.excluded` stays
        as it is. Raises `bench.errors.Unsupported` when the method cannot be applied to this network.
        """
