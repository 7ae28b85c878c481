"""Precision, recall, density, coverage and mutual recall: samples against balls around their nearest neighbours.

Every set of features gets one ball per sample: its centre is the sample, its radius the distance to its k-th
nearest neighbour *within its own set*. The union of a set's balls stands for what the set's distribution can make.
All metrics here ask which samples of one set lie in which balls of the other. Two conventions matter:

- "Inside" is strict, `distance < radius`, as in the package `prdc`. A sample that has k exact copies in its own set
  has radius 0 and nothing lies in its ball, not even itself: copies add no variety.
- Squared distances are compared, as float64 sums of squared differences, exactly (`_blocks` tells how). So answers
  do not depend on the block size, the threads or the device, and a copy of a sample is at just that sample's distances.

Higher is better, except that `density` may exceed 1. All values depend on the number of samples and, for real
against real, stay below 1 (k = 5, N = 2,000, ten Gaussians in 64 dimensions: precision .78, mutual recall .66),
so compare only at equal N and beside that null.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch
from torch import Tensor

from bench.errors import BadInput, Diverged

CAP_QUANTILE = 0.9  # of the real radii, for `inside_capped`
PAIRS = 1 << 12  # whose distances are computed at a time: their coordinates fit in a CPU's cache
Bounds: TypeAlias = tuple[Tensor, Tensor]  # lower and upper [b, n], of squared distances


@dataclass(frozen=True)
class Manifold:
    """What holds for each of N real and M generated samples. A metric's value is the mean of its field.

    precision      [M]  does it lie in some real ball?  (Kynkäänniemi et al. 2019, arXiv:1904.06991.)  Bias: the few
                        balls of real outliers are huge and swallow damaged samples; it need not fall with noise
    recall         [N]  does it lie in some generated ball?  (The same paper.)  Bias: noise makes generated balls
                        larger, so that recall can rise with damage
    density        [M]  number of real balls that it lies in, divided by k; 1 is expected of real samples, more where
                        samples crowd in real modes  (Naeem et al. 2020, arXiv:2002.09797)
    coverage       [N]  does its ball hold some generated sample?  (The same paper.)  For real samples as many as
                        the reference 1 - 2**-k is expected.  Bias: misses contraction towards the modes
    mutual_recall  [N]  is there a generated sample with each in the ball of the other?  Neither wide generated balls
                        nor samples crowded in the modes raise it: at most min(recall, coverage)
    inside_capped  [M]  precision with each real radius capped at the 90th percentile of the real radii (the lower of
                        two, not interpolated)
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
    """Compare `real` [N, d] with `generated` [M, d], float32 features on one device, in blocks of `block` rows.

    Takes O((N + M)² d) time and O(block (N + M)) memory.
    Raises `ValueError` when the shapes do not fit, `BadInput` when a set has no more than k samples, `Diverged`
    when a feature is NaN or infinite.
    """
    if real.ndim != 2 or generated.ndim != 2 or real.shape[1] != generated.shape[1]:
        raise ValueError(f"expected real [N, d] and generated [M, d]; got {[*real.shape]} and {[*generated.shape]}")
    real, generated = _checked(real, k, "real"), _checked(generated, k, "generated")
    real_balls, generated_balls = _squared_radii(real, k, block), _squared_radii(generated, k, block)
    capped_balls = real_balls.clamp(max=real_balls.quantile(CAP_QUANTILE, interpolation="lower").item())

    recall, coverage, mutual = (torch.zeros(len(real), dtype=torch.bool, device=real.device) for _ in range(3))
    capped = torch.zeros(len(generated), dtype=torch.bool, device=real.device)
    hits = torch.zeros(len(generated), dtype=torch.int64, device=real.device)  # real balls around each item
    for rows, x, bounds in _blocks(real, generated, block):
        in_real = _inside(x, generated, bounds, real_balls[rows, None])  # [b, M]
        in_generated = _inside(x, generated, bounds, generated_balls)  # [b, M]
        coverage[rows] = in_real.any(1)
        recall[rows] = in_generated.any(1)
        mutual[rows] = (in_real & in_generated).any(1)
        hits += in_real.sum(0)
        capped |= _inside(x, generated, bounds, capped_balls[rows, None]).any(0)
    inside = (hits > 0, recall, hits.double() / k, coverage, mutual, capped)
    return Manifold(*inside, real_balls.sqrt(), generated_balls.sqrt())


