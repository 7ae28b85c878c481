"""Lists domains, methods and metrics by name without importing them, and imports them at first use.

Each table holds this project's own entries and those of installed packages, which register entry points of
the group `gencompress.domains`, `gencompress.methods`, `gencompress.metrics` or `gencompress.runtimes`:
`name = "module:attribute"`.
A plug-in that cannot be imported affects only itself.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput, of_plug_in, unknown

if TYPE_CHECKING:
    from bench.interfaces import Domain, ModelSpec


PACKAGE = "gencompress"
EDGE_FOLDER = "edge"  # below the results: records of another kind (`bench.records.edge`)
NO_DOMAINS = ("local", "reproduced", EDGE_FOLDER)  # folders below the results that hold other records


class Registry(Mapping[str, str]):
    """Name -> "module:attribute", with one line of description each.

    named: whether what is found has to carry the name of its entry point.
    """

    def __init__(self, kind: str, own: Mapping[str, tuple[str, str]], named: bool = True) -> None:
        self.kind, self.group, self.own, self.named = kind, f"{PACKAGE}.{kind}s", own, named

    @functools.cached_property
    def _targets(self) -> dict[str, str]:
        found = {name: target for name, (target, _) in self.own.items()}
        for point in entry_points(group=self.group):
            found.setdefault(point.name, point.value)
        return found

    def __getitem__(self, name: str) -> str:
        return self._targets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def describe(self, name: str) -> str:
        """The description in one line.

        For a plug-in it is the place that it comes from, so nothing is imported.
        """
        return self.own[name][1] if name in self.own else f"from {self[name].split(':')[0]}"

    @functools.cached_property
    def published(self) -> frozenset[str]:
        """The names that come with this package. Their versions are checked by golden values."""
        points = entry_points(group=self.group)
        theirs = {p.name for p in points if p.dist is not None and p.dist.name == PACKAGE}
        return frozenset(theirs | set(self.own))

    def load(self, name: str) -> Any:
        """Import the attribute.

        Raises `BadInput` for an unknown name and for a plug-in that cannot be imported.
        """
        if name not in self:
            raise unknown(self.kind, name, self)
        module, _, attribute = self[name].partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:  # whatever its author's code raises
            raise BadInput(
                f"{self.kind} {name!r} ({self[name]}) cannot be imported: {of_plug_in(error)}"
            ) from error
        if self.named and (called := getattr(found, "name", None)) != name:
            raise BadInput(
                f"{self.kind} {name!r} ({self[name]}) has the name {called!r}; allowed: that of its entry "
                f"point, {name!r}"
            )
        return found


DOMAINS = Registry("domain", {})  # our own domains come through entry points as everybody's do


METRICS = Registry("metric", {})  # of users; a domain's own metrics are in its `metrics`


RUNTIMES = Registry(  # of `bench edge`
    "runtime",
    {
        "eager": ("bench.edge.runtimes.eager:Eager", "PyTorch, operation by operation"),
        "compile": ("bench.edge.runtimes.compiled:Compiled", "PyTorch with torch.compile"),
    },
)


def open_domain(name: str, reference: str | None = None) -> Domain:
    """Construct a domain, for real samples of the user's where `reference` names them.

    Raises `BadInput` for an unknown domain, for one whose code fails, and for a name that it cannot have.
    """
    kind = DOMAINS.load(name)
    if name in NO_DOMAINS:
        raise BadInput(
            f"domain {name!r} ({DOMAINS[name]}) needs another name: results/{name} is a folder of other "
            f"records"
        )
    try:
        domain: Domain = kind()
        return domain if reference is None else domain.with_reference(reference)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"domain {name!r} ({DOMAINS[name]}) cannot be opened: {of_plug_in(error)}") from error


def open_all(names: Iterable[str], say: Callable[[str], None]) -> list[Domain]:
    """Construct several domains. One that cannot be opened is reported, and the others go on."""
    found = []
    for name in names:
        try:
            found.append(open_domain(name))
        except BadInput as error:
            say(f"left out: {error}")
    return found


def default_model(domain: Domain) -> ModelSpec:
    """The first model that ships with the domain. Raises `BadInput` where the domain ships none."""
    for spec in domain.models.values():
        return spec
    raise BadInput(f"domain {domain.name!r} ships no model; name one with --model")


GRID_SETTINGS = "granularity=channel|tensor, group=G, asym, scale=mse|minmax"
METHODS = Registry(
    "method",
    {
        "none": ("bench.methods.plain:NoCompression", "the baseline: plain float32 tensors"),
        "fp16": ("bench.methods.plain:Half", "every tensor as float16 (lossless for the embedded models)"),
        **{
            f"int{b}": (f"bench.methods.quantize:Int{b}", f"uniform, {b} bits; {GRID_SETTINGS}")
            for b in range(8, 1, -1)
        },
        **{
            f"w{b}a8": (
                f"bench.methods.quantized_inputs:W{b}A8",
                f"int{b}, and inputs of layers with 8 bits, simulated in floats; activations=static|dynamic",
            )
            for b in (8, 4)
        },
        "ternary": ("bench.methods.quantize:Ternary", "-s, 0, s per output channel, optimal threshold"),
        "binary": (
            "bench.methods.quantize:Binary",
            "sign times the mean magnitude of each output channel; residual=2 for two of them",
        ),
        "nf4": ("bench.methods.quantize:NF4", "16 levels at the quantiles of a Gaussian, per group of 64"),
        "ecsq": (
            "bench.methods.entropy_coded:EntropyCoded",
            "entropy-coded uniform steps, rate-distortion optimised; bits=2, 1.6 ...",
        ),
        "gptq": (
            "bench.methods.calibrated_rounding:Gptq",
            "uniform, rounding errors fed forward on calibration inputs; bits=4, group=G",
        ),
        "adaround": (
            "bench.methods.calibrated_rounding:AdaRound",
            "uniform, rounding up or down learnt on calibration inputs; bits=4, group=G",
        ),
        "brecq": (
            "bench.methods.block_rounding:Brecq",
            "adaround, learnt together by the layers of a block; bits=4, group=G",
        ),
        "tcq": (
            "bench.methods.trellis_coded:TrellisCoded",
            "trellis-coded uniform steps, entropy-coded; bits=2, 1.5 ..., states=4 ... 256",
        ),
        "ldlq": (
            "bench.methods.fed_trellis:FedTrellis",
            "tcq by columns, errors fed forward on calibration inputs; bits=2, 1.5 ..., states=4 ... 256",
        ),
        "codebook": (
            "bench.methods.codebook:CodeBook",
            "2^bits levels of each tensor by k-means (Lloyd-Max); bits=3, granularity, group",
        ),
        "lowrank": (
            "bench.methods.low_rank:LowRank",
            "the largest singular values in two factors, rank=8, bits=16|8; the next link quantizes the rest",
        ),
        "magnitude": (
            "bench.methods.prune:Magnitude",
            "the smallest weights become zero; sparsity=0.5, scope=layer|global",
        ),
        "nm": (
            "bench.methods.prune:Structured",
            "of every m weights of a channel the n largest stay; written 2:4",
        ),
        "wanda": (
            "bench.methods.calibrated_pruning:Wanda",
            "small weights of small inputs become zero; sparsity=0.5 or pattern=2:4",
        ),
        "sparsegpt": (
            "bench.methods.calibrated_pruning:SparseGpt",
            "pruning whose errors the other weights make good; sparsity=0.5 or pattern=2:4",
        ),
        "channels": (
            "bench.methods.channels:Channels",
            "whole channels and heads of smallest magnitude are removed, by torch-pruning; keep=0.75",
        ),
        "random": (
            "bench.methods.prune:RandomPruning",
            "weights drawn by lot become zero: the null of pruning; sparsity=0.5, seed=0",
        ),
        "recalibrate": (
            "bench.methods.recalibrate:Recalibrate",
            "running statistics estimated again on the generator's own inputs; last of a chain",
        ),
        "qat": (
            "bench.methods.trained:QuantizationAwareTraining",
            "trains with the values of a grid; grid=int8 ... binary, scales, ends; start, budget, rate, "
            "seed, networks, teacher",
        ),
        "parq": (
            "bench.methods.parq:Parq",
            "PARQ of torchao (extra [tools]): trains towards grid=binary or ternary; anneal, ends; start, "
            "budget, rate, seed, networks, teacher",
        ),
        "prune_train": (
            "bench.methods.trained:PruneWhileTraining",
            "prunes gradually while training; sparsity=0.5 or pattern=2:4; start, budget, rate, seed, "
            "networks, teacher",
        ),
        "finetune": (
            "bench.methods.trained:Finetune",
            "the control: trains further without compression; start, budget, rate, seed, teacher",
        ),
        "permute": ("bench.methods.plain:Permute", "weights permuted within each tensor: the floor; seed=0"),
    },
)
