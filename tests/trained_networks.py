"""What tests of training-time methods share: a network with a weight of every kind, trainings that stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from small_network import Small
from torch import Tensor, nn
from toy_training import TrainableToy

from bench.artifact.format import decode, encode
from bench.contracts.network import SmallTraining
from bench.interfaces import Compressed, Context, Generator, StructureEdit, Training, Wrap
from bench.methods.notation import parse
from bench.methods.plain import original


class SmallNetwork(Small):
    """`Small` with a row of zeros, whose outputs depend on each of its weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        with torch.no_grad():
            self.expand.weight[:, 2] = 0.0  # an output channel
            self.embed.weight[3] = 0.0

    def forward(self, tokens: Tensor) -> Tensor:
        """[b] -> [b, features]"""
        embedded = self.embed(tokens)  # [b, 6]
        x = self.norm(self.expand(embedded))  # [b, 5]
        picture = self.up(x[:, :4, None, None]).flatten(2)  # [b, 3, 4]
        states = self.recurrent(picture.permute(2, 0, 1))[0][-1]  # [b, 4]
        rest = [self.constant(states), self.zero(states), self.one(states[:, :1])]
        return torch.cat([self.head(embedded), *rest], 1)


class SmallGenerator(Generator):
    """Keeps the trainings that it started."""

    def __init__(self, network: nn.Module | None = None) -> None:
        self.network = (network or SmallNetwork()).eval()
        self.started: list[Training] = []

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        return SmallNetwork(seed=int(torch.randint(1, 2**31, ()))).eval()

    def sample(self, network: nn.Module, n: int, seed: int) -> Tensor:
        raise NotImplementedError

    def training(
        self,
        network: nn.Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: nn.Module | None = None,
    ) -> Training:
        self.started.append(SmallTraining(network, seed, wrap, tokens=11))
        return self.started[-1]


class Toy(TrainableToy):
    """The toy with untrained weights."""

    def __init__(self) -> None:
        self.device = "cpu"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network = self.rebuild()


def apply(text: str, generator: Generator, excluded: Mapping[str, str] | None = None) -> Compressed:
    return parse(text)(original(generator.network), Context(generator, excluded=excluded or {}))


def read_back(compressed: Compressed) -> dict[str, Tensor]:
    """What the file gives."""
    return {name: stored.dequantize() for name, stored in decode(encode(compressed, "x"))[2].items()}


def parametrized(network: nn.Module) -> dict[str, Tensor]:
    """Name -> the weight that the layer computes with, where it has a parametrization."""
    found = {}
    for path, layer in network.named_modules():
        for parameter in getattr(layer, "parametrizations", {}):
            found[f"{path}.{parameter}"] = getattr(layer, parameter).detach()
    return found


def same(a: Compressed, b: Compressed) -> bool:
    return encode(a, "x") == encode(b, "x")


class Killed(BaseException):
    pass


def dying(monkeypatch: pytest.MonkeyPatch, kind: type[Training], at: int) -> list[int]:
    """Stop the next training before the step `at` -> the steps that are done from now on."""
    step, done = kind.step, []

    def count(training: Any) -> dict[str, float]:
        if training.step_number == at and at not in done:
            done.append(at)
            raise Killed
        done.append(training.step_number)
        return step(training)

    monkeypatch.setattr(kind, "step", count)
    return done
