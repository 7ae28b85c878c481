"""Tables of `bench edge`: what a network costs in each runtime, and what its samples there are worth."""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.edge import DENSE, EAGER, FP32, EdgeRecord, by
from bench.report.cells import DASH, table
from bench.stats.ladder import ROLES
from bench.util.markup import as_text

WORTH_IT = 1.2  # times as fast: less is called no gain
NOT_SPEED, NO_GAIN = "Smaller files are rarely faster", "Zeros bring hardly any speed"
SMALLER = 0.95  # of the bytes of the uncompressed network
KEPT = 0.95  # of both roles: what counts as good
HALF = 0.5  # of the bytes of float32: what counts as small
TITLE = "What does it cost in real runtimes?"
ANCHOR = "what-does-it-cost-in-real-runtimes"
NOTES = """\
Each runtime with its fastest precision at the largest batch, uncompressed networks. **to eager**: how many
times as fast as PyTorch eager, a median of paired times. **ms** is a median for one sample with its sampler;
rows were timed at different hours, so compare the ratios. **MB** is the peak memory of a fresh process that
runs the network alone. Quality and diversity are of samples that this runtime made.
[edge.md](docs/edge.md) says how this is measured.
"""
FULL_NOTES = """\
All precisions. `ms` is at the batch size of the column.
"""
ZERO_NOTES = """\
How many times faster a pruned network is than the uncompressed one, in the same runtime and precision.
"""


def latest(records: Sequence[EdgeRecord]) -> list[EdgeRecord]:
    """The newest record of each candidate, in the order of domains, models and runtimes."""
    found: dict[tuple[str, ...], EdgeRecord] = {}
    for one in sorted(records, key=lambda r: r.provenance.time):
        found[one.candidate] = one
    return [found[name] for name in sorted(found)]


def section(records: Sequence[EdgeRecord], details: str) -> list[str]:
    """The section of the leaderboard; empty where there are no records. `details` is the link to all rows."""
    now = latest(records)
    if not now:
        return []
    said = "".join(f"- {line}\n" for line in findings(now))
    where = f"[edge.md](docs/edge.md) says how it is measured. Every runtime: [details]({details}#{ANCHOR})."
    measured = any(one.joules_per_sample is not None for record in now for one in record.times)
    energy = "" if measured else " Energy was not measured."
    return [f"## {TITLE}\n", said, f"{where} Measured on {_machines(now)}.{energy}\n"]


def details_section(records: Sequence[EdgeRecord]) -> list[str]:
    """All rows, for the page of details; empty where there are no records."""
    now = latest(records)
    if not now:
        return []
    parts = [f"## {TITLE}\n", NOTES, _fastest_of_each(now) + "\n"]
    parts += [FULL_NOTES, _costs([r for r in now if r.method == "none"]) + "\n"]
    if pruned := [r for r in now if r.method != "none" and r.times]:
        parts += [ZERO_NOTES, _zeros(pruned) + "\n"]
    parts += [f"- {_name(r)}: {r.status}. {as_text(r.reason)}" for r in now if r.reason]
    return [*parts, f"\nMeasured on {_machines(now)}. {_energy(now)}\n"]


def _machines(records: Sequence[EdgeRecord]) -> str:
    return as_text("; ".join(dict.fromkeys(machine_of(one) for one in records)))


def _energy(records: Sequence[EdgeRecord]) -> str:
    missing = dict.fromkeys(r.energy_missing for r in records if r.energy_missing)
    return f"Energy was not measured: {as_text('; '.join(missing))}." if missing else ""


def _name(record: EdgeRecord) -> str:
    name = f"{as_text(record.domain)} {as_text(record.model)}, {record.runtime} {record.precision}"
    return name if record.method == "none" else f"{name}, `{record.method}`"


def _fastest_of_each(records: Sequence[EdgeRecord]) -> str:
    """One row for each model and runtime but eager, to which the others are compared."""
    dense = [r for r in records if r.method == "none" and r.times and r.runtime != "eager"]
    size = max((batch for record in dense for batch in record.batch_sizes), default=1)
    headers = ["model", "runtime", "fastest", "to eager ↑", f"ms at {size} ↓", "MB ↓"]
    lines = []
    for (domain, model, runtime), same in by(dense, lambda r: (r.domain, r.model, r.runtime)).items():
        best = max(same, key=lambda r: (_to_eager(r) or 0.0, -r.times[-1].seconds_per_sample))
        start = [f"{as_text(domain)} {as_text(model)}", runtime, best.precision]
        ratio = DASH if (known := _to_eager(best)) is None else f"{known:.2f}x"
        lines.append([*start, ratio, _ms(best, size), _memory(best), *_worth(best)])
    return table([*headers, *(f"{role} ↑" for role in ROLES)], lines, left=3)


