"""Optional parts of a generator: mix-in classes whose members all have defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bench.interfaces.shared import Samples
from bench.interfaces.training import Training, Wrap

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.nn import Module


class HasLikelihood:
    """For generators that can tell how probable given data are: language models, flows."""

    def likelihood(self, network: Module, base: Module | None = None) -> dict[str, float] | None:
        """Likelihood figures of `network` on held-out data, by name; None where the model has no likelihood.

        base: the uncompressed network, for figures that compare both. Declare each figure in
        `Domain.metrics`. Example: `{"bits_per_byte": 1.93, "kl_to_base": 0.02}`.
        """
        return None


class HasAuxiliaryScores:
    """For generators with frozen companions that can score samples, such as the discriminator of a GAN."""

    def auxiliary_scores(self, samples: Samples) -> dict[str, float]:
        """What the companions say of samples, by name.

        They share the generator's training, so they are never evaluators.

        Declare each score in `Domain.metrics`. Example: `{"p_real": 0.41}`.
        """
        return {}


class HasCalibration:
    """For calibrated methods, such as GPTQ, and for networks with running statistics, such as batch norm."""

    def calibration(self, seed: int) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
        """Batches of what the network is called with when it samples, as (args, kwargs).

        They are never real test data, and the seed alone decides them.

        Make each batch when it is asked for. Networks with running statistics need it; without it, calibrated
        methods are unsupported. Raises `LookupError` where there is none.
        """
        raise LookupError(f"{type(self).__name__} has no calibration batches")


@dataclass(frozen=True)
class Exportable:
    """A network as a runtime takes it, and the domain's sampler around what the runtime made of it.

    Example, for a network from latents to pictures:

        Exportable(network, {"latents": torch.zeros(2, 64)}, {"latents": {0: "batch"}}, {"batch": 256},
                   sample=draw, calibration=latents)
    """

    module: Module  # in evaluation mode: positional tensors -> a tensor or a tuple of tensors
    inputs: Mapping[str, Tensor]  # an example call, in order; axes that vary are 2 or longer
    axes: Mapping[str, Mapping[int, str]]  # input -> axis that varies -> its name; one is "batch"
    longest: Mapping[str, int]  # name of an axis -> its largest length
    # (call, n, seed, batch) -> n samples, drawn in batches of `batch`. `call` stands for the module
    sample: Callable[[Callable[..., tuple[Tensor, ...]], int, int, int], Samples]
    calibration: Callable[[int], Iterator[tuple[Tensor, ...]]]  # seed -> calls of the module, of no sample's
    changes: frozenset[str] = frozenset()  # axes whose length changes while one batch is drawn

    def shapes(self, batch: int) -> dict[str, tuple[int | None, ...]]:
        """Input -> its shape in batches of this size; None where calls differ."""
        found = {}
        for name, example in self.inputs.items():
            named = self.axes.get(name, {})
            lengths: list[int | None] = list(example.shape)
            for axis, what in named.items():
                lengths[axis] = (
                    batch if what == "batch" and (batch == 1 or what not in self.changes) else None
                )
            found[name] = tuple(lengths)
        return found


class HasExport:
    """For generators whose network can leave PyTorch: `bench edge` measures it in other runtimes."""

    def exportable(self, network: Module) -> Exportable:
        """The network as a runtime takes it. Raises `LookupError` where it cannot be exported."""
        raise LookupError(f"{type(self).__name__} says no way to export its network (`exportable`)")


class HasTraining:
    """For generators that can be trained further, which training-time methods need."""

    trained_networks: ClassVar[Sequence[str]] = ("generator",)  # the names that `training` hands to `wrap`

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        """The recipe that trains `network`, at step 0. The training may change `network`.

        seed: of the order of the data and of all noise.
        wrap: applied to each network, with its name, before averages and optimizers exist. The one that is
        stored is named `generator`, and its tensors have the names of those in `Generator.network`.
        scratch: `network` is untrained. Companions, such as a discriminator, then start untrained, too.
        teacher: the uncompressed network. The loss adds the distance of the student's outputs to its outputs.
        Raises `LookupError` where models cannot be trained, or not in this way.
        """
        raise LookupError(f"{type(self).__name__} has no training recipe")


class HasIdentity:
    """For generators whose samples depend on more than the tensors of the network."""

    def identity(self) -> str:
        """What samples depend on beside tensors and settings, as a hash or a name: a configuration, a
        tokenizer.

        Models of equal identity, tensors and settings share cells and cached samples.
        """
        return ""

    def settings(self) -> dict[str, Any]:
        """The sampler's settings, as JSON. They are part of a cell: other settings are another measurement.

        Example: `{"temperature": 1.0, "max_tokens": 256}`.
        """
        return {}


class HasConditions:
    """For generators that `Domain.open_conditional` opened: each sample is made of a condition."""

    def keeps_condition(self, samples: Samples, real: Samples) -> np.ndarray | None:
        """[n] bool: whether each sample fits its condition. `samples[i]` is item i.

        The metric `condition_kept` is its share of the valid samples. None: nobody can tell.
        """
        return None
