"""Precision, recall, density, coverage and mutual recall: samples against balls around their nearest
neighbours.

Every sample of a set has a ball: its centre is the sample, and its radius is the distance to the k-th nearest
neighbour *within the same set*. The union of a set's balls estimates the support of its distribution. All
metrics ask which samples of one set lie in which balls of the other. Two conventions matter:

- "Inside" is strict, `distance < radius`, as in the package `prdc`. A sample with k exact copies in its own
  set has radius 0. Then nothing lies in its ball, not even itself, so copies add no variety.
- Squared distances are exact float64 sums of squared differences. A float32 lower bound decides most
  comparisons (`_Screen` derives it), and only the other pairs are summed. So results do not depend on the
  block size, the threads or the device, and a copy of a sample has exactly the same distances.

Higher is better, except that `density` may exceed 1. All values depend on the number of samples. For real
against real samples they stay below 1 (k = 5, N = 2,000, ten Gaussians in 64 dimensions: precision .78,
mutual recall .66). So compare only at equal N, and relative to that ceiling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from bench.errors import BadInput, Diverged
from bench.util.progress import bar

CAP_QUANTILE = 0.9  # of the real radii, for `inside_capped`
PAIRS = 1 << 12  # pairs whose distances are computed together: their coordinates fit in a CPU's cache
GROUP = 32  # columns, of which only the smallest value is looked at first
# of a block's pairs: when float32 leaves more of them open, float64 screens the block again
OPEN_SHARE = 1 / 32
AT_ONCE = 1 << 21  # pairs in a block: 8 MB of bounds, and at most 200 MB where most of them lie in some ball
BAR_ABOVE = 4e8  # pairs in a pass: seconds


@dataclass(frozen=True)
class Manifold:
    """What holds for each of N real and M generated samples. A metric's value is the mean of its field.

    precision [M]: does it lie in some real ball? (Kynkäänniemi et al. 2019, arXiv:1904.06991.) Bias: the few
    balls of real outliers are huge and swallow damaged samples; it need not fall with noise.

    recall [N]: does it lie in some generated ball? (The same paper.) Bias: noise makes generated balls
    larger, so that recall can rise with damage.

    density [M]: number of real balls that it lies in, divided by k. 1 is expected of real samples, more where
    samples crowd in real modes. (Naeem et al. 2020, arXiv:2002.09797.)

    coverage [N]: does its ball hold some generated sample? (The same paper.) For real samples, as many as the
    reference, 1 - 2**-k is expected. Bias: misses contraction towards the modes.

    mutual_recall [N]: is there a generated sample with each in the ball of the other? Neither wide generated
    balls nor samples crowded in the modes raise it: it is at most min(recall, coverage).

    inside_capped [M]: precision with each real radius capped at the 90th percentile of the real radii (the
    lower of two, not interpolated).
    """

    precision: Tensor  # [M] bool
    recall: Tensor  # [N] bool
    density: Tensor  # [M] float64
    coverage: Tensor  # [N] bool
    mutual_recall: Tensor  # [N] bool
    inside_capped: Tensor  # [M] bool
    real_radii: Tensor  # [N] float64
    generated_radii: Tensor  # [M] float64

    def means(self) -> dict[str, float]:
        """Name of each field -> its mean (of the radii too, in units of the features)."""
        return {field.name: getattr(self, field.name).double().mean().item() for field in fields(self)}


def manifold(real: Tensor, generated: Tensor, k: int = 5, *, block: int = 256) -> Manifold:
    """Compare `real` [N, d] with `generated` [M, d], float32 features on one device, in blocks of `block`
    rows.

    Takes O((N + M)² d) time and O((N + M) d) memory, plus that of one block; above 20,000 samples it shows a
    bar. Raises `ValueError` when the shapes do not fit, `BadInput` when a set has no more than k samples,
    `Diverged` when a feature is NaN or infinite.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(
            f"expected real [N, d] and generated [M, d]; got {[*real.shape]} and {[*generated.shape]}"
        )
    real, generated = _checked(real, k, "real"), _checked(generated, k, "generated")
    real_balls, generated_balls = _squared_radii(real, k, block), _squared_radii(generated, k, block)
    capped_balls = real_balls.clamp(max=real_balls.quantile(CAP_QUANTILE, interpolation="lower").item())

    recall, coverage, mutual = (
        torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(3)
    )
    capped = torch.zeros(len(generated), dtype=torch.bool, device=real.device)
    hits = torch.zeros(len(generated), dtype=torch.int64, device=real.device)  # real balls around each item
    for i, j, squared in _near_pairs(real, generated, (real_balls, capped_balls), generated_balls, block):
        in_real, in_generated = squared < real_balls[i], squared < generated_balls[j]  # [p]
        coverage[i[in_real]] = True
        recall[i[in_generated]] = True
        mutual[i[in_real & in_generated]] = True
        hits += j[in_real].bincount(minlength=len(generated))
        capped[j[squared < capped_balls[i]]] = True
    inside = (hits > 0, recall, hits.double() / k, coverage, mutual, capped)
    return Manifold(*inside, real_balls.sqrt(), generated_balls.sqrt())


