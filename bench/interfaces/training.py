"""The contract of a training: one run of a recipe. A domain lists its recipes in a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch.nn import Module

# (name of a network, the network) -> the network to train in its place
Wrap = Callable[[str, "Module"], "Module"]


class Training(ABC):
    """One run of a recipe, one step at a time. A run can stop after any step and resume from its state."""

    networks: dict[str, Module]  # what is trained, by name
    total_steps: int  # of the recipe
    step_number: int  # steps done so far

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Do one optimizer step -> losses by name. Example: `{"loss": 2.31}`."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on. `torch.load(..., weights_only=True)` must be able to read it."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave: the steps that follow are the same as without the stop."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures on the validation part, by name; never on the test part."""

    @abstractmethod
    def freeze(self, folder: Path) -> None:
        """Write the finished model (averaged weights, rounded to fp16) to `folder`, in the form that
        `Domain.open` reads.
        """

    # What follows is optional.

    # also freeze at each tenth of the steps, to measure quality over training time
    keeps_snapshots: ClassVar[bool] = False

    def finished(self) -> Module:
        """A copy of the network named `generator` as a method stores it, in evaluation mode.

        Its weights are averaged where the recipe averages them, and its running statistics fit them.
        Training-time methods need it. Raises `LookupError` where a recipe cannot tell.
        """
        raise LookupError(f"{type(self).__name__} does not hand out its network")

    def identity(self) -> str:
        """A hash of recipe, data and seed, and of what a teacher adds to the loss.

        A checkpoint of another identity is never continued.
        """
        return ""

    def shorten(self, steps: int) -> None:
        """Take `steps` optimizer steps in place of the recipe's.

        The result is another model than the published one.

        A recipe whose learning rate has a schedule stretches the schedule to `steps`.
        """
        self.total_steps = steps

    def scale_rates(self, factor: float) -> None:
        """Multiply the learning rates of all networks.

        The option `rate` of training-time methods needs it. Raises `LookupError` where a recipe cannot.
        """
        raise LookupError(f"{type(self).__name__} cannot change its learning rates")


@dataclass(frozen=True)
class TrainingRecipe:
    """One row of `Domain.training_table`: how to train a model of one size, or one evaluator.

    Example: `TrainingRecipe("the generator of size s", start_small, published_seeds=(0, 1, 2))`.
    """

    description: str  # one line for `bench list`, without the training seed
    # (training seed, data, device) -> the training at step 0; `data` as in `train`
    start: Callable[[int, str | None, str], Training]
    # training seeds of the models that belong to the published comparison
    published_seeds: tuple[int, ...] = ()
    seeded: bool = True  # False: there is one model, named by the key alone; `start` gets seed 0
