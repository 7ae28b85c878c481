"""Prints `bench list`. It loads no torch, because adapters import torch only when they open something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench.errors import BadInput, Failed, blamed, in_a_line
from bench.interfaces import Domain, outside_of_its_size
from bench.metrics.shared import SHARED
from bench.registry import DOMAINS, METHODS, METRICS, RUNTIMES, open_domain


def domains() -> Iterator[str]:
    """One line for each domain."""
    for name, domain in _domains():
        yield f"{name:<16} {domain if isinstance(domain, str) else domain.description}"


def methods() -> Iterator[str]:
    """One line for each method."""
    for name in METHODS:
        yield f"{name:<16} {METHODS.describe(name) if name in METHODS.own else _described(name)}"
    yield f"{'a+b':<16} a, then b: magnitude:sparsity=0.5+int4"
    yield f"{'ladder':<16} the eight rungs int8, int6, int5, int4, int3, int2, ternary, binary"


def _described(name: str) -> str:
    """The description of a plug-in's method, which is imported for it."""
    try:
        kind = METHODS.load(name)
        missing = kind.missing() if hasattr(kind, "missing") else None  # of a plug-in without the base class
        return f"{kind.description}" + (f" ({missing})" if missing else "")
    except (BadInput, AttributeError) as error:
        return f"broken: {in_a_line(error)}"


def models() -> Iterator[str]:
    """One line for each model that ships, with what can be trained."""
    for name, domain in _working():
        for model in domain.models.values():
            size = f"{model.parameters:,} parameters" if model.parameters else ""
            outside = outside_of_its_size(model.name, model.parameters)
            said = model.description + (f" (warning: {outside})" if outside else "")
            yield f"{name:<16} {model.name:<8} {size:<22} {model.licence:<12} {said}"
        for recipe, line in domain.trainings().items():
            yield f"{name:<16} {recipe:<8} {'to be trained':<22} {'':<12} {line}"


def metrics() -> Iterator[str]:
    """One line for each metric."""
    for shared, line in SHARED.items():
        yield f"{'all':<16} {shared:<24} {line}"
    for name, domain in _working():
        try:
            with blamed(f"metrics of domain {name!r}"):
                own = domain.metrics()
        except (BadInput, Failed) as error:
            yield f"{name:<16} broken: {error}"
            continue
        for metric in own.values():
            arrow = {
                "higher": "higher is better",
                "lower": "lower is better",
                "none": "nearest to real is best",
            }[metric.direction]
            yield f"{name:<16} {metric.name:<24} {metric.description} ({arrow})"
    for installed in METRICS:
        yield f"{'--metric':<16} {installed:<24} {METRICS.describe(installed)}"


def evaluators() -> Iterator[str]:
    """One line for each evaluator, with its role."""
    for name, domain in _working():
        for evaluator, role in domain.evaluators().items():
            yield f"{name:<16} {evaluator:<24} {role}"
        for evaluator, role in domain.second_evaluators().items():
            yield f"{name:<16} {evaluator:<24} {role}, secondary evaluator"
        if (task := domain.task()) is not None:
            yield f"{name:<16} {task.name:<24} use: {task.description}"


def runtimes() -> Iterator[str]:
    """One line for each runtime of `bench edge`, with its precisions."""
    for name in RUNTIMES:
        try:
            kind = RUNTIMES.load(name)
            missing = kind.missing()
            offers = f"{kind.description}; {', '.join(kind.precisions)}"
            yield f"{name:<16} {offers}" + (f" ({missing})" if missing else "")
        except (BadInput, AttributeError) as error:
            yield f"{name:<16} broken: {in_a_line(error)}"


LISTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "domains": domains,
    "methods": methods,
    "models": models,
    "metrics": metrics,
    "evaluators": evaluators,
    "runtimes": runtimes,
}


def _domains() -> Iterator[tuple[str, Domain | str]]:
    """Every domain. A broken domain gives its error, so it is listed too."""
    for name in DOMAINS:
        try:
            yield name, open_domain(name)
        except BadInput as error:
            yield name, f"broken: {error}"


def _working() -> Iterator[tuple[str, Domain]]:
    for name, domain in _domains():
        if not isinstance(domain, str):
            yield name, domain