def radii(features: Tensor, k: int = 5, *, block: int = 256) -> Tensor:
    """Distance of each row of `features` [N, d] to its k-th nearest other row -> [N] float64; errors as `manifold`.

    Rows that occur several times are neighbours of each other at distance 0.
    """
    if features.ndim != 2:
        raise ValueError(f"expected features [N, d]; got {[*features.shape]}")
    return _squared_radii(_checked(features, k, "given"), k, block).sqrt()


def nearest_neighbour_distance(features: Tensor) -> Tensor:
    """Distance of each row of `features` [N, d] to the nearest other row -> [N] float64."""
    return radii(features, k=1)


def _checked(features: Tensor, k: int, name: str) -> Tensor:
    """`features` as float64, in which float32 values keep their exact value."""
    if k < 1 or k >= len(features):
        raise BadInput(f"k must be from 1 to the number of {name} samples - 1: got k = {k}, {len(features)} samples")
    bad = len(features) - int(features.isfinite().all(1).sum())
    if bad:
        raise Diverged(f"{bad} of {len(features)} {name} samples have features with NaN or infinity")
    return features.detach().double()


def _squared_radii(x: Tensor, k: int, block: int) -> Tensor:
    """Squared radii of checked features [N]. k + 1 rows, each row itself among them, are no farther than the
    (k + 1)-th smallest upper bound: a row whose lower bound is above that is not among the nearest."""
    found = []
    for _, here, (low, high) in _blocks(x, x, block):
        limit = high.topk(k + 1, largest=False).values[:, -1:]
        i, j = (low <= limit).nonzero(as_tuple=True)
        squared = low.fill_(torch.inf)
        squared[i, j] = _squared_distances(here, x, i, j)
        found.append(squared.topk(k + 1, largest=False).values[:, -1])
    return torch.cat(found)


def _inside(x: Tensor, y: Tensor, bounds: Bounds, squared_radius: Tensor) -> Tensor:
    """[b, n] bool: is y[j] nearer to x[i] than a radius ([b, 1] or [n])? By the bounds where they suffice."""
    low, high = bounds
    answer = high < squared_radius
    i, j = ((low <= squared_radius) ^ answer).nonzero(as_tuple=True)
    answer[i, j] = _squared_distances(x, y, i, j) < squared_radius.expand_as(low)[i, j]
    return answer


def _blocks(x: Tensor, y: Tensor, block: int) -> Iterator[tuple[slice, Tensor, Bounds]]:
    """For each block of rows of x: its slice, the rows [b, d], and bounds of their squared distances to y, 2 x [b, n].

    s = |x|² + |y|² - 2xy takes one matrix product, but where x and y are close it is mostly rounding error. A
    sum's error is at most nu times the sum of its terms' absolute values, where n counts the roundings that a term
    passes, in whatever order, and u = 2**-53 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., eq.
    3.5; terms of order u² left out). Here |s - truth| <= (2d + 4) u (|x| + |y|)² (norms: d roundings to compute, up
    to d + 4 to add), and the plain sum of squared differences, which decides, is within (d + 3) u |x - y|². Both
    squares are at most 2 (|x|² + |y|²): together (6d + 14) u (|x|² + |y|²). The bounds' own roundings add less than
    8u of it; 8 (d + 4) u leaves room for order u².
    """
    x_norms, y_norms = x.square().sum(1), y.square().sum(1)
    error = 8 * (x.shape[1] + 4) * 2**-53
    for start in range(0, len(x), block):
        rows = slice(start, start + block)
        norms = x_norms[rows, None] + y_norms  # [b, n]
        high = torch.addmm(norms, x[rows], y.T, beta=1 + error, alpha=-2)
        yield rows, x[rows], (high - norms.mul_(2 * error), high)


def _squared_distances(x: Tensor, y: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances of the pairs x[i], y[j] -> [p], by definition. Adds coordinate by coordinate, so that each
    depends on its pair alone: not on shapes, threads or device, as it may with `sum` or `norm` (and with `sqrt`, which
    PyTorch does not round correctly)."""
    squared = torch.zeros(len(i), dtype=x.dtype, device=x.device)
    for start in range(0, len(i), PAIRS):
        some = slice(start, start + PAIRS)
        for term in (x[i[some]] - y[j[some]]).square_().unbind(1):
            squared[some] += term
    return squared
