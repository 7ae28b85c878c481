"""What tests over every plug-in are parametrized with: one that is broken must not stop the collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.interfaces import Domain, Method
from bench.registry import DOMAINS, METHODS, open_domain


def members(listed: Callable[[Domain], Iterable[str]]) -> list[tuple[str, str]]:
    """(domain, member) of every domain. The tests of the fixture `domain` show a domain that raises here."""
    found: list[tuple[str, str]] = []
    for name in DOMAINS:
        try:
            found += [(name, member) for member in listed(open_domain(name))]
        except Exception:
            continue
    return found


def tools() -> set[str]:
    """The methods of other projects' tools: they skip layers, and their numbers are not ours."""
    own_modules = ("bench.methods.tools.", "bench.methods.channels:", "bench.methods.parq:")
    return {name for name in METHODS if METHODS[name].startswith(own_modules)}


def methods(chosen: Callable[[type[Method]], bool]) -> list[str]:
    """The methods that `chosen` picks by their class, and those that cannot be imported."""
    found = []
    for name in METHODS:
        try:
            if chosen(METHODS.load(name)):
                found.append(name)
        except Exception:
            found.append(name)
    return found
