"""Sampling with common random numbers: every sequence has its own noise, whatever network, batch or N
it is made with.

The Gumbel-max trick (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030): argmax(logits + Gumbel noise) is a
sample of softmax(logits). The noise is a hash of (seed, item, position, token), so two networks that are
given the same seed write twins, which part only where their logits differ by more than the noise between two
tokens.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module

from bench.errors import Diverged

# splitmix64's, as signed integers
GOLDEN, MIX_1, MIX_2 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
ACCELERATOR_BATCH, MEMORY_SHARE = 4096, 0.25  # texts; share of the free memory that their cache may take
COMPACT_BELOW = 0.8  # drop the finished rows of a batch when fewer than this share are still being written

Prompt = Callable[[int], Sequence[int]]  # item -> the tokens that it begins with, after the start token
Trace = Callable[[Tensor, int, Tensor], None]  # (items [b], tokens read before, perturbed logits [b, v])


@dataclass(frozen=True)
class SamplerSettings:
    start: int
    end: int | None
    max_tokens: int
    temperature: float = 1.0
    # keep the smallest set of tokens with at least this probability (Holtzman et al. 2020)
    nucleus: float = 1.0
    batch: int = 256
    # the network keeps what it read in a cache; otherwise it reads the whole text again for each token
    cached: bool = True
    positions: int | None = None  # most tokens that the network can read of a text; None: no limit


@torch.inference_mode()
def sample_tokens(
    network: Module,
    items: Sequence[int],
    seed: int,
    settings: SamplerSettings,
    trace: Trace | None = None,
    prompt: Prompt | None = None,
) -> Iterator[tuple[int, list[int]]]:
    """Write one sequence for each item -> (item, its tokens without start and end), batch by batch.

    A sequence begins with its prompt, and `max_tokens` more may follow.
    """
    for start in range(0, len(items), settings.batch):
        yield from _sample_batch(
            network, torch.tensor(list(items[start : start + settings.batch])), seed, settings, trace, prompt
        )


def accelerator_batch(
    network: Module, settings: SamplerSettings, free_bytes: int, longest_prompt: int = 0
) -> int:
    """How many texts an accelerator writes together, each behind a prompt of at most so many tokens.

    The kernels of one token take microseconds and are launched one by one, so a batch of any size takes
    about the same time. The cache of keys and values, in float32, limits it.
    """
    config = getattr(network, "config", None)
    layers, width = getattr(config, "num_hidden_layers", None), getattr(config, "hidden_size", None)
    if layers is None or width is None or not settings.cached:
        return settings.batch
    tokens = min(longest_prompt + settings.max_tokens, settings.positions or math.inf)
    bytes_per_text = 2 * layers * width * tokens * 4
    fits = int(MEMORY_SHARE * free_bytes / bytes_per_text)
    return max(settings.batch, min(ACCELERATOR_BATCH, fits))


def _sample_batch(
    network: Module,
    items: Tensor,
    seed: int,
    settings: SamplerSettings,
    trace: Trace | None,
    prompt: Prompt | None,
) -> Iterator[tuple[int, list[int]]]:
    """Prompts are read token by token, in place of those that the network would choose: no padding."""
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    texts = Texts.begun(items.to(device), settings, prompt)
    written: dict[int, list[int]] = {item: [] for item in items.tolist()}
    tokens, read = torch.full((len(items), 1), settings.start, device=device), reader_of(network, settings)
    for position in range(int(texts.most.max())):
        logits = read.next_logits(tokens)
        if not logits.isfinite().all():
            raise Diverged(f"the network's logits are not finite at token {position}")
        noise = gumbel(seed, texts.items, position - texts.lengths, logits.shape[1])
        perturbed = warp(logits, settings) + noise
        if trace is not None:
            trace(texts.items, position, perturbed)
        chosen = texts.choose(perturbed, position, settings.end)
        # one transfer to the host: each waits for the device
        numbers, written_now, going = torch.stack([texts.items, chosen, texts.alive.long()]).tolist()
        for item, token, goes_on in zip(numbers, written_now, going, strict=True):
            if goes_on:
                written[item].append(token)
            # finished now; texts that finished before wait for the batch to be compacted
            elif item in written:
                yield item, written.pop(item)
        if not any(going):
            break
        tokens = chosen[:, None]
        if sum(going) < COMPACT_BELOW * len(going) and read.can_select:
            rows = texts.drop_finished()
            tokens = tokens[rows]
            read.select(rows)
    yield from written.items()


@dataclass
class Texts:
    """The texts of a batch: b rows in the order in which the network reads them."""

    items: Tensor  # [b]
    given: Tensor  # [b, t], prompts padded with 0
    lengths: Tensor  # [b], of the prompts
    most: Tensor  # [b], tokens that a text may have
    alive: Tensor  # [b] bool: still being written

    @classmethod
    def begun(cls, items: Tensor, settings: SamplerSettings, prompt: Prompt | None) -> Texts:
        """The texts of these items before their first token."""
        given, lengths = _padded([prompt(item) if prompt else () for item in items.tolist()], items.device)
        most = lengths + settings.max_tokens
        if settings.positions is not None:
            most = most.clamp(max=settings.positions)
        return cls(items, given, lengths, most, torch.ones_like(items, dtype=torch.bool))

    def choose(self, perturbed: Tensor, position: int, end: int | None) -> Tensor:
        """The token of each text at a position [b]: that of its prompt, or the most likely one [b, v].

        A text that ends here is no longer alive.
        """
        free, chosen = position >= self.lengths, perturbed.argmax(1)
        if position < self.given.shape[1]:
            chosen = torch.where(free, chosen, self.given[:, position])
        self.alive &= position < self.most
        if end is not None:
            self.alive &= (chosen != end) | ~free
        return chosen

    def drop_finished(self) -> Tensor:
        """-> the rows that stay [b']"""
        rows = self.alive.nonzero()[:, 0]
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])
        return rows


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """-> (tokens [b, longest], padded with 0; lengths [b])"""
    lengths = torch.tensor([len(row) for row in rows], device=device)
    tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long, device=device)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return tokens, lengths


