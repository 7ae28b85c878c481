"""The base class of other projects' quantizers: quantize a copy, save it, reload it, and code what came back.

    copy      the network in float32, as the methods before left it
    quantize  the tool quantizes the copy
    save      the tool's own saving function writes a file; its length is the record's `file_bytes`
    load      a fresh network without weights reads that file
    codes     whole numbers and scales of the reloaded network; our artifact holds the same values

Only weights count here: no tool's activation quantization is simulated. A subclass is a frozen dataclass with
five short members. It imports its tool inside them, because `bench list` imports this module.
"""

from __future__ import annotations

import contextlib
import copy
import io
import operator
import tempfile
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import BadInput, Diverged, Failed, Unsupported, not_installed, of_plug_in
from bench.interfaces import Compressed, Context, Method

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from bench.interfaces import StoredTensor
    from bench.layers import Weight
    from bench.methods.tools.codes import Codes


@dataclass(frozen=True)
class Tool(Method):
    """One tool. Its settings are those that a user of the tool would choose."""

    quantizes = True
    package: ClassVar[str]  # as pip names it
    keeps_ties: ClassVar[bool] = False  # whether a weight that layers share stays shared in the tool's file

    transposes_conv1d: ClassVar[bool] = False  # whether it turns transformers' Conv1D into a Linear

    @abstractmethod
    def quantize(self, network: Module, layers: AbstractSet[str], context: Context) -> Module:
        """Let the tool quantize those of `layers` (paths) that it covers -> the network, changed or new."""

    @abstractmethod
    def save(self, network: Module, folder: Path) -> None:
        """Write the quantized network to `folder` with the tool's own function."""

    @abstractmethod
    def load(self, fresh: Module, folder: Path, context: Context) -> Module:
        """Read the folder into `fresh`, a network of the original structure whose numbers are all NaN."""

    @abstractmethod
    def codes(self, network: Module, path: str) -> Codes | None:
        """How a quantized network holds the weight of the layer at a path; None: as floats."""

    def __post_init__(self) -> None:
        """Raises `BadInput` where the tool is not installed: before any model is opened."""
        if (reason := self.missing()) is not None:
            raise BadInput(f"method {self.name!r} {reason}")

    @classmethod
    def missing(cls) -> str | None:
        """What must be installed; None: nothing."""
        return not_installed(cls.package, "tools")

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        return _Run(self, compressed, context).result()


