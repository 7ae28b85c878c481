"""A domain that lacks sizes, training seeds or secondary evaluators waits; the others stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from made_up import ladder

from bench.interfaces import SIZES, outside_of_its_size
from bench.methods.notation import rung_of
from bench.records.schema import Record, read_records
from bench.registry import DOMAINS
from bench.report.caveats import caveats
from bench.report.headline import ranking
from bench.report.report_data import ReportData, report_data
from bench.report.verdict import sentence
from bench.stats.complete import COMPARED_SEEDS, COMPARED_SIZES, not_compared_yet
from bench.stats.ladder import ROLES, with_records

ROOT = Path(__file__).parent.parent
GRID = [f"{size}@{seed}" for size in COMPARED_SIZES for seed in COMPARED_SEEDS]


@pytest.fixture(scope="module")
def published() -> list[Record]:
    """Baselines and ladders only: enough for every comparison."""
    return [r for r in read_records(ROOT / "results") if r.method == "none" or rung_of(r.method)]


def sized(records: Sequence[Record]) -> list[Record]:
    """The same, with as many parameters as their size asks for."""
    made = []
    for r in records:
        assert r.cost is not None
        fewest, _ = SIZES[r.model.partition("@")[0]]
        made.append(r.model_copy(update={"cost": r.cost.model_copy(update={"parameters": fewest})}))
    return made


def twice_judged(records: Sequence[Record]) -> list[Record]:
    """The same, with secondary evaluators that say what the primary ones say."""
    made = []
    for r in records:
        second = {}
        for role in ROLES:
            own = r.evaluators[role]
            numbers = own.metrics | {
                "retention": r.metrics[f"{role}_retention"] or 0.0,
                "error": 0.01,
                "u": 0.9,
            }
            second[f"second {role}"] = own.model_copy(update={"second": True, "metrics": numbers})
        made.append(r.model_copy(update={"evaluators": {**r.evaluators, **second}}))
    return made


def whole(name: str, models: Sequence[str] = GRID, kept: float = 0.9) -> list[Record]:
    """A complete domain, or some of its models."""
    found: list[Record] = []
    for i, at in enumerate(models):
        found += ladder(name, at, kept + 0.01 * i, seeds=(0, 1))
    return twice_judged(sized(found))


def cells(text: str) -> list[list[str]]:
    """Rows of a Markdown table, without padding."""
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines()]


def numbers(found: ReportData) -> list[object]:
    """All that the published claims and intervals hold."""
    intervals = [
        (d.name, role, score and (score.value, score.interval()))
        for d in found.now.domains
        for role in ROLES
        for score in [d.score(role)]
    ]
    return [sentence(found.now), caveats(found.now), sentence(found.wider), intervals]


def test_an_incomplete_domain_leaves_the_published_headline_alone(published: list[Record]) -> None:
    toy = ladder("toy", "s@0", quality=0.99)
    before, after = report_data(published, {}), report_data([*published, *toy], {})
    assert set(after.waiting) - set(before.waiting) == {"toy"}
    assert numbers(after) == numbers(before) and "more compressible" in sentence(before.now)
    lines = cells(ranking(after))
    (last,) = (line for line in lines if line[0].startswith("toy"))
    others = [line for line in lines if line is not last]
    assert others[:1] + others[2:] == cells(ranking(before))[:1] + cells(ranking(before))[2:]
    assert last[0] == (
        "toy: not compared yet (missing: training seeds 1 and 2 of size s; size xs (62,500 to 250,000 "
        "parameters); models within their size (s@0 has 900 parameters, and size s means 250,000 to "
        "1,000,000); secondary evaluators)"
    )
    assert set(last[1:]) == {"-"}


def test_a_complete_domain_is_compared(published: list[Record]) -> None:
    found = report_data([*published, *whole("toy")], {})
    assert "toy" not in found.waiting and "toy" in sentence(found.now)


@pytest.mark.parametrize(
    ("records", "lacks"),
    [
        (whole("c", [m for m in GRID if m != "xs@2"]), "training seed 2 of size xs"),
        (whole("c", GRID[:3]), "size xs (62,500 to 250,000 parameters)"),
        (sized([r for at in GRID for r in ladder("c", at)]), "secondary evaluators"),
        (
            twice_judged([r for at in GRID for r in ladder("c", at)]),
            "models within their size (s@0 has 900 parameters, and size s means 250,000 to 1,000,000; ",
        ),
    ],
    ids=["training seed", "size", "secondary evaluators", "parameters"],
)
def test_what_is_missing_is_named(records: list[Record], lacks: str) -> None:
    complete = [*whole("a"), *whole("b", kept=0.3)]
    alone, found = report_data(complete, {}), report_data([*complete, *records], {})
    (said,) = found.waiting["c"]
    assert said.startswith(lacks) and numbers(found) == numbers(alone)


def test_with_one_complete_domain_all_are_compared_by_what_they_share() -> None:
    records = [*whole("a"), *whole("b", GRID[:3], kept=0.3)]
    models = [m for m, _ in with_records(records)]
    assert not_compared_yet(records, models) == {}
    assert {m.size for d in report_data(records, {}).now.domains for m in d.averaged} == {"s"}


def test_a_size_is_a_range_of_parameters() -> None:
    assert outside_of_its_size("s@0", 249_999) == (
        "s@0 has 249,999 parameters, and size s means 250,000 to 1,000,000"
    )
    for model, parameters in (("s@0", 250_000), ("own", 7), ("s", 7), ("s@0", None), ("xxs@0", 7)):
        assert outside_of_its_size(model, parameters) is None
    for name in ("text", "image_gan", "image_diffusion"):
        for spec in DOMAINS.load(name)().models.values():
            assert outside_of_its_size(spec.name, spec.parameters) is None
            assert outside_of_its_size(spec.name, 7)


def test_the_guide_and_the_leaderboard_name_the_ranges() -> None:
    guide = (ROOT / "docs/adding-a-domain.md").read_text(encoding="utf-8")
    for size, (fewest, most) in SIZES.items():
        assert f"| `{size}` | {fewest:,} to {most:,} |" in guide
