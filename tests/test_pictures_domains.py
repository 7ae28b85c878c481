"""Pictures across domains show the estimates, the records' shares and the published damages; equal records
give equal bytes.
"""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main as cli
from bench.cli.shared import FAILED, OK
from bench.errors import BadInput
from bench.methods.notation import LADDER
from bench.records.damage_file import DamagesFile, SavedRow, read, read_damages
from bench.records.provenance import Provenance
from bench.records.schema import Cost, EvaluatorBlock, Items, Record, read_records
from bench.report.figures import canvas, overview, paths, sizes, twins_text
from bench.report.figures.gallery import across_domains, draw_all
from bench.report.figures.overview import DomainSeries, series_of
from bench.stats.domain import domains_of
from bench.stats.ladder import ROLES, models_of
from bench.stats.sizes import size_slopes
from bench.stats.twin_outcomes import TWIN_OUTCOMES, twin_outcomes_of

STATES = TWIN_OUTCOMES
N = 40
NAMES = {"domains.png", "quality-diversity.png", "survival.png"}


def record(
    domain: str,
    model: str,
    method: str,
    seed: int,
    ratio: float,
    kept: float,
    u: float = 1.0,
    status: str = "ok",
) -> Record:
    """Of `kept` of the baseline's quality, and of the root of that of its diversity.

    Only what these pictures look at.
    """
    rng = np.random.default_rng([len(domain), len(model), len(method), seed])
    shares = {"quality": 0.8 * kept, "diversity": 0.8 * kept**0.5}
    flags = {role: rng.permutation(N) < round(share * N) for role, share in shares.items()}
    names = {"quality": ("judge", "valid"), "diversity": ("kinds", "mutual_recall")}
    value = {role: float(flags[role].mean()) for role in ROLES}
    blocks = {
        name: EvaluatorBlock(
            role=role, version=1, metrics={item: value[role]}, items={item: Items.pack(flags[role])}
        )
        for role, (name, item) in names.items()
    }
    twins = dict(zip(STATES, (0.7 * kept, 0.1 * kept, 0.0, 0.8 - 0.8 * kept, 0.2)))
    metrics = {"quality_valid": value["quality"], "diversity_mutual_recall": value["diversity"], **twins}
    metrics |= {f"{role}_retention": value[role] / 0.8 for role in ROLES} | {f"{role}_u": u for role in ROLES}
    diverged, parameters = status == "diverged", 125_000 if model.startswith("xs") else 500_000
    return Record.model_construct(
        domain=domain,
        model=model,
        method=method,
        sample_seed=seed,
        samples=N,
        k=5,
        weights_sha256=model,
        companions="",
        reference="shipped:1",
        sampler={},
        implementation={},
        status=status,
        metrics={} if diverged else metrics,
        cell=f"{seed:064d}",
        evaluators={} if diverged else blocks,
        items={},
        cost=Cost.model_construct(ratio=ratio, parameters=parameters),
    )


def ladder(
    domain: str = "elsewhere", model: str = "s@0", u: float = 1.0, drop: Sequence[str] = (), less: float = 0.0
) -> list[Record]:
    rungs = {
        "none": (1.0, 1.0),
        **{rung: (4.0 + 3 * i, max(0.0, 1 - i / 8 - less)) for i, rung in enumerate(LADDER)},
    }
    return [
        record(domain, model, m, seed, *where, u)
        for m, where in rungs.items()
        if m not in drop
        for seed in (0, 1)
    ]


def series(records: Sequence[Record]) -> dict[str, DomainSeries]:
    return {one.domain.name: one for one in series_of(records, lambda _: None)}


def refuse(line: str) -> None:
    raise AssertionError(line)


def damages(domain: str = "elsewhere", **other: object) -> DamagesFile:
    numbers = {
        "hurts": "surface",
        "samples": N,
        "valid": 0.4,
        "valid_share": 0.5,
        "mutual_recall": 0.9,
        "mutual_recall_share": 1.0,
    }
    provenance = Provenance(
        commit=None,
        dirty=None,
        command="",
        versions={},
        python="",
        platform="",
        processor="",
        device="",
        threads=1,
        time="",
        seconds={},
    )
    found = DamagesFile(
        domain=domain,
        samples=N,
        k=5,
        reference="shipped:1",
        evaluators={"judge": 1, "kinds": 1},
        failures=[],
        provenance=provenance,
        rows=[SavedRow.model_validate({"name": name, **numbers}) for name in ("noise .1", "half repeated")],
    )
    return found.model_copy(update=other)


