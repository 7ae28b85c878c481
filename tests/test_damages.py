"""The evaluators of every domain must see damage, each its own kind, at the strengths that were fixed beforehand."""

from __future__ import annotations

import pytest

from bench.bounds import find_bounds
from bench.damage import damage_matrix, failures
from bench.registry import DOMAINS
from bench.workbench import Workbench


@pytest.mark.parametrize("name", list(DOMAINS))
def test_the_evaluators_see_every_damage(name: str) -> None:
    rows = damage_matrix(DOMAINS.load(name)())
    assert {"surface", "variety"} <= {row.damage.hurts for row in rows}
    assert failures(rows) == []


def test_permuted_weights_hurt_both() -> None:
    """The floors that ship with the embedded text model: at most .15 of the ceiling, in both."""
    domain = DOMAINS.load("text")()
    bench = Workbench(domain, domain.models["s@0"], 2000)

    def nothing_shipped() -> None:
        raise AssertionError("no bounds ship with this model, sampler and these evaluators: run `python -m bench bounds`")

    bounds = find_bounds(bench.bounds_key, bench.shipped_bounds, nothing_shipped)  # type: ignore[arg-type]
    assert len(bounds.floors) == 5
    for metric in ("quality_valid", "diversity_mutual_recall"):
        assert max(bounds.floor(metric)) <= 0.15 * bounds.ceiling[metric]


def test_a_blind_evaluator_is_caught() -> None:
    """The harness itself can fail: an evaluator that sees only the length of a text passes no surface damage."""
    from dataclasses import replace

    rows = damage_matrix(DOMAINS.load("toy")(), 300)
    blind = [replace(row, valid=row.valid_ceiling) if row.damage.hurts == "surface" else row for row in rows]
    assert any("validity" in line for line in failures(blind))
    confounded = [replace(row, mutual_recall=0.1) for row in rows]
    assert any("mutual recall" in line for line in failures(confounded))
