"""Whether a measurement agrees with the published one."""

from __future__ import annotations

from bench.records.schema import Record

TOLERANCE = 0.02  # about two standard errors of a share of 2,000 samples
SIZE_TOLERANCE = 0.001  # another processor rounds running statistics otherwise, which then take some bytes more or less
COMPARED = ("quality_retention", "diversity_retention")


def agreement(record: Record, published: Record | None) -> str:
    if published is None:
        return "no record"
    if record.cost and published.cost and abs(record.cost.stored_bytes / published.cost.stored_bytes - 1) > SIZE_TOLERANCE:
        return f"DIFFERS: {published.cost.stored_bytes} stored bytes published, {record.cost.stored_bytes} here"
    if record.status != published.status:
        return f"DIFFERS: {published.status} published, {record.status} here"
    gaps = [(record.metric(name), published.metric(name)) for name in COMPARED]
    if any((a is None) != (b is None) for a, b in gaps):
        return "DIFFERS: only one of them has retention"
    largest = max((abs(a - b) for a, b in gaps if a is not None and b is not None), default=0.0)
    if largest == 0:
        return "identical"
    values = ", ".join("-" if b is None else f"{b:.3f}" for _, b in gaps)
    return f"agrees ({values}; within {TOLERANCE})" if largest <= TOLERANCE else f"DIFFERS: {values} published"
