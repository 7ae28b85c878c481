"""The contracts of the plug-in API. A domain, a method or a metric is one class that keeps one of these.

A domain's author writes three classes: a `Domain`, its `Generator`, and one `Evaluator` for each role. The
members that come first in each class are required. The optional ones are in small mix-in classes, which stand
before the class that inherits them; all have defaults. This module imports nothing else of the project but
its errors.

How the contracts meet, for one cell (`bench/runner/run_cell.py`):

    generator = domain.open(spec, device, settings)           # the network, with its frozen companions
    compressed = method(none(generator.network), context)     # what to store for each tensor
    network = rebuild(artifact, generator)                    # from the file's bytes alone
    samples = generator.sample(network, n, seed)              # native samples: texts, images, points ...
    features = evaluator.features(samples)                    # [n, d]: what the metrics look at
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from bench.errors import BadInput, unknown

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.nn import Module

TRAINED_ON = "data.json"  # in a folder that `bench train --data` writes: what the user named
TRAINED = "training.jsonl"  # the last file in a folder that `bench train` writes
Samples = Any  # a sequence of samples as their domain knows them: a list of texts, an array [n, c, h, w] ...
Role = Literal["quality", "diversity"]
Use = Literal["primary", "secondary", "optional"]  # what an evaluator is for: see `EvaluatorEntry`
# what a damage lowers; "foreign": samples of another kind of data
Hurts = Literal["nothing", "surface", "variety", "both", "foreign"]
# which way is better; "none": nearest to the real data's value is best
Direction = Literal["higher", "lower", "none"]
ConditionKind = Literal["prompts", "labels"]  # what a conditional model makes samples of
# (name of a network, the network) -> the network to train in its place
Wrap = Callable[[str, "Module"], "Module"]


def _allowed(what: str, value: str, kind: Any, of: str) -> None:
    """Raises `bench.errors.BadInput` unless `value` is one of the literals of `kind`."""
    if value not in get_args(kind):
        raise BadInput(f"{what} {value!r} of {of} is unknown; allowed: {', '.join(get_args(kind))}")


# ----------------------------------------------------------------------------------------------------- models

# size in a model's name -> (fewest, most) parameters. A size is a class of comparison: domains are compared
# size by size, so that networks of one size must have about as many parameters in every domain.
SIZES: Mapping[str, tuple[int, int]] = {
    "xs": (62_500, 250_000),
    "s": (250_000, 1_000_000),
    "m": (1_000_000, 4_000_000),
}


def outside_of_its_size(model: str, parameters: int | None) -> str | None:
    """What is wrong with a model's number of parameters, where its name begins with a size; None: nothing."""
    size = model.partition("@")[0]
    if parameters is None or size not in SIZES or "@" not in model:
        return None
    fewest, most = SIZES[size]
    if fewest <= parameters <= most:
        return None
    return f"{model} has {parameters:,} parameters, and size {size} means {fewest:,} to {most:,}"


@dataclass(frozen=True)
class ModelSpec:
    """One trained generator: where its weights are, and what is known about them."""

    name: str  # `s@0` (size `s`, training seed 0), or the folder or hub id that the user gave
    source: str  # a local folder or a hub id
    licence: str = "unknown"  # of the weights, for example `Apache-2.0`
    parameters: int | None = None  # how many the network has; None: unknown
    train_seed: int | None = None  # the seed of its training; None: unknown
    # name of a tensor that is never compressed -> why
    excluded: Mapping[str, str] = field(default_factory=dict)
    description: str = ""  # one line for `bench list`
    samples_seen: int | None = None  # training samples, repeats counted; None: unknown


# ------------------------------------------------------------------------------------------------- conditions


@dataclass(frozen=True)
class Conditions:
    """What the samples of a conditional model are made of: prompts, or class labels.

    Item i has condition i mod `len(texts)`, under every method, n and batch size. So twins share their
    condition as they share their noise.
    """

    kind: ConditionKind  # as the option is called
    texts: tuple[str, ...]  # a label is a number or a name, as the user wrote it
    file: str = ""  # name of the file that held them

    def index(self, item: int) -> int:
        """Which condition item `item` has."""
        return item % len(self.texts)

    @property
    def settings(self) -> dict[str, Any]:
        """What a cell and its record say of the conditions, as JSON."""
        content = json.dumps([self.kind, self.texts]).encode()
        known = {"kind": self.kind, "file": self.file, "count": len(self.texts)}
        return {**known, "sha256": hashlib.sha256(content).hexdigest()}


