"""The contracts. A domain, a method or a metric is one class that keeps one of these; nothing here imports anything local.

How they meet, for one cell (`bench/runner/run_cell.py`):

    generator = domain.open(spec, device, settings)           # the network, with its frozen companions
    compressed = method(none(generator.network), context)     # what to store for each tensor
    network = rebuild(artifact, generator)                    # from the file's bytes alone
    samples = generator.sample(network, n, seed)              # native samples: texts, images, points ...
    features = evaluator.features(samples)                    # [n, d]: what the metrics look at
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor
    from torch.nn import Module

Samples = Any  # a sequence of samples as their domain knows them: a list of texts, an array [n, c, h, w] ...
Role = Literal["quality", "diversity"]
Hurts = Literal["nothing", "surface", "variety", "both", "foreign"]
Direction = Literal["higher", "lower", "none"]  # which way is better; "none": nearest to the real data's value is best
Wrap = Callable[[str, "Module"], "Module"]


# ---------------------------------------------------------------------------------------------------------- models


@dataclass(frozen=True)
class ModelSpec:
    """One trained generator: where its weights lie and what must be said about them."""

    name: str  # `s@0`, or the folder or hub id that the user gave
    source: str  # a local folder or a hub id
    licence: str = "unknown"
    parameters: int | None = None
    train_seed: int | None = None
    excluded: Mapping[str, str] = field(default_factory=dict)  # tensor that is never compressed -> why
    description: str = ""
    samples_seen: int | None = None  # in training, repeats counted


class Generator(ABC):
    """A network together with what it needs to make samples: tokenizer, scheduler, start noise."""

    network: Module  # the one module that is compressed
    macs_sample_count: ClassVar[int] = 100  # samples drawn to count operations: whole batches, where samples are drawn in fixed ones

    def __init_subclass__(cls, **keywords: Any) -> None:
        """A generator written before these members were renamed keeps working."""
        super().__init_subclass__(**keywords)
        for old, new in {"opinion": "auxiliary_scores", "counted_on": "macs_sample_count"}.items():
            if old in vars(cls) and new not in vars(cls):
                setattr(cls, new, vars(cls)[old])

    @abstractmethod
    def rebuild(self, structure: Sequence[StructureEdit]) -> Module:
        """An empty network of the recorded structure; the artifact's tensors are loaded into it."""

    @abstractmethod
    def sample(self, network: Module, n: int, seed: int) -> Samples:
        """`n` native samples. The same seed gives twins: the same noise, whatever the network, the batch size or `n`.

        Raises `bench.errors.Diverged` when the network's output is not finite.
        """

    def likelihood(self, network: Module, base: Module | None = None) -> dict[str, float] | None:
        """Held-out likelihood figures by name, compared with `base` where given; None where the model has no likelihood."""
        return None

    def auxiliary_scores(self, samples: Samples) -> dict[str, float]:
        """What frozen companions say of samples, by name: a discriminator's p(real). Interested parties, never evaluators."""
        return {}

    def calibration(self, seed: int) -> Iterator[tuple[tuple[Any, ...], Mapping[str, Any]]]:
        """What the network is called with when it samples, (args, kwargs) batch by batch, made when asked for; never real data.

        A domain whose networks have no running statistics may leave it out.
        """
        raise LookupError(f"{type(self).__name__} has no calibration batches")

    def training(self, network: Module, seed: int, wrap: Wrap | None = None) -> Training:
        """The recipe that trains `network`; `wrap(name, module)` is applied before any optimizer exists.

        Training-time methods use this; a domain whose models cannot be trained here leaves it out.
        """
        raise LookupError(f"{type(self).__name__} has no training recipe")

    def identity(self) -> str:
        """What the samples depend on beside tensors and settings: the network's configuration, a tokenizer. A hash, or a name."""
        return ""

    def settings(self) -> dict[str, Any]:
        """The sampler's settings. They belong to the cell: other settings are another measurement."""
        return {}


