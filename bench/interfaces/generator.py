"""The contract of a generator: a network, together with what it needs to make samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from bench.interfaces.generator_parts import (
    HasAuxiliaryScores,
    HasCalibration,
    HasConditions,
    HasExport,
    HasIdentity,
    HasLikelihood,
    HasTraining,
)
from bench.interfaces.shared import Samples
from bench.interfaces.storage import StructureEdit

if TYPE_CHECKING:
    from torch.nn import Module


class Generator(
    HasLikelihood,
    HasAuxiliaryScores,
    HasCalibration,
    HasExport,
    HasTraining,
    HasIdentity,
    HasConditions,
    ABC,
):
    """A network together with what it needs to make samples: tokenizer, scheduler, start noise."""

    network: Module  # the one module that is compressed, in evaluation mode

    @abstractmethod
    def rebuild(self, structure: Sequence[StructureEdit]) -> Module:
        """An empty network of the recorded structure; the artifact's tensors are loaded into it.

        structure: what methods changed of the network, in order; () for the original. The edits of
        `bench.artifact.structure` are not among them, since they need no help of the generator.
        Raises `bench.errors.BadInput` for an edit that the generator does not know.
        """

    @abstractmethod
    def sample(self, network: Module, n: int, seed: int) -> Samples:
        """`n` native samples.

        The same seed gives twins: item i gets the same noise, whatever the network, batch size or `n`.

        Raises `bench.errors.Diverged` when the network's output is not finite.
        """

    # What follows is optional.

    # samples drawn to count operations: whole batches, where samples are drawn in fixed ones
    macs_sample_count: ClassVar[int] = 100

    def notes(self) -> Sequence[str]:
        """What a user must know to read this model's numbers, a line each. `bench run` says them once."""
        return ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Generators that use the old names of two members keep working."""
        super().__init_subclass__(**keywords)
        for old, new in {"opinion": "auxiliary_scores", "counted_on": "macs_sample_count"}.items():
            if old in vars(cls) and new not in vars(cls):
                setattr(cls, new, vars(cls)[old])
