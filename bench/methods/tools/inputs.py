"""What a network is called with when it samples, for tools that trace it or watch it. Never real data."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.errors import Unsupported

if TYPE_CHECKING:
    from torch.nn import Module

    from bench.interfaces import Context, Generator

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
SAMPLES = 8  # drawn where a generator has no calibration batches
MOST_CALLS = 8
SPACED_CALLS = 32  # of a tool that measures inputs, evenly from all calibration batches


def calls(network: Module, context: Context, tool: str) -> Iterator[Call]:
    """A few calls of the network: the generator's calibration, or those that drawing samples makes.

    Raises `bench.errors.Unsupported` without a generator.
    """
    if context.generator is None:
        raise Unsupported(f"{tool} traces the network, which needs a generator")
    try:
        batches = context.generator.calibration(context.seed)
        for number, call in enumerate(batches):
            if number == MOST_CALLS:
                return
            yield call
    except LookupError:
        yield from _seen(network, context.generator, context.seed)


def evenly(network: Module, context: Context, tool: str) -> list[Call]:
    """Calls from the whole calibration: a diffusion model's first steps differ from its last ones.

    Without calibration, those that drawing samples makes. Raises `bench.errors.Unsupported` without a
    generator.
    """
    from torch.utils._pytree import tree_map

    if context.generator is None:
        raise Unsupported(f"{tool} measures what layers are given, which needs a generator")
    try:
        batches = list(context.generator.calibration(context.seed))
    except LookupError:
        batches = _seen(network, context.generator, context.seed)
    device = next((p.device for p in network.parameters()), "cpu")

    def moved(value: Any) -> Any:
        return value.to(device) if hasattr(value, "to") else value

    return [tree_map(moved, call) for call in batches[:: -(-len(batches) // SPACED_CALLS)]]


def call_all(network: Module, calls: Sequence[Call]) -> None:
    """What a tool measures inputs with."""
    for args, kwargs in calls:
        network(*args, **kwargs)


@contextlib.contextmanager
def called_by_layers(network: Module) -> Iterator[set[str]]:
    """The paths of the modules that are called.

    PyTorch's transformer layers call none of their own in evaluation, unless these have hooks.
    """
    called: set[str] = set()

    def note(path: str, *_: object) -> None:
        called.add(path)

    hooks = [
        module.register_forward_pre_hook(functools.partial(note, path))
        for path, module in network.named_modules()
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def paths_called(network: Module, calls: Sequence[Call]) -> set[str]:
    """The modules that these calls reach."""
    with called_by_layers(network) as called:
        call_all(network, calls)
    return called


def by_name(network: Module, call: Call) -> dict[str, Any]:
    """The arguments of a call by the name of the parameter, without those that are None."""
    bound = inspect.signature(network.forward).bind(*call[0], **call[1])
    found = {name: value for name, value in bound.arguments.items() if name != "kwargs" and value is not None}
    return found | dict(bound.arguments.get("kwargs", {}))


def _seen(network: Module, generator: Generator, seed: int) -> list[Call]:
    """The first calls of a network while samples are drawn."""
    found: list[Call] = []

    def remember(_: Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        if len(found) < MOST_CALLS:
            found.append(copy.deepcopy((args, keywords)))  # a cache of keys grows while samples are drawn

    hook = network.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        generator.sample(network, SAMPLES, seed)
    finally:
        hook.remove()
    if not found:
        raise Unsupported("the generator samples without calling its network: nothing can be traced")
    return found
