"""Training-time methods: quantization-aware training, pruning while training, and the control without either.

Each trains a copy of the network by its domain's own recipe (`Generator.training`) and stores the result. The
latent weights are never stored. Results are cached by weights, method, data, recipe and seed, and a run that
was stopped continues.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Module

from bench.artifact.format import encode, fill, load, save, tensors_digest
from bench.artifact.structure import rebuilt
from bench.errors import BadInput, Diverged, Unsupported, unknown
from bench.interfaces import Compressed, Context, StoredTensor, Training
from bench.layers import Weight, tensors_of, weights_of
from bench.methods.fake_quantize import FakeQuantize, Masked, Parametrization, register
from bench.methods.plain import halve_the_rest, original, plain
from bench.methods.prune import Magnitude, Structured, check_sparsity, pattern_of
from bench.methods.quantize import Quantizer
from bench.methods.weightwise import Weightwise, one_of
from bench.training.lock import locked
from bench.training.train import LOG, SNAPSHOT_EVERY, Log, run
from bench.util.files import cache_folder, slug, write_atomically

GENERATOR, ALL = "generator", "both"  # the network that is stored; all networks of a training
OUTCOME, RESULT = "outcome.json", "result.genc"  # the former is written last
MOST_BUDGET, MOST_RATE = 10.0, 100.0


@dataclass(frozen=True)
class TrainingTimeMethod(Weightwise):
    """Base class: trains a copy of the network with parametrized weights, and stores what they stand for."""

    start: str = "trained"  # or `scratch`: from untrained weights
    budget: float = 0.25  # optimizer steps, as a share of the recipe's
    seed: int = 0  # of the training's noise, and of untrained weights
    networks: str = GENERATOR  # which networks of the training the method is applied to; `both`: all
    teacher: bool = False  # distillation from the uncompressed network
    rate: float = 1.0  # learning rates, as a multiple of the recipe's

    trains: ClassVar[bool] = True

    def __post_init__(self) -> None:
        one_of(self.name, "start", self.start, ("trained", "scratch"))
        if not 0 < self.budget <= MOST_BUDGET:
            raise BadInput(
                f"budget={self.budget:g} of {self.name!r} is outside of (0, {MOST_BUDGET:g}]: it is a share "
                f"of the recipe's steps, such as 0.25"
            )
        if not 0 < self.rate <= MOST_RATE:
            raise BadInput(
                f"rate={self.rate:g} of {self.name!r} is outside of (0, {MOST_RATE:g}]: it multiplies the "
                f"recipe's learning rates, such as 0.5"
            )
        if not 0 <= self.seed < 2**31:
            raise BadInput(
                f"seed={self.seed} of {self.name!r} is outside of [0, 2^31): give a seed such as 0"
            )

    def check_networks(self, offered: Sequence[str]) -> None:
        """Raises `BadInput` where a training does not have the networks that the user named."""
        allowed = [*offered, ALL] if len(offered) > 1 else offered
        if self.networks not in allowed:
            raise unknown(f"value of networks= of {self.name!r}", self.networks, allowed)

    @property
    def packages(self) -> dict[str, str]:
        """Other projects' packages that the training computes with -> their versions."""
        return {}

    @property
    def grid_versions(self) -> dict[str, int]:
        """Quantizers that give the first scales -> their versions, but for the first ones."""
        return {}

    @abstractmethod
    def parametrization(
        self, name: str, weight: Weight, start: StoredTensor, ends: bool
    ) -> Parametrization | None:
        """What stands between a layer and its latent weights; None: the weights are trained as they are.

        start: the weight before training. ends: whether it belongs to the first or the last layer.
        """

    def finish(self, compressed: Compressed, context: Context, exempt: Mapping[str, str]) -> Compressed:
        """What else changes in the file."""
        return compressed

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        if context.generator is None:
            raise Unsupported(f"{self.name!r} needs a generator with a training recipe")
        if any(stored.quantized for stored in compressed.tensors.values()):
            raise BadInput(f"{self.name!r} has to come before a quantizer")
        exempt = self.weights(compressed, context)[1]
        made = Attempt(self, compressed, context).result().replace({}, exempt)
        return self.finish(made, context, {**context.excluded, **exempt})


