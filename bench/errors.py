"""Errors that a user can act on."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType


class BadInput(ValueError):
    """The user asked for something impossible.

    The message is one line with the bad value and the allowed ones.
    """


class NeedsReference(BadInput):
    """A domain ships no real samples, and the user named none."""

    def __init__(self, domain: str) -> None:
        super().__init__(f"domain {domain!r} ships no real samples: name yours with --reference")


class Failed(RuntimeError):
    """Something failed that is not the user's fault.

    The message is one line, and finished measurements are kept.
    """


class BrokenPlugIn(Failed):
    """A plug-in breaks its contract, or raises an error of its own.

    The message is one line that names the part of the plug-in: "evaluator 'x' of domain 'y': ...".
    """


class Diverged(ArithmeticError):
    """The output of a network holds NaN or infinity.

    This is a result (`diverged`) and not a failure of the program.
    """


class Unsupported(RuntimeError):
    """A method cannot be applied to a network. This is a result (`unsupported`) with its reason.

    The same of a damage that samples do not allow.
    """


# their messages are one line for the user; of several models, one that raises them does not stop the others
KNOWN_ERRORS = (BadInput, Failed, Diverged, Unsupported)


def not_installed(package: str, extra: str) -> str | None:
    """What a plug-in says without its package, which an extra of ours installs; None: it is installed."""
    try:
        version(package)
    except PackageNotFoundError:
        return f"needs the package {package}, which is not installed: pip install -e '.[{extra}]'"
    return None


def in_a_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


class blamed:
    """A block of an author's code: `with blamed("evaluator 'x' of domain 'y'"):`.

    Any error of it becomes one line that names the part, the error and its place.

    Errors that the contracts know pass through.
    """

    def __init__(self, part: str) -> None:
        self.part = part

    def __enter__(self) -> None:
        """Nothing happens here."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises `BrokenPlugIn` in place of an error that no contract knows."""
        if isinstance(error, Exception) and not isinstance(error, KNOWN_ERRORS):
            raise BrokenPlugIn(f"{self.part}: {of_plug_in(error)}{_place(error)}") from error


def of_plug_in(error: BaseException) -> str:
    """The error of a plug-in in one line, with its type.

    The text of a `KeyError` alone would not be clear.
    """
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".rstrip(": ")


def _place(error: BaseException) -> str:
    """The last line of the author's own folder that the error went through; empty within this package."""
    ours = Path(__file__).parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if ours not in Path(f.filename).parents]
    last = [f for f in frames if Path(f.filename).parent == Path(frames[0].filename).parent][-1:]
    return "".join(f" ({Path(f.filename).name}, line {f.lineno})" for f in last)


def unknown(kind: str, value: str, allowed: Iterable[str]) -> BadInput:
    """A `BadInput` for a name that is not in `allowed`. It suggests a similar name where there is one."""
    names = sorted(allowed)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return BadInput(f"unknown {kind} {value!r}{hint}; allowed: {', '.join(names) or 'none'}")
