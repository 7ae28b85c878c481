"""The only rule by which a measurement agrees with a published one. `run`, `reproduce` and CI use it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import stdev

from bench.records.schema import Record

COMPARED = ("quality_retention", "diversity_retention")
# standard deviations between sampling seeds; other hardware changes a result less than another seed
SPREADS = 3.0
LEAST = 0.005  # of a retention: ten of 2,000 samples
WITHOUT_REPEATS = 0.02  # of a retention: about two standard errors of a share of 2,000 samples
# other processors round running statistics differently, so the coded size changes slightly
SIZE_TOLERANCE = 0.001
OTHER_CELL = "this code measures another cell: versions, weights or reference have changed"


def agreement(again: Record, published: Record | None, repeats: Sequence[Record]) -> str:
    """Compare a measurement with the published one -> `no record`, `identical`, `agrees`, or `DIFFERS: ...`
    with every reason.

    `repeats` are published records. The tolerance comes from the records of the same model and method.
    """
    if published is None:
        return "no record"
    if found := disagreements(again, published, tolerance(repeats, published)):
        return f"DIFFERS: {'; '.join(found)}"
    same = all(again.metric(name) == published.metric(name) for name in COMPARED)
    return "identical" if same and again.tensors_sha256 == published.tensors_sha256 else "agrees"


def tolerance(records: Sequence[Record], record: Record) -> dict[str, float]:
    """Metric -> the largest difference that still agrees.

    The published spread between sampling seeds sets it.
    """
    repeats = [r for r in records if _repeated(r) == _repeated(record)]
    found = {}
    for name in COMPARED:
        values = [value for r in repeats if (value := r.metric(name)) is not None]
        found[name] = max(LEAST, SPREADS * stdev(values)) if len(values) > 1 else WITHOUT_REPEATS
    return found


def _repeated(record: Record) -> tuple[str, str, str, int]:
    return record.domain, record.model, record.method, record.samples


def disagreements(again: Record, published: Record, allowed: dict[str, float]) -> list[str]:
    """Every reason why two measurements do not agree. Empty where they agree."""
    if published.cell != again.cell:
        return [OTHER_CELL]
    if published.status != again.status:
        reason = f" ({again.reason})" if again.reason else ""
        return [f"status {published.status} published, {again.status} here{reason}"]
    found = []
    if (
        again.cost
        and published.cost
        and abs(again.cost.stored_bytes / published.cost.stored_bytes - 1) > SIZE_TOLERANCE
    ):
        found.append(f"{published.cost.stored_bytes} stored bytes published, {again.cost.stored_bytes} here")
    for name, limit in allowed.items():
        before, now = published.metric(name), again.metric(name)
        if (before is None) != (now is None) or (
            before is not None and now is not None and abs(before - now) > limit
        ):
            found.append(f"{name} {_shown(before)} published, {_shown(now)} here, allowed {limit:.3f}")
    return found


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
