"""Evaluators for pictures of any one size and colours, fitted on real ones of the user's that no score uses.

Both look with the stages of EfficientNet-lite0 that ship with `domains.images`: others trained them on photos.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.interfaces import Evaluator
from bench.util.cache import content_digest
from domains.images.effnet import FILE, EffnetStages
from domains.images.evaluators import ENLARGED, Effnet, Pictures, ProbabilisticPCA

NATIVE = 256  # pixels: pictures below this side are enlarged, at most to twice their side
AFAR = 16  # pixels of the short side: from so far nobody sees damage to a surface
BATCH = 50


class FittedEffnet(Effnet):
    """Quality: the stages on a 4x4 grid as in `Effnet`, with the user's own mean, deviation and components."""

    name = "effnet_fitted"
    version = 1

    def __init__(self, device: str, real: np.ndarray) -> None:
        super().__init__(device, fitted=False)
        self.fitted_on = content_digest(real)
        self.model = ProbabilisticPCA.fit(self._grids(np.ascontiguousarray(real)))

    def looked_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """Twice the picture up to a side of 256, and from there its own size; at least 64."""
        short = min(size)
        return scaled(size, max(ENLARGED, min(2 * short, NATIVE), short))

    def identity(self) -> str:
        """Of the pictures that it was fitted on."""
        return self.fitted_on


def scaled(size: tuple[int, int], short: int) -> tuple[int, int]:
    """The height and width with this short side, in the same proportion."""
    height, width = size
    factor = short / min(size)
    return round(height * factor), round(width * factor)
