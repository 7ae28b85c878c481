"""Writes the tables of docs/explanation.md from `explanation.json` and the published records: `python -m
scripts.studies.explanation_tables`.

Each table stands between `<!-- name -->` and `<!-- end -->`.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Mapping
from statistics import fmean, geometric_mean, median

import numpy as np

from bench.records.schema import read_records
from bench.report.cells import DASH, table
from bench.stats.compressibility import FULL_RANGE, score
from bench.stats.ladder import ROLES, ModelLadder, models_of
from bench.stats.order import LOST, onset
from bench.stats.rank_agreement import secondary_views
from bench.util.files import write_atomically
from scripts import blocks
from scripts.studies.explanation import (
    CELLS,
    DECODED,
    DIFFUSION,
    EARLY,
    FILE,
    FORBIDDEN,
    GRIDS,
    HALVES,
    LATE,
    NOISED,
    PARTS,
    SEQUENCES,
    STEPS,
    TESTED,
    TOKENS,
    Errors,
    Found,
)
from scripts.studies.training_time import RESULTS, ROOT, S

PAGE = ROOT / "docs" / "explanation.md"
SHOWN = (1, 2, 5, 10, 19)  # calls of a path whose errors are shown
PUBLISHED = 10  # steps of the diffusion model's sampler
KEPT_HEADERS = [f"{role} {who}↑" for who in ("", "by the secondary evaluators ") for role in ROLES]


@functools.cache
def published(second: bool = False) -> dict[tuple[str, str], ModelLadder]:
    """(domain, model) -> its whole ladder in the published records, by one set of evaluators."""
    records = read_records(RESULTS)
    seen = secondary_views(records) if second else records
    return {(m.domain, m.model): m for m in models_of(seen) if m.whole}


def at_4_bits(found: Found) -> str:
    """One line a size: means over its models."""
    lines = []
    for (domain, size), models in sizes_of(found).items():
        of_size = [found["errors"][f"{domain} {model}"]["int4"] for model in models]
        means = [geometric_mean(one[part] for one in of_size) for part in ("weights", "layers", "output")]
        tails = (
            fmean(found["weights"][f"{domain} {model}"][PARTS[0]] for model in models),
            fmean(one["kurtosis"] for one in of_size),
        )
        shown = [*(f"{tail:.1f}" for tail in tails), *(f"{value:.4f}" for value in means)]
        lines.append([domain, size, str(len(models)), *shown])
    headers = ["domain", "size", "models", "kurtosis of weights", "kurtosis of inputs"]
    return table([*headers, "weights ↓", "layers ↓", "output of one call ↓"], lines, 2)


def tolerances(found: Found) -> str:
    """One line a size: the error of one call at which a role falls below .90, geometric means."""
    lines, known = [], published()
    for (domain, size), models in sizes_of(found).items():
        measured = [
            (known[domain, m], found["errors"][f"{domain} {m}"]) for m in models if (domain, m) in known
        ]
        if not measured:
            continue
        four = geometric_mean(by_rung["int4"]["output"] for _, by_rung in measured)
        ends = [[tolerance(m, by_rung, role) for m, by_rung in measured] for role in ROLES]
        borne = [
            f"{geometric_mean(values):.3f}" if all(map(math.isfinite, values)) else DASH for values in ends
        ]
        lines.append([domain, size, str(len(measured)), f"{four:.4f}", *borne])
    headers = ["domain", "size", "models", "error of one call at int4 ↓"]
    return table([*headers, *(f"error at which {role} falls below {LOST:.2f} ↑" for role in ROLES)], lines, 2)


def tolerance(m: ModelLadder, by_rung: Mapping[str, Errors], role: str) -> float:
    """The error of one call at which retention crosses .90, between two rungs; infinite: it never does."""
    place = math.log2(onset(m, role).ratio)
    if not math.isfinite(place):
        return math.inf
    return math.exp(np.interp(place, m.rates, [math.log(by_rung[rung]["output"]) for rung in m.rungs]))


def by_layer(found: Found) -> str:
    """One line for each tested model: the spread of its layers, and the worst of them."""
    lines = []
    for domain, shares in found["layers"].items():
        ordered = sorted(shares.values())
        ends = [f"{value:.4f}" for value in (ordered[0], median(ordered), ordered[-1])]
        worst = max(shares, key=lambda path: shares[path])
        lines.append([f"{domain} {TESTED}", str(len(shares)), *ends, f"`{worst}`"])
    return table(["model", "layers", "least ↓", "median ↓", "largest ↓", "layer with the largest"], lines)


def single_calls(found: Found) -> str:
    """One line for each of some compressed calls: the error right after it and that of the finished picture.
    Then what all single calls add up to, and what all calls do together.
    """
    lines, alone = [], found["single calls"]
    for call in SHOWN:
        both = [alone[f"{grid} {call}"] for grid in GRIDS]
        lines.append([str(call), *(f"{x:.4f}" for values in both for x in (values[call - 1], values[-1]))])
    sums = [sum(values[-1] for key, values in alone.items() if key.split()[0] == grid) for grid in GRIDS]
    together = [found["growth"][grid][-1] for grid in GRIDS]
    for title, ends in (("sum over all single calls", sums), ("all calls together", together)):
        lines.append([title, *(cell for value in ends for cell in (DASH, f"{value:.4f}"))])
    headers = [f"`{grid}`: {when} ↓" for grid in GRIDS for when in ("after this call", "finished picture")]
    return table(["compressed call", *headers], lines)


def paths(found: Found) -> str:
    lines = [
        [f"`{grid}`", *(f"{values[k - 1]:.4f}" for k in SHOWN)] for grid, values in found["growth"].items()
    ]
    return table(["grid", *(f"after {k}" for k in SHOWN)], lines)


def tokens(found: Found) -> str:
    """One line for each domain and grid."""
    lines = []
    for key, row in found["tokens"].items():
        domain, grid = key.split()
        values = [value for author in ("uncompressed", "compressed") for value in row[author]]
        shown = [f"{value:.4f}" for value in values]
        lines.append([f"{domain} {TESTED}", f"`{grid}`", str(row["items"]), *shown])
    names = [f"tokens {part.start + 1} to {part.stop}" for part in (EARLY, LATE)]
    authors = ("after uncompressed tokens ↓", "after compressed tokens ↓")
    return table(["model", "grid", "items", *(f"{name}, {a}" for a in authors for name in names)], lines, 2)


def calls(found: Found) -> str:
    """One line for each number of calls and grid."""
    lines = []
    for steps, grid in itertools.product(sorted(STEPS), GRIDS):
        row = found["experiments"][f"steps {steps} {grid}"]
        before = [f"{row[name]:.3f}" for name in ("valid", "recall")]
        lines.append([str(2 * steps - 1), f"`{grid}`", *before, *kept_cells(row)])
    headers = ["calls", "grid", "valid, uncompressed ↑", "mutual recall, uncompressed ↑"]
    return table([*headers, *KEPT_HEADERS], lines, 2)


def halves(found: Found) -> str:
    """One line for each grid and part of the calls."""
    names = {"all calls": f"steps {PUBLISHED}", **{f"the {part} half": f"{part} half" for part in HALVES}}
    lines = [
        [f"`{grid}`", name, *kept_cells(found["experiments"][f"{key} {grid}"])]
        for grid in GRIDS
        for name, key in names.items()
    ]
    return table(["grid", "in", *KEPT_HEADERS], lines, 2)


def noises(found: Found) -> str:
    """One line for each network, with rounding and with noise."""
    lines = []
    for domain, grid in NOISED:
        keys = {"rounding": f"{PARTS[0]} {domain} {TESTED} {grid}", "noise": f"noise {domain} {grid}"}
        for kind, key in keys.items():
            lines.append([f"{domain} {TESTED}", f"`{grid}`", kind, *kept_cells(found["experiments"][key])])
    return table(["model", "grid", "error", *KEPT_HEADERS], lines, 3)


def kept_cells(row: Found) -> list[str]:
    """In the order of `KEPT_HEADERS`; a dash where the uncompressed network has too little to lose."""
    kept = [one[role] for one in (row, row["secondary"]) for role in ROLES]
    return [DASH if value is None else f"{value:.3f}" for value in kept]


def decoders(found: Found) -> str:
    """One line for each set of evaluators, grid and role, means over training seeds: the transformer, with
    the decoder of its codes, and the diffusion model of the same pictures. The last lines give C.
    """
    lines = []
    for second, place in itertools.product((False, True), (*DECODED, "C")):
        for role in ROLES:
            values = [f"{value:.3f}" for value in compared(found, role, second, place)]
            who = "secondary" if second else "primary"
            lines.append([who, place if place == "C" else f"`{place}`", role, *values])
    headers = [
        "evaluators",
        "rung",
        "role",
        "transformer ↑",
        "transformer and decoder ↑",
        "diffusion U-Net ↑",
    ]
    return table(headers, lines, 3)


def compared(found: Found, role: str, second: bool, place: str) -> list[float]:
    """The means of one line of that table, at a rung or of C."""
    known = published(second)
    alone, other = ([known[domain, model] for model in S] for domain in (TOKENS, DIFFUSION))
    columns = [[kept_by_rung(m, role) for m in models] for models in (alone, other)]
    columns.insert(1, [with_decoder(found, m, role, second) for m in alone])
    models = alone, alone, other
    if place == "C":
        return [fmean(map(c_of, some, kept)) for some, kept in zip(models, columns)]
    return [fmean(one[place] for one in kept) for kept in columns]


def kept_by_rung(m: ModelLadder, role: str) -> dict[str, float]:
    return dict(zip(m.rungs, map(float, m.outcomes[role].mean)))


def with_decoder(found: Found, m: ModelLadder, role: str, second: bool = False) -> dict[str, float]:
    """What is left where the decoder is compressed, too; of rungs that were not tried, the published one.

    second: by the secondary evaluators, as `m` has to be.
    """
    rows = {grid: found["experiments"][f"decoder {m.model} {grid}"] for grid in DECODED}
    tried = {grid: (row["secondary"] if second else row)[role] for grid, row in rows.items()}
    return kept_by_rung(m, role) | tried


def c_with_decoder(found: Found, m: ModelLadder, role: str, second: bool = False) -> float:
    """C of a model whose decoder is compressed, too."""
    return c_of(m, with_decoder(found, m, role, second))


def c_of(m: ModelLadder, kept: Mapping[str, float]) -> float:
    """C of a model's file sizes and of these retentions."""
    value = score(list(m.rates), [kept[rung] for rung in m.rungs], FULL_RANGE)
    assert value is not None, "published ladders reach a sixteenth"
    return value


