"""A small network with every kind of layer that methods cover, and a generator of it with a recipe."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bench.interfaces import Generator, StructureEdit, Training, Wrap

STEPS = 12  # of the recipe
TOKENS = 96


class Small(nn.Module):
    """Linear, Conv1D, Embedding, convolutions both ways and in groups, tied weights, norms, biases,
    buffers of floats and integers.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(TOKENS, 32)
            self.norm = nn.LayerNorm(32)
            self.expand = Conv1D(64, 32)  # [32, 64]: output channels are axis 1
            self.batch_norm = nn.BatchNorm1d(64)
            self.up = nn.ConvTranspose2d(64, 24, 4, stride=2)  # [64, 24, 4, 4]: output channels are axis 1
            # [24, 8, 3, 3]: a channel of each group shares a scale
            self.up_groups = nn.ConvTranspose2d(24, 16, 3, groups=2)
            self.batch_norm_2d = nn.BatchNorm2d(16)
            self.down = nn.Conv2d(16, 32, 3, groups=2)  # [32, 8, 3, 3]
            self.flat = nn.Conv1d(32, 64, 3)
            self.contract = nn.Linear(64, 32)
            self.head = nn.Linear(32, TOKENS, bias=False)
            self.head.weight = self.embed.weight
            for parameter in self.parameters():
                nn.init.normal_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """[b] -> [b, 96]"""
        x = self.batch_norm(self.expand(self.norm(self.embed(tokens))))
        x = self.down(self.batch_norm_2d(self.up_groups(self.up(x[:, :, None, None]))))
        made: Tensor = self.head(self.contract(self.flat(x.flatten(2)).mean(2)))
        return made


class SmallTraining(Training):
    """A recipe for a network of tokens [b]: towards outputs that are drawn, with Adam."""

    def __init__(self, network: nn.Module, seed: int, wrap: Wrap | None, tokens: int = TOKENS) -> None:
        network = network if wrap is None else wrap("generator", network)
        self.networks, self.seed, self.tokens = {"generator": network}, seed, tokens
        self.total_steps, self.step_number = STEPS, 0
        self.optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=0.02)

    def step(self) -> dict[str, float]:
        """One step of Adam."""
        noise = torch.Generator().manual_seed(self.seed * 1000 + self.step_number)
        made = self.networks["generator"].train()(torch.arange(self.tokens))
        loss = (made - torch.randn(made.shape, generator=noise)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step_number += 1
        return {"loss": loss.item()}

    def state_dict(self) -> dict[str, Any]:
        """The step, the weights and Adam's averages."""
        network = self.networks["generator"].state_dict()
        return {"step": self.step_number, "network": network, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from there."""
        self.step_number = state["step"]
        self.networks["generator"].load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def validate(self) -> dict[str, float]:
        """It has no validation part."""
        return {}

    def finished(self) -> nn.Module:
        """A copy in evaluation mode."""
        return copy.deepcopy(self.networks["generator"]).eval()

    def freeze(self, folder: Path) -> None:
        """It is not kept. Raises `LookupError`."""
        raise LookupError


class SmallGenerator(Generator):
    """Only what methods ask of a generator."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        """Another seed's network."""
        return Small(seed=1)

    def sample(self, network: nn.Module, n: int, seed: int) -> Tensor:
        """The outputs of the first n tokens."""
        with torch.no_grad():
            made: Tensor = network.eval()(torch.arange(n))
        return made

    def calibration(self, seed: int) -> Iterator[tuple[tuple[Tensor], dict[str, Tensor]]]:
        """All tokens, in three batches."""
        for start in range(0, TOKENS, 32):
            yield (torch.arange(start, start + 32),), {}

    def training(
        self, network: nn.Module, seed: int, wrap: Wrap | None = None, **options: object
    ) -> Training:
        """Twelve steps."""
        return SmallTraining(network, seed, wrap)
