"""Text files are UTF-8 on every machine: no call leaves the encoding to the locale."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("bench", "domains", "scripts", "examples", "tests")
TEXT_MODES = ("r", "w", "a", "x", "r+", "w+", "a+", "rt", "wt", "at")


def by_locale(source: str) -> Iterator[ast.Call]:
    """Calls that read or write text in the encoding of the locale."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg in ("encoding", None) for k in node.keywords):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
        values = [getattr(value, "value", None) for value in node.args]
        if name in ("read_text", "write_text"):
            if len(values) == (name == "write_text"):  # the encoding may be given by position, too
                yield node
        elif name in ("open", "fdopen"):
            mode = given.get("mode", next((value for value in values if value in TEXT_MODES), None))
            if mode in TEXT_MODES or (
                isinstance(node.func, ast.Name) and len(values) == 1 and "mode" not in given
            ):
                yield node
        elif given.get("text") is True or given.get("universal_newlines") is True:
            yield node


def test_every_text_file_names_its_encoding() -> None:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in paths
        for call in by_locale(path.read_text(encoding="utf-8"))
    ]
    assert found == []
    assert len(paths) > 200, "the sources were not found"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("path.read_text()", 1),
        ("path.write_text(text)", 1),
        ("path.write_text(text, encoding='utf-8')", 0),
        ("path.read_text('utf-8')", 0),
        ("open(path)", 1),
        ("open(path, 'w')", 1),
        ("path.open(mode='a')", 1),
        ("open(path, 'rb')", 0),
        ("domain.open(spec)", 0),
        ("subprocess.run(command, text=True)", 1),
        ("subprocess.run(command)", 0),
    ],
)
def test_planted_calls_are_found(source: str, found: int) -> None:
    assert len(list(by_locale(source))) == found


def test_a_locale_without_encoding_changes_nothing(tmp_path: Path) -> None:
    """Texts of a user come back as they were where the locale knows ASCII alone."""
    (tmp_path / "own.jsonl").write_text('{"text": "d\u00fc \u4e2d"}\n', encoding="utf-8")
    (tmp_path / "card.json").write_text('{"description": "d\u00fc"}', encoding="utf-8")
    code = f"""
import sys
from pathlib import Path
from domains.folders import card_of
from domains.text.adapter import TextDomain
folder, domain = Path({str(tmp_path)!r}), TextDomain()
texts = domain.read_samples(folder / "own.jsonl")
domain.write_samples(texts, folder / "copy")
domain.show({{"none": texts}}, folder / "twins")
assert domain.read_samples(folder / "copy.jsonl") == texts == ["d\\u00fc \\u4e2d"]
assert card_of(folder)["description"] == "d\\u00fc" and sys.getfilesystemencoding() == "ascii"
"""
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "twins.txt").read_text(encoding="utf-8") == "none | d\u00fc \u4e2d\n"
