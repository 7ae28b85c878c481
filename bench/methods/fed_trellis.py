"""Trellis-coded quantization with error feedback: later columns make good what the path through one costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bench.artifact.trellis import SEGMENT
from bench.interfaces import Compressed, Context, Layout, StoredTensor
from bench.layers import Weight
from bench.methods.block_rounding import calls_of, error
from bench.methods.calibration import calibration_of, layer_by_layer
from bench.methods.error_feedback import feed_back, inverse_factor
from bench.methods.scale_search import divisor, storable
from bench.methods.trellis_coded import Trellis, TrellisCoded, stored_path
from bench.methods.weightwise import kept_of

FEWEST, MOST = 1.0, 8.0  # bits a weight that a tensor may get of more on average


@dataclass(frozen=True)
class FedTrellis(TrellisCoded):
    """`tcq`, column by column: what the path through a column costs the layer's output, later ones make good.

    A column is what one input is multiplied with, one weight for each output. The path goes on from the state
    in which the column before ended (adaptive rounding with linear feedback: Chee et al. 2023,
    arXiv:2307.13304; along a trellis: Tseng et al. 2024, arXiv:2406.11235). Its columns keep their order,
    since a path cannot be cut.
    """

    mixed: bool = False  # more bits for tensors whose errors reach the network's output, `bits` on average

    name = "ldlq"
    description = "`tcq` by columns, its errors fed forward on calibration inputs"
    calibrates = True

    LEAST_CHANNELS: ClassVar[int] = 16  # a shorter column leaves a path no choice
    TRIALS: ClassVar[int] = 4  # of the step
    NEAR: ClassVar[float] = 0.01  # bits a weight that the rate may be off

    def quantized(
        self, compressed: Compressed, context: Context, weights: Mapping[str, Weight]
    ) -> Compressed:
        """All of these weights, each with what is known of its inputs."""
        made = layer_by_layer(compressed, context, weights, self.step)
        return self.with_mixed_bits(compressed, context, weights, made) if self.mixed and weights else made

    def with_mixed_bits(
        self, compressed: Compressed, context: Context, weights: Mapping[str, Weight], equal: Compressed
    ) -> Compressed:
        """`bits` on average; `equal`, with `bits` in each tensor, where the output does not get better."""
        calibration = calibration_of(compressed, context)
        calls = calls_of(calibration.network, calibration)

        def output_error(made: Compressed, *names: str) -> float:
            values = {name: made.tensors[name].dequantize() for name in names}
            return error(calibration.network, values, calls)

        errors = {name: output_error(equal, name) for name in weights}
        sizes = {name: int(kept_of(compressed.tensors[name]).sum()) for name in weights}
        bits = allocated(errors, sizes, self.bits)

        def step(stored: StoredTensor, weight: Weight, moments: Tensor) -> StoredTensor:
            return dataclasses.replace(self, bits=bits[weight.name]).step(stored, weight, moments)

        mixed = layer_by_layer(compressed, context, weights, step)
        return mixed if output_error(mixed, *weights) < output_error(equal, *weights) else equal

    def step(self, stored: StoredTensor, weight: Weight, moments: Tensor) -> StoredTensor:
        """A weight and the second moments [groups, n, n] of its inputs. `tcq` where feedback has no use."""
        unrelated = not moments.triu(1).any()
        if unrelated or stored.pattern or weight.layout().channels(stored.shape) < self.LEAST_CHANNELS:
            return self.quantize(stored, weight.axis, weight.blocks)
        layout = self._layout(Layout(axis=weight.axis, blocks=weight.blocks, by_column=True), stored.shape)
        unit, trellis, size = self.begin(stored, layout)
        dense, mask = stored.residual().dequantize(), kept_of(stored)
        channels, factor = weight.layout(), inverse_factor(moments)

        def columns(tensor: Tensor) -> Tensor:
            return channels.rows(tensor).unflatten(0, (len(moments), -1)).cpu()

        best: tuple[float, Tensor, np.ndarray] | None = None
        for _ in range(self.TRIALS):
            scales = storable(unit * size)
            steps = columns(layout.each(divisor(scales)[:, 0], stored.shape))
            levels = Walk(trellis).fed(columns(dense), columns(mask), steps, factor.cpu())
            off = trellis.entropy(levels) - self.bits
            if best is None or abs(off) < best[0]:
                best = abs(off), scales, levels
            if best[0] < self.NEAR:
                break
            size *= 2.0**off
        assert best is not None
        return stored_path(stored, layout, best[1], best[2], trellis.memory)


def allocated(errors: Mapping[str, float], sizes: Mapping[str, int], bits: float) -> dict[str, float]:
    """Bits a weight of each tensor, `bits` on average, for the least sum of errors.

    errors: of the network's output, with this tensor alone at `bits`. One bit more divides an error by four.
    So a weight of each tensor costs the same where the next bit would be worth the same (reverse
    water-filling).
    """
    names = list(errors)
    size = np.array([sizes[name] for name in names], np.float64)
    wanted = 0.5 * np.log2(np.array([errors[name] for name in names]).clip(1e-30, 1e30) / size)
    low, high = -64.0, 64.0
    for _ in range(60):
        middle = (low + high) / 2
        found = (wanted + middle).clip(min(FEWEST, bits), MOST)
        low, high = (low, middle) if (found * size).sum() > bits * size.sum() else (middle, high)
    return dict(zip(names, map(float, found)))


@dataclass
class Walk:
    """A path that grows column by column."""

    trellis: Trellis
    state: int = 0
    place: int = 0  # in its segment
    found: list[np.ndarray] = field(default_factory=list)

    def fed(self, rows: Tensor, mask: Tensor, steps: Tensor, factor: Tensor) -> np.ndarray:
        """Weights, which of them are kept, and their steps, [groups, rows, n] each -> levels int32 [kept]."""

        def rounding(column: Tensor, j: int) -> Tensor:
            kept, own = mask[:, :, j, None], steps[:, :, j, None]
            levels = self.over((column / own)[kept].numpy())
            made = torch.zeros_like(column)
            made[kept] = torch.from_numpy(levels.astype(np.float32)) * own[kept]
            return made

        feed_back(rows, factor, lambda part, start: mask[:, :, start : start + part.shape[2]], rounding)
        return np.concatenate(self.found) if self.found else np.zeros(0, np.int32)

    def over(self, weights: np.ndarray) -> np.ndarray:
        """The next weights [n], in steps -> their levels. Each segment begins in state 0."""
        first = len(self.found)
        while len(weights):
            now, weights = np.split(weights, [SEGMENT - self.place])
            levels, last = self.trellis.through(now[:, None], self.state)
            self.found.append(levels[:, 0])
            self.place = (self.place + len(now)) % SEGMENT
            self.state = int(last[0]) if self.place else 0
        return np.concatenate([*self.found[first:], np.zeros(0, np.int32)])
