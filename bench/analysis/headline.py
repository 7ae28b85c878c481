"""The first tables of the leaderboard: the domains ranked, rung by rung, the best methods, the order of loss, and what else differs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from bench.analysis.frontier import TARGETS, Best, frontier
from bench.analysis.measured import ROLES, Measured, conditions, grouped, with_records
from bench.analysis.order import Onset, order_of
from bench.analysis.scores import REGRESSED_FROM, Domain, Ratio, Score, good_enough, model_score, ratio_at
from bench.analysis.sizes import Gain, Point, iso_quality_gain, points, regress
from bench.analysis.survivors import ByCovariate
from bench.analysis.verdict import Situation, paragraph, situation
from bench.compressibility import FULL, HARD
from bench.methods.notation import LADDER
from bench.model_file import ModelFile
from bench.record import Record
from bench.registry import DOMAINS

DASH = "-"
ModelFiles = Mapping[tuple[str, str], ModelFile]


@dataclass(frozen=True)
class Material:
    """What all tables are made of."""

    records: Sequence[Record]  # of each model those under the conditions of its ladder
    models: Sequence[Measured]
    files: ModelFiles
    now: Situation
    wider: Situation

    def of(self, domain: str) -> list[Record]:
        return [r for r in self.records if r.domain == domain]

    def parameters(self, m: Measured) -> int | None:
        return next((r.cost.parameters for r in self.records if (r.domain, r.model) == (m.domain, m.model) and r.cost), None)


def material(records: Sequence[Record], files: ModelFiles) -> Material:
    found = with_records(records)
    models = [m for m, _ in found]
    missing = _missing(models)
    used = [r for _, same in found for r in same]
    return Material(used, models, files, situation(models, missing), situation(models, missing, REGRESSED_FROM))


def _missing(models: Sequence[Measured]) -> dict[str, list[str]]:
    """Domain -> what the published grid asks for and has no ladder."""
    known = {(m.domain, m.model) for m in models}
    domains = sorted({m.domain for m in models})
    return {d: [name for name in DOMAINS.load(d)().grid() if (d, name) not in known] for d in domains if d in DOMAINS}


def headline(records: Sequence[Record], files: ModelFiles) -> list[str]:
    """The parts of the leaderboard before the models'; nothing where fewer than two domains were measured."""
    found = material(records, files)
    if len(found.now.domains) < 2:
        return []
    return [
        "## How compressible is each domain?\n",
        paragraph(found.now, found.wider),
        ranking(found) + "\n",
        RANKING_NOTES,
        RATIO_NOTES,
        ratios(found) + "\n",
        f"## Rung by rung\n\n{RUNG_NOTES}",
        rungs(found) + "\n",
        f"## The best method at each ratio\n\n{FRONTIER_NOTES}",
        best_methods(found) + "\n",
        f"## What goes first, quality or diversity?\n\n{ORDER_NOTES}",
        losses(found) + "\n",
        f"## What else differs between the models\n\n{COVARIATE_NOTES}",
        covariates(found) + "\n",
        *sizes(found),
        *survivors(found),
    ]


def table(headers: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    from tabulate import tabulate

    align = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=align)


# ---------------------------------------------------------------------------------------------------------------- first table

RANKING_NOTES = """\
- **models**: training seeds x sizes that are compared; a model counts when its U is at least 0.5 in both roles
  ([docs/metrics.md](docs/metrics.md)).
- **C**: mean retention over all file sizes from the fp32 file down to a sixteenth, halvings count alike; 1 = nothing is lost. In brackets
  the 95 % interval over training seeds ([docs/statistics.md](docs/statistics.md)); with one training seed there is none.
- **4x to 16x**: the same from a quarter of the file down to a sixteenth, where the losses are.
- **90 % of … kept**: the largest compression at which at least 0.90 of it is shown to be left (one-sided 95 %, every milder rung too); in
  brackets the mildest rung at which less is shown to be left, there and at every harsher one. With one model: of that model, over
  sampling seeds and items.
- **iso-quality gain**: log2 of the bytes of the smallest uncompressed network of equal validity, minus log2 of the compressed file's;
  positive = compressing a larger network beats training a smaller one, 1 = by a factor of two; `-` until two sizes are measured.
"""


