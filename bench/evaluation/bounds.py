"""Floors and ceilings: the scores of the worst and of the best possible samples, for one model, N and k."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bench.errors import BadInput
from bench.records.provenance import Provenance
from bench.util.files import cache_folder, write_atomically

FLOORS = 5
KEY_FIELDS = (
    "domain",
    "weights_sha256",
    "companions",
    "samples",
    "k",
    "sampler",
    "reference",
    "ceiling_sha256",
    "implementation",
)


class Bounds(BaseModel):
    """The floors and the ceiling of one model.

    Floor i holds the metrics of the network permuted with seed i and sampled with seed i. The ceiling
    compares real samples with others.
    """

    domain: str
    weights_sha256: str
    companions: str
    samples: int
    k: int
    sampler: dict[str, Any]
    reference: str
    ceiling_sha256: str
    implementation: dict[str, int]
    floors: list[dict[str, float]]
    ceiling: dict[str, float]
    provenance: Provenance

    def floor(self, metric: str) -> list[float]:
        """The value of a metric for each permuted network."""
        return [floor[metric] for floor in self.floors]


def bounds_name(key: dict[str, Any]) -> str:
    """A file name that is made of everything that the bounds depend on."""
    return (
        hashlib.sha256(json.dumps({f: key[f] for f in KEY_FIELDS}, sort_keys=True).encode()).hexdigest()[:16]
        + ".json"
    )


def cached_file(key: dict[str, Any], sources: Sequence[str] = ()) -> Path:
    """The file of the user's cache that holds bounds, or will hold them.

    sources: digests of the code of evaluators that are not published.
    """
    folder = cache_folder() / "bounds"
    if sources:
        folder /= hashlib.sha256("".join(sources).encode()).hexdigest()[:16]
    return folder / bounds_name(key)


def find_bounds(
    key: dict[str, Any], shipped: Path | None, make: Callable[[], Bounds], sources: Sequence[str] = ()
) -> Bounds:
    """The bounds that ship with the model, else the cached ones.

    Without either, they are measured and cached. sources: as in `cached_file`.
    """
    cached = cached_file(key, sources)
    for path in (*([] if shipped is None else [shipped / cached.name]), cached):
        found = _read(path)
        if found is not None and {f: getattr(found, f) for f in KEY_FIELDS} == {
            f: key[f] for f in KEY_FIELDS
        }:
            return found
    made = make()
    with suppress(BadInput, OSError):  # a cache that cannot be written only costs time
        write_bounds(made, cached.parent)
    return made


def write_bounds(bounds: Bounds, folder: Path) -> Path:
    """Write the bounds to a folder."""
    path = folder / bounds_name(bounds.model_dump())
    write_atomically(path, bounds.model_dump_json(indent=1) + "\n")
    return path


def _read(path: Path) -> Bounds | None:
    try:
        return Bounds.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
