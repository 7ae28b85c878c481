"""What pages and lists say of plug-ins: metrics of the user's, domains that are not installed, dashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import ladder
from test_author_mistakes import N, Toy, own
from test_leaderboard import all_pages, record

from bench.cli.main import main
from bench.errors import BadInput
from bench.interfaces import TRAINED, Metric, ModelSpec
from bench.metrics.custom import load_metric
from bench.records.schema import MetricInfo, Record, read_records
from bench.registry import DOMAINS, METHODS
from bench.report import listing
from bench.report.headline import without_score
from bench.report.report_data import report_data
from bench.report.run_table import comparison

__all__ = ["own"]  # a fixture


def spread(generated: Any, real: Any) -> float:
    return float(np.std(generated.samples))


def test_a_named_metric_has_a_column_and_stands_in_the_command(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beside records without it, under a heading of its own."""
    named = Metric("spread", "the standard deviation", "lower", compute=spread)
    monkeypatch.setattr(Toy, "optional_metric", lambda self, name, device: named)
    run = ["run", "--domain", "toy", "--method", "none", "--samples", str(N), "--results", str(own / "mine")]
    assert main(run) == main([*run, "--metric", "./a spread"]) == 0
    (with_it,) = (r for r in read_records(own / "mine") if "spread" in r.metrics)
    assert with_it.metric_info["spread"].option == "./a spread"
    text = (own / "mine/leaderboard.md").read_text(encoding="utf-8")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    plain, named_too = sorted(headings)
    assert (plain, named_too) == ("## toy · own", "## toy · own, with `spread`")
    assert "spread ↓" in text.partition(named_too + "\n")[2].partition("## ")[0]
    again = f"--domain toy --model own --samples {N} --method none --seed 0 --metric './a spread'"
    assert again in (own / "mine/toy/own/README.md").read_text(encoding="utf-8")
    capsys.readouterr()
    assert main(["show", with_it.cell[:16], "--results", str(own / "mine")]) == 0
    assert again in capsys.readouterr().out


def described(made: Record) -> Record:
    info = {"loss": MetricInfo(description="the loss", direction="lower", headline=True)}
    return made.model_copy(update={"metric_info": info})


@pytest.mark.parametrize("name", ["accuracy", "accuracy.txt"])
def test_a_file_that_is_no_script_never_asks_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate` would load a metric of the hub by that name, and run its code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("1", encoding="utf-8")
    with pytest.raises(BadInput, match="is not a script, nor a folder"):
        load_metric(name)


def test_columns_do_not_depend_on_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "elsewhere" not in DOMAINS
    new, old = described(record("int8", 0, loss=0.5)), record("int8", 0, loss=0.5, quality_u=1.0, intact=1.0)
    absent = all_pages([new], tmp_path)
    assert absent.count(" loss ↓ |") == 3  # the leaderboard, the first table and the details of the model
    assert all_pages([old], tmp_path).count(" loss |") == 1, "an older record has no direction"
    monkeypatch.setitem(DOMAINS._targets, "elsewhere", "no_such_module:Domain")
    assert all_pages([new], tmp_path) == absent
    assert all_pages([old], tmp_path).count(" loss |") == 1


def test_the_leaderboard_is_written_beside_the_records_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("results", "results/local", "other"):
        made = record("int8" if folder == "other" else "int4", 0, quality_retention=0.5)
        made.write(Path(folder, "elsewhere/s@0", made.method, f"{made.cell[:16]}.json"))
    pages = {
        name: Path(name)
        for name in ("leaderboard.md", "results/local/leaderboard.md", "other/leaderboard.md")
    }

    def written(*options: str) -> list[str]:
        for page in pages.values():
            page.unlink(missing_ok=True)
        assert main(["leaderboard", *options]) == 0
        return [name for name, page in pages.items() if page.is_file()]

    assert written() == written("--results", str(tmp_path / "results")) == ["leaderboard.md"]
    assert written("--local") == ["results/local/leaderboard.md"]
    assert written("--results", "other") == ["other/leaderboard.md"]
    assert written("--local", "--results", "other") == ["other/leaderboard.md"]
    assert "`int8`" in pages["other/leaderboard.md"].read_text(encoding="utf-8")
    assert written("--results", "other", "--output", "leaderboard.md") == ["leaderboard.md"]


def test_a_page_says_why_there_is_no_c_and_no_retention(tmp_path: Path) -> None:
    text = all_pages([record("int8", 0, quality_valid=0.1, quality_retention=None)], tmp_path)
    assert "No C: no rung of the ladder was measured with its baseline" in text
    assert text.count("`-` for quality: the uncompressed network is too close to the floor") == 2
    few = [r for r in ladder("a") if r.method in ("none", "int8")]
    assert "No C: rungs not measured: int6, int5, int4, int3, int2, ternary, binary." in all_pages(
        few, tmp_path
    )
    whole = all_pages(ladder("a", quality=0.9), tmp_path)
    assert "C of this model: quality 0." in whole and "too close to the floor" not in whole
    found = report_data([*ladder("a"), *(r.model_copy(update={"domain": "b"}) for r in few)], {})
    (said,) = without_score(found)
    assert said.startswith("- b has no C: s@0: rungs not measured: int6")


def test_the_table_of_a_run_says_why_it_shows_a_dash() -> None:
    made = record("int8", 0, quality_valid=0.1, quality_retention=None, diversity_retention=0.5)
    assert "`-` for quality: the uncompressed network is too close" in comparison([made], [])
    assert "published" not in comparison([made], []), "a model of the user's has no column for it"
    assert "published" in comparison([made], [made])
    assert "too close" not in comparison([record("int8", 0, quality_valid=0.1, quality_retention=0.5)], [])


def test_a_folder_that_train_wrote_is_a_model(tmp_path: Path) -> None:
    domain = DOMAINS.load("toy")()
    with pytest.raises(BadInput, match="unknown model"):
        domain.locate(str(tmp_path))
    (tmp_path / TRAINED).touch()
    assert domain.locate(str(tmp_path)) == ModelSpec(str(tmp_path), str(tmp_path))


def test_the_description_of_a_plug_ins_method_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS._targets, "mine", f"{__name__}:Mine")
    monkeypatch.setitem(METHODS._targets, "gone", "no_such_module:Method")
    lines = {line.split()[0]: line for line in listing.methods()}
    assert lines["mine"].split(maxsplit=1)[1] == "a method of mine"
    assert "broken: method 'gone' (no_such_module:Method) cannot be imported" in lines["gone"]


def test_a_domain_with_a_broken_metric_is_listed_with_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "metrics", lambda self: {}["spread"])
    (line,) = (line for line in listing.metrics() if line.startswith("toy "))
    assert "broken: metrics of domain 'toy': KeyError: 'spread' (test_named_metrics.py" in line


class Mine:
    name, description = "mine", "a method of mine"