# ---------------------------------------------------------------------------------------------------- domains


def test_the_curves_are_the_estimates() -> None:
    records = [*ladder(), *ladder(model="s@1", less=0.1), *ladder("text", model="s@7")]
    found = series(records)
    domains = {domain.name: domain for domain in domains_of(models_of(records))}
    for name, domain in domains.items():
        for role in ROLES:
            start, *rungs = found[name].mean[role]
            assert (start.name, start.ratio, start.value) == ("none", 1.0, 1.0)
            assert [rung.name for rung in rungs] == list(LADDER)
            for rung in rungs:
                estimate, rate = domain.retention(role, rung.name), domain.rate(rung.name)
                assert estimate is not None and rate is not None
                assert (rung.ratio, rung.value, rung.interval) == (
                    2**rate,
                    estimate.value,
                    estimate.interval(),
                )
    assert (
        found["elsewhere"].label == "elsewhere (2 training seeds)" and found["text"].label == "text (1 model)"
    )
    assert [single.model for single in found["elsewhere"].singles] == ["s@0", "s@1"] and found[
        "text"
    ].singles == []
    assert found["elsewhere"].mean["quality"][3].value == pytest.approx(
        np.mean([s.values["quality"][3] for s in found["elsewhere"].singles])
    )


def test_a_weak_model_is_drawn_and_not_in_the_mean() -> None:
    one = series([*ladder(), *ladder(model="s@1", u=0.4, less=0.1)])["elsewhere"]
    assert one.label == "elsewhere (1 model)" and [single.counts for single in one.singles] == [True, False]
    assert one.mean == series(ladder())["elsewhere"].mean
    alone = series(ladder(u=0.4))["elsewhere"]
    assert (
        alone.label == "elsewhere (no model counts)"
        and alone.mean == {role: () for role in ROLES}
        and len(alone.singles) == 1
    )


def test_a_model_without_some_rungs_is_left_out_and_named() -> None:
    said: list[str] = []
    whole = ladder()
    found = series_of(
        [*whole, *ladder(model="s@1", drop=["int3", "int2"]), *ladder("text", drop=LADDER)], said.append
    )
    assert [one.domain.name for one in found] == ["elsewhere"] and found[0].mean == series(whole)[
        "elsewhere"
    ].mean
    assert said[0] == "elsewhere s@1 is not drawn: not measured: int3, int2" and said[1].startswith(
        "text s@0 is not drawn"
    )


def test_files_are_pngs_and_equal_for_equal_records(tmp_path: Path) -> None:
    imported = "matplotlib.pyplot" in sys.modules  # by another test
    records = [*ladder(), *ladder(model="s@1", less=0.1), *ladder(model="s@2", u=0.3), *ladder("text")]
    damages().write(tmp_path)
    first, second = across_domains(records, tmp_path, refuse), across_domains(records[::-1], tmp_path, refuse)
    assert first == second and set(first) == NAMES
    for name, data in first.items():
        (tmp_path / name).write_bytes(data)
        with Image.open(tmp_path / name) as image:
            assert image.format == "PNG" and "Software" not in image.info
    assert imported or "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize(
    ("records", "names"),
    [
        (ladder(), NAMES),
        (ladder(u=0.4), {"domains.png", "survival.png"}),
        ([r for i in range(7) for r in ladder(f"domain {i} of a long name")], NAMES),
        (
            [
                record("odd", "s@0", m, s, 100.0 * (i + 1), 0.0**i * 1.2)
                for i, m in enumerate(["none", *LADDER])
                for s in (0, 1)
            ],
            NAMES,
        ),
        (
            [
                *ladder(drop=["int2"]),
                *(record("elsewhere", "s@0", "int2", s, 19.0, 0, status="diverged") for s in (0, 1)),
            ],
            NAMES,
        ),
        (ladder(drop=["int3"]), set()),
        ([], set()),
    ],
)
def test_any_subset_is_drawn(records: list[Record], names: set[str], tmp_path: Path) -> None:
    assert set(across_domains(records, tmp_path, lambda _: None)) == names


