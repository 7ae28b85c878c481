"""The artifact: a compressed network as one self-contained file. Its length is the only size that a result may claim.

    "GENC" | version u16 | header length u32 | header: JSON, deflated | payload: packed tensors | SHA-256 of all before

The header lists the tensors in order with how each is stored; their lengths follow from that, so the payload needs no
index. Indices are packed at fixed width in the smallest whole number of digits a word (ternary: 40 in 8 bytes, 1.6 bits
each). Where a mask is present only kept values are written, after one bit a weight. `coding` in the header names the
packing, so that an entropy coder can be added beside `fixed` without a new container.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import Module

from bench.errors import BadInput, Unsupported
from bench.files import write_atomically
from bench.interfaces import Compressed, Edit, Stored
from bench.layers import tensors_of

if TYPE_CHECKING:
    from bench.interfaces import Generator

MAGIC, VERSION = b"GENC", 1
HEAD = struct.Struct("<4sHI")
LARGEST_HEADER = 16 * 2**20  # inflated; far above any real network's
DTYPES: dict[str, np.dtype[Any]] = {
    "f4": np.dtype("<f4"),
    "f2": np.dtype("<f2"),
    "i8": np.dtype("<i8"),
    "i4": np.dtype("<i4"),
    "u1": np.dtype("u1"),
    "b1": np.dtype("?"),
}


# ------------------------------------------------------------------------------------------------------ write and read


def save(compressed: Compressed, method: str, path: Path) -> int:
    """Write the artifact atomically -> its length in bytes."""
    data = encode(compressed, method)
    write_atomically(path, data)
    return len(data)


def encode(compressed: Compressed, method: str) -> bytes:
    parts = [_write(stored) for stored in compressed.tensors.values()]
    header = {
        "method": method,
        "coding": "fixed",
        "structure": [[edit.path, edit.kind, dict(edit.args)] for edit in compressed.structure],
        "tensors": [[name, *entry] for name, (entry, _) in zip(compressed.tensors, parts, strict=True)],
    }
    packed = zlib.compress(json.dumps(header, separators=(",", ":")).encode(), 9)
    body = HEAD.pack(MAGIC, VERSION, len(packed)) + packed + b"".join(data for _, data in parts)
    return body + hashlib.sha256(body).digest()


def load(path: Path) -> tuple[str, list[Edit], dict[str, Stored]]:
    """Read an artifact -> (method, structure, tensors). Raises `BadInput` for a file that is not a whole artifact."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {str(path)!r}: {error.strerror}") from None
    except BadInput as error:
        raise BadInput(f"{str(path)!r}: {error}") from None


def decode(data: bytes) -> tuple[str, list[Edit], dict[str, Stored]]:
    if len(data) < HEAD.size + 32 or data[:4] != MAGIC:
        raise BadInput("not an artifact of this benchmark")
    _, version, header_length = HEAD.unpack_from(data)
    if version != VERSION:
        raise BadInput(f"artifact version {version}; this program reads version {VERSION}")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise BadInput("the artifact is damaged: its checksum does not match")
    try:
        header = _read_header(data[HEAD.size : HEAD.size + header_length])
        payload = io.BytesIO(data[HEAD.size + header_length : -32])
        structure = [_read_edit(*edit) for edit in header["structure"]]
        tensors: dict[str, Stored] = {}
        for name, *entry in header["tensors"]:
            if not isinstance(name, str) or name in tensors:
                raise ValueError(f"tensor name {str(name)[:80]!r} is no text or comes twice")
            tensors[name] = _read(entry, payload)
        if payload.read(1):
            raise ValueError("the tensors do not fill the payload")
        return str(header["method"]), structure, tensors
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError, zlib.error) as error:
        raise BadInput(f"the artifact's header is not valid: {error}") from None


def _read_header(packed: bytes) -> dict[str, Any]:
    inflate = zlib.decompressobj()
    text = inflate.decompress(packed, LARGEST_HEADER)
    if inflate.unconsumed_tail or not inflate.eof:
        raise ValueError("it is cut short or too large")
    header = json.loads(text)
    if not isinstance(header, dict) or header.get("coding") != "fixed":
        raise ValueError("unknown coding")
    return header


def _read_edit(path: Any, kind: Any, args: Any) -> Edit:
    if not (isinstance(path, str) and isinstance(kind, str) and isinstance(args, dict)):
        raise ValueError("an edit of the structure is not (text, text, settings)")
    return Edit(path, kind, args)


def rebuild(path: Path, generator: Generator) -> Module:
    """The network of the artifact file, from its bytes alone: what makes the samples."""
    _, structure, tensors = load(path)
    network = generator.rebuild(structure)
    fill(network, tensors)
    return network


def fill(network: Module, tensors: Mapping[str, Stored]) -> None:
    """Load dequantized tensors into a network of the right structure, tied ones once. Every tensor, or an error."""
    wanted = tensors_of(network)
    if wanted.keys() != tensors.keys():
        missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
        raise BadInput(f"the artifact does not fit the network: missing {missing[:3]}, not wanted {extra[:3]}")
    with torch.no_grad():
        for name, target in wanted.items():
            if tuple(target.shape) != tensors[name].shape:
                raise BadInput(f"the artifact does not fit the network: {name} is {tensors[name].shape}, not {tuple(target.shape)}")
            target.copy_(tensors[name].dequantize())


