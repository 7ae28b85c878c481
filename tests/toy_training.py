"""The toy with a training recipe: what a domain adds so that training-time methods can train its models.

`examples/toy-domain/toy_domain.py` stays as short as a domain can be. Here are the two further pieces: a
`Training`, and the member `training` of the generator that starts one.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, functional
from toy_domain import ToyGenerator, real_points  # type: ignore[import-not-found]

from bench.interfaces import Training, Wrap

STEPS = 200


class ToyTraining(Training):
    """Down the sliced Wasserstein distance, as when the toy is opened; all noise is of (seed, step)."""

    def __init__(self, network: Module, seed: int, wrap: Wrap | None, teacher: Module | None) -> None:
        network = network if wrap is None else wrap("generator", network)
        self.networks, self.seed, self.teacher = {"generator": network}, seed, teacher
        self.total_steps, self.step_number = STEPS, 0
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=0.003)

    def identity(self) -> str:
        """Of recipe and seed. The real points are part of the recipe."""
        return f"toy {self.total_steps} {self.seed}"

    def step(self) -> dict[str, float]:
        """One step on 500 points; a teacher adds the squared distance to its points."""
        noise = torch.Generator().manual_seed(self.seed * 100_003 + self.step_number)
        start, directions = torch.randn(500, 2, generator=noise), torch.randn(2, 16, generator=noise)
        made = self.networks["generator"](start)
        loss = distance(made, real_points(500, 1000 + self.step_number), directions)
        found = {"loss": loss.item()}
        if self.teacher is not None:
            with torch.no_grad():
                shown = self.teacher(start)
            taught = functional.mse_loss(made, shown)
            loss, found["teacher"] = loss + taught, taught.item()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.step_number += 1
        return found

    def scale_rates(self, factor: float) -> None:
        """Adam holds its own rate."""
        for group in self.optimizer.param_groups:
            group["lr"] *= factor

    def state_dict(self) -> dict[str, Any]:
        """Network, optimizer and step: noise follows from the step."""
        network = self.networks["generator"].state_dict()
        return {"step": self.step_number, "network": network, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from there."""
        self.step_number = state["step"]
        self.networks["generator"].load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The distance to the validation part, always with the same noise."""
        noise = torch.Generator().manual_seed(0)
        start, directions = torch.randn(500, 2, generator=noise), torch.randn(2, 16, generator=noise)
        made = self.networks["generator"](start)
        return {"loss": distance(made, real_points(500, 1), directions).item()}

    def finished(self) -> Module:
        """The network itself: this recipe averages nothing."""
        return copy.deepcopy(self.networks["generator"]).eval()

    def freeze(self, folder: Path) -> None:
        """The toy is trained whenever it is opened, so it has no files."""
        raise LookupError("the toy has no files")


def distance(made: Tensor, real: Any, directions: Tensor) -> Tensor:
    """The squared sliced Wasserstein distance of two sets of points [n, 2], along directions [2, d]."""
    directions = functional.normalize(directions, dim=0)
    return (
        ((made @ directions).sort(0).values - (torch.from_numpy(real) @ directions).sort(0).values)
        .square()
        .mean()
    )


class TrainableToy(ToyGenerator):  # type: ignore[misc]
    """The toy's generator, with a recipe that trains it further or from scratch."""

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        """The same recipe in both cases."""
        return ToyTraining(network, seed, wrap, teacher)
