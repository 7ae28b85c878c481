"""The header of the artifact: the list of tensors, their coding and the lengths of their streams.

Every field is checked.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.artifact import coding
from bench.artifact.trellis import CHECKS
from bench.interfaces import Layout, StructureEdit

# All far above any real network's: what a small file that lies can make a reader do stays within seconds and
# some tens of MB.
LARGEST = 16 * 2**20  # bytes, inflated
LONGEST_TEXT, LONGEST_NAMES = 2**20, 2**22  # bytes
MOST_TENSORS = 20_000
MOST_PLANES = 8  # of a code book
MOST_LEVELS = 2**20  # of all planes of all code books together
MOST_LEVELS_USED = 2**25  # of the code book of each tensor, summed: a coder is set up for each
MOST_SCALARS = 2**40  # of a shape: beyond it arithmetic is not worth doing
# the farthest start of an evenly spaced code book from zero, in units of 1/2
FARTHEST = 4 * coding.MOST_SYMBOLS
ARRAY_TYPES: dict[str, np.dtype] = {
    "f4": np.dtype("<f4"),
    "f2": np.dtype("<f2"),
    "i8": np.dtype("<i8"),
    "i4": np.dtype("<i4"),
    "u1": np.dtype("u1"),
    "b1": np.dtype("?"),
}
ARRAYS = ("", *ARRAY_TYPES)  # "": indices into a code book
GRANULARITIES = ("channel", "tensor", "group")
# how a mask is written
UNMASKED, PLAIN_BITS, COUNTED, PATTERNS, FOLDED, FOLDED_INTO_ZERO = range(6)
MOST_PATTERNS_CODED = 1000  # of an n:m mask whose patterns have a table
EXACT = 255  # fidelity of a tensor that lost nothing
# The version of a file is the lowest that has all its columns, so that most files stay readable for older
# programs. Each adds its columns to those of the version before.
VERSION = 2
GROUPED = 3  # a tensor has blocks: a grouped transposed convolution
TRELLIS = 4  # a tensor's indices follow a trellis
FACTORED = 5  # a tensor has low-rank factors
BY_COLUMN = 6  # a tensor's indices are held column by column
VERSIONS = (VERSION, GROUPED, TRELLIS, FACTORED, BY_COLUMN)
# what an entry is: a tensor of the network, or the left or the right factor of the tensor before
WHOLE, LEFT, RIGHT = range(3)
FACTORS = {LEFT: " left", RIGHT: " right"}  # what their names add to the tensor's
MOST_WORK = 2**12  # products of factors for each byte of the tensor with its factors


@dataclass(frozen=True)
class Entry:
    """How one tensor is stored."""

    name: str
    shape: tuple[int, ...]
    array: str = ""  # type of plain values, or "" for indices
    axis: int = 0
    granularity: str = "channel"
    group: int = 0
    codebook: int = 0
    mask: int = UNMASKED
    n: int = 0  # of a mask that keeps n of every m
    m: int = 0
    mask_table: int = 0  # 1 + number of the table; 0: none
    mask_bytes: int = 0
    table: int = 0  # of the indices; 0: fixed width
    kept: int = 0
    halves: int = 0  # float16 numbers in the common pool: scales, or the values themselves
    body_bytes: int = 0  # of indices or plain values
    fidelity: int = EXACT  # signal-to-noise ratio in quarter decibels
    blocks: int = 1  # of a grouped transposed convolution: see `Layout`
    trellis: int = 0  # log2 of the states of the trellis that the indices follow; 0: none
    evens: int = 0  # of the symbols that follow a trellis, how many are even
    part: int = WHOLE  # or LEFT, RIGHT: a factor of the tensor before
    by_column: int = 0  # 1: the order of the file, see `Layout`

    @property
    def count(self) -> int:
        """The number of values of the tensor."""
        return math.prod(self.shape)

    @property
    def layout(self) -> Layout:
        """How the tensor becomes rows, and the order of its weights in the file."""
        return Layout(self.granularity, self.axis, self.group, self.blocks, bool(self.by_column))

    @property
    def coded(self) -> int:
        """The number of symbols in the index stream."""
        return self.count if self.mask in (FOLDED, FOLDED_INTO_ZERO) else self.kept


Codebook = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Header:
    """Everything in the file except the streams."""

    method: str
    structure: tuple[StructureEdit, ...]
    codebooks: tuple[Codebook, ...]
    tables: tuple[bytes, ...]
    entries: tuple[Entry, ...]
    fp16_pool_bytes: int
    fp16_pool_deflated: bool

    @property
    def grouped(self) -> bool:
        """Whether a tensor has blocks."""
        return any(entry.blocks > 1 for entry in self.entries)

    @property
    def version(self) -> int:
        """The lowest version of the format that can hold these tensors."""
        if any(entry.by_column for entry in self.entries):
            return BY_COLUMN
        if any(entry.part for entry in self.entries):
            return FACTORED
        if any(entry.trellis for entry in self.entries):
            return TRELLIS
        return GROUPED if self.grouped else VERSION

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the network's tensors, by name."""
        return {entry.name: entry.shape for entry in self.entries if entry.part == WHOLE}

    def pack(self) -> bytes:
        """The bytes of the header, deflated."""
        out = Writer()
        out.text(self.method)
        out.text(
            json.dumps(
                [[edit.path, edit.kind, dict(edit.args)] for edit in self.structure], separators=(",", ":")
            )
        )
        out.numbers(
            [
                self.fp16_pool_bytes,
                self.fp16_pool_deflated,
                len(self.codebooks),
                len(self.tables),
                len(self.entries),
            ]
        )
        for codebook in self.codebooks:
            out.codebook(codebook)
        for table in self.tables:
            out.bytes_(table)
        out.text("\n".join(entry.name for entry in self.entries))
        out.numbers([len(entry.shape) for entry in self.entries])
        out.numbers([size for entry in self.entries for size in entry.shape])
        for column in columns(self.version):
            out.numbers([int(column.write(entry)) for entry in self.entries])
        return coding.deflate(bytes(out.data))

    @staticmethod
    def unpack(data: bytes, stream_bytes: int, version: int = VERSION) -> Header:
        """Parse the bytes of a header. Raises `ValueError` for anything that `pack` cannot have written."""
        source = Reader(coding.inflate(data, LARGEST))
        method, structure = source.text(LONGEST_TEXT), _structure(source.text(LONGEST_TEXT))
        if not method.isprintable():
            raise ValueError("the method's text is not one line")
        fp16_pool_bytes, deflated, codebook_count, table_count, count = source.numbers(5)
        if count > MOST_TENSORS or codebook_count > count or table_count > 2 * count:
            raise ValueError(f"{count} tensors, {codebook_count} code books, {table_count} tables")
        codebooks = _codebooks(source, codebook_count)
        tables = tuple(source.bytes_() for _ in range(table_count))
        names = _names(source.text(LONGEST_NAMES), count)
        ranks = source.numbers(count)
        if max(ranks, default=0) > 16:
            raise ValueError(f"a tensor of {max(ranks)} dimensions")
        shapes = [tuple(source.numbers(rank)) for rank in ranks]
        known = {column: source.numbers(count) for column in columns(version)}
        if source.place != len(source.data):
            raise ValueError("it goes on after its end")
        entries = []
        for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
            fields = {column.name: column.read(numbers[i]) for column, numbers in known.items()}
            entries.append(Entry(name, shape, **fields))  # type: ignore[arg-type]
        for entry in entries:
            _check(entry, codebooks, tables)
        _check_factors(entries)
        if sum(len(codebooks[entry.codebook][0]) for entry in entries if not entry.array) > MOST_LEVELS_USED:
            raise ValueError(f"tensors that use more than {MOST_LEVELS_USED} levels in all")
        total = fp16_pool_bytes + sum(entry.mask_bytes + entry.body_bytes for entry in entries)
        if total != stream_bytes or deflated > 1:
            raise ValueError(f"streams of {total} bytes in a file that has {stream_bytes}")
        found = Header(method, structure, codebooks, tables, tuple(entries), fp16_pool_bytes, bool(deflated))
        if found.version != version:
            raise ValueError(f"the columns of version {version}, of which no tensor has any need")
        return found


