"""Which samples survive compression, and whether the samples that fail at one rung also fail at the next.

These are pure functions of arrays. An *item* is a valid sample of the uncompressed network. It *failed* when
its twin (same random numbers, compressed network) is not valid. Items are pooled over sampling seeds and
treated as independent, for fixed real samples. So the intervals describe the error over items, and not the
variation between models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Z = 1.959963984540054  # of a two-sided interval of 95 %
QUINTILES = (0.2, 0.4, 0.6, 0.8)
FEWEST_OUTCOMES = 30  # a method with fewer failed or surviving items is not analysed
FEWEST_IN_A_MARGIN = 10  # a table with a smaller margin gets no odds ratio


@dataclass(frozen=True)
class Share:
    """A share of `count` items with its interval (Wilson, 95 %). `share` is None where there are no items."""

    count: int
    share: float | None
    low: float
    high: float


@dataclass(frozen=True)
class IntervalEstimate:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LabelRange:
    """The labels with the lowest and the highest survival, with their difference and its interval (Newcombe
    1998, method 10).

    The two labels are selected as extremes, so the difference is above 0 by chance alone. Labels with fewer
    than `FEWEST_OUTCOMES` items are not selected.
    """

    lowest: str
    highest: str
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Bins:
    """How a covariate sorts the items.

    Bin i of a numeric one is (edges[i-1], edges[i]], open at both ends. Each label is a bin.
    """

    kind: Literal["numeric", "label"]
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels) if self.kind == "label" else len(self.edges) + 1

    def which(self, values: np.ndarray) -> np.ndarray:
        """The bin of each value -> int [n]. Raises `ValueError` for a label that has no bin."""
        if self.kind == "numeric":
            return np.searchsorted(np.array(self.edges), values, side="left")
        number = {label: i for i, label in enumerate(self.labels)}
        if strange := sorted(set(map(str, values)) - number.keys()):
            raise ValueError(f"label {strange[0]!r} is not one of: {', '.join(self.labels)}")
        return np.array([number[str(value)] for value in values], int)


@dataclass(frozen=True)
class ByCovariate:
    """Survival by bin, and one summary: `auc` for a numeric covariate, `labels` for labels."""

    survival: tuple[Share, ...]  # [bins]
    auc: IntervalEstimate | None = None
    labels: LabelRange | None = None


@dataclass(frozen=True)
class Survival:
    """The survival of all items under one method, and by covariate.

    `by` is None where fewer than `FEWEST_OUTCOMES` items failed or survived.
    """

    overall: Share
    by: dict[str, ByCovariate] | None


@dataclass(frozen=True)
class Transition:
    """The same items at a milder and at a harsher rung: a 2x2 table of counts, and statistics of it.

    `after_failure` is P(fails harsher | failed milder). `after_survival` is P(fails harsher | survived
    milder). `log_odds_ratio` is above 0 where the same items fail at both. All three are None where a margin
    of the table is below `FEWEST_IN_A_MARGIN`.
    """

    failed_both: int
    failed_milder_only: int
    failed_harsher_only: int
    failed_neither: int
    after_failure: Share | None
    after_survival: Share | None
    log_odds_ratio: IntervalEstimate | None


def wilson(successes: int, count: int) -> Share:
    """A share of successes with Wilson's 95 % score interval (1927), without continuity correction.

    Unlike p ± z s.e. it stays within [0, 1] and has a width at 0 and at `count` successes. Without trials it
    is (0, 1). Raises `ValueError` when there are more successes than trials, or fewer than none.
    """
    if not 0 <= successes <= count:
        raise ValueError(f"{successes} successes in {count} trials")
    if not count:
        return Share(0, None, 0.0, 1.0)
    p, shrink = successes / count, 1 + Z**2 / count
    centre = (p + Z**2 / (2 * count)) / shrink
    half = Z / shrink * math.sqrt(p * (1 - p) / count + Z**2 / (4 * count**2))
    return Share(
        count,
        p,
        max(0.0, centre - half) if successes else 0.0,
        min(1.0, centre + half) if successes < count else 1.0,
    )


def auc(failed: np.ndarray, surviving: np.ndarray) -> IntervalEstimate:
    """P(covariate of a failed item > that of a surviving one) + P(equal) / 2, for values [m] and [n]. 1/2
    means no relation.

    It is the area under the ROC curve, which is Mann and Whitney's U / mn (Hanley & McNeil 1982). The
    standard error is that of DeLong, DeLong & Clarke-Pearson (1988), from midranks (Sun & Xu 2014). The
    interval is value ± 1.96 standard errors, clipped to [0, 1]; near 0 and 1 it is too narrow. Raises
    `ValueError` where a side has fewer than two values, or a value that is not finite.
    """
    from scipy.stats import rankdata

    x, y = (np.asarray(values, float) for values in (failed, surviving))
    if min(len(x), len(y)) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            f"an AUC needs two finite values on each side; got {len(x)} failed and {len(y)} surviving ones"
        )
    ranks = rankdata(np.concatenate([x, y]))
    above = (ranks[: len(x)] - rankdata(x)) / len(y)  # [m] share of surviving values below each failed one
    # [n] share of failed values above each surviving one
    below = 1 - (ranks[len(x) :] - rankdata(y)) / len(x)
    value, error = float(above.mean()), math.sqrt(above.var(ddof=1) / len(x) + below.var(ddof=1) / len(y))
    return IntervalEstimate(value, max(0.0, value - Z * error), min(1.0, value + Z * error))


def bins_of(values: np.ndarray) -> Bins:
    """Bins of a covariate: numbers [n] by quintiles, labels [n] by value in alphabetical order.

    There are fewer bins where quintiles coincide. Raises `ValueError` without values.
    """
    if not len(values):
        raise ValueError("there is no item to sort into bins")
    if _numeric(values):
        edges = np.unique(np.quantile(np.asarray(values, float), QUINTILES))
        # the last bin is never empty
        return Bins("numeric", edges=tuple(edges[edges < np.max(values)].tolist()))
    return Bins("label", labels=tuple(sorted(set(map(str, values)))))


def _numeric(values: np.ndarray) -> bool:
    return np.issubdtype(np.asarray(values).dtype, np.number)


def survival(failed: np.ndarray, covariates: Mapping[str, np.ndarray], bins: Mapping[str, Bins]) -> Survival:
    """Survival of all items and by covariate, from `failed` bool [n] and covariates by name [n]."""
    lost = int(failed.sum())
    overall = wilson(len(failed) - lost, len(failed))
    if min(lost, len(failed) - lost) < FEWEST_OUTCOMES:
        return Survival(overall, None)
    return Survival(
        overall, {name: by_covariate(failed, values, bins[name]) for name, values in covariates.items()}
    )


def by_covariate(failed: np.ndarray, values: np.ndarray, bins: Bins) -> ByCovariate:
    """Survival by one covariate [n], from `failed` bool [n]."""
    which = bins.which(values)
    shares = tuple(
        wilson(int((~failed[which == i]).sum()), int((which == i).sum())) for i in range(len(bins))
    )
    if bins.kind == "numeric":
        return ByCovariate(shares, auc=auc(values[failed], values[~failed]))
    return ByCovariate(shares, labels=label_range(dict(zip(bins.labels, shares))))


def label_range(shares: Mapping[str, Share]) -> LabelRange | None:
    """The labels with the lowest and the highest survival.

    None where fewer than two labels have enough items.
    """
    known = [
        (share.share, label, share)
        for label, share in shares.items()
        if share.share is not None and share.count >= FEWEST_OUTCOMES
    ]
    if len(known) < 2:
        return None
    (p, lowest, a), (q, highest, b) = min(known, key=lambda e: e[:2]), max(known, key=lambda e: e[:2])
    low = q - p - math.hypot(q - b.low, a.high - p)
    return LabelRange(lowest, highest, q - p, low, q - p + math.hypot(b.high - q, p - a.low))


def transition(failed_milder: np.ndarray, failed_harsher: np.ndarray) -> Transition:
    """The table of two flags bool [n] of the same items, with conditional shares and the log odds ratio.

    The ratio is log((a + ½)(d + ½) / (b + ½)(c + ½)), and its variance is the sum of 1 / (count + ½) (Haldane
    1956, Anscombe 1956). It is finite with empty cells and nearly unbiased. Raises `ValueError` when the
    lengths differ.
    """
    x, y = np.asarray(failed_milder, bool), np.asarray(failed_harsher, bool)
    if x.shape != y.shape:
        raise ValueError(f"flags of {x.shape} and {y.shape} items are not of the same items")
    a, b, c, d = (int(flags.sum()) for flags in (x & y, x & ~y, ~x & y, ~x & ~y))
    if min(a + b, c + d, a + c, b + d) < FEWEST_IN_A_MARGIN:
        return Transition(a, b, c, d, None, None, None)
    cells = [count + 0.5 for count in (a, b, c, d)]
    value, half = (
        math.log(cells[0] * cells[3] / (cells[1] * cells[2])),
        Z * math.sqrt(sum(1 / cell for cell in cells)),
    )
    return Transition(
        a, b, c, d, wilson(a, a + b), wilson(c, c + d), IntervalEstimate(value, value - half, value + half)
    )
