"""Edits of a network that a file records and its tensors alone do not show.

A method adds `StructureEdit`s to what it returns. The file holds them as JSON, so that their bytes count. The
kinds of `KINDS` work on the networks of all domains: the benchmark repeats them, in order, on what
`Generator.rebuild` gives. Other kinds are handed to `Generator.rebuild`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bench.errors import BadInput
from bench.interfaces import StructureEdit

if TYPE_CHECKING:
    from bench.interfaces import Generator

RESIZE, QUANTIZE_INPUT, SCALE_INPUT = "resize", "quantize_input", "scale_input"
INPUT_SCALES = "input_scales"  # the tensor that `scale_input` gives a layer
# attributes that hold how many channels or heads a module has
SIZES = (
    *("in_features", "out_features", "in_channels", "out_channels", "groups", "embedding_dim"),
    *("num_features", "num_channels", "normalized_shape", "num_parameters"),
    *("nx", "nf"),  # transformers' Conv1D
    *("channels", "heads", "num_heads", "num_attention_heads"),  # of modules around layers
)
INPUT_BITS = (2, 8)  # fewest and most of a quantized input
MOST_RENEWED = 8  # copies of its numbers that a network keeps while it is resized: a file may ask for many
LARGEST_STEP = 1e300  # of a quantized input: an integer of a file may be too large for a float
Arguments = tuple[Any, ...]  # of a layer's call
Keywords = dict[str, Any]


def rebuilt(generator: Generator, structure: Sequence[StructureEdit]) -> nn.Module:
    """A network of the recorded structure, without the file's tensors.

    Raises `BadInput` for an edit that does not fit the network.
    """
    network = generator.rebuild([edit for edit in structure if edit.kind not in KINDS])
    edit_network(network, [edit for edit in structure if edit.kind in KINDS])
    return network


def edit_network(network: nn.Module, structure: Sequence[StructureEdit]) -> None:
    """Repeat edits of the kinds that all networks take. Raises `BadInput` for one that does not fit."""
    renewed: dict[int, tuple[Tensor, Tensor]] = {}  # of a shrunk tensor: the old one and the new one
    most = MOST_RENEWED * sum(tensor.numel() for tensor in network.state_dict(keep_vars=True).values())
    for edit in structure:
        try:
            module = network.get_submodule(edit.path)
            KINDS[edit.kind](module, edit.args, renewed)
            if edit.kind == RESIZE and sum(new.numel() for _, new in renewed.values()) > most:
                raise ValueError("the file changes the sizes of its tensors too often")
        except (AttributeError, KeyError, ValueError) as error:
            raise BadInput(
                f"edit {edit.kind!r} of {edit.path[:80]!r} does not fit the network: {error}"
            ) from None


# ----------------------------------------------------------------------------------------------------- resize


def resize(module: nn.Module, args: Mapping[str, Any], renewed: dict[int, tuple[Tensor, Tensor]]) -> None:
    """Give a module fewer channels.

    args: an attribute of `SIZES` -> its value, or one of the module's own tensors -> its shape. Nothing
    grows, and tensors that modules share stay shared.
    """
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    for name, value in args.items():
        if name in own:
            _replace(module, name, _shrunk(own[name], value, renewed))
        elif name in SIZES and _is_no_larger(value, getattr(module, name)):
            setattr(module, name, tuple(value) if isinstance(value, list) else value)
        else:
            raise ValueError(f"{str(name)[:80]}={str(value)[:80]} is no smaller size of it")


def _is_no_larger(value: Any, old: Any) -> bool:
    if isinstance(old, tuple):
        fits = isinstance(value, list) and len(value) == len(old)
        return fits and all(map(_is_no_larger, value, old))
    return type(value) is int and type(old) is int and 1 <= value <= old


def _shrunk(old: Tensor, shape: Any, renewed: dict[int, tuple[Tensor, Tensor]]) -> Tensor:
    """The first entries along each dimension; the file's values come later."""
    if not _is_no_larger(shape, tuple(old.shape)):
        raise ValueError(f"shape {str(shape)[:80]} is not within {tuple(old.shape)}")
    if id(old) not in renewed:
        part = old.detach()[tuple(slice(0, size) for size in shape)].clone()
        new = nn.Parameter(part, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else part
        renewed[id(old)] = old, new
    new = renewed[id(old)][1]
    if list(new.shape) != shape:
        raise ValueError(f"a shared tensor has the shapes {list(new.shape)} and {shape}")
    return new


def _replace(module: nn.Module, name: str, new: Tensor) -> None:
    """Put another tensor in the place of a parameter or of a buffer."""
    if isinstance(new, nn.Parameter):
        setattr(module, name, new)
    else:
        module._buffers[name] = new  # which may be one that is not stored


def resized(before: nn.Module, after: nn.Module) -> Iterator[StructureEdit]:
    """The edits that turn the first network into the structure of the second, module by module."""
    pairs = zip(before.named_modules(), after.modules(), strict=True)
    for (path, old), new in pairs:
        args: dict[str, Any] = {}
        for name in SIZES:
            value = vars(new).get(name)
            if type(value) in (int, tuple) and value != vars(old).get(name):
                args[name] = list(value) if isinstance(value, tuple) else value
        for name, tensor in (*new.named_parameters(recurse=False), *new.named_buffers(recurse=False)):
            if (was := getattr(old, name)).shape != tensor.shape:
                assert was.ndim == tensor.ndim
                args[name] = list(tensor.shape)
        if args:
            yield StructureEdit(path, RESIZE, args)


# ---------------------------------------------------------------------------------------- inputs of a layer


def with_input(
    args: Arguments, kwargs: Keywords, change: Callable[[Tensor], Tensor]
) -> tuple[Arguments, Keywords]:
    """What a layer is called with, its first argument changed."""
    if args:
        return (change(args[0]), *args[1:]), kwargs
    name, x = next(iter(kwargs.items()))
    return args, {**kwargs, name: change(x)}


def renew_hook(module: nn.Module, hook: Callable[..., Any]) -> None:
    """Call the hook before the layer. It replaces a hook of its type, left by a file loaded earlier."""
    for key, old in list(module._forward_pre_hooks.items()):
        if isinstance(old, type(hook)):
            del module._forward_pre_hooks[key]
    module.register_forward_pre_hook(hook, with_kwargs=True)


@dataclass(frozen=True)
class InputGrid:
    """Rounds what a layer is given to 2^bits even steps, and computes on in floats.

    x becomes (clamp(round(x / step) + zero, 0, 2^bits - 1) - zero) * step (Jacob et al. 2018,
    arXiv:1712.05877). So 0 stays 0, as padding needs it. Without a step, each item has its own range, from
    its least to its greatest number. An item is a row of the last dimension, or one input of a convolution.
    """

    bits: int
    step: float | None = None  # None: dynamic
    zero: int = 0  # the index of 0

    def __call__(self, layer: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        """What PyTorch calls before the layer."""
        return with_input(args, kwargs, functools.partial(self.rounded, layer))

    def rounded(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The nearest values on the grid, in the shape of x."""
        step, zero = (self.step, self.zero) if self.step else self.ranges(x, item_dimensions(layer))
        return ((x / step).round().add(zero).clamp(0, 2**self.bits - 1) - zero) * step

    def ranges(self, x: Tensor, dimensions: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """(step, index of 0) of each item."""
        low = x.amin(dimensions, keepdim=True).clamp(max=0)
        high = x.amax(dimensions, keepdim=True).clamp(min=0)
        step = ((high - low) / (2**self.bits - 1)).clamp(min=torch.finfo(x.dtype).tiny)
        return step, (-low / step).round()


def item_dimensions(layer: nn.Module) -> tuple[int, ...]:
    """Which dimensions of a layer's input belong to one item, so that items do not depend on their batch."""
    kernel = getattr(layer, "kernel_size", None)
    return (-1,) if kernel is None else tuple(range(-len(kernel) - 1, 0))


def quantize_input(module: nn.Module, args: Mapping[str, Any], _: object) -> None:
    """Let a layer compute with a quantized input: `InputGrid` with these fields."""
    bits, step, zero = args.get("bits"), args.get("step"), args.get("zero", 0)
    if type(bits) is not int or not INPUT_BITS[0] <= bits <= INPUT_BITS[1]:
        raise ValueError(f"bits={str(bits)[:80]}")
    if type(zero) is not int or not 0 <= zero < 2**bits or args.keys() - {"bits", "step", "zero"}:
        raise ValueError(f"settings {str(dict(args))[:80]}")
    if step is not None and not (isinstance(step, (int, float)) and 0 < step < LARGEST_STEP):
        raise ValueError(f"step={str(step)[:80]}")
    renew_hook(module, InputGrid(bits, None if step is None else float(step), zero))


def input_grids(network: nn.Module) -> dict[str, InputGrid]:
    """Path of a layer -> how its input is quantized."""
    return {
        path: hook
        for path, module in network.named_modules()
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, InputGrid)
    }


@dataclass(frozen=True)
class InputScales:
    """Multiplies each input channel of a layer by a number of its own, which the file holds as a tensor.

    Large inputs become smaller, and their weights larger, so that these are rounded more finely (AWQ: Lin et
    al. 2023, arXiv:2306.00978).
    """

    def __call__(self, layer: nn.Module, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
        """What PyTorch calls before the layer."""
        kernel: Sequence[int] = getattr(layer, "kernel_size", ())
        scales = layer.get_buffer(INPUT_SCALES).reshape(-1, *(1 for _ in kernel))
        return with_input(args, kwargs, functools.partial(torch.mul, scales))


def scale_input(module: nn.Module, args: Mapping[str, Any], _: object) -> None:
    """Give a layer a tensor with a factor for each input channel, here all 1, and let it use them."""
    sizes = [getattr(module, name) for name in ("in_features", "in_channels", "nx") if hasattr(module, name)]
    if args or not sizes:
        raise ValueError("only a layer with inputs can have factors for them, and it takes no settings")
    module.register_buffer(INPUT_SCALES, torch.ones(sizes[0]))
    renew_hook(module, InputScales())


KINDS: Mapping[str, Callable[[nn.Module, Mapping[str, Any], dict[int, tuple[Tensor, Tensor]]], None]] = {
    RESIZE: resize,
    QUANTIZE_INPUT: quantize_input,
    SCALE_INPUT: scale_input,
}
