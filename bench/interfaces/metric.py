"""The contract of a domain's own metric."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.errors import BadInput
from bench.interfaces.evaluator import SampleFeatures
from bench.interfaces.shared import check_allowed

# which way is better; "none": nearest to the real data's value is best
Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True)
class Metric:
    """One of a domain's own numbers: how it is read, and how it is computed from samples where no more is
    needed.
    """

    name: str  # as in records, for example `bits_per_byte`
    description: str  # one line for `bench list`
    direction: Direction  # which way is better
    unit: str = ""  # for example `bits`; "": a plain number
    # (generated, real); None: `likelihood` gives it
    compute: Callable[[SampleFeatures, SampleFeatures], float] | None = None
    headline: bool = False  # has a column in the leaderboard's first table
    version: int = 1  # raise it when values change

    def __post_init__(self) -> None:
        """Raises `bench.errors.BadInput` for an unknown direction, and for a name that no metric may have."""
        check_allowed("direction", self.direction, Direction, f"metric {self.name!r}")
        if not self.name or self.name.startswith(("quality_", "diversity_")):
            raise BadInput(
                f"name {self.name!r} of a metric is not possible; allowed: any that does not begin with "
                f"quality_ or diversity_"
            )