# ------------------------------------------------------------------------------------------------------ sizes


TWO_SIZES = [
    *ladder(),
    *ladder(model="s@1", less=0.02),
    *ladder(model="xs@0", less=0.1),
    *ladder(model="xs@1", less=0.15, u=0.4),
    *ladder("text"),
]


def test_every_model_is_a_point_with_its_own_interval_and_the_line_is_the_regressions() -> None:
    found = series_of(TWO_SIZES, refuse)
    quality, diversity = sizes.panels_of(found, TWO_SIZES)
    assert (quality.role, diversity.role) == ("quality", "diversity")
    assert [(p.domain, p.model, p.parameters, p.hollow) for p in quality.points] == [
        *(("elsewhere", f"s@{i}", 500_000, False) for i in (0, 1)),
        *(("elsewhere", f"xs@{i}", 125_000, i == 1) for i in (0, 1)),
        ("text", "s@0", 500_000, False),
    ]
    assert all(p.interval and p.interval[0] < p.score < p.interval[1] for p in quality.points)
    assert (
        quality.lines == size_slopes(quality.points)
        and quality.lines.average.value > diversity.lines.average.value > 0
    )
    image = Image.open(io.BytesIO(sizes.picture([quality, diversity], found)))
    assert image.size == tuple(int(side * canvas.DPI) for side in sizes.SIZE)


def test_lines_are_a_domains_own_where_two_domains_have_several_sizes() -> None:
    """Two models a size: the least-squares line goes through the mean of each size, in each domain on its
    own.
    """
    more = [
        *TWO_SIZES,
        *ladder("text", "s@1", less=0.01),
        *ladder("text", "xs@0", less=0.02),
        *ladder("text", "xs@1", less=0.02),
    ]
    (quality, _) = sizes.panels_of(series_of(more, refuse), more)
    for domain in ("elsewhere", "text"):
        level, slope = quality.lines.levels[domain].value, quality.lines.slopes[domain].value
        for parameters in (125_000, 500_000):
            scores = [p.score for p in quality.points if (p.domain, p.parameters) == (domain, parameters)]
            assert level + slope * math.log2(parameters / 500_000) == pytest.approx(sum(scores) / len(scores))
    assert quality.lines.slopes["elsewhere"].value > quality.lines.slopes["text"].value
    (alone, _) = sizes.panels_of(series_of(TWO_SIZES, refuse), TWO_SIZES)
    assert list(alone.lines.slopes) == ["elsewhere"] and math.isnan(alone.lines.p), (
        "text has one size, so it has no line"
    )


def test_models_of_one_size_stand_side_by_side_about_their_size() -> None:
    (quality, _) = sizes.panels_of(series_of(TWO_SIZES, refuse), TWO_SIZES)
    x = sizes.places(quality.points)
    assert len(set(x)) == 5 and x[4] == 500_000, "another domain stands where it is"
    assert (
        math.sqrt(x[0] * x[1]) == pytest.approx(500_000)
        and math.sqrt(x[2] * x[3]) == pytest.approx(125_000)
        and x[3] < 140_000
    )


def test_without_two_sizes_there_is_no_picture_of_them() -> None:
    records = [*ladder(), *ladder(model="s@1"), *ladder("text"), *ladder("text", "s@1")]
    assert sizes.panels_of(series_of(records, refuse), records) == []
    assert "sizes.png" not in across_domains(records, Path("nowhere"), refuse)
    assert "sizes.png" in across_domains(TWO_SIZES, Path("nowhere"), lambda _: None)


# ------------------------------------------------------------------------------------------------------ paths


