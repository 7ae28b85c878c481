"""Writes the tables of docs/training-time.md from the published records: `python -m
scripts.studies.training_tables`.

The figures over the training come from `training_curves.json`. Each table stands between `<!-- name -->` and
`<!-- end -->`. Below a list of cells stand the planned ones that are not measured.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean, stdev

import numpy as np

from bench.methods.notation import CONTROL, is_trained, without_seed
from bench.records.schema import Record, read_records
from bench.report.cells import DASH, table
from bench.runner.run_cell import COLLAPSED_BELOW
from bench.stats.compressibility import mean_retention
from bench.stats.ladder import ROLES
from bench.stats.rank_agreement import as_secondary_sees
from bench.util.files import write_atomically
from bench.util.markup import joined
from scripts import blocks
from scripts.studies.training_time import (
    BINARY,
    DIFFUSION,
    DOMAINS,
    GAN,
    GRIDS,
    RESULTS,
    ROOT,
    STUDIES,
    TERNARY,
    TEXT,
    XS,
    Curves,
    Planned,
    S,
    every,
    read_curves,
)

PAGE = ROOT / "docs" / "training-time.md"
PERMUTATIONS = 10_000
NOTHING = "Nothing is measured yet."
Cells = Mapping[Planned, Sequence[Record]]  # all records of a cell, one for each sampling seed

# what stands beside the cells of a study
STARTS = [*STUDIES["2"], *every(XS, (BINARY,))]
NETWORKS = [*STUDIES["3"], *every(("xs@0",), (BINARY,), (GAN,))]
PRUNED = [
    *STUDIES["5"],
    *every(("s@0",), ("magnitude:sparsity=0.9", "2:4"), (TEXT, DIFFUSION)),
    *every(("s@0",), ("magnitude:sparsity=0.9+recalibrate", "2:4+recalibrate"), (GAN,)),
    *every(("s@0",), ("ldlq:bits=3.5,mixed",), (TEXT, DIFFUSION)),
    *every(("s@0",), ("ldlq:bits=3.5,mixed+recalibrate",), (GAN,)),
]
REMEDIES = [
    *every(("xs@0",), [BINARY, TERNARY]),
    *every(("xs@0",), ["int4"], (TEXT,)),
    *every(("s@0",), [BINARY], (GAN,)),
    *STUDIES["6"],
]


def main() -> None:
    write_atomically(PAGE, filled(PAGE.read_text(encoding="utf-8"), read_records(RESULTS), read_curves()))


def filled(page: str, records: Sequence[Record], curves: Curves) -> str:
    """The page with the present tables."""
    found = cells_of(records)
    tables = {name: write(found) for name, write in TABLES.items()}
    return blocks.filled(page, {**tables, "curves": over_training(curves)})


def cells_of(records: Sequence[Record]) -> dict[Planned, list[Record]]:
    """The records of each cell."""
    found: dict[Planned, list[Record]] = {}
    for record in records:
        found.setdefault(Planned(record.domain, record.model, record.method), []).append(record)
    return found


# ------------------------------------------------------------------------------------------ cell by cell


def listed(planned: Sequence[Planned]) -> Callable[[Cells], str]:
    """A line for each planned cell, in the order of domains and models; then the cells that are missing."""

    def text(found: Cells) -> str:
        cells = [cell for cell in planned if cell in found]
        order = sorted(cells, key=lambda cell: (DOMAINS.index(cell.domain), cell.model, planned.index(cell)))
        lines = [[f"{c.domain} {c.model}", f"`{c.method}`", *figures(found[c])] for c in order]
        missing = [cell for cell in planned if cell not in found]
        if not lines:
            return NOTHING
        shown = table(["model", "method", *HEADERS], lines, 2)
        return f"{shown}\n\nNot measured: {named(missing)}." if missing else shown

    return text


KEPT = [*(f"{role} ↑" for role in ROLES), *(f"{role}, secondary ↑" for role in ROLES)]
HEADERS = ["ratio", *KEPT, "core-minutes"]


def named(cells: Sequence[Planned]) -> str:
    """`method` (text xs@1, xs@2; image_gan xs@1) and so on, without the seeds of methods."""
    methods: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        methods.setdefault(without_seed(cell.method), {}).setdefault(cell.domain, []).append(cell.model)
    said = []
    for method, domains in methods.items():
        models = [f"{domain} {', '.join(dict.fromkeys(every))}" for domain, every in domains.items()]
        said.append(f"`{method}` ({'; '.join(models)})")
    return joined(said)


def figures(records: Sequence[Record]) -> list[str]:
    """As `HEADERS`: of one cell, means over its sampling seeds."""
    sizes = [r.cost.ratio for r in records if r.cost]
    trainings = records[0].trainings
    minutes = f"{sum(one.core_seconds for one in trainings) / 60:.0f}" if trainings else DASH
    return [
        f"{fmean(sizes):.1f}x" if sizes else DASH,
        *(f"{kept(records, role):.3f}" for role in ROLES),
        *secondary([records]),
        minutes,
    ]


def secondary(cells: Iterable[Sequence[Record]]) -> list[str]:
    """[quality, diversity] by the secondary evaluators, means over cells; `-` where one has no score."""
    seen = [as_secondary_sees(record) for records in cells for record in records]
    known = [record for record in seen if record is not None]
    return [f"{kept(known, role):.3f}" if len(known) == len(seen) else DASH for role in ROLES]


def kept(records: Sequence[Record], role: str) -> float:
    """The mean retention over sampling seeds; 0 for a network that diverged."""
    value = mean_retention(records, role)
    assert value is not None, "published models lie above their floors"
    return value


# --------------------------------------------------------------------------------------- means over seeds


def sizes(found: Cells) -> str:
    """Each grid by size: means over the training seeds that were measured."""
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for method in reversed(GRIDS):
        for cell in every((*XS, *S), (method,)):
            if cell in found:
                groups.setdefault((cell.domain, cell.model.partition("@")[0], method), []).append(cell)
    lines = []
    for (domain, size, method), cells in sorted(groups.items(), key=lambda one: place(*one[0])):
        seeds = ", ".join(cell.model.partition("@")[2] for cell in cells)
        values = [f"{fmean(kept(found[cell], role) for cell in cells):.3f}" for role in ROLES]
        values += secondary(found[cell] for cell in cells)
        ratio = fmean(r.cost.ratio for cell in cells for r in found[cell] if r.cost)
        lines.append([f"{domain} {size}", f"`{method}`", seeds, f"{ratio:.1f}x", *values])
    return table(["size", "method", "training seeds", "ratio", *KEPT], lines, 3)


def place(domain: str, size: str, method: str) -> tuple[int, int, int]:
    """Domains in their order, the smaller size first, the mildest grid first."""
    return DOMAINS.index(domain), ("xs", "s").index(size), -GRIDS.index(method)


# ----------------------------------------------------------------------------------------------- stability


def stability(found: Cells) -> str:
    """One line for each domain and method of study 4, over the seeds of the training's noise.

    - spread: standard deviation of the retention over the seeds. p: is it larger than the control's?
      One-sided, unadjusted; the last lines test all domains at once. A collapsed method has none.
    - oscillation: standard deviation of the main loss within the last tenth of the steps, over its mean.
    - gradient: 99th percentile of the gradient's norm over its median, mean over the tenths of the training.
    """
    groups = by_method(found)
    lines = []
    for (domain, method), cells in groups.items():
        line = [domain, f"`{method}`", str(len(cells))]
        for role in ROLES:
            values = [kept(records, role) for records in cells]
            line += [f"{fmean(values):.3f}", f"{stdev(values):.3f}" if len(values) > 1 else DASH]
            line.append(p_of(spreads(groups, method, role, (domain,))))
        logs = [one.log for same in cells if not diverged(same) for one in same[0].trainings]
        lines.append(
            [*line, *(f"{fmean(map(of, logs)):.2f}" if logs else DASH for of in (oscillation, peaks))]
        )
    for method in sorted({method for _, method in groups} - {CONTROL}, reverse=True):
        tests = [[DASH, DASH, p_of(spreads(groups, method, role))] for role in ROLES]
        if tests != [[DASH] * 3] * 2:
            lines.append(["all together", f"`{method}`", DASH, *tests[0], *tests[1], DASH, DASH])
    headers = ["domain", "method", "seeds"]
    headers += [name for role in ROLES for name in (f"{role} ↑", "spread ↓", "p")]
    return table([*headers, "oscillation ↓", "gradient ↓"], lines, 2)


Groups = Mapping[tuple[str, str], Sequence[Sequence[Record]]]  # (domain, method without its seed) -> cells


def by_method(found: Cells) -> Groups:
    """The cells of study 4, those that differ in the seed of the noise together."""
    groups: dict[tuple[str, str], list[Sequence[Record]]] = {}
    for cell in sorted(STUDIES["4"], key=lambda cell: DOMAINS.index(cell.domain)):
        if cell in found:
            groups.setdefault((cell.domain, without_seed(cell.method)), []).append(found[cell])
    return groups


def spreads(
    groups: Groups, method: str, role: str, domains: Sequence[str] = DOMAINS
) -> list[tuple[np.ndarray, np.ndarray]]:
    """(the retentions of a method, of the control) in each domain where their spreads can be compared."""
    pairs = []
    for domain in domains:
        values, control = (
            np.array([kept(records, role) for records in groups.get((domain, one), [])])
            for one in (method, CONTROL)
        )
        if method != CONTROL and min(len(values), len(control)) > 2 and values.mean() >= COLLAPSED_BELOW:
            pairs.append((values, control))
    return pairs


def p_of(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    return f"{more_spread(pairs):.3f}" if decidable(pairs) else DASH


def decidable(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> bool:
    """Whether the test can reach .05: three trainings against three have a smallest p of 1/20."""
    divisions = math.prod(math.comb(len(a) + len(b), len(a)) for a, b in pairs)
    return divisions > 20


def failures(found: Cells) -> str:
    """Of all trainings of the records: how many diverged, and how many collapsed."""
    lines = []
    for domain, start in itertools.product(DOMAINS, ("trained", "scratch")):
        group = [
            records
            for cell, records in found.items()
            if cell.domain == domain
            and is_trained(cell.method)
            and (start == "scratch") == ("start=scratch" in cell.method)
        ]
        collapsed = [sum(each) for each in zip(*map(collapses, group))]
        if group:
            lines.append([domain, start, *map(str, (len(group), sum(map(diverged, group)), *collapsed))])
    headers = ["domain", "start", "trainings", "diverged ↓", *(f"{role} collapsed ↓" for role in ROLES)]
    return table(headers, lines, 2)


def diverged(records: Sequence[Record]) -> bool:
    """Whether a training diverged."""
    return any(r.status == "diverged" for r in records)


def collapses(records: Sequence[Record]) -> list[bool]:
    """For each role, whether the mean retention is below `COLLAPSED_BELOW`. A training that diverged has no
    network that could collapse.
    """
    return [not diverged(records) and kept(records, role) < COLLAPSED_BELOW for role in ROLES]


def oscillation(log: Sequence[Mapping[str, float]]) -> float:
    """Of the last tenth of the steps: standard deviation of the main loss over its mean."""
    main = "generator" if "generator" in log[-1] else "loss"
    return log[-1][f"{main}_sd"] / abs(log[-1][main])


def peaks(log: Sequence[Mapping[str, float]]) -> float:
    """How far the gradient's 99th percentile lies above its median."""
    return fmean(line["gradient_norm_p99"] / max(line["gradient_norm"], 1e-12) for line in log)


