"""`reproduce` measures published cells again: jobs, a random share of each domain, and what counts as the
same.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from test_leaderboard import record

from bench.errors import BadInput
from bench.records.agreement import LEAST, WITHOUT_REPEATS, agreement, disagreements, tolerance
from bench.records.schema import Record
from bench.report.run_table import comparison
from bench.runner.reproduce import (
    all_disagreements,
    as_table,
    check,
    draw_cells,
    jobs_of,
    measurable,
    reproduce,
)
from bench.runner.sweep import Request, run

pytestmark = pytest.mark.usefixtures("toy_trains_once")


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """The toy's cells, as a publisher would have measured them."""
    folder = tmp_path_factory.mktemp("published")
    return run(
        Request("toy", methods=("int8", "int2"), seeds=(0, 1), samples=300, results=folder, command="x"),
        silent,
    )


def shipped(domain: str, method: str, seed: int, **metrics: float) -> Record:
    return record(method, seed, **metrics).model_copy(update={"domain": domain, "reference": "shipped:x"})


def test_a_job_holds_all_cells_of_a_model() -> None:
    records = [shipped("d", method, seed) for method in ("none", "int8", "int4") for seed in (0, 1)] + [
        shipped("e", "none", 0)
    ]
    jobs = jobs_of(records)
    assert [(j.domain, j.methods, j.seeds) for j in jobs] == [
        ("d", ("int4", "int8"), (0, 1)),
        ("e", ("none",), (0,)),
    ]


def test_each_domain_has_its_share_and_the_seed_decides() -> None:
    records = [
        shipped(domain, f"int{bits}", seed)
        for domain in ("d", "e")
        for bits in (8, 6, 4, 2)
        for seed in range(50)
    ]
    drawn = draw_cells(records, seed=1)
    assert [sum(r.domain == d for r in drawn) for d in ("d", "e")] == [4, 4], "2 % of 200 each"
    assert draw_cells(records, seed=1) == drawn != draw_cells(records, seed=2)
    assert len(draw_cells(records[:3], seed=0)) == 1, "never none"


def test_nothing_to_repeat_is_said() -> None:
    with pytest.raises(BadInput, match="no published records"):
        draw_cells([record("int8", 0)], seed=0)  # its reference is somebody's own


def test_cells_without_their_packages_are_left_out_and_counted(published: list[Record]) -> None:
    first, said = published[0], list[str]()
    lacking = [first.model_copy(update={"method": "own:bits=2"})] * 2
    elsewhere = first.model_copy(update={"domain": "gone"})
    assert measurable([*published, *lacking, elsewhere], said.append) == published
    assert said[0].startswith("left out: 2 cells, since unknown method 'own'")
    assert said[1].startswith("left out: 1 cells, since unknown domain 'gone'") and len(said) == 2


def test_the_tolerance_is_the_spread_of_the_sampling_seeds() -> None:
    records = [
        shipped("d", "int8", seed, quality_retention=value, diversity_retention=0.5)
        for seed, value in enumerate((0.8, 0.9, 1.0))
    ]
    found = tolerance(records, records[0])
    assert found["quality_retention"] == pytest.approx(3 * 0.1) and found["diversity_retention"] == LEAST
    assert set(tolerance(records[:1], records[0]).values()) == {WITHOUT_REPEATS}, "one seed has no spread"


def test_run_and_reproduce_decide_by_the_same_rule() -> None:
    """A difference of .25 agrees where sampling seeds spread by .1, and differs where they do not."""
    spread = [
        shipped("d", "int8", seed, quality_retention=value, diversity_retention=0.5)
        for seed, value in enumerate((0.8, 0.9, 1.0))
    ]
    narrow = [shipped("d", "int8", seed, quality_retention=0.8, diversity_retention=0.5) for seed in range(3)]
    again = spread[0].model_copy(update={"metrics": {**spread[0].metrics, "quality_retention": 0.55}})
    assert agreement(again, spread[0], spread) == "agrees"
    assert "quality_retention 0.8000 published, 0.5500 here" in agreement(again, narrow[0], narrow)
    assert comparison([again], spread).splitlines()[-1].endswith("agrees")
    assert "DIFFERS" in comparison([again], narrow)


def test_the_same_code_gives_the_same_cells(published: list[Record]) -> None:
    cells = [r for r in published if r.method == "int2" and r.sample_seed == 1]
    (outcome,) = check(published, cells, "x", "cpu", silent)
    assert outcome.agrees and "identical" in as_table([outcome])
    assert (
        outcome.again.metrics == cells[0].metrics and outcome.again.tensors_sha256 == cells[0].tensors_sha256
    )


def test_another_number_another_size_another_cell_are_found(published: list[Record]) -> None:
    one = next(r for r in published if r.method == "int8")
    assert one.cost is not None
    better = one.model_copy(
        update={
            "metrics": {**one.metrics, "quality_retention": (one.metric("quality_retention") or 0.0) + 0.5}
        }
    )
    larger = one.model_copy(
        update={"cost": one.cost.model_copy(update={"stored_bytes": one.cost.stored_bytes + 100})}
    )
    allowed = tolerance(published, one)
    assert disagreements(one, one, allowed) == []
    assert "quality_retention" in disagreements(better, one, allowed)[0]
    assert "stored bytes" in disagreements(larger, one, allowed)[0]
    assert "another cell" in disagreements(one.model_copy(update={"cell": "0"}), one, allowed)[0]
    assert (
        "status"
        in disagreements(one.model_copy(update={"status": "failed", "reason": "why"}), one, allowed)[0]
    )


def test_a_published_cell_that_did_not_come_out_at_all_disagrees(published: list[Record]) -> None:
    assert all_disagreements(published, published) == []
    ((record, said),) = all_disagreements(published, published[1:])
    assert record == published[0] and "measures another cell" in said[0]


def test_a_whole_reproduction_resumes(published: list[Record], tmp_path: Path) -> None:
    said: list[str] = []
    made = reproduce(published, tmp_path, "x", "cpu", said.append)
    assert {r.cell: r.metrics for r in made} == {r.cell: r.metrics for r in published}
    assert any("model 1 of 1: toy s@0; about" in line for line in said)
    said.clear()
    reproduce(published, tmp_path, "x", "cpu", said.append)
    assert any("6 finished before" in line for line in said), said
