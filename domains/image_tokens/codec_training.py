"""The recipe of the tokenizer of pictures: squared error, and a small network that looks for what is not
real.

The squared error alone makes blurred pictures. A discriminator of patches (Esser et al. 2021,
arXiv:2012.09841) adds two gradients at the drawn picture: towards what looks real, and towards what the
discriminator itself sees of the true picture (Larsen et al. 2016, arXiv:1512.09300). Each is scaled to a
share of the norm of the squared error's gradient.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from domains.folders import write_json
from domains.image_tokens.codec import CONFIG, FILE, CodecNetwork, CodecShape, initialise
from domains.images.training import ImageTraining, Recipe, card, round_to_half, to_floats


@dataclass(frozen=True)
class CodecRecipe(Recipe):
    shape: CodecShape = field(default_factory=CodecShape)
    discriminator_rate: float = 1e-3
    alone: int = 150  # steps with the squared error alone
    realism: float = 1.0  # norm of the gradient towards real pictures, as a share of the squared error's
    likeness: float = 1.0  # and of the one towards the same features
    penalty: float = 0.1  # gamma of R1
    penalty_every: int = 8
    flat: float = 0.5  # share of the steps at the full rate, before it falls


RECIPE = CodecRecipe(steps=1200, batch=32, learning_rate=2e-3, average=0.998)


class PatchNetwork(nn.Module):
    """Whether patches of a picture are real: one logit at each of 7x7 positions."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        a, b, c = widths
        self.layers = nn.ModuleList(
            (nn.Conv2d(1, a, 5, 2, 2), nn.Conv2d(a, b, 4, 2, 1), nn.Conv2d(b, c, 3, 1, 1))
        )
        self.last = nn.Conv2d(c, 1, 3, 1, 1)
        initialise(self)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """[b, 1, 28, 28] -> (logits [b, 1, 7, 7], high = real; the features of each layer)."""
        x, features = images, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.last(x), features


class CodecTraining(ImageTraining):
    """Trains the codec and its discriminator; freezes the averaged codec."""

    recipe: CodecRecipe
    keeps_snapshots = True

    def __init__(
        self,
        pixels: np.ndarray,
        held_out: np.ndarray,
        recipe: CodecRecipe = RECIPE,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pair: dict[str, Any] = {"network": CodecNetwork(recipe.shape), "discriminator": PatchNetwork()}
        pair = {name: network.to(memory_format=torch.channels_last) for name, network in pair.items()}
        super().__init__(pair, pixels, recipe, seed, device)
        self.held_out = torch.from_numpy(np.ascontiguousarray(held_out[:2000]))
        for name, rate, betas in (
            ("network", recipe.learning_rate, (0.9, 0.99)),
            ("discriminator", recipe.discriminator_rate, (0.5, 0.99)),
        ):
            parameters = self.networks[name].parameters()
            self.optimizers[name] = (torch.optim.Adam(parameters, lr=rate, betas=betas), rate)

    def schedule(self) -> float:
        """Flat, then a straight line down to 0."""
        left = 1 - self.step_number / self.total_steps
        return min(1.0, (self.step_number + 1) / self.recipe.warmup, left / (1 - self.recipe.flat))

    def losses(self) -> dict[str, float]:
        real = self.batch()
        drawn = self.networks["network"](real)
        error = F.mse_loss(drawn, real)
        if self.step_number < self.recipe.alone:
            error.backward()
            self._step("network")
            return {"error": error.item()}
        gradient, found = self._gradient(drawn.detach(), real)
        drawn.backward(gradient)
        self._step("network")
        return {"error": error.item(), **found, **self._train_discriminator(drawn.detach(), real)}

    def _gradient(self, drawn: Tensor, real: Tensor) -> tuple[Tensor, dict[str, float]]:
        """The gradient at the drawn pictures, a sum of three."""
        discriminator = self.networks["discriminator"]
        discriminator.requires_grad_(False)
        with torch.no_grad():
            wanted = discriminator(real)[1]
        drawn.requires_grad_(True)
        logits, seen = discriminator(drawn)
        realism = F.softplus(-logits).mean()
        likeness = torch.stack([F.l1_loss(a, b) for a, b in zip(seen, wanted)]).sum()
        (towards_real,) = torch.autograd.grad(realism, drawn, retain_graph=True)
        (towards_same,) = torch.autograd.grad(likeness, drawn)
        discriminator.requires_grad_(True)
        exact = 2 * (drawn.detach() - real) / drawn.numel()
        recipe = self.recipe
        total = exact + scaled(towards_real, exact, recipe.realism)
        total = total + scaled(towards_same, exact, recipe.likeness)
        return total, {"realism": realism.item(), "likeness": likeness.item()}

    def _train_discriminator(self, drawn: Tensor, real: Tensor) -> dict[str, float]:
        """One step of the discriminator."""
        discriminator, recipe = self.networks["discriminator"], self.recipe
        penalised = self.step_number % recipe.penalty_every == 0
        real = real.detach().requires_grad_(penalised)
        of_real, of_drawn = discriminator(real)[0], discriminator(drawn)[0]
        loss = F.softplus(-of_real).mean() + F.softplus(of_drawn).mean()
        total = loss
        if penalised:
            (slope,) = torch.autograd.grad(of_real.mean((1, 2, 3)).sum(), real, create_graph=True)
            steep = slope.square().sum((1, 2, 3)).mean()
            total = loss + recipe.penalty_every * recipe.penalty / 2 * steep
        total.backward()
        self._step("discriminator")
        return {"discriminator": loss.item()}

    def _step(self, name: str) -> None:
        optimizer, _ = self.optimizers[name]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Squared error on held-out pictures, how real they look, and how many codes are in use (averaged
        weights).
        """
        network: Any = self.averages["network"]
        discriminator = self.averages["discriminator"]
        errors, real, counts = [], [], torch.zeros(network.shape.codes, network.shape.code_count)
        for some in self.held_out.split(250):
            images = to_floats(some).to(self.device)
            numbers = network.numbers(images)
            drawn = network.draw(numbers)
            errors.append(F.mse_loss(drawn, images).item())
            real.append(torch.sigmoid(discriminator(drawn)[0]).mean().item())
            codes = network.codes_of(numbers).cpu().reshape(-1, network.shape.codes)
            for place, count in enumerate(counts):
                count += torch.bincount(codes[:, place], minlength=len(count))
        shares = counts / counts.sum(1, keepdim=True)
        entropies = -(shares * shares.clamp_min(1e-12).log2()).sum(1)
        return {
            "error": float(np.mean(errors)),
            "p_real": float(np.mean(real)),
            **{f"bits_of_code_{i + 1}": value for i, value in enumerate(entropies.tolist())},
        }

    def freeze(self, folder: Path) -> None:
        from safetensors.torch import save_file

        network: Any = round_to_half(self.averages["network"])
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: value.half().contiguous() for name, value in network.state_dict().items()}
        save_file(state, folder / FILE)
        write_json(folder / CONFIG, asdict(network.shape))
        write_json(folder / "recipe.json", {**asdict(self.recipe), "seed": self.seed})
        write_json(folder / "card.json", card(self, network, "tokenizer of Fashion-MNIST pictures"))


def scaled(gradient: Tensor, other: Tensor, share: float) -> Tensor:
    """The gradient with `share` of the norm of the other one."""
    return gradient * (share * other.norm() / gradient.norm().clamp_min(1e-12))