def tensors_digest(network: Module) -> str:
    """SHA-256 of all tensors' float32 values: two codings of the same values share samples and features."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors_of(network).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.float().cpu().numpy()).tobytes())
    return digest.hexdigest()


# -------------------------------------------------------------------------------------------------------- one tensor


def _write(stored: Stored) -> tuple[list[Any], bytes]:
    """-> (header entry without the name, bytes)."""
    mask = None if stored.mask is None else stored.mask.cpu().numpy().ravel()
    bits = b"" if mask is None else np.packbits(mask).tobytes()
    entry: list[Any] = [list(stored.shape), int(mask is not None)]
    if stored.indices is not None and stored.scales is not None:
        indices = stored.indices.cpu().numpy().ravel()
        indices = indices if mask is None else indices[mask]
        scales = stored.scales.cpu().numpy().astype("<f2")
        return [*entry, "grid", stored.axis, list(stored.levels), len(scales)], bits + scales.tobytes() + pack(indices, len(stored.levels))
    assert stored.values is not None
    values = stored.values.cpu().numpy().ravel()
    code = next((c for c, dtype in DTYPES.items() if dtype == values.dtype), None)
    if code is None:
        raise Unsupported(f"tensors of type {values.dtype} cannot be stored")
    values = (values if mask is None else values[mask]).astype(DTYPES[code])
    return [*entry, code], bits + values.tobytes()


def _read(entry: Sequence[Any], payload: io.BytesIO) -> Stored:
    shape, masked, kind, *rest = entry
    if len(shape) > 16 or not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError(f"shape {str(shape)[:80]}")
    count = math.prod(shape)
    if count > 64 * (payload.getbuffer().nbytes + 8):  # no packing here stores 64 weights in a byte: the size lies
        raise ValueError(f"shape {str(shape)[:80]} is larger than the file can hold")
    mask = np.unpackbits(_take(payload, -(-count // 8), np.dtype("u1")), count=count).astype(bool) if masked else None
    kept = count if mask is None else int(mask.sum())
    torch_mask = None if mask is None else torch.from_numpy(mask.reshape(shape))
    if kind == "grid":
        axis, levels, channels = rest
        if not isinstance(axis, int) or axis not in range(len(shape)) or channels not in (1, shape[axis]):
            raise ValueError(f"{str(channels)[:20]} scales along axis {str(axis)[:20]} do not fit shape {shape}")
        scales = torch.from_numpy(_take(payload, channels, DTYPES["f2"]).astype(np.float16))
        indices = _spread(unpack(payload, kept, len(levels)), mask, count).reshape(shape)
        return Stored(
            tuple(shape), indices=torch.from_numpy(indices), levels=tuple(map(float, levels)), scales=scales, axis=axis, mask=torch_mask
        )
    values = _take(payload, kept, DTYPES[kind])
    return Stored(tuple(shape), values=torch.from_numpy(_spread(values, mask, count).reshape(shape)), mask=torch_mask)


def _spread(kept: np.ndarray, mask: np.ndarray | None, count: int) -> np.ndarray:
    if mask is None:
        return kept.copy()
    dense = np.zeros(count, kept.dtype)
    dense[mask] = kept
    return dense


def _take(payload: io.BytesIO, count: int, dtype: np.dtype[Any]) -> np.ndarray:
    data = payload.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise ValueError("the payload is cut short")
    return np.frombuffer(data, dtype)


# ------------------------------------------------------------------------------------------------- packing of indices


def word(levels: int) -> tuple[int, int]:
    """The tightest packing of base-`levels` digits: (bytes a word, digits a word), words of at most 8 bytes."""
    choices = [(size, int(8 * size / math.log2(levels) + 1e-9)) for size in range(1, 9)]
    return min(((size, digits) for size, digits in choices if digits), key=lambda c: (c[0] / c[1], c[0]))


def pack(indices: np.ndarray, levels: int) -> bytes:
    """uint8 [n] -> bytes."""
    size, digits = word(levels)
    padded = np.zeros((-(-len(indices) // digits), digits), np.uint64)
    padded.ravel()[: len(indices)] = indices
    values = np.zeros(len(padded), np.uint64)
    for column in padded.T[::-1]:
        values = values * np.uint64(levels) + column
    return values.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :size].tobytes()


def unpack(payload: io.BytesIO, count: int, levels: int) -> np.ndarray:
    """The inverse of `pack` -> uint8 [count]."""
    if not 2 <= levels <= 256:
        raise ValueError(f"{levels} levels")
    size, digits = word(levels)
    words = -(-count // digits)
    bytes_ = np.zeros((words, 8), np.uint8)
    bytes_[:, :size] = _take(payload, words * size, np.dtype("u1")).reshape(words, size)
    values = bytes_.view("<u8")[:, 0].copy()
    columns = np.empty((words, digits), np.uint8)
    for i in range(digits):
        values, columns[:, i] = np.divmod(values, np.uint64(levels))
    return columns.ravel()[:count]


def fixed_width_bits(stored: Stored) -> float:
    """Nominal bits per weight of one tensor, scales and mask left out."""
    if stored.indices is None:
        assert stored.values is not None
        return 8.0 * stored.values.element_size()
    return math.log2(len(stored.levels))
