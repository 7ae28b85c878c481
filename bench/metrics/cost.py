"""Sizes, from the stored tensors and the length of the file that holds them."""

from __future__ import annotations

import math

from bench.interfaces import Compressed, Stored
from bench.layers import tensors_of, weights_of
from bench.record import Cost


def cost_of(compressed: Compressed, stored_bytes: int, fp32_bytes: int) -> Cost:
    """`bits_per_param` counts everything in the file over the parameters of the original network (tied ones once)."""
    parameters = sum(p.numel() for p in compressed.network.parameters())
    weights = weights_of(compressed.network)
    sizes = {name: tensor.numel() for name, tensor in tensors_of(compressed.network).items() if name in weights}
    bits = sum(size * nominal_bits(compressed.tensors[name]) for name, size in sizes.items())
    return Cost(
        stored_bytes=stored_bytes,
        fp32_bytes=fp32_bytes,
        parameters=parameters,
        bits_per_param=8 * stored_bytes / parameters,
        ratio=fp32_bytes / stored_bytes,
        packed_bytes=stored_bytes,  # nothing is entropy-coded yet
        nominal_bits=bits / max(sum(sizes.values()), 1),
        untouched=dict(compressed.untouched),
    )


def nominal_bits(stored: Stored) -> float:
    """Bits a weight at fixed width, scales and mask left out."""
    if stored.quantized:
        return math.log2(stored.levels)
    assert stored.values is not None
    return 8.0 * stored.values.element_size()
