"""Writes the streams of tensors: the writer chooses the shortest coding for each tensor."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bench.artifact.format import coding
from bench.artifact.header import (
    ARRAY_TYPES,
    COUNTED,
    EXACT,
    FACTORS,
    FOLDED,
    FOLDED_INTO_ZERO,
    LEFT,
    MOST_PATTERNS_CODED,
    PATTERNS,
    PLAIN_BITS,
    RIGHT,
    UNMASKED,
    WHOLE,
    Codebook,
    Entry,
    Header,
    may_be_stored,
)
from bench.artifact.structure import INPUT_SCALES, SCALE_INPUT
from bench.artifact.trellis import follows, in_steps
from bench.errors import Unsupported
from bench.interfaces import Compressed, StoredTensor
from bench.layers import Weight, tensors_of, weights_of


def encode_tensors(
    compressed: Compressed, method: str, entropy: bool = True
) -> tuple[Header, list[bytes | memoryview]]:
    """Encode tensors -> (header, streams in the order of the file)."""
    grids = with_common_grid(compressed.tensors) if entropy else compressed.tensors
    tensors = {name: in_file_order(name, stored) for name, (_, stored) in with_factors(grids).items()}
    parts = {name: part for name, (part, _) in with_factors(grids).items()}
    writer = Writer(shared_tables(tensors) if entropy else {}, entropy)
    originals = tensors_of(compressed.network)
    scaled = any(edit.kind == SCALE_INPUT for edit in compressed.structure)
    weights = weights_of(compressed.network) if scaled else {}
    entries: list[Entry] = []
    streams: list[bytes | memoryview] = []
    for name, flat in tensors.items():
        entry, *own = writer.write(flat)
        is_whole = entropy and parts[name] == WHOLE
        factors = input_factors(compressed.tensors, weights[name]) if name in weights else None
        lost = fidelity(originals.get(name), compressed.tensors[name], factors) if is_whole else EXACT
        entries.append(dataclasses.replace(entry, fidelity=lost, part=parts[name]))
        streams += own
    halves = np.concatenate([flat.halves for flat in tensors.values()]) if tensors else np.zeros(0, "<f2")
    raw, deflated = halves.astype("<f2").tobytes(), coding.deflate_fp16(halves) if entropy else b""
    is_squeezed = entropy and len(deflated) < len(raw)
    pool = deflated if is_squeezed else raw
    header = Header(
        method,
        compressed.structure,
        tuple(writer.codebooks),
        tuple(writer.tables),
        tuple(entries),
        len(pool),
        is_squeezed,
    )
    return header, [pool, *streams]


def with_factors(tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, StoredTensor]]:
    """Tensors and, behind each, its factors, as entries of the file: name -> (part, stored)."""
    found: dict[str, tuple[int, StoredTensor]] = {}
    for name, stored in tensors.items():
        own = [(name, WHOLE, stored)]
        if stored.factors is not None:
            own += [(name + FACTORS[p], p, factor) for p, factor in zip((LEFT, RIGHT), stored.factors)]
        for entry, part, one in own:
            if entry in found or (part != WHOLE and entry in tensors):
                raise Unsupported(f"the tensor name {entry!r} cannot be stored beside factors")
            found[entry] = part, one
    return found


def input_factors(tensors: Mapping[str, StoredTensor], weight: Weight) -> Tensor | None:
    """What multiplies the inputs of a weight, in a shape that multiplies the weight. None: nothing."""
    scales = tensors.get(f"{weight.name.removesuffix('.weight')}.{INPUT_SCALES}")
    if scales is None or not weight.name.endswith(".weight"):
        return None
    shape, inputs = tensors[weight.name].shape, 1 - weight.axis
    if shape[inputs] != len(factors := scales.dequantize()):
        return None  # groups share the weight's inputs
    return factors.reshape(-1, *(1 for _ in shape[inputs + 1 :]))


def fidelity(original: Tensor | None, stored: StoredTensor, factors: Tensor | None = None) -> int:
    """The signal-to-noise ratio of a stored tensor in quarter decibels, 0 to 254. 255 means lossless.

    factors: of the weight's inputs; the layer computes as if the weight were multiplied with them.
    """
    if original is None or tuple(original.shape) != stored.shape:
        return 0  # another structure: there is nothing to compare with
    dense = stored.dequantize() if factors is None else stored.dequantize() * factors
    if not original.is_floating_point():
        dense, original = dense.double(), original.double()  # flags have no difference
    difference = dense.sub_(original) if stored.quantized else dense - original
    noise, signal = difference.double().square().sum().item(), original.double().square().sum().item()
    if not noise:
        return EXACT
    return min(max(round(40 * math.log10(signal / noise)), 0), EXACT - 1) if signal else 0


# ------------------------------------------------------------------------------------- tensors as flat arrays


@dataclass(frozen=True)
class Flat:
    """A tensor in the order of the file, output channels first."""

    name: str
    stored: StoredTensor
    indices: np.ndarray | None
    values: np.ndarray | None  # only those kept; float16 ones are in `halves`
    array: str
    mask: np.ndarray | None
    halves: np.ndarray  # scales, or float16 values


def in_file_order(name: str, stored: StoredTensor) -> Flat:
    """Reorder a stored tensor for the file. Raises `Unsupported` for what the format cannot store."""
    if not may_be_stored(name):
        raise Unsupported(f"the tensor name {name!r} cannot be stored")

    def flat(tensor: Tensor | None) -> np.ndarray | None:
        return None if tensor is None else np.ascontiguousarray(stored.layout.flat(tensor).cpu().numpy())

    mask, none = flat(stored.mask), np.zeros(0, "<f2")
    if stored.quantized:
        assert stored.scales is not None
        return Flat(
            name,
            stored,
            flat(stored.indices),
            None,
            "",
            mask,
            stored.scales.cpu().numpy().astype("<f2").ravel(),
        )
    values = flat(stored.values)
    assert values is not None
    array = next((code for code, kind in ARRAY_TYPES.items() if kind == values.dtype), None)
    if array is None:
        raise Unsupported(f"tensors of type {values.dtype} cannot be stored")
    values = (values if mask is None else values[mask]).astype(ARRAY_TYPES[array], copy=False)
    return (
        Flat(name, stored, None, none, array, mask, values)
        if array == "f2"
        else Flat(name, stored, None, values, array, mask, none)
    )


def with_common_grid(tensors: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Embed grids of whole steps in one grid that covers them all, so that the tensors can share a table."""
    grids = {
        name: (int(s.codebook[0][0]), int(s.codebook[0][-1]))
        for name, s in tensors.items()
        if _has_whole_steps(s.codebook)
    }
    first, last = (
        min((a for a, _ in grids.values()), default=0),
        max((b for _, b in grids.values()), default=0),
    )
    if any(tensors[name].trellis for name in grids):  # the last two bits of an index have a meaning
        first -= first % 4
        grids = {name: ends for name, ends in grids.items() if not (ends[0] - first) % 4}
    if len(set(grids.values())) < 2 or last - first >= coding.MOST_SYMBOLS:
        return dict(tensors)
    common = (tuple(map(float, range(first, last + 1))),)
    kind = torch.uint8 if len(common[0]) <= 256 else torch.int16
    moved = {}
    for name, (start, _) in grids.items():
        indices = tensors[name].indices
        assert indices is not None
        moved[name] = dataclasses.replace(
            tensors[name], indices=(indices.to(torch.int16) + (start - first)).to(kind), codebook=common
        )
    return {name: moved.get(name, stored) for name, stored in tensors.items()}


