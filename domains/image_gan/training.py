"""The recipe: generator and discriminator in the minimax game (Goodfellow et al. 2014), the generator's loss
non-saturating.

Against forgetting kinds of pictures and against overfitting: a zero-centred gradient penalty (R1, Mescheder
et al. 2018, arXiv:1801.04406; every few steps, Karras et al. 2020), the same random shifts and cut-outs of
real and generated pictures before the discriminator (Zhao et al. 2020, arXiv:2006.10738), the batch's
deviation as a feature, averaged weights of the generator.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from bench.interfaces import Wrap
from bench.methods.batch_norm import reestimate
from domains.folders import write_json
from domains.image_gan.network import DiscriminatorNetwork, GeneratorNetwork
from domains.image_gan.sizes import SIZES
from domains.images.training import ImageTraining, Recipe, card, generator, round_to_half, to_floats

# of latents, when the averaged generator's running statistics are set
STATISTICS_BATCHES, STATISTICS_BATCH = 40, 250
TEACHING = 10.0  # weight of the squared distance to a teacher's pictures


@dataclass(frozen=True)
class GanRecipe(Recipe):
    discriminator_rate: float = 1e-3
    penalty: float = 0.2  # gamma of R1
    penalty_every: int = 8
    shift: int = 3  # pixels
    cutout: float = 0.35  # share of the side
    augmented: float = 0.7  # share of the batches' pictures
    relativistic: bool = False
    flat: float = 0.5  # share of the steps at the full rate, before it falls


RECIPE = GanRecipe(steps=10_000, batch=64, learning_rate=1e-3, average=0.999)


class GanTraining(ImageTraining):
    """Trains both networks; freezes the averaged generator, and the discriminator apart from it."""

    recipe: GanRecipe
    keeps_snapshots = True

    def __init__(
        self,
        network: Module,
        discriminator: Module,
        pixels: np.ndarray,
        held_out: np.ndarray,
        seed: int,
        recipe: GanRecipe = RECIPE,
        wrap: Wrap | None = None,
        device: str = "cpu",
        teacher: Module | None = None,
    ) -> None:
        self.teacher, self.teaching = teacher, 0.0 if teacher is None else TEACHING
        pair = {"generator": network, "discriminator": discriminator}
        if wrap is not None:
            pair = {name: wrap(name, module) for name, module in pair.items()}
        super().__init__(pair, pixels, recipe, seed, device)
        self.held_out = torch.from_numpy(np.ascontiguousarray(held_out[:2000]))
        for name, rate in (("generator", recipe.learning_rate), ("discriminator", recipe.discriminator_rate)):
            self.optimizers[name] = (
                torch.optim.Adam(self.networks[name].parameters(), lr=rate, betas=(0.0, 0.99)),
                rate,
            )

    def schedule(self) -> float:
        """Flat, then a straight line down to 0."""
        left = 1 - self.step_number / self.total_steps
        return min(1.0, (self.step_number + 1) / self.recipe.warmup, left / (1 - self.recipe.flat))

    def losses(self) -> dict[str, float]:
        recipe, noise = self.recipe, self.noise()
        make, judge = cast(Any, self.networks["generator"]), self.networks["discriminator"]
        real = self.batch()
        latents = torch.randn(len(real), make.latent, generator=noise).to(self.device)
        fake = make(latents)

        seen_real, seen_fake = self._augment(real, noise), self._augment(fake.detach(), noise)
        loss = game(judge(seen_real), judge(seen_fake), recipe.relativistic)
        penalised = self.step_number % recipe.penalty_every == 0
        if penalised:
            loss = loss + recipe.penalty_every * recipe.penalty / 2 * self._penalty(seen_real)
        self._step("discriminator", loss)

        judge.requires_grad_(False)
        ours = judge(self._augment(fake, noise))
        theirs = judge(seen_real) if recipe.relativistic else ours
        generator_loss = game(ours, theirs, True) if recipe.relativistic else F.softplus(-ours).mean()
        taught = {}
        if self.teacher is not None:
            with torch.no_grad():
                shown = self.teacher(latents)
            distance = F.mse_loss(fake, shown)
            generator_loss, taught = generator_loss + self.teaching * distance, {"teacher": distance.item()}
        norm = self._step("generator", generator_loss)
        judge.requires_grad_(True)
        found = {"discriminator": loss.item(), "generator": generator_loss.item(), "gradient_norm": norm}
        return found | taught

    def _penalty(self, real: Tensor) -> Tensor:
        """R1: mean squared length of the discriminator's gradient at real pictures."""
        real = real.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(self.networks["discriminator"](real).sum(), real, create_graph=True)
        return slope.square().sum(dim=(1, 2, 3)).mean()

    def _step(self, name: str, loss: Tensor) -> float:
        """One step of an optimizer -> the norm of the gradient."""
        optimizer, _ = self.optimizers[name]
        loss.backward()
        norm = torch.nn.utils.get_total_norm(
            [p.grad for p in self.networks[name].parameters() if p.grad is not None]
        )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm.item()

    def _augment(self, images: Tensor, noise: torch.Generator) -> Tensor:
        """Shift, then cut out a square, each picture with its own draw; differentiable."""
        count, side, shift = len(images), images.shape[-1], self.recipe.shift
        on = torch.rand(2, count, generator=noise) < self.recipe.augmented
        moves = torch.randint(-shift, shift + 1, (2, count), generator=noise) * on[0]
        padded = F.pad(images, (shift,) * 4, value=-1.0)
        rows = torch.arange(side)[None] + shift + moves[0][:, None]  # [b, 28]
        columns = torch.arange(side)[None] + shift + moves[1][:, None]
        moved = padded[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]][:, None]
        hole = round(self.recipe.cutout * side)
        corners = torch.randint(-hole // 2, side - hole // 2, (2, count), generator=noise)
        within = [
            ((torch.arange(side)[None] - c[:, None]) >= 0) & ((torch.arange(side)[None] - c[:, None]) < hole)
            for c in corners
        ]
        cut = (within[0][:, :, None] & within[1][:, None, :] & on[1][:, None, None])[:, None].to(
            images.device
        )
        return torch.where(cut, 0.0, moved)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The discriminator's mean p(real), averaged weights: of held-out pictures and of generated ones."""
        make, judge = self._finished(4), self.averages["discriminator"]
        latents = torch.randn(2000, make.latent, generator=generator(0, 0, "validation")).to(self.device)
        found = {"real": to_floats(self.held_out).to(self.device), "generated": make(latents)}
        return {f"p_real_{name}": p_real(judge, images).mean().item() for name, images in found.items()}

    def _finished(self, batches: int = STATISTICS_BATCHES) -> Any:
        """The averaged generator with running statistics that belong to it."""
        network: Any = round_to_half(self.averages["generator"]).to(self.device)
        reestimate(network, self._latents(network.latent, batches))
        return round_to_half(network).to(self.device)

    def _latents(self, size: int, batches: int) -> Iterator[tuple[tuple[Tensor], dict[str, Any]]]:
        """What running statistics are set on."""
        noise = generator(self.seed, 0, "statistics")
        for _ in range(batches):
            yield (torch.randn(STATISTICS_BATCH, size, generator=noise).to(self.device),), {}

    def finished(self) -> Module:
        network: Any = copy.deepcopy(self.averages["generator"])
        reestimate(network, self._latents(network.latent, STATISTICS_BATCHES))
        return cast(Module, network)

    def freeze(self, folder: Path) -> None:
        from safetensors.torch import save_file

        network, discriminator = self._finished().cpu(), round_to_half(self.averages["discriminator"])
        folder.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), folder / "generator.safetensors")
        save_file(
            {name: v.half() for name, v in discriminator.state_dict().items()},
            folder / "discriminator.safetensors",
        )
        write_json(folder / "config.json", {"latent": network.latent, "widths": network.widths})
        write_json(folder / "recipe.json", {**vars(self.recipe), "seed": self.seed})
        write_json(folder / "card.json", card(self, network, "DCGAN on Fashion-MNIST"))


def game(real: Tensor, fake: Tensor, relativistic: bool) -> Tensor:
    """The discriminator's logistic loss; relativistic (Jolicoeur-Martineau 2019): which of a pair is the
    real one?
    """
    if relativistic:
        return F.softplus(fake - real).mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def p_real(discriminator: Module, images: Tensor, batch: int = 200) -> Tensor:
    """[n]: the probability that each picture is real, as the discriminator sees it, among others of its
    kind.
    """
    return torch.cat([torch.sigmoid(discriminator(part)) for part in images.split(batch)])


def fresh_pair(size: str, seed: int) -> tuple[Module, Module]:
    """Untrained generator and discriminator, functions of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GeneratorNetwork(**SIZES[size]), DiscriminatorNetwork()
