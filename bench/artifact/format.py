"""The artifact: a compressed network as one self-contained file.

All reported sizes are lengths of such files.

    "GENC" | version u16 | header length u32 | header, deflated | streams | SHA-256 of all before
    (docs/format.md)

The header lists, column by column, how each tensor is stored and how long its streams are. The writer chooses
the shortest of a few codings for each stream. Indices have fixed width, or they are entropy-coded under their
own table or a shared one. Masks are entropy-coded, stored as numbers of n:m patterns, or merged into the
alphabet of the indices.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import Module

from bench.artifact import coding
from bench.artifact.header import (
    ARRAY_TYPES,
    COUNTED,
    FOLDED,
    FOLDED_INTO_ZERO,
    PATTERNS,
    PLAIN_BITS,
    UNMASKED,
    VERSIONS,
    WHOLE,
    Entry,
    Header,
)
from bench.artifact.structure import input_grids, rebuilt
from bench.artifact.trellis import merged
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Layout, StoredTensor, StructureEdit
from bench.layers import tensors_of
from bench.util.files import write_atomically

if TYPE_CHECKING:
    from bench.interfaces import Generator

MAGIC = b"GENC"
HEAD = struct.Struct("<4sHI")
CHECKSUM = 32  # bytes of SHA-256
PATTERNS_TOGETHER = 2**18  # of n:m masks, decoded at once


# ------------------------------------------------------------------------------------------------------ write


def save(compressed: Compressed, method: str, path: Path) -> int:
    """Write the artifact atomically and return its length in bytes."""
    data = encode(compressed, method)
    write_atomically(path, data)
    return len(data)


def encode(compressed: Compressed, method: str, entropy: bool = True) -> bytes:
    """The bytes of the file.

    Equal input gives equal bytes. `entropy=False` stores everything at fixed width, for comparison.
    """
    from bench.artifact.writer import encode_tensors

    header, streams = encode_tensors(compressed, method, entropy)
    packed, version = header.pack(), header.version
    try:
        Header.unpack(packed, sum(map(len, streams)), version)  # a file that could not be read is not written
    except ValueError as error:
        raise Unsupported(f"the network cannot be stored: {error}") from None
    parts, checksum = [HEAD.pack(MAGIC, version, len(packed)), packed, *streams], hashlib.sha256()
    for part in parts:  # never joined before: a second copy of the file would be the largest thing in memory
        checksum.update(part)
    return b"".join([*parts, checksum.digest()])


# ------------------------------------------------------------------------------------------------------- read


@dataclass(frozen=True)
class Artifact:
    """A file whose checksum and header are valid. Its tensors are decoded on request."""

    header: Header
    header_bytes: int
    streams: memoryview

    def tensors(self) -> Iterator[tuple[str, StoredTensor]]:
        """Yield the tensors in the order of the network.

        Raises `BadInput` where a stream does not match the header.
        """
        try:
            yield from self._tensors()
        except BadInput:  # the coder is missing
            raise
        except (ValueError, OverflowError, AssertionError) as error:  # the last: from the entropy coder
            raise BadInput(f"the artifact's streams are not valid: {error}") from None

    def _tensors(self) -> Iterator[tuple[str, StoredTensor]]:
        header, place = self.header, self.header.fp16_pool_bytes
        pool = bytes(self.streams[:place])
        count = sum(entry.halves for entry in header.entries)
        halves = coding.inflate_fp16(pool, count) if header.fp16_pool_deflated else np.frombuffer(pool, "<f2")
        if len(halves) != count:
            raise ValueError(f"{len(halves)} half floats instead of {count}")
        used = 0
        found: list[tuple[str, StoredTensor]] = []  # a tensor, and its factors where it has any
        for i, entry in enumerate(header.entries):
            mask, body = place + entry.mask_bytes, place + entry.mask_bytes + entry.body_bytes
            own = halves[used : used + entry.halves].astype(np.float16)
            stored = self._tensor(entry, bytes(self.streams[place:mask]), bytes(self.streams[mask:body]), own)
            found.append((entry.name, stored))
            place, used = body, used + entry.halves
            if i + 1 == len(header.entries) or header.entries[i + 1].part == WHOLE:
                yield _with_factors(*found)
                found = []

    def _tensor(self, entry: Entry, mask_stream: bytes, body: bytes, halves: np.ndarray) -> StoredTensor:
        flat_mask = self._mask(entry, mask_stream)
        layout = entry.layout
        kept = entry.count if flat_mask is None else int(flat_mask.sum())
        if kept != entry.kept:
            raise ValueError(f"{entry.name[:80]!r} keeps {kept} weights instead of {entry.kept}")
        pattern = (entry.n, entry.m) if entry.mask == PATTERNS else None
        if entry.array:
            kind = ARRAY_TYPES[entry.array]
            if entry.array == "b1" and body.strip(b"\0\1"):
                raise ValueError(f"{entry.name[:80]!r} holds flags that are neither 0 nor 1")
            values = (
                halves if entry.array == "f2" else np.frombuffer(body, kind).astype(kind.newbyteorder("="))
            )
            stored = StoredTensor(
                entry.shape, values=_restore(values, flat_mask, layout, entry), layout=layout, pattern=pattern
            )
        else:
            codebook = self.header.codebooks[entry.codebook]
            levels = len(codebook[0])
            symbols = self._indices(entry, body, levels)
            if entry.mask == FOLDED:
                flat_mask = symbols != levels
                symbols = np.where(flat_mask, symbols, 0)
            kind = np.dtype(np.uint8 if levels <= 256 else np.int16)
            beside = None if entry.mask == FOLDED else flat_mask
            stored = StoredTensor(
                entry.shape,
                indices=_restore(symbols.astype(kind), beside, layout, entry),
                codebook=codebook,
                scales=torch.from_numpy(halves.reshape(len(codebook), -1)),
                layout=layout,
                pattern=pattern,
                trellis=entry.trellis,
            )
        if flat_mask is None:
            return stored
        return dataclasses.replace(stored, mask=layout.unflat(torch.from_numpy(flat_mask), entry.shape))

    def _indices(self, entry: Entry, body: bytes, levels: int) -> np.ndarray:
        """Decode the index stream of a tensor."""
        if not entry.trellis:
            return self._coded(body, entry.coded, levels + (entry.mask == FOLDED), entry.table)
        even, odd = coding.halves_of(self._table(entry.table, levels))
        parts = [(entry.evens, even), (entry.coded - entry.evens, odd)]
        evens, odds = coding.entropy_decode_parts(body, parts)
        kind = np.uint8 if levels <= 256 else np.int16
        return merged(evens.astype(kind, copy=False), odds.astype(kind, copy=False), entry.trellis)

    def _coded(self, stream: bytes, count: int, alphabet: int, number: int) -> np.ndarray:
        """Decode symbols under the table with this number; 0 means fixed width."""
        if not number:
            return coding.unpack(stream, count, alphabet)
        return coding.entropy_decode(stream, count, self._table(number, alphabet))

    def _table(self, number: int, alphabet: int) -> bytes:
        table = self.header.tables[number - 1]
        if len(table) != alphabet:
            raise ValueError(f"a table of {len(table)} symbols for {alphabet}")
        return table

    def _mask(self, entry: Entry, stream: bytes) -> np.ndarray | None:
        """Decode a mask: bool [numel] in the order of the file; None where the tensor has no mask."""
        if entry.mask in (UNMASKED, FOLDED, FOLDED_INTO_ZERO):
            return None
        if entry.mask == PLAIN_BITS:
            return coding.unpack(stream, entry.count, 2).astype(bool)
        if entry.mask == COUNTED:
            return self._coded(stream, entry.count, 2, entry.mask_table).astype(bool)
        length = entry.layout.channel_length(entry.shape)
        each, channels = -(-length // entry.m), entry.count // length if length else 0
        ranks = self._coded(stream, each * channels, math.comb(entry.m, entry.n), entry.mask_table)
        mask = np.zeros((channels, length), bool)
        # in parts: with channels shorter than m, all patterns together take far more memory than the mask
        part = max(1, PATTERNS_TOGETHER // max(each, 1))
        for i in range(0, channels, part):
            patterns = coding.unrank_patterns(ranks[i * each : (i + part) * each], entry.n, entry.m)
            mask[i : i + part] = patterns.reshape(-1, each * entry.m)[:, :length]
        return mask.ravel()


def _with_factors(
    whole: tuple[str, StoredTensor], *factors: tuple[str, StoredTensor]
) -> tuple[str, StoredTensor]:
    """A tensor [and its left and right factor] -> the tensor with its factors."""
    if not factors:
        return whole
    (_, left), (_, right) = factors
    return whole[0], dataclasses.replace(whole[1], factors=(left, right))


def _restore(values: np.ndarray, mask: np.ndarray | None, layout: Layout, entry: Entry) -> torch.Tensor:
    """Place the kept values, in the order of the file, into the dense tensor."""
    if mask is not None:
        dense = np.zeros(entry.count, values.dtype)
        dense[mask] = values
        values = dense
    return layout.unflat(torch.from_numpy(np.ascontiguousarray(values)), entry.shape)


def open_artifact(path: Path) -> Artifact:
    """Read a file, verify its checksum and parse its header.

    Raises `BadInput` with one line for an invalid file.
    """
    try:
        return parse(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {str(path)!r}: {error.strerror}") from None
    except BadInput as error:
        raise BadInput(f"{str(path)!r}: {error}") from None


def parse(data: bytes) -> Artifact:
    """Parse the bytes of a file as `open_artifact` does."""
    if len(data) < HEAD.size + CHECKSUM or data[:4] != MAGIC:
        raise BadInput("not an artifact of this benchmark")
    _, version, header_length = HEAD.unpack_from(data)
    if version not in VERSIONS:
        raise BadInput(
            f"artifact version {version}; this program reads versions {', '.join(map(str, VERSIONS))}"
        )
    if hashlib.sha256(memoryview(data)[:-CHECKSUM]).digest() != data[-CHECKSUM:]:
        raise BadInput("the artifact is damaged: its checksum does not match")
    start = HEAD.size + header_length
    if start > len(data) - CHECKSUM:
        raise BadInput("the artifact's header is not valid: it is cut short")
    streams = memoryview(data)[start:-CHECKSUM]
    try:
        header = Header.unpack(data[HEAD.size : start], len(streams), version)
        return Artifact(header, header_length, streams)
    except (ValueError, OverflowError, RecursionError) as error:
        raise BadInput(f"the artifact's header is not valid: {error}") from None


def load(path: Path) -> tuple[str, list[StructureEdit], dict[str, StoredTensor]]:
    """Read an artifact -> (method, structure, tensors). Raises `BadInput` for an invalid file."""
    artifact = open_artifact(path)
    return artifact.header.method, list(artifact.header.structure), dict(artifact.tensors())


def decode(data: bytes) -> tuple[str, list[StructureEdit], dict[str, StoredTensor]]:
    """Decode the bytes of a file as `load` does."""
    artifact = parse(data)
    return artifact.header.method, list(artifact.header.structure), dict(artifact.tensors())


# ---------------------------------------------------------------------------------------------------- rebuild


def rebuild(path: Path, generator: Generator) -> Module:
    """Build the network from the bytes of its artifact alone. This network makes the samples."""
    artifact = open_artifact(path)
    network = rebuilt(generator, artifact.header.structure)
    # before anything is decoded
    check_fit(network, artifact.header.shapes)
    wanted = tensors_of(network)
    with torch.no_grad():
        for name, stored in artifact.tensors():
            wanted[name].copy_(stored.dequantize())
    return network


def fill(network: Module, tensors: Mapping[str, StoredTensor]) -> None:
    """Load dequantized tensors into a network of the same structure.

    Raises an error unless every tensor is there.
    """
    check_fit(network, {name: stored.shape for name, stored in tensors.items()})
    with torch.no_grad():
        for name, target in tensors_of(network).items():
            target.copy_(tensors[name].dequantize())


def check_fit(network: Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises `BadInput` unless these are the network's tensors."""
    wanted = tensors_of(network)
    if wanted.keys() != shapes.keys():
        missing, extra = sorted(wanted.keys() - shapes.keys()), sorted(shapes.keys() - wanted.keys())
        not_wanted = [name[:80] for name in extra[:3]]
        raise BadInput(
            f"the artifact does not fit the network: missing {missing[:3]}, not wanted {not_wanted}"
        )
    for name, target in wanted.items():
        if tuple(target.shape) != shapes[name]:
            raise BadInput(
                f"the artifact does not fit the network: {name} is {str(shapes[name])[:80]}, not "
                f"{tuple(target.shape)}"
            )


def tensors_digest(network: Module) -> str:
    """SHA-256 of the float32 values of all tensors, and of how inputs are quantized where they are.

    Two codings of the same values share samples and features.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors_of(network).items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(tensor.float().cpu().numpy()).tobytes())
    for path, grid in sorted(input_grids(network).items()):
        digest.update(f"{path}{grid}".encode())
    return digest.hexdigest()