class _Run:
    """One call of a tool's method."""

    def __init__(self, tool: Tool, compressed: Compressed, context: Context) -> None:
        from bench.layers import weights_of

        self.tool, self.compressed = tool, compressed
        self.context = replace(context, device="cpu")
        self.weights = weights_of(compressed.network)
        for name in self.weights:
            if compressed.tensors[name].quantized:
                raise BadInput(f"{tool.name!r} would quantize {name!r} a second time: give one quantizer")
        self.exempt = {name: reason for name in self.weights if (reason := self.reason_to_exempt(name))}

    def reason_to_exempt(self, name: str) -> str:
        """Why a weight is not given to the tool; empty: it is."""
        weight = self.weights[name]
        if name in self.context.excluded:
            return self.context.excluded[name]
        if not name.endswith(".weight"):
            return f"{self.tool.name} quantizes no {weight.layer}"
        if weight.tied and not self.tool.keeps_ties:
            return f"shared with {', '.join(weight.tied)}: {self.tool.name} would store it twice"
        return (
            ""
            if self.compressed.tensors[name].shape and 0 not in self.compressed.tensors[name].shape
            else "it is empty"
        )

    def result(self) -> Compressed:
        """What is stored, with the report of the tool."""
        layers = {name.removesuffix(".weight") for name in self.weights.keys() - self.exempt.keys()}
        with tempfile.TemporaryDirectory() as folder, quietly(), self.blamed():
            made = self.tool.quantize(self.copy(), layers, self.context)
            before = self.codes(made)
            if not before:
                reasons = "; ".join(dict.fromkeys(self.reason(weight) for weight in self.weights.values()))
                raise Unsupported(f"{self.tool.name} quantizes no layer of this network: {reasons[:300]}")
            self.tool.save(made, Path(folder))
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
            reloaded = self.tool.load(blank(self.copy()), Path(folder), self.context)
            after = self.codes(reloaded)
            self.check_reloaded(before, after)
            tensors = self.tensors(reloaded, after)
        return self.stored(tensors, after, size)

    @contextlib.contextmanager
    def blamed(self) -> Iterator[None]:
        """An error of the tool is a result: the tool cannot quantize this network."""
        try:
            yield
        except (BadInput, Failed, Diverged, Unsupported):
            raise
        except Exception as error:
            raise Unsupported(f"{self.tool.package} fails: {of_plug_in(error)}") from error

    def copy(self) -> Module:
        """The network as the methods before left it, in float32 on the CPU."""
        from bench.artifact.format import fill
        from bench.artifact.structure import rebuilt

        if self.compressed.structure and self.context.generator is None:
            raise Unsupported(f"{self.tool.name} needs a generator for a network whose structure was changed")
        if self.compressed.structure:
            assert self.context.generator is not None
            network = rebuilt(self.context.generator, self.compressed.structure)
        else:
            network = copy.deepcopy(self.compressed.network)
        network = network.cpu().float().eval().requires_grad_(False)
        fill(network, self.compressed.tensors)
        return network

    def codes(self, network: Module) -> dict[str, Codes]:
        """Weight -> how the tool holds it, for those that are quantized."""
        found = {}
        for name in self.weights.keys() - self.exempt.keys():
            held = self.tool.codes(network, name.removesuffix(".weight"))
            if held is not None:
                found[name] = held.transposed() if self.is_transposed(name) else held
        return found

    def is_transposed(self, name: str) -> bool:
        """Whether the tool holds [out, in] of a weight [in, out]."""
        return self.tool.transposes_conv1d and name in self.weights and self.weights[name].layer == "Conv1D"

    def check_reloaded(self, before: Mapping[str, Codes], after: Mapping[str, Codes]) -> None:
        """Raises `Unsupported` where the file reloads unquantized, with NaN, or with other values."""
        if broken := [name for name, held in before.items() if not held.values.isfinite().all()]:
            raise Unsupported(f"{self.tool.package} makes NaN of {', '.join(broken[:3])}")
        if lost := sorted(before.keys() - after.keys()):
            raise Unsupported(
                f"the file of {self.tool.package} reloads unquantized: {len(lost)} of {len(before)} weights, "
                f"such as {lost[0]}"
            )
        other = [name for name in after if name not in before or not before[name].same(after[name])]
        if other:
            raise Unsupported(
                f"the file of {self.tool.package} reloads with other values of {', '.join(other[:3])}"
            )

    def tensors(self, network: Module, codes: Mapping[str, Codes]) -> dict[str, Tensor]:
        """All other tensors of the reloaded network, which the tool must not have changed."""
        import torch

        found = {}
        for name in self.compressed.tensors.keys() - codes.keys():
            value = operator.attrgetter(name)(network).detach()
            value = value.T.contiguous() if self.is_transposed(name) else value
            # a tool may hold the rest in half precision
            expected = self.compressed.tensors[name].dequantize().cpu()
            if not torch.allclose(value.float(), expected.float(), rtol=2.0**-8, atol=1e-6):
                raise Unsupported(f"the file of {self.tool.package} reloads with other values of {name}")
            found[name] = value.float() if value.is_floating_point() else value
        return found

    def stored(self, tensors: Mapping[str, Tensor], codes: Mapping[str, Codes], size: int) -> Compressed:
        """Our coding of the reloaded network: what the tool left in floats becomes float16."""
        from bench.artifact.structure import INPUT_SCALES, SCALE_INPUT
        from bench.interfaces import StructureEdit
        from bench.methods.plain import half, halve_the_rest, plain
        from bench.methods.tools.codes import TOLERANCE

        changed: dict[str, StoredTensor] = {n: c.stored(self.compressed.tensors[n]) for n, c in codes.items()}
        deviation = max(c.deviation(changed[n]) for n, c in codes.items())
        if not deviation <= TOLERANCE:
            raise Unsupported(
                f"our coding is {deviation:.1e} of a row's largest weight away from {self.tool.package}'s"
            )
        left = {name: self.reason(self.weights[name]) for name in self.weights if name not in codes}
        for name, value in tensors.items():
            if name in self.context.excluded:
                continue
            like = replace(plain(value), mask=self.compressed.tensors[name].mask)
            changed[name] = half(like) if name in left else like
        edits = []
        for name, held in sorted(codes.items()):
            if held.input_scales is not None:
                path = name.removesuffix(".weight")
                changed[f"{path}.{INPUT_SCALES}"] = plain(held.input_scales.float())
                edits.append(StructureEdit(path, SCALE_INPUT, {}))
        made = halve_the_rest(self.compressed.replace(changed, left), {**self.context.excluded, **left})
        return replace(
            made,
            structure=(*made.structure, *edits),
            tools=(*made.tools, self.report(left, size, deviation)),
        )

    def reason(self, weight: Weight) -> str:
        """Why the tool left a weight as it was."""
        if weight.name in self.exempt:
            return self.exempt[weight.name]
        shape = "x".join(map(str, self.compressed.tensors[weight.name].shape))
        return f"{self.tool.text} leaves a {weight.layer} of {shape} in floats"

    def report(self, left: Mapping[str, str], size: int, deviation: float) -> dict[str, Any]:
        """What the record says of the tool: `bench.records.schema.ToolReport`."""
        from bench.layers import tensors_of

        tensors = tensors_of(self.compressed.network)
        every = sum(tensor.numel() for tensor in tensors.values())
        return {
            "tool": self.tool.package,
            "version": version(self.tool.package),
            "file_bytes": size,
            "skipped": {name: tensors[name].numel() / every for name in left},
            "deviation": deviation,
        }


def blank(network: Module) -> Module:
    """The network without its weights: NaN everywhere, so that what a file lacks is noticed."""
    import torch

    from bench.layers import tensors_of

    with torch.no_grad():
        for tensor in tensors_of(network).values():
            tensor.fill_(torch.nan if tensor.is_floating_point() else 0)
    return network


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without a tool's prints, bars, warnings and gradients. The global seed is afterwards what it was."""
    import torch

    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield


def replace_layers(
    network: Module, layers: AbstractSet[str], make: Callable[[Module], Module | None]
) -> None:
    """Put `make(layer)` in the place of each of the layers; None leaves it as it is."""
    for path in sorted(layers):
        made = make(network.get_submodule(path))
        if made is not None:
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, made)


def unshared(network: Module) -> dict[str, Tensor]:
    """The state of a network without second names of shared tensors, which safetensors cannot hold."""
    import torch

    places: set[tuple[int, tuple[int, ...]]] = set()
    found = {}
    for name, tensor in network.state_dict().items():
        if type(tensor) is torch.Tensor and tensor.numel():  # a tool's own kind of tensor has no address
            place = tensor.data_ptr(), tuple(tensor.shape)
            if place in places:
                continue
            places.add(place)
        found[name] = tensor
    return found
