"""What a network is called with when it samples, for tools that trace it or watch it. Never real data."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bench.errors import Unsupported

if TYPE_CHECKING:
    from torch.nn import Module

    from bench.interfaces import Context, Generator

Call = tuple[tuple[Any, ...], Mapping[str, Any]]
SAMPLES = 8  # drawn where a generator has no calibration batches
MOST_CALLS = 8


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
