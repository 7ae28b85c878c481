"""bench.artifact.coding: numbers at fixed width and at their entropy, patterns, squeezed floats, and
streams that lie.
"""

from __future__ import annotations

import bisect
import itertools
import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.artifact.coding import (
    SYMBOLS_PER_BYTE,
    coded_bits,
    deflate,
    deflate_fp16,
    entropy_decode,
    entropy_encode,
    fill_groups,
    filled_up,
    inflate,
    inflate_fp16,
    pack,
    packed_length,
    probabilities,
    rank_patterns,
    table_of,
    unpack,
    unrank_patterns,
    word,
)
from bench.artifact.format import coding

always_the_same = settings(derandomize=True, deadline=None, max_examples=100)
LARGE = (1000, 4095, 4096, 4097, 2**15, 2**15 + 1, 2**16, math.comb(32, 16), 2**31 - 1, 2**32 - 1, 2**32)


# --- at fixed width -----------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [*range(1, 301), *LARGE])
def test_a_word_holds_its_digits_and_lengths_around_it_come_back(levels: int):
    """The largest digits, which are the first that would not fit, and random ones."""
    size, digits = word(levels)
    assert levels**digits <= 256**size <= 2**64
    for count in {0, 1, digits - 1, digits, digits + 1, 2 * digits + 1, 77}:
        for symbols in (np.full(count, levels - 1), np.random.default_rng(count).integers(0, levels, count)):
            data = pack(symbols, levels)
            assert len(data) == packed_length(count, levels) == len(filled_up(data, count))
            back = unpack(data, count, levels)
            assert back.shape == (count,) and back.tolist() == symbols.tolist()


@always_the_same
@given(
    st.integers(1, 2**32).flatmap(
        lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=90))
    )
)
def test_whatever_is_packed_comes_back(case: tuple[int, list[int]]):
    levels, symbols = case
    data = pack(np.array(symbols, np.int64), levels)
    assert unpack(data, len(symbols), levels).tolist() == symbols


@pytest.mark.parametrize("levels", [2, 3, 2**32])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_blocks_of_words_join_without_a_seam(levels: int, beyond: int):
    count = 2**16 * word(levels)[1] + beyond
    symbols = np.random.default_rng(0).integers(0, levels, count)
    data = pack(symbols, levels)
    assert len(data) == packed_length(count, levels)
    assert np.array_equal(unpack(data, count, levels), symbols)


def test_ternary_takes_1_6_bits_and_15_levels_4():
    assert packed_length(40, 3) == 8 and packed_length(2, 15) == 1 and packed_length(SYMBOLS_PER_BYTE, 1) == 1


@always_the_same
@given(st.integers(1, 70_000), st.binary(max_size=40), st.integers(0, 200))
def test_foreign_bytes_become_symbols_of_the_alphabet_or_are_refused(levels: int, data: bytes, count: int):
    if len(data) != packed_length(count, levels):
        with pytest.raises(ValueError, match=f"{len(data)} bytes cannot be {count} symbols of {levels}"):
            unpack(data, count, levels)
    else:
        assert (unpack(data, count, levels) < levels).all()


# --- at their entropy ---------------------------------------------------------------------------------

tables = st.one_of(
    st.binary(min_size=1, max_size=300),
    st.lists(st.sampled_from([0, 0, 1, 128, 255]), min_size=1, max_size=40).map(bytes),
)


def drawn(table: bytes, count: int, seed: int = 0) -> np.ndarray:
    """Symbols as often as the table expects them."""
    symbols = np.flatnonzero(np.frombuffer(table, np.uint8))
    return (
        np.random.default_rng(seed).choice(symbols, count, p=probabilities(table))
        if len(symbols)
        else np.zeros(0, np.int64)
    )


@always_the_same
@given(tables, st.integers(0, 2000), st.booleans())
def test_symbols_of_any_table_come_back(table: bytes, count: int, expected: bool):
    """Absent symbols, one used symbol and none included; drawn as the table expects, or all of its rarest."""
    used = np.frombuffer(table, np.uint8).astype(int)
    symbols = drawn(table, count)
    if len(symbols) and not expected:
        symbols[:] = np.where(used > 0, used, 256).argmin()
    data = filled_up(entropy_encode(symbols, table), len(symbols))
    assert entropy_decode(data, len(symbols), table).tolist() == symbols.tolist()


def test_one_symbol_costs_nothing_and_no_symbol_needs_no_table():
    assert entropy_encode(np.zeros(1000, np.int64), bytes([0, 9])[::-1]) == b""
    assert entropy_decode(b"", 1000, bytes([0, 9, 0])).tolist() == [1] * 1000
    assert (
        entropy_encode(np.zeros(0, np.int64), bytes([9, 9])) == b""
        and entropy_decode(b"", 0, b"\0").tolist() == []
    )
    with pytest.raises(ValueError, match="symbols of an empty table"):
        entropy_decode(b"", 1, b"\0\0")


