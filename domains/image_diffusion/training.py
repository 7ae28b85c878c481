"""The recipe: flow matching (Lipman et al. 2023, arXiv:2210.02747) with logit-normal times (Esser et al.
2024, arXiv:2403.03206).

x_t = (1 - t) x + t noise; the network sees x_t and 1000 t and predicts the velocity noise - x; the loss is
the mean squared error.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from bench.interfaces import Wrap
from domains.folders import write_json
from domains.image_diffusion.network import fold
from domains.images.training import ImageTraining, Recipe, card, generator, round_to_half, to_floats
from domains.muon import Muon, arithmetic

TEACHING = 1.0  # weight of the squared distance to a teacher's velocities
TIMES = 1000.0  # the scale of times that diffusers' schedulers hand to a network


@dataclass(frozen=True)
class FlowRecipe(Recipe):
    muon_learning_rate: float | None = None  # of Muon for kernels and matrices; None: AdamW for all
    weight_decay: float = 0.01
    clip: float = 1.0


RECIPE = FlowRecipe(steps=6000, muon_learning_rate=3e-3)


class FlowTraining(ImageTraining):
    """Trains a diffusers network; freezes it as a pipeline folder, `unet/` and `scheduler/`."""

    recipe: FlowRecipe
    keeps_snapshots = True

    def __init__(
        self,
        network: Module,
        pixels: np.ndarray,
        held_out: np.ndarray,
        seed: int,
        recipe: FlowRecipe = RECIPE,
        wrap: Wrap | None = None,
        device: str = "cpu",
        teacher: Module | None = None,
    ) -> None:
        self.teacher, self.teaching = teacher, 0.0 if teacher is None else TEACHING
        network = network if wrap is None else wrap("generator", network)
        super().__init__({"generator": network}, pixels, recipe, seed, device)
        self.held_out = torch.from_numpy(np.ascontiguousarray(held_out))
        named = dict(network.named_parameters())
        matrices = (
            {}
            if recipe.muon_learning_rate is None
            else {n: p for n, p in named.items() if p.ndim > 1 and is_hidden(n)}
        )
        if recipe.muon_learning_rate is not None:
            muon = Muon(matrices.values(), recipe.muon_learning_rate, recipe.weight_decay)
            self.optimizers["muon"] = (muon, recipe.muon_learning_rate)
        others = [p for n, p in named.items() if n not in matrices]
        adamw = torch.optim.AdamW(
            others, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        self.optimizers["adamw"] = (adamw, recipe.learning_rate)

    def losses(self) -> dict[str, float]:
        network = self.networks["generator"]
        loss, taught = taught_flow_loss(network, self.teacher, self.batch(), self.noise())
        (loss + self.teaching * taught).backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), self.recipe.clip)
        for optimizer, _ in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        found = {"loss": loss.item(), "gradient_norm": norm.item()}
        return found if self.teacher is None else {**found, "teacher": taught.item()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss on held-out images, always with the same times and noise."""
        average, total = self.averages["generator"], 0.0
        rows = self.held_out[:2000].split(250)
        for i, images in enumerate(rows):
            total += flow_loss(
                average, to_floats(images).to(self.device), generator(0, i, "validation")
            ).item() / len(rows)
        return {"loss": total}

    def finished(self) -> Module:
        return copy.deepcopy(self.averages["generator"])

    def freeze(self, folder: Path) -> None:
        network: Any = round_to_half(self.averages["generator"])
        folder.mkdir(parents=True, exist_ok=True)
        network.save_pretrained(folder / "unet")
        write_scheduler(folder)
        of_muon = arithmetic(self.recipe.muon_learning_rate, self.device)
        write_json(folder / "recipe.json", {**vars(self.recipe), "seed": self.seed, **of_muon})
        write_json(
            folder / "card.json", card(self, network, "diffusers UNet2DModel, flow matching on Fashion-MNIST")
        )


def is_hidden(name: str) -> bool:
    """Neither the first layer nor the last: those stay with AdamW."""
    return not name.startswith(("conv_in", "conv_out"))


def flow_loss(network: Module, images: Tensor, noise: torch.Generator) -> Tensor:
    return taught_flow_loss(network, None, images, noise)[0]


def taught_flow_loss(
    network: Module, teacher: Module | None, images: Tensor, noise: torch.Generator
) -> tuple[Tensor, Tensor]:
    """-> (loss against the data, mean squared distance to the teacher's velocities or 0)."""
    x = fold(images)
    times = torch.sigmoid(torch.randn(len(x), generator=noise)).to(x.device)
    start = torch.randn(x.shape, generator=noise).to(x.device)
    along = times[:, None, None, None]
    between = torch.lerp(x, start, along)
    velocity = network(between, times * TIMES).sample
    loss = torch.nn.functional.mse_loss(velocity, start - x)
    if teacher is None:
        return loss, torch.zeros(())
    with torch.no_grad():
        shown = teacher(between, times * TIMES).sample
    return loss, torch.nn.functional.mse_loss(velocity, shown)


def write_scheduler(folder: Path) -> None:
    """The deterministic sampler that belongs to the model: Heun's method (second order) on the flow's
    equation.
    """
    from diffusers import FlowMatchHeunDiscreteScheduler

    cast(Any, FlowMatchHeunDiscreteScheduler()).save_pretrained(folder / "scheduler")