# ------------------------------------------------------------------------------ optional parts of a generator


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


# ------------------------------------------------------------------------------------------------- generators


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


# ------------------------------------------------------------------------------------------------- evaluators


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
        _allowed("hurts", self.hurts, Hurts, "a damage")


# ----------------------------------------------------------------------------------------- tables of a domain


@dataclass(frozen=True)
class EvaluatorEntry:
    """One row of `Domain.evaluator_table`: an evaluator, what it is for, and how to load it."""

    role: Role  # as its class says
    # primary: scores every cell; secondary: checks the primary ones; optional: only where the user names it
    use: Use
    load: Callable[[str], Evaluator]  # device -> the evaluator; imports and loads weights only when called

    def __post_init__(self) -> None:
        """Raises `bench.errors.BadInput` for an unknown role or use."""
        _allowed("role", self.role, Role, "an evaluator")
        _allowed("use", self.use, Use, "an evaluator")


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


# --------------------------------------------------------------------------------- optional parts of a domain


class Trainable:
    """For domains whose models `bench train` can make.

    One table is enough; the other members follow from it.
    """

    name: ClassVar[str]

    def training_table(self) -> Mapping[str, TrainingRecipe]:
        """Size or name -> its recipe, in the order of `bench list`.

        The key `s` makes the models `s@0`, `s@1` and so on. A recipe with `seeded=False` makes one model,
        named by its key.
        """
        return {}

    def trainings(self) -> Mapping[str, str]:
        """What `bench train` can make: name -> one line. `N` stands for the training seed: `s@N`."""
        return {
            f"{key}@N" if recipe.seeded else key: f"{recipe.description}, training seed N"
            if recipe.seeded
            else recipe.description
            for key, recipe in self.training_table().items()
        }

    def grid(self) -> Sequence[str]:
        """The models of the published comparison, in the order of training: what `train` without --model
        makes.

        By default the published seeds of each recipe, in the order of the table. Override it for another
        order.
        """
        return tuple(
            f"{key}@{seed}"
            for key, recipe in self.training_table().items()
            for seed in recipe.published_seeds
        )

    def train(self, name: str, data: str | None, device: str) -> Training:
        """The training that makes the model `name` (for example `s@0`) from scratch.

        data: a file, folder or hub id to train on; None: the domain's own training part. Raises
        `bench.errors.BadInput` for a name that no recipe makes, `LookupError` where the domain has no
        recipes.
        """
        table = self.training_table()
        if not table:
            raise LookupError(f"domain {self.name!r} cannot train {name!r}")
        key, at, seed = name.partition("@")
        recipe = table.get(key)
        # what every random generator takes
        if recipe is not None and recipe.seeded and re.fullmatch("[0-9]{1,9}", seed):
            return recipe.start(int(seed), data, device)
        if recipe is not None and not recipe.seeded and not at:
            return recipe.start(0, data, device)
        raise unknown(
            "model to train", name, [f"{key}@0" if recipe.seeded else key for key, recipe in table.items()]
        )


class DescribesSamples:
    """For domains that can say more of a sample than its scores, in `bench describe` and in files of
    twins.
    """

    def traits(self, samples: Samples) -> Mapping[str, np.ndarray]:
        """What each sample is like: name of the trait -> a finite number or a label for each sample, [n].

        A sample's traits depend on that sample alone. `surprisal` and `rarity` exist in every domain.
        Example: `{"length": np.array([4, 17])}`.
        """
        return {}

    def is_training_sample(self, samples: Samples) -> list[bool] | None:
        """[n]: whether the training part holds the sample exactly; None where it is not known."""
        return None

    def show(self, columns: Mapping[str, Samples], path: Path) -> Path | None:
        """Write twins side by side (column title -> samples) for a person to look at -> the path written.

        `path` has no suffix yet. None: the domain cannot show samples.
        """
        return None


