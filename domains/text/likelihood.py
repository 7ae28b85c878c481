"""Held-out likelihood of a causal language model, teacher-forced: each token given the true ones before
it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module

from domains.text.data import verses
from domains.text.training import IGNORED, batches, pad

BATCH = 64
MOST_LOGITS = 2**26  # of a batch: large vocabularies get smaller batches


@torch.inference_mode()
def likelihood(
    network: Module,
    base: Module | None,
    tokenizer: object,
    start: int,
    end: int | None,
    device: str,
    part: str = "test",
    first: int | None = None,
    context: int | None = None,
) -> dict[str, float]:
    """`bits_per_byte` and `perplexity` on the verses of a part; `kl_to_base` [nats] and `flip_rate` beside
    `base`.

    Every verse is scored alone: its tokens and its end token, given the start token. Nothing is returned for
    a network whose context is too short for the longest verse.
    """
    texts = verses(part)[:first]
    rows = [encode(tokenizer, text, start, end) for text in texts]
    lengths = [len(row) for row in rows]
    if context is not None and max(lengths) - 1 > context:
        return {}
    most_tokens = MOST_LOGITS // cast(Any, network).config.get_text_config().vocab_size
    sums = torch.zeros(3, dtype=torch.float64)  # nats, KL, flips
    count = 0
    for batch in batches(lengths, BATCH, most_tokens):
        padded = pad([rows[i] for i in batch]).to(device)
        inputs, targets = padded[:, :-1].clamp(min=0), padded[:, 1:]
        real = targets != IGNORED
        now = log_probabilities(network, inputs)[real]  # [tokens, v]
        sums[0] -= now.gather(1, targets[real][:, None]).double().sum().cpu()
        if base is not None and base is not network:
            before = log_probabilities(base, inputs)[real]
            sums[1] += (before.exp() * (before - now)).double().sum().cpu()
            sums[2] += (before.argmax(1) != now.argmax(1)).double().sum().cpu()
        count += int(real.sum())
    nats, divergence, flips = sums.tolist()
    found = {
        "bits_per_byte": nats / math.log(2) / sum(len(text.encode()) for text in texts),
        "perplexity": math.exp(min(nats / count, 700.0)),
    }
    return (
        {**found, "kl_to_base": divergence / count, "flip_rate": flips / count} if base is not None else found
    )


def log_probabilities(network: Module, inputs: Tensor) -> Tensor:
    return network(input_ids=inputs, use_cache=False).logits.float().log_softmax(-1)


def encode(tokenizer: object, text: str, start: int, end: int | None) -> Sequence[int]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
    return [start, *ids] + ([] if end is None else [end])