def _has_whole_steps(codebook: Codebook) -> bool:
    return (
        len(codebook) == 1
        and codebook[0][0].is_integer()
        and all(level == codebook[0][0] + i for i, level in enumerate(codebook[0]))
    )


# ----------------------------------------------------------------------------------------- ways to write them


@dataclass(frozen=True)
class IndexEncoding:
    """One way to write a tensor's indices: the coding of its mask and the symbols that follow from it."""

    mask: int  # UNMASKED, FOLDED, FOLDED_INTO_ZERO, or PLAIN_BITS for any mask beside them
    alphabet: int
    symbols: Callable[[], np.ndarray]  # made on request, because they are as large as the tensor
    trellis: int = 0  # memory of the trellis that the symbols follow

    def counts(self) -> np.ndarray:
        """How often each symbol occurs."""
        return np.bincount(self.symbols(), minlength=self.alphabet)


def along_trellis(flat: Flat) -> Iterator[IndexEncoding]:
    """The way to write indices that follow a trellis."""
    indices, mask, memory = flat.indices, flat.mask, flat.stored.trellis
    if not memory or indices is None:
        return
    kept = indices if mask is None else indices[mask]  # pruned since: another path
    if follows(kept, memory):
        kind = UNMASKED if mask is None else PLAIN_BITS
        yield IndexEncoding(kind, flat.stored.levels, lambda: kept, memory)


