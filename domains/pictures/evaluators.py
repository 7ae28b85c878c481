"""Evaluators for pictures of any one size and colours, fitted on real ones of the user's that no score uses.

Both look with the stages of EfficientNet-lite0 that ship with `domains.images`; others trained them on
photos.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.interfaces import Evaluator
from bench.util.cache import content_digest
from domains.images.effnet import FILE, EffnetStages
from domains.images.evaluators import ENLARGED, GRID, Effnet, Pictures, ProbabilisticPCA

NATIVE = 256  # pixels: pictures below this side are enlarged, at most to twice their side
AFAR = 8  # pixels of the short side: from so far, damage to a surface can hardly be seen
AFAR_COMPONENTS = 16
BATCH = 50


class FittedEffnet(Effnet):
    """Quality: the stages as in `Effnet`, with mean, deviation and components of the user's own pictures.

    The grid is coarser than there: with hundreds of pictures, and not 20,000, fewer numbers see more.
    """

    name = "effnet_fitted"
    version = 1
    grid = 2

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


class EffnetAfar(Evaluator):
    """Diversity: the last stage of the picture seen from afar, on a 4x4 grid, in 16 principal components."""

    name = "effnet_afar"
    role = "diversity"
    version = 1

    def __init__(self, device: str, real: np.ndarray) -> None:
        from safetensors.torch import load_file

        self.network, self.device = EffnetStages(load_file(FILE)).to(device).eval(), device
        self.fitted_on = content_digest(real)
        self.model = ProbabilisticPCA.fit(self.last_stage(real), AFAR_COMPONENTS)

    def identity(self) -> str:
        """Of the pictures that it was fitted on."""
        return self.fitted_on

    def features(self, samples: Pictures) -> Tensor:
        return self.model.features(self.last_stage(samples))

    @torch.inference_mode()
    def last_stage(self, samples: Pictures) -> Tensor:
        """[n, 640]."""
        rows = []
        for images in torch.from_numpy(np.ascontiguousarray(samples)).split(BATCH):
            size: tuple[int, int] = (images.shape[-2], images.shape[-1])
            small = F.interpolate(
                images.to(self.device).float() / 255, scaled(size, AFAR), mode="bilinear", antialias=True
            )
            large = F.interpolate(small, scaled(size, ENLARGED), mode="bilinear")
            last = self.network(large.expand(-1, 3, -1, -1) * 2 - 1)[-1]
            rows.append(F.adaptive_avg_pool2d(last, GRID).flatten(1).cpu())
        return torch.cat(rows)


def scaled(size: tuple[int, int], short: int) -> tuple[int, int]:
    """The height and width with this short side, in the same proportion."""
    height, width = size
    factor = short / min(size)
    return round(height * factor), round(width * factor)