def _codebooks(source: Reader, count: int) -> tuple[Codebook, ...]:
    found: list[Codebook] = []
    levels = 0
    for _ in range(count):
        found.append(source.codebook())
        levels += len(found[-1]) * len(found[-1][0])
        if levels > MOST_LEVELS:
            raise ValueError(f"code books of more than {MOST_LEVELS} levels in all")
    return tuple(found)


def may_be_stored(name: str) -> bool:
    """Whether a tensor's name is allowed.

    Names are printed on one line and become keys of a safetensors file.
    """
    return name.isprintable() and name != "__metadata__"


def _names(text: str, count: int) -> list[str]:
    lines = text.count("\n") + 1 if count or text else 0  # counted before they are made
    names = text.split("\n") if lines == count and count else []
    if lines != count or len(set(names)) != count:
        raise ValueError(f"{lines} names for {count} tensors, or two alike")
    for name in names:
        if not may_be_stored(name):
            raise ValueError(f"the tensor name {name!r}")
    return names


@dataclass(frozen=True)
class Column:
    """One field of all entries, as small whole numbers."""

    name: str
    write: Callable[[Entry], int]
    read: Callable[[int], int | str]


def _number(name: str) -> Column:
    return Column(name, lambda entry: getattr(entry, name), lambda number: number)


