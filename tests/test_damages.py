"""The evaluators of every domain must see damage, each its own kind, at the strengths that were fixed beforehand."""

from __future__ import annotations

import pytest

from bench.bounds import find_bounds
from bench.damage import damage_matrix, failures
from bench.registry import DOMAINS
from bench.workbench import Workbench

ONE_OF_EACH = {str(sorted(DOMAINS.load(name)().damages())): name for name in DOMAINS}


@pytest.mark.parametrize("name", list(ONE_OF_EACH.values()))
def test_the_evaluators_see_every_damage(name: str) -> None:
    """Domains with the same damages have the same evaluators here: once is enough."""
    rows = damage_matrix(DOMAINS.load(name)())
    assert {"surface", "variety"} <= {row.damage.hurts for row in rows}
    assert failures(rows) == []


@pytest.mark.parametrize(("name", "most"), [("text", 0.15), ("image_gan", 0.05), ("image_diffusion", 0.05)])
def test_permuted_weights_hurt_both(name: str, most: float) -> None:
    """The floors that ship with the embedded models, as shares of the ceiling."""
    domain = DOMAINS.load(name)()
    bench = Workbench(domain, domain.models["s@0"], 2000)

    def nothing_shipped() -> None:
        raise AssertionError("no bounds ship with this model, sampler and these evaluators: run `python -m bench bounds`")

    bounds = find_bounds(bench.bounds_key, bench.shipped_bounds, nothing_shipped)  # type: ignore[arg-type]
    assert len(bounds.floors) == 5
    for metric in ("quality_valid", "diversity_mutual_recall"):
        assert max(bounds.floor(metric)) <= most * bounds.ceiling[metric]


def test_a_blind_evaluator_is_caught() -> None:
    """The harness itself can fail: an evaluator that sees only the length of a text passes no surface damage."""
    from dataclasses import replace

    rows = damage_matrix(DOMAINS.load("toy")(), 300)
    blind = [replace(row, valid=row.valid_ceiling) if row.damage.hurts == "surface" else row for row in rows]
    assert any("validity" in line for line in failures(blind))
    confounded = [replace(row, mutual_recall=0.1) for row in rows]
    assert any("mutual recall" in line for line in failures(confounded))
