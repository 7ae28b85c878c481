"""From what the user asked to the cells that are left to do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.files import slug
from bench.record import FINISHED, Record, read_record

K = 5  # nearest neighbours that make a ball
SCALE = 1  # version of the shared metrics: validity, mutual recall, survival, retention


@dataclass(frozen=True)
class Cell:
    """One measurement. Everything that its numbers depend on is here, so its hash names them."""

    domain: str
    model: str
    train_seed: int | None
    weights_sha256: str
    method: str
    sample_seed: int
    samples: int
    k: int
    sampler: Mapping[str, Any]
    reference: str
    implementation: Mapping[str, int]

    @property
    def hash(self) -> str:
        """SHA-256 of the content; the model's name is left out, its weights are in."""
        content = {name: value for name, value in vars(self).items() if name not in ("model", "train_seed")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def path(self, results: Path) -> Path:
        return results / slug(self.domain) / slug(self.model) / slug(self.method) / f"{self.hash[:16]}.json"


def cells(template: Cell, methods: Sequence[str], seeds: Sequence[int], versions: Mapping[str, Mapping[str, int]]) -> list[Cell]:
    """The cells in the order they run: for every seed the baseline first, since all others are compared with it."""
    import dataclasses

    wanted = ["none", *(m for m in methods if m != "none")]
    return [
        dataclasses.replace(template, method=method, sample_seed=seed, implementation={**template.implementation, **versions[method]})
        for seed in dict.fromkeys(seeds)
        for method in wanted
    ]


def finished(cell: Cell, results: Path) -> Record | None:
    """The whole record of this very cell, if it is there and needs no second try."""
    path = cell.path(results)
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except ValueError:
        return None  # damaged: it is measured again, under another name if this one cannot be replaced
    return record if record.cell == cell.hash and record.status in FINISHED else None


def check_samples(n: int, k: int, available: int) -> None:
    """Raises `BadInput` when `n` samples are too few for k neighbours or more than the reference holds."""
    if not k + 1 < n <= available:
        raise BadInput(f"samples={n} is not possible: allowed are {k + 2} (k = {k} neighbours) to {available} (the reference's size)")
