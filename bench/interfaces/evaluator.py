"""The contracts of an evaluator, of the known damages that check evaluators, and of a task."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from bench.interfaces.shared import Samples, check_allowed

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Role = Literal["quality", "diversity"]
Use = Literal["primary", "secondary", "optional"]  # what an evaluator is for: see `EvaluatorEntry`
# what a damage lowers; "foreign": samples of another kind of data
Hurts = Literal["nothing", "surface", "variety", "both", "foreign"]


@dataclass(frozen=True)
class Features:
    """One evaluator's features of a set of samples."""

    features: Tensor  # [n, d] float32
    surprisal: Tensor | None = None  # [n] float32, in nats; only from evaluators of quality


@dataclass(frozen=True)
class SampleFeatures:
    """Samples, and the features that each evaluator of their domain computes from them."""

    samples: Samples  # n of them
    by_evaluator: Mapping[str, Features]  # name of the evaluator -> its features of all n samples

    @property
    def views(self) -> Mapping[str, Features]:
        """The old name of `by_evaluator`."""
        return self.by_evaluator


class Evaluator(ABC):
    """A pre-trained model that turns samples into features, for one role."""

    name: ClassVar[str]  # as in the domain's table
    role: ClassVar[Role]  # as in the domain's table
    version: ClassVar[int] = 1  # raise it when features change: older records no longer count as finished

    @abstractmethod
    def features(self, samples: Samples) -> Tensor:
        """[n, d] float32. A sample's features depend on that sample alone."""

    def surprisal(self, samples: Samples) -> Tensor:
        """[n] float32, in nats; high = unlike the real data.

        Required for the role `quality`, and for no other.

        Raises `LookupError` where the evaluator has none.
        """
        raise LookupError(f"evaluator {self.name!r} has no surprisal")

    def identity(self) -> str:
        """A hash of the weights, where one class serves several.

        It is part of the keys of cached features.
        """
        return ""


class Task(ABC):
    """What people want samples for: something is trained on the samples and tested on real data."""

    name: ClassVar[str]  # for example `classifier`
    description: ClassVar[str]  # one line for `bench list`
    version: ClassVar[int] = 1  # raise it when scores change

    @abstractmethod
    def score(self, samples: Samples) -> np.ndarray:
        """[real items] float: how well what was trained on the samples does on each; higher is better.

        The mean over the items is the utility of the samples.
        """


@dataclass(frozen=True)
class Damage:
    """A known way to spoil real samples, and what a good pair of evaluators must measure of it.

    Bounds are shares of what undamaged real samples score. Damages of `variety` keep each item whole. Their
    validity must therefore be exactly the mean validity of the same items.
    """

    hurts: Hurts  # what the damage lowers
    apply: Callable[[Samples], Samples]  # the same input gives the same output; it does not change its input
    valid: tuple[float, float] = (0.0, math.inf)  # (least, most): validity, relative to undamaged samples
    # (least, most): mutual recall, relative to undamaged samples
    mutual_recall: tuple[float, float] = (0.0, math.inf)
    # validity must lie at least 3 points below that of this damage ("" = undamaged)
    milder: str | None = None

    def __post_init__(self) -> None:
        """Raises `bench.errors.BadInput` for an unknown kind of damage."""
        check_allowed("hurts", self.hurts, Hurts, "a damage")


@dataclass(frozen=True)
class EvaluatorEntry:
    """One row of `Domain.evaluator_table`: an evaluator, what it is for, and how to load it."""

    role: Role  # as its class says
    # primary: scores every cell; secondary: checks the primary ones; optional: only where the user names it
    use: Use
    load: Callable[[str], Evaluator]  # device -> the evaluator; imports and loads weights only when called

    def __post_init__(self) -> None:
        """Raises `bench.errors.BadInput` for an unknown role or use."""
        check_allowed("role", self.role, Role, "an evaluator")
        check_allowed("use", self.use, Use, "an evaluator")