def reader_of(network: Module, settings: SamplerSettings) -> Any:
    """What reads the texts of one batch: `Read`, or what a network in another runtime begins."""
    begin = getattr(network, "reader", None)
    return Read(network, settings.cached) if begin is None else begin()


class Read:
    """What a network has read of each text of a batch: in its cache, or as tokens."""

    def __init__(self, network: Module, cached: bool) -> None:
        from transformers import DynamicCache

        self.network, self.tokens = network, torch.empty(0)
        self.argument = cache_argument(network) if cached else None
        self.cache = DynamicCache(config=cast(Any, network).config) if self.argument else None

    def next_logits(self, tokens: Tensor) -> Tensor:
        """Read one more token of each text, [b, 1] -> logits of the token after it, [b, v]."""
        if self.cache is not None:
            cache = {str(self.argument): self.cache}
            return self.network(input_ids=tokens, use_cache=True, **cache).logits[:, -1].float()
        self.tokens = torch.cat([self.tokens, tokens], 1) if len(self.tokens) else tokens  # [b, t]
        return self.network(input_ids=self.tokens, use_cache=False).logits[:, -1].float()

    @property
    def can_select(self) -> bool:
        """False where a layer's cache, such as a state-space layer's, cannot drop texts."""
        layers = [] if self.cache is None else self.cache.layers
        return all(hasattr(layer, "batch_select_indices") for layer in layers)

    def select(self, rows: Tensor) -> None:
        """Keep only these texts of the batch."""
        if self.cache is None:
            self.tokens = self.tokens[rows]
        else:
            self.cache.batch_select_indices(rows)


# names of the argument, newest first: transformers drops `past_key_values` for `cache`
CACHE_ARGUMENTS = ("cache", "past_key_values", "cache_params")


def cache_argument(network: Module) -> str | None:
    """The name of the forward argument that takes the cache; None where there is none.

    Many networks drop other names in silence, so `domains.language.causal` compares at open.
    """
    known = inspect.signature(network.forward).parameters
    return next((name for name in CACHE_ARGUMENTS if name in known), None)


def warp(logits: Tensor, settings: SamplerSettings) -> Tensor:
    """Temperature and nucleus -> log-weights, -inf outside of the nucleus. [b, v]"""
    logits = logits / settings.temperature
    if settings.nucleus >= 1:
        return logits
    ordered, order = logits.softmax(1).sort(1, descending=True)
    # the mass before a token; the first always stays
    outside = (ordered.cumsum(1) - ordered) >= settings.nucleus
    return logits.masked_fill(outside.scatter(1, order, outside), -torch.inf)


def gumbel(seed: int, items: Tensor, position: int | Tensor, vocabulary: int) -> Tensor:
    """Standard Gumbel noise [b, vocabulary] as a pure function of (seed, item, position, token).

    position: of the token behind the prompt, one or [b].
    """
    rows = _mix(_mix(_mix(torch.tensor(seed, device=items.device)) + items) + position)  # [b]
    tokens = torch.arange(1, vocabulary + 1, device=items.device) * GOLDEN
    bits = _mix(rows[:, None] + tokens)
    uniform = (_shift(bits, 12).double() + 0.5) * 2.0**-52  # exact: never 0, never 1
    return -(-uniform.log()).log().float()


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finalizer on int64, with wrap-around (Steele et al. 2014)."""
    x = (x ^ _shift(x, 30)) * MIX_1
    x = (x ^ _shift(x, 27)) * MIX_2
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
