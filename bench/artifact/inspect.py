"""Reports where the bits of a compressed file went, by tensor and by component.

Every byte is counted once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.artifact.format import CHECKSUM, HEAD, Artifact, open_artifact
from bench.artifact.header import (
    COUNTED,
    EXACT,
    FOLDED,
    FOLDED_INTO_ZERO,
    PATTERNS,
    PLAIN_BITS,
    UNMASKED,
    WHOLE,
    Entry,
)

COMPONENTS = ("indices", "mask", "scales", "values")
MASKS = {
    UNMASKED: "",
    PLAIN_BITS: "1 bit each",
    COUNTED: "entropy-coded",
    FOLDED: "in the indices",
    FOLDED_INTO_ZERO: "in the indices",
}


def account(file: Path) -> dict[str, Any]:
    """The report of `inspect`, ready for JSON.

    Raises `BadInput` for an invalid file, and its streams are checked too.
    """
    artifact = open_artifact(file)
    for _ in artifact.tensors():  # also check the streams
        pass
    header = artifact.header
    halves = sum(entry.halves for entry in header.entries)
    # bytes of a float16 number in the deflated pool
    byte = header.fp16_pool_bytes / halves if halves else 0.0
    tensors = [_tensor(artifact, entry, byte) for entry in header.entries]
    total = file.stat().st_size
    beside = {"header": artifact.header_bytes, "checksum and frame": HEAD.size + CHECKSUM}
    streams: dict[str, float] = {}
    for component in COMPONENTS:
        streams[component] = sum(tensor["bytes"][component] for tensor in tensors)
    weights = sum(entry.count for entry in header.entries if entry.part == WHOLE)
    return {
        "file": str(file),
        "method": header.method,
        "bytes": total,
        "numbers": weights,
        "bits_per_number": 8 * total / max(weights, 1),
        "components": {name: round(size, 1) for name, size in {**streams, **beside}.items()},
        "tensors": tensors,
    }


def _tensor(artifact: Artifact, entry: Entry, byte: float) -> dict[str, Any]:
    own = entry.halves * byte
    sizes = {
        "indices": 0.0 if entry.array else float(entry.body_bytes),
        "mask": float(entry.mask_bytes),
        "scales": 0.0 if entry.array else own,
        "values": own + entry.body_bytes if entry.array else 0.0,
    }
    return {
        "name": entry.name,
        "shape": list(entry.shape),
        "stored_as": _kind(artifact, entry),
        "mask": f"{entry.n}:{entry.m} patterns" if entry.mask == PATTERNS else MASKS[entry.mask],
        "bytes": {name: round(size, 1) for name, size in sizes.items()},
        "bits_per_number": 8 * sum(sizes.values()) / max(entry.count, 1),
        "sqnr_db": None if entry.fidelity == EXACT else entry.fidelity / 4,
    }


def _kind(artifact: Artifact, entry: Entry) -> str:
    if entry.array:
        return {"f2": "float16", "f4": "float32"}.get(entry.array, entry.array)
    rows = {
        "tensor": "one scale",
        "channel": f"a scale for each of axis {entry.axis}"
        + (f" in {entry.blocks} blocks" if entry.blocks > 1 else ""),
        "group": f"a scale for {entry.group} weights",
    }
    planes = artifact.header.codebooks[entry.codebook]
    coding = "entropy-coded" if entry.table else "fixed width"
    coding += f" along a trellis of {2**entry.trellis} states" if entry.trellis else ""
    offsets = f" x {len(planes)} planes" if len(planes) > 1 else ""
    return f"{len(planes[0])} levels{offsets}, {rows[entry.granularity]}, {coding}"


def as_table(found: Mapping[str, Any]) -> str:
    """The report as plain text for a terminal."""
    from tabulate import tabulate

    rows = [_row(tensor) for tensor in found["tensors"]]
    headers = [
        "tensor",
        "shape",
        "stored as",
        "mask",
        *(f"{component}" for component in COMPONENTS),
        "bits",
        "SQNR dB",
    ]
    table = tabulate(rows, headers=headers, disable_numparse=True, colalign=("left",) * 4 + ("right",) * 6)
    parts = ", ".join(f"{name} {size:,.0f}" for name, size in found["components"].items() if size)
    first = (
        f"{found['file']}: {found['method']}, {found['bytes']:,} bytes, "
        f"{found['bits_per_number']:.2f} bits a number"
    )
    return f"{first}\nbytes: {parts}\nbits a number by component, tensor by tensor:\n{table}"


def _row(tensor: Mapping[str, Any]) -> list[str]:
    return [
        tensor["name"],
        "x".join(map(str, tensor["shape"])) or "scalar",
        tensor["stored_as"],
        tensor["mask"],
        *(f"{8 * tensor['bytes'][component] / max(_count(tensor), 1):.2f}" for component in COMPONENTS),
        f"{tensor['bits_per_number']:.2f}",
        "exact" if tensor["sqnr_db"] is None else f"{tensor['sqnr_db']:.2f}",
    ]


def _count(tensor: Mapping[str, Any]) -> int:
    count = 1
    for size in tensor["shape"]:
        count *= size
    return count