def ranking(found: Material) -> str:
    domains = sorted(found.now.domains, key=lambda d: -_value(d.score("quality")))
    headers = [
        *("domain", "models", "C quality ↑", "C diversity ↑", "C quality, 4x to 16x", "C diversity, 4x to 16x"),
        *("90 % of quality kept ↑", "90 % of diversity kept ↑", "iso-quality gain ↑"),
    ]
    lines = []
    for d in domains:
        scores = [with_interval(d.score(role, span)) for span in (FULL, HARD) for role in ROLES]
        ratios = [ratio_text(ratio_at(d, role, 0.9)) for role in ROLES]
        sizes = [*dict.fromkeys(m.size for unit in d.units for m in unit)]
        models = f"{len(d.units)} x {'+'.join(sizes)}" if d.units else "0"
        lines.append([d.name, models, *scores, *ratios, gain_text(iso_quality_gain(found.of(d.name), _all_sizes(d)))])
    return table(headers, lines)


RATIO_NOTES = """\
How small, for how much: the same at two thresholds, for all models of the mean together and for each alone (over its sampling seeds and
items). A single model is sure of more than a mean over few training seeds; it speaks for itself only.
"""


def ratios(found: Material) -> str:
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


def with_interval(score: Score | None, digits: int = 3) -> str:
    if score is None:
        return DASH
    interval = score.interval()
    return f"{score.value:.{digits}f}" + ("" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]")


def ratio_text(ratio: Ratio | None) -> str:
    if ratio is None:
        return DASH
    shown = DASH if ratio.certified is None else f"{ratio.certified:.1f}x"
    return (
        shown
        + (f" (lost at {ratio.refuted:.1f}x)" if ratio.refuted is not None else "")
        + ("; samples too short" if ratio.stopped_by == "length" else "")
    )


def gain_text(gain: Gain | None) -> str:
    return DASH if gain is None else f"{gain.bound} {gain.value:+.2f} (`{gain.rung}` of {gain.size})".strip()


# --------------------------------------------------------------------------------------------------------------- second table

RUNG_NOTES = """\
Retention of quality and of diversity, means over models ± their standard deviation (with one model the mean over its sampling seeds,
without a spread). Rungs are recalibrated where the network has running statistics (batch norm).
"""