class Training(ABC):
    """One run of a recipe, one step at a time, so that it can be stopped and resumed anywhere."""

    networks: dict[str, Module]
    total_steps: int
    step_number: int
    keeps_snapshots: ClassVar[bool] = False  # a frozen model at each tenth of the steps, so that its quality over time can be measured

    def identity(self) -> str:
        """Of recipe, data and seed: a checkpoint of another training is never continued."""
        return ""

    def shorten(self, steps: int) -> None:
        """Fewer or more steps than the recipe's, its schedule stretched to them: another model than the published one."""
        self.total_steps = steps

    @abstractmethod
    def step(self) -> dict[str, float]:
        """One optimizer step -> losses by name."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]: ...

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures on the validation reference, never on the test reference."""

    @abstractmethod
    def freeze(self, folder: Path) -> None:
        """Write the finished model (averaged weights, rounded to fp16) to `folder`, as `open` reads it."""


# ------------------------------------------------------------------------------------------------------ evaluators


@dataclass(frozen=True)
class Features:
    """One evaluator's features of a set of samples."""

    features: Tensor  # [n, d] float32
    surprisal: Tensor | None = None  # [n] float32, only from evaluators of quality


@dataclass(frozen=True)
class SampleFeatures:
    """Samples, and the features that each evaluator of their domain computes from them."""

    samples: Samples
    by_evaluator: Mapping[str, Features]

    @property
    def views(self) -> Mapping[str, Features]:
        """The old name of `by_evaluator`."""
        return self.by_evaluator


class Evaluator(ABC):
    """A pre-trained model that turns samples into features, for one role."""

    name: ClassVar[str]
    role: ClassVar[Role]
    version: ClassVar[int] = 1

    def identity(self) -> str:
        """What the features depend on beside name and version, where one class serves several weights: a hash. Part of the cache's keys."""
        return ""

    @abstractmethod
    def features(self, samples: Samples) -> Tensor:
        """[n, d] float32. A sample's features depend on that sample alone."""

    def surprisal(self, samples: Samples) -> Tensor:
        """[n] float32, in nats; high = unlike the real data. Only for the role `quality`."""
        raise LookupError(f"evaluator {self.name!r} has no surprisal")


