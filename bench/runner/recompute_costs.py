"""`bench costs`: computes sizes and operation counts of records again, without sampling.

The artifact must hold the tensors that were measured.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.artifact.format import rebuild, save, tensors_digest
from bench.errors import KNOWN_ERRORS, blamed, in_a_line
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.metrics.cost import cost_of, warnings_of
from bench.records.schema import FINISHED, SCHEMA, Record, records_in_place
from bench.registry import open_domain
from bench.runner.session import ModelSession
from bench.util.progress import Bar

NEW_IN_2: dict[str, Any] = {"tensors_sha256": None, "speed": None, "warnings": []}


def upgrade(raw: Any) -> Any:
    """Convert a record of an older schema to the present one. Its cost has to be computed again."""
    if isinstance(raw, dict) and raw.get("schema_version") == 1:
        return {**NEW_IN_2, **raw, "schema_version": SCHEMA, "cost": None}
    return raw


def recompute_costs(results: Path, say: Callable[[str], None], device: str = "cpu") -> int:
    """Compute the cost of every record of a folder with this code -> the number of updated records.

    A record is reported and left unchanged if this code makes other tensors, or if it does not say which it
    measured. Such a record has to be measured again.
    """
    files = [
        (path, record)
        for path, record in records_in_place(results, say, read_any)
        if record.status in FINISHED
    ]
    files.sort(
        key=lambda item: (item[1].domain, item[1].model, item[1].samples, item[1].method, item[1].sample_seed)
    )
    count = 0
    with Bar("records", len(files)) as bar:
        for _, group in itertools.groupby(
            files, key=lambda item: (item[1].domain, item[1].model, item[1].samples)
        ):
            members = list(group)
            try:
                session = session_of(members[0][1], device)
            except KNOWN_ERRORS as error:  # the model no longer exists, say
                say(f"left {members[0][1].domain} {members[0][1].model}: {error}")
                bar.update(len(members))
                continue
            for path, record in members:
                bar.describe(f"{record.domain} {record.method} seed {record.sample_seed}")
                fresh = costed(record, session)
                if isinstance(fresh, str):
                    say(f"left {path}: {fresh}")
                else:
                    fresh.write(path)
                    count += 1
                bar.update()
    return count


def read_any(path: Path) -> Record:
    """A record of this schema or of an older one. Raises `ValueError` with one line."""
    try:
        record = Record.model_validate(upgrade(json.loads(path.read_bytes())))
        if record.schema_version != SCHEMA:
            raise ValueError(f"schema version {record.schema_version}, newer than this code's {SCHEMA}")
        return record
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(in_a_line(error)) from None


def session_of(record: Record, device: str) -> ModelSession:
    """A session with the record's model. Raises `BadInput` where the model cannot be opened."""
    domain = open_domain(record.domain)
    session = ModelSession(domain, domain.locate(record.model), record.samples, device=device)
    session.context(0)  # raises where the model cannot be opened
    return session


def costed(record: Record, session: ModelSession) -> Record | str:
    """The record with its cost, or the reason why it cannot have one."""
    if record.tensors_sha256 is None:
        return "the record does not say which tensors it measured"
    if record.conditions is not None:
        return f"its samples were made of {record.conditions['kind']}, which are not here: measure it again"
    if session.weights_sha256 != record.weights_sha256:
        return f"model {record.model!r} has other weights now"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "artifact"
        try:
            with blamed(f"method {record.method!r}"):
                compressed = parse(record.method)(
                    original(session.generator.network), session.context(record.sample_seed)
                )
        except KNOWN_ERRORS as error:
            return str(error)
        save(compressed, record.method, file)
        network = rebuild(file, session.generator).to(session.device)
        if tensors_digest(network) != record.tensors_sha256:
            return "the tensors made here are not those that were measured"
        cost = cost_of(compressed, record.method, file, session.fp32_bytes, session.macs(network))
    return record.model_copy(update={"cost": cost, "warnings": warnings_of(cost)})
