"""`bench damages --save`: the matrix of damages as a file beside a domain's records, `<domain>/damages.json`.

What known damages cost real samples is the scale on which a picture of retention can be read: these are its landmarks.
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
    """One damage; shares are of what as many undamaged real samples score, and may exceed 1."""

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
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    domain: str
    samples: int  # asked for; a damage that keeps only some kinds leaves fewer
    k: int
    reference: str
    evaluators: dict[str, int]  # name -> version
    rows: list[SavedRow] = Field(min_length=1)
    failures: list[str]  # damages that the evaluators did not see as they should
    provenance: Provenance

    @field_validator("rows")
    @classmethod
    def _one_each(cls, rows: list[SavedRow]) -> list[SavedRow]:
        if len({row.name for row in rows}) < len(rows):
            raise ValueError("a damage has two rows")
        return rows

    def write(self, results: Path) -> Path:
        path = results / slug(self.domain) / DAMAGES_FILE
        write_atomically(path, self.model_dump_json(indent=1) + "\n")
        return path


def read_damages(results: Path, say: Say | None = None) -> dict[str, DamagesFile]:
    """domain -> its file. A damaged or foreign one is named to `say` and skipped, never touched."""
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
    """Raises `ValueError` with one line when the file is not a whole one of this schema, or lies in the wrong place."""
    file = read_whole(path, DamagesFile, SCHEMA, "no whole file of damages")
    if path.parent.name != slug(file.domain):
        raise ValueError(f"it is of the domain {file.domain!r}, which is not looked for here")
    return file
