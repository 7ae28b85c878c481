"""Runs the contracts over an installed plug-in: the code of `bench check`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from bench.contracts import domain as of_domain
from bench.contracts import evaluator as of_evaluator
from bench.contracts import generator as of_generator
from bench.contracts import method as of_method
from bench.contracts import metric as of_metric
from bench.contracts import real_samples
from bench.contracts.contract import Outcome, attempt
from bench.contracts.evaluator import Loaded
from bench.contracts.generator import Opened
from bench.contracts.metric import Named
from bench.errors import BadInput, NeedsReference, in_a_line, unknown
from bench.interfaces import Domain
from bench.registry import DOMAINS, METHODS, METRICS, Registry, open_domain

REGISTRIES: Mapping[str, Registry] = {"domain": DOMAINS, "method": METHODS, "metric": METRICS}
Contracts = Sequence[Callable[..., None]]
OPENINGS = OPENS, LOADS = "it can be opened", "it can be loaded"


def check(name: str, domains: Sequence[str] = ()) -> Iterator[Outcome]:
    """Yield what came of each contract of the domains, methods and metrics that have this name.

    `domains` are those on whose samples a metric is tried; by default all. Nothing that it computes is read
    from the user's cache or stays there. Raises `BadInput` for an unknown name.
    """
    kinds = [kind for kind, registry in REGISTRIES.items() if name in registry]
    if not kinds:
        every = [known for registry in REGISTRIES.values() for known in registry]
        raise unknown("domain, method or metric", name, every)
    with _empty_cache():
        for kind in kinds:
            yield from CHECKS[kind](name, tuple(domains) or tuple(DOMAINS))


def broken(name: str) -> list[str]:
    """The contracts that a plug-in does not keep, one line each: what a package of its own asserts.

    Example: `assert broken("my_domain") == []`.
    """
    return [str(outcome) for outcome in check(name) if outcome.status == "broken"]


def _check_domain(name: str, _: Sequence[str]) -> Iterator[Outcome]:
    domain, failed = _opening(name, "it can be constructed", partial(open_domain, name))
    if domain is None:
        yield failed
        return
    yield from _all(of_domain.CONTRACTS, name, domain)
    yield from _all(real_samples.CONTRACTS, name, domain)
    opened = True
    for table, check_one in MEMBERS.items():
        for outcome in _check_members(domain, table, check_one):
            opened = opened and not (outcome.status == "broken" and outcome.contract in OPENINGS)
            yield outcome
    if opened:  # otherwise they would say the same again
        yield from _all(of_domain.LONG_CONTRACTS, name, domain)


def _check_members(
    domain: Domain, table: str, check_one: Callable[[Domain, str], Iterable[Outcome]]
) -> Iterator[Outcome]:
    """The contracts of each row of a table, which may itself be broken."""

    def names() -> list[str]:
        found = getattr(domain, table)
        return list(found() if callable(found) else found)

    listed, failed = _opening(domain.name, f"it lists its {table.replace('_', ' ')}", names)
    if listed is None:
        yield failed
    for name in listed or []:
        yield from check_one(domain, name)


def _check_model(domain: Domain, name: str) -> Iterator[Outcome]:

    def opening() -> Opened:
        spec = domain.models[name]
        return Opened(domain, spec, domain.open(spec))

    opened, failed = _opening(name, OPENS, opening)
    if opened is None:
        yield failed
        return
    yield from _all(of_generator.CONTRACTS, name, opened)


def _check_evaluator(domain: Domain, name: str) -> Iterator[Outcome]:
    evaluator, failed = _opening(name, LOADS, partial(domain.evaluator, name))
    if evaluator is None:
        yield failed
        return
    yield from _all(of_evaluator.CONTRACTS, name, Loaded(domain, name, evaluator))


MEMBERS = {"models": _check_model, "evaluators": _check_evaluator, "second_evaluators": _check_evaluator}


def _check_method(name: str, _: Sequence[str]) -> Iterator[Outcome]:
    kind, failed = _opening(name, "it can be imported", partial(METHODS.load, name))
    if kind is None:
        yield failed
        return
    needed = attempt(of_method.skip_if_missing, name, name)
    if needed.status == "skipped":
        yield Outcome("its package is installed", name, needed.status, needed.said)
        return
    yield from _all(of_method.CONTRACTS, name, name)


def _check_metric(name: str, domains: Sequence[str]) -> Iterator[Outcome]:
    metric, failed = _opening(name, "it can be imported", partial(METRICS.load, name))
    if metric is None:
        yield failed
        return
    yield from _all(of_metric.CONTRACTS, name, Named(name, metric, tuple(domains)))


CHECKS = {"domain": _check_domain, "method": _check_method, "metric": _check_metric}


def _all(contracts: Contracts, subject: str, *arguments: Any) -> Iterator[Outcome]:
    for contract in contracts:
        yield attempt(contract, subject, *arguments)


def _opening(subject: str, title: str, make: Callable[[], Any]) -> tuple[Any, Outcome]:
    """(what `make` gives, or None; the outcome where it fails)."""
    found: list[Any] = []

    def opening() -> None:
        try:
            found.append(make())
        except NeedsReference:  # it is skipped
            raise
        except BadInput as error:
            raise RuntimeError(in_a_line(error)) from error

    outcome = attempt(opening, subject)
    return (found[0] if found else None), Outcome(title, subject, outcome.status, outcome.said)


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Features of code that its author has just changed must not come from a cache."""
    before = os.environ.get("GENCOMPRESS_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENCOMPRESS_CACHE"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["GENCOMPRESS_CACHE"]
            else:
                os.environ["GENCOMPRESS_CACHE"] = before
