"""Translates a user's request into cells, and finds those that are finished."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput, blamed
from bench.records.schema import FINISHED, Record, read_record
from bench.util.files import slug

if TYPE_CHECKING:
    from bench.interfaces import Domain

SAMPLES = 2000  # of a cell, where the domain has as many real ones
FLOOR_RECALIBRATED = "floor recalibrate"  # among a cell's versions where the network has running statistics


@dataclass(frozen=True)
class Cell:
    """One measurement. It holds everything that the numbers depend on, so its hash identifies them."""

    domain: str
    model: str
    train_seed: int | None
    weights_sha256: str
    companions: str  # hash of what samples depend on beside tensors: configuration, tokenizer
    method: str
    sample_seed: int
    samples: int
    k: int
    sampler: Mapping[str, Any]
    reference: str
    implementation: Mapping[str, int]

    @property
    def hash(self) -> str:
        """SHA-256 of the content. It includes the model's weights, but not its name."""
        content = {name: value for name, value in vars(self).items() if name not in ("model", "train_seed")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def folder(self, results: Path) -> Path:
        """The folder of the cell's record."""
        return results / slug(self.domain) / slug(self.model) / slug(self.method)


def cells(
    template: Cell, methods: Sequence[str], seeds: Sequence[int], versions: Mapping[str, Mapping[str, int]]
) -> list[Cell]:
    """The cells in the order in which they run.

    For every seed the baseline is first, since all others are compared with it.
    """
    wanted = ["none", *(m for m in methods if m != "none")]
    return [
        dataclasses.replace(
            template,
            method=method,
            sample_seed=seed,
            implementation={**template.implementation, **versions[method]},
        )
        for seed in dict.fromkeys(seeds)
        for method in wanted
    ]


def look_up(cell: Cell, results: Path) -> tuple[Record | None, Path]:
    """Find the record of a cell -> (the record or None, the file that holds it or will hold it).

    A file of that name that is damaged or belongs to another cell is never overwritten. The next free name is
    taken.
    """
    for number in itertools.count():
        path = cell.folder(results) / f"{cell.hash[:16]}{f'-{number}' if number else ''}.json"
        if not path.exists():
            return None, path
        try:
            record = read_record(path)
        except ValueError:
            continue
        if record.cell == cell.hash and cell_of(record) == cell:
            return record, path
    raise AssertionError("unreachable")


def cell_of(record: Record) -> Cell:
    """The cell that a record belongs to."""
    return Cell(**{field.name: getattr(record, field.name) for field in dataclasses.fields(Cell)})


def is_finished(record: Record | None) -> bool:
    """Whether the record's cell does not need to be measured again."""
    return record is not None and record.status in FINISHED


def sample_count(asked: int | None, domain: Domain, reference: str | None = None, most: int = SAMPLES) -> int:
    """What the user asked for; else `most`, or as many as there are real ones."""
    if asked is not None:
        return asked
    with blamed(f"domain {domain.name!r}, reference"):
        return min(most, *(len(domain.reference(split, reference)) for split in ("test", "ceiling")))


def check_samples(n: int, k: int, available: int) -> None:
    """Raises `BadInput` when `n` samples are too few for k neighbours or more than the reference holds."""
    if not k + 1 < n <= available:
        remedy = f"; for example --samples {available}" if n > available > k + 1 else ""
        raise BadInput(
            f"samples={n} is not possible: allowed are {k + 2} (k = {k} neighbours) to {available} (the "
            f"reference's size){remedy}"
        )