def ways(flat: Flat) -> Iterator[IndexEncoding]:
    """The ways in which a tensor's indices can be written that need no trellis."""
    indices, mask, levels = flat.indices, flat.mask, flat.stored.levels
    assert indices is not None
    if mask is None:
        yield IndexEncoding(UNMASKED, levels, lambda: indices)
        return
    yield IndexEncoding(PLAIN_BITS, levels, lambda: indices[mask])
    codebook = flat.stored.codebook
    # with factors, the level 0 is not the value 0
    if len(codebook) == 1 and 0.0 in codebook[0] and flat.stored.factors is None:
        zero = codebook[0].index(0.0)
        yield IndexEncoding(FOLDED_INTO_ZERO, levels, lambda: np.where(mask, indices, zero))
    else:
        yield IndexEncoding(FOLDED, levels + 1, lambda: np.where(mask, indices.astype(np.int32), levels))


# tensors with the same code book and the same coding of the mask can share a table
Key = tuple[Codebook, int]


def shared_tables(tensors: Mapping[str, Flat]) -> dict[Key, bytes]:
    """One frequency table for all tensors with the same code book that are written in the same way."""
    pooled: dict[Key, np.ndarray | int] = defaultdict(int)
    for flat in tensors.values():
        for way in ways(flat) if flat.indices is not None else ():
            pooled[flat.stored.codebook, way.mask] += way.counts()
    return {key: coding.table_of(np.asarray(counts)) for key, counts in pooled.items()}


@dataclass(frozen=True)
class Stream:
    """A stream that is not encoded yet, with its expected length."""

    length: float
    make: Callable[[], bytes]
    table: bytes | None = None  # None: fixed width
    table_bytes: int = 0  # what a table of its own adds to the header

    @property
    def price(self) -> float:
        """The expected length with the table that it adds to the header."""
        return self.length + self.table_bytes


