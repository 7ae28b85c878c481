"""Numbers may not move unless the version of what makes them does.

`python tests/test_golden.py` writes `tests/golden.json` again; do it only together with a new version.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from plug_ins import tools

from bench.evaluation.verdicts import diversity_verdict, features_of, quality_verdict
from bench.interfaces import Context, Features, SampleFeatures, StoredTensor
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.metrics.shared import SHARED_METRICS_VERSION
from bench.registry import METHODS
from domains.image_gan.adapter import GanDomain
from domains.images.data import part
from domains.text.adapter import TextDomain

FILE = Path(__file__).parent / "golden.json"
TEXTS = [
    "And it came to pass, that the man went out.",
    "In the beginning was the word, and the word was good.",
    "Selah.",
]


def values() -> dict[str, list[float]]:
    """Name and version -> numbers, each cheap to make and sensitive to what it stands for."""
    noise = torch.Generator().manual_seed(0)
    real, made = (torch.randn(300, 8, generator=noise) for _ in range(2))
    seen = quality_verdict(
        Features(real, real.square().sum(1)), Features(made * 1.2, made.square().sum(1)), 5
    )
    spread = diversity_verdict(Features(real), Features(made * 1.2), 5)
    found = {f"shared metrics v{SHARED_METRICS_VERSION}": [*seen.metrics.values(), *spread.metrics.values()]}

    network = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.LayerNorm(32))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=noise))
    for name in METHODS.keys() - tools():  # their numbers change with the version of another project
        kind = METHODS.load(name)
        if name == "recalibrate" or kind.trains or kind.calibrates:
            # the first changes no weight, the others amplify the last bit of a processor: closed forms in
            # test_contracts_methods.py, test_trained.py and test_calibrated.py
            continue
        stored: dict[str, StoredTensor] = dict(parse(name)(original(network), Context()).tensors)
        dense = stored["0.weight"].dequantize().double()
        version = METHODS.load(name).version
        found[f"method {name} v{version}"] = [
            dense.sum().item(),
            dense.square().sum().item(),
            dense[3, 5].item(),
        ]

    for domain, samples in ((TextDomain(), TEXTS), (GanDomain(), part("test").pixels[:3])):
        for name in (*domain.evaluators(), *domain.second_evaluators()):
            evaluator = domain.evaluator(name)
            numbers = evaluator.features(samples)[:, :3].flatten().tolist()
            if evaluator.role == "quality":
                numbers += evaluator.surprisal(samples).tolist()
            found[f"evaluator {name} v{evaluator.version}"] = numbers
        task = domain.task()
        found[f"task {task.name} v{task.version}"] = [task.score(samples).mean()]
    found |= image_metrics()
    from bench.metrics import text

    for metric in (text.Distinct2(), text.SelfBleu4(), text.Rep4(), text.LengthRatio()):
        numbers = list(metric.compute(predictions=TEXTS, references=TEXTS[::-1]).values())
        found[f"metric {metric.name} v{metric.version}"] = [n for n in numbers if n == n]
    return found


def image_metrics() -> dict[str, list[float]]:
    """Of 200 real pictures beside 200 others."""
    domain, found = GanDomain(), {}
    evaluator = domain.evaluator("effnet")
    seen = [
        SampleFeatures(p, {"effnet": features_of(evaluator, p)})
        for p in (part(name).pixels[:200] for name in ("ceiling", "test"))
    ]
    for metric in domain.metrics().values():
        if metric.compute is not None:
            found[f"metric {metric.name} v{metric.version}"] = [metric.compute(*seen)]
    return found


def test_no_number_moved_without_a_new_version() -> None:
    """rel 1e-3: far above what another processor or library build changes, far below what another
    definition does.
    """
    expected = json.loads(FILE.read_text(encoding="utf-8"))
    found = values()
    assert found.keys() == expected.keys(), "after a change of version: python tests/test_golden.py"
    for name, numbers in found.items():
        assert numbers == pytest.approx(expected[name], rel=1e-3, abs=1e-4), (
            f"{name}: the numbers moved; raise its version"
        )


if __name__ == "__main__":
    FILE.write_text(json.dumps(values(), indent=1) + "\n", encoding="utf-8")