class DivergedInTraining(Diverged):
    """A training diverged. `trainings`: what the record says of the trainings of the chain so far."""

    def __init__(self, reason: str, trainings: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(reason)
        self.trainings = trainings


class Attempt:
    """One training of one network by one method: set up, run or read from the cache, and stored."""

    def __init__(self, method: TrainingTimeMethod, compressed: Compressed, context: Context) -> None:
        assert context.generator is not None
        self.method, self.compressed, self.context = method, compressed, context
        self.generator = context.generator
        # (name in the network, path of a layer that owns it, parameter) of each parametrized weight
        self.places: list[tuple[str, str, str]] = []
        self.active: list[tuple[Any, str]] = []  # (layer, parameter) of all parametrized weights
        self.offered: list[str] = []  # names of the training's networks
        network = self._start()
        self.request = self._request(network)
        self.network = network

    @functools.cached_property
    def training(self) -> Training:
        """The recipe with the method's parametrizations, at step 0."""
        method = self.method
        teacher = self.generator.network if method.teacher else None
        try:
            training = self.generator.training(
                self.network, method.seed, self._wrap, scratch=method.start == "scratch", teacher=teacher
            )
            if method.rate != 1:
                training.scale_rates(method.rate)
        except LookupError as error:
            if isinstance(error, (KeyError, IndexError)):  # a fault of the recipe, and not its answer
                raise
            raise Unsupported(f"{method.name!r} needs a training recipe: {error}") from None
        training.shorten(max(1, round(method.budget * training.total_steps)))
        self.method.check_networks(self.offered)
        return training

    # -------------------------------------------------------------------------------------------- set up

    def _start(self) -> Module:
        """A copy of the network with the weights that training starts from.

        Excluded tensors are the given network's in any case.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.method.seed)
            network = rebuilt(self.generator, self.compressed.structure)
        tensors = dict(self.compressed.tensors)
        if self.method.start == "scratch":
            fresh = {name: plain(value) for name, value in tensors_of(network).items()}
            tensors |= {name: value for name, value in fresh.items() if name not in self.context.excluded}
        fill(network, tensors)
        return network.to(self.context.device).train()

    def _wrap(self, name: str, network: Module) -> Module:
        """Put parametrizations in front of the weights of one network, where the user named it."""
        self.offered.append(name)
        chosen, every = self.method.networks in (name, ALL), weights_of(network)
        if name != GENERATOR:
            if chosen:
                self._parametrize(network, every, original(network).tensors, self.method)
            return network
        weights = self.method.weights(self.compressed, self.context)[0] if chosen else {}
        # pruned weights stay pruned where the method leaves them alone
        pruned = {
            tensor: weight
            for tensor, weight in every.items()
            if self.compressed.tensors[tensor].mask is not None
            and tensor not in weights
            and tensor not in self.context.excluded
        }
        now = tensors_of(network)
        starts = {
            # a low-rank product is in the values already
            tensor: dataclasses.replace(
                self.compressed.tensors[tensor], values=now[tensor].clone(), factors=None
            )
            for tensor in (*weights, *pruned)
        }
        self.places = self._parametrize(network, weights, starts, self.method)
        self.places += self._parametrize(network, pruned, starts, Finetune())
        for tensor, parameter in network.named_parameters():
            if tensor in self.context.excluded:
                parameter.requires_grad_(False)
        return network

    def _parametrize(
        self,
        network: Module,
        weights: Mapping[str, Weight],
        starts: Mapping[str, StoredTensor],
        method: TrainingTimeMethod,
    ) -> list[tuple[str, str, str]]:
        """Register parametrizations -> where they are."""
        ends = {next(iter(weights)), last_of(network, weights)} if weights else set()
        places = []
        for name, weight in weights.items():
            made = method.parametrization(name, weight, starts[name], name in ends)
            if made is None:
                continue
            for own_name in (name, *weight.tied):
                path, _, parameter = own_name.rpartition(".")
                register(network.get_submodule(path), parameter, made)
            path, _, parameter = name.rpartition(".")
            places.append((name, path, parameter))
            self.active.append((network.get_submodule(path), parameter))
        return places

    # ----------------------------------------------------------------------------------------------- run

    def _request(self, network: Module) -> list[Any]:
        """What the training depends on beside recipe and data."""
        method = self.method
        masks = [
            hashlib.sha256(stored.mask.cpu().numpy().tobytes()).hexdigest()
            for stored in self.compressed.tensors.values()
            if stored.mask is not None
        ]
        content = [method.text, method.version, tensors_digest(network), masks, self.generator.identity()]
        content.append(sorted(self.context.excluded))
        content += [part for part in (method.packages, method.grid_versions) if part]
        return [*content, tensors_digest(self.generator.network)] if method.teacher else content

    @property
    def shipped(self) -> Path | None:
        """Where a result may ship with the model. It is found without recipe or data."""
        digest, folder = _digest(self.request), self.context.folder
        return None if folder is None else folder / "trained" / f"{slug(self.method.text)}-{digest[:8]}"

    @property
    def folder(self) -> Path:
        """Where this training's checkpoint, log and result are, in the user's cache."""
        digest = _digest([*self.request, self.training.identity(), self.context.device])
        return cache_folder() / "trained" / digest[:2] / digest[2:34]

    def result(self) -> Compressed:
        """The trained network as stored. Raises `DivergedInTraining` where it diverged, now or earlier."""
        found = None if self.shipped is None else _finished(self.shipped)
        outcome, tensors = found or self._cached()
        # an outcome of an earlier version has no log if it diverged
        every = (*self.compressed.trainings, {"core_seconds": 0, "log": [], **outcome})
        if "diverged" in outcome:
            raise DivergedInTraining(outcome["diverged"], every)
        made = self.compressed.replace(
            {name: stored for name, stored in tensors.items() if name not in self.context.excluded}
        )
        return dataclasses.replace(made, trainings=every)

    def _cached(self) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
        """(what the record says, the tensors), trained now where they are not cached."""
        title, folder = f"training {self.method.text}", self.folder
        with locked(folder, title, wait=True):
            if (found := _finished(folder)) is None:
                write_atomically(folder / OUTCOME, json.dumps(self._train(folder, title)))
                (folder / "checkpoint.pt").unlink(missing_ok=True)  # not before the outcome is there
                found = _finished(folder)
        assert found is not None
        return found

    def _train(self, folder: Path, title: str) -> dict[str, Any]:
        """Train and write the result -> what the record says of it."""
        training: Training = self.training

        def snapshot(step: int) -> None:
            save(
                self._stored(training.finished()), self.method.text, folder / "snapshots" / f"{step:07}.genc"
            )

        found: dict[str, Any] = {"method": self.method.text, "steps": training.total_steps}
        found |= {"packages": self.method.packages} if self.method.packages else {}
        try:
            lines = run(
                training,
                folder,
                title,
                self.context.device,
                validate_every=SNAPSHOT_EVERY,
                before_step=self._advance,
                snapshot=snapshot,
            ).lines
            write_atomically(folder / RESULT, encode(self._stored(training.finished()), self.method.text))
        except Diverged as error:
            found |= {"diverged": f"training diverged: {error}", "steps": training.step_number}
            # up to the last validation before that step
            lines = [line for line in Log(folder / LOG).lines if line["step"] <= training.step_number]
        return {**found, "core_seconds": lines[-1]["core_seconds"] if lines else 0, "log": lines}

    def _advance(self, share: float) -> None:
        for layer, parameter in self.active:
            own = layer.parametrizations[parameter]
            own[0].advance(own.original, share)

    def _stored(self, network: Module) -> Compressed:
        """The finished network's tensors. Raises `Diverged` where one is not finite."""
        tensors: dict[str, StoredTensor] = {}
        for name, path, parameter in self.places:
            own: Any = network.get_submodule(path).parametrizations[parameter]  # type: ignore[union-attr,index]
            self._check_finite(name, own.original)
            tensors[name] = own[0].stored(own.original.detach())
            self._check_finite(name, tensors[name].dequantize())
        for name, value in tensors_of(network).items():
            if name not in self.compressed.tensors or name in tensors or name in self.context.excluded:
                continue
            self._check_finite(name, value)
            tensors[name] = plain(value.float().clone() if value.is_floating_point() else value.clone())
        return self.compressed.replace(tensors)

    def _check_finite(self, name: str, value: Tensor) -> None:
        if value.is_floating_point() and not value.isfinite().all():
            step, total = self.training.step_number, self.training.total_steps
            raise Diverged(f"tensor {name!r} holds NaN or infinity after step {step:,} of {total:,}")


def _digest(content: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _finished(folder: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]] | None:
    """(what the record says of a training, its tensors); None where a file is missing or damaged."""
    try:
        outcome = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        return outcome, {} if "diverged" in outcome else load(folder / RESULT)[2]
    except (FileNotFoundError, ValueError, BadInput):
        return None


def last_of(network: Module, weights: Mapping[str, Weight]) -> str:
    """The weight of the last layer, in the order of the network. A tied weight may be the first, too."""
    place = {path: number for number, (path, _) in enumerate(network.named_modules())}
    latest: dict[str, int] = {}
    for name, weight in weights.items():
        latest[name] = max(place.get(own.rpartition(".")[0], 0) for own in (name, *weight.tied))
    return max(latest, key=lambda name: latest[name])


# --------------------------------------------------------------------------------------------- the methods


@dataclass(frozen=True)
class Finetune(TrainingTimeMethod):
    """The control: the same steps without compression, stored as float32. Pruned weights stay pruned."""

    name = "finetune"
    description = "the control: further training without compression, stored as float32"

    def parametrization(
        self, name: str, weight: Weight, start: StoredTensor, ends: bool
    ) -> Parametrization | None:
        """A fixed mask, where there is one."""
        return None if start.mask is None else Masked(start, weight.layout())


@dataclass(frozen=True)
class QuantizationAwareTraining(TrainingTimeMethod):
    """Trains with the grid's values in each forward pass (straight-through estimator).

    `scales=learned` trains each scale (LSQ), `scales=mean` takes the mean magnitude of the latent weights.
    By default grids of 2 bits and more learn theirs, and `ternary` and `binary` take the mean.
    """

    grid: str = field(default="int4", metadata={"shown": True, "leads": True})
    scales: str = "auto"
    ends: str = "same"  # the grid of the first and the last layer
    anneal: float = 0.0  # share of the steps in which the values move from the latent weights to the grid

    name = "qat"
    description = "quantization-aware training on a grid"
    quantizes = True

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self.name, "grid", self.grid, GRIDS)
        one_of(self.name, "ends", self.ends, ("same", *GRIDS))
        if not 0 <= self.anneal < 1:
            raise BadInput(
                f"anneal={self.anneal:g} of {self.name!r} is outside of [0, 1): it is a share of the steps, "
                f"such as 0.5, and the last steps are on the grid"
            )
        one_of(self.name, "scales", self.scales, ("auto", "learned", "mean"))
        if self.scales == "mean" and not {self.grid, self.ends} <= {*MEAN_SCALES, "same"}:
            raise BadInput(
                f"scales='mean' of {self.name!r} goes with the grids {', '.join(MEAN_SCALES)} only"
            )

    @property
    def grid_versions(self) -> dict[str, int]:
        """Of the grid, and of that of the ends."""
        versions = {grid: quantizer(grid).version for grid in sorted({self.grid, self.ends} - {"same"})}
        return {grid: version for grid, version in versions.items() if version > 1}

    def parametrization(
        self, name: str, weight: Weight, start: StoredTensor, ends: bool
    ) -> Parametrization | None:
        """The grid, starting from the scales of least squared error."""
        grid = self.ends if ends and self.ends != "same" else self.grid
        learned = self.scales == "learned" or (self.scales == "auto" and grid not in MEAN_SCALES)
        stored = quantizer(grid).quantize(start, weight.axis, weight.blocks)
        return FakeQuantize(stored, learned, self.anneal)

    def finish(self, compressed: Compressed, context: Context, exempt: Mapping[str, str]) -> Compressed:
        """Biases and norms as float16."""
        return halve_the_rest(compressed, exempt)