class Task(ABC):
    """What people want samples for: something is trained on them, and tried on real data."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    description: ClassVar[str]

    @abstractmethod
    def score(self, samples: Samples) -> np.ndarray:
        """[real items] float: how well what was trained on the samples does on each; higher is better, the mean is the utility."""


@dataclass(frozen=True)
class Damage:
    """A known way to spoil real samples, and what a good pair of evaluators must see of it.

    Bounds are shares of what undamaged real samples score. Damages of `variety` keep each item whole, so that validity
    must be exactly the mean of the same items' validity.
    """

    hurts: Hurts
    apply: Callable[[Samples], Samples]
    valid: tuple[float, float] = (0.0, math.inf)
    mutual_recall: tuple[float, float] = (0.0, math.inf)
    milder: str | None = None  # validity must lie at least 3 points below that of this damage ("" = undamaged)


# --------------------------------------------------------------------------------------------------------- domains


class Domain(ABC):
    """A kind of data: its models, its real samples, its evaluators. Importing or constructing one loads no model."""

    name: ClassVar[str]
    description: ClassVar[str]
    version: ClassVar[int] = 1

    @property
    @abstractmethod
    def models(self) -> Mapping[str, ModelSpec]:
        """The models that ship with the domain, by name; the first is the default."""

    @abstractmethod
    def open(self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None) -> Generator: ...

    @abstractmethod
    def evaluators(self) -> Mapping[str, str]:
        """Evaluator name -> its role; the first of each role is the primary one."""

    def second_evaluators(self) -> Mapping[str, str]:
        """Others, of another kind -> role: they judge the same samples, and are asked whether they agree.

        They are in no cell's name, so that one may be added when there are records (`bench judge`).
        """
        return {}

    @abstractmethod
    def evaluator(self, name: str, device: str = "cpu") -> Evaluator: ...

    def optional_evaluator(self, name: str, device: str = "cpu") -> Evaluator | None:
        """A further one that judges only where the user names it, since its weights are not shipped; None: not known here.

        Raises `bench.errors.BadInput` when it is known, and what it needs cannot be had.
        """
        return None

    @abstractmethod
    def reference(self, split: str = "test", source: str | None = None) -> Samples:
        """All real samples of a split: `test`, `validation` or `ceiling`. Needs no generator.

        `source` takes them from a file, a folder or a hub id of the user's instead (`bench.data.load_rows`), without repeats.
        """

    @abstractmethod
    def damages(self) -> Mapping[str, Damage]: ...

    def task(self, device: str = "cpu") -> Task | None:
        """What samples of this kind are good for; None where nobody has said."""
        return None

    @abstractmethod
    def read_samples(self, path: Path) -> Samples:
        """Raises `bench.errors.BadInput` when the file cannot be read as this domain's samples."""

    @abstractmethod
    def write_samples(self, samples: Samples, path: Path) -> Path:
        """Write samples so that `read_samples` gives them back; `path` has no suffix yet -> the path written."""

    def metrics(self) -> Mapping[str, Metric]:
        """The domain's own metrics, by name, beside those that all domains share."""
        return {}

    def locate(self, model: str) -> ModelSpec:
        """The spec of a model's name, or of a folder or hub id that this domain can open.

        Raises `bench.errors.BadInput` when the name leads to no model.
        """
        from bench.errors import unknown

        if model not in self.models:
            raise unknown("model", model, self.models)
        return self.models[model]

    def show(self, columns: Mapping[str, Samples], path: Path) -> Path | None:
        """Twins side by side (column title -> samples), written so that a person can look at them."""
        return None

    def is_training_sample(self, samples: Samples) -> list[bool] | None:
        """For each sample, whether the training part holds it word for word; None where nobody can tell."""
        return None

    def traits(self, samples: Samples) -> Mapping[str, np.ndarray]:
        """What each sample is like, by name: a finite number or a label a sample, [n]. Each depends on that sample alone.

        `bench describe` tells survival apart by them: length, class ... (`surprisal` and `rarity` are there in every domain.)
        """
        return {}

    def optional_metric(self, name: str, device: str = "cpu") -> Metric | None:
        """A metric that is computed only where the user names it, since it needs weights that are not shipped; None: not known here.

        Raises `bench.errors.BadInput` when it is known, and what it needs cannot be had.
        """
        return None

    def trainings(self) -> Mapping[str, str]:
        """What `bench train` can make here: name -> one line."""
        return {}

    def grid(self) -> Sequence[str]:
        """The models that the published comparison consists of, in the order in which they are made: what `train` without --model makes."""
        return ()

    def train(self, name: str, data: str | None, device: str) -> Training:
        """The recipe that makes `name` from scratch."""
        raise LookupError(f"domain {self.name!r} cannot train {name!r}")


