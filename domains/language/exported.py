"""One decoding step as other runtimes take it: the cache of keys and values is a tensor in, and what the step
adds to it is a tensor out. The sampler keeps the cache.

The cache is [layers, 2, b, heads, t, width]. Attention takes [b, heads, t, width], so a runtime need not move
it. It grows by `BUCKET` tokens at a time, with a mask over the places that are still empty, so that runtimes
see few shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module

from domains.language.sampler import cache_argument

BUCKET = 32  # tokens
LARGEST_BATCH = 512
LONGEST = 4096  # tokens of a cache
EMPTY = torch.finfo(torch.float32).min  # of the mask


class DecodeStep(Module):
    """A network with a plain cache, as a function of tensors alone."""

    def __init__(self, network: Module) -> None:
        super().__init__()
        self.network = network
        self.argument = str(cache_argument(network))

    def forward(self, tokens: Tensor, position: Tensor, mask: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """tokens [b, 1], position [1, 1], mask [1, 1, 1, t], cache [layers, 2, b, heads, t, width]
        -> logits [b, v], added [layers, 2, b, heads, width]
        """
        from transformers import DynamicCache

        past = DynamicCache(config=cast(Any, self.network).config)
        for layer, held in zip(cast(Any, past.layers), cache.unbind(0)):
            layer.keys, layer.values = held.unbind(0)
            layer.dtype, layer.device, layer.is_initialized = cache.dtype, cache.device, True
        seen = torch.cat([mask, torch.zeros_like(mask[..., :1])], -1)  # the token itself, too
        made = self.network(
            input_ids=tokens,
            position_ids=position,
            attention_mask=seen,
            use_cache=True,
            **{self.argument: past},
        )
        layers = cast(Any, past.layers)
        added = [torch.stack([layer.keys[:, :, -1], layer.values[:, :, -1]]) for layer in layers]
        return made.logits[:, -1], torch.stack(added)


def cache_shape(network: Module) -> tuple[int, int, int]:
    """(layers, heads, width) of the cache. Raises `LookupError` for a network without a plain one."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    argument = cache_argument(network)
    if argument is None:
        raise LookupError(f"{type(network).__name__} takes no cache of keys and values")
    past = DynamicCache(config=cast(Any, network).config)
    with torch.no_grad():
        tokens = torch.zeros(1, 1, dtype=torch.long, device=next(network.parameters()).device)
        network(input_ids=tokens, use_cache=True, **{argument: past})
    layers = cast(Sequence[Any], past.layers)
    shapes = {tuple(cast(Any, layer).keys.shape) for layer in layers if type(layer) is DynamicLayer}
    if len(shapes) != 1 or any(type(layer) is not DynamicLayer for layer in layers):
        raise LookupError(f"the cache of {type(network).__name__} is not plain keys and values of one shape")
    _, heads, _, width = shapes.pop()
    return len(layers), heads, width


def most_places(positions: int | None) -> int:
    """Tokens of the longest cache; runtimes that plan their memory reserve it."""
    return LONGEST if positions is None else min(LONGEST, -(-positions // BUCKET) * BUCKET)


class Reader:
    """As `domains.language.sampler.Read`, with what a runtime made of `DecodeStep`."""

    can_select = True

    def __init__(self, call: Callable[..., tuple[Tensor, ...]], shape: tuple[int, int, int]) -> None:
        self.call, self.shape, self.read, self.places = call, shape, 0, 0
        self.cache = torch.empty(0)

    def next_logits(self, tokens: Tensor) -> Tensor:
        """Read one more token of each text, [b, 1] -> logits of the token after it, [b, v]."""
        arguments = self.arguments(tokens)
        logits, added = self.call(*arguments)
        self.cache[:, :, :, :, self.read] = added
        self.read += 1
        return logits.float()

    def arguments(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the next call gets."""
        layers, heads, width = self.shape
        if self.read == self.places:
            more = torch.zeros(layers, 2, len(tokens), heads, BUCKET, width)
            self.cache = torch.cat([self.cache, more], 4) if self.places else more
            self.places += BUCKET
        mask = torch.full((1, 1, 1, self.places), EMPTY)
        mask[..., : self.read] = 0
        return tokens, torch.full((1, 1), self.read), mask, self.cache

    def select(self, rows: Tensor) -> None:
        """Keep only these texts of the batch."""
        self.cache = self.cache[:, :, rows]


class Steps(Module):
    """What the sampler gets in place of the network: it begins a reader for each batch."""

    def __init__(self, call: Callable[..., tuple[Tensor, ...]], shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.call, self.shape = call, shape

    def reader(self) -> Reader:
        """For one more batch."""
        return Reader(self.call, self.shape)


def example(shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """A call with two texts and an empty cache of one bucket."""
    arguments = Reader(lambda *_: (), shape).arguments(torch.zeros(2, 1, dtype=torch.long))
    return dict(zip(("tokens", "position", "mask", "cache"), arguments))


AXES = {"tokens": {0: "batch"}, "mask": {3: "time"}, "cache": {2: "batch", 4: "time"}}


@torch.no_grad()
def calls_of(
    step: DecodeStep, shape: tuple[int, int, int], texts: Iterator[Tensor], every: int = 4
) -> Iterator[tuple[Tensor, ...]]:
    """The calls that reading texts [b, t] makes, each `every`-th of them."""
    for tokens in texts:
        reader = Reader(step, shape)
        for place in range(tokens.shape[1]):
            column = tokens[:, place : place + 1]
            if place % every == 0:
                yield tuple(one.clone() for one in reader.arguments(column))
            reader.next_logits(column)
