"""Trellis-coded quantization: a path of weights is rounded together, and its indices are entropy-coded."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from bench.artifact.trellis import CHECKS, SEGMENT, next_states, taps
from bench.errors import BadInput
from bench.interfaces import Layout, StoredTensor
from bench.methods.entropy_coded import EntropyCoded, least_step, units
from bench.methods.scale_search import Grid, divisor, storable
from bench.methods.weightwise import kept_of

STATES = {2**memory: memory for memory in CHECKS}
MOST_LEVELS = 2**14
LEAST_BITS = 0.5
SAMPLE, COARSE = 2**16, 3  # weights, and memory of a trellis, with which the step is searched
TOGETHER = 2**17  # costs that are compared at once: states times segments
PRECISE = 0.003  # bits a weight that the rate may be off
UNSEEN = 0.1  # how often a level that never occurred counts as having occurred
FORBIDDEN = np.float32(1e30)


@dataclass(frozen=True)
class TrellisCoded(EntropyCoded):
    """`bits` is the entropy of the indices in bits a weight, and it may be fractional: `tcq:bits=1.5`.

    Levels are the whole multiples of one step, as in `ecsq`. In each state of a trellis only the even or only
    the odd ones are allowed, which saves a bit. The Viterbi algorithm finds the path of least squared error +
    lambda * code length (Marcellin and Fischer 1990; entropy-coded: Fischer and Wang 1992, Marcellin 1994;
    JPEG 2000 part 2 and VVC use it; Tseng et al. 2024, arXiv:2406.11235, for weights). For an iid Gaussian,
    256 states stay within 0.05 bit of rate-distortion theory, and 8 states within 0.09.
    """

    states: int = 256  # of the trellis; more take longer to encode, not to decode

    name = "tcq"
    description = "trellis-coded uniform steps, entropy-coded indices of `bits` bits; states=4 ... 256"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bits < LEAST_BITS:
            raise BadInput(
                f"bits={self.bits:g} of {self.name!r} is outside of [{LEAST_BITS:g}, 8]: take 'ecsq' below, "
                f"where a trellis gains little"
            )
        if self.states not in STATES:
            raise BadInput(
                f"states={self.states} of {self.name!r} is not one of: {', '.join(map(str, STATES))}"
            )

    def quantize(self, stored: StoredTensor, axis: int, blocks: int = 1) -> StoredTensor:
        """Quantize one tensor along the order of the file, pruned weights left out."""
        layout = self._layout(Layout(axis=axis, blocks=blocks), stored.shape)
        unit, trellis, step = self.begin(stored, layout)
        scales, kept = storable(unit * step), layout.flat(kept_of(stored))
        weights = layout.flat(stored.residual().dequantize())[kept]
        relative = weights / _each(divisor(scales)[:, 0], layout, stored.shape)[kept]
        levels = trellis.path(relative.cpu().numpy())
        return stored_path(stored, layout, scales, levels, trellis.memory)

    def begin(self, stored: StoredTensor, layout: Layout) -> tuple[Tensor, Trellis, float]:
        """(size of the weights of each row, a trellis that knows code lengths, the step in these sizes)."""
        dense, mask = stored.residual().dequantize(), kept_of(stored)
        unit = units(layout.rows(dense), layout.rows(mask).float()).clamp(min=1e-30)
        trellis = Trellis(STATES[self.states], self.bits)
        relative = layout.flat(dense) / _each(unit, layout, stored.shape)
        weights = relative[layout.flat(mask)].cpu().numpy()
        return unit, trellis, trellis.step_for(weights, least_step(unit))

    def fit(self, rows: Tensor, mask: Tensor) -> Grid:
        """A trellis goes through all rows of a tensor: see `quantize`."""
        raise NotImplementedError


def stored_path(
    stored: StoredTensor, layout: Layout, scales: Tensor, levels: np.ndarray, memory: int
) -> StoredTensor:
    """The tensor whose kept weights have these levels int32 [kept], in the order of the file."""
    kept = layout.flat(kept_of(stored))
    lowest = int(levels.min(initial=0)) // 4 * 4  # so that the last two bits of an index are the level's
    book = tuple(map(float, range(lowest, max(int(levels.max(initial=0)), lowest + 1) + 1)))
    kind = torch.uint8 if len(book) <= 256 else torch.int16
    indices = torch.full(kept.shape, -lowest, dtype=kind, device=kept.device)
    indices[kept] = torch.from_numpy(levels - lowest).to(kept.device, kind)
    return StoredTensor(
        stored.shape,
        indices=layout.unflat(indices, stored.shape),
        codebook=(book,),
        scales=scales.half()[None],
        layout=layout,
        mask=stored.mask,
        pattern=stored.pattern,
        trellis=memory,
        factors=stored.factors,
    )


def _each(of_rows: Tensor, layout: Layout, shape: tuple[int, ...]) -> Tensor:
    """[rows] -> [numel] in the order of the file: what each weight's row has."""
    return layout.flat(layout.each(of_rows, shape))


