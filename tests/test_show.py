"""`show` finds a record by the beginning of its cell's name, and says how to repeat it."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_leaderboard import record

from bench.cli.main import main
from bench.errors import BadInput
from bench.records.schema import Record
from bench.report.show import find, text_of


def stored(folder: Path, cell: str, method: str = "int4") -> Record:
    made = record(method, 3, quality_retention=0.5).model_copy(update={"cell": cell})
    made.write(folder / "elsewhere" / "s@0" / method / f"{cell[:16]}.json")
    return made


def test_a_record_is_found_by_the_beginning_of_its_name(tmp_path: Path) -> None:
    wanted, _ = stored(tmp_path, "abcd" + "0" * 60), stored(tmp_path, "abce" + "0" * 60)
    assert find("ABCD", [tmp_path / "none", tmp_path], print) == wanted


@pytest.mark.parametrize(
    ("cell", "said"),
    [("abc", "at least 4"), ("abcg", "0-9 and a-f"), ("ffff", "no record"), ("abcd", "abcd0")],
)
def test_what_cannot_be_found_is_said(tmp_path: Path, cell: str, said: str) -> None:
    stored(tmp_path, "abcd0" + "0" * 59)
    stored(tmp_path, "abcd1" + "0" * 59)
    with pytest.raises(BadInput, match=said):
        find(cell, [tmp_path], print)


def test_the_text_holds_the_facts_and_the_command(tmp_path: Path) -> None:
    text = text_of(stored(tmp_path, "abcd" + "0" * 60))
    assert "python -m bench run --domain elsewhere --model s@0 --samples 100 --method int4 --seed 3" in text
    assert "quality_retention" in text and "0.5" in text and "abcdef0123456789" in text


def test_the_command_prints_text_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = stored(tmp_path, "abcd" + "0" * 60)
    assert main(["show", "abcd", "--results", str(tmp_path)]) == 0
    assert "repeat" in capsys.readouterr().out
    assert main(["show", "abcd", "--results", str(tmp_path), "--json"]) == 0
    assert Record.model_validate_json(capsys.readouterr().out) == wanted
    assert main(["show", "zzzz", "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