def rungs(found: Material) -> str:
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
the model with the most methods; recalibrated methods only, where the network has running statistics.
"""


def best_methods(found: Material) -> str:
    columns: dict[str, dict[float, Best]] = {}
    for d in found.now.domains:
        groups = [same for _, group in grouped(found.of(d.name), lambda r: r.model) for _, same in grouped(group, conditions)]
        if groups:
            richest = max(groups, key=lambda g: len({r.method for r in g}))
            columns[f"{d.name} {richest[0].model}"] = {best.target: best for best in frontier(richest)}
    lines = []
    for target in TARGETS:
        line = [f"{target}x"]
        for by_target in columns.values():
            best = by_target.get(target)
            line += (
                [DASH] * 3
                if best is None
                else [f"`{best.method}` {best.ratio:.1f}x", *(f"{mean(best.values[role]):.3f}" for role in ROLES)]
            )
        lines.append(line)
    return table(["at least", *(f"{name}: {what}" for name in columns for what in ("method", *ROLES))], lines)


# ------------------------------------------------------------------------------------------------------------- order of loss

ORDER_NOTES = """\
The compression at which less than 0.90 is left, on the line through the rungs, with 95 % intervals of that model (over sampling seeds and
items). `first` names a role only where the two intervals do not overlap.
"""


def losses(found: Material) -> str:
    lines = []
    for m in found.models:
        if m.whole:
            order = order_of(m)
            lines.append(
                [f"{m.domain} {m.model}", *(onset_text(order.onsets[role]) for role in ROLES), order.first or "cannot be told apart"]
            )
    return table(["model", "quality below 0.90 at", "diversity below 0.90 at", "first"], lines)


def onset_text(onset: Onset) -> str:
    ratio = lambda x: f"{x:.1f}x" if math.isfinite(x) else "∞"
    return f"{ratio(onset.ratio)} [{ratio(onset.low)}, {ratio(onset.high)}]"


# ---------------------------------------------------------------------------------------------------------------- covariates

COVARIATE_NOTES = """\
C with the 95 % interval of this model alone (over sampling seeds and items). U: 1 = as good as real samples. **kurtosis**: of the weights,
0 = Gaussian, above = heavy tails. **untouched**: share of the parameters that no method compresses. Models in brackets do not count in the
first table (U below 0.5).
"""


def covariates(found: Material) -> str:
    headers = ["model", "parameters", "U quality", "U diversity", "C quality", "C diversity"]
    headers += ["samples seen a parameter", "untouched", "kurtosis", "normalisation layers"]
    lines = []
    for m in found.models:
        file = found.files.get((m.domain, m.model))
        a = file.anatomy if file else None
        count = found.parameters(m)
        name = f"{m.domain} {m.model}"
        lines.append(
            [
                name if good_enough(m) else f"({name})",
                f"{count:,}" if count else DASH,
                *(f"{m.u[role]:.2f}" if role in m.u else DASH for role in ROLES),
                *(with_interval(model_score(m, role)) for role in ROLES),
                f"{a.samples_per_parameter:.2f}" if a and a.samples_per_parameter else DASH,
                f"{100 * a.untouched_share:.1f} %" if a else DASH,
                f"{a.weight_kurtosis:.2f}" if a and a.weight_kurtosis is not None else DASH,
                (", ".join(f"{n} {kind}" for kind, n in a.normalisation.items()) or "none") if a else DASH,
            ]
        )
    return table(headers, lines)


def sizes(found: Material) -> list[str]:
    """The regression of C on size, a line a role; what is missing for it otherwise."""
    lines = []
    for role in ROLES:
        data = points(found.models, found.parameters, role)
        lines.append(f"- {role}: {_regression(data)}")
        solid = [p for p in data if not p.hollow]
        if len(solid) < len(data):
            lines.append(f"- {role}, without the models whose U is below 0.5: {_regression(solid)}")
    return [
        "**Does size matter?** C on log2 of the parameters, one slope for all domains, each domain its own level (least squares):\n",
        "\n".join(lines) + "\n",
    ]


def _regression(data: Sequence[Point]) -> str:
    fit = regress(data)
    if fit is None:
        return f"no regression: {len(data)} models, and no domain has two sizes or too little is left to estimate the error from."
    low, high = fit.slope.interval() or (math.nan, math.nan)
    models = f"{len(data)} models, {fit.residual_df} degrees of freedom"
    return f"{fit.slope.value:+.3f} a doubling, 95 % interval {low:+.3f} to {high:+.3f} ({models})."


# ------------------------------------------------------------------------------------------------------------------ survivors

SURVIVOR_NOTES = """\
Of the uncompressed network's valid samples, the share whose twin is still valid. **AUC**: the chance that a sample that failed was more
surprising to the judge (or rarer: farther from its neighbours among the real samples) than one that survived; 0.5 = it tells nothing.
**fails again**: of the samples that failed one rung of the ladder earlier, the share that fails here, beside that of those which had
survived it. Intervals: 95 %, over items. Of labels (classes of garments) the one that fares worst and the one that fares best: chosen as
extremes, so they differ by chance alone, too. All of it: `results/<domain>/<model>/model.json`.
"""


def survivors(found: Material) -> list[str]:
    lines = [line for m in found.models if (file := found.files.get((m.domain, m.model))) for line in _survival_lines(m, file)]
    if not lines:
        return []
    headers = [
        "model",
        "rung",
        "survival ↑",
        "AUC surprisal",
        "AUC rarity",
        "by the domain's own traits",
        "fails again",
        "fails after surviving",
    ]
    folded = f"<details><summary>All models, rung by rung</summary>\n\n{table(headers, lines, left=2)}\n\n</details>\n"
    return [f"## Which samples survive?\n\n{SURVIVOR_NOTES}", folded]


def _survival_lines(m: Measured, file: ModelFile) -> list[list[str]]:
    lines = []
    steps = {step.harsher: step.table for step in file.ladder}
    for rung in m.rungs:
        method = next((name for name in file.survival if name == rung + "+recalibrate"), rung)
        found = file.survival.get(method)
        if found is None:
            continue
        by = found.by or {}
        step = steps.get(method)
        shares = (step.after_failure, step.after_survival) if step is not None else (None, None)
        lines.append(
            [
                f"{m.domain} {m.model}",
                f"`{rung}`",
                _bracketed(found.overall.share, found.overall.low, found.overall.high),
                *(_bracketed(a.value, a.low, a.high) if name in by and (a := by[name].auc) else DASH for name in ("surprisal", "rarity")),
                _by_traits(file, by),
                *(_bracketed(s.share, s.low, s.high) if s is not None else DASH for s in shares),
            ]
        )
    return lines


def _by_traits(file: ModelFile, by: Mapping[str, ByCovariate]) -> str:
    """Survival of the label that fares worst and of the one that fares best; the AUC of a trait that is a number."""
    parts = []
    for name, found in by.items():
        if found.auc is not None and name not in ("surprisal", "rarity"):
            parts.append(f"{name}: AUC {found.auc.value:.3f}")
        if (ends := found.labels) is not None:
            labels = file.covariates[name].labels
            shares = [(label, found.survival[labels.index(label)].share) for label in (ends.lowest, ends.highest)]
            parts.append(f"{name}: " + " to ".join(f"{label} {share:.2f}" for label, share in shares if share is not None))
    return "; ".join(parts) or DASH


def _bracketed(value: float | None, low: float, high: float) -> str:
    return DASH if value is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
