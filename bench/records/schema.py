"""Records: the results of one cell as one JSON file, its schema, and readers that check what they read."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.interfaces import Direction
from bench.records.provenance import Provenance
from bench.registry import NO_DOMAINS
from bench.util.files import slug, write_atomically

SCHEMA = 2  # 1: sizes of the first file format, no counts; `bench costs` brings such records up to date
Versioned = TypeVar("Versioned", bound=BaseModel)
Status = Literal["ok", "diverged", "collapsed", "unsupported", "failed"]
FINISHED: tuple[Status, ...] = ("ok", "diverged", "collapsed")
# role -> a mean over items
PRIMARY_METRIC = {"quality": "valid", "diversity": "mutual_recall", "use": "utility"}
USE = "use"  # the role of a task
MODEL_FILE, DAMAGES_FILE = "model.json", "damages.json"  # files beside the records: of a model, of a domain
CONDITIONS = "conditions"  # among the sampler's settings: `bench.interfaces.Conditions.settings`
SEED_OF_TWINS = "twins-seed.txt"  # the sampling seed of the samples in the file of twins beside it


def metric_of(role: str) -> str:
    """The full name of a role's primary metric, such as `quality_valid`."""
    return f"{role}_{PRIMARY_METRIC[role]}"


class Items(BaseModel):
    """One flag per item, bit-packed. Statistics can be computed from it without the samples."""

    count: int
    bits: str  # base64 of numpy.packbits

    @model_validator(mode="after")
    def _whole(self) -> Items:
        if self.count < 0 or len(base64.b64decode(self.bits, validate=True)) != -(-self.count // 8):
            raise ValueError(f"the bits do not have the length of {self.count} items")
        return self

    @classmethod
    def pack(cls, flags: np.ndarray) -> Items:
        """Pack flags, bool [count]."""
        return cls(
            count=len(flags), bits=base64.b64encode(np.packbits(flags.astype(bool)).tobytes()).decode()
        )

    def unpack(self) -> np.ndarray:
        """The flags, bool [count]."""
        return np.unpackbits(np.frombuffer(base64.b64decode(self.bits), np.uint8), count=self.count).astype(
            bool
        )


def _finite(line: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in line.items() if math.isfinite(value)}


class EvaluatorBlock(BaseModel):
    """The result of one evaluator: its own metrics and the flags of their items.

    The block of a secondary evaluator also holds `retention` with its standard `error` over items, and `u`
    for the baseline. The retention of a primary evaluator is among the record's metrics.
    """

    role: str
    version: int
    # a secondary evaluator: it is not part of the cell's hash and may have been added later
    second: bool = False
    identity: str = ""  # identifies its weights, where one class can load several
    commit: str | None = None  # of the evaluating code; None: the record's own
    metrics: dict[str, float]  # without values that are not finite: JSON cannot hold them
    items: dict[str, Items]

    @field_validator("metrics", mode="after")
    @classmethod
    def _plain_numbers(cls, metrics: dict[str, float]) -> dict[str, float]:
        return _finite(metrics)


class Cost(BaseModel):
    """Sizes are lengths of real files. Operations are counts and not times."""

    stored_bytes: int = Field(gt=0)
    fp32_bytes: int = Field(gt=0)
    parameters: int = Field(gt=0)
    bits_per_param: float
    ratio: float = Field(gt=0)  # fp32_bytes / stored_bytes
    packed_bytes: int  # the same file with all at fixed width
    nominal_bits: float  # mean over compressible weights, without scales and masks
    sparsity: float  # share of compressible weights that are exactly zero
    memory_bytes: int  # of all tensors at their stored width, zeros and factors included; no activations
    untouched: dict[str, str]  # tensors that look compressible and were left alone -> why
    untouched_bytes: int  # the size of these tensors as float32
    # tensors that a calibrated method compressed without knowing their inputs -> why; empty in older records
    uncalibrated: dict[str, str] = {}
    # method -> {layer or operation that it left as it was: why}; empty in older records
    exceptions: dict[str, dict[str, str]] = {}
    activations: str = "float32"  # what layers compute with, simulated where they are quantized
    macs: float | None  # multiply-accumulates a sample; None: the network diverged, or the record is older
    macs_nonzero: float | None  # with non-zero weights only, those of low-rank factors included
    bit_operations: float | None  # non-zero MACs times bits of weight times bits of activation
    commit: str | None  # of the code that counted, since costs can be computed again without sampling


class Speed(BaseModel):
    """Samples a second, where the samples of this record were drawn and not taken from a cache."""

    samples_per_second: float
    runtime: str  # "simulated": dequantized float32 weights, so this is not the speed of a compressed network


class MetricInfo(BaseModel):
    """What one of the domain's own metrics is, so that pages need no plug-in to show it."""

    description: str
    direction: Direction
    headline: bool = False
    option: str | None = None  # what the user wrote after `--metric`; None: a metric of the domain


class TrainingReport(BaseModel):
    """What one training-time method did. The sampling seeds of a cell share the training."""

    method: str
    steps: int  # done: fewer than planned where it diverged
    core_seconds: float  # up to the last line of the log
    packages: dict[str, str] = {}  # of other projects, that it computed with -> version
    # lines of the training's log: step, mean and spread of each loss since the line before, gradient norms,
    # validation figures; without values that are not finite
    log: list[dict[str, float]]

    @field_validator("log", mode="after")
    @classmethod
    def _plain_numbers(cls, log: list[dict[str, float]]) -> list[dict[str, float]]:
        """JSON cannot hold NaN or infinity."""
        return [_finite(line) for line in log]


class ToolReport(BaseModel):
    """What another project's tool did.

    The cost's `stored_bytes` is our coding of the values that the tool's own file reloads to.
    """

    tool: str  # as pip names it
    version: str
    file_bytes: int  # of the file that the tool's own saving function wrote
    skipped: dict[str, float]  # weight that the tool left in floats -> its share of the network's numbers
    deviation: float  # largest difference between our coding and the tool's values; 1: a row's largest weight


class Record(BaseModel):
    """The results of one cell."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA
    cell: str  # SHA-256 of what was measured (bench/records/cell.py)
    domain: str
    model: str
    train_seed: int | None
    weights_sha256: str
    companions: str
    method: str
    sample_seed: int
    samples: int
    k: int
    sampler: dict[str, Any]
    reference: str
    implementation: dict[str, int]  # versions of domain, methods, metrics, evaluators
    status: Status
    reason: str | None
    metrics: dict[str, float | None]
    cost: Cost | None
    tensors_sha256: str | None  # of the network rebuilt from the file
    speed: Speed | None
    warnings: list[str]
    metric_info: dict[str, MetricInfo] = {}  # of own metrics, in their order; empty in older records
    trainings: list[TrainingReport] = []  # of training-time methods, in the order of the chain
    tools: list[
        ToolReport
    ] = []  # of other projects' tools, in the order of the chain; older records have none
    evaluators: dict[str, EvaluatorBlock]
    items: dict[str, Items]  # twins: intact, drifted, ...
    provenance: Provenance

    @field_validator("metrics", mode="after")
    @classmethod
    def _plain_numbers(cls, metrics: dict[str, float | None]) -> dict[str, float | None]:
        """JSON cannot hold NaN or infinity, so a value that is not finite counts as not measured."""
        return {
            name: value if value is not None and math.isfinite(value) else None
            for name, value in metrics.items()
        }

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    def belongs_at(self, path: Path) -> bool:
        """Whether a record at this path is found by those who look for it."""
        return path.parts[-4:-1] == (
            slug(self.domain),
            slug(self.model),
            slug(self.method),
        ) and path.name.startswith(self.cell[:16])

    def method_versions(self) -> list[int]:
        """Link of the method -> its version. Names with a space belong to other parts."""
        return [version for name, version in sorted(self.implementation.items()) if " " not in name]

    @property
    def conditions(self) -> dict[str, Any] | None:
        """Of its samples: kind, file, count and SHA-256; None where they were made of none."""
        found = self.sampler.get(CONDITIONS)
        return found if isinstance(found, dict) else None

    @property
    def own_reference(self) -> bool:
        """Whether the user's own real samples were the reference: such a record is in no ranking."""
        return self.reference.startswith("own:")

    def metric(self, name: str) -> float | None:
        """A metric by its full name; None where it was not measured."""
        return self.metrics.get(name)


def read_record(path: Path) -> Record:
    """Read a record. Raises `ValueError` with one line for a file that is incomplete or of another schema."""
    return read_whole(path, Record, SCHEMA, "not a whole record")


def read_whole(path: Path, kind: type[Versioned], version: int, complaint: str) -> Versioned:
    """Read a file that holds one model with a `schema_version`.

    Raises `ValueError` with one line for any other file.
    """
    try:
        file = kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        message = " ".join(first["msg"].split())
        raise ValueError(f"{complaint}: {'.'.join(map(str, first['loc'])) or 'file'}: {message}") from None
    if (found := getattr(file, "schema_version", None)) != version:
        raise ValueError(f"schema version {found}; this program reads {version}")
    return file


def record_files(results: Path) -> list[Path]:
    """All files below a folder that may be records, in a stable order, without `model.json` and
    `damages.json`.

    The folder may contain folders of other records: a user's own beside the published ones, and those that
    `reproduce` made.
    """

    def may_be(path: Path) -> bool:
        parts = path.relative_to(results).parts
        return parts[0] not in NO_DOMAINS and (len(parts), parts[-1]) not in (
            (3, MODEL_FILE),
            (2, DAMAGES_FILE),
        )

    # as `look_up` searches
    in_order = sorted(results.rglob("*.json"), key=lambda path: (path.parent, len(path.name), path.name))
    return [path for path in in_order if may_be(path)]


def records_in_place(
    results: Path, say: Callable[[str], None], read: Callable[[Path], Record] = read_record
) -> Iterator[tuple[Path, Record]]:
    """All records below a folder that lie at their proper path, in a stable order.

    The first of duplicates is kept.

    Other files are reported to `say` and never changed.
    """
    seen: dict[tuple[Path, str], Path] = {}
    for path in record_files(results):
        try:
            record = read(path)
            if not record.belongs_at(path):
                raise ValueError(
                    f"it holds a record of {record.domain} {record.model} {record.method}, so it is in "
                    f"the wrong place"
                )
            if (first := seen.setdefault((path.parent, record.cell), path)) != path:
                raise ValueError(f"{first.name} holds the same cell and is used")
            yield path, record
        except ValueError as error:
            say(f"skipped {path}: {error}")


def read_records(results: Path, warn: Callable[[str], None] | None = None) -> list[Record]:
    """All valid records. Other files are reported to `warn`."""
    warn = warn or (lambda line: None)
    return newest([record for _, record in records_in_place(results, warn)], warn)


def newest(records: Sequence[Record], warn: Callable[[str], None]) -> list[Record]:
    """Drop the records of old versions of a method where the model also has records of a newer version."""
    best: dict[tuple[str, str, str], list[int]] = {}
    for r in records:
        key = (r.domain, r.model, r.method)
        best[key] = max(best.get(key, []), r.method_versions())
    found = []
    for r in records:
        if r.method_versions() == best[r.domain, r.model, r.method]:
            found.append(r)
        else:
            warn(
                f"skipped {r.domain} {r.model} {r.method} seed {r.sample_seed} ({r.cell}): made by an "
                f"older version of the method"
            )
    return found