def radii(features: Tensor, k: int = 5, *, block: int = 256) -> Tensor:
    """Distance of each row of `features` [N, d] to its k-th nearest other row -> [N] float64; errors as
    `manifold`.

    Rows that occur several times are neighbours of each other at distance 0.
    """
    if features.ndim != 2:
        raise ValueError(f"expected features [N, d]; got {[*features.shape]}")
    return _squared_radii(_checked(features, k, "given"), k, block).sqrt()


def nearest_neighbour_distance(features: Tensor) -> Tensor:
    """The distance of each row of `features` [N, d] to the nearest other row -> [N] float64."""
    return radii(features, k=1)


def _checked(features: Tensor, k: int, name: str) -> Tensor:
    """`features` as float64, in which float32 values keep their exact value."""
    if k < 1 or k >= len(features):
        raise BadInput(
            f"k must be from 1 to the number of {name} samples - 1: got k = {k}, {len(features)} samples"
        )
    bad = len(features) - int(features.isfinite().all(1).sum())
    if bad:
        raise Diverged(f"{bad} of {len(features)} {name} samples have features with NaN or infinity")
    return features.detach().double()


def _squared_radii(x: Tensor, k: int, block: int) -> Tensor:
    """Squared radii of checked features [N]: the (k + 1)-th smallest distance in each row, which contains
    itself too.

    The bounds of k + 1 pairs of a row are at most `kth`, the (k + 1)-th smallest of its groups' least bounds.
    So the radius is at most `kth` plus the error of the bounds. Pairs with a larger bound are not needed.
    """
    group = max(1, min(GROUP, len(x) // (8 * (k + 1))))
    screen = cache(lambda dtype: _Screen(x, x, dtype, group))
    found = []
    for rows in _slices(x, x, block, "balls"):
        here = x[rows]
        for dtype in _dtypes(x):
            s = screen(dtype)
            bounds = s.bounds(rows)
            least = bounds.amin(2)
            kth = least.topk(k + 1, largest=False).values[:, -1].double()
            limits = s.above(kth + s.gap(s.x_norms[rows], kth.clamp(min=0)))
            i, j, _ = _at_most(bounds, least, limits, torch.full_like(bounds[0], -torch.inf))
            if len(i) <= (OPEN_SHARE * len(x) + 2 * (k + 1)) * len(here):
                break
        squared = _squared_distances(here, x, i, j)
        order = squared.argsort()
        order = order[i[order].argsort(stable=True)]  # by row, in a row by distance
        first = torch.searchsorted(i, torch.arange(len(here), device=x.device))  # i ascends
        found.append(squared[order[first + k]])
    return torch.cat(found)


def _near_pairs(
    x: Tensor, y: Tensor, x_balls: tuple[Tensor, Tensor], y_balls: Tensor, block: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """For each block of rows of x: pairs i, j [p] and squared distances [p], including all pairs inside a
    ball.

    `x_balls` are two squared radii for each row of x, of which the first is the larger one. Distances are
    exact where that matters: each lies on the true side of the pair's three squared radii. Rows of y are
    sorted by radius, so that one limit fits a whole group.
    """
    order = y_balls.argsort()
    screen = cache(lambda dtype: _Screen(x, y[order], dtype, GROUP))
    for rows in _slices(x, y, block, "pairs"):
        for dtype in _dtypes(x):
            s = screen(dtype)
            unit = s.scale**2
            outer, inner, columns = x_balls[0][rows] * unit, x_balls[1][rows] * unit, y_balls[order] * unit
            bounds = s.bounds(rows)
            i, j, bound = _at_most(
                bounds, bounds.amin(2), s.inside_below(outer), s.by_group(s.inside_below(columns))
            )
            norms = s.x_norms[rows][i]
            open_ = (
                s.is_open(bound, norms, outer[i])
                | s.is_open(bound, norms, inner[i])
                | s.is_open(bound, s.y_norms[j], columns[j])
            )
            if open_.sum() <= OPEN_SHARE * len(y) * len(outer):
                break
        i, j, squared = i + rows.start, order[j], bound / unit
        squared[open_] = _squared_distances(x, y, i[open_], j[open_])
        yield i, j, squared


def _at_most(
    bounds: Tensor, least: Tensor, row_limits: Tensor, column_limits: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs i, j [p] whose bounds [b, groups, n] are at most row_limits [b] or column_limits [groups, n],
    with these bounds.

    The bounds [p] are float64, and values below 0 become 0. i ascends. `least` [b, groups] says which groups
    can hold a pair, and only these few are searched.
    """
    i, g = (least <= torch.maximum(row_limits[:, None], column_limits.amax(1))).nonzero(as_tuple=True)
    some = bounds[i, g]  # [q, n]
    q, n = (some <= torch.maximum(row_limits[i, None], column_limits[g])).nonzero(as_tuple=True)
    return i[q], g[q] * bounds.shape[2] + n, some[q, n].double().clamp(min=0)


def _slices(x: Tensor, y: Tensor, block: int, title: str) -> Iterable[slice]:
    """Slices of at most `block` rows of x for `AT_ONCE` pairs, with a bar when the comparison with y takes
    long.
    """
    block = max(1, min(block, AT_ONCE // len(y)))
    slices = [slice(start, start + block) for start in range(0, len(x), block)]
    return bar(slices, title, len(slices)) if len(x) * len(y) > BAR_ABOVE else slices


def _dtypes(x: Tensor) -> list[torch.dtype]:
    """The types in which to screen, one after the other.

    Float32 is used only where a matrix product of float32 is computed in float32. A caller may have allowed
    TF32 or bfloat16 instead. The bound also requires fewer than 2**16 dimensions.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # type: ignore[attr-defined]
    full = all(backend.fp32_precision in ("none", "ieee") for backend in backends)
    full = full and not torch.is_autocast_enabled(x.device.type)
    return [torch.float32, torch.float64] if full and x.shape[1] < 1 << 16 else [torch.float64]


class _Screen:
    """Lower bounds of the squared distances of x [N, d] to y [M, d], from one matrix product of `dtype`
    (float32, 64).

    |a|² + |b|² - 2ab is cheap, but where a and b are close it is mostly rounding error. A sum's error is at
    most nu times the sum of its terms' absolute values, where n counts the roundings that a term passes, in
    whatever order, and u is half of `eps` (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
    eq. 3.5; terms of order u² left out). Let v = 2**-53, a and b be rows of x and y less a common centre,
    which leaves S = |a - b|² as it is but makes Q = |a|² + |b|² small, and the columns of the product -2a,
    |a|², 1 and b, 1, |b|². Rounding a and b moves S by at most 4uQ; the product's terms add up to at most 2Q
    and pass d + 2 roundings: 2 (d + 2) uQ; the norms cost (dv + u) Q; and the plain float64 sum of squared
    differences, which decides, is within (d + 3) vS, where S <= 2Q. Together less than eQ with e = (d + 4)
    (3u + 4v), with room for order u². Computed with norms (1 - e) |a|², (1 - e) |b|²,

        S - 2eQ <= bound <= S    for the S that decides: where bound >= r², a pair is outside a ball of radius
        r.

    It is inside where bound < r² - gap, for a gap that knows only one of the two, the centre a of the ball:
    if the other is far away, |b| = |a| + h, then S >= h² and Q <= 3 |a|² + 2h². So r² > bound >= h² - 2eQ
    makes h² <= (r² + 6e |a|²) / (1 - 4e), and with e < 1/64, 2eQ <= 2e (3.3 |a|² + 2.2 r²) < 8e (|a|² + r²):
    the gap.

    A common power of two, `scale`, which rounds nothing, makes the largest coordinate nearly 2**40, so that
    no float32 overflows. What underflows, to 0 at worst, is less than `tiny` in all: (d + 4) products of at
    most 2**46 and the smallest normal number. Bounds, norms and limits are in units of 1 / scale².
    """

    def __init__(self, x: Tensor, y: Tensor, dtype: torch.dtype, group: int) -> None:
        """`bounds` come in groups of `group` columns, the last filled up with columns at distance
        infinity.
        """
        d, numbers = x.shape[1], torch.finfo(dtype)
        some = y[:: 1 + len(y) // 1000].sort(0).values
        centre = some[len(some) // 2]  # about the median, which outliers do not move; any centre is right
        x, y = x - centre, y - centre
        largest = max(x.abs().max().item(), y.abs().max().item())
        self.scale = 2.0 ** min(40 - math.frexp(largest)[1], 400)
        x, y = (x * self.scale).to(dtype), (y * self.scale).to(dtype)
        self.error, self.tiny = (d + 4) * (3 * numbers.eps / 2 + 4 * 2**-53), (d + 4) * 2**46 * numbers.tiny
        self.x_norms, self.y_norms = x.double().square().sum(1), y.double().square().sum(1)
        lower = 1 - self.error
        self.x = torch.cat([-2 * x, (lower * self.x_norms).to(dtype)[:, None], torch.ones_like(x[:, :1])], 1)
        self.y = torch.cat([y, torch.ones_like(y[:, :1]), (lower * self.y_norms).to(dtype)[:, None]], 1)
        self.group, self.missing = group, -len(y) % group
        self.y = pad(self.y, (0, 0, 0, self.missing))
        self.y[len(y) :, -1] = torch.inf
        self.room: Tensor | None = None

    def bounds(self, rows: slice) -> Tensor:
        """[b, groups, group]. The next call overwrites it, because the same memory is used again."""
        x = self.x[rows]
        if self.room is None or len(self.room) < len(x):
            self.room = x.new_empty(len(x), len(self.y))
        return torch.mm(x, self.y.T, out=self.room[: len(x)]).unflatten(1, (-1, self.group))

    def by_group(self, limits: Tensor) -> Tensor:
        """[M] -> [groups, group]"""
        return pad(limits, (0, self.missing), value=-torch.inf).unflatten(0, (-1, self.group))

    def above(self, values: Tensor) -> Tensor:
        """At least values + tiny, in the type of the screen."""
        return (values + values.abs() * 2**-22 + self.tiny).to(self.x.dtype)

    def inside_below(self, squared_radii: Tensor) -> Tensor:
        """A pair whose bound is above this value is outside. Nothing is inside a ball of radius 0."""
        return self.above(squared_radii).masked_fill(squared_radii == 0, -torch.inf)

    def gap(self, norms: Tensor, squared_radii: Tensor) -> Tensor:
        """A pair is inside when its bound is below its ball's squared radius by more than this value."""
        return 8 * self.error * (norms + squared_radii) + 4 * self.tiny

    def is_open(self, bound: Tensor, norms: Tensor, squared_radii: Tensor) -> Tensor:
        """bool [p]: whether the bounds of pairs [p] do not decide if they are inside balls [p]."""
        return (bound <= self.inside_below(squared_radii)) & (
            bound >= squared_radii - self.gap(norms, squared_radii)
        )


def _squared_distances(x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances of the pairs x[i], y[j] -> [p], by definition.

    It adds coordinate by coordinate, so each distance depends on its pair alone. With `sum` or `norm` it
    could depend on shapes, threads or device. PyTorch's `sqrt` is not rounded correctly either.
    """
    squared = torch.zeros(len(i), dtype=x.dtype, device=x.device)
    for start in range(0, len(i), PAIRS):
        some = slice(start, start + PAIRS)
        for term in (x[i[some]] - y[j[some]]).square_().unbind(1):
            squared[some] += term
    return squared
