"""Models of others whose pictures keep their own size and colours.

They are opened as `image_diffusion` and `image_gan` open them; only the conversion to 28x28 is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bench.interfaces import Training
from domains.image_diffusion.adapter import DiffusionGenerator
from domains.image_gan.foreign import ForeignGenerator
from domains.images.companions import companion_note

if TYPE_CHECKING:
    from torch import Tensor

COMPARABLE = (
    "bytes and ratios compare with published rows; retention compares with runs on the same reference, "
    "evaluators and N only; absolute scores compare with no published row, and no ranking holds this model"
)


class OwnPictures:
    """What both kinds have in common. Stands first among the bases."""

    name: str
    companion: Any = None

    def to_pictures(self, images: Tensor) -> np.ndarray:
        """-> uint8 [b, 1 or 3, s, s]."""
        found: np.ndarray = self.to_pixels(images)  # type: ignore[attr-defined]
        return found

    def notes(self) -> list[str]:
        """What the numbers can be compared with, and what no size counts."""
        return [COMPARABLE, *companion_note(self.companion)]

    def training(self, *arguments: Any, **options: Any) -> Training:
        """Raises `LookupError`: the recipes belong to the published models."""
        raise LookupError(f"this domain has no recipe to train {self.name!r} further")


class OwnDiffusion(OwnPictures, DiffusionGenerator):
    """A diffusers pipeline."""


class OwnGan(OwnPictures, ForeignGenerator):
    """A GAN of a class that the user allows."""