def more_spread(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """One-sided p: do values spread more than their controls, over all pairs of groups together?

    A permutation test of the summed log ratios of variances. Within each pair, deviations from the means of
    the groups change places.
    """
    noise = np.random.default_rng(0)
    observed, drawn = np.zeros(()), np.zeros(PERMUTATIONS)
    for values, control in pairs:
        pooled = np.concatenate([values - values.mean(), control - control.mean()])
        # [permutations, values + control]
        orders = noise.permuted(np.tile(pooled, (PERMUTATIONS, 1)), axis=1)
        observed = observed + log_ratio(values, control)
        drawn += log_ratio(orders[:, : len(values)], orders[:, len(values) :])
    return float((drawn >= observed - 1e-9).sum() + 1) / (PERMUTATIONS + 1)


def log_ratio(values: np.ndarray, control: np.ndarray) -> np.ndarray:
    """The logarithm of the ratio of variances: [..., n], [..., m] -> [...]."""
    return np.log(values.var(axis=-1) + 1e-12) - np.log(control.var(axis=-1) + 1e-12)


# -------------------------------------------------------------------------------------- over the training

TENTHS = (1, 2, 4, 6, 8, 10)  # of the steps


def over_training(curves: Curves) -> str:
    """Quality/diversity of snapshots, by tenths of the steps: means over the seeds of the noise."""
    groups: dict[tuple[str, str], list[Sequence[Mapping[str, float]]]] = {}
    for key, snapshots in curves.items():
        if len(snapshots) == TENTHS[-1]:
            domain, model, method = key.split()
            groups.setdefault((f"{domain} {model}", without_seed(method)), []).append(snapshots)
    lines = []
    for (model, method), runs in sorted(groups.items(), key=lambda one: one[0]):
        values = [
            "/".join(f"{fmean(run[tenth - 1][role] for run in runs):.2f}" for role in ROLES)
            for tenth in TENTHS
        ]
        lines.append([model, f"`{method}`", str(len(runs)), *values])
    headers = ["model", "method", "seeds", *(f"{tenth}0 %" for tenth in TENTHS)]
    return table(headers, lines, 3) if lines else NOTHING


TABLES: Mapping[str, Callable[[Cells], str]] = {
    "sizes": sizes,
    "remedies": listed(REMEDIES),
    "starts": listed(STARTS),
    "networks": listed(NETWORKS),
    "stability": stability,
    "failures": failures,
    "pruning": listed(PRUNED),
}


if __name__ == "__main__":
    main()