@dataclass
class Writer:
    """Chooses the shortest coding of each tensor, and collects the code books and tables for the header."""

    shared: Mapping[Key, bytes]
    entropy: bool
    codebooks: dict[Codebook, int] = field(default_factory=dict)
    tables: dict[bytes, int] = field(default_factory=dict)

    def write(self, flat: Flat) -> tuple[Entry, bytes, bytes | memoryview]:
        """Encode a tensor -> (entry, mask stream, body stream)."""
        layout, count = flat.stored.layout, math.prod(flat.stored.shape)
        # nobody has to pad a channel to a longer one
        group = min(layout.group, layout.channel_length(flat.stored.shape))
        entry = Entry(
            flat.name,
            flat.stored.shape,
            flat.array,
            layout.axis,
            layout.granularity,
            group,
            halves=len(flat.halves),
            blocks=layout.blocks,
            by_column=int(layout.by_column),
        )
        kept = count if flat.mask is None else int(flat.mask.sum())
        kind, mask = self._mask(flat)
        if flat.indices is None:
            assert flat.values is not None
            # no copy: these may be all of a network's bytes
            raw = flat.values.reshape(-1).view(np.uint8).data
            entry = dataclasses.replace(entry, kept=kept, body_bytes=len(raw))
            return *self._add_mask(entry, flat, kind, mask), raw
        codebook = self.codebooks.setdefault(flat.stored.codebook, len(self.codebooks))
        trellis = along_trellis(flat) if self.entropy else ()
        options = [(way, self._indices(flat, way)) for way in (*ways(flat), *trellis)]
        way, indices = min(options, key=lambda o: o[1].price + (mask.price if o[0].mask == PLAIN_BITS else 0))
        body = coding.filled_up(indices.make(), count if way.mask != PLAIN_BITS else kept)
        entry = dataclasses.replace(
            entry, codebook=codebook, table=self._number(indices.table), body_bytes=len(body)
        )
        if way.trellis:
            entry = dataclasses.replace(entry, trellis=way.trellis, evens=int(way.counts()[::2].sum()))
        if way.mask == PLAIN_BITS:
            return *self._add_mask(dataclasses.replace(entry, kept=kept), flat, kind, mask), body
        return dataclasses.replace(entry, kept=count, mask=way.mask), b"", body

    def _indices(self, flat: Flat, way: IndexEncoding) -> Stream:
        counts = way.counts()
        plain = Stream(
            coding.packed_length(int(counts.sum()), way.alphabet),
            lambda: coding.pack(way.symbols(), way.alphabet),
        )
        if not self.entropy:
            return plain
        own, shared = coding.table_of(counts), self.shared[flat.stored.codebook, way.mask]
        coded = self._along if way.trellis else self._coded
        options = [
            coded(way, counts, shared, 0),
            coded(way, counts, own, len(coding.deflate(own))),
        ]
        return min([plain, *options] if not way.trellis else options, key=lambda s: s.price)

    def _along(self, way: IndexEncoding, counts: np.ndarray, table: bytes, table_bytes: int) -> Stream:
        """The stream of a path through a trellis: even symbols, and then odd ones."""
        halves = coding.halves_of(table)
        is_odd = np.arange(len(counts)) % 2
        bits = [coding.coded_bits(counts * (is_odd == odd), halves[odd]) for odd in (0, 1)]

        def make() -> bytes:
            steps = in_steps(way.symbols())
            parts = [(steps[steps % 2 == odd], halves[odd]) for odd in (0, 1)]
            return coding.entropy_encode_parts(parts)

        length = max(sum(bits) / 8 + 4, counts.sum() / coding.SYMBOLS_PER_BYTE)
        return Stream(length, make, table, table_bytes)

    def _coded(self, way: IndexEncoding, counts: np.ndarray, table: bytes, table_bytes: int) -> Stream:
        length = max(coding.coded_bits(counts, table) / 8 + 4, counts.sum() / coding.SYMBOLS_PER_BYTE)
        return Stream(length, lambda: coding.entropy_encode(way.symbols(), table), table, table_bytes)

    def _mask(self, flat: Flat) -> tuple[int, Stream]:
        """The shortest coding of a mask by itself."""
        mask = flat.mask
        if mask is None:
            return UNMASKED, Stream(0, lambda: b"")
        options = {PLAIN_BITS: Stream(coding.packed_length(len(mask), 2), lambda: coding.pack(mask, 2))}
        if self.entropy:
            way = IndexEncoding(PLAIN_BITS, 2, lambda: mask.view(np.uint8))
            options[COUNTED] = self._coded(way, way.counts(), coding.table_of(way.counts()), 2)
            if (ranks := self._ranks(flat)) is not None:
                options[PATTERNS] = ranks
        kind = min(options, key=lambda kind: options[kind].price)
        return kind, options[kind]

    def _ranks(self, flat: Flat) -> Stream | None:
        if flat.stored.pattern is None or flat.mask is None or not len(flat.mask):
            return None
        if flat.stored.layout.by_column:  # groups lie within a channel
            return None
        n, m = flat.stored.pattern
        groups = coding.fill_groups(
            flat.mask.reshape(-1, flat.stored.layout.channel_length(flat.stored.shape)), n, m
        )
        if groups is None:
            return None
        ranks, patterns = coding.rank_patterns(groups, n), math.comb(m, n)
        fixed = Stream(coding.packed_length(len(groups), patterns), lambda: coding.pack(ranks, patterns))
        if patterns > MOST_PATTERNS_CODED:
            return fixed
        way = IndexEncoding(PATTERNS, patterns, lambda: ranks)
        table = coding.table_of(way.counts())
        return min(
            fixed,
            self._coded(way, way.counts(), table, len(coding.deflate(table))),
            key=lambda stream: stream.price,
        )

    def _add_mask(self, entry: Entry, flat: Flat, kind: int, mask: Stream) -> tuple[Entry, bytes]:
        bits = coding.filled_up(mask.make(), entry.count if kind != UNMASKED else 0)
        n, m = flat.stored.pattern if kind == PATTERNS and flat.stored.pattern else (0, 0)
        return dataclasses.replace(
            entry, mask=kind, n=n, m=m, mask_table=self._number(mask.table), mask_bytes=len(bits)
        ), bits

    def _number(self, table: bytes | None) -> int:
        """1 + the position of a table in the header; 0 for none."""
        return 0 if table is None else self.tables.setdefault(table, len(self.tables)) + 1
