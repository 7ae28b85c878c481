"""What a language model must keep before anything is measured: it reads from left to right, and with its
cache it reads the same as without.

The checks are a few forward passes over short texts, when the model is opened.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Module

from bench.errors import BadInput, in_a_line
from bench.layers import tensors_of
from domains.language.sampler import Read

# Shares of the largest logit. Float error is below 1e-5 of it. An untrained BERT sees later tokens by 3e-3,
# and untrained state-space models without memory are off by 0.2 or more.
LEAK, STEPS_DIFFER = 1e-4, 1e-3


@torch.no_grad()
def check_causal(network: Module, ids: Sequence[int], name: str) -> bool:
    """Whether the cached steps of a network agree with one pass over whole texts.

    ids: a few different tokens, the last two of which end two texts that begin alike. Raises `BadInput` for a
    network whose logits depend on later tokens, or whose forward pass changes its own tensors.
    """
    device, before = next(network.parameters()).device, sums(network)
    alike = list(ids[:-2])
    texts = torch.tensor([[*alike, ids[-2]], [*alike, ids[-1]], [ids[-1], *alike[::-1]]], device=device)
    try:
        whole = network(input_ids=texts, use_cache=False).logits.float()  # [3, t, v]
    except Exception as error:  # whatever the model's own code raises
        raise BadInput(f"the model {name!r} cannot read tokens: {in_a_line(error)}") from None
    if not whole.isfinite().all():
        raise BadInput(f"the model {name!r} cannot be measured: its logits are not finite")
    leak, scale = (whole[0, :-1] - whole[1, :-1]).abs(), whole.abs().max().item()
    if leak.numel() and leak.max().item() > LEAK * scale:
        raise BadInput(
            f"the model {name!r} is not causal: its logits depend on later tokens ({type(network).__name__} "
            f"is masked or bidirectional)"
        )
    agrees = steps_differ_by(network, texts, whole) <= STEPS_DIFFER * scale
    if sums(network) != before:
        raise BadInput(
            f"the model {name!r} cannot be measured: a forward pass of {type(network).__name__} changes its "
            f"own weights"
        )
    return agrees


def steps_differ_by(network: Module, texts: Tensor, whole: Tensor) -> float:
    """The largest difference between logits of single steps with the cache and those of whole texts.

    Infinite where the cache fails. Before the last step all texts but the last one are dropped, as the
    sampler drops finished ones.
    """
    read = Read(network, cached=True)
    if read.cache is None:
        return torch.inf
    try:
        steps = torch.stack(
            [read.next_logits(column[:, None]) for column in texts.T[:-1]], 1
        )  # [3, t - 1, v]
        if read.can_select:
            read.select(torch.tensor([2], device=texts.device))
        last = read.next_logits(texts[2:, -1:] if read.can_select else texts[:, -1:])[-1]
    except Exception:  # whatever the model's own code raises: without a cache it may work
        return torch.inf
    differences = (steps - whole[:, :-1]).abs().max(), (last - whole[2, -1]).abs().max()
    return max(difference.item() for difference in differences)


def sums(network: Module) -> list[float]:
    """The sum of each tensor."""
    return [tensor.double().sum().item() for tensor in tensors_of(network).values()]
