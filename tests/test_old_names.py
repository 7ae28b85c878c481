"""Public contract names that were renamed keep working under their old names."""

from __future__ import annotations

import pytest

from bench import interfaces
from bench.evaluation.panel import find_evaluator
from bench.interfaces import Context, Domain, Evaluator, Generator
from bench.registry import DOMAINS


def test_a_generator_with_the_old_member_names_is_understood() -> None:
    class Old(Generator):
        counted_on = 7

        def opinion(self, samples: object) -> dict[str, float]:
            return {"p_real": 0.5}

        def rebuild(self, structure: object) -> object: ...  # type: ignore[override]

        def sample(self, network: object, n: int, seed: int) -> list[str]:
            return []

    assert Old.macs_sample_count == 7 and Generator.macs_sample_count == 100
    assert Old().auxiliary_scores([]) == {"p_real": 0.5}


def test_the_old_name_of_excluded_tensors() -> None:
    assert Context(excluded={"a": "why"}).kept == {"a": "why"}


def test_old_class_names_are_the_new_classes() -> None:
    assert interfaces.Stored is interfaces.StoredTensor and interfaces.Edit is interfaces.StructureEdit
    assert interfaces.Observed is interfaces.SampleFeatures and interfaces.Native is interfaces.Samples


class OldEvaluator(Evaluator):
    name, role = "position", "quality"

    def __init__(self, device: str) -> None:
        self.device = device

    def features(self, samples: object) -> object: ...  # type: ignore[override]


class WithoutEvaluators(Domain):
    """What the contract requires beside the evaluators."""

    name, description = "old", "written before there was a table of evaluators"
    models = {}  # type: ignore[assignment]

    def open(self, spec: object, device: str = "cpu", settings: object = None) -> object: ...  # type: ignore[override]

    def reference(self, split: str = "test", source: str | None = None) -> list[str]:
        return []

    def damages(self) -> dict[str, object]:  # type: ignore[override]
        return {}

    def read_samples(self, path: object) -> list[str]:
        return []

    def write_samples(self, samples: object, path: object) -> object: ...  # type: ignore[override]


class OldDomain(WithoutEvaluators):
    def evaluators(self) -> dict[str, str]:
        return {"position": "quality", "direction": "diversity"}

    def evaluator(self, name: str, device: str = "cpu") -> Evaluator:
        found = OldEvaluator(f"{name} on {device}")
        found.name, found.role = name, {**self.evaluators(), **self.second_evaluators()}[name]  # type: ignore[misc, assignment]
        return found


class OldDomainWithSecond(OldDomain):
    def second_evaluators(self) -> dict[str, str]:
        return {**super().second_evaluators(), "radius": "quality"}


def test_a_domain_with_the_old_evaluator_members_has_a_table() -> None:
    plain, second = OldDomain(), OldDomainWithSecond()
    assert plain.second_evaluators() == {} and list(plain.evaluator_table()) == ["position", "direction"]
    assert {name: (row.role, row.use) for name, row in second.evaluator_table().items()} == {
        "position": ("quality", "primary"),
        "direction": ("diversity", "primary"),
        "radius": ("quality", "secondary"),
    }
    for domain, name in ((plain, "direction"), (second, "radius")):
        for found in (domain.evaluator_table()[name].load("meta"), find_evaluator(domain, name, "meta")):
            assert isinstance(found, OldEvaluator) and found.device == f"{name} on meta"


def test_a_subclass_of_a_domain_with_a_table_may_override_the_old_members() -> None:
    class More(DOMAINS.load("toy")):  # type: ignore[misc]
        def evaluators(self) -> dict[str, str]:
            return {**super().evaluators(), "radius": "quality"}

    assert list(More().evaluators()) == ["position", "direction", "radius"]
    assert list(More().evaluator_table()) == ["position", "direction"]


def test_a_domain_with_neither_cannot_be_made() -> None:
    class OnlyRoles(WithoutEvaluators):
        evaluators = OldDomain.evaluators

    for kind in (WithoutEvaluators, OnlyRoles):
        with pytest.raises(TypeError, match="evaluator_table"):
            kind()