# --------------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class StructureEdit:
    """What a state dict cannot say about a network: a pruned channel count, a low-rank split, an activation quantizer."""

    path: str
    kind: str
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """How a tensor becomes a matrix whose rows share a scale: output channels first, each cut into groups of `group` weights.

    `granularity` is `tensor` (one row), `channel` (a row a channel) or `group` (a channel's last row is padded with zeros).
    """

    granularity: str = "channel"
    axis: int = 0  # of the output channels
    group: int = 0  # weights a row, for `group` only

    def rows(self, tensor: Tensor) -> Tensor:
        """[..., channels at axis, ...] -> [rows, n]"""
        import torch.nn.functional as F

        if not tensor.ndim or self.granularity == "tensor":
            return self.flat(tensor).reshape(1, -1)
        channels = tensor.movedim(self.axis, 0).flatten(1) if tensor.ndim > 1 else tensor[:, None]
        if self.granularity == "group":
            rest = -channels.shape[1] % self.group
            channels = (F.pad(channels, (0, rest)) if rest else channels).reshape(-1, self.group)
        return channels.contiguous()

    def restore(self, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
        """[rows, n] -> the tensor, contiguous: the inverse of `rows`."""
        if self.granularity == "group":
            rows = rows.reshape(shape[self.axis], -1)[:, : self.channel_length(shape)]
        return self.unflat(rows, shape)

    def flat(self, tensor: Tensor) -> Tensor:
        """The order in which a file holds weights, without padding: [numel]."""
        return (tensor.movedim(self.axis, 0) if tensor.ndim else tensor).reshape(-1)

    def unflat(self, flat: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The inverse of `flat`."""
        if not shape:
            return flat.reshape(())
        moved = [shape[self.axis], *(size for i, size in enumerate(shape) if i != self.axis)]
        return flat.reshape(moved).movedim(0, self.axis).contiguous()

    def channel_length(self, shape: tuple[int, ...]) -> int:
        """Weights of one output channel."""
        return math.prod(size for i, size in enumerate(shape) if i != self.axis)

    def row_count(self, shape: tuple[int, ...]) -> int:
        """Rows of the matrix that a tensor of this shape becomes: how many scales it has."""
        if not shape or self.granularity == "tensor":
            return 1
        groups = -(-self.channel_length(shape) // self.group) if self.granularity == "group" else 1
        return shape[self.axis] * groups


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it is written: plain values, or indices into a code book that each row of a layout scales for itself.

    value[i] = sum over planes p of scales[p, row(i)] * codebook[p][indices[i]],   exactly 0 where mask[i] is False

    One plane is the usual scaled grid; two are a grid with an offset (the second plane all ones), or two binary bases.
    """

    shape: tuple[int, ...]
    values: Tensor | None = None  # plain: float16 or float32 (buffers: any dtype), [*shape]
    indices: Tensor | None = None  # uint8, or int16 above 256 levels, [*shape]
    codebook: tuple[tuple[float, ...], ...] = ()  # [planes][levels]
    scales: Tensor | None = None  # float16 [planes, rows]
    layout: Layout = Layout()
    mask: Tensor | None = None  # bool [*shape]; True = kept
    pattern: tuple[int, int] | None = None  # (n, m): the mask keeps n of every m weights of a channel

    @property
    def quantized(self) -> bool:
        return self.indices is not None

    @property
    def levels(self) -> int:
        """How many values a weight of one row can have."""
        return len(self.codebook[0]) if self.codebook else 0

    def dequantize(self) -> Tensor:
        """The tensor that the network computes with: float32 (a plain integer buffer keeps its type)."""
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
        return dense if self.mask is None else torch.where(self.mask, dense, torch.zeros_like(dense))


@dataclass(frozen=True)
class Compressed:
    """What one method, or a chain of them, made of a network."""

    network: Module  # the original; methods read its layer types and never write to it
    tensors: Mapping[str, StoredTensor]  # every parameter and persistent buffer; tied ones once, under their first name
    structure: tuple[StructureEdit, ...] = ()
    touched: frozenset[str] = frozenset()
    untouched: Mapping[str, str] = field(default_factory=dict)  # compressible-looking tensor -> why it was left alone

    def replace(self, tensors: Mapping[str, StoredTensor], untouched: Mapping[str, str] | None = None) -> Compressed:
        """A copy with some tensors stored anew."""
        return dataclasses.replace(
            self,
            tensors={**self.tensors, **tensors},
            touched=self.touched | frozenset(tensors),
            untouched={k: v for k, v in {**self.untouched, **(untouched or {})}.items()},
        )


@dataclass(frozen=True)
class Context:
    """What a method may look at. Never the reference data."""

    generator: Generator | None = None
    seed: int = 0
    device: str = "cpu"
    excluded: Mapping[str, str] = field(default_factory=dict)  # tensors that must stay as they are -> why

    @property
    def kept(self) -> Mapping[str, str]:
        """The old name of `excluded`."""
        return self.excluded


class Method(ABC):
    """One way to compress. Subclasses are frozen dataclasses: their fields are the settings that a user may write."""

    name: ClassVar[str]
    description: ClassVar[str]
    version: ClassVar[int] = 1
    quantizes: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        """Store some tensors otherwise; the input stays untouched, and what was already decided stays decided."""


# --------------------------------------------------------------------------------------------------------- metrics


@dataclass(frozen=True)
class Metric:
    """One of a domain's own numbers: how it is read, and how it is computed from samples where no more is needed."""

    name: str
    description: str
    direction: Direction
    unit: str = ""
    compute: Callable[[SampleFeatures, SampleFeatures], float] | None = None  # (generated, real); None: comes from `likelihood`
    headline: bool = False  # has a column in the leaderboard's first table
    version: int = 1


# The names of version 0.1's first drafts, for plug-ins that still import them.
Native, Observed, View, Stored, Edit = Samples, SampleFeatures, Features, StoredTensor, StructureEdit
