"""The trellis of trellis-coded indices: which symbols may follow each other, and the order of the file.

A trellis of 2^memory states is a convolutional code of rate 1/2 (Ungerboeck 1982). An even state allows even
symbols alone, and an odd state odd ones. Bit 1 of the symbol chooses the next state. So a decoder that knows
the state needs no bit to tell even from odd, although the levels of one state are twice as far apart
(Marcellin and Fischer 1990).

Symbols are cut into segments, and each begins in state 0. The file holds the first symbols of all segments,
then the second ones, and so on. So a decoder follows all segments at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

SEGMENT = 256  # symbols
# memory -> parity checks (h0, h1) of Ungerboeck's codes for one dimension, octal as published
CHECKS = {
    2: (0o5, 0o2),
    3: (0o13, 0o4),
    4: (0o23, 0o4),
    5: (0o45, 0o10),
    6: (0o103, 0o24),
    7: (0o235, 0o126),
    8: (0o515, 0o362),
}


def taps(memory: int) -> tuple[int, int]:
    """What an odd state, and what bit 1 of a symbol, adds to half of the state (bit by bit, modulo 2)."""
    odd, bit = CHECKS[memory]
    return odd >> 1, bit >> 1


@functools.cache
def next_states(memory: int) -> np.ndarray:
    """int [2 * states]: what follows state s and a symbol whose bit 1 is b, at 2 s + b."""
    odd, bit = taps(memory)
    state, b = np.divmod(np.arange(2 << memory), 2)
    return ((state >> 1) ^ (state & 1) * odd ^ b * bit).astype(np.uint16)


def in_steps(symbols: np.ndarray) -> np.ndarray:
    """Symbols [n] in the order of the file: the first ones of all segments, then the second ones."""
    whole = len(symbols) // SEGMENT * SEGMENT
    rows, last = symbols[:whole].reshape(-1, SEGMENT), symbols[whole:]
    longer = np.concatenate([rows[:, : len(last)], last[None]])
    return np.concatenate([longer.T.ravel(), rows[:, len(last) :].T.ravel()])


def in_order(steps: np.ndarray) -> np.ndarray:
    """Invert `in_steps`."""
    whole, rest = divmod(len(steps), SEGMENT)
    longer, shorter = steps[: rest * (whole + 1)], steps[rest * (whole + 1) :]
    found = np.empty_like(steps)
    rows, last = found[: whole * SEGMENT].reshape(whole, SEGMENT), found[whole * SEGMENT :]
    both = longer.reshape(rest, whole + 1).T  # [segments, steps]
    rows[:, :rest], last[:] = both[:whole], both[whole:].ravel()
    rows[:, rest:] = shorter.reshape(SEGMENT - rest, whole).T
    return found


def _sizes(count: int) -> Iterator[int]:
    """How many segments have a symbol, step by step."""
    whole, rest = divmod(count, SEGMENT)
    yield from [whole + 1] * rest
    yield from [whole] * (SEGMENT - rest if whole else 0)


def follows(symbols: np.ndarray, memory: int) -> bool:
    """Whether symbols [n] are a path through the trellis."""
    after, ordered, place = next_states(memory), in_steps(symbols), 0
    states = np.zeros(-(-len(symbols) // SEGMENT), np.uint16)
    for size in _sizes(len(symbols)):
        now, states, place = ordered[place : place + size], states[:size], place + size
        if ((now ^ states) & 1).any():
            return False
        states = after[2 * states + (now >> 1 & 1)]
    return True


def merged(even: np.ndarray, odd: np.ndarray, memory: int) -> np.ndarray:
    """Even and odd symbols, both in the order of the file -> symbols [n] of the path.

    Raises `ValueError` where the path needs another number of even symbols.
    """
    count, after = len(even) + len(odd), next_states(memory)
    found, used, place = np.empty(count, even.dtype), 0, 0
    states = np.zeros(-(-count // SEGMENT), np.uint16)
    for size in _sizes(count):
        now, states = found[place : place + size], states[:size]
        is_odd = (states & 1).astype(bool)
        odds = int(np.count_nonzero(is_odd))
        evens, first = size - odds, place - used
        if used + evens > len(even) or first + odds > len(odd):
            raise ValueError("the symbols do not follow their trellis")
        now[is_odd], now[~is_odd] = odd[first : first + odds], even[used : used + evens]
        states = after[2 * states + (now >> 1 & 1)]
        used, place = used + evens, place + size
    return in_order(found)
