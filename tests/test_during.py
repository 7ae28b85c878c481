"""Compression after and during training: means, intervals, gaps, sentences, pictures."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence

import numpy as np
import pytest
from made_up import both_pages, ladder, scored, stored, trained
from PIL import Image
from scipy import stats

from bench.methods.notation import CONTROL, during, is_trained, parse, rung_trained, with_seed, without_seed
from bench.records.cell import FLOOR_RECALIBRATED
from bench.records.schema import PRIMARY_METRIC, EvaluatorBlock, Items, Record, TrainingReport
from bench.report.during import both_ratios, during_section, summary
from bench.report.figures import during as picture
from bench.report.figures import training_curves
from bench.report.figures.families import family_of, points_of
from bench.report.headline import answers, headline
from bench.report.report_data import report_data
from bench.report.small_files import fewest_bytes, reversed_order
from bench.stats.comparison import ratio_at
from bench.stats.during import DuringTraining, compare_ways
from bench.stats.frontier import frontier
from bench.stats.ladder import ROLES

AFTER = (1.0, 1.0, 1.0, 0.9, 0.6, 0.4, 0.3, 0.1)  # of quality, by rung


def before(name: str, *models: str, quality: Sequence[float] = AFTER) -> list[Record]:
    return [r for at in models for r in ladder(name, at, quality, quality)]


def one(records: Sequence[Record]) -> DuringTraining:
    (found,) = compare_ways(records)
    return found


def spread(kept: Sequence[float], models: Sequence[str], rung: str = "binary") -> list[Record]:
    """Training seeds that keep different shares of quality and of diversity."""
    return [r for at, value in zip(models, kept) for r in trained("a", at, value, value, rung)]


SEEDS = ("s@0", "s@1", "s@2")


# --------------------------------------------------------------------------------------------------- notation


def test_the_texts_of_trained_methods() -> None:
    assert during("int3") == parse("qat:grid=int3").text == "qat:grid=int3"
    assert rung_trained("qat:grid=ternary") == "ternary"
    for other in (
        "ternary",
        "qat",
        "qat:grid=int9",
        "qat:grid=int3,seed=1",
        "qat:grid=int3+recalibrate",
        CONTROL,
    ):
        assert rung_trained(other) is None
    for method in (
        "qat:grid=int3",
        "finetune",
        "finetune:seed=2",
        "magnitude+finetune+int4",
        "prune_train+int4",
    ):
        assert is_trained(method), method
    assert not any(map(is_trained, ("none", "int8", "magnitude+int4", "2:4+int4+recalibrate")))
    for text in ("qat:grid=binary", "finetune", "prune_train:pattern=2:4"):
        assert "seed=3" in with_seed(text, 3) and without_seed(with_seed(text, 3)) == text
        assert with_seed(text, 0) == text
    assert with_seed("qat:grid=int4,networks=both", 1) == "qat:grid=int4,seed=1,networks=both"
    assert (
        without_seed(parse("qat:grid=binary,seed=3,scales=mean").text)
        == parse("qat:grid=binary,scales=mean").text
    )


# ------------------------------------------------------------------------------------------- means, intervals


def test_the_difference_is_paired_by_model_with_its_interval_over_training_seeds() -> None:
    kept = (0.4, 0.7, 1.0)
    found = one([*before("a", *SEEDS), *spread(kept, SEEDS)])
    assert [*found.rungs] == ["binary"] and found.control is None
    row = found.rungs["binary"]
    assert (row.models, row.seeds) == (3, 3)
    after, trained_ = row.after.retention("quality", "binary"), row.during.retention("quality", "binary")
    assert after is not None and trained_ is not None
    assert (after.value, trained_.value) == pytest.approx((0.1, 0.7), abs=0.01)
    change = row.difference("quality", "binary")
    assert change is not None and change.value == pytest.approx(trained_.value - after.value)
    half = stats.t.ppf(0.975, 2) * np.std(kept, ddof=1) / math.sqrt(3)
    assert change.interval() == pytest.approx((0.6 - half, 0.6 + half), abs=0.02)


def test_what_a_model_loses_either_way_does_not_widen_the_difference() -> None:
    records = []
    for at, kept in zip(SEEDS, (0.1, 0.4, 0.7)):
        records += [*ladder("a", at, kept, kept), *trained("a", at, kept + 0.2, kept + 0.2)]
    row = one(records).rungs["binary"]
    change, alone = row.difference("quality", "binary"), row.during.retention("quality", "binary")
    assert change is not None and alone is not None and change.value == pytest.approx(0.2, abs=0.01)
    assert (change.half_width(0.975) or 1.0) < 0.3 * (alone.half_width(0.975) or 0.0)


def test_two_sizes_are_strata_of_the_same_training_seeds() -> None:
    models = (*SEEDS, "xs@0", "xs@1", "xs@2")
    kept = (0.4, 0.7, 1.0, 0.2, 0.3, 0.4)
    row = one([*before("a", *models), *spread(kept, models)]).rungs["binary"]
    assert (row.models, row.seeds) == (6, 3)
    change = row.difference("quality", "binary")
    variances = [np.var(kept[:3], ddof=1) / 12, np.var(kept[3:], ddof=1) / 12]
    df = sum(variances) ** 2 / sum(v**2 / 2 for v in variances)
    assert change is not None and change.value == pytest.approx(0.4, abs=0.01)
    assert change.half_width(0.975) == pytest.approx(
        stats.t.ppf(0.975, df) * math.sqrt(sum(variances)), abs=0.02
    )


def test_the_control_and_the_ratio_at_which_90_percent_is_kept() -> None:
    records = before("a", *SEEDS)
    for at in SEEDS:
        records += trained("a", at, 1.0, 1.0, "int3", 10.0) + trained("a", at, 0.99, 0.99, "ternary", 19.0)
        records += trained("a", at, 0.3, 0.3, "binary", 29.0) + trained("a", at, 0.97, 1.0, CONTROL, 1.0)
    found = one(records)
    assert [*found.rungs] == ["int3", "ternary", "binary"] and found.control is not None
    control = found.control.retention("quality", CONTROL)
    assert control is not None and control.value == pytest.approx(0.97, abs=0.01)
    after, trained_ = (ratio_at(d, "quality", 0.9) for d in (found.together.after, found.together.during))
    assert after is not None and after.certified is None, "int3 keeps 0.6 after training"
    assert trained_ is not None and trained_.certified == pytest.approx(19.0)


def test_no_score_is_made_of_a_few_rungs() -> None:
    found = one([*before("a", *SEEDS), *spread((0.4, 0.7, 1.0), SEEDS)])
    for domain in (found.together.after, found.together.during, found.together.change):
        assert domain.score("quality") is None


# ----------------------------------------------------------------------------------------------- partial sets


def test_a_network_that_diverged_keeps_nothing() -> None:
    dead = [
        r.model_copy(update={"status": "diverged", "metrics": {}, "evaluators": {}, "cost": None})
        for r in trained("a", "s@2")
    ]
    row = one([*before("a", *SEEDS), *spread((0.9, 0.9), SEEDS), *dead]).rungs["binary"]
    kept = row.during.retention("quality", "binary")
    assert row.models == 3 and kept is not None and kept.value == pytest.approx(0.6, abs=0.01)
    assert row.during.rate("binary") == pytest.approx(math.log2(29)), "of those that have a file"


def test_only_models_measured_both_ways_under_the_same_seeds_count() -> None:
    whole = before("a", *SEEDS)
    partly = [r for r in whole if (r.model, r.method) != ("s@1", "binary")]
    row = one([*partly, *spread((0.4, 0.7, 1.0), SEEDS)]).rungs["binary"]
    assert [unit[0].model for unit in row.during.units] == ["s@0", "s@2"]
    few = trained("a", "s@0", 0.4, 0.4, seeds=(1, 7))
    row = one([*whole, *few]).rungs["binary"]
    assert row.after.models[0].outcomes["quality"].retention.shape == (1, 1), "sampling seed 1"
    assert compare_ways([*whole, *trained("a", seeds=(7,))]) == []
    assert compare_ways([*whole, *trained("a", rung=CONTROL)]) == [], "the control alone is no comparison"
    assert compare_ways([r for r in [*whole, *trained("a")] if r.method != "none"]) == []
    failed = [r.model_copy(update={"status": "failed", "metrics": {}}) for r in trained("a")]
    assert compare_ways([*whole, *failed]) == compare_ways(whole) == compare_ways([]) == []


def test_a_size_that_lacks_a_training_seed_stays_out_of_the_mean() -> None:
    models = (*SEEDS, "xs@0")
    row = one([*before("a", *models), *spread((0.5, 0.5, 0.5, 1.0), models)]).rungs["binary"]
    assert row.models == 3 and {m.model for m in row.change.averaged} == set(SEEDS)


def test_one_training_seed_has_no_interval() -> None:
    row = one([*before("a", "s@0"), *trained("a", "s@0", 0.9, 0.9)]).rungs["binary"]
    change = row.difference("quality", "binary")
    assert change is not None and change.interval() is None and change.value == pytest.approx(0.8, abs=0.01)


def test_rungs_may_have_different_models() -> None:
    records = [*before("a", *SEEDS), *spread((0.9, 0.9, 0.9), SEEDS, "int3"), *spread((0.5,), SEEDS)]
    found = one(records)
    assert [row.models for row in found.rungs.values()] == [3, 1]
    assert ratio_at(found.together.during, "quality", 0.8) is not None


def test_the_ratio_that_keeps_090_knows_each_size_alone() -> None:
    """Size s has both rungs, size xs lacks one of them."""
    small = ("xs@0", "xs@1", "xs@2")
    records = [*before("a", *SEEDS, *small), *before("b", "s@0")]
    for rung, models in (("int3", SEEDS), ("binary", (*SEEDS, *small))):
        records += spread((0.94, 0.95, 0.96) * (len(models) // 3), models, rung)
    found = report_data(records, {})
    rows = {row[0]: row[1:] for row in cells_of(both_ratios(found, found.ways))[2:]}
    assert rows["a s"] == ["s@0, s@1, s@2", "6.5x", "29.0x", "6.5x", "29.0x"]
    assert rows["a xs"][2] == "29.0x"
    assert [*rows] == ["a s", "a xs"] and len(cells_of(both_ratios(found, found.ways, all_sizes=False))) == 3


def with_statistics(records: Sequence[Record]) -> list[Record]:
    return [r.model_copy(update={"implementation": {FLOOR_RECALIBRATED: 1}}) for r in records]


def test_a_model_with_running_statistics_is_recalibrated_after_training() -> None:
    plain = before("a", "s@0", quality=(0.0,) * 8)
    recalibrated = [
        r.model_copy(update={"method": f"{r.method}+recalibrate"})
        for r in before("a", "s@0")
        if r.method != "none"
    ]
    records = with_statistics([*plain, *recalibrated, *trained("a", "s@0", 0.9, 0.9)])
    row = one(records).rungs["binary"]
    after = row.after.retention("quality", "binary")
    assert after is not None and after.value == pytest.approx(0.1, abs=0.01)
    best = frontier(records, (28,))
    assert [b.method for b in best] == [during("binary")], "it needs no recalibration"
    assert during("binary") in {point.method for point in points_of(records)}
    assert family_of(during("int3")) == family_of("magnitude+finetune+int4") == "trained"


# ------------------------------------------------------------------------------------------------------ pages


def test_the_sentences() -> None:
    records = before("a", *SEEDS)
    for at, up, down in zip(SEEDS, (0.90, 0.96, 1.02), (0.0, 0.3, 0.6)):
        records += trained("a", at, up, down, "int3") + trained("a", at, 0.1, 0.0, "ternary")
        records += trained("a", at, up, 0.5, "binary") + trained("a", at, 1.0, 0.9, CONTROL, 1.0)
    said = summary(one(records))
    assert said.startswith("**a**: Training keeps more quality at `int3` (+0.3")
    assert " and `binary` (+0.8" in said and "Training keeps less quality at `ternary` (-0.2" in said
    assert "No difference in diversity is shown at `int3` (-0.3" in said
    assert "Training keeps more diversity at `binary`" in said
    assert "1 bit is not shown to keep 0.90 of quality (0.957)." in said, "three training seeds are few"
    assert "1 bit keeps less than 0.90 of diversity (0.500)." in said
    assert said.endswith("The control keeps 1.000/0.900 (s@0, s@1 and s@2) of quality/diversity.")


def seen(made: Record, quality: float, diversity: float) -> Record:
    """The record with secondary scores."""
    blocks = {}
    for role, kept in zip(ROLES, (quality, diversity)):
        metrics = {PRIMARY_METRIC[role]: kept, "retention": kept, "u": 0.8}
        flags = Items.pack(np.arange(100) < 100 * kept)
        blocks[f"second {role}"] = EvaluatorBlock(
            role=role, version=1, second=True, metrics=metrics, items={PRIMARY_METRIC[role]: flags}
        )
    return made.model_copy(update={"evaluators": made.evaluators | blocks})


def test_a_gain_that_the_secondary_evaluators_do_not_show_is_the_primary_ones_alone() -> None:
    records = [*before("a", *SEEDS), *spread((0.6, 0.7, 0.8), SEEDS)]
    ends = {"none": (1.0, 1.0), "binary": (0.0, 0.1), "qat:grid=binary": (0.0, 0.7)}
    found = report_data([seen(r, *ends.get(r.method, (0.5, 0.5))) for r in records], {})
    said = summary(found.ways[0], found.second_ways["a"])
    assert "By the primary evaluators alone, training keeps more quality at `binary` (+0.6" in said
    assert "Training keeps more diversity at `binary` (+0.6" in said
    section = "\n".join(during_section(found, ["a"], "d.md"))
    assert "- a, `binary`: quality +0.600 [" in section and "] (+0.000) and diversity +0.6" in section
    assert "alone" not in summary(found.ways[0])


def cells_of(text: str) -> list[list[str]]:
    """The rows of the table that a text begins with."""
    rows = text.partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_small_files_have_a_table_after_and_during_training() -> None:
    """`a` keeps 0.9 at 4 bits (8x) and 0.4 at 2 bits; `b` was trained at `int3` alone."""
    records = [*before("a", *SEEDS), *spread((0.8, 0.9, 1.0), SEEDS)]
    found = report_data([*records, *before("b", "s@0"), *trained("b", rung="int3")], {})
    text = fewest_bytes(found, ["a", "b"])
    lines = cells_of(text)
    assert lines[0] == [
        "kept ↑",
        "after training, at least 8x: 8.0x",
        "after training, at least 12x: 14.9x",
        "during training, 1 bit: 29.0x",
    ]
    assert lines[2:] == [
        ["a quality", "0.90", "0.40", "0.90"],
        ["a diversity", "0.90", "0.40", "0.90"],
        ["b quality", "0.90", "0.40", "-"],
        ["b diversity", "0.90", "0.40", "-"],
    ]
    assert "that were\ntrained: s@0, s@1 and s@2 (" in text
    both = fewest_bytes(report_data([*records, *spread((0.6, 0.7, 0.8), SEEDS, "ternary")], {}), ["a"])
    titles, *_, kept = cells_of(both)
    assert titles[-2].startswith("during training, three levels: ") and kept[-2] == "0.70"
    assert fewest_bytes(report_data(before("a", *SEEDS)[:3], {}), ["a"]) == ""
    assert cells_of(fewest_bytes(found, ["b"]))[0][1] == "after training, at least 8x: 8.0x"
    assert "29.0x" not in fewest_bytes(found, ["b"]), "of a domain outside of the table"


def test_small_files_name_the_networks_only_where_all_are_the_same() -> None:
    records = [*spread((0.8, 0.9, 1.0), SEEDS), *trained("b", "s@0", 0.9, 0.9), *before("b", "s@0")]
    text = fewest_bytes(report_data([*before("a", *SEEDS), *records], {}), ["a", "b"])
    assert "that were\ntrained ([" in text


def test_small_files_that_the_secondary_evaluators_doubt_are_named() -> None:
    for quality, said in (
        (0.1, "more than 0.2 less: a quality 0.10 (after training, at least 8x)."),
        (0.8, ""),
    ):
        others = {"none": (1.0, 1.0), "int4": (quality, 0.9)}
        records = [seen(r, *others.get(r.method, (0.5, 0.5))) for r in before("a", *SEEDS)]
        text = fewest_bytes(report_data(records, {}), ["a"])
        assert ("more than 0.2 less" in text) == bool(said) and said in text


def test_an_order_that_the_best_methods_reverse_is_said() -> None:
    def better(domain: str, kept: float) -> list[Record]:
        return [stored(scored("codebook:bits=2", s, kept, 0.99, domain), 15) for s in (0, 1, 2)]

    a, b = before("a", *SEEDS), before("b", *SEEDS, quality=[0.9 * kept for kept in AFTER])
    assert reversed_order(report_data([*a, *b], {}), ["a", "b"]) == ""
    alone = [*a, *b, *better("b", 0.99)]
    assert reversed_order(report_data(alone, {}), ["a", "b"]) == "", "a method that one of them lacks"
    records = [*alone, *better("a", 0.9)]
    said = reversed_order(report_data(records, {}), ["a", "b"])
    assert said.startswith("**The best methods without further training reverse the order of a and b**")
    assert said.endswith("they leave more quality to b than to a.")
    three = [*records, *before("c", *SEEDS), *better("c", 0.9)]
    said = reversed_order(report_data(three, {}), ["a", "c", "b"])
    assert "reverse the order of 2 pairs of domains**" in said
    assert said.endswith("they leave more quality to b than to a and c.")
    partial = [r for r in [*before("d", "s@0"), *better("d", 0.99)] if r.method != "binary"]
    assert answers(report_data([*records, *partial], {}))[1:] == [
        reversed_order(report_data(records, {}), ["a", "b"])
    ], "d has no C, and so no place in the order"


def test_one_bit_that_keeps_nearly_all_is_shown() -> None:
    said = summary(one([*before("a", *SEEDS), *spread((0.99, 1.0, 1.01), SEEDS)]))
    assert "1 bit keeps at least 0.90 of quality (1.000)." in said


def test_the_sentences_of_a_partly_measured_set() -> None:
    said = summary(one([*before("a", "s@0"), *trained("a", "s@0", 0.957, 0.5)]))
    assert "one training seed is measured so far, so nothing is tested." in said
    assert "binary" not in said and "1 bit" not in said and said.endswith("not measured.")
    said = summary(one([*before("a", *SEEDS), *spread((0.9, 0.95, 1.0), SEEDS), *trained("a", rung="int3")]))
    assert "`int3`" not in said and "at `binary` (+0.8" in said and "1 bit is not shown" in said


WHOLE = [*before("a", *SEEDS), *before("b", *SEEDS)]


def test_one_training_seed_has_no_ratio_at_which_090_is_kept() -> None:
    found = report_data([*ladder("a"), *trained("a"), *ladder("b"), *trained("b")], {})
    assert set(re.findall(r"[\d.]+x", both_ratios(found, found.ways, all_sizes=True))) == set()


def test_without_such_records_there_is_no_section() -> None:
    found = report_data(WHOLE, {})
    assert during_section(found, ["a", "b"], "details.md") == []
    assert "during training" not in both_pages(WHOLE)


def test_the_section_stands_between_the_rungs_and_the_best_methods() -> None:
    records = [*WHOLE, *spread((0.4, 0.7, 1.0), SEEDS)]
    text = "\n".join(headline(report_data(records, {}), "details.md"))
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    at = titles.index("## After training or during training?")
    assert titles[at - 1] == "## What is left at 6 to 3 bits?"
    assert titles[at + 1] == "## The best method at each ratio"
    assert "| a `binary`        | s@0, s@1, s@2 |             0.100 |              0.700 |" in text
    assert "b `binary`" not in text
    details = both_pages(records).split("# Details of the comparison")[1]
    row = next(line for line in details.splitlines() if line.startswith("| a        | `binary`"))
    assert [cell.strip() for cell in row.split("|")[3:7]] == ["3", "3", "27.9x", "29.0x"]


@pytest.mark.parametrize(
    "extra",
    [
        trained("a", "s@0", seeds=(0,)),
        trained("a", "s@0", rung=CONTROL),
        [stored(scored("qat:grid=binary,seed=1", seed, 0.5, 0.5, "a"), 29) for seed in (0, 1)],
        [r.model_copy(update={"status": "diverged", "metrics": {}, "cost": None}) for r in trained("a")],
        [r for at in SEEDS for rung in ("int3", "binary", CONTROL) for r in trained("b", at, 0.5, 0.5, rung)],
    ],
    ids=["one sampling seed", "control alone", "another noise seed", "diverged", "whole"],
)
def test_any_subset_makes_pages(extra: list[Record]) -> None:
    text = both_pages([*WHOLE, *extra])
    assert "nan" not in text.lower() and "None" not in text


def test_all_eight_rungs_in_three_domains_keep_the_page_short() -> None:
    from bench.methods.notation import LADDER

    records = []
    for name in ("image_diffusion", "image_gan", "text"):
        records += before(name, *SEEDS)
        records += [r for at in SEEDS for rung in (*LADDER, CONTROL) for r in trained(name, at, rung=rung)]
    section = "\n".join(
        during_section(report_data(records, {}), ["image_diffusion", "image_gan", "text"], "d.md")
    )
    assert len(section.splitlines()) <= 53 and len(section) < 8000


# --------------------------------------------------------------------------------------------------- pictures


def is_drawn(data: bytes) -> bool:
    """Whether a picture has more than one colour."""
    with Image.open(io.BytesIO(data)) as image:
        return image.format == "PNG" and len(image.convert("RGB").getcolors(1 << 24) or []) > 100


def test_both_ladders_are_drawn() -> None:
    records = [*WHOLE, *spread((0.4, 0.7, 1.0), SEEDS), *spread((0.9, 0.9, 0.9), SEEDS, "int3")]
    (panel,) = picture.panels_of(records)
    after, trained_ = panel.lines
    assert panel.title == "a, size s (3 training seeds)" and len(after.mean["quality"]) == 9
    assert [rung.name for rung in trained_.mean["quality"]] == ["int3", "binary"]
    assert trained_.mean["quality"][1].value == pytest.approx(0.7, abs=0.01)
    assert [len(s.ratios) for s in trained_.singles] == [2, 2, 2] and is_drawn(picture.picture([panel]))
    assert trained_.partly == frozenset()
    (panel,) = picture.panels_of([*records, *trained("a", "s@1", rung="ternary")])
    assert panel.lines[1].partly == {"ternary"} and is_drawn(picture.picture([panel]))
    small = [*before("a", "xs@0"), *trained("a", "xs@0", rung="int2")]
    assert picture.panels_of([*records, *small]) == picture.panels_of(records), "the size with most trainings"
    assert picture.panels_of(WHOLE) == picture.panels_of([]) == []
    dead = [r.model_copy(update={"status": "diverged", "metrics": {}, "cost": None}) for r in trained("a")]
    (panel,) = picture.panels_of([*WHOLE, *dead])
    assert panel.lines[1].mean["quality"][0].ratio == pytest.approx(2**4.8), "the ratio after training"
    assert is_drawn(picture.picture([panel, panel]))


def logged(
    made: list[Record], method: str, level: float, steps: Sequence[int] = (10, 20, 30)
) -> list[Record]:
    log = [{"step": s, "loss": 9.0, "validation_other": 5.0, "validation_bits": level + 1 / s} for s in steps]
    report = TrainingReport(method=method, steps=30, core_seconds=1.0, log=[{"step": 5, "loss": 9.0}, *log])
    return [r.model_copy(update={"method": method, "trainings": [report]}) for r in made]


def test_training_curves_are_bands_over_trainings() -> None:
    records = list(WHOLE)
    for i, at in enumerate(SEEDS):
        records += logged(trained("a", at, rung="ternary"), "qat:grid=ternary", 2.0 + i)
        records += logged(trained("a", at, rung=CONTROL), CONTROL, 1.0)
    records += logged(trained("a", "s@0"), "qat:grid=ternary,seed=1", 9.0, (20, 30, 40))
    records += logged(trained("a", "xs@0"), "qat:grid=ternary", 50.0)
    records += logged(trained("a", "s@0"), "qat:grid=int3", 70.0)
    (panel,) = training_curves.panels_of(records)
    assert (panel.domain, panel.size, panel.figure) == ("a", "s", "bits") and len(panel.bands) == 2
    ternary = panel.bands["qat:grid=ternary"]
    assert ternary.steps.tolist() == [20, 30] and ternary.values.shape == (4, 2), "the steps that all have"
    assert sorted(ternary.values[:, 0]) == pytest.approx([2.05, 3.05, 4.05, 9.05])
    small = logged(trained("a", "xs@0"), CONTROL, 1.0) + logged(trained("a", "xs@0"), "qat:grid=binary", 3.0)
    (other,) = training_curves.panels_of([*records, *small])
    assert other.size == "xs" and [*other.bands] == [*training_curves.KINDS], "three kinds tell more than two"
    assert is_drawn(training_curves.picture([panel])) and is_drawn(training_curves.picture([panel] * 3))
    assert training_curves.panels_of(WHOLE) == training_curves.panels_of([*WHOLE, *trained("a")]) == []