class HasMetrics:
    """For domains with metrics of their own, beside those that all domains share."""

    def metrics(self) -> Mapping[str, Metric]:
        """The domain's own metrics, by name. No name begins with `quality_` or `diversity_`."""
        return {}

    def optional_metric(self, name: str, device: str = "cpu") -> Metric | None:
        """A metric that is computed only where the user names it, since its weights are not shipped; None:
        unknown here.

        Raises `bench.errors.BadInput` when the name is known and its weights are missing.
        """
        return None


class HasTask:
    """For domains that can say how useful samples are."""

    def task(self, device: str = "cpu") -> Task | None:
        """The task that samples are good for; None: the domain has none."""
        return None


class HasOptionalEvaluators:
    """For domains that can use evaluators with open-ended names: folders and hub ids of the user's."""

    def optional_evaluator(self, name: str, device: str = "cpu") -> Evaluator | None:
        """The evaluator of this name, which the table does not list; None: unknown here.

        Raises `bench.errors.BadInput` when the name is known and its weights are missing.
        """
        return None


class HasKinds:
    """For domains to be contrasted with others that share their data or their network, and not both."""

    kind_of_data: ClassVar[str] = ""  # `images`; an equal word means the same real samples and evaluators
    kind_of_network: ClassVar[str] = ""  # `transformer`; an equal word means the same architecture and recipe


class TakesConditions:
    """For domains with conditional models: `--prompts` and `--labels`."""

    name: ClassVar[str]  # the domain's
    condition_kinds: ClassVar[Sequence[ConditionKind]] = ()  # what `open_conditional` takes

    def open_conditional(self, spec: ModelSpec, conditions: Conditions, device: str = "cpu") -> Generator:
        """Load a model that makes item i of condition i mod their number.

        Conditions are no part of `Generator.settings`: the benchmark adds them to the cell. Raises
        `bench.errors.BadInput` for a model that takes none, and for a condition that it does not know.
        """
        raise BadInput(f"domain {self.name!r} opens no model with {conditions.kind}")

    def check_takes(self, conditions: Conditions) -> None:
        """Raises `bench.errors.BadInput` for conditions of a kind that the domain does not take."""
        if conditions.kind not in self.condition_kinds:
            allowed = ", ".join(f"--{kind}" for kind in self.condition_kinds) or "no conditions"
            raise BadInput(f"domain {self.name!r} takes no --{conditions.kind}; it takes {allowed}")


# ---------------------------------------------------------------------------------------------------- domains


