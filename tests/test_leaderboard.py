"""leaderboard.md is what the records say: means, spreads, dashes for what was not measured, arrows, the
command.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.errors import BadInput
from bench.evaluation.verdicts import headroom, retention, survival
from bench.methods.notation import LADDER, expand, parse
from bench.metrics.shared import SHARED_METRICS_VERSION
from bench.records.provenance import Provenance
from bench.records.schema import Cost, Record, newest, read_records
from bench.registry import DOMAINS
from bench.report.leaderboard import pages
from bench.report.model_page import cell_text
from bench.stats.compressibility import recalibrated_ladder
from bench.stats.ladder import models_of
from bench.stats.scores import model_score

ROOT = Path(__file__).parent.parent


def record(method: str, seed: int, **metrics: float | None) -> Record:
    cost = Cost(
        stored_bytes=1000,
        fp32_bytes=4000,
        parameters=900,
        bits_per_param=8.9,
        ratio=4.0,
        packed_bytes=1000,
        nominal_bits=8,
        sparsity=0.5,
        memory_bytes=1000,
        untouched={},
        untouched_bytes=0,
        macs=100.0,
        macs_nonzero=55.0,
        bit_operations=1600.0,
        commit=None,
    )
    where = Provenance(
        commit="abcdef0123456789",
        dirty=False,
        command="",
        versions={"torch": "2"},
        python="3",
        platform="x",
        processor="p",
        device="cpu",
        threads=1,
        time="2026-01-01T00:00:00Z",
        seconds={},
    )
    return Record(
        cell=f"{seed:064x}",
        domain="elsewhere",
        model="s@0",
        train_seed=0,
        weights_sha256="0",
        companions="",
        method=method,
        sample_seed=seed,
        samples=100,
        k=5,
        sampler={},
        reference="r",
        implementation={},
        status="ok",
        reason=None,
        metrics=metrics,
        cost=cost,
        tensors_sha256=None,
        speed=None,
        warnings=[],
        evaluators={},
        items={},
        provenance=where,
    )


def all_pages(records: list[Record], folder: Path) -> str:
    """The leaderboard and every page behind it, one after the other."""
    return "\n".join(pages(records, folder, folder / "leaderboard.md").values())


def test_rows_are_means_and_spreads(tmp_path: Path) -> None:
    records = [
        record("int8", 0, quality_retention=0.9),
        record("int8", 1, quality_retention=1.0),
        record("int4", 0, quality_retention=None),
    ]
    text = all_pages(records, tmp_path)
    assert "0.950 ± 0.071" in text
    assert "quality ↑" in text and "bits/param ↓" in text
    row = next(line for line in text.splitlines() if line.startswith("| `int4`"))
    assert row.split("|")[5].strip() == "-", "not measured is not zero"
    assert "MACs left ↓" in text and row.split("|")[4].strip() == "0.550"
    assert (
        "python -m bench run --domain elsewhere --model s@0 --samples 100 --method int4 --method int8" in text
    )
    assert "abcdef0123" in text and "N = 100" in text and "k = 5" in text


def test_at_most_ten_columns(tmp_path: Path) -> None:
    records = read_records(ROOT / "results")
    text = pages(records, ROOT / "results", ROOT / "leaderboard.md")[ROOT / "results/text/s@0/README.md"]
    first = next(line for line in text.splitlines() if line.startswith("| method"))
    assert first.count("|") - 1 <= 10


def test_the_committed_pages_are_what_the_committed_records_give() -> None:
    complaints: list[str] = []
    records = read_records(ROOT / "results", complaints.append)
    assert records and not complaints
    made = pages(records, ROOT / "results", ROOT / "leaderboard.md")
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, path
    models = {ROOT / "results" / r.domain / r.model / "README.md" for r in records}
    assert set(made) == {ROOT / "leaderboard.md", ROOT / "results/README.md", *models}


def test_the_leaderboard_is_short_and_leads_to_every_model() -> None:
    """At most 200 lines and 30 KB; each number cell holds one number; each published model and the details
    are linked.
    """
    text = (ROOT / "leaderboard.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200 and len(text.encode()) <= 30_000
    for domain, model in {(r.domain, r.model) for r in read_records(ROOT / "results")}:
        assert f"](results/{domain}/{model}/README.md)" in text
    assert "](results/README.md)" in text
    cells = [
        cell.strip()
        for line in text.splitlines()
        if line.startswith("| ")
        for cell in line.strip("|").split("|")
    ]
    assert not any(re.search(r"\d \[|\d ±|\d /|\d \(|\(lost", cell) for cell in cells)


def test_links_of_the_generated_pages_lead_somewhere() -> None:
    from test_docs import LINK, anchors

    for page in [ROOT / "leaderboard.md", *(ROOT / "results").rglob("README.md")]:
        for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
            found = (page.parent / target).resolve()
            assert found.exists(), (page, target)
            assert not anchor or anchor in anchors(found), (page, anchor)


def test_a_run_of_one_domain_shows_its_numbers_on_the_first_page(tmp_path: Path) -> None:
    text = pages([record("int8", 0, quality_retention=0.9)], tmp_path, tmp_path / "leaderboard.md")[
        tmp_path / "leaderboard.md"
    ]
    assert (
        "| `int8`" in text
        and "0.900" in text
        and "](elsewhere/s@0/README.md)" in text
        and "ranking" not in text
    )


def test_the_readme_shows_the_committed_ladder() -> None:
    """The answer and the table on its first screen are those of the records, and of the leaderboard."""
    from bench.report.report_data import report_data
    from bench.stats.model_file import read_models
    from scripts.update_readme import shown

    leaderboard, readme = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("leaderboard.md", "README.md")
    )
    block = readme.split("<!-- ladder -->\n")[1].split("\n<!-- end -->")[0]
    assert block == shown(report_data(read_records(ROOT / "results"), read_models(ROOT / "results")))
    assert block.splitlines()[0] in leaderboard
    scores, small_files = (part for part in block.split("\n\n") if part.startswith("| "))
    assert small_files in leaderboard
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in scores.splitlines()[2:]]
    assert len(rows) >= 3 and all(len(row) == 5 for row in rows)
    for domain, *figures in rows:
        line = next(line for line in leaderboard.splitlines() if line.startswith(f"| {domain} "))
        assert all(f" {figure} " in line for figure in figures), (domain, figures)


WITH_EVERY_METHOD = ("text", "image_gan", "image_diffusion")


@pytest.mark.parametrize("domain", sorted(path.parent.name for path in (ROOT / "results").glob("*/s@0")))
def test_published_records_are_complete(domain: str) -> None:
    """The full ladder; 3 sampling seeds; N = 2,000; clean commits; whole file trees. The first domains also
    have three prunings and a combination.
    """
    records = [r for r in read_records(ROOT / "results") if r.model == "s@0" and r.domain == domain]
    methods = {r.method for r in records}
    assert {"none", *expand(["ladder"], recalibrate=recalibrated_ladder(records))} <= methods
    if domain in WITH_EVERY_METHOD:
        assert "fp16" in methods and any("+int" in m for m in methods)
        assert sum(m.startswith("magnitude") and "int" not in m for m in methods) >= 3
    for method in methods:
        assert {r.sample_seed for r in records if r.method == method} == {0, 1, 2}
    assert {r.samples for r in records} == {2000}
    assert all(r.provenance.commit and not r.provenance.dirty for r in records)
    (model,) = models_of(records)
    assert model.whole and model_score(model, "quality") is not None


def versions_of(method: str) -> dict[str, int]:
    """Of the method's parts; none where it needs a tool that is not installed here."""
    try:
        return dict(parse(method).versions)
    except BadInput as error:
        assert "needs the package" in str(error)
        return {}


