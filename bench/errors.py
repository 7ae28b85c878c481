"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """The user asked for something impossible.

    The message is one line with the bad value and the allowed ones.
    """


class Failed(RuntimeError):
    """Something failed that is not the user's fault.

    The message is one line, and finished measurements are kept.
    """


class Diverged(ArithmeticError):
    """The output of a network holds NaN or infinity.

    This is a result (`diverged`) and not a failure of the program.
    """


class Unsupported(RuntimeError):
    """A method cannot be applied to a network. This is a result (`unsupported`) with its reason."""


def in_a_line(error: BaseException) -> str:
    """The first line of an error's message, or its type where the message is empty."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def unknown(kind: str, value: str, allowed: Iterable[str]) -> BadInput:
    """A `BadInput` for a name that is not in `allowed`. It suggests a similar name where there is one."""
    names = sorted(allowed)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return BadInput(f"unknown {kind} {value!r}{hint}; allowed: {', '.join(names) or 'none'}")