class Domain(
    Trainable, DescribesSamples, HasMetrics, HasTask, HasOptionalEvaluators, HasKinds, TakesConditions, ABC
):
    """A kind of data: its models, real samples and evaluators. Constructing one loads no model."""

    name: ClassVar[str]  # as in the entry point that names the class
    description: ClassVar[str]  # one line for `bench list`
    version: ClassVar[int] = 1  # raise it when numbers change: older records no longer count as finished

    @property
    @abstractmethod
    def models(self) -> Mapping[str, ModelSpec]:
        """Name -> model that ships with the domain; the first is the default. A class attribute will do."""

    @abstractmethod
    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        """Load a model to `device`. `settings` replace the sampler's, for example `{"temperature": 0.9}`.

        Raises `bench.errors.BadInput` for a model that cannot be opened and for a wrong setting.
        """

    @abstractmethod
    def evaluator_table(self) -> Mapping[str, EvaluatorEntry]:
        """Name -> evaluator, in order: the first primary evaluator of each role is the one that counts.

        Example: `{"position": EvaluatorEntry("quality", "primary", Position), ...}`, with `Position(device)`.
        """

    @abstractmethod
    def reference(self, split: str = "test", source: str | None = None) -> Samples:
        """All real samples of a split: `test`, `validation` or `ceiling`. No two samples are equal.

        source: take them from this file, folder or hub id of the user's instead (`bench.data.load_rows`).
        Raises `bench.errors.BadInput` for an unknown split and an unreadable source.
        """

    @abstractmethod
    def damages(self) -> Mapping[str, Damage]:
        """Name -> a known damage, to check the evaluators: at least one of `surface`, one of `variety`."""

    @abstractmethod
    def read_samples(self, path: Path) -> Samples:
        """Samples from a file. Raises `bench.errors.BadInput` when it holds none of this domain."""

    @abstractmethod
    def write_samples(self, samples: Samples, path: Path) -> Path:
        """Write what `read_samples` reads back. `path` has no suffix yet -> the path written."""

    # The required part ends here. What follows has a default, or follows from the table of evaluators.

    @classmethod
    def missing(cls) -> str | None:
        """Which package the domain needs and does not find, with the command that installs it; None: none.

        `run --domain all` leaves such a domain out.
        """
        return None

    def locate(self, model: str) -> ModelSpec:
        """The spec of a model's name, or of a folder that `bench train` wrote.

        Override it to accept other folders and hub ids, too. Raises `bench.errors.BadInput` when the name
        leads to no model.
        """
        if model in self.models:
            return self.models[model]
        if model and (Path(model) / TRAINED).is_file():
            return ModelSpec(model, model)
        raise unknown("model", model, self.models)

    def with_reference(self, source: str | None) -> Domain:
        """The domain for real samples of the user's: a file, folder or hub id. By default itself.

        Override it where evaluators are fitted on them. Their `identity` must then tell these samples apart.
        A domain that ships no real samples raises `bench.errors.NeedsReference` in `reference` without it.
        """
        return self

    def evaluators(self) -> Mapping[str, str]:
        """The primary evaluators, in the order of the table: name -> role. They score every cell."""
        return {name: entry.role for name, entry in self.evaluator_table().items() if entry.use == "primary"}

    def second_evaluators(self) -> Mapping[str, str]:
        """The secondary evaluators, in the order of the table: name -> role. They check the primary ones.

        They are in no cell's name, so one may be added when there are records (`bench evaluate`).
        """
        if type(self).evaluator_table is _table_of_old_members:  # which reads this member
            return {}
        return {
            name: entry.role for name, entry in self.evaluator_table().items() if entry.use == "secondary"
        }

    def evaluator(self, name: str, device: str = "cpu") -> Evaluator:
        """Load an evaluator of the table. Raises `bench.errors.BadInput` for a name that it does not list."""
        table = self.evaluator_table()
        if name not in table:
            raise unknown("evaluator", name, table)
        return table[name].load(device)

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Domains of the old contract keep working: they have no table, and define `evaluators` and
        `evaluator` themselves.
        """
        super().__init_subclass__(**keywords)
        lacks_table = getattr(cls.evaluator_table, "__isabstractmethod__", False)
        if lacks_table and cls.evaluators is not Domain.evaluators and cls.evaluator is not Domain.evaluator:
            cls.evaluator_table = _table_of_old_members  # type: ignore[assignment,method-assign]


def _table_of_old_members(domain: Domain) -> dict[str, EvaluatorEntry]:
    """The table of a domain that defines `evaluators`, `second_evaluators` and `evaluator` itself."""
    uses: dict[Use, Mapping[str, Any]] = {
        "primary": domain.evaluators(),
        "secondary": domain.second_evaluators(),
    }
    return {
        name: EvaluatorEntry(role, use, functools.partial(domain.evaluator, name))
        for use, roles in uses.items()
        for name, role in roles.items()
    }


# ---------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class StructureEdit:
    """What a state dict cannot say about a network: a pruned channel count, a low-rank split, an
    activation quantizer.
    """

    path: str  # of the module in the network, for example `model.layers.0.mlp`
    # what the edit does: one of `bench.artifact.structure.KINDS`, or a kind that `Generator.rebuild` repeats
    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)  # of the edit, as JSON


@dataclass(frozen=True)
class Layout:
    """How a tensor becomes a matrix whose rows share a scale: output channels first, each cut into groups of
    `group` weights.

    Example: `Layout("group", axis=0, group=64)`.

    A grouped transposed convolution has several `blocks`: equal parts along axis 0, which each have output
    channels of their own. So `blocks=2` of a weight [in, out / 2, ...] gives `out` channels.
    """

    # `tensor`: one row; `channel`: one row a channel; `group`: several, the last one padded with zeros
    granularity: str = "channel"
    axis: int = 0  # of the output channels
    group: int = 0  # weights a row, for `group` only
    blocks: int = 1  # parts along axis 0 whose channels are not the same; above 1 only where axis > 0
    # a file holds the first weight of each channel, then the second ones, and so on; rows stay as they are
    by_column: bool = False

    def rows(self, tensor: Tensor) -> Tensor:
        """[..., channels at axis, ...] -> [rows, n]: one row for each scale."""
        import torch.nn.functional as F

        if not tensor.ndim or self.granularity == "tensor":
            return (self._channels_first(tensor) if tensor.ndim else tensor).reshape(1, -1)
        channels = self._channels_first(tensor).flatten(1) if tensor.ndim > 1 else tensor[:, None]
        if self.granularity == "group":
            rest = -channels.shape[1] % self.group
            channels = (F.pad(channels, (0, rest)) if rest else channels).reshape(-1, self.group)
        return channels.contiguous()

    def restore(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[rows, n] -> [*shape], contiguous: the inverse of `rows`."""
        if self.granularity == "group":
            rows = rows.reshape(self.channels(shape), -1)[:, : self.channel_length(shape)]
        return self._from_channels(rows.reshape(-1), shape)

    def each(self, of_rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[rows] -> [*shape]: what each weight's row has, such as its scale."""
        import torch

        width = self.rows(torch.empty(shape, device="meta")).shape[1]
        return self.restore(of_rows[:, None].expand(-1, width), shape)

    def flat(self, tensor: Tensor) -> Tensor:
        """[*shape] -> [numel]: the order in which a file holds weights, without padding."""
        channels = self._channels_first(tensor) if tensor.ndim else tensor
        if self.by_column:
            channels = channels.reshape(self.channels(tuple(tensor.shape)), -1).T
        return channels.reshape(-1)

    def unflat(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[numel] -> [*shape]: the inverse of `flat`."""
        if self.by_column:
            flat = flat.reshape(-1, self.channels(shape)).T.reshape(-1)
        return self._from_channels(flat, shape)

    def _from_channels(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[numel], one channel after the other -> [*shape]."""
        if not shape:
            return flat.reshape(())
        others = [size for i, size in enumerate(shape) if i != self.axis]
        if self.blocks == 1:
            return flat.reshape(shape[self.axis], *others).movedim(0, self.axis).contiguous()
        parts = flat.reshape(self.blocks, shape[self.axis], others[0] // self.blocks, *others[1:])
        return parts.movedim(1, self.axis + 1).flatten(0, 1).contiguous()

    def _channels_first(self, tensor: Tensor) -> Tensor:
        """[..., channels at axis, ...] -> [channels, ...]; the channels of the first block come first."""
        if self.blocks == 1:
            return tensor.movedim(self.axis, 0)
        parts = tensor.unflatten(0, (self.blocks, tensor.shape[0] // self.blocks))
        return parts.movedim(self.axis + 1, 1).flatten(0, 1)

    def channels(self, shape: tuple[int, ...]) -> int:
        """Output channels of a tensor of this shape."""
        return shape[self.axis] * self.blocks

    def channel_length(self, shape: tuple[int, ...]) -> int:
        """Weights of one output channel of a tensor of this shape."""
        return math.prod(size for i, size in enumerate(shape) if i != self.axis) // self.blocks

    def row_count(self, shape: tuple[int, ...]) -> int:
        """Rows of the matrix that a tensor of this shape becomes: how many scales it has."""
        if not shape or self.granularity == "tensor":
            return 1
        groups = -(-self.channel_length(shape) // self.group) if self.granularity == "group" else 1
        return self.channels(shape) * groups


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it is written: plain values, or indices into a code book that each row of a layout scales
    for itself.

    value[i] = sum over planes p of scales[p, row(i)] * codebook[p][indices[i]],   exactly 0 where mask[i] is
    False. A product of two small factors may be added to that.

    One plane is the usual scaled grid; two are a grid with an offset (the second plane all ones), or two
    binary bases.
    """

    shape: tuple[int, ...]  # of the tensor in the network
    values: Tensor | None = None  # plain: float16 or float32 (buffers: any dtype), [*shape]
    indices: Tensor | None = None  # uint8, or int16 above 256 levels, [*shape]
    # [planes][levels]; the values that an index stands for, before scaling
    codebook: tuple[tuple[float, ...], ...] = ()
    scales: Tensor | None = None  # float16 [planes, rows]
    layout: Layout = Layout()  # which weights form a row
    mask: Tensor | None = None  # bool [*shape]; True = kept
    pattern: tuple[int, int] | None = None  # (n, m): the mask keeps n of every m weights of a channel
    # the kept indices, in the order of a file, are a path through a trellis of 2^trellis states; 0: they are
    # free. A file then needs fewer bits for them (`bench.artifact.trellis`); values do not depend on it.
    trellis: int = 0
    # (left [channels, rank], right [rank, weights of a channel]): their product is added to the values
    factors: tuple[StoredTensor, StoredTensor] | None = None

    @property
    def quantized(self) -> bool:
        """Whether it is stored as indices into a code book."""
        return self.indices is not None

    @property
    def levels(self) -> int:
        """How many values a weight of one row can have; 0 for plain values."""
        return len(self.codebook[0]) if self.codebook else 0

    def dequantize(self) -> Tensor:
        """`[*shape]`: the tensor that the network computes with, float32 (a plain integer buffer keeps its
        type).
        """
        import torch

        dense = self._before_mask()
        if self.factors is not None:
            dense = self._with_product(dense, *self.factors)
        return dense if self.mask is None else torch.where(self.mask, dense, torch.zeros_like(dense))

    def residual(self) -> StoredTensor:
        """What is stored beside the factors; all of it where there are none."""
        return self if self.factors is None else dataclasses.replace(self, factors=None)

    def _before_mask(self) -> Tensor:
        """The values without factors and without the mask."""
        import torch

        if self.indices is not None and self.scales is not None:
            rows = self.layout.rows(self.indices).int()
            planes = torch.tensor(self.codebook, dtype=torch.float32, device=rows.device)
            dense = planes[0][rows] * self.scales[0].float()[:, None]
            for levels, scales in zip(planes[1:], self.scales[1:]):
                dense += levels[rows] * scales.float()[:, None]
            dense = self.layout.restore(dense, self.shape)
        else:
            assert self.values is not None
            dense = self.values.float() if self.values.is_floating_point() else self.values
        return dense

    def _with_product(self, dense: Tensor, left: StoredTensor, right: StoredTensor) -> Tensor:
        """Add left x right. Each product and each sum is rounded, one rank after the other, so that every
        machine gets the same.
        """
        columns, rows = left.dequantize(), right.dequantize()
        channels = Layout(axis=self.layout.axis, blocks=self.layout.blocks)
        matrix = channels.rows(dense).clone()
        size = max(1, 2**18 // max(matrix.shape[1], 1))  # bounds the memory
        for part, own in zip(matrix.split(size), columns.split(size)):
            product = own[:, :1] * rows[:1]
            for rank in range(1, len(rows)):
                product += own[:, rank, None] * rows[rank]
            part += product
        return channels.restore(matrix, self.shape)


@dataclass(frozen=True)
class Compressed:
    """What one method, or a chain of them, made of a network."""

    network: Module  # the original; methods read its layer types and never write to it
    # every parameter and persistent buffer; tied ones once, under their first name
    tensors: Mapping[str, StoredTensor]
    structure: tuple[StructureEdit, ...] = ()  # what changed of the network itself, in order
    touched: frozenset[str] = frozenset()  # names of tensors that a method stored again
    # compressible-looking tensor -> why it was left alone
    untouched: Mapping[str, str] = field(default_factory=dict)
    # what each training-time method did, in order: its text, steps, core-seconds and log, as JSON
    trainings: tuple[Mapping[str, Any], ...] = ()
    # tensor that a calibrated method compressed without knowing its inputs -> why
    uncalibrated: Mapping[str, str] = field(default_factory=dict)
    # a method's text -> {layer or operation that it left as it was: why}
    exceptions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # what each method of another project's tool did: `bench.records.schema.ToolReport`, as JSON
    tools: tuple[Mapping[str, Any], ...] = ()

    def replace(
        self, tensors: Mapping[str, StoredTensor], untouched: Mapping[str, str] | None = None
    ) -> Compressed:
        """A copy with some tensors replaced; `untouched` adds tensors that were left alone, with the
        reason.
        """
        return dataclasses.replace(
            self,
            tensors={**self.tensors, **tensors},
            touched=self.touched | frozenset(tensors),
            untouched={k: v for k, v in {**self.untouched, **(untouched or {})}.items()},
        )


@dataclass(frozen=True)
class Context:
    """What a method may look at. Never the reference data."""

    # for methods that need calibration or training; None: they are not available
    generator: Generator | None = None
    seed: int = 0  # of all that the method draws
    device: str = "cpu"  # where the network is
    excluded: Mapping[str, str] = field(default_factory=dict)  # tensors that must stay as they are -> why
    # the model's folder, where it has one: it may ship results of training-time methods
    folder: Path | None = None

    @property
    def kept(self) -> Mapping[str, str]:
        """The old name of `excluded`."""
        return self.excluded


class Method(ABC):
    """One way to compress.

    Subclasses are frozen dataclasses: their fields are the settings that a user may write.

    Example: a field `sparsity: float = 0.5` of the method `magnitude` is written `magnitude:sparsity=0.5`.
    """

    name: ClassVar[str]  # as in the entry point that names the class
    description: ClassVar[str]  # one line for `bench list`
    # raise it when the artifact changes: older records no longer count as finished
    version: ClassVar[int] = 1
    # whether it chooses indices into a grid: a chain may hold one such method
    quantizes: ClassVar[bool] = False
    trains: ClassVar[bool] = False  # whether it trains the network, which takes minutes or hours
    calibrates: ClassVar[bool] = False  # whether it needs `Generator.calibration`
    # whether it gives weights new values, so that in a chain no quantizer may come before it
    rewrites: ClassVar[bool] = False

    @property
    def text(self) -> str:
        """The shortest canonical text of the method.

        It omits settings at their defaults, except those that are always shown (metadata `shown`). Those with
        the metadata `leads` come first.
        """
        values = []
        for own in sorted(dataclasses.fields(self), key=lambda own: not own.metadata.get("leads", False)):  # type: ignore[arg-type]
            value = getattr(self, own.name)
            if value == own.default and not own.metadata.get("shown"):
                continue
            if isinstance(value, bool):
                values.append(own.name if value else f"{own.name}=false")
            else:  # the str of a float is exact
                shown = str(value).removesuffix(".0") if isinstance(value, float) else str(value)
                values.append(f"{own.name}={shown}")
        return self.name + (":" if values else "") + ",".join(values)

    @classmethod
    def missing(cls) -> str | None:
        """Which package the method needs and does not find, with the command that installs it; None: none.

        `bench list` shows it, and the method's contracts are then skipped.
        """
        return None

    @abstractmethod
    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        """A copy of `compressed` with some tensors stored in another way; the input stays as it is.

        Zeros of an earlier pruning stay zeros, quantized tensors stay quantized, and `context.excluded` stays
        as it is. Raises `bench.errors.Unsupported` when the method cannot be applied to this network.
        """


# ---------------------------------------------------------------------------------------------------- metrics


@dataclass(frozen=True)
class Metric:
    """One of a domain's own numbers: how it is read, and how it is computed from samples where no more is
    needed.
    """

    name: str  # as in records, for example `bits_per_byte`
    description: str  # one line for `bench list`
    direction: Direction  # which way is better
    unit: str = ""  # for example `bits`; "": a plain number
    # (generated, real); None: `likelihood` gives it
    compute: Callable[[SampleFeatures, SampleFeatures], float] | None = None
    headline: bool = False  # has a column in the leaderboard's first table
    version: int = 1  # raise it when values change

    def __post_init__(self) -> None:
        """Raises `bench.errors.BadInput` for an unknown direction, and for a name that no metric may have."""
        _allowed("direction", self.direction, Direction, f"metric {self.name!r}")
        if not self.name or self.name.startswith(("quality_", "diversity_")):
            raise BadInput(
                f"name {self.name!r} of a metric is not possible; allowed: any that does not begin with "
                f"quality_ or diversity_"
            )


# The names of version 0.1's first drafts, for plug-ins that still import them.
Native, Observed, View, Stored, Edit = Samples, SampleFeatures, Features, StoredTensor, StructureEdit