def _word(name: str, words: Sequence[str]) -> Column:
    def read(number: int) -> str:
        if number >= len(words):
            raise ValueError(f"{name} number {number}")
        return words[number]

    return Column(name, lambda entry: words.index(getattr(entry, name)), read)


COLUMNS = (
    *(
        _word("array", ARRAYS),
        _number("axis"),
        _word("granularity", GRANULARITIES),
        _number("group"),
        _number("codebook"),
    ),
    *(
        _number(name)
        for name in (
            "mask",
            "n",
            "m",
            "mask_table",
            "mask_bytes",
            "table",
            "kept",
            "halves",
            "body_bytes",
            "fidelity",
        )
    ),
)


ADDED = {GROUPED: ("blocks",), TRELLIS: ("trellis", "evens"), FACTORED: ("part",), BY_COLUMN: ("by_column",)}


def columns(version: int) -> tuple[Column, ...]:
    """The columns of a header. Those that a version adds come last, and only files that need them have
    them.
    """
    added = [name for first, names in ADDED.items() if first <= version for name in names]
    return (*COLUMNS, *map(_number, added))


def _structure(text: str) -> tuple[StructureEdit, ...]:
    edits = json.loads(text)
    if not isinstance(edits, list):
        raise ValueError("the structure is no list of edits")
    for edit in edits:
        if not (isinstance(edit, list) and [type(part) for part in edit] == [str, str, dict]):
            raise ValueError("an edit of the structure is not (text, text, settings)")
    return tuple(StructureEdit(*edit) for edit in edits)