def test_published_records_are_of_the_committed_codes_versions() -> None:
    """Of methods, shared metrics, domains and their metrics; those of evaluators are in the golden values."""
    records = read_records(ROOT / "results")
    domains = {name: DOMAINS.load(name)() for name in {r.domain for r in records}}
    for r in records:
        domain = domains[r.domain]
        now = {
            "shared metrics": SHARED_METRICS_VERSION,
            f"domain {r.domain}": domain.version,
            **versions_of(r.method),
        }
        now |= {f"metric {name}": metric.version for name, metric in domain.metrics().items()}
        assert {name: r.implementation.get(name) for name in now} == now, r.cell
        assert {name for name in r.implementation if name.startswith("evaluator ")} == {
            f"evaluator {name}" for name in domain.evaluators()
        }


def test_rungs_that_were_not_recalibrated_stand_beside_the_gans_ladder() -> None:
    records = [r for r in read_records(ROOT / "results") if r.domain == "image_gan"]
    assert recalibrated_ladder(records) and set(LADDER) <= {r.method for r in records}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "-"),
        ([None], "-"),
        ([0.5], "0.500"),
        ([0.5, 0.5], "0.500"),
        ([0.4, 0.6, None], "0.500 ± 0.141"),
        ([float("nan")], "-"),
    ],
)
def test_cells(values: list[float | None], text: str) -> None:
    assert cell_text(values) == text