def _to_eager(record: EdgeRecord) -> float | None:
    """How many times as fast at the largest batch."""
    return record.times[-1].faster.get(EAGER)


def machine_of(record: EdgeRecord) -> str:
    """The machine of a record, in words."""
    threads = "1 thread" if record.threads == 1 else f"{record.threads} threads"
    return ", ".join([record.processor, threads, *record.instructions])


def _costs(records: Sequence[EdgeRecord]) -> str:
    """One row for each network, runtime and precision, with what could not be measured and why."""
    sizes = sorted({batch for record in records for batch in record.batch_sizes})
    headers = ["model", "runtime", "precision", "bytes ↓", *(f"ms at {size} ↓" for size in sizes), "MB ↓"]
    energy = any(times.joules_per_sample is not None for record in records for times in record.times)
    headers += [*(["J ↓"] if energy else []), *(f"{role} ↑" for role in ROLES)]
    lines = []
    for record in records:
        start = [f"{as_text(record.domain)} {as_text(record.model)}", record.runtime, record.precision]
        cells = [_size(record), *(_ms(record, size) for size in sizes), _memory(record)]
        lines.append([*start, *cells, *([_joules(record)] if energy else []), *_worth(record)])
    return table(headers, lines, left=3)


def _zeros(records: Sequence[EdgeRecord]) -> str:
    names = dict.fromkeys((r.runtime, r.precision) for r in records)
    lines = []
    for (domain, model, method), same in by(records, lambda r: (r.domain, r.model, r.method)).items():
        known = {(r.runtime, r.precision): dense_ratio(r) for r in same}
        cells = [DASH if (ratio := known.get(name)) is None else f"{ratio:.2f}x" for name in names]
        lines.append([f"{as_text(domain)} {as_text(model)}", f"`{method}`", *cells])
    return table(["model", "method", *(" ".join(name) for name in names)], lines, left=2)


def dense_ratio(record: EdgeRecord) -> float | None:
    """How many times faster than the uncompressed network, at the largest batch."""
    return record.times[-1].faster.get(DENSE) if record.times else None


# --------------------------------------------------------------------------------------------------- findings


def findings(records: Sequence[EdgeRecord]) -> list[str]:
    """What the records say of stored bits, of zeros, and of the fastest runtimes. A sentence each."""
    found = [_bits(records), *_pruned_in_words(records)]
    for (domain, model), same in by(records, lambda r: (r.domain, r.model)).items():
        found.append(_fastest(domain, model, same))
    return [line for line in found if line]


def _bits(records: Sequence[EdgeRecord]) -> str:
    """Whether fewer stored bits are more speed, over all candidates that are small."""
    dense = [r for r in records if r.method == "none" and r.file_bytes]
    floats = {(r.domain, r.model, r.runtime): r for r in dense if r.precision == "fp32"}
    small, quick = 0, []
    for one in dense:
        whole = floats.get((one.domain, one.model, one.runtime))
        if not one.times or whole is None or not whole.file_bytes or one is whole:
            continue
        ratio = one.times[-1].faster.get(FP32)
        if ratio is not None and one.file_bytes and one.file_bytes <= HALF * whole.file_bytes:
            small += 1
            quick += [one] if ratio >= WORTH_IT else []
    if not small:
        return ""
    claim = NOT_SPEED if len(quick) < small / 2 else "Fewer stored bits are more speed"
    return (
        f"**{claim}**: of {small} files with at most half of the bytes of float32, {len(quick)} run at least "
        f"{WORTH_IT} times as fast in the same runtime (largest batch). Of these, "
        f"{sum(map(_is_good, quick))} keep {KEPT} of both roles."
    )


