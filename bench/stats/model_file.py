"""The schema and the reader of `<domain>/<model>/model.json`, which describes what a model's records do not
hold.

Floats are rounded to six significant digits, so equal records and weights give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from bench.metrics.anatomy import Anatomy
from bench.records.schema import MODEL_FILE, Record, read_whole
from bench.stats.ladder import comparable, grouped
from bench.stats.survivors import Bins, Survival, Transition
from bench.util.files import slug

Say = Callable[[str], None]
SCHEMA = 1
DIGITS = 6  # significant ones, of every float in the file


class Step(BaseModel):
    """Two neighbouring rungs of the ladder."""

    milder: str
    harsher: str
    table: Transition


class ModelFile(BaseModel):
    """The content of a `model.json`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    domain: str
    model: str
    kind_of_data: str = ""  # as the domain declares them; empty in older files
    kind_of_network: str = ""
    weights_sha256: str
    anatomy: Anatomy
    samples: int  # a seed
    k: int
    sample_seeds: list[int]
    sampler: dict[str, Any]
    reference: str
    records: int
    records_sha256: str  # of the cells and flags; another digest means that the file is out of date
    covariates: dict[str, Bins]  # of the baseline's valid samples
    survival: dict[str, Survival]  # by method
    ladder: list[Step]

    @model_validator(mode="after")
    def _fits_together(self) -> ModelFile:
        """Raises an error unless every analysed method has a share for every bin of every covariate."""
        bins = {name: len(bins) for name, bins in self.covariates.items()}
        for method, found in self.survival.items():
            if found.by is not None and {name: len(by.survival) for name, by in found.by.items()} != bins:
                raise ValueError(f"survival of {method!r} does not fit the covariates' bins")
        return self

    def text(self) -> str:
        """The file as JSON, with the innermost lists and objects on one line each."""
        spread = json.dumps(
            rounded(self.model_dump(mode="json")), indent=1, ensure_ascii=False, allow_nan=False
        )
        return re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda found: re.sub(r"\n\s*", " ", found[0]), spread) + "\n"

    def belongs_at(self, path: Path) -> bool:
        """Whether a file of this model is looked for at this path."""
        return path.parts[-3:] == (slug(self.domain), slug(self.model), MODEL_FILE)


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """Round floats to `digits` significant digits, at any depth of lists and objects."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {name: rounded(entry, digits) for name, entry in value.items()}
    return [rounded(entry, digits) for entry in value] if isinstance(value, list | tuple) else value


def read_models(results: Path, warn: Say | None = None) -> dict[tuple[str, str], ModelFile]:
    """(domain, model) -> its file.

    A damaged or foreign file is reported to `warn` and skipped. It is never changed.
    """
    found: dict[tuple[str, str], ModelFile] = {}
    for path in sorted(results.glob(f"*/*/{MODEL_FILE}")):
        try:
            file = _read(path)
            found[file.domain, file.model] = file
        except ValueError as error:
            if warn is not None:
                warn(f"skipped {path}: {error}")
    return found


def records_digest(records: Sequence[Record]) -> str:
    """SHA-256 of the cells and of the outcome of each twin."""
    return hashlib.sha256("\n".join(sorted(map(_digest_line, records))).encode()).hexdigest()


def _digest_line(record: Record) -> str:
    return json.dumps(
        [record.cell, record.status, {name: record.items[name].bits for name in sorted(record.items)}]
    )


def out_of_date(
    files: Mapping[tuple[str, str], ModelFile], records: Sequence[Record]
) -> list[tuple[str, str]]:
    """The models whose file was made from other records than these."""
    groups = grouped(records, lambda r: (r.domain, r.model))
    return [
        model
        for model, group in groups
        if model in files and files[model].records_sha256 != records_digest(comparable(group))
    ]


def _read(path: Path) -> ModelFile:
    """Read a file.

    Raises `ValueError` with one line if it is incomplete, of another schema, or in the wrong place.
    """
    file = read_whole(path, ModelFile, SCHEMA, "not a whole description")
    if not file.belongs_at(path):
        raise ValueError(f"it describes {file.domain} {file.model}, so it is in the wrong folder")
    return file
