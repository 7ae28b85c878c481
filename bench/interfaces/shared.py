"""What several contracts share: the type of samples, and the check of a declared word."""

from __future__ import annotations

from typing import Any, get_args

from bench.errors import BadInput

Samples = Any  # a sequence of samples as their domain knows them: a list of texts, an array [n, c, h, w] ...


def check_allowed(what: str, value: str, kind: Any, of: str) -> None:
    """Raises `bench.errors.BadInput` unless `value` is one of the literals of `kind`."""
    if value not in get_args(kind):
        raise BadInput(f"{what} {value!r} of {of} is unknown; allowed: {', '.join(get_args(kind))}")
