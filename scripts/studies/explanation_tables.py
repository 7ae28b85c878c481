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
from statistics import fmean, geometric_mean

import numpy as np

from bench.records.schema import read_records
from bench.report.report_data import DASH, table
from bench.stats.compressibility import FULL_RANGE, score
from bench.stats.ladder import ROLES, ModelLadder, models_of
from bench.stats.order import LOST, onset
from bench.util.files import write_atomically
from scripts import blocks
from scripts.studies.explanation import (
    CELLS,
    DECODED,
    DIFFUSION,
    EARLY,
    FILE,
    FORBIDDEN,
    GRID,
    LATE,
    NOISED,
    PARTS,
    SEEDS,
    SEQUENCES,
    STEPS,
    TESTED,
    TOKENS,
    Errors,
    Found,
)
from scripts.studies.training_time import RESULTS, ROOT

PAGE = ROOT / "docs" / "explanation.md"
SHOWN = (1, 2, 5, 10, 19)  # calls after which the error of a path is shown
PUBLISHED = 10  # steps of the diffusion model's sampler


@functools.cache
def published() -> dict[tuple[str, str], ModelLadder]:
    """(domain, model) -> its whole ladder in the published records."""
    return {(m.domain, m.model): m for m in models_of(read_records(RESULTS)) if m.whole}


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
    lines = []
    for steps in sorted(STEPS):
        row = found["experiments"][f"steps {steps}"]
        before = [f"{row[name]:.3f}" for name in ("valid", "recall")]
        lines.append([str(2 * steps - 1), *before, *(f"{row[role]:.3f}" for role in ROLES)])
    headers = ["calls", "valid, uncompressed ↑", "mutual recall, uncompressed ↑"]
    return table([*headers, *(f"{role} kept at {GRID} ↑" for role in ROLES)], lines)


def halves(found: Found) -> str:
    names = {"all calls": f"steps {PUBLISHED}", "the first half": "first half", "the last half": "last half"}
    rows = {name: found["experiments"][key] for name, key in names.items()}
    lines = [[name, *(f"{row[role]:.3f}" for role in ROLES)] for name, row in rows.items()]
    return table([f"{GRID} in", *(f"{role} ↑" for role in ROLES)], lines)


def noises(found: Found) -> str:
    lines = []
    for domain, grid in NOISED:
        rows = [found["experiments"][f"{kind} {domain} {grid}"] for kind in ("rounding", "noise")]
        lines.append(
            [f"{domain} {TESTED}", f"`{grid}`", *(f"{row[role]:.3f}" for row in rows for role in ROLES)]
        )
    return table(["model", "grid", *(f"{k} {r} ↑" for k in ("rounding", "noise") for r in ROLES)], lines, 2)


def decoders(found: Found) -> str:
    """One line a grid and role, means over training seeds: the transformer, with the decoder of its codes,
    and the diffusion model of the same pictures. The last lines give C.
    """
    alone, other = ([published()[domain, model] for model in SEEDS] for domain in (TOKENS, DIFFUSION))
    columns = ((alone, kept_by_rung), (alone, functools.partial(with_decoder, found)), (other, kept_by_rung))
    lines = []
    for grid, role in itertools.product(DECODED, ROLES):
        values = [fmean(kept(m, role)[grid] for m in models) for models, kept in columns]
        lines.append([f"`{grid}`", role, *(f"{value:.3f}" for value in values)])
    for role in ROLES:
        values = [fmean(c_of(m, kept(m, role)) for m in models) for models, kept in columns]
        lines.append(["C", role, *(f"{value:.3f}" for value in values)])
    headers = ["rung", "role", "transformer ↑", "transformer and decoder ↑", "diffusion U-Net ↑"]
    return table(headers, lines, 2)


def kept_by_rung(m: ModelLadder, role: str) -> dict[str, float]:
    return dict(zip(m.rungs, map(float, m.outcomes[role].mean)))


def with_decoder(found: Found, m: ModelLadder, role: str) -> dict[str, float]:
    """What is left where the decoder is compressed, too; of rungs that were not tried, the published one."""
    tried = {grid: found["experiments"][f"decoder {m.model} {grid}"][role] for grid in DECODED}
    return kept_by_rung(m, role) | tried


def c_with_decoder(found: Found, m: ModelLadder, role: str) -> float:
    return c_of(m, with_decoder(found, m, role))


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
            lines.append([f"{domain} {model}", f"`{grid}`", part, *(f"{row[role]:.3f}" for role in ROLES)])
    return table(["model", "grid", "compressed", *(f"{role} ↑" for role in ROLES)], lines, 3)


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
    "tolerances": tolerances,
    "growth": paths,
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
