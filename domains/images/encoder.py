"""The evaluator of diversity: an encoder that knows a picture whatever the state of its surface, and how it
is trained.

Contrastive learning (van den Oord et al. 2018, arXiv:1807.03748; Chen et al. 2020, arXiv:2002.05709) where
the two views are a real picture and a damaged copy of it: those are the same, two pictures are not. Left out
of the training, to see that it learns an idea and not a list: JPEG, lost blocks, rotation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from domains.images.training import ImageTraining, Recipe, generator, save_half

OUTPUT = 64
WIDTHS = (32, 64, 128, 192)


class EncoderNetwork(nn.Module):
    """Strided convolutions 28 -> 14 -> 7 -> 4, one residual layer at each size, two linear layers,
    projection to the unit sphere.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS, output: int = OUTPUT, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        self.stem = nn.Conv2d(1, widths[0], 5, padding=2, stride=2)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False) for a, b in itertools.pairwise(widths[:-1])
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:-1])
        self.same = nn.ModuleList(Residual(width) for width in widths[:-1])
        self.head = nn.Sequential(
            nn.Linear(widths[-2] * 16, widths[-1]),
            nn.BatchNorm1d(widths[-1]),
            nn.ReLU(),
            nn.Linear(widths[-1], output),
        )

    def forward(self, images: Tensor) -> Tensor:
        """[b, 1, 28, 28] in [0, 1] -> [b, output], unit-length unless it was made otherwise."""
        x = self.same[0](F.relu(self.stem(images)))
        for down, norm, same in zip(self.down, self.norms, self.same[1:]):
            x = same(F.relu(norm(down(x))))
        out = self.head(x.flatten(1))
        return F.normalize(out, dim=1) if self.unit else out


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


# --------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class EncoderRecipe(Recipe):
    temperature: float = 0.1
    second: float = 0.5  # probability of a second damage on top
    weight_decay: float = 1e-4


RECIPE = EncoderRecipe(steps=1500, batch=256, learning_rate=2e-3, average=0.995)


