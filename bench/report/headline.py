"""The first tables of the leaderboard: the domains ranked, how small for how much, rung by rung, the best methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from bench.methods.notation import LADDER
from bench.records.schema import Record
from bench.report.per_model import per_model
from bench.report.report_data import DASH, ModelFiles, ReportData, material, table, with_interval
from bench.report.secondary_table import second_opinions
from bench.report.verdict import PAIR_HEADERS, pairs, paragraph
from bench.stats.compressibility import FULL_RANGE, HIGH_RANGE
from bench.stats.frontier import CHOOSING_SEED, Best, frontier
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, conditions, grouped
from bench.stats.scores import Domain, Ratio, Score, counts, ratio_at
from bench.stats.sizes import Gain, iso_quality_gain
from bench.stats.use import use_by_method


def headline(records: Sequence[Record], files: ModelFiles) -> list[str]:
    """The parts of the leaderboard before the models'; nothing where fewer than two domains were measured."""
    found = material(records, files)
    if len(found.now.domains) < 2:
        return []
    return [
        "## How compressible is each domain?\n",
        ranking(found) + "\n",
        paragraph(found.now, found.wider),
        pair_by_pair(found),
        RANKING_NOTES,
        *size_by_size(found),
        RATIO_NOTES,
        ratios(found) + "\n",
        f"## Rung by rung\n\n{RUNG_NOTES}",
        rungs(found) + "\n",
        *second_opinions(found),
        f"## The best method at each ratio\n\n{FRONTIER_NOTES}",
        best_methods(found) + "\n",
        *per_model(found),
    ]


# ---------------------------------------------------------------------------------------------------------------- first table

RANKING_NOTES = """\
- **models**: training seeds x sizes that are compared; a model counts when its U is at least 0.5 in both roles
  ([docs/metrics.md](docs/metrics.md)), a size when every compared domain has it for each training seed. Sizes: xs about 0.125, s 0.5, m 2
  million parameters; `s@0` is size s of training seed 0.
- **C**: mean retention over all file sizes from the fp32 file down to a sixteenth, halvings count alike; 1 = nothing is lost. The mildest
  rung is about 4x, and up to it the curve is a straight line from 1: a network that breaks right behind it still has about 0.5. In
  brackets the 95 % interval over training seeds ([docs/statistics.md](docs/statistics.md)); with one training seed there is none.
- **4x to 16x**: the same from a quarter of the file down to a sixteenth, where the losses are.
- **90 % of … kept**: the largest compression at which at least 0.90 of it is shown to be left (one-sided 95 %, every milder rung too); in
  brackets the rung from which on less is shown to be left at every harsher one (a late rung that rises again moves it far down). With one
  model: of that model, over sampling seeds and items.
- **iso-quality gain**: log2 of the bytes of an uncompressed network of equal *validity*, on straight lines between the measured sizes,
  minus log2 of the compressed file's; positive = compressing a larger network beats training a smaller one and leaving it in fp32, 1 = by
  a factor of two; `-` until two sizes are measured. The smallest size is a yardstick only, and
  one with fewer training seeds than another takes no part. Chosen on sampling seed 0, measured on the others. By seed: each training
  seed's networks among themselves (≥: it is better than the largest uncompressed one, ≤: worse than the smallest). Diversity is not asked,
  and where sizes hardly differ in validity all this says little. What a small network does that is compressed as well:
  [large or small](#what-else-differs-between-the-models).
"""


def ranking(found: ReportData) -> str:
    domains = sorted(found.now.domains, key=lambda d: -_value(d.score("quality")))
    headers = [
        *("domain", "models", "C quality ↑", "C diversity ↑", "C quality, 4x to 16x", "C diversity, 4x to 16x"),
        *("90 % of quality kept ↑", "90 % of diversity kept ↑", "iso-quality gain ↑"),
    ]
    lines = []
    for d in domains:
        sizes = [*dict.fromkeys(m.size for unit in d.units for m in unit)]
        models = f"{len(d.units)} x {'+'.join(sizes)}" if d.units else "0"
        lines.append([d.name, models, *_kept(d), gain_text(iso_quality_gain(found.of(d.name), _all_sizes(d)))])
    return table(headers, lines)


def _kept(d: Domain) -> list[str]:
    """C by span and role, then the ratio at 0.90 by role."""
    scores = [with_interval(d.score(role, span)) for span in (FULL_RANGE, HIGH_RANGE) for role in ROLES]
    return scores + [ratio_text(ratio_at(d, role, 0.9)) for role in ROLES]


PAIR_NOTES = """\
Pair by pair: C of the first minus C of the second. Intervals are of the pair alone (an undecided pair may differ by as much as the farther
end of one); p is adjusted for all pairs and roles at once (Holm).
"""


def pair_by_pair(found: ReportData) -> str:
    """The test behind each claim; nothing where nothing is compared."""
    lines = pairs(found.now)
    return f"{PAIR_NOTES}\n{table(PAIR_HEADERS, lines, left=2)}\n" if lines else ""


SIZE_NOTES = """\
Size by size, over the training seeds of each, where more than one size counts: does what is claimed of the domains hold in each? Of a
size trained once C has no interval, and the ratios are over its sampling seeds and items.
"""


