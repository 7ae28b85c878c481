"""What a compressed network costs: sizes of files that exist, and counts. Nothing here is a time.

Multiply-accumulates with zero weights are counted apart, since no runtime that we know skips single zeros: that share is a
promise, until a runtime keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from bench.artifact.format import encode
from bench.interfaces import Compressed, StoredTensor
from bench.layers import tensors_of, weights_of
from bench.records.provenance import git_state
from bench.records.schema import Cost

if TYPE_CHECKING:
    from bench.metrics.macs import Macs

ACTIVATION_BITS = 32  # no method here quantizes activations
UNTOUCHED_WARNING = 0.05  # share of the model's bytes


def cost_of(compressed: Compressed, method: str, file: Path, fp32_bytes: int, macs: Macs | None = None) -> Cost:
    """`bits_per_param` counts everything in the file over the parameters of the original network (tied ones once)."""
    parameters = sum(p.numel() for p in compressed.network.parameters())
    stored_bytes = file.stat().st_size
    weights = {name: compressed.tensors[name] for name in weights_of(compressed.network) if name in compressed.tensors}
    dense = {name: math.prod(stored.shape) for name, stored in weights.items()}
    kept = {name: share_of_nonzero(stored.dequantize()) for name, stored in weights.items()}
    count = max(sum(dense.values()), 1)
    return Cost(
        stored_bytes=stored_bytes,
        fp32_bytes=fp32_bytes,
        parameters=parameters,
        bits_per_param=8 * stored_bytes / parameters,
        ratio=fp32_bytes / stored_bytes,
        packed_bytes=len(encode(compressed, method, entropy=False)),
        nominal_bits=sum(dense[name] * nominal_bits(stored) for name, stored in weights.items()) / count,
        sparsity=1 - sum(dense[name] * kept[name] for name in weights) / count,
        memory_bytes=sum(memory_bytes(stored) for stored in compressed.tensors.values()),
        untouched=dict(compressed.untouched),
        untouched_bytes=untouched_bytes(compressed),
        **operations(weights, kept, macs),
        commit=git_state()[0],
    )


def share_of_nonzero(weight: Tensor) -> float:
    return int(weight.count_nonzero()) / max(weight.numel(), 1)


def nominal_bits(stored: StoredTensor) -> float:
    """Bits a weight at fixed width, scales and mask left out."""
    if stored.quantized:
        return math.log2(stored.levels)
    assert stored.values is not None
    return 8.0 * stored.values.element_size()


def memory_bytes(stored: StoredTensor) -> int:
    """In memory, ready for a runtime that computes from indices: whole bits a weight, zeros included, and the scales."""
    bits = math.ceil(nominal_bits(stored))
    scales = 0 if stored.scales is None else stored.scales.numel() * stored.scales.element_size()
    return -(-bits * math.prod(stored.shape) // 8) + scales


def operations(weights: Mapping[str, StoredTensor], kept: Mapping[str, float], macs: Macs | None) -> dict[str, float | None]:
    """A sample's multiply-accumulates: all, those with non-zero weights, and in bit operations (bits of weight times bits of activation).

    Bit operations count only non-zero weights, as in Baskin et al. 2018 (arXiv:1804.10969) without the accumulator's width.
    """
    if macs is None:
        return {"macs": None, "macs_nonzero": None, "bit_operations": None}
    left = {name: macs.by_weight.get(name, 0.0) * share for name, share in kept.items()}
    bits = sum(left[name] * math.ceil(nominal_bits(stored)) * ACTIVATION_BITS for name, stored in weights.items())
    return {
        "macs": macs.total,
        "macs_nonzero": sum(left.values()) + macs.other,
        "bit_operations": bits + macs.other * ACTIVATION_BITS**2,
    }


def untouched_bytes(compressed: Compressed) -> int:
    """float32 bytes of tensors that look compressible and were left alone."""
    tensors = tensors_of(compressed.network)
    return sum(4 * tensors[name].numel() for name in compressed.untouched if name in tensors)


def warnings_of(cost: Cost) -> list[str]:
    share = cost.untouched_bytes / max(4 * cost.parameters, 1)
    if share <= UNTOUCHED_WARNING:
        return []
    names = ", ".join(sorted(cost.untouched)[:5])
    return [f"{share:.0%} of the model's bytes were left uncompressed: {names}"]
