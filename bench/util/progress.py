"""Shows progress with the time left, on standard error or in a file for another process."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from bench.util.files import write_atomically

T = TypeVar("T")
silent = False  # set in worker processes, whose bars nobody could read
REPORT_EVERY_S = 3.0
PLAIN_LINE_EVERY_S = 60.0


class Bar:
    """A progress bar with speed and time left: `with Bar("sampling", 2000) as bar: bar.update()`.

    One bar is visible at a time. A bar inside another one writes its progress at the end of the outer bar's
    line.
    """

    visible: Bar | None = None  # the outermost bar of this process

    def __init__(self, title: str, total: int, initial: int = 0) -> None:
        from tqdm import tqdm

        self.title, self.total, self.done = title, total, initial
        self.outer = Bar.visible
        self.inner = tqdm(
            desc=title,
            total=total,
            initial=initial,
            file=sys.stderr,
            mininterval=0.5,
            dynamic_ncols=True,
            leave=False,
            disable=silent or self.outer is not None,
        )
        if self.outer is None:
            Bar.visible = self

    def describe(self, title: str) -> None:
        """Change the title."""
        self.title = title
        self.inner.set_description(title)

    def update(self, count: int = 1) -> None:
        """Advance by `count`."""
        self.done += count
        self.inner.update(count)
        if self.outer is not None and not silent:
            self.outer.inner.set_postfix_str(f"{self.title} {self.done}/{self.total}", refresh=False)
            self.outer.inner.update(0)  # redraws at most every `mininterval`

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inner.close()
        if self.outer is None:
            Bar.visible = None
        elif not silent:
            self.outer.inner.set_postfix_str("", refresh=False)


def bar(items: Iterable[T], title: str, total: int, initial: int = 0) -> Iterator[T]:
    """Iterate with a progress bar."""
    with Bar(title, total, initial) as shown:
        for item in items:
            yield item
            shown.update()


def note(line: str) -> None:
    """Print a line on standard error, above any bar."""
    if not silent:
        from tqdm import tqdm

        tqdm.write(f"note: {line}", file=sys.stderr)


def report(items: Iterable[T], path: Path, total: int, initial: int = 0) -> Iterator[T]:
    """Iterate and write {"step": done, "total": total} to `path` at the start, at the end and every few
    seconds, atomically.
    """
    written_at, step = -float("inf"), initial
    for item in items:
        if time.monotonic() - written_at > REPORT_EVERY_S:
            write_atomically(path, json.dumps({"step": step, "total": total}))
            written_at = time.monotonic()
        yield item
        step += 1
    write_atomically(path, json.dumps({"step": step, "total": total}))


class Overview:
    """One line for the work of several processes, with the time left.

    On a terminal it is a bar, else one line a minute.
    """

    def __init__(self, title: str) -> None:
        from tqdm import tqdm

        self.started_at = self.shown_at = time.monotonic()
        self.shape = (
            f"{title}: {{percentage:.1f}} % of {{total_fmt}} steps after {{elapsed}}, about "
            f"{{remaining}} left"
        )
        self.inner = tqdm(
            bar_format=self.shape + " |{bar}|", file=sys.stderr, disable=None, dynamic_ncols=True, leave=False
        )

    def show(self, done: int, total: int, before: int = 0) -> None:
        """Show `done` steps of `total`.

        `before` steps were done by earlier runs and do not count for the speed.
        """
        if not self.inner.disable:
            self.inner.n, self.inner.total, self.inner.initial = done, total, before
            self.inner.refresh()
        elif time.monotonic() - self.shown_at > PLAIN_LINE_EVERY_S:
            self.shown_at = time.monotonic()
            elapsed_s = self.shown_at - self.started_at
            self.say(self.inner.format_meter(done, total, elapsed_s, initial=before, bar_format=self.shape))

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.inner.write(line, file=sys.stderr)

    def __enter__(self) -> Overview:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inner.close()