def size_by_size(found: ReportData) -> list[str]:
    """The first table for each size alone; nothing where all models that count are of one size."""
    lines, sizes = [], set()
    for d in found.now.domains:
        counting = [m for m in d.models if counts(m)]
        for size in dict.fromkeys(m.size for m in counting):
            models = [m for m in counting if m.size == size]
            one = Domain(d.name, tuple(models), tuple((m,) for m in models))
            lines.append([size, d.name, str(len(models)), *_kept(one)])
            sizes.add(size)
    if len(sizes) < 2:
        return []
    headers = ["size", "domain", "models", *(f"C {role}{span}" for span in ("", ", 4x to 16x") for role in ROLES)]
    headers += [f"90 % of {role} kept ↑" for role in ROLES]
    return [SIZE_NOTES, table(headers, sorted(lines, key=lambda line: line[0]), left=2) + "\n"]


RATIO_NOTES = """\
How small, for how much: the same at two thresholds, for all models of the mean together and for each alone (over its sampling seeds and
items). A single model is sure of more than a mean over few training seeds; it speaks for itself only.
"""


def ratios(found: ReportData) -> str:
    lines = []
    for d in found.now.domains:
        alone = [Domain(d.name, (m,), ((m,),)) for unit in d.units for m in unit]
        for name, one in [(f"**{d.name}**", d), *((f"{d.name} {a.models[0].model}", a) for a in alone)]:
            lines.append([name, *(ratio_text(ratio_at(one, role, threshold)) for role in ROLES for threshold in (0.9, 0.95))])
    return table(["models", *(f"{role}, {threshold} kept ↑" for role in ROLES for threshold in ("0.90", "0.95"))], lines)


def _value(score: Score | None) -> float:
    return score.value if score is not None else -math.inf


def _all_sizes(d: Domain) -> list[str]:
    return [*dict.fromkeys(m.size for m in d.models)]


def ratio_text(ratio: Ratio | None) -> str:
    if ratio is None:
        return DASH
    shown = DASH if ratio.certified is None else f"{ratio.certified:.1f}x"
    return (
        shown
        + (f" (lost from {ratio.refuted:.1f}x)" if ratio.refuted is not None else "")
        + ("; samples too short" if ratio.stopped_by == "length" else "")
    )


def gain_text(gain: Gain | None) -> str:
    if gain is None:
        return DASH
    sign = {"": "", "at least": "≥ ", "at most": "≤ "}
    alone = ", ".join(f"{sign[one.bound]}{one.value:+.2f}" for one in gain.by_seed)
    seeds = f"; by seed {alone}" if len(gain.by_seed) > 1 else ""
    return f"{gain.bound} {gain.value:+.2f} (`{gain.rung}` of {gain.size}{seeds})".strip()


# --------------------------------------------------------------------------------------------------------------- second table

RUNG_NOTES = """\
Retention of quality and of diversity, means over models ± their standard deviation, sizes and training seeds together (with one model the
mean over its sampling seeds, without a spread). Rungs are recalibrated where the network has running statistics (batch norm).
"""


def rungs(found: ReportData) -> str:
    domains = [d for d in found.now.domains if d.units]
    lines = []
    for rung in LADDER:
        line = [f"`{rung}`"]
        for d in domains:
            rate = d.rate(rung)
            line += [DASH if rate is None else f"{2**rate:.1f}x", *(_spread(d, role, rung) for role in ROLES)]
        lines.append(line)
    return table(["rung", *(f"{d.name}: {what}" for d in domains for what in ("ratio", *ROLES))], lines)


def _spread(d: Domain, role: str, rung: str) -> str:
    values = [float(m.outcomes[role].mean[m.rungs.index(rung)]) for unit in d.units for m in unit if rung in m.rungs]
    if not values:
        return DASH
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


# ---------------------------------------------------------------------------------------------------------------- third table

FRONTIER_NOTES = """\
Of all methods measured, the one whose smaller retention (quality or diversity) is largest in a file at least so many times smaller. It is
chosen on sampling seed 0, and what stands here was measured on the other seeds: the winner of many is otherwise flattered. Of each domain
the model with the most methods; recalibrated methods only, where the network has running statistics. **use**: what the samples are good
for, as training data, tried on real data ([docs/second-judges.md](docs/second-judges.md)); 1 = as good as the uncompressed network's,
0 = as those of permuted ones; 95 % interval of this model; `-`: not tried under the other seeds.
"""


def best_methods(found: ReportData) -> str:
    lines: list[tuple[float, list[str]]] = []
    for d in found.now.domains:
        groups = [same for _, group in grouped(found.of(d.name), lambda r: r.model) for _, same in grouped(group, conditions)]
        if groups:
            richest = max(groups, key=lambda g: len({r.method for r in g}))
            use = use_by_method([r for r in richest if r.sample_seed != CHOOSING_SEED])
            lines += [(best.target, _best_line(best, f"{d.name} {richest[0].model}", use)) for best in frontier(richest)]
    headers = ["at least", "model", "method", "ratio", *(f"{role} ↑" for role in ROLES), "use ↑"]
    return table(headers, [line for _, line in sorted(lines, key=lambda pair: pair[0])], left=3)


def _best_line(best: Best, model: str, use: Mapping[str, Estimate]) -> list[str]:
    kept = [f"{mean(best.values[role]):.3f}" for role in ROLES]
    return [f"{best.target}x", model, f"`{best.method}`", f"{best.ratio:.1f}x", *kept, with_interval(use.get(best.method))]
