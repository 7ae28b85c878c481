"""Public contract names that were renamed keep working under their old names."""

from __future__ import annotations

from bench import interfaces
from bench.interfaces import Context, Generator


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