@dataclass(frozen=True)
class PruneWhileTraining(TrainingTimeMethod):
    """Gradual magnitude pruning (Zhu and Gupta 2017, arXiv:1710.01878): sparsity rises along a cubic curve.

    The sparsity after a share t of the ramp is S (1 - (1 - t)^3). The mask is chosen again during the ramp,
    and stays for the rest of the steps. `pattern=2:4` keeps n of every m neighbours of an output channel.
    """

    sparsity: float = field(default=0.5, metadata={"leads": True})
    pattern: str = field(default="", metadata={"leads": True})

    name = "prune_train"
    description = "gradual magnitude pruning while training"

    RAMP: ClassVar[float] = 0.6  # share of the steps in which sparsity rises
    CHOICES: ClassVar[int] = 100  # how often a mask is chosen

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sparsity(self.sparsity)
        if self.pattern and self.sparsity != type(self).sparsity:
            raise BadInput(f"{self.name!r} takes a sparsity or a pattern: give one of them")
        if self.pattern:
            _ = self.kept_of_every  # raises for what is no pattern

    @property
    def kept_of_every(self) -> tuple[int, int]:
        """(n, m). Raises `BadInput` where the pattern is none."""
        return pattern_of(self.name, self.pattern)

    def parametrization(
        self, name: str, weight: Weight, start: StoredTensor, ends: bool
    ) -> Parametrization | None:
        """A mask from which more and more weights are missing."""

        def choose(latent: Tensor, number: int) -> Tensor:
            return self.mask(latent, weight, 1 - (1 - number / self.CHOICES) ** 3)

        made = Masked(start, weight.layout(), self.stage, choose)
        made.pattern = self.kept_of_every if self.pattern and start.mask is None else None
        return made

    def stage(self, share: float) -> int:
        """The number of the mask that is due after a share of the steps: 0 to `CHOICES`, the last one."""
        return round(min(1.0, share / self.RAMP) * self.CHOICES)

    def mask(self, latent: Tensor, weight: Weight, share: float) -> Tensor:
        """The mask for a share of the final sparsity, bool [*shape]."""
        tensors, weights = {"": plain(latent)}, {"": weight}
        if not self.pattern:
            return Magnitude(sparsity=share * self.sparsity).masks(tensors, weights)[""]
        n, m = self.kept_of_every
        kept = m - round(share * (m - n))
        if kept == m:
            return torch.ones_like(latent, dtype=torch.bool)
        return Structured(n=kept, m=m).masks(tensors, weights)[""]


def quantizer(grid: str) -> Quantizer:
    """The post-training quantizer of a grid."""
    from bench.registry import METHODS

    made = METHODS.load(grid)()
    assert isinstance(made, Quantizer)
    return made


MEAN_SCALES = ("ternary", "binary")
GRIDS = (*(f"int{bits}" for bits in range(8, 1, -1)), *MEAN_SCALES)
