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

from domains.language.training import IGNORED, batches, pad

BATCH = 64
MOST_LOGITS = 2**26  # of a batch: large vocabularies get smaller batches


@torch.inference_mode()
def likelihood(
    network: Module,
    base: Module | None,
    rows: Sequence[Sequence[int]],
    units: int,
    device: str,
    unit: str = "byte",
    context: int | None = None,
) -> dict[str, float]:
    """`bits_per_byte` and `perplexity` of held-out sequences; `kl_to_base` [nats] and `flip_rate` beside
    `base`.

    rows: tokens of each sequence, its start and its end included; each is scored alone. units: how many bytes
    (or what `unit` says) they are together. Nothing is returned for a network whose context is too short for
    the longest sequence.
    """
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
        f"bits_per_{unit}": nats / math.log(2) / units,
        "perplexity": math.exp(min(nats / count, 700.0)),
    }
    return (
        {**found, "kl_to_base": divergence / count, "flip_rate": flips / count} if base is not None else found
    )


def log_probabilities(network: Module, inputs: Tensor) -> Tensor:
    return network(input_ids=inputs, use_cache=False).logits.float().log_softmax(-1)
