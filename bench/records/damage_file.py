"""The file of `bench damages --save`: the matrix of damages beside a domain's records,
`<domain>/damages.json`.

It tells what known damages cost real samples. Pictures of retention use them as landmarks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bench.interfaces import Hurts
from bench.records.provenance import Provenance
from bench.records.schema import DAMAGES_FILE, read_whole
from bench.util.files import slug, write_atomically

SCHEMA = 1
Say = Callable[[str], None]


class SavedRow(BaseModel):
    """One damage. Its shares are relative to equally many undamaged real samples, and they may exceed 1."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    hurts: str
    samples: int = Field(gt=0)
    valid: float = Field(ge=0, le=1)
    valid_share: float = Field(ge=0)
    mutual_recall: float = Field(ge=0, le=1)
    mutual_recall_share: float = Field(ge=0)

    @field_validator("hurts")
    @classmethod
    def _known(cls, hurts: str) -> str:
        if hurts not in get_args(Hurts):
            raise ValueError(f"{hurts!r} is none of {', '.join(get_args(Hurts))}")
        return hurts


class DamagesFile(BaseModel):
    """The content of a `damages.json`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    domain: str
    samples: int  # the requested number; damages that keep only some kinds have fewer
    k: int
    reference: str
    evaluators: dict[str, int]  # name -> version
    rows: list[SavedRow] = Field(min_length=1)
    failures: list[str]  # damages that the evaluators did not detect as they should
    provenance: Provenance

    @field_validator("rows")
    @classmethod
    def _one_each(cls, rows: list[SavedRow]) -> list[SavedRow]:
        if len({row.name for row in rows}) < len(rows):
            raise ValueError("a damage has two rows")
        return rows

    def write(self, results: Path) -> Path:
        """Write the file to its place below `results`."""
        path = results / slug(self.domain) / DAMAGES_FILE
        write_atomically(path, self.model_dump_json(indent=1) + "\n")
        return path


def read_damages(results: Path, say: Say | None = None) -> dict[str, DamagesFile]:
    """Domain -> its file. A damaged or foreign file is reported to `say` and skipped. It is never changed."""
    found: dict[str, DamagesFile] = {}
    for path in sorted(results.glob(f"*/{DAMAGES_FILE}")):
        try:
            file = read(path)
            found[file.domain] = file
        except ValueError as error:
            if say is not None:
                say(f"skipped {path}: {error}")
    return found


def read(path: Path) -> DamagesFile:
    """Read a file.

    Raises `ValueError` with one line for a file that is incomplete, of another schema, or in the wrong place.
    """
    file = read_whole(path, DamagesFile, SCHEMA, "no whole file of damages")
    if path.parent.name != slug(file.domain):
        raise ValueError(f"it describes the domain {file.domain!r}, so it is in the wrong folder")
    return file
