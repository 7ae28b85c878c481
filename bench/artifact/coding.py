"""Codes whole numbers and masks as bytes, at fixed width or entropy-coded.

A coded stream of n symbols is padded with zeros to at least n / 256 bytes. So a file of B bytes cannot hold
more than 256 B symbols, whatever its header says. A reader relies on this limit before it allocates memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.errors import BadInput

SYMBOLS_PER_BYTE = 256  # at most, in any stream
MOST_SYMBOLS = 2**15  # in an alphabet


def filled_up(stream: bytes, count: int) -> bytes:
    """Pad a stream with zeros to the minimum length for `count` symbols."""
    return stream.ljust(-(-count // SYMBOLS_PER_BYTE), b"\0")


# --------------------------------------------------------------------------------------------- at fixed width


def word(levels: int) -> tuple[int, int]:
    """The tightest packing of base-`levels` digits into words of at most 8 bytes -> (bytes a word, digits
    a word).
    """
    if levels == 1:
        return 1, SYMBOLS_PER_BYTE  # one level needs no digits
    choices = [(size, int(8 * size / math.log2(levels) + 1e-9)) for size in range(1, 9)]
    return min(((size, digits) for size, digits in choices if digits), key=lambda c: (c[0] / c[1], c[0]))


def pack(symbols: np.ndarray, levels: int) -> bytes:
    """Pack symbols [n], each below `levels`, at fixed width.

    Ternary symbols take 1.6 bits each: 40 digits in 8 bytes.
    """
    size, digits = word(levels)
    block = 2**16 * digits  # bounds the memory
    if len(symbols) > block:
        return b"".join(
            pack(symbols[start : start + block], levels) for start in range(0, len(symbols), block)
        )
    padded = np.zeros((-(-len(symbols) // digits), digits), np.uint64)
    padded.ravel()[: len(symbols)] = symbols
    values = np.zeros(len(padded), np.uint64)
    for column in padded.T[::-1] if levels > 1 else ():
        values = values * np.uint64(levels) + column
    return values.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :size].tobytes()


def packed_length(count: int, levels: int) -> int:
    """The number of bytes that `pack` returns."""
    size, digits = word(levels)
    return -(-count // digits) * size


def unpack(data: bytes, count: int, levels: int) -> np.ndarray:
    """Invert `pack` -> uint64 [count]. Raises `ValueError` where the length does not fit."""
    if len(data) != packed_length(count, levels):
        raise ValueError(f"{len(data)} bytes cannot be {count} symbols of {levels}")
    size, digits = word(levels)
    words = np.zeros((len(data) // size, 8), np.uint8)
    words[:, :size] = np.frombuffer(data, np.uint8).reshape(-1, size)
    values = words.view("<u8")[:, 0].astype(np.uint64)
    kind = np.uint8 if levels <= 256 else np.uint64
    columns = np.zeros((len(values), digits), kind)
    for i in range(digits if levels > 1 else 0):
        values, columns[:, i] = np.divmod(values, np.uint64(levels))
    return columns.ravel()[:count]


# ------------------------------------------------------------------------------------------- at their entropy


def table_of(counts: np.ndarray) -> bytes:
    """The frequency table of symbols, with one byte a symbol.

    0 means that the symbol never occurs. The other values are logarithmic, with 16 steps an octave below the
    most frequent symbol. This rounding costs less than a thousandth of a bit a symbol.
    """
    if not counts.any():
        return bytes(len(counts))
    weights = _weights(np.arange(256, dtype=np.uint8))
    wanted = counts / counts.max() * weights[-1]
    # never 0 for a symbol that occurs
    nearest = np.searchsorted((weights[1:-1] + weights[2:]) / 2, wanted) + 1
    return np.where(counts > 0, nearest, 0).astype(np.uint8).tobytes()


def _weights(table: np.ndarray) -> np.ndarray:
    """Frequency table uint8 -> relative weights float64.

    They are whole numbers, so every machine finds the same probabilities.
    """
    octave, step = np.divmod(table.astype(np.int64), 16)
    return np.where(table > 0, (16 + step) << octave, 0).astype(np.float64)


def probabilities(table: bytes) -> np.ndarray:
    """The probabilities of the symbols in use, float64. Their sum is 1."""
    weights = _weights(np.frombuffer(table, np.uint8))
    weights = weights[weights > 0]
    return weights / weights.sum()


def coded_bits(counts: np.ndarray, table: bytes) -> float:
    """The cost in bits of symbols with these counts under a table.

    It is infinite where the table lacks one of the symbols.
    """
    used = np.frombuffer(table, np.uint8) > 0
    if (counts[~used] > 0).any():
        return math.inf
    return float(-(counts[used] * np.log2(probabilities(table))).sum())


def _coder() -> Any:
    """Import the library of the range coder.

    Raises `BadInput` where it is missing, since not every platform has a wheel.
    """
    try:
        from constriction import stream
    except ImportError:
        raise BadInput(
            "the entropy coder is missing: pip install constriction (it has no ready wheel for this platform)"
        ) from None
    return stream


def _model(table: bytes) -> Any:
    return _coder().model.Categorical(probabilities(table), perfect=False)


def entropy_encode(symbols: np.ndarray, table: bytes) -> bytes:
    """Encode symbols [n] by a range coder (Martin 1979), with the library `constriction` (Bamler 2022,
    arXiv:2201.01741).
    """
    return entropy_encode_parts([(symbols, table)])


def entropy_encode_parts(parts: Sequence[tuple[np.ndarray, bytes]]) -> bytes:
    """Encode (symbols [n], their table), one part after another, by one coder."""
    coder = None
    for symbols, table in parts:
        used = np.frombuffer(table, np.uint8) > 0
        if used.sum() < 2 or not len(symbols):
            continue
        coder = coder or _coder().queue.RangeEncoder()
        rank = (used.cumsum() - 1).astype(np.int32)
        coder.encode(rank[symbols], _model(table))
    return coder.get_compressed().astype("<u4").tobytes() if coder else b""


def entropy_decode(data: bytes, count: int, table: bytes) -> np.ndarray:
    """Decode `count` symbols. Damaged bytes also decode, but never to a symbol that the table lacks."""
    return entropy_decode_parts(data, [(count, table)])[0]


def entropy_decode_parts(data: bytes, parts: Sequence[tuple[int, bytes]]) -> list[np.ndarray]:
    """Decode (count, table), one part after another: the inverse of `entropy_encode_parts`."""
    coder, found = None, []
    for count, table in parts:
        symbols = np.flatnonzero(np.frombuffer(table, np.uint8))
        if not count:
            found.append(np.zeros(0, np.int64))
            continue
        if not len(symbols):
            raise ValueError("symbols of an empty table")
        if len(symbols) == 1:
            found.append(np.broadcast_to(symbols, (count,)))
            continue
        if coder is None:
            words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.uint32)
            coder = _coder().queue.RangeDecoder(words)
        kind = np.min_scalar_type(len(table) - 1)
        found.append(symbols.astype(kind)[coder.decode(_model(table), count)])
    return found


def halves_of(table: bytes) -> tuple[bytes, bytes]:
    """A table -> the same with even symbols alone, and with odd ones alone."""
    one = np.frombuffer(table, np.uint8)
    is_odd = np.arange(len(one)) % 2
    return (one * (1 - is_odd)).astype(np.uint8).tobytes(), (one * is_odd).astype(np.uint8).tobytes()


# ------------------------------------------------------------------------------------------------------ masks


def binomials(n: int, m: int) -> np.ndarray:
    """int64 [m, n + 1]: the binomial coefficients, i over j."""
    table = np.empty((m, n + 1), np.int64)
    for i, j in np.ndindex(*table.shape):
        table[i, j] = math.comb(i, j)
    return table


def rank_patterns(groups: np.ndarray, n: int) -> np.ndarray:
    """Number each n-of-m pattern in the combinatorial number system: bool [g, m] with n True in each row
    -> [g].
    """
    table, kept = binomials(n, groups.shape[1]), groups.cumsum(1)
    return (table[np.arange(groups.shape[1]), kept] * groups).sum(1)


def unrank_patterns(ranks: np.ndarray, n: int, m: int) -> np.ndarray:
    """Invert `rank_patterns`."""
    table, left, ranks = binomials(n, m), np.full(len(ranks), n), ranks.astype(np.int64)
    groups = np.zeros((len(ranks), m), bool)
    for i in reversed(range(m)):
        groups[:, i] = (left > 0) & (ranks >= table[i, left])
        ranks = ranks - np.where(groups[:, i], table[i, left], 0)
        left = left - groups[:, i]
    return groups


def fill_groups(rows: np.ndarray, n: int, m: int) -> np.ndarray | None:
    """Split each channel into groups of m with exactly n True: bool [channels, length] -> [g, m].

    The last group of a channel is padded. Returns None where the mask does not follow the pattern.
    """
    length = rows.shape[1]
    rest = -length % m
    filled = np.pad(rows, ((0, 0), (0, rest)))
    if rest:
        missing = n - filled[:, -m:].sum(1)
        filled[:, length:] = np.arange(rest) < missing[:, None]
    groups = filled.reshape(-1, m)
    return groups if (groups.sum(1) == n).all() else None


# ----------------------------------------------------------------------------------------------------- floats


def deflate_fp16(halves: np.ndarray) -> bytes:
    """Deflate float16 values [n], all upper bytes first.

    The upper bytes (sign, exponent) resemble each other, so this helps.
    """
    planes = halves.astype("<f2").view(np.uint8).reshape(-1, 2)
    return deflate(np.ascontiguousarray(planes[:, ::-1].T).tobytes())


def inflate_fp16(data: bytes, count: int) -> np.ndarray:
    """Invert `deflate_fp16`. Raises `ValueError` where the data do not hold `count` values."""
    planes = np.frombuffer(inflate(data, 2 * count), np.uint8)
    if len(planes) != 2 * count:
        raise ValueError(f"{len(planes)} bytes cannot be {count} half floats")
    return np.ascontiguousarray(planes.reshape(2, -1)[::-1].T).view("<f2").ravel()


def deflate(data: bytes) -> bytes:
    """Deflate without zlib's own header and checksum: the file has one checksum over everything."""
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    return coder.compress(data) + coder.flush()


def inflate(data: bytes, largest: int) -> bytes:
    """Invert `deflate`.

    Raises `ValueError` for incomplete data and for a result larger than `largest` bytes.
    """
    coder = zlib.decompressobj(-15)
    try:
        text = coder.decompress(data, largest + 1)
    except zlib.error as error:
        raise ValueError(f"it cannot be inflated: {error}") from None
    if len(text) > largest or not coder.eof or coder.unused_data:
        raise ValueError("it is cut short or too large")
    return text
