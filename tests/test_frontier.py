"""The best method at each ratio: chosen on sampling seed 0, told by the other seeds."""

from __future__ import annotations

import pytest
from made_up import scored, stored

from bench.records.cell import FLOOR_RECALIBRATED
from bench.records.schema import Record
from bench.stats.frontier import frontier


def method(name: str, ratio: float, kept: dict[int, float], diversity: float = 1.0) -> list[Record]:
    """Retention of quality by sampling seed."""
    return [stored(scored(name, seed, quality, diversity), ratio) for seed, quality in kept.items()]


def same(kept: float) -> dict[int, float]:
    return {0: kept, 1: kept, 2: kept}


def test_the_method_that_keeps_most_in_a_file_small_enough() -> None:
    records = [
        *method("none", 1, same(1.0)),
        *method("int8", 4.2, same(1.0)),
        *method("int4", 8.8, same(0.7)),
        *method("binary", 29, same(0)),
    ]
    found = frontier(records, (4, 8, 12, 30))
    assert [(best.target, best.method) for best in found] == [(4, "int8"), (8, "int4"), (12, "binary")], (
        "none reaches 30x"
    )
    assert found[1].ratio == pytest.approx(8.8) and found[1].values["quality"] == pytest.approx(
        [0.7, 0.7], abs=0.01
    )


def test_chosen_on_seed_0_and_told_by_the_others() -> None:
    lucky, steady = {0: 0.9, 1: 0.5, 2: 0.5}, same(0.8)
    (best,) = frontier([*method("int4", 9, lucky), *method("nf4", 9, steady)], (8,))
    assert best.method == "int4" and best.values["quality"] == pytest.approx([0.5, 0.5], abs=0.01)
    assert best.values["diversity"] == pytest.approx([1.0, 1.0])


def test_of_equal_methods_the_smaller_file_is_the_best() -> None:
    for small, large in (("int4", "nf4"), ("nf4", "int4")):
        (best,) = frontier([*method(small, 10, same(0.8)), *method(large, 9, same(0.8))], (8,))
        assert best.method == small


def test_neither_role_may_be_bought_with_the_other() -> None:
    (best,) = frontier(
        [*method("int4", 9, same(1.0), diversity=0.2), *method("nf4", 9, same(0.6), diversity=0.6)], (8,)
    )
    assert best.method == "nf4"


def test_recalibrated_methods_alone_where_there_are_running_statistics() -> None:
    both = [*method("int4", 9, same(1.0)), *method("int4" + "+recalibrate", 9, same(0.5))]
    assert frontier(both, (8,))[0].method == "int4"
    assert (
        frontier([r.model_copy(update={"implementation": {FLOOR_RECALIBRATED: 1}}) for r in both], (8,))[
            0
        ].method
        == "int4+recalibrate"
    )


def test_what_cannot_be_chosen_or_told_is_left_out() -> None:
    assert frontier(method("int4", 9, {1: 0.9, 2: 0.9}), (8,)) == [], "not measured on the choosing seed"
    assert frontier(method("int4", 9, {0: 0.9}), (8,)) == [], "nor on any other"
    (second,) = frontier([*method("int4", 9, {0: 0.9}), *method("nf4", 9, same(0.5))], (8,))
    assert second.method == "nf4", "the best one with a known retention"
    failed = [r.model_copy(update={"status": "failed", "metrics": {}}) for r in method("int4", 9, same(0.9))]
    assert frontier(failed, (8,)) == [] and frontier([], (8,)) == []
    first, *rest = method("int4", 9, same(0.9))
    undefined = [r.model_copy(update={"metrics": {**r.metrics, "quality_retention": None}}) for r in rest]
    assert frontier([first, *undefined], (8,)) == [], "a retention that is not defined is no number to show"


def test_a_network_that_diverged_has_kept_nothing() -> None:
    first, *rest = method("int4", 9, same(0.9))
    dead = [r.model_copy(update={"status": "diverged", "metrics": {}}) for r in rest]
    (best,) = frontier([first, *dead], (8,))
    assert best.values == {"quality": [0.0, 0.0], "diversity": [0.0, 0.0]}
