"""What a broken contract says: what was found, and what its author can do about it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import bench
from bench.errors import BrokenPlugIn, NeedsReference, in_a_line, of_plug_in

OWN = Path(bench.__file__).parent
PYTHON = Path(traceback.__file__).parent  # the standard library


class Broken(AssertionError):
    """A plug-in does not keep a contract. The message says what was found and what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}; {remedy}")


class Skipped(Exception):
    """A contract cannot be checked here. The message is the reason."""


def require(kept: object, found: str, remedy: str) -> None:
    """Raises `Broken` unless `kept` holds."""
    if not kept:
        raise Broken(found, remedy)


@dataclass(frozen=True)
class Outcome:
    """What came of one contract on one subject, for example on a model."""

    contract: str
    subject: str
    status: Literal["kept", "broken", "skipped"]
    said: str = ""

    def __str__(self) -> str:
        return f"{self.status}: {self.subject}: {self.contract}" + (f": {self.said}" if self.said else "")


def title_of(contract: Callable[..., None]) -> str:
    """The contract in words: the name of its function."""
    return contract.__name__.replace("_", " ")


def attempt(contract: Callable[..., None], subject: str, *arguments: Any) -> Outcome:
    """Check one contract. Whatever the plug-in raises becomes one line."""
    title = title_of(contract)
    try:
        contract(*arguments)
    except Broken as error:
        return Outcome(title, subject, "broken", " ".join(str(error).split()))
    except (Skipped, NeedsReference) as error:
        return Outcome(title, subject, "skipped", in_a_line(error))
    except Exception as error:  # whatever its author's code raises
        return Outcome(title, subject, "broken", _of_plug_in(error))
    return Outcome(title, subject, "kept")


def _of_plug_in(error: Exception) -> str:
    """An error of the plug-in in one line, with the last of its own lines that led there."""
    if isinstance(error, BrokenPlugIn):  # it already names the part and the line
        return f"{in_a_line(error)}; correct the code"
    theirs = [f for f in traceback.extract_tb(error.__traceback__) if _is_theirs(f.filename)]
    where = (
        f"look at {Path(theirs[-1].filename).name}, line {theirs[-1].lineno}"
        if theirs
        else "correct the code"
    )
    return f"{of_plug_in(error)}; {where}"


def _is_theirs(filename: str) -> bool:
    """Whether a file belongs to the plug-in: not to this package, an installed one or Python itself."""
    parents = Path(filename).parents
    return not (
        OWN in parents or PYTHON in parents or "site-packages" in filename or filename.startswith("<frozen")
    )
