"""Structured pruning: whole channels go, so that the network has fewer bytes and fewer operations.

The library torch-pruning (MIT) traces which channels of which layers depend on each other (DepGraph: Fang et
al. 2023, arXiv:2301.12900), and removes those of the smallest magnitude from all of them (Anwar et al. 2017,
arXiv:1512.08571; Li et al. 2017, arXiv:1608.08710). This module says which groups of channels stay whole, and
writes what became of the rest as edits of the structure. So a file needs no torch-pruning to be read.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bench.artifact.format import fill
from bench.artifact.structure import edit_network, resized
from bench.errors import BadInput, Unsupported, not_installed, of_plug_in
from bench.interfaces import Compressed, Context, Method, StoredTensor
from bench.layers import tensors_of, weights_of
from bench.methods.calibration import CONVOLUTIONS, TRANSPOSED, Batch, calibration_of
from bench.methods.plain import half, plain

PACKAGE = "torch-pruning"
NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "PReLU")
PRUNED = ("Linear", "Embedding", *CONVOLUTIONS, *TRANSPOSED, *NORMS)  # layers that torch-pruning can shrink
WHOLE = frozenset({"RNNBase", "RNNCellBase", "MultiheadAttention", "EmbeddingBag"})  # those that it cannot
ATTENTION = ("ScaledDotProduct", "Bmm")  # operators that multiply queries with keys
# names of an attention's projections, as transformers and diffusers call them
PROJECTIONS = (("q_proj", "k_proj", "v_proj"), ("to_q", "to_k", "to_v"), ("query", "key", "value"))
HEADS = ("heads", "num_heads", "num_attention_heads")  # attributes with their number


@dataclass(frozen=True)
class Channels(Method):
    """Keeps the share `keep` of the channels of each layer, and of the heads of each attention.

    Channels that other layers add or concatenate go together: skip connections, norms and tied weights. What
    cannot be pruned stays whole: the network's inputs and outputs, recurrent layers, and attention whose
    heads are unknown. Nothing is trained again; `+recalibrate` or `+finetune` may follow.
    """

    keep: float = field(default=0.75, metadata={"shown": True})

    name = "channels"
    description = "the channels of smallest magnitude are removed, by torch-pruning; keep=0.75"
    rewrites = True
    calibrates = True

    def __post_init__(self) -> None:
        if not 0 < self.keep < 1:
            raise BadInput(f"keep={self.keep:g} of {self.name!r} is outside of (0, 1): give 0.75, say")
        if (reason := self.missing()) is not None:
            raise BadInput(f"method {self.name!r} {reason}")

    @classmethod
    def missing(cls) -> str | None:
        """What must be installed; None: nothing."""
        return not_installed(PACKAGE, "channels")

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        if any(stored.quantized for stored in compressed.tensors.values()):
            raise BadInput(f"{self.name!r} has to come before a quantizer")
        calibration = calibration_of(compressed, context)
        before, batch = calibration.network, calibration.batches[0]
        pruned, whole = smaller(before, batch, self.keep, context.excluded)
        edits = tuple(resized(before, pruned))
        if not edits:
            raise Unsupported(f"no channel can be removed: {'; '.join(sorted(set(whole.values())))[:300]}")
        check_rebuilt(before, pruned, edits, batch)
        own = {name: why for name, why in context.excluded.items() if name in whole}
        made = compressed.replace(
            {
                name: cut(compressed.tensors[name], value.detach())
                for name, value in tensors_of(pruned).items()
                if tuple(value.shape) != compressed.tensors[name].shape
            },
            own,
        )
        return dataclasses.replace(
            made,
            structure=(*made.structure, *edits),
            exceptions={**made.exceptions, self.text: whole},
        )


def cut(stored: StoredTensor, value: Tensor) -> StoredTensor:
    """A tensor with fewer channels, stored as before. Its pruned zeros stay zeros."""
    made = plain(value.clone())
    if stored.values is not None and stored.values.dtype == torch.float16:
        made = half(made)
    return made if stored.mask is None else dataclasses.replace(made, mask=value != 0)


def check_rebuilt(before: nn.Module, pruned: nn.Module, edits: tuple[Any, ...], batch: Batch) -> None:
    """Raises `Unsupported` unless edits give a network that computes what the pruned one does, in the shape
    of the original's outputs.
    """
    again = copy.deepcopy(before)
    edit_network(again, edits)
    fill(again, {name: plain(value.detach()) for name, value in tensors_of(pruned).items()})
    found: list[list[Tensor]] = []
    with torch.no_grad():
        for network in (before, pruned, again):
            try:
                found.append(list(tensors_in(network(*batch[0], **batch[1]))))
            except Exception as error:  # whatever a network's code does with other shapes
                raise Unsupported(
                    f"the network does not work with fewer channels: {of_plug_in(error)}"
                ) from None
    if _shapes(found[0]) != _shapes(found[1]):
        raise Unsupported("without some channels the network has outputs of another shape")
    if not all(map(torch.equal, found[1], found[2])):
        raise Unsupported("the network without some channels cannot be built again from its file")


def _shapes(tensors: Iterable[Tensor]) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors]


def tensors_in(output: Any) -> Iterator[Tensor]:
    """The float tensors of what a network returns."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        yield from tensors_in(list(output.values()))
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from tensors_in(part)