@always_the_same
@given(tables, st.binary(max_size=64), st.integers(1, 3000))
def test_foreign_bytes_become_symbols_of_the_table_or_are_refused(table: bytes, data: bytes, count: int):
    """The native coder says that data is invalid by an assertion."""
    try:
        symbols = entropy_decode(data, count, table)
    except (ValueError, AssertionError) as error:
        assert "empty table" in str(error) or "invalid" in str(error)
    else:
        assert np.frombuffer(table, np.uint8)[symbols].all() and len(symbols) == count


def entropy_bits(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


@always_the_same
@given(st.lists(st.one_of(st.just(0), st.integers(31, 10**6)), min_size=1, max_size=200).filter(any))
def test_a_table_costs_less_than_a_thousandth_of_a_bit_a_symbol(counts: list[int]):
    """As long as no symbol is more than 15 octaves rarer than the most frequent one."""
    found = np.array(counts)
    loss = coded_bits(found, table_of(found)) / found.sum() - entropy_bits(found)
    assert -1e-9 < loss < 0.001


@always_the_same
@given(st.lists(st.integers(0, 40), min_size=1, max_size=200).filter(any))
def test_rarer_symbols_cost_what_their_smallest_weight_takes_from_the_others(shifts: list[int]):
    counts = 2.0 ** np.array(shifts)
    table = table_of(counts)
    taken = (counts < counts.max() / 2**15).sum() * 17 / (31 << 15)
    assert coded_bits(counts, table) / counts.sum() - entropy_bits(counts) < 0.001 + math.log2(1 + taken)


def test_a_table_has_a_byte_for_each_symbol_and_0_for_one_that_never_occurs():
    assert table_of(np.array([0, 8, 4, 0, 1])) == bytes([0, 255, 239, 0, 207])  # 16 steps an octave
    assert table_of(np.array([1, 10**12])) == bytes([1, 255]) and table_of(np.zeros(3, int)) == bytes(3)
    assert coded_bits(np.array([1, 1]), bytes([0, 255])) == math.inf


@always_the_same
@given(tables.filter(any), st.integers(0, 20_000))
def test_real_lengths_are_those_computed(table: bytes, count: int):
    """Within two words of 32 bits; a symbol in 2^20 is rounded to 24 bits of precision besides."""
    symbols = drawn(table, count)
    expected = coded_bits(np.bincount(symbols, minlength=len(table)), table) / 8
    assert -4 < len(entropy_encode(symbols, table)) - expected < 8 + 1e-4 * count


@always_the_same
@given(tables.filter(any), st.integers(0, 5000))
def test_a_stream_is_never_shorter_than_a_byte_for_256_symbols(table: bytes, count: int):
    symbols = np.full(count, int(np.frombuffer(table, np.uint8).argmax()))
    stream = entropy_encode(symbols, table)
    filled = filled_up(stream, count)
    assert len(filled) == max(len(stream), math.ceil(count / SYMBOLS_PER_BYTE)) and filled.startswith(stream)
    assert entropy_decode(filled, count, table).tolist() == symbols.tolist()


# --- the range coder, as docs/format.md describes it --------------------------------------------------


def weights_of(table: Sequence[int]) -> list[int]:
    return [(16 + byte % 16) << byte // 16 for byte in table if byte]


def cumulative(weights: Sequence[int]) -> list[int]:
    """Of k symbols in 24 bits: the share of the 2^24 - k that are left once each has 1, in doubles from
    left to right.
    """
    shares = [weight / sum(weights) for weight in weights]
    scale = (2**24 - len(shares)) / sum_in_order(shares)
    before = itertools.accumulate(shares, initial=0.0)
    return [int(so_far * scale) + i for i, so_far in zip(range(len(shares)), before)] + [2**24]


def sum_in_order(numbers: Sequence[float]) -> float:
    return list(itertools.accumulate(numbers))[-1]  # `sum` itself compensates rounding from Python 3.12


def decoded_by_the_book(data: bytes, count: int, weights: Sequence[int]) -> Iterator[int]:
    words = iter(np.frombuffer(data[: len(data) // 4 * 4], "<u4").tolist())
    starts = cumulative(weights)
    low, size, mask = 0, 2**64 - 1, 2**64 - 1
    point = next(words, 0) << 32 | next(words, 0)
    for _ in range(count):
        unit = size >> 24
        symbol = bisect.bisect_right(starts, ((point - low) & mask) // unit) - 1
        yield symbol
        low = (low + unit * starts[symbol]) & mask
        size = unit * (starts[symbol + 1] - starts[symbol])
        if size < 2**32:
            low, size, point = (low << 32) & mask, size << 32, (point << 32) & mask | next(words, 0)


@always_the_same
@given(tables.filter(lambda table: sum(map(bool, table)) > 1), st.integers(1, 600))
def test_the_library_codes_as_documented(table: bytes, count: int):
    symbols = drawn(table, count)
    used = np.flatnonzero(np.frombuffer(table, np.uint8))
    data = filled_up(entropy_encode(symbols, table), count)
    assert used[list(decoded_by_the_book(data, count, weights_of(table)))].tolist() == symbols.tolist()


# --- masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", range(2, 11))
def test_every_pattern_of_up_to_ten_has_its_own_number(m: int):
    for n in range(1, m):
        groups = np.array([[i in kept for i in range(m)] for kept in itertools.combinations(range(m), n)])
        ranks = rank_patterns(groups, n)
        assert sorted(ranks.tolist()) == list(range(math.comb(m, n)))
        assert np.array_equal(unrank_patterns(ranks, n, m), groups)


@always_the_same
@given(
    st.integers(2, 32).flatmap(lambda m: st.tuples(st.integers(1, m - 1), st.just(m))), st.integers(0, 2**32)
)
def test_larger_patterns_have_numbers_below_their_count(pattern: tuple[int, int], seed: int):
    n, m = pattern
    groups = np.random.default_rng(seed).random((50, m)).argsort(1) < n
    groups[0], groups[1] = np.arange(m) < n, np.arange(m) >= m - n
    ranks = rank_patterns(groups, n)
    assert ranks[0] == 0 and ranks[1] == math.comb(m, n) - 1 and ranks.max() < math.comb(m, n)
    assert np.array_equal(unrank_patterns(ranks.astype(np.uint64), n, m), groups)


def test_the_number_of_a_pattern_is_what_the_document_says():
    """A sum of binomials: the j-th kept place p, counted from 1, adds p over j."""
    assert rank_patterns(np.array([[False, True, False, True]]), 2).tolist() == [
        math.comb(1, 1) + math.comb(3, 2)
    ]


@always_the_same
@given(st.data())
def test_the_last_group_of_a_channel_is_filled_up(data: st.DataObject):
    m = data.draw(st.integers(2, 9))
    n, length, channels = (
        data.draw(st.integers(1, m - 1)),
        data.draw(st.integers(1, 30)),
        data.draw(st.integers(1, 4)),
    )
    rows = np.random.default_rng(0).random((channels, -(-length // m), m)).argsort(2) < n
    rows = rows.reshape(channels, -1)[:, :length]
    groups = fill_groups(rows, n, m)
    assert groups is not None and (groups.sum(1) == n).all()
    assert np.array_equal(groups.reshape(channels, -1)[:, :length], rows)


def test_a_mask_that_breaks_the_pattern_is_none():
    assert fill_groups(np.array([[True, True, True, False]]), 2, 4) is None
    assert fill_groups(np.array([[True, False, False, False]]), 2, 4) is None
    # the last, shorter one
    assert fill_groups(np.array([[True, False, False, True, True, True, True]]), 2, 4) is None
    # one place cannot hold two
    assert fill_groups(np.array([[True, False, False, True, False, False, False]]), 2, 4) is None
    assert fill_groups(np.array([[True, False, False, True, False]]), 2, 4) is not None


# --- floats -------------------------------------------------------------------------------------------


@always_the_same
@given(
    st.lists(
        st.one_of(st.integers(0, 2**16 - 1), st.sampled_from([0x8000, 0x7E01, 0xFFFF, 0x7C00, 0x0001])),
        max_size=100,
    )
)
def test_every_half_float_comes_back_bit_for_bit(bits: list[int]):
    """NaN with its payload, -0.0 and subnormal numbers included."""
    halves = np.array(bits, np.uint16).view(np.float16)
    assert inflate_fp16(deflate_fp16(halves), len(bits)).view(np.uint16).tolist() == bits


def test_half_floats_of_another_number_are_refused():
    data = deflate_fp16(np.ones(100, np.float16))
    for count in (0, 99, 101, 10**15):
        with pytest.raises(ValueError):
            inflate_fp16(data, count)


@always_the_same
@given(st.binary(max_size=300), st.integers(0, 3))
def test_inflating_knows_its_limit(data: bytes, room: int):
    assert inflate(deflate(data), len(data) + room) == data
    if data:
        with pytest.raises(ValueError, match="cut short or too large"):
            inflate(deflate(data), len(data) - 1)


def test_streams_cut_short_continued_or_broken_are_refused():
    whole = deflate(bytes(range(200)))
    for wrong in (
        *(whole[:length] for length in range(len(whole))),
        whole + b"\0",
        whole + whole,
        b"\xff" * 9,
        zlib.compress(b"hello"),
    ):
        with pytest.raises(ValueError, match=r"cannot be inflated|cut short"):
            inflate(wrong, 1000)


def test_a_bomb_stops_at_the_limit():
    with pytest.raises(ValueError, match="too large"):
        inflate(deflate(bytes(10**7)), 1000)
    assert coding.inflate(deflate(bytes(1000)), 1000) == bytes(1000)
