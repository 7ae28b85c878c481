"""The cost of a compressed network: sizes of real files and counts of operations. It measures no time.

Multiply-accumulates with zero weights are counted separately, since no runtime that we know skips single
zeros. Until one does, their share is only a potential saving.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from bench.artifact.format import encode
from bench.artifact.structure import QUANTIZE_INPUT
from bench.interfaces import Compressed, StoredTensor
from bench.layers import tensors_of, weights_of
from bench.records.provenance import git_state
from bench.records.schema import Cost

if TYPE_CHECKING:
    from bench.metrics.macs import Macs

ACTIVATION_BITS = 32  # of an input that no method quantizes
UNTOUCHED_WARNING = 0.05  # share of the model's bytes


def cost_of(
    compressed: Compressed, method: str, file: Path, fp32_bytes: int, macs: Macs | None = None
) -> Cost:
    """Measure the cost of a compressed network.

    `bits_per_param` counts all bits of the file and divides by the parameters of the original network (tied
    ones once).
    """
    parameters = sum(p.numel() for p in compressed.network.parameters())
    stored_bytes = file.stat().st_size
    weights = {
        name: compressed.tensors[name]
        for name in weights_of(compressed.network)
        if name in compressed.tensors
    }
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
        uncalibrated=dict(compressed.uncalibrated),
        exceptions={text: dict(why) for text, why in compressed.exceptions.items()},
        activations=activations(compressed),
        **operations(weights, macs, input_bits(compressed)),
        commit=git_state()[0],
    )


def share_of_nonzero(weight: Tensor) -> float:
    """The share of a weight's entries that are not zero."""
    return int(weight.count_nonzero()) / max(weight.numel(), 1)


def nominal_bits(stored: StoredTensor) -> float:
    """Bits a weight at fixed width, without scales and masks."""
    if stored.quantized:
        return math.log2(stored.levels)
    assert stored.values is not None
    return 8.0 * stored.values.element_size()


def memory_bytes(stored: StoredTensor) -> int:
    """Bytes in memory for a runtime that computes from indices: whole bits a weight, zeros included, the
    scales, and low-rank factors.
    """
    bits = math.ceil(nominal_bits(stored))
    scales = 0 if stored.scales is None else stored.scales.numel() * stored.scales.element_size()
    factors = sum(memory_bytes(factor) for factor in stored.factors or ())
    return -(-bits * math.prod(stored.shape) // 8) + scales + factors


def input_bits(compressed: Compressed) -> dict[str, int]:
    """Weight -> bits of what its layer multiplies it with, where that is quantized."""
    grids = {edit.path: edit.args for edit in compressed.structure if edit.kind == QUANTIZE_INPUT}
    found = {}
    for name, weight in weights_of(compressed.network).items():
        bits = [grids[path]["bits"] for path in weight.paths if path in grids]
        if bits:
            found[name] = max(bits)
    return found


def activations(compressed: Compressed) -> str:
    """What layers compute with, in words."""
    grids = [edit.args for edit in compressed.structure if edit.kind == QUANTIZE_INPUT]
    if not grids:
        return "float32"
    bits = "/".join(map(str, sorted({args["bits"] for args in grids})))
    ranges = "/".join(sorted({"static" if "step" in args else "dynamic" for args in grids}))
    return f"inputs of {len(grids)} layers with {bits} bits, {ranges} ranges; simulated in float32"


def operations(
    weights: Mapping[str, StoredTensor], macs: Macs | None, inputs: Mapping[str, int]
) -> dict[str, float | None]:
    """Multiply-accumulates of one sample: all of them, those with non-zero weights, and their bit operations.

    inputs: weight -> bits of its layer's input, where that is quantized.

    A bit operation count is bits of weight times bits of activation. It includes only non-zero weights, as in
    Baskin et al. 2018 (arXiv:1804.10969) without the accumulator's width. Low-rank factors come on top of
    their residual: a layer multiplies its input with the residual, and with one factor after the other.
    """
    if macs is None:
        return {"macs": None, "macs_nonzero": None, "bit_operations": None}
    left, bits = 0.0, 0.0
    for name, stored in weights.items():
        positions = macs.by_weight.get(name, 0.0) / max(math.prod(stored.shape), 1)
        for part in (stored.residual(), *(stored.factors or ())):
            nonzero = positions * int(part.dequantize().count_nonzero())
            left += nonzero
            bits += nonzero * math.ceil(nominal_bits(part)) * inputs.get(name, ACTIVATION_BITS)
    return {
        "macs": macs.total,
        "macs_nonzero": left + macs.other,
        "bit_operations": bits + macs.other * ACTIVATION_BITS**2,
    }


def untouched_bytes(compressed: Compressed) -> int:
    """The float32 bytes of compressible-looking tensors that no method compressed."""
    tensors = tensors_of(compressed.network)
    return sum(4 * tensors[name].numel() for name in compressed.untouched if name in tensors)


def warnings_of(cost: Cost) -> list[str]:
    """Warnings about a cost: tensors without compression that take a large share of the model."""
    share = cost.untouched_bytes / max(4 * cost.parameters, 1)
    if share <= UNTOUCHED_WARNING:
        return []
    names = ", ".join(sorted(cost.untouched)[:5])
    return [f"{share:.0%} of the model's bytes were left uncompressed: {names}"]