def _check(entry: Entry, codebooks: Sequence[Codebook], tables: Sequence[bytes]) -> None:
    """Raises `ValueError` when an entry contradicts itself.

    A checked entry has no size beyond what its streams allow.
    """

    def need(fine: bool, what: str) -> None:
        if not fine:
            raise ValueError(f"tensor {entry.name[:80]!r}: {what}")

    need(math.prod(size or 1 for size in entry.shape) <= MOST_SCALARS, f"shape {str(entry.shape)[:80]}")
    need(entry.axis < max(len(entry.shape), 1), f"axis {entry.axis} of shape {str(entry.shape)[:80]}")
    need(
        entry.blocks == 1 or (entry.axis > 0 and _divides(entry.blocks, entry.shape[0])),
        f"{entry.blocks} blocks of shape {str(entry.shape)[:80]}",
    )
    need(
        (entry.group > 0) == (entry.granularity == "group"),
        f"groups of {entry.group}, granularity {entry.granularity}",
    )
    need(entry.kept <= entry.count and entry.fidelity <= EXACT, "it keeps more weights than it has")
    need(
        entry.mask <= FOLDED_INTO_ZERO and max(entry.mask_table, entry.table) <= len(tables),
        "a mask or a table that is not there",
    )
    beside = entry.mask in (PLAIN_BITS, COUNTED, PATTERNS)
    need(beside or entry.kept == entry.count, "pruned weights without a mask")
    need(
        not beside or entry.count <= coding.SYMBOLS_PER_BYTE * entry.mask_bytes,
        f"shape {str(entry.shape)[:80]} is larger than its mask",
    )
    need(beside or not entry.mask_bytes, "a mask of no kind")
    need(
        not entry.trellis
        or (
            not entry.array
            and entry.trellis in CHECKS
            and entry.table > 0
            and entry.mask not in (FOLDED, FOLDED_INTO_ZERO)
        ),
        f"a trellis of memory {entry.trellis}",
    )
    need(entry.evens <= (entry.kept if entry.trellis else 0), "more even symbols than it has")
    need(
        entry.by_column <= (not entry.array and entry.mask != PATTERNS),
        f"an order by column of number {entry.by_column}",
    )
    need(entry.mask != COUNTED or entry.mask_table > 0, "a counted mask without a table")
    need(not entry.mask_table or entry.mask in (COUNTED, PATTERNS), "a table for a mask that has none")
    if entry.mask == PATTERNS:
        need(1 <= entry.n < entry.m <= 32 and entry.count > 0, f"a mask of {entry.n}:{entry.m}")
        need(
            not entry.mask_table or math.comb(entry.m, entry.n) <= MOST_PATTERNS_CODED,
            f"a table of {entry.n}:{entry.m}",
        )
    if entry.array:
        need(
            entry.mask == UNMASKED or (beside and entry.array in ("f2", "f4")),
            "a mask of values that are not pruned",
        )
        need(not entry.table, "plain values with a table")
        own = entry.kept if entry.array == "f2" else 0
        body = 0 if entry.array == "f2" else entry.kept * ARRAY_TYPES[entry.array].itemsize
        need(entry.halves == own and entry.body_bytes == body, "sizes that lie")
        return
    need(
        entry.codebook < len(codebooks) and len(entry.shape) > 0 and entry.count > 0,
        "no code book, or nothing to index it",
    )
    need(
        entry.coded <= coding.SYMBOLS_PER_BYTE * entry.body_bytes,
        f"shape {str(entry.shape)[:80]} is larger than the file can hold",
    )
    layout = entry.layout
    # they would be padded
    need(
        entry.group <= layout.channel_length(entry.shape),
        f"groups of {entry.group} are longer than a channel",
    )
    rows = layout.row_count(entry.shape)
    need(entry.halves == rows * len(codebooks[entry.codebook]), f"{entry.halves} scales for {rows} rows")


def _check_factors(entries: Sequence[Entry]) -> None:
    """Raises `ValueError` unless factors come in pairs after their tensor, and fit it."""
    if entries and entries[0].part != WHOLE:
        raise ValueError("factors of no tensor")
    for i, entry in enumerate(entries):
        if entry.part != WHOLE:
            continue
        parts = [after.part for after in entries[i + 1 : i + 4]]
        count = next((n for n, part in enumerate(parts) if part == WHOLE), len(parts))
        if parts[:count] == [LEFT, RIGHT]:
            _check_pair(entry, entries[i + 1], entries[i + 2])
        elif count:
            raise ValueError(
                f"tensor {entry.name[:80]!r}: factors {parts[:count]}, not a left and a right one"
            )


