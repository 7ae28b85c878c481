"""Progress bars with time left, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")


class Bar:
    """A bar that shows what is done, how fast, and the time left: `with Bar("sampling", 2000) as bar: bar.update()`."""

    def __init__(self, title: str, total: int, initial: int = 0) -> None:
        from tqdm import tqdm

        self.inner = tqdm(desc=title, total=total, initial=initial, file=sys.stderr, mininterval=0.5, dynamic_ncols=True, leave=False)

    def describe(self, title: str) -> None:
        self.inner.set_description(title)

    def update(self, count: int = 1) -> None:
        self.inner.update(count)

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.inner.close()


def bar(items: Iterable[T], title: str, total: int, initial: int = 0) -> Iterator[T]:
    """Iterate under a bar."""
    with Bar(title, total, initial) as shown:
        for item in items:
            yield item
            shown.update()