def test_paths_are_the_means_and_landmarks_the_damages_by_the_same_evaluators() -> None:
    records = [
        *ladder(),
        *ladder("text"),
        *(r.model_copy(update={"reference": "shipped:2"}) for r in ladder("sounds")),
    ]
    found = series(records)
    left, right = paths.panels_of(list(found.values()), records, {"text": damages("text")}, refuse)
    assert [one.domain.name for one in left.series] == ["elsewhere", "text"] and [
        one.domain.name for one in right.series
    ] == ["sounds"]
    assert [(m.name, m.quality, m.diversity) for m in left.landmarks] == [
        ("half repeated", 0.5, 1.0),
        ("noise .1", 0.5, 1.0),
    ]
    assert right.landmarks == ()
    (mark,) = paths.in_one_place(left.landmarks)
    assert mark.name == "half repeated, noise .1"
    start, first, *_ = paths.path_of(found["text"])
    assert start == ("none", 1.0, 1.0)
    assert first == ("int8", found["text"].mean["quality"][1].value, found["text"].mean["diversity"][1].value)


@pytest.mark.parametrize(
    "other", [{"reference": "own:1"}, {"samples": 30}, {"k": 3}, {"evaluators": {"judge": 2, "kinds": 1}}]
)
def test_damages_by_other_evaluators_are_no_landmarks(other: dict[str, object]) -> None:
    records, said = ladder(), list[str]()
    (panel,) = paths.panels_of(
        list(series(records).values()), records, {"elsewhere": damages(**other)}, said.append
    )
    assert panel.landmarks == () and said[0].startswith("the damages of elsewhere are not drawn")


def test_damages_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = damages().write(tmp_path)
    assert path == tmp_path / "elsewhere" / "damages.json" and [p.name for p in path.parent.iterdir()] == [
        "damages.json"
    ]
    assert read_damages(tmp_path, refuse) == {"elsewhere": damages()}
    assert read_records(tmp_path, refuse) == [], "it is not taken for a record"


def broken(**change: object) -> str:
    return json.dumps({**json.loads(damages().model_dump_json()), **change})