# ------------------------------------------------------------------------------------------------ the search


@dataclass
class Trellis:
    """Finds the step and the path of a tensor. Code lengths are learnt on the way."""

    memory: int
    bits: float
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(9))  # bits of level i - len // 2

    @property
    def price(self) -> float:
        """Lambda, in squared steps a bit. -dD/dR = 2 ln 2 * D, where D follows from the rate (fitted to a
        Gaussian).
        """
        return 0.37 + 0.35 * 4.0**-self.bits

    def step_for(self, weights: np.ndarray, least: float) -> float:
        """The step at which the entropy is `bits`, and not below `least`: a search on a sample, then
        corrections.
        """
        size = float(np.sqrt(np.square(weights, dtype=np.float64).mean())) if len(weights) else 0.0
        peak = float(np.abs(weights).max(initial=0.0))
        if not size:
            return 1.0
        ends = math.log2(max(peak / (MOST_LEVELS // 2 - 8), least)), math.log2(max(4 * peak, least))
        start = math.log2(size) + min(1.04 - self.bits, 0.55 - 0.73 * self.bits)
        start = min(max(start, ends[0]), ends[1])
        self.lengths = _gaussian_lengths(peak, size, 2.0**start)
        coarse = Trellis(min(self.memory, COARSE), self.bits, self.lengths)
        found = coarse._search(_sample(weights), start, ends, 12)
        self.lengths = coarse.lengths
        return float(2.0 ** self._search(weights, found, ends, 6))

    def _search(self, weights: np.ndarray, place: float, ends: tuple[float, float], most: int) -> float:
        """Search the logarithm of the step.

        A step of twice the size has a bit less at high rates, and more than that at low ones (as for a
        Gaussian). Code lengths follow the step, so the search moves on from where it is.
        """
        least, best, learnt = math.inf, place, self.lengths
        slope, peak = 1.0 if self.bits > 1.8 else 0.73, float(np.abs(weights).max(initial=0.0))
        for _ in range(most):
            self._reach(peak / 2.0**place)
            used = self.lengths
            off = self.entropy(self.path(weights / np.float32(2.0**place))) - self.bits
            if abs(off) < least:
                least, best, learnt = abs(off), place, used
            if least < PRECISE:
                break
            place = min(max(place + slope * min(max(off, -0.5), 0.5), ends[0]), ends[1])
        self.lengths = learnt  # the path at this step is then the one that was measured
        return best

    def _reach(self, peak: float) -> None:
        """Levels as far as the largest weight, in steps. What is beyond the known ones costs as much as the
        dearest.
        """
        more = _half(peak) - len(self.lengths) // 2
        if more > 0:
            self.lengths = np.pad(self.lengths, more, constant_values=self.lengths.max())

    def entropy(self, levels: np.ndarray) -> float:
        """Bits a weight, where a decoder knows whether a level is even. Also learns the code lengths."""
        half = max(len(self.lengths) // 2, int(np.abs(levels).max(initial=0)) + 4) // 4 * 4
        counts = np.bincount(levels + half, minlength=2 * half + 1).astype(np.float64)
        total = np.empty_like(counts)
        for odd in (0, 1):
            total[odd::2] = (counts[odd::2] + UNSEEN).sum()
        self.lengths = np.log2(total / (counts + UNSEEN))
        used = counts > 0
        share = np.where(np.arange(len(counts)) % 2, counts[1::2].sum(), counts[::2].sum())[used]
        return float((counts[used] * np.log2(share / counts[used])).sum() / max(len(levels), 1))

    def path(self, relative: np.ndarray) -> np.ndarray:
        """Weights [n] in steps -> levels int32 [n] of the cheapest path."""
        padded = np.zeros((-(-len(relative) // SEGMENT), SEGMENT), np.float32)
        padded.ravel()[: len(relative)] = relative
        size = max(1, TOGETHER >> self.memory)
        parts = [self._segments(padded[i : i + size]) for i in range(0, len(padded), size)]
        return np.concatenate(parts).ravel()[: len(relative)] if parts else np.zeros(0, np.int32)

    def _segments(self, rows: np.ndarray) -> np.ndarray:
        """[segments, steps] -> levels."""
        return self.through(np.ascontiguousarray(rows.T))[0].T

    def through(self, steps: np.ndarray, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Weights [steps, segments] -> (levels of the cheapest path of each from the state `first`, its last
        state).
        """
        levels, costs = self._nearest(steps, np.arange(4, dtype=np.float32)[:, None, None])
        search = viterbi_of_one if steps.shape[1] == 1 else viterbi
        chosen, last = search(costs, self.memory, first)
        return np.choose(chosen, levels), last

    def _nearest(self, relative: np.ndarray, subset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cheaper of the two levels = subset modulo 4 around each weight -> (levels, their costs)."""
        half = len(self.lengths) // 2
        lengths = (self.price * self.lengths).astype(np.float32)
        below = np.floor((relative - subset) * np.float32(0.25)) * 4 + subset
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for level in (below, below + 4):
            # the outermost four levels: one of each subset
            inside = np.clip(level, _within(-half, subset), _within(half - 3, subset)).astype(np.int32)
            found.append((inside, np.square(relative - inside) + lengths[inside + half]))
        (lower, first), (upper, second) = found
        return np.where(second < first, upper, lower), np.minimum(first, second)


def _within(lowest: int, subset: np.ndarray) -> np.ndarray:
    """The first level from `lowest` on that is = subset modulo 4."""
    return lowest + (subset - lowest) % 4


def _half(peak: float) -> int:
    """Levels on each side, for a largest weight of so many steps."""
    return min(int(peak) + 8, MOST_LEVELS // 2) // 4 * 4


def _gaussian_lengths(peak: float, size: float, step: float) -> np.ndarray:
    """Code lengths to start from: those of a Gaussian, at most 16 bits."""
    half = _half(peak / step)
    levels = np.arange(-half, half + 1) * (step / size)
    return np.minimum(np.square(levels) / (2 * math.log(2)) + 1, 16.0)


def _sample(weights: np.ndarray) -> np.ndarray:
    """Whole segments, evenly spaced, of at most `SAMPLE` weights in all."""
    if len(weights) <= SAMPLE:
        return weights
    rows = weights[: len(weights) // SEGMENT * SEGMENT].reshape(-1, SEGMENT)
    return rows[np.linspace(0, len(rows) - 1, SAMPLE // SEGMENT).astype(int)].ravel()


# ------------------------------------------------------------------------------------------------- the path


def viterbi(costs: np.ndarray, memory: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path of each segment from the state `first`: float32 [4, steps, segments] -> (subsets
    [steps, segments], last states).

    Even states allow the subsets 0 and 2, odd ones 1 and 3. The states in the lower half follow even states,
    those in the upper half odd ones (`bench.artifact.trellis.next_states`).
    """
    _, steps, segments = costs.shape
    half, (odd, bit) = 1 << (memory - 1), taps(memory)
    lower = np.arange(half)
    after_bit, after_odd = lower ^ bit, (lower + half) ^ odd  # half of the state before
    now, then = (np.full((2 * half, segments), FORBIDDEN, np.float32) for _ in range(2))
    now[first] = 0
    took_bit = np.empty((steps, 2 * half, segments), bool)
    for t in range(steps):
        for upper, before in ((0, lower), (1, after_odd)):
            states, ends = now[upper::2], slice(upper * half, (upper + 1) * half)
            without = (states + costs[upper, t])[before]
            with_bit = (states + costs[upper + 2, t])[before ^ bit if upper else after_bit]
            np.less(with_bit, without, out=took_bit[t, ends])
            np.minimum(without, with_bit, out=then[ends])
        now, then = then, now
    last = now.argmin(0)
    return _backwards(last, took_bit, memory), last


def _backwards(state: np.ndarray, took_bit: np.ndarray, memory: int) -> np.ndarray:
    """Follow the best path back from its last state [segments] -> subsets [steps, segments]."""
    half, (odd, bit) = 1 << (memory - 1), taps(memory)
    subsets = np.empty((took_bit.shape[0], len(state)), np.uint8)
    each = np.arange(len(state))
    for t in reversed(range(len(took_bit))):
        upper, chosen = (state >= half).astype(np.int64), took_bit[t, state, each].astype(np.int64)
        subsets[t] = upper + 2 * chosen
        state = 2 * (state ^ upper * odd ^ chosen * bit) + upper
    return subsets


def viterbi_of_one(costs: np.ndarray, memory: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`viterbi` of one segment, [4, steps, 1], several times as fast: few operations, all states at once."""
    without, with_bit, after = _before(memory)
    now = np.full(1 << memory, FORBIDDEN, np.float32)
    now[first] = 0
    price = costs[:, :, 0].T
    of_without, of_bit = price[:, without & 1], price[:, (with_bit & 1) + 2]
    took_bit = np.empty(of_bit.shape, bool)
    for one, other, took in zip(of_without, of_bit, took_bit, strict=True):
        one += now.take(without)
        other += now.take(with_bit)
        np.less(other, one, out=took)
        np.minimum(one, other, out=now)
    state = last = int(now.argmin())
    subsets = np.empty((len(price), 1), np.uint8)
    for t in reversed(range(len(price))):
        bit = int(took_bit[t, state])
        state = after[bit][state]
        subsets[t] = (state & 1) + 2 * bit
    return subsets, np.array([last])


@functools.cache
def _before(memory: int) -> tuple[np.ndarray, np.ndarray, tuple[list[int], list[int]]]:
    """The state before each one, without and with the bit [states], as arrays and as lists."""
    found = next_states(memory).reshape(-1, 2).argsort(0).T
    return found[0], found[1], (found[0].tolist(), found[1].tolist())
