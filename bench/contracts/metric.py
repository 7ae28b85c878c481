"""The contracts of an installed metric, on real samples of the installed domains."""

from __future__ import annotations

from dataclasses import dataclass

from bench.contracts.contract import require
from bench.contracts.domain import check_declared, check_value, seen
from bench.contracts.samples import items
from bench.errors import NeedsReference, in_a_line
from bench.interfaces import Metric
from bench.registry import open_domain


@dataclass(frozen=True)
class Named:
    """A metric with the name of its entry point, and the domains on whose samples it is tried."""

    name: str
    metric: Metric
    domains: tuple[str, ...]


def it_is_declared_like_its_entry_point(named: Named) -> None:
    """Its name, direction, version and description."""
    check_declared(named.name, named.metric)
    require(named.metric.compute is not None, "it has no `compute`", "give the function of (generated, real)")


def it_is_a_finite_number_in_a_domain(named: Named) -> None:
    """The same when computed again; it need not know every kind of samples."""
    refused = []
    for name in named.domains:
        domain = open_domain(name)
        try:
            generated, real = (seen(domain, split) for split in ("ceiling", "test"))
        except NeedsReference as error:
            refused.append(in_a_line(error))
            continue
        before = items(generated.samples), items(real.samples)
        assert named.metric.compute is not None
        try:
            value, again = (named.metric.compute(generated, real) for _ in range(2))
        except Exception as error:  # its samples are of another kind
            refused.append(f"{name} ({type(error).__name__}: {in_a_line(error)})")
            continue
        check_value(named.name, value)
        require(value == again, f"two calls in {name} differ", "seed what it draws")
        now = items(generated.samples), items(real.samples)
        require(now == before, f"it changes the samples of {name}", "copy them first")
        return
    require(False, f"it raises in every domain: {', '.join(refused)}", "name one with --domain that it fits")


CONTRACTS = (it_is_declared_like_its_entry_point, it_is_a_finite_number_in_a_domain)