def _check_pair(entry: Entry, left: Entry, right: Entry) -> None:
    of_floats = all(part.array in ("", "f2", "f4") for part in (entry, left, right))
    odd = left.mask or right.mask or left.trellis or right.trellis or len(entry.shape) < 2 or not entry.count
    rank = right.shape[0] if right.shape else 0
    fine = of_floats and not odd and rank > 0
    if fine:
        sides = entry.layout.channels(entry.shape), entry.layout.channel_length(entry.shape)
        fine = (left.shape, right.shape) == ((sides[0], rank), (rank, sides[1]))
    if not fine:
        raise ValueError(f"tensor {entry.name[:80]!r}: factors that do not fit it")
    if (left.name, right.name) != tuple(entry.name + FACTORS[part] for part in (LEFT, RIGHT)):
        raise ValueError(f"tensor {entry.name[:80]!r}: factors of other names")
    size = sum(part.body_bytes + part.mask_bytes + 2 * part.halves for part in (entry, left, right))
    if rank * entry.count > MOST_WORK * size:
        raise ValueError(f"tensor {entry.name[:80]!r}: factors of rank {rank} that take too long")


def _divides(blocks: int, size: int) -> bool:
    return 0 < blocks <= size and size % blocks == 0


# ------------------------------------------------------------------------------------------- bytes in and out


class Writer:
    """Writes whole numbers in as few bytes as they need (LEB128).

    Texts and bytes have their length before them.
    """

    def __init__(self) -> None:
        self.data = bytearray()

    def numbers(self, numbers: Sequence[int]) -> None:
        """Write whole numbers."""
        for number in numbers:
            number = int(number)
            while number >= 128:
                self.data.append(number & 127 | 128)
                number >>= 7
            self.data.append(number)

    def bytes_(self, data: bytes) -> None:
        """Write bytes after their length."""
        self.numbers([len(data)])
        self.data += data

    def text(self, text: str) -> None:
        """Write a text after its length."""
        self.bytes_(text.encode())

    def codebook(self, codebook: Codebook) -> None:
        """Write a code book.

        Levels that are evenly spaced by 1 from a multiple of 1/2 are written as (0, levels, twice the first
        level, its sign). Any other code book is written as (planes, levels, float32 values).
        """
        first = float(codebook[0][0]) if codebook[0] else 0.0
        near = abs(2 * first) <= FARTHEST and (2 * first).is_integer()
        if len(codebook) == 1 and near and all(level == first + i for i, level in enumerate(codebook[0])):
            self.numbers([0, len(codebook[0]), int(abs(2 * first)), first < 0])
        else:
            self.numbers([len(codebook), len(codebook[0])])
            self.data += np.array(codebook, "<f4").tobytes()


class Reader:
    """Inverts `Writer`. Raises `ValueError` at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def numbers(self, count: int) -> list[int]:
        """Read `count` whole numbers."""
        if count > len(self.data) - self.place:
            raise ValueError("it is cut short")
        return [self._number() for _ in range(count)]

    def _number(self) -> int:
        number = shift = 0
        while True:
            if self.place >= len(self.data) or shift > 56:
                raise ValueError("it is cut short, or a number in it is too large")
            byte = self.data[self.place]
            self.place += 1
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7

    def bytes_(self, longest: int = LARGEST) -> bytes:
        """Read bytes of at most `longest`."""
        (length,) = self.numbers(1)
        if length > min(longest, len(self.data) - self.place):
            raise ValueError("it is cut short, or a part of it is too long")
        self.place += length
        return bytes(self.data[self.place - length : self.place])

    def text(self, longest: int) -> str:
        """Read a text of at most `longest` bytes."""
        return self.bytes_(longest).decode()

    def codebook(self) -> Codebook:
        """Read a code book."""
        planes, levels = self.numbers(2)
        if not 1 <= levels <= coding.MOST_SYMBOLS or planes > MOST_PLANES:
            raise ValueError(f"a code book of {planes} planes and {levels} levels")
        if not planes:
            first, negative = self.numbers(2)
            if first > FARTHEST or negative > 1:
                raise ValueError(f"a code book that begins at {first} / 2")
            return (tuple((-first if negative else first) / 2 + i for i in range(levels)),)
        raw = self.data[self.place : self.place + 4 * planes * levels]
        self.place += len(raw)
        values = struct.unpack(f"<{planes * levels}f", raw) if len(raw) == 4 * planes * levels else ()
        if not values or not all(map(math.isfinite, values)):
            raise ValueError("a code book that is cut short or not finite")
        return tuple(values[i * levels : (i + 1) * levels] for i in range(planes))
