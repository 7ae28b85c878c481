"""What a domain needs before it is compared with others: sizes, training seeds and secondary evaluators.

A domain that lacks some of it would weaken every comparison: fewer sizes, fewer training seeds, and claims
without a second opinion. So it waits, and the comparison of the complete domains stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.interfaces import SIZES, outside_of_its_size
from bench.methods.notation import primary_rung
from bench.records.schema import FINISHED, Record
from bench.stats.compressibility import recalibrated_ladder
from bench.stats.ladder import ModelLadder, grouped
from bench.stats.rank_agreement import as_secondary_sees
from bench.stats.scores import COUNTS_FROM, counts

COMPARED_SIZES, COMPARED_SEEDS = ("s", "xs"), ("0", "1", "2")


def not_compared_yet(
    records: Sequence[Record], models: Sequence[ModelLadder], threshold: float = COUNTS_FROM
) -> dict[str, list[str]]:
    """Domain -> what it lacks, in words: the domains that wait while at least two others are complete.

    With fewer than two complete domains none waits, and the domains are compared by what they share.
    """
    lacking = {}
    for domain, of_domain in grouped(records, lambda r: r.domain):
        own = [m for m in models if m.domain == domain]
        lacking[domain] = [*_lacks(of_domain, own, threshold)]
    if sum(not lacks for lacks in lacking.values()) < 2:
        return {}
    return {domain: lacks for domain, lacks in lacking.items() if lacks}


def without(models: Sequence[ModelLadder], waiting: Mapping[str, Sequence[str]]) -> list[ModelLadder]:
    """The models of the domains that are compared."""
    return [m for m in models if m.domain not in waiting]


def has_secondary(records: Sequence[Record]) -> bool:
    """Whether secondary evaluators scored the whole ladder of a model, under every sampling seed."""
    recalibrated = recalibrated_ladder(records)
    ladder = [
        r
        for r in records
        if r.status in FINISHED and (r.method == "none" or primary_rung(r.method, recalibrated))
    ]
    return all(as_secondary_sees(r) is not None for r in ladder)


def _lacks(records: Sequence[Record], models: Sequence[ModelLadder], threshold: float) -> Iterator[str]:
    """What one domain lacks, one phrase each."""
    of_model = dict(grouped(records, lambda r: r.model))
    required: list[str] = []
    for size in COMPARED_SIZES:
        of_size = {m.training_seed: m.model for m in models if m.size == size and counts(m, threshold)}
        required += [name for seed, name in of_size.items() if seed in COMPARED_SEEDS]
        missing = [seed for seed in COMPARED_SEEDS if seed not in of_size]
        if len(missing) == len(COMPARED_SEEDS):
            low, high = SIZES[size]
            yield f"size {size} ({low:,} to {high:,} parameters)"
        elif missing:
            yield f"training seed{'s' if len(missing) > 1 else ''} {' and '.join(missing)} of size {size}"
    outside = []
    for name in required:
        count = next((r.cost.parameters for r in of_model[name] if r.cost), None)
        outside.append(outside_of_its_size(name, count))
    if any(outside):
        yield f"models within their size ({'; '.join(filter(None, outside))})"
    if not required or not all(has_secondary(of_model[name]) for name in required):
        yield "secondary evaluators"
