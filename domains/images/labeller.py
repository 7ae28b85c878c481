"""The labeller: a small classifier that says of what class a picture is, so that one can see *which* kinds
were lost. Not an evaluator.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from domains.images.data import CLASSES, Images
from domains.images.encoder import EncoderNetwork, load, spoil
from domains.images.training import ImageTraining, Recipe, generator, save_half

WEIGHTS = Path(__file__).parent / "weights" / "labeller"
WIDTHS = (16, 32, 64, 128)
RECIPE = Recipe(steps=1500, batch=128, learning_rate=2e-3, average=0.995)


class LabellerTraining(ImageTraining):
    """Cross-entropy on the training part's labels; half of the pictures are damaged, so that surface does
    not decide.
    """

    def __init__(
        self, images: Images, held_out: Images, recipe: Recipe = RECIPE, seed: int = 0, device: str = "cpu"
    ) -> None:
        from bench.errors import BadInput

        if images.labels is None or held_out.labels is None:
            raise BadInput("the labeller needs labels; these pictures have none")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = EncoderNetwork(WIDTHS, len(CLASSES), unit=False)
        super().__init__({"network": network}, images.pixels, recipe, seed, device)
        self.labels, self.held_out = torch.from_numpy(images.labels), held_out
        self.optimizers["adamw"] = (
            torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=0.05),
            recipe.learning_rate,
        )

    def identity(self) -> str:
        return hashlib.sha256(super().identity().encode() + self.labels.numpy().tobytes()).hexdigest()

    def losses(self) -> dict[str, float]:
        rows, noise = self.indices(), self.noise()
        images = self.pixels[rows].float() / 255
        images = torch.where(
            torch.rand(len(rows), 1, 1, 1, generator=noise) < 0.5, spoil(images, noise, 0.5), images
        )
        loss = F.cross_entropy(
            self.networks["network"](images.to(self.device)),
            self.labels[rows].to(self.device),
            label_smoothing=0.05,
        )
        return self.descend(loss)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Accuracy on held-out pictures, as they are and damaged."""
        assert self.held_out.labels is not None
        images, labels = (
            torch.from_numpy(self.held_out.pixels).float() / 255,
            torch.from_numpy(self.held_out.labels),
        )
        sets = {"accuracy": images, "accuracy_damaged": spoil(images, generator(0, 0, "validation"), 0.5)}
        network = self.averages["network"]
        return {
            name: (network(x.to(self.device)).argmax(1).cpu() == labels).float().mean().item()
            for name, x in sets.items()
        }

    def freeze(self, folder: Path) -> None:
        save_half(self, folder, "labeller")


@torch.inference_mode()
def labels(samples: Sequence[np.ndarray] | np.ndarray, batch: int = 500) -> Tensor:
    """uint8 [n, 1, 28, 28] -> the likeliest class of each, int64 [n]."""
    pixels = torch.from_numpy(np.ascontiguousarray(samples))
    return torch.cat([_network()(images.float() / 255).argmax(1) for images in pixels.split(batch)])


@functools.cache
def _network() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        empty = EncoderNetwork(WIDTHS, len(CLASSES), unit=False)
    return load(empty, WEIGHTS / "labeller.safetensors")
