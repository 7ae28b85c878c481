"""Records of `bench edge`: one network in one runtime and precision, on one machine.

They lie in `<results>/edge/<domain>/<model>/<method>/`. Times belong to a machine, so every record holds
ratios to candidates of the same run. Only ratios are compared between machines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.records.provenance import Provenance
from bench.records.schema import Status, read_whole
from bench.registry import EDGE_FOLDER
from bench.util.files import slug, write_atomically

SCHEMA = 1
EAGER, FP32, DENSE = "eager fp32", "same runtime fp32", "same runtime uncompressed"  # what a ratio is to
RATIO_TOLERANCE = 1.5  # another machine's ratio agrees within this factor
FINISHED: tuple[Status, ...] = ("ok", "collapsed", "diverged", "unsupported")


class BatchTimes(BaseModel):
    """Times at one batch size. All are medians over the rounds unless they say otherwise."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    batch: int = Field(gt=0)
    seconds_per_sample: float = Field(gt=0)  # of the whole sampler: noise, network, scheduler
    seconds_per_sample_p95: float = Field(gt=0)
    network_seconds_per_sample: float = Field(ge=0)  # within the calls of the network
    samples_per_second: float = Field(gt=0)
    calls: float = Field(gt=0)  # of the network for one batch
    first_call_seconds: float = Field(gt=0)  # until the end of the first call; text: time to the first token
    rows_per_second: float = Field(gt=0)  # rows of the network's calls; text: tokens
    joules_per_sample: float | None = None
    faster: dict[str, float] = {}  # than what, of the same run -> how many times; median over paired rounds
    network_faster: dict[str, float] = {}  # the same of the network's calls alone


class EdgeRecord(BaseModel):
    """What one candidate costs, and what its samples are worth."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA
    key: str  # SHA-256 of what was measured (`key_of`)
    run: str  # candidates of the same run were timed in turns
    domain: str
    model: str
    weights_sha256: str
    method: str
    runtime: str
    precision: str
    runtime_versions: dict[str, str]
    threads: int = Field(gt=0)
    rounds: int = Field(gt=0)
    samples: int = Field(gt=0)
    batch_sizes: list[int] = Field(min_length=1)
    processor: str
    instructions: list[str]  # of the processor: without VNNI or its like, whole numbers gain little
    status: Status
    reason: str | None
    file_bytes: int | None = None  # of the runtime's own files
    startup_seconds: float | None = None  # a fresh process: import the runtime, load, first call
    peak_memory_bytes: int | None = None  # of that process, at the smallest batch
    bare_memory_bytes: int | None = None  # of that process before the runtime was imported
    energy_missing: str | None = None  # why there are no joules
    layers: dict[
        str, int
    ] = {}  # precision -> layers that are computed in it; empty: the runtime does not tell
    float_layers: list[str] = []  # of a candidate in whole numbers
    difference: float | None = None  # largest, to eager float32; 1: the largest output
    metrics: dict[str, float | None] = {}
    times: list[BatchTimes] = []
    provenance: Provenance

    @model_validator(mode="after")
    def _complete(self) -> EdgeRecord:
        if self.status in ("ok", "collapsed") and [one.batch for one in self.times] != self.batch_sizes:
            raise ValueError("a measured candidate lacks the times of a batch size")
        if self.status not in ("ok", "collapsed") and not self.reason:
            raise ValueError(f"status {self.status} needs a reason")
        return self

    @property
    def candidate(self) -> tuple[str, str, str, str, str]:
        """What was measured, however often: domain, model, method, runtime, precision."""
        return self.domain, self.model, self.method, self.runtime, self.precision

    def path(self, results: Path) -> Path:
        """Where the record belongs."""
        parts = (slug(self.domain), slug(self.model), slug(self.method))
        name = f"{slug(f'{self.runtime}-{self.precision}')}-{self.key[:12]}.json"
        return results.joinpath(EDGE_FOLDER, *parts, name)

    def write(self, results: Path) -> Path:
        """Write the record atomically -> its path."""
        path = self.path(results)
        write_atomically(path, self.model_dump_json(indent=1) + "\n")
        return path

    def at(self, batch: int) -> BatchTimes | None:
        """The times of one batch size."""
        return next((one for one in self.times if one.batch == batch), None)


def key_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of all that a candidate's numbers depend on."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_edge_record(path: Path) -> EdgeRecord:
    """Read a record. Raises `ValueError` with one line for any other file."""
    return read_whole(path, EdgeRecord, SCHEMA, "not a whole record of bench edge")


def read_edge(results: Path, say: Callable[[str], None] | None = None) -> list[EdgeRecord]:
    """All records below `<results>/edge`, in a stable order. Other files are reported to `say`."""
    found = []
    for path in sorted((results / EDGE_FOLDER).rglob("*.json")):
        try:
            record = read_edge_record(path)
            if record.path(results) != path:
                raise ValueError("it is in the wrong place")
            found.append(record)
        except ValueError as error:
            if say is not None:
                say(f"skipped {path}: {error}")
    return found


def by(
    records: Sequence[EdgeRecord], key: Callable[[EdgeRecord], tuple[str, ...]]
) -> dict[tuple[str, ...], list[EdgeRecord]]:
    """Key -> its records, in the order in which they come."""
    found: dict[tuple[str, ...], list[EdgeRecord]] = {}
    for record in records:
        found.setdefault(key(record), []).append(record)
    return found


# ------------------------------------------------------------------------------------------ ratios, not times


def faster(reference: Sequence[float], own: Sequence[float]) -> float:
    """How many times faster than the reference, as the median over paired rounds."""
    return median(before / now for before, now in zip(reference, own, strict=True))


def ratio_disagreements(
    again: EdgeRecord, published: EdgeRecord, tolerance: float = RATIO_TOLERANCE
) -> list[str]:
    """Why a repetition does not agree with a published record; empty: it agrees.

    Ratios and sizes are compared, never times.
    """
    if again.candidate != published.candidate:
        return ["they measure different candidates"]
    if again.status != published.status:
        return [f"status {published.status} published, {again.status} here"]
    found = []
    for before in published.times:
        now = again.at(before.batch)
        for to, ratio in before.faster.items():
            other = None if now is None else now.faster.get(to)
            if other is None or not 1 / tolerance <= other / ratio <= tolerance:
                shown = "-" if other is None else f"{other:.2f}x"
                said = f"batch {before.batch}: {ratio:.2f}x the speed of {to} published, {shown} here"
                found.append(said)
    return found
