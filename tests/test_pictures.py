"""Pictures show what the records say, and equal records give equal bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from bench.errors import BadInput
from bench.methods.notation import LADDER
from bench.records.cell import FLOOR_RECALIBRATED
from bench.records.schema import Cost, Record
from bench.report.figures.canvas import DPI
from bench.report.figures.families import (
    SIZE,
    draw,
    families_of,
    family_of,
    frontier_of,
    label_of,
    ladders_of,
    points_of,
)

LATER = (
    *(
        "ecsq:bits=1.5",
        "ecsq:bits=3",
        "binary:residual=2",
        "nf4",
        "int4:group=32",
        "magnitude:sparsity=0.9+int4",
    ),
    *("2:4", "2:4+int4", "random", "magnitude", "fp16", "nobody:knows=1"),
)


def record(
    method: str,
    ratio: float | None = 4.0,
    quality: float | None = 0.9,
    diversity: float | None = 0.8,
    *,
    seed: int = 0,
    domain: str = "elsewhere",
    recalibrated: bool = False,
    status: str = "ok",
) -> Record:
    """Only what a picture looks at, so that a new field of records changes nothing here."""
    metrics = {"quality_retention": quality, "diversity_retention": diversity} if status != "diverged" else {}
    return Record.model_construct(
        domain=domain,
        model="s@0",
        method=method,
        sample_seed=seed,
        samples=100,
        k=5,
        weights_sha256="0",
        companions="",
        reference="r",
        sampler={},
        implementation={FLOOR_RECALIBRATED: 1} if recalibrated else {},
        status=status,
        metrics=metrics,
        cost=None if ratio is None else Cost.model_construct(ratio=ratio),
        evaluators={},
    )


def ladder(domain: str = "elsewhere", ending: str = "") -> list[Record]:
    recalibrated = bool(ending)
    rungs = [
        record(rung + ending, 4.0 + i, 1 - i / 8, seed=seed, domain=domain, recalibrated=recalibrated)
        for i, rung in enumerate(LADDER)
        for seed in (0, 1)
    ]
    return [record("none", 1.0, 1.0, 1.0, domain=domain, recalibrated=recalibrated), *rungs]


def test_files_are_pngs_of_the_asked_size_and_equal_for_equal_records(tmp_path: Path) -> None:
    imported = "matplotlib.pyplot" in sys.modules  # by another test
    later = [record(method, 2.0 + i) for i, method in enumerate(LATER)]
    records = [*ladder(), *later, *ladder("Another Place")]
    first, second = draw(records, tmp_path / "a"), draw(records[::-1], tmp_path / "b")
    assert [path.name for path in first][::2] == [
        "rate-retention.png",
        "rate-retention-elsewhere.png",
    ] and len(first) == 3
    for path, again in zip(first, second):
        with Image.open(path) as image:
            assert image.format == "PNG" and image.size == tuple(int(side * DPI) for side in SIZE)
            assert "Software" not in image.info
        assert path.read_bytes() == again.read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(path.name for path in first)
    assert imported or "matplotlib.pyplot" not in sys.modules


def test_the_users_own_settings_of_matplotlib_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    plain = draw(ladder(), tmp_path / "a")[0].read_bytes()
    with matplotlib.rc_context({"font.size": 20, "savefig.bbox": "tight", "axes.facecolor": "red"}):
        assert draw(ladder(), tmp_path / "b")[0].read_bytes() == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_a_point_lies_where_its_records_say() -> None:
    (point,) = points_of([record("int8", 2.0, 0.8, seed=0), record("int8", 8.0, 1.0, None, seed=1)])
    assert point.ratio == pytest.approx(4.0), "the mean of rates, as in the scores"
    assert point.quality == pytest.approx((0.9, 0.1 * 2**0.5)) and point.diversity == (0.8, 0.0)


def test_what_diverged_has_kept_nothing_and_what_was_not_measured_is_not_drawn() -> None:
    records = [
        record("int2", 15.0, status="diverged"),
        record("int3", None),
        record("int4", 8.0, None, None),
        record("int5", status="failed"),
        record("int6", 5.0, None, 0.7),
    ]
    first, second = points_of(records)
    assert (first.method, first.quality, first.diversity) == ("int6", None, (0.7, 0.0))
    assert (second.method, second.quality, second.diversity) == ("int2", (0.0, 0.0), (0.0, 0.0))


def test_where_the_ladder_is_recalibrated_all_else_is_left_out() -> None:
    records = [
        *ladder(ending="+recalibrate"),
        record("int8", 4.0, 0.1, recalibrated=True),
        record("2:4+recalibrate", 2.0, recalibrated=True),
        record("2:4", 2.0),
    ]
    assert [point.method for point in points_of(records)] == ["none", "2:4", *LADDER]
    (line,) = ladders_of({"elsewhere": records})
    assert [point.method for point in line.points] == [
        "none",
        *LADDER,
    ] and line.name == "elsewhere (recalibrated)"
    assert "int8+recalibrate" in [
        p.method for p in points_of([record("int8"), record("int8+recalibrate")])
    ], "a name says what it is"


def test_records_under_other_conditions_are_not_mixed(tmp_path: Path) -> None:
    fewer = [
        record("int8", 4.0, 0.0).model_copy(update={"samples": 10}),
        record("nf4", 7.0).model_copy(update={"samples": 10}),
    ]
    with_them, without = draw([*fewer, *ladder()], tmp_path / "a"), draw(ladder(), tmp_path / "b")
    assert [path.read_bytes() for path in with_them] == [path.read_bytes() for path in without]


@pytest.mark.parametrize(
    ("method", "family", "label"),
    [
        ("int8", "ladder", "int8"),
        ("int8+recalibrate", "quantizer", "int8+recalibrate"),
        ("ecsq:bits=1.5", "ecsq", "ecsq 1.5"),
        ("magnitude:sparsity=0.9+int4", "both", "magnitude 0.9+int4"),
        ("2:4+ecsq:bits=2", "both", "2:4+ecsq 2"),
        ("2:4,scope=global", "pruning", "2:4 global"),
        ("random+recalibrate", "pruning", "random+recalibrate"),
        ("int4:group=32,asym", "quantizer", "int4 group=32 asym"),
        ("somebody:elses=1", "quantizer", "somebody elses=1"),
        ("tcq:bits=3+recalibrate", "tcq", "tcq 3+recalibrate"),
        ("ldlq:bits=3,mixed+recalibrate", "ldlq", "ldlq 3 mixed+recalibrate"),
        ("channels:keep=0.75", "pruning", "channels keep=0.75"),
        ("quanto:bits=4+recalibrate", "tool", "quanto 4+recalibrate"),
    ],
)
def test_families_and_labels(method: str, family: str, label: str) -> None:
    assert (family_of(method), label_of(method)) == (family, label)


def test_the_frontier_is_the_best_of_all_files_at_least_as_small() -> None:
    series = families_of(
        [record("none", 1.0, 1.0), record("int8", 4.0, 0.6), record("ecsq:bits=4", 8.0, 0.7)]
    )
    assert frontier_of(series, "quality") == [(1.0, 1.0), (4.0, 0.7), (8.0, 0.7)]


def test_families_without_methods_have_no_entry() -> None:
    assert [series.name for series in families_of([record("nf4"), record("none", 1.0)])] == [
        "ladder, int8 to binary",
        "other quantizers",
    ]


@pytest.mark.parametrize(
    "records",
    [
        [record("nf4", 500.0, -0.6, 1.7)],
        [record("ecsq:bits=1", 30.0, None)],
        [record("int8", None), record("none", 0.99, 1.0)],
        [record("int8", domain=f"domain {i} of a long name") for i in range(9)],
    ],
)
def test_odd_records_are_drawn(records: list[Record], tmp_path: Path) -> None:
    assert all(path.is_file() for path in draw(records, tmp_path))
    assert (tmp_path / "rate-retention.png").exists() == (len(records) == 9), (
        "no picture of ladders where there are none"
    )


@pytest.mark.parametrize("records", [[], [record("int8", None)], [record("int8", status="failed")]])
def test_nothing_to_draw(records: list[Record], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there are no records of model 's@0' to draw"):
        draw(records, tmp_path)
    with pytest.raises(BadInput, match="model 'm@3'"):
        draw([record("int8")], tmp_path, model="m@3")


def test_no_label_lies_on_another_or_on_a_marker() -> None:
    """Nine methods at one place: at most one of them is named there."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from bench.report.figures.families import Series, _panels, _write_labels

    points = points_of([record(f"nf4:group={i}", 4.0 + i / 1000) for i in range(9)])
    series = [Series("crowd", points, "#0072B2", "o", line=False)]
    figure = Figure(figsize=SIZE, dpi=DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    upper = _panels(figure, series, top=0.9)[0]
    _write_labels(upper, series, "quality", renderer)
    boxes = [text.get_window_extent(renderer) for text in upper.texts]
    assert 1 <= len(boxes) < 9 and not any(
        box.count_overlaps([b for b in boxes if b is not box]) for box in boxes
    )