def test_retention_runs_from_floor_to_baseline() -> None:
    floor = [0.10, 0.12, 0.08, 0.10, 0.10]
    assert retention(0.6, 0.6, floor, 2000) == pytest.approx(1)
    assert retention(0.1, 0.6, floor, 2000) == pytest.approx(0)
    assert retention(0.35, 0.6, floor, 2000) == pytest.approx(0.5)
    assert retention(0.11, 0.11, floor, 2000) is None, "a baseline at the floor has nothing to retain"
    assert headroom(0.5, floor, 0.9) == pytest.approx(0.5)


def test_twins_fall_into_exactly_one_of_five() -> None:
    import numpy as np
    import torch

    from bench.interfaces import Features

    now, before = np.array([1, 1, 0, 1, 0], bool), np.array([1, 1, 1, 0, 0], bool)
    moved = torch.tensor([[0.0], [9.0], [0.0], [0.0], [0.0]])
    found = survival(now, before, Features(moved), Features(torch.zeros(5, 1)), same_within=1.0)
    assert {name: flags.tolist().index(True) for name, flags in found.items()} == {
        "intact": 0,
        "drifted": 1,
        "degraded": 2,
        "repaired": 3,
        "still_invalid": 4,
    }
    assert (sum(flags.astype(int) for flags in found.values()) == 1).all()


def test_other_measurements_never_share_a_row(tmp_path: Path) -> None:
    first = record("int8", 0, quality_retention=0.9)
    other = record("int8", 1, quality_retention=0.1).model_copy(update={"reference": "own:1234"})
    made = pages([first, other], tmp_path, tmp_path / "leaderboard.md")
    text = made[tmp_path / "elsewhere/s@0/README.md"]
    assert text.count("## All methods") == 2 and not any("0.500" in page for page in made.values())


def test_a_method_of_an_older_version_is_no_repeat_of_the_newer_one() -> None:
    """Its cells are named and left out; a method without newer cells stays."""
    made = lambda method, seed, version: record(method, seed).model_copy(
        update={"implementation": {"domain d": 1, method: version}}
    )
    old, new, other = [made("int4", seed, 1) for seed in (0, 1, 2)], made("int4", 0, 2), made("nf4", 0, 1)
    said: list[str] = []
    assert newest([*old, new, other], said.append) == [new, other]
    assert len(said) == 3 and all("int4 seed" in line and "older version" in line for line in said)
    assert newest([*old, other], said.append) == [*old, other] and len(said) == 3


def test_a_seed_that_diverged_counts_as_zero(tmp_path: Path) -> None:
    diverged = record("int8", 1).model_copy(update={"status": "diverged", "reason": "NaN"})
    text = all_pages([record("int8", 0, quality_retention=0.9), diverged], tmp_path)
    assert "0.450 ± 0.636" in text and "diverged" in text


def test_the_comparison_sees_what_only_one_side_measured() -> None:
    from bench.records.agreement import agreement

    whole, half = (
        record("int8", 0, quality_retention=0.9, diversity_retention=0.5),
        record("int8", 0, quality_retention=0.9),
    )
    assert agreement(whole, whole, []) == "identical" and agreement(whole, None, []) == "no record"
    assert agreement(whole, half, []).startswith("DIFFERS") and agreement(half, whole, []).startswith(
        "DIFFERS"
    )


def test_names_and_reasons_of_any_kind_are_shown_as_text(tmp_path: Path) -> None:
    from bench.util.markup import as_code

    odd = [record(m, 0).model_copy(update={"model": "./a`b|<img src=x>_m_"}) for m in ("none", "int8")]
    odd[1] = odd[1].model_copy(update={"status": "failed", "reason": "<script>\n*bad*"})
    front, section = pages(odd, tmp_path, tmp_path / "leaderboard.md").values()
    heading, *lines = section.splitlines()
    assert "`" not in heading and "<" not in heading and "|" not in heading
    assert "<img" not in front and "a`b" not in front
    assert "<script>" not in section and "*bad*" not in section
    (asked,) = (line for line in lines if line.startswith("Reproduce: "))
    assert asked.startswith("Reproduce: `` python -m bench run ") and asked.endswith(" ``") and "a`b" in asked
    assert as_code("plain") == "`plain`"
