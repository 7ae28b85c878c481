"""Formats the cells and tables of the pages."""

from __future__ import annotations

from collections.abc import Sequence

from bench.stats.comparison import Ratio
from bench.stats.intervals import Estimate
from bench.stats.scores import Score
from bench.util.markup import joined

DASH = "-"


def table(headers: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table. The first `left` columns are aligned to the left, the others to the right."""
    from tabulate import tabulate

    align = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def kept_ratio(ratio: Ratio | None) -> str:
    """The largest ratio at which a test shows that enough is kept; a dash where none does."""
    return DASH if ratio is None or ratio.certified is None else f"{ratio.certified:.1f}x"


def smaller_by_secondary(rows: Sequence[tuple[str, Ratio | None, Ratio | None]]) -> str:
    """Of (name, ratio, ratio by the secondary evaluators): where the second is smaller; or empty."""
    said = []
    for name, first, second in rows:
        if first is None or second is None or first.certified is None:
            continue
        if second.certified is None or second.certified < first.certified:
            shown = "no rung" if second.certified is None else kept_ratio(second)
            said.append(f"{name} ({shown} in place of {kept_ratio(first)})")
    return f"The secondary evaluators show a smaller ratio for {joined(said)}." if said else ""


def with_interval(score: Score | Estimate | None, digits: int = 3) -> str:
    """A value with its 95 % interval; a dash for None."""
    return DASH if score is None else bracketed(score.value, score.interval(), digits)


def signed(difference: Estimate | None) -> str:
    """A difference or a slope with its interval: `+0.021 [+0.011, +0.031]`; a dash for None."""
    if difference is None:
        return DASH
    interval = difference.interval()
    ends = "" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
    return f"{difference.value:+.3f}{ends}"


def bracketed(value: float, interval: tuple[float, float] | None, digits: int = 3) -> str:
    """A value with its interval: `0.976 [0.930, 1.000]`."""
    return f"{value:.{digits}f}" + (
        "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
    )
