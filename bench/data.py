"""Reads real data (a file, a folder or a hub id, through `datasets`), conditions, and lines of JSON."""

from __future__ import annotations

import glob
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BadInput
from bench.interfaces import Conditions

if TYPE_CHECKING:
    from datasets import Dataset

BUILDERS = {
    ".parquet": "parquet",
    ".jsonl": "json",
    ".json": "json",
    ".csv": "csv",
    ".txt": "text",
    ".arrow": "arrow",
}


def load_rows(source: str | Path, split: str | None = None) -> Dataset:
    """Read one table of real data.

    `source` is a file (its suffix names the format), a folder that `datasets` can read (data files, or a
    `save_to_disk` folder), or a hub id such as `wikitext`. `split` picks one split where the source has
    several; without it, a source with several splits is read at `train`.

    Raises `BadInput` when the file has an unknown suffix, cannot be read, is empty, or the split is missing.
    """
    import datasets

    path = Path(source)
    with quiet_progress():
        try:
            if path.is_file():
                return _non_empty(_load_file(path), source)
            if path.is_dir() and (path / "state.json").exists():
                return _non_empty(datasets.load_from_disk(str(path)), source)
            if path.suffix.lower() in BUILDERS:
                raise BadInput(f"cannot read the data at {str(source)!r}: there is no such file")
            loaded = datasets.load_dataset(str(source))
        except BadInput:
            raise
        except (OSError, ValueError, StopIteration, datasets.exceptions.DatasetGenerationError) as error:
            raise BadInput(f"cannot read the data at {str(source)!r}: {_reason(error)}") from None
    name = split or ("train" if "train" in loaded else next(iter(loaded)))
    if name not in loaded:
        raise BadInput(f"{str(source)!r} has no split {name!r}; it has: {', '.join(loaded)}")
    return _non_empty(loaded[name], source)


def text_column(rows: Dataset, source: object = "the data") -> list[str]:
    """The column `text` of a table, or its only column of strings."""
    strings = [
        name
        for name, feature in rows.features.items()
        if getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    column = "text" if "text" in strings else strings[0] if len(strings) == 1 else None
    if column is None:
        raise BadInput(f"{source} needs a column 'text'; its columns are: {', '.join(rows.column_names)}")
    found = list(rows[column][:])  # a slice is read at once, single items one by one
    if None in found:
        raise BadInput(f"{source} row {found.index(None)} holds no text")
    return found


def image_column(rows: Dataset, source: object = "the data") -> list[bytes]:
    """The bytes of the files in the column `image` of a table, or in its only column of images."""
    import datasets

    images = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    column = "image" if "image" in images else images[0] if len(images) == 1 else None
    if column is None:
        raise BadInput(
            f"{source} needs a column 'image' of images; its columns are: {', '.join(rows.column_names)}"
        )
    undecoded = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    # a path beside it could name any file of this machine
    found = [row and row["bytes"] for row in undecoded[column]]
    for number, data in enumerate(found):
        if data is None:
            raise BadInput(f"{source} row {number} holds no picture (only embedded ones are read)")
    return found


def read_conditions(prompts: Path | None, labels: Path | None) -> Conditions | None:
    """What the user named with --prompts or --labels; None where it is neither.

    Lines of white space do not count. Raises `BadInput` for a file that holds no conditions.
    """
    if prompts is not None and labels is not None:
        raise BadInput(f"--prompts {str(prompts)!r} and --labels {str(labels)!r} cannot be used together")
    path = prompts or labels
    if path is None:
        return None
    lines = text_lines(path, "conditions")
    if prompts is None:
        texts = [line.strip() for line in lines if line.strip()]
    elif path.suffix == ".jsonl":
        texts = json_strings(lines, "prompt", path)
    else:
        texts = [line for line in lines if line.strip()]
    if not texts:
        raise BadInput(f"{str(path)!r} holds no {'prompt' if prompts else 'label'}")
    return Conditions("prompts" if prompts else "labels", tuple(texts), path.name)


def text_lines(path: Path, what: str) -> list[str]:
    """The lines of a UTF-8 file that should hold `what`. Raises `BadInput` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"cannot read {what} from {str(path)!r}: {reason}") from None


def json_strings(lines: Sequence[str], field: str, path: Path) -> list[str]:
    """The string in a field of each line, which is a JSON object. Lines of white space do not count.

    Raises `BadInput` for the first line that holds none.
    """
    return [_string_in(line, field, number, path) for number, line in enumerate(lines, 1) if line.strip()]


def _string_in(line: str, field: str, number: int, path: Path) -> str:
    try:
        text = json.loads(line)[field]
        text.encode()  # a lone surrogate is no text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise BadInput(f'{str(path)!r} line {number} is not {{"{field}": "..."}}: {line[:60]!r}')
    return text


def _load_file(path: Path) -> Dataset:
    import datasets

    builder = BUILDERS.get(path.suffix.lower())
    if builder is None:
        raise BadInput(f"cannot tell the format of {str(path)!r}; known endings: {', '.join(BUILDERS)}")
    return datasets.load_dataset(builder, data_files=glob.escape(str(path)), split="train")


def _reason(error: BaseException) -> str:
    """The cause of an error in one line. `datasets` hides the reader's own message behind a general one."""
    lines = str(error.__cause__ or error).splitlines()
    return lines[0] if lines else "it is empty"


def _non_empty(rows: Dataset, source: object) -> Dataset:
    if not len(rows):
        raise BadInput(f"{str(source)!r} holds no rows")
    return rows


class quiet_progress:
    """Switch off the progress bars of `datasets` for small local files."""

    def __enter__(self) -> None:
        import datasets

        self.were_on = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()

    def __exit__(self, *_: object) -> None:
        import datasets

        if self.were_on:
            datasets.enable_progress_bars()
