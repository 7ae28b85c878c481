"""The secondary evaluator of diversity: the bottleneck of an autoencoder that gives back the undamaged
picture.

A denoising autoencoder (Vincent et al. 2008). The first encoder learns to tell pictures apart; this one has
to know enough to draw them again: another aim, the same blindness to what a surface is like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.interfaces import Evaluator
from domains.images.encoder import EncoderNetwork, load, spoil
from domains.images.evaluators import Pictures
from domains.images.training import ImageTraining, Recipe, generator, save_half

WEIGHTS = Path(__file__).parent / "weights" / "restorer"
CODE = 32  # numbers that a picture has to pass through
RECIPE = Recipe(steps=3000, batch=128, learning_rate=2e-3, average=0.998)


class RestorerNetwork(nn.Module):
    """Strided convolutions down to a code of 32 numbers, transposed convolutions back."""

    def __init__(self, code: int = CODE) -> None:
        super().__init__()
        self.encoder = EncoderNetwork(output=code, unit=False)
        self.decoder = nn.Sequential(
            nn.Linear(code, 64 * 49),
            nn.ReLU(),
            nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """[b, 1, 28, 28] in [0, 1] -> the picture as it was before it was damaged."""
        return self.decoder(self.encoder(images))


class Restorer(Evaluator):
    """Features: the code, 32 numbers."""

    name = "restorer"
    role = "diversity"
    version = 1

    def __init__(self, device: str = "cpu", folder: Path = WEIGHTS) -> None:
        with torch.random.fork_rng(devices=[]):
            empty = RestorerNetwork()
        self.network, self.device = load(empty, folder / "restorer.safetensors").to(device), device

    @torch.inference_mode()
    def features(self, samples: Pictures, batch: int = 250) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(samples))
        encode: Any = self.network.encoder
        parts = [encode(images.to(self.device).float() / 255).cpu() for images in pixels.split(batch)]
        return torch.cat(parts)


class RestorerTraining(ImageTraining):
    """Squared error between what comes out of a damaged picture and the picture itself."""

    def __init__(
        self,
        pixels: np.ndarray,
        held_out: np.ndarray,
        recipe: Recipe = RECIPE,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = RestorerNetwork()
        super().__init__({"network": network}, pixels, recipe, seed, device)
        self.held_out = torch.from_numpy(np.ascontiguousarray(held_out[:1000])).float() / 255
        self.optimizers["adamw"] = (
            torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate),
            recipe.learning_rate,
        )

    def losses(self) -> dict[str, float]:
        images = self.pixels[self.indices()].float() / 255
        restored = self.networks["network"](spoil(images, self.noise(), 0.5).to(self.device))
        loss = F.mse_loss(restored, images.to(self.device))
        return self.descend(loss)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Root mean squared error on held-out pictures, whole and damaged; beside it that of the mean
        picture.
        """
        network, clean = self.averages["network"], self.held_out.to(self.device)
        damaged = spoil(self.held_out, generator(0, 0, "validation"), 0.5).to(self.device)
        found = {
            "error": network(clean),
            "error_damaged": network(damaged),
            "error_of_mean": clean.mean(0, keepdim=True).expand_as(clean),
        }
        return {name: F.mse_loss(x, clean).sqrt().item() for name, x in found.items()}

    def freeze(self, folder: Path) -> None:
        save_half(self, folder, "restorer")