# --------------------------------------------------------------------------------------- the smaller network


def smaller(
    network: nn.Module, batch: Batch, keep: float, excluded: Mapping[str, str]
) -> tuple[nn.Module, dict[str, str]]:
    """(a copy with fewer channels, weights that stay whole -> why). Raises `Unsupported`."""
    made = copy.deepcopy(network).requires_grad_(True)
    with_linear(made)
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            with opaque(made):
                pruning = _Pruning(made, batch, keep, excluded)
            reasons = pruning.run()
    except Exception as error:
        raise Unsupported(f"{PACKAGE} fails: {of_plug_in(error)}") from error
    with_conv1d(network, made)
    tie(network, made)
    follow(network, made)
    shapes = {name: value.shape for name, value in tensors_of(made).items()}
    whole = {}
    for name, weight in weights_of(network).items():
        if shapes[name] == network.get_parameter(name).shape:
            known = (reasons[path] for path in weight.paths if path in reasons)
            whole[name] = next(known, "none of its channels can go")
    return made, whole


class _Pruning:
    """One call of torch-pruning."""

    def __init__(self, network: nn.Module, batch: Batch, keep: float, excluded: Mapping[str, str]) -> None:
        import torch_pruning

        self.network, self.excluded = network, excluded
        self.paths = {module: path for path, module in network.named_modules()}
        self.names = {parameter: name for name, parameter in network.named_parameters()}
        self.holders = {name: tied_holders(network, name) for name in self.names.values()}
        self.share, self.reasons = round(1 - keep, 9), dict[str, str]()
        self.magnitude = torch_pruning.importance.MagnitudeImportance(p=2)
        self.heads = dict(self._heads(network))
        covered = {
            id(parameter)
            for module in network.modules()
            if layer_type(module)
            for parameter in module.parameters(recurse=False)
        }
        ops = torch_pruning.ops
        self.pruner = torch_pruning.pruner.BasePruner(
            network,
            batch,
            self.importance,
            pruning_ratio=self.share,
            in_channel_groups={},  # the library's defaults are shared between calls
            out_channel_groups={},
            num_heads=dict(self.heads),
            prune_num_heads=True,
            prune_head_dims=False,
            head_pruning_ratio=self.share,
            unwrapped_parameters=[
                (parameter, parameter.ndim - 1)
                for parameter in network.parameters()
                if parameter.ndim and id(parameter) not in covered
            ],
            root_module_types=[ops.TORCH_CONV, ops.TORCH_LINEAR, ops.TORCH_EMBED],
            forward_fn=lambda network, batch: network(*batch[0], **batch[1]),
        )

    def run(self) -> dict[str, str]:
        """Remove channels -> {path of a layer in a group that stays whole: why it does}."""
        for group in self.pruner.step(interactive=True):
            if self.may_be_cut(group):
                group.prune()
        return self.reasons

    def importance(self, group: Any) -> Tensor | None:
        """[channels]: their magnitudes; None for a group that stays whole."""
        return self.magnitude(group) if self.may_be_cut(group) else None

    def may_be_cut(self, group: Any) -> bool:
        """Whether the channels of a group may go. If not, the reason is noted for its layers."""
        if (reason := self.reason(group)) is None:
            return True
        for dependency, _ in group:
            if dependency.target.module in self.paths:
                self.reasons.setdefault(self.paths[dependency.target.module], reason)
        return False

    def reason(self, group: Any) -> str | None:
        """Why a group of channels stays whole; None: its least important ones go."""
        has_heads = any(dependency.target.module in self.heads for dependency, _ in group)
        for dependency, _ in group:
            node, is_output = dependency.target, self._prunes_output(dependency)
            if str(node.module).startswith("_OutputOp") or (is_output and not node.outputs):
                return "its channels are an output of the network"
            if "_OpaqueBackward" in str(node.module):
                return "its channels are those of a layer that is computed as a whole"
            if not has_heads and any(name in str(node.module) for name in ATTENTION):
                return "its channels belong to an attention whose heads are not known, or too few"
            if (reason := self._reason_of(node.module)) is not None:
                return reason
        return self._untied(group)

    def _prunes_output(self, dependency: Any) -> bool:
        return bool(self.pruner.DG.is_out_channel_pruning_fn(dependency.handler))

    def _reason_of(self, module: Any) -> str | None:
        """Why a layer or a parameter cannot lose channels; None: it can."""
        if isinstance(module, nn.Parameter):
            name = self.names[module]
            if module.ndim > 1:
                return f"its channels are those of {name}, which belongs to a layer of another type"
            return self.excluded.get(name)
        if module not in self.paths:  # an operation without parameters
            return None
        if layer_type(module) is None and next(module.parameters(recurse=False), None) is not None:
            return f"its channels are those of a {type(module).__name__}"
        if layer_type(module) in TRANSPOSED and module.groups > 1:
            return "its channels are those of a grouped transposed convolution"
        own = (self.names.get(parameter, "") for parameter in module.parameters(recurse=False))
        return next((self.excluded[name] for name in own if name in self.excluded), None)

    def _untied(self, group: Any) -> str | None:
        """Why tied weights forbid a group: it would cut one of their layers alone, or in another way."""
        cuts: dict[nn.Module, set[tuple[int, tuple[int, ...]]]] = {}
        for dependency, places in group:
            module = dependency.target.module
            if module in self.paths and layer_type(module) in ("Linear", "Embedding"):
                is_rows = self._prunes_output(dependency) and layer_type(module) == "Linear"
                cuts.setdefault(module, set()).add((0 if is_rows else 1, tuple(sorted(places))))
        for module in cuts:
            holders = self.holders.get(self.names.get(module.weight, ""), [])  # type: ignore[call-overload]
            if any(cuts.get(other) != cuts[module] for other in holders):
                return "its weight is tied to a layer whose channels would not follow"
        return None

    def _heads(self, network: nn.Module) -> Iterator[tuple[nn.Module, int]]:
        """Projections of an attention -> its heads, where some can go and some stay."""
        for layers, heads in attentions(network):
            if heads - -(-self.share * heads // 1) >= 1:
                yield from ((layer, heads) for layer in layers)


class _Opaque(torch.autograd.Function):
    """One operation in the place of a layer's many."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, *inputs: Tensor) -> Tensor:
        """The output, which depends on the inputs."""
        return output.clone()


@contextlib.contextmanager
def opaque(network: nn.Module) -> Iterator[None]:
    """Show layers that are computed as a whole as one operation each: their own confuse the library."""

    def call(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            outputs = type(layer).forward(layer, *args, **kwargs)
        return shown(outputs, list(tensors_in([args, kwargs])))

    def shown(output: Any, inputs: list[Tensor]) -> Any:
        if isinstance(output, tuple):
            return tuple(shown(part, inputs) for part in output)
        return output if output is None else _Opaque.apply(output, *inputs)

    layers = [module for module in network.modules() if stays_whole(module)]
    for layer in layers:
        layer.forward = functools.partial(call, layer)  # type: ignore[method-assign]
    yield
    for layer in layers:
        del layer.forward


def layer_type(module: nn.Module) -> str | None:
    """The type by which torch-pruning shrinks a layer; None: it does not."""
    return next((c.__name__ for c in type(module).__mro__ if c.__name__ in PRUNED), None)


def stays_whole(module: nn.Module) -> bool:
    """Whether it is a layer that keeps all its channels."""
    return any(c.__name__ in WHOLE for c in type(module).__mro__)


def tied_holders(network: nn.Module, name: str) -> list[nn.Module]:
    """The layers that own a parameter."""
    wanted = id(network.get_parameter(name))
    return [m for m in network.modules() if wanted in map(id, m.parameters(recurse=False))]


def attentions(network: nn.Module) -> Iterator[tuple[list[nn.Module], int]]:
    """(the projections to queries, keys and values; the number of heads) of each attention that has them."""
    for module in network.modules():
        for names in PROJECTIONS:
            layers = [layer for name in names if isinstance(layer := getattr(module, name, None), nn.Linear)]
            if len(layers) < 3 or len({layer.out_features for layer in layers}) > 1:
                continue
            found = [value for name in HEADS if type(value := getattr(module, name, None)) is int]
            if not found and type(width := getattr(module, "head_dim", None)) is int:
                found = [layers[0].out_features // width]
            if found and found[0] > 0 and layers[0].out_features % found[0] == 0:
                yield list(layers), found[0]


# ---------------------------------------------------------------------------------- before and after pruning


def with_linear(network: nn.Module) -> None:
    """Put a Linear in the place of each Conv1D of transformers, which torch-pruning does not know."""
    for path, module in list(network.named_modules()):
        if is_conv1d(module) and path:
            inputs, outputs = module.weight.shape  # type: ignore[union-attr]
            made = nn.Linear(inputs, outputs, device="meta")
            made.weight = nn.Parameter(module.weight.detach().T.contiguous())  # type: ignore[union-attr,operator]
            made.bias = module.bias  # type: ignore[assignment]
            network.set_submodule(path, made)


def with_conv1d(original: nn.Module, pruned: nn.Module) -> None:
    """The inverse of `with_linear`."""
    for path, module in original.named_modules():
        if is_conv1d(module) and path:
            linear, made = pruned.get_submodule(path), copy.copy(module)
            made._parameters = dict(
                weight=nn.Parameter(linear.weight.detach().T.contiguous()),  # type: ignore[union-attr,operator]
                bias=linear.bias,
            )
            made.nx, made.nf = linear.in_features, linear.out_features
            pruned.set_submodule(path, made)


def is_conv1d(module: nn.Module) -> bool:
    """Whether a layer is the Conv1D of transformers."""
    return any(c.__name__ == "Conv1D" for c in type(module).__mro__)


def tie(original: nn.Module, pruned: nn.Module) -> None:
    """Tie again what pruning has stored twice."""
    for name, weight in weights_of(original).items():
        for other in weight.tied:
            path, _, parameter = other.rpartition(".")
            setattr(pruned.get_submodule(path), parameter, pruned.get_parameter(name))


def follow(original: nn.Module, pruned: nn.Module) -> None:
    """Attributes of modules around layers: the number of heads, and the channels that a block checks."""
    known = {id(layers[0]): heads for layers, heads in attentions(original)}
    for old, new in zip(original.modules(), pruned.modules(), strict=True):
        for names in PROJECTIONS:
            query = getattr(old, names[0], None)
            if id(query) in known:
                width = query.out_features // known[id(query)]  # type: ignore[union-attr]
                heads = getattr(new, names[0]).out_features // width
                for name in HEADS:
                    if vars(old).get(name) == known[id(query)]:
                        setattr(new, name, heads)
        for before, after in zip(old.children(), new.children(), strict=True):
            inputs = getattr(before, "in_channels", None)
            if inputs is not None and vars(old).get("channels") == inputs:
                new.channels = after.in_channels
