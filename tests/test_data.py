"""bench.data: tables from files and folders of the user's, and what is said about bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

from bench.data import load_rows, text_column
from bench.errors import BadInput

TEXTS = ["one", "two, with a comma", "drei ü"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` keeps a copy of what it reads: not in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))


def write_table(path: Path, texts: list[str] = TEXTS) -> Path:
    table = pyarrow.table({"text": texts})
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps([{"text": text} for text in texts]), encoding="utf-8")
    elif path.suffix == ".csv":
        path.write_text("\n".join(["text", *(f'"{text}"' for text in texts)]) + "\n", encoding="utf-8")
    else:
        path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return path


def refusal(source: Path | str, split: str | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        load_rows(source, split)
    message = str(caught.value)
    assert str(source) in message and "\n" not in message
    return message


# --- good sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.json", "a.csv", "a.txt", "A.TXT"])
def test_files(name: str, tmp_path: Path):
    path = write_table(tmp_path / name)
    assert text_column(load_rows(path)) == text_column(load_rows(str(path))) == TEXTS


def test_a_folder_of_files(tmp_path: Path):
    write_table(tmp_path / "train.jsonl")
    write_table(tmp_path / "test.jsonl", ["held out"])
    assert text_column(load_rows(tmp_path)) == TEXTS
    assert text_column(load_rows(tmp_path, split="test")) == ["held out"]


def test_folders_that_datasets_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = Dataset.from_dict({"text": TEXTS})
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict(train=rows, test=Dataset.from_dict({"text": ["held out"]})).save_to_disk(
        str(tmp_path / "two")
    )
    assert text_column(load_rows(tmp_path / "one")) == TEXTS
    assert text_column(load_rows(tmp_path / "two", split="test")) == ["held out"]


def test_a_file_that_changed_is_read_again(tmp_path: Path):
    load_rows(write_table(tmp_path / "a.txt"))
    assert text_column(load_rows(write_table(tmp_path / "a.txt", ["changed"]))) == ["changed"]


def test_the_progress_bars_of_the_user_are_left_as_they_were(tmp_path: Path):
    for set_bars, on in ((datasets.enable_progress_bars, True), (datasets.disable_progress_bars, False)):
        set_bars()
        load_rows(write_table(tmp_path / "a.txt"))
        assert datasets.is_progress_bar_enabled() is on
    datasets.enable_progress_bars()


# --- bad sources --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["missing.parquet", "missing.xyz", "missing"])
def test_what_is_missing_is_named(name: str, tmp_path: Path):
    refusal(tmp_path / name)


ENDINGS = ["parquet", "jsonl", "json", "csv", "txt"]


@pytest.mark.parametrize("ending", ["parquet", "csv", "txt", "jsonl", "json"])
def test_an_empty_file_is_refused(ending: str, tmp_path: Path):
    (tmp_path / f"empty.{ending}").touch()
    refusal(tmp_path / f"empty.{ending}")


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_table_without_rows_is_refused(ending: str, tmp_path: Path):
    refusal(write_table(tmp_path / f"empty.{ending}", []))


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_damaged_file_is_refused(ending: str, tmp_path: Path):
    (tmp_path / f"bad.{ending}").write_bytes(b"\xff\x00\x81PAR1{{{\n\xff")
    refusal(tmp_path / f"bad.{ending}")


def test_an_unknown_ending_is_refused_with_the_known_ones(tmp_path: Path):
    (tmp_path / "a.xyz").write_text("text", encoding="utf-8")
    message = refusal(tmp_path / "a.xyz")
    assert all(ending in message for ending in (".parquet", ".jsonl", ".csv", ".txt"))


def test_folders_without_data_are_refused(tmp_path: Path):
    refusal(tmp_path)


def test_a_missing_split_is_refused_with_those_there_are(tmp_path: Path):
    write_table(tmp_path / "train.jsonl")
    assert "no split 'test'; it has: train" in refusal(tmp_path, split="test")


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path):
    assert text_column(load_rows(write_table(tmp_path / "draft[1].jsonl"))) == TEXTS


# --- columns ------------------------------------------------------------------------------------------


def test_a_row_without_text_is_named(tmp_path: Path):
    (path := tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": null}\n', encoding="utf-8")
    with pytest.raises(BadInput, match=r"a\.jsonl row 1 holds no text"):
        text_column(load_rows(path), path)


def test_the_column_of_texts():
    assert text_column(Dataset.from_dict({"id": [1], "text": ["a"], "title": ["b"]})) == ["a"]
    assert text_column(Dataset.from_dict({"id": [1], "verse": ["a"]})) == ["a"]  # the only strings
    for columns in ({"id": [1]}, {"verse": ["a"], "title": ["b"]}):
        with pytest.raises(
            BadInput, match=f"here needs a column 'text'; its columns are: {', '.join(columns)}"
        ):
            text_column(Dataset.from_dict(columns), "here")