ROW = json.loads(damages().model_dump_json())["rows"][0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no whole file of damages"),
        (damages().model_dump_json()[:-40], "no whole file of damages"),
        (broken(rows=[]), "rows"),
        (broken(rows=[{**ROW, "valid": 1.5}]), "rows.0.valid"),
        (broken(rows=[{**ROW, "valid_share": None}]), "rows.0.valid_share"),
        (broken(rows=[ROW, ROW]), "two rows"),
        (broken(rows=[{**ROW, "hurts": "feelings"}]), "'feelings' is none of nothing, surface"),
        (broken(more=1), "more"),
        (broken(schema_version=99), "schema version 99; this program reads 1"),
        (broken(domain="text"), "it describes the domain 'text'"),
    ],
)
def test_a_damaged_file_of_damages_is_refused_and_left_alone(text: str, why: str, tmp_path: Path) -> None:
    path = damages().write(tmp_path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        read(path)
    assert why in str(caught.value)
    said: list[str] = []
    assert read_damages(tmp_path, said.append) == {} and len(said) == 1 and str(path) in said[0]
    assert path.read_text(encoding="utf-8") == text


def test_the_command_saves_the_matrix_that_it_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(
        ["damages", "--domain", "toy", "--samples", "300", "--save", str(tmp_path), "--json"]
    ) in (OK, FAILED)
    shown = json.loads(capsys.readouterr().out)
    file = read_damages(tmp_path, refuse)["toy"]
    assert [(r.name, r.valid, r.mutual_recall_share) for r in file.rows] == [
        (r["damage"], r["valid"], r["mutual_recall_of_ceiling"]) for r in shown
    ]
    assert file.samples == 300 and file.provenance.command.startswith("python -m bench")


# --------------------------------------------------------------------------------------------------- survival


def test_shares_are_the_records_and_sum_to_one() -> None:
    records = [*ladder(), *ladder(model="s@1", less=0.1), *ladder(model="s@2", u=0.3, less=0.2)]
    outcomes = twin_outcomes_of(series(records)["elsewhere"].domain, records)
    assert outcomes is not None and outcomes.rungs == ("none", *LADDER)
    assert outcomes.shares.sum(axis=1) == pytest.approx(1.0)
    assert outcomes.ratios == pytest.approx([1.0, *(4.0 + 3 * i for i in range(8))])
    assert outcomes.shares[1] == pytest.approx([0.7 * 0.95, 0.1 * 0.95, 0, 0.8 - 0.8 * 0.95, 0.2]), (
        "means over the models that count"
    )
    assert outcomes.intervals is not None and outcomes.intervals.shape == (9, 6, 2)


def test_shares_have_intervals_over_training_seeds() -> None:
    """Two models of 0.875 and 0.775 of what was intact, .7 of all: the mean of two, with Student's t of
    one degree of freedom.
    """
    records = [*ladder(), *ladder(model="s@1", less=0.1)]
    outcomes = twin_outcomes_of(series(records)["elsewhere"].domain, records)
    assert outcomes is not None and outcomes.intervals is not None
    half = 12.706 * 0.7 * 0.1 / 2
    middle = 0.7 * (0.875 + 0.775) / 2
    assert outcomes.intervals[2, 0] == pytest.approx(
        [max(0, middle - half), min(1, middle + half)], abs=1e-3
    ), "int6"
    assert (
        (outcomes.intervals[..., 0] <= outcomes.intervals[..., 1]).all()
        and outcomes.intervals.min() >= 0
        and outcomes.intervals.max() <= 1
    )
    alone = twin_outcomes_of(series(ladder())["elsewhere"].domain, ladder())
    assert alone is not None and alone.intervals is None


def test_sizes_are_strata_and_where_none_counts_all_are_shown_without_intervals() -> None:
    """Seed by seed two sizes make up for each other; their shares are as sure as each size's are."""
    less = {"s@0": 0.0, "s@1": 0.2, "xs@0": 0.2, "xs@1": 0.0}
    records = [r for name, x in less.items() for r in ladder(model=name, less=x)]
    outcomes = twin_outcomes_of(series(records)["elsewhere"].domain, records)
    assert outcomes is not None and outcomes.intervals is not None
    one = 0.7 * 0.2 / 2  # standard error of a size's mean of two
    middle, half = 0.7 * (0.875 + 0.675) / 2, 4.303 * one / 2**0.5
    assert outcomes.intervals[2, 0] == pytest.approx([middle - half, middle + half], abs=2e-3), (
        "int6, two degrees of freedom"
    )
    poor = [*ladder(u=0.3), *ladder(model="s@1", u=0.3)]
    shown = twin_outcomes_of(series(poor)["elsewhere"].domain, poor)
    assert shown is not None and shown.intervals is None and shown.shares.sum(axis=1) == pytest.approx(1.0)


def test_agreeing_models_are_not_certain_of_their_shares() -> None:
    """Both of .665: 2 x 80 samples have a standard error of .0373, and no interval is narrower."""
    records = [*ladder(), *ladder(model="s@1")]
    outcomes = twin_outcomes_of(series(records)["elsewhere"].domain, records)
    assert outcomes is not None and outcomes.intervals is not None
    p = outcomes.shares[1, 0]
    assert np.ptp(outcomes.intervals[1, 0]) == pytest.approx(2 * 1.96 * (p * (1 - p) / 160) ** 0.5, rel=2e-2)
    assert 0 < outcomes.intervals[1, 2, 1] < 0.05, "none was repaired, which is not certain either"


def test_a_network_that_diverged_has_lost_every_sample() -> None:
    records = [
        *ladder(drop=["binary"]),
        *(record("elsewhere", "s@0", "binary", s, 30.0, 0, status="diverged") for s in (0, 1)),
    ]
    outcomes = twin_outcomes_of(series(records)["elsewhere"].domain, records)
    assert outcomes is not None and outcomes.shares[-1] == pytest.approx([0, 0, 0, 0.8, 0.2])


# ------------------------------------------------------------------------------------------------------ texts

TWINS = """   none | In the beginning | was <b>it</b>
   int8 | In the *beginning*

   none | a_b_c `d` [e](f)
   int8 | {}
   int4 | x
   fp16 | left out
""".format("y" * 300)


def test_texts_become_a_table_with_nothing_in_it_that_markdown_reads(tmp_path: Path) -> None:
    samples = twins_text.twins(TWINS)
    assert samples[0] == {"none": "In the beginning | was <b>it</b>", "int8": "In the *beginning*"}
    text = twins_text.markdown("text", samples, {"int8": 4.0})
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == ["| `none`", "| `int8`", "| `none`", "| `int8`", "| `int4`"] and {
        len(row) for row in rows
    } == {3}
    assert [row[1] for row in rows] == ["-", "4.0x", "-", "4.0x", "-"]
    assert (
        rows[0][2] == "In the beginning &#124; was &lt;b&gt;it&lt;/b&gt; |"
        and rows[1][2] == "In the &#42;beginning&#42; |"
    )
    assert rows[2][2] == "a&#95;b&#95;c &#96;d&#96; &#91;e&#93;(f) |"
    assert rows[3][2] == "y" * twins_text.LONGEST + f" … *({300 - twins_text.LONGEST} more)* |"


def test_a_text_that_looks_like_an_entity_stays_text() -> None:
    assert twins_text.cell("&lt; &copy; a:b c: d") == "&amp;lt; &amp;copy; a&#58;b c: d"


def test_everything_is_drawn_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, records = tmp_path / "results", [*ladder("text"), *ladder("text", "s@1")]
    monkeypatch.setattr("bench.report.figures.gallery.read_records", lambda *_: records)
    (results / "text" / "s@0").mkdir(parents=True)
    (results / "text" / "s@0" / "twins.txt").write_text(TWINS, encoding="utf-8")
    pngs = {"rate-retention.png", "rate-retention-text.png", *NAMES}
    assert {path.name for path in draw_all(results, tmp_path / "a", refuse)} == pngs | {"text-twins.md"}
    (results / "text" / "s@0" / "twins.txt").write_text("no twins", encoding="utf-8")
    said: list[str] = []
    assert {
        path.name for path in draw_all(results, tmp_path / "b", said.append)
    } == pngs and "not a line of twins" in said[0]
    for name in pngs:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_without_the_first_model_the_others_are_drawn_and_without_any_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("bench.report.figures.gallery.read_records", lambda *_: ladder(model="s@1"))
    assert {
        path.name for path in draw_all(tmp_path, tmp_path / "a", said.append)
    } == NAMES and "'s@0'" in said[0]
    monkeypatch.setattr("bench.report.figures.gallery.read_records", lambda *_: [])
    with pytest.raises(BadInput, match="there are no records of model 's@0' to draw"):
        draw_all(tmp_path, tmp_path / "b", said.append)
    assert not (tmp_path / "b").exists()


def test_no_label_is_led_through_another() -> None:
    """Landmarks in a crowd: names may lie far away, with a line that crosses nothing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    marks = [paths.Landmark(f"damage number {i}", 0.1 + i / 12, 1.0) for i in range(11)]
    labels = [canvas.Label(m.name, m.quality, m.diversity, canvas.GREY, paths.FAR, 8) for m in marks]
    figure = Figure(figsize=(6, 6), dpi=canvas.DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    axes = figure.subplots()
    axes.set_xlim(*paths.ACROSS)
    axes.set_ylim(*paths.ALONG)
    curve = canvas.Curve([m.quality for m in marks], [m.diversity for m in marks], line=False)
    boxes = canvas.write_labels(axes, labels, [curve], renderer)
    leaders = [text for text in axes.texts if not text.get_text()]
    assert len(boxes) > 5 and len(leaders) > 2
    for leader in leaders:
        here, step = axes.transData.transform(leader.xy), np.array(leader.xyann) * canvas.DPI / 72
        line = here + np.linspace(0.1, 0.95, 50)[:, None] * step
        assert not any(box.count_contains(line) for box in boxes)
    assert not any(box.count_overlaps([b for b in boxes if b is not box]) for box in boxes)


def test_series_keep_their_colours_in_every_picture() -> None:
    found = series([*ladder("b"), *ladder("a"), *ladder("c")])
    assert [one.colour for one in found.values()] == list(overview.COLOURS[:3]) and list(found) == [
        "a",
        "b",
        "c",
    ]