class EncoderTraining(ImageTraining):
    """Trains the encoder on the training part; validates on pictures that it has not seen."""

    recipe: EncoderRecipe

    def __init__(
        self,
        pixels: np.ndarray,
        held_out: np.ndarray,
        recipe: EncoderRecipe = RECIPE,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = EncoderNetwork()
        super().__init__({"network": network}, pixels, recipe, seed, device)
        self.held_out = torch.from_numpy(np.ascontiguousarray(held_out[:1000]))
        adamw = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.optimizers["adamw"] = (adamw, recipe.learning_rate)

    def losses(self) -> dict[str, float]:
        images = self.pixels[self.indices()].float() / 255
        clean, damaged = self._both(self.networks["network"], images, self.noise())
        loss = contrast(clean, damaged, self.recipe.temperature)
        return self.descend(loss)

    def spoils(self) -> Sequence[Spoil]:
        """The damages that the network learns to look through."""
        return SPOILS

    def _both(self, network: nn.Module, images: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        damaged = spoil(images, noise, self.recipe.second, self.spoils())
        clean, spoilt = network(torch.cat((images, damaged)).to(self.device)).chunk(2)
        return clean, spoilt

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Share of damaged pictures whose nearest clean one, of 1,000, is their own."""
        clean, damaged = self._both(
            self.averages["network"], self.held_out.float() / 255, generator(0, 0, "validation")
        )
        found = (damaged @ clean.T).argmax(1).cpu() == torch.arange(len(clean))
        return {
            "found": found.float().mean().item(),
            "loss": contrast(clean, damaged, self.recipe.temperature).item(),
        }

    def freeze(self, folder: Path) -> None:
        save_half(self, folder, "encoder")


def contrast(clean: Tensor, damaged: Tensor, temperature: float) -> Tensor:
    """InfoNCE in both directions, mean of the two. clean, damaged: unit-length [b, d], row i of both from
    the same picture.
    """
    similar = clean @ damaged.T / temperature
    own = torch.arange(len(clean), device=clean.device)
    return 0.5 * (F.cross_entropy(similar, own) + F.cross_entropy(similar.T, own))


# ------------------------------------------------------------------------------- damages it must look through

# (images [b, 1, 28, 28] in [0, 1], strength [b, 1, 1, 1] in [0, 1], noise)
Spoil = Callable[[Tensor, Tensor, torch.Generator], Tensor]


def spoil(
    images: Tensor, noise: torch.Generator, second: float, spoils: Sequence[Spoil] | None = None
) -> Tensor:
    """A random damage of random strength on each picture, on a share of them a second one.

    `spoils` are the kinds to draw from; the default is `SPOILS`.
    """
    spoils = SPOILS if spoils is None else spoils
    once = _spoil(images, noise, spoils)
    twice = (torch.rand(len(images), generator=noise) < second)[:, None, None, None]
    return torch.where(twice, _spoil(once, noise, spoils), once)


def _spoil(images: Tensor, noise: torch.Generator, spoils: Sequence[Spoil]) -> Tensor:
    kinds = torch.randint(len(spoils), (len(images),), generator=noise)
    strengths = torch.rand(len(images), 1, 1, 1, generator=noise)
    spoilt = images.clone()
    for number, function in enumerate(spoils):
        chosen = kinds == number
        if chosen.any():
            spoilt[chosen] = function(images[chosen], strengths[chosen], noise)
    return spoilt.clamp(0, 1)


def _noise(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    return x + 0.3 * strength * torch.randn(x.shape, generator=noise)


def _blur(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Gaussian, sigma up to 1.5 pixels, each picture its own."""
    positions = torch.arange(-4.0, 5.0)
    # [b, 9]
    kernel = torch.softmax(-(positions**2) / (2 * (0.2 + 1.3 * strength.reshape(-1, 1)) ** 2), dim=1)
    rows = F.conv2d(
        F.pad(x.transpose(0, 1), (4, 4, 0, 0), mode="reflect"), kernel[:, None, None, :], groups=len(x)
    )
    return F.conv2d(
        F.pad(rows, (0, 0, 4, 4), mode="reflect"), kernel[:, None, :, None], groups=len(x)
    ).transpose(0, 1)


def _checkerboard(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    """Period 2 or 4, or stripes along either axis."""
    rows, columns = torch.meshgrid(torch.arange(28), torch.arange(28), indexing="ij")
    # [4, 28, 28]
    patterns = (
        torch.stack([(rows + columns) % 2, (rows // 2 + columns // 2) % 2, rows % 2, columns % 2]) * 2.0 - 1
    )
    chosen = patterns[torch.randint(4, (len(x),), generator=noise)][:, None]
    return x + 0.25 * strength * chosen


def _low_frequency(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    side = int(torch.randint(3, 8, (), generator=noise))
    coarse = torch.randn(len(x), 1, side, side, generator=noise)
    return x + 0.25 * strength * F.interpolate(coarse, size=(28, 28), mode="bicubic", align_corners=False)


def _salt(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    hit = torch.rand(x.shape, generator=noise) < 0.15 * strength
    return torch.where(hit, (torch.rand(x.shape, generator=noise) < 0.5).float(), x)


def posterize(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    steps = torch.round(1 + 7 * (1 - strength))
    return torch.round(x * steps) / steps


def _contrast(x: Tensor, strength: Tensor, noise: torch.Generator) -> Tensor:
    slope = 1 + strength * (torch.rand(strength.shape, generator=noise) * 1.2 - 0.6)
    return slope * x + strength * (torch.rand(strength.shape, generator=noise) * 0.4 - 0.2)


SPOILS: tuple[Spoil, ...] = (_noise, _blur, _checkerboard, _low_frequency, _salt, posterize, _contrast)


def load(network: nn.Module, file: Path) -> nn.Module:
    """The network with the weights of `file` (fp16), ready to look."""
    from safetensors.torch import load_file

    network.load_state_dict(
        {name: v.float() if v.is_floating_point() else v for name, v in load_file(file).items()}
    )
    return network.eval()
