"""Errors that a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """The user asked for something that cannot be: one line that names the bad value and the allowed ones."""


class Failed(RuntimeError):
    """Something went wrong that is nobody's input: one line; what was measured until then is kept."""


class Diverged(ArithmeticError):
    """A network's output holds NaN or infinity: a result (`diverged`), not a failure of the program."""


class Unsupported(RuntimeError):
    """A method cannot be applied to this network: a result (`unsupported`), with its reason."""


def in_a_line(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def unknown(kind: str, value: str, allowed: Iterable[str]) -> BadInput:
    """`BadInput` for a name that is not in `allowed`, with "did you mean" where one is near."""
    names = sorted(allowed)
    near = difflib.get_close_matches(value, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return BadInput(f"unknown {kind} {value!r}{hint}; allowed: {', '.join(names) or 'none'}")