def parts(found: Found) -> str:
    """One line for each model, grid and part."""
    lines = []
    for cell, part in itertools.product(CELLS, (*PARTS, FORBIDDEN)):
        if (row := found["experiments"].get(" ".join((part, *cell)))) is not None:
            domain, model, grid = cell
            lines.append([f"{domain} {model}", f"`{grid}`", part, *kept_cells(row)])
    return table(["model", "grid", "compressed", *KEPT_HEADERS], lines, 3)


def coordinates(found: Found) -> str:
    """One line for each model with an embedding: its tails, and what `int3` leaves of the model."""
    lines, known = [], published()
    with_embedding = [name for name, tails in found["weights"].items() if PARTS[1] in tails]
    for name in sorted(with_embedding, key=lambda name: (SEQUENCES.index(name.split()[0]), name)):
        domain, model = name.split()
        m, tails = known.get((domain, model)), found["weights"][name]
        kept = [f"{m.outcomes[role].mean[m.rungs.index('int3')]:.3f}" if m else DASH for role in ROLES]
        of_weights = (tails[key] for key in (PARTS[1], PARTS[2], "largest coordinate"))
        lines.append([name, *(f"{value:.1f}" for value in of_weights), *kept])
    tail = [f"kurtosis of the {part}" for part in ("embedding", "rest")]
    kept_at = [f"{role} at int3 ↑" for role in ROLES]
    return table(["model", *tail, "largest coordinate / median one", *kept_at], lines)


def sizes_of(found: Found) -> dict[tuple[str, str], list[str]]:
    """(domain, size) -> its models."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in found["errors"]:
        domain, model = name.split()
        groups.setdefault((domain, model.partition("@")[0]), []).append(model)
    return groups


TABLES: Mapping[str, Callable[[Found], str]] = {
    "errors": at_4_bits,
    "layers": by_layer,
    "tolerances": tolerances,
    "growth": paths,
    "single": single_calls,
    "tokens": tokens,
    "calls": calls,
    "halves": halves,
    "noises": noises,
    "coordinates": coordinates,
    "decoders": decoders,
    "parts": parts,
}


def filled(page: str, found: Found) -> str:
    """The page with the present tables."""
    return blocks.filled(page, {name: TABLES[name](found) for name in blocks.names(page)})


def main() -> None:
    found: Found = json.loads(FILE.read_text(encoding="utf-8"))
    write_atomically(PAGE, filled(PAGE.read_text(encoding="utf-8"), found))


if __name__ == "__main__":
    main()
