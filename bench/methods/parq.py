"""PARQ of torchao (BSD-3-Clause): training in which a proximal map draws the weights towards the grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import ClassVar

import torch
from torch import Tensor

from bench.errors import BadInput, not_installed
from bench.interfaces import StoredTensor
from bench.layers import Weight
from bench.methods.fake_quantize import FakeQuantize, Parametrization, Replaced
from bench.methods.scale_search import divisor, nearest, storable
from bench.methods.trained import MEAN_SCALES, QuantizationAwareTraining, quantizer
from bench.methods.weightwise import one_of

PACKAGE = "torchao"
BITS = {"binary": 1, "ternary": 0}  # grid -> bits, as the tool counts them


class Proximal(FakeQuantize):
    """Weights between the latent ones and the grid (Jin et al. 2025, arXiv:2503.15748).

    The tool's `LSBQuantizer` gives the scale of each row, and its `ProxPARQ` the values. A map of slope 1
    moves only weights beyond the outermost levels. While the slope grows, more and more weights lie on the
    grid. Gradients pass unchanged, as in the tool's optimizer, which adds them to the latent weights.
    """

    STEPS: ClassVar[int] = 10_000  # of the tool's clock for the whole annealing

    def __init__(self, start: StoredTensor, bits: int, anneal: float) -> None:
        super().__init__(start, learned=False, anneal=anneal)
        self.bits = bits

    def scales_of(self, rows: Tensor) -> Tensor:
        """[rows, n] -> [rows], as float16 holds them. Pruned weights do not count."""
        from torchao.prototype.parq.quant import LSBQuantizer

        kept = self.mask.sum(1).clamp(min=1) if self.masked else rows.shape[1]
        outermost = LSBQuantizer().quantize(rows.detach(), self.bits, dim=-1)[1][:, -1]
        return storable(outermost * rows.shape[1] / kept)

    def forward(self, latent: Tensor) -> Tensor:
        """[*shape] -> values on their way to the grid [*shape]."""
        from torchao.prototype.parq.optim import ProxPARQ

        rows = self.rows_of(latent)
        scales = self.scales_of(rows)
        if self.on_grid < 1:
            made, clock = rows.detach().clone(), int(self.on_grid * self.STEPS)
            ProxPARQ(0, self.STEPS).apply_(made, None, self.levels * scales[:, None], clock, dim=-1)
        else:
            made = self.levels[nearest(rows.detach() / divisor(scales), self.levels)] * scales[:, None]
        values = Replaced.apply(rows, made, torch.ones_like(made, dtype=torch.bool))
        return self.form.layout.restore(self.kept(values), self.form.shape)


@dataclass(frozen=True)
class Parq(QuantizationAwareTraining):
    """`qat` with the tool's scales, and with its proximal map instead of the straight-through estimator.

    The tool wraps one optimizer. Here the domain's recipe trains, as for all training-time methods.
    """

    grid: str = field(default="binary", metadata={"shown": True, "leads": True})
    anneal: float = 0.75  # share of the steps until all weights are on the grid

    name = "parq"
    description = "PARQ of torchao: training with a proximal map towards `ternary` or `binary`"

    def __post_init__(self) -> None:
        one_of(self.name, "grid", self.grid, MEAN_SCALES)
        one_of(self.name, "scales", self.scales, ("auto",))
        if not 0 < self.anneal < 1:
            raise BadInput(
                f"anneal={self.anneal:g} of 'parq' is outside of (0, 1): it is a share of the steps, such as "
                f"0.75"
            )
        super().__post_init__()
        if (reason := self.missing()) is not None:
            raise BadInput(f"method {self.name!r} {reason}")

    @property
    def packages(self) -> dict[str, str]:
        """The tool's version."""
        return {PACKAGE: version(PACKAGE)}

    @classmethod
    def missing(cls) -> str | None:
        """What must be installed; None: nothing."""
        return not_installed(PACKAGE, "tools")

    def parametrization(
        self, name: str, weight: Weight, start: StoredTensor, ends: bool
    ) -> Parametrization | None:
        """The proximal map; `ends` may give the first and the last layer a grid of `qat`."""
        if ends and self.ends != "same":
            return super().parametrization(name, weight, start, ends)
        return Proximal(
            quantizer(self.grid).quantize(start, weight.axis, weight.blocks), BITS[self.grid], self.anneal
        )
