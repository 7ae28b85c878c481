"""Progress bars with time left, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def bar(items: Iterable[T], title: str, total: int | None = None, initial: int = 0) -> Iterator[T]:
    """Iterate with a bar that shows what is done, how fast, and the time left."""
    from tqdm import tqdm

    yield from tqdm(items, desc=title, total=total, initial=initial, file=sys.stderr, mininterval=0.5, dynamic_ncols=True)