def _pruned_in_words(records: Sequence[EdgeRecord]) -> list[str]:
    """Whether zeros bring speed, and whether fewer channels do.

    With zeros, a runtime's files are as large as those of the uncompressed network.
    """
    known = [(ratio, r) for r in records if (ratio := dense_ratio(r)) is not None]
    zeros = [pair for pair in known if not _smaller(pair[1], records)]
    fewer = [pair for pair in known if _smaller(pair[1], records)]
    return [
        _largest_gain(zeros, NO_GAIN, "Zeros can speed a network up"),
        _largest_gain(fewer, "Removing channels hardly brings speed", "Removing channels brings speed"),
    ]


def _largest_gain(known: Sequence[tuple[float, EdgeRecord]], little: str, much: str) -> str:
    if not known:
        return ""
    best, record = max(known, key=lambda pair: pair[0])
    where = f"`{record.method}` of {as_text(record.domain)} in {record.runtime} {record.precision}"
    return f"**{little if best < WORTH_IT else much}**: the largest gain is {best:.2f}x, by {where}."


def _smaller(record: EdgeRecord, records: Sequence[EdgeRecord]) -> bool:
    """Whether the runtime's files are smaller than those of the uncompressed network."""
    wanted = record.model_copy(update={"method": "none"}).candidate
    dense = [r for r in records if r.candidate == wanted]
    sizes = [r.file_bytes for r in dense if r.file_bytes is not None]
    return bool(sizes) and (record.file_bytes or 0) < SMALLER * sizes[0]


def _is_good(record: EdgeRecord) -> bool:
    """Whether its samples keep enough of both roles."""
    kept = [record.metrics.get(f"{role}_retention") for role in ROLES]
    return all(value is not None and value >= KEPT for value in kept)


def _fastest(domain: str, model: str, records: Sequence[EdgeRecord]) -> str:
    """The fastest uncompressed candidate that keeps 0.95 of both roles, beside eager."""
    good = [one for one in records if one.method == "none" and one.times and _is_good(one)]
    ratios = [(one.times[-1].faster.get(EAGER, 1.0), one) for one in good]
    if not ratios:
        return ""
    ratio, best = max(ratios, key=lambda pair: pair[0])
    times = best.times[-1]
    said = f"{as_text(domain)} {as_text(model)}: with {KEPT} of quality and diversity left, {best.runtime}"
    return f"{said} {best.precision} is the fastest, {ratio:.1f} times PyTorch eager (batch {times.batch})."


# ------------------------------------------------------------------------------------------ table after a run


def run_table(records: Sequence[EdgeRecord]) -> str:
    """The table at the end of a run, as plain text."""
    from tabulate import tabulate

    sizes = sorted({batch for record in records for batch in record.batch_sizes})
    headers = ["method", "runtime", "precision", "bytes", "MB"]
    for batch in sizes:
        headers += [f"ms at {batch}", "x eager", "x fp32", "x dense"]
    lines = []
    for one in records:
        start = [one.method, one.runtime, one.precision, _size(one), _memory(one)]
        lines.append([*start, *_speeds(one, sizes), *_worth(one)])
    return tabulate(lines, headers=[*headers, *ROLES], disable_numparse=True)


def _speeds(record: EdgeRecord, sizes: Sequence[int]) -> list[str]:
    found = []
    for batch in sizes:
        times = record.at(batch)
        found.append(_ms(record, batch))
        for to in (EAGER, FP32, DENSE):
            ratio = None if times is None else times.faster.get(to)
            found.append(DASH if ratio is None else f"{ratio:.2f}")
    return found


def _size(record: EdgeRecord) -> str:
    return DASH if record.file_bytes is None else f"{record.file_bytes:,}"


def _ms(record: EdgeRecord, batch: int) -> str:
    times = record.at(batch)
    return DASH if times is None else f"{1000 * times.seconds_per_sample:.3g}"


def _memory(record: EdgeRecord) -> str:
    return DASH if record.peak_memory_bytes is None else f"{record.peak_memory_bytes / 1e6:.0f}"


def _joules(record: EdgeRecord) -> str:
    joules = record.times[-1].joules_per_sample if record.times else None
    return DASH if joules is None else f"{joules:.3g}"


def _worth(record: EdgeRecord) -> list[str]:
    kept = [record.metrics.get(f"{role}_retention") for role in ROLES]
    return [record.status if value is None else f"{value:.3f}" for value in kept]
