"""A third encoder of diversity, and how it is trained: the first one's network and recipe on other damages.

The first encoder looks through the damages that it was trained with, and less through others. This one knows
a wider family, of which some kinds are held out on purpose: only they can show that it learnt an idea and not
a list. It scores no record. `scripts/studies/third_encoder.py` asks it whether a conclusion changes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from domains.images.encoder import SPOILS, EncoderTraining, Spoil, posterize, spoil
from domains.images.evaluators import WEIGHTS, Encoder
from domains.images.training import generator

FOLDER = WEIGHTS / "third_encoder"
SMEAR = 4  # pixels to each side, at the most
FALLING, RISING = (1, 1), (-1, 1)  # directions: rows down, columns to the right
HORIZONTAL, VERTICAL = (0, 1), (1, 0)


class ThirdEncoder(Encoder):
    """The same network as `Encoder`, with weights from a wider family of damages."""

    name = "third_encoder"
    version = 1

    def __init__(self, device: str = "cpu", folder: Path = FOLDER) -> None:
        super().__init__(device, folder)
        self.weights_sha256 = hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest()

    def identity(self) -> str:
        return self.weights_sha256


class ThirdEncoderTraining(EncoderTraining):
    """As `EncoderTraining`, on the kinds of `TRAINED`."""

    def spoils(self) -> Sequence[Spoil]:
        return tuple(TRAINED.values())

    def identity(self) -> str:
        kinds = repr((super().identity(), *TRAINED))
        return hashlib.sha256(kinds.encode()).hexdigest()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Also the share found under the damages that are held out."""
        clean = self.held_out.float() / 255
        noise = generator(0, 0, "validation")
        damaged = spoil(clean, noise, self.recipe.second, tuple(HELD_OUT.values()))
        network = self.averages["network"]
        places, found = (network(images.to(self.device)) for images in (clean, damaged))
        own = (found @ places.T).argmax(1).cpu() == torch.arange(len(clean))
        return {**super().validate(), "found_held_out": own.float().mean().item()}


# ------------------------------------- damages, all with the signature of `domains.images.encoder.Spoil`


def _smear(x: Tensor, strength: Tensor, directions: Tensor) -> Tensor:
    """Motion blur: the mean along a line of 1 to 9 pixels, `directions` [b, 2] in rows and columns."""
    steps = torch.arange(-SMEAR, SMEAR + 1)
    weights = (SMEAR * strength.reshape(-1, 1) + 1 - steps.abs()).clamp(0, 1)  # [b, 9]
    kernels = torch.zeros(len(x), 2 * SMEAR + 1, 2 * SMEAR + 1)
    places = SMEAR + directions[:, None] * steps[:, None]  # [b, 9, 2]
    kernels[torch.arange(len(x))[:, None], places[..., 0], places[..., 1]] = weights
    kernels = kernels / kernels.sum((1, 2), keepdim=True)
    padded = F.pad(x, (SMEAR,) * 4, mode="replicate").transpose(0, 1)
    return F.conv2d(padded, kernels[:, None], groups=len(x)).transpose(0, 1)


def smear(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Motion blur, vertical or along either diagonal."""
    allowed = torch.tensor([VERTICAL, FALLING, RISING])
    return _smear(x, strength, allowed[torch.randint(len(allowed), (len(x),), generator=noise)])


def smear_horizontal(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Motion blur, horizontal: the direction that training leaves out."""
    return _smear(x, strength, torch.tensor([HORIZONTAL]).expand(len(x), 2))


def _look(x: Tensor, offsets: Tensor) -> Tensor:
    """Each pixel from where its offset points: [b, 28, 28, 2], columns and rows in pixels."""
    side = x.shape[-1]
    identity = torch.eye(2, 3).expand(len(x), 2, 3)
    grid = F.affine_grid(identity, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid + 2 * offsets / side, padding_mode="border", align_corners=False)


def _signs(x: Tensor, noise: torch.Generator) -> Tensor:
    return torch.randint(2, (len(x), 1, 1), generator=noise) * 2.0 - 1


def _centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns in pixels from the centre, each [28, 28]."""
    places = torch.arange(x.shape[-1]) - (x.shape[-1] - 1) / 2
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return rows, columns


def rotate(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Up to 12 degrees, to either side."""
    angles = math.radians(12) * strength.reshape(-1, 1, 1) * _signs(x, noise)
    rows, columns = _centred(x)
    to_columns = angles.cos() * columns - angles.sin() * rows - columns
    to_rows = angles.sin() * columns + angles.cos() * rows - rows
    return _look(x, torch.stack([to_columns, to_rows], dim=-1))


def warp(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Smooth random offsets, of 1.2 pixels of standard deviation at the most."""
    coarse = torch.randn(len(x), 2, 5, 5, generator=noise)
    smooth = F.interpolate(coarse, size=x.shape[-2:], mode="bicubic", align_corners=True)
    return _look(x, (1.2 * strength * smooth).permute(0, 2, 3, 1))


def shear(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Rows slide sideways, by up to a fifth of their distance from the centre."""
    rows, _ = _centred(x)
    aside = 0.2 * strength.reshape(-1, 1, 1) * _signs(x, noise) * rows
    return _look(x, torch.stack([aside, torch.zeros_like(aside)], dim=-1))


def ringing(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Frequencies above a sharp limit are lost, so that edges ring (Gibbs): down to 4 cycles a picture."""
    margin = 4
    padded = F.pad(x, (margin,) * 4, mode="replicate")
    size, side = padded.shape[-1], x.shape[-1]
    rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
    kept = side * torch.hypot(rows, columns) <= 20 - 16 * strength  # [b, 1, 36, 19]; 19.8 is the corner
    back = torch.fft.irfft2(torch.fft.rfft2(padded) * kept, s=(size, size))
    return back[..., margin:-margin, margin:-margin]


def sharpen(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Unsharp masking: up to three times the difference from the mean of 3x3 is added."""
    means = F.avg_pool2d(F.pad(x, (1,) * 4, mode="replicate"), 3, stride=1)
    return x + 3 * strength * (x - means)


def gamma(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Greys become darker or brighter; black and white stay."""
    return x.clamp(0, 1) ** torch.exp(0.9 * strength * _signs(x, noise)[:, None])


def pixelate(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Towards the means of blocks of 2x2, then of 4x4."""
    fine, coarse = (
        F.interpolate(F.avg_pool2d(x, size), scale_factor=size, mode="nearest") for size in (2, 4)
    )
    halves = 2 * strength
    return torch.where(halves < 1, torch.lerp(x, fine, halves), torch.lerp(fine, coarse, halves - 1))


TRAINED: dict[str, Spoil] = {
    **{function.__name__.strip("_"): function for function in SPOILS if function is not posterize},
    "smear": smear,
    "warp": warp,
    "rotate": rotate,
    "ringing": ringing,
    "gamma": gamma,
}
# with JPEG and lost blocks of `domains.images.damages`, which no training of an encoder used
HELD_OUT: dict[str, Spoil] = {
    "smear_horizontal": smear_horizontal,
    "posterize": posterize,
    "shear": shear,
    "sharpen": sharpen,
    "pixelate": pixelate,
}
