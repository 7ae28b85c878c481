"""What the image recipes share: batches, optimizers, schedules, averaged weights, and runs that resume to the
same bits.

A run is a pure function of its seed: the order of the images follows from (seed, epoch), every other draw
from (seed, step).
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module

from bench.artifact.format import tensors_digest
from bench.errors import BadInput
from bench.interfaces import Training
from domains.folders import write_json

ImageBatch = Tensor  # float32 [b, 1, 28, 28] in [-1, 1]


@dataclass(frozen=True)
class Recipe:
    """The settings that all image recipes have; each adds its own."""

    steps: int
    batch: int = 128
    learning_rate: float = 2e-3  # of AdamW
    warmup: int = 100
    average: float = 0.9995  # of the exponential average of the weights, which is what is kept


class ImageTraining(Training):
    """Trains `networks` on pictures.

    A subclass sets the optimizers and writes `losses`, which may step several of them.
    """

    teaching: float = 0.0  # weight of the distance to a teacher's output; 0: there is no teacher

    def __init__(
        self,
        networks: Mapping[str, Module],
        pixels: np.ndarray,
        recipe: Recipe,
        seed: int,
        device: str = "cpu",
    ) -> None:
        self.networks = {name: network.to(device) for name, network in networks.items()}
        if len(pixels) < recipe.batch:
            raise BadInput(f"{len(pixels)} pictures are too few to train on: a batch has {recipe.batch}")
        self.pixels = torch.from_numpy(np.ascontiguousarray(pixels))
        self.recipe, self.seed, self.device = recipe, seed, device
        self.total_steps, self.step_number = recipe.steps, 0
        self.optimizers: dict[str, tuple[torch.optim.Optimizer, float]] = {}  # with their full rates
        self.averages = {
            name: copy.deepcopy(network).eval().requires_grad_(False)
            for name, network in self.networks.items()
        }
        self._epoch = (-1, torch.empty(0))

    def identity(self) -> str:
        """Of recipe, seed, data, the networks as they were made, and how much a teacher counts."""
        settings = [type(self).__name__, self.recipe, self.seed, *([self.teaching] if self.teaching else [])]
        digest = hashlib.sha256(repr(tuple(settings)).encode())
        digest.update(hashlib.sha256(self.pixels.numpy().tobytes()).digest())
        for network in self.networks.values():
            digest.update(repr([(name, tuple(p.shape)) for name, p in network.named_parameters()]).encode())
        return digest.hexdigest()

    def shorten(self, steps: int) -> None:
        self.recipe, self.total_steps = dataclasses.replace(self.recipe, steps=steps), steps

    def scale_rates(self, factor: float) -> None:
        self.optimizers = {
            name: (optimizer, factor * rate) for name, (optimizer, rate) in self.optimizers.items()
        }

    def step(self) -> dict[str, float]:
        for network in self.networks.values():
            network.train()
        for optimizer, rate in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate * self.schedule()
        losses = self.losses()
        self.step_number += 1
        decay = min(self.recipe.average, self.step_number / (self.step_number + 10))
        for name, network in self.networks.items():
            follow(self.averages[name], network, decay)
        return losses

    def losses(self) -> dict[str, float]:
        """Draw, compute, step the optimizers -> losses by name."""
        raise NotImplementedError

    def descend(self, loss: Tensor, clip: float | None = None) -> dict[str, float]:
        """One step of the evaluators' single optimizer, its gradient's norm at most `clip` -> what
        `losses` gives.
        """
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.networks["network"].parameters(), clip)
        optimizer, _ = self.optimizers["adamw"]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"loss": loss.item()}

    def schedule(self) -> float:
        """Share of the full learning rate: linear warm-up, then a cosine down to 0."""
        return (
            min(1.0, (self.step_number + 1) / self.recipe.warmup)
            * 0.5
            * (1 + math.cos(math.pi * self.step_number / self.total_steps))
        )

    def batch(self) -> ImageBatch:
        """The next real images, each once an epoch."""
        return to_floats(self.pixels[self.indices()]).to(self.device)

    def indices(self) -> Tensor:
        """[b]: which images this step sees."""
        an_epoch = len(self.pixels) // self.recipe.batch
        number, position = divmod(self.step_number, an_epoch)
        if number != self._epoch[0]:
            order = torch.randperm(len(self.pixels), generator=generator(self.seed, number, "order"))
            self._epoch = (number, order)
        return self._epoch[1][position * self.recipe.batch : (position + 1) * self.recipe.batch]

    def noise(self, purpose: str = "") -> torch.Generator:
        """Of this step: the same after a resume."""
        return generator(self.seed, self.step_number, purpose)

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step_number,
            "networks": {name: network.state_dict() for name, network in self.networks.items()},
            "averages": {name: network.state_dict() for name, network in self.averages.items()},
            "optimizers": {name: optimizer.state_dict() for name, (optimizer, _) in self.optimizers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step_number = state["step"]
        for name, network in self.networks.items():
            network.load_state_dict(state["networks"][name])
            self.averages[name].load_state_dict(state["averages"][name])
        for name, (optimizer, _) in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def generator(seed: int, number: int, purpose: str) -> torch.Generator:
    """Noise that follows from its name."""
    digest = hashlib.sha256(f"{seed}:{number}:{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def to_floats(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]"""
    return pixels.float() / 127.5 - 1


def to_pixels(images: Tensor) -> np.ndarray:
    """float in [-1, 1], clipped -> uint8"""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


@torch.no_grad()
def follow(average: Module, network: Module, decay: float) -> None:
    """Move the averaged weights towards the network's; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in network.parameters()], 1 - decay)
    for ours, theirs in zip(average.buffers(), network.buffers()):
        ours.copy_(theirs)


def save_half(training: ImageTraining, folder: Path, name: str) -> None:
    """The averaged network as `name`.safetensors in fp16, with its recipe."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = round_to_half(training.averages["network"]).state_dict()
    save_file(
        {key: (v.half() if v.is_floating_point() else v).contiguous() for key, v in state.items()},
        folder / f"{name}.safetensors",
    )
    write_json(folder / "recipe.json", {**vars(training.recipe), "seed": training.seed})


def card(training: ImageTraining, network: Module, description: str) -> dict[str, Any]:
    """What a generator's `card.json` says."""
    return {
        "licence": "Apache-2.0; trained on Fashion-MNIST (MIT)",
        "description": description,
        "parameters": sum(p.numel() for p in network.parameters()),
        "train_seed": training.seed,
        "images_seen": training.step_number * training.recipe.batch,
        "weights_sha256": tensors_digest(network),
    }


def round_to_half(network: Module) -> Module:
    """Values that fp16 can hold, kept as fp32: what every embedded model is frozen to."""
    frozen = copy.deepcopy(network).cpu().eval()
    with torch.no_grad():
        for tensor in (*frozen.parameters(), *frozen.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    return frozen
