"""The second part of the leaderboard's first tables: the order of loss, what else differs between the models, which samples survive."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.report.report_data import DASH, ReportData, bracketed, table, with_interval
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, ModelLadder, size_of
from bench.stats.model_file import ModelFile
from bench.stats.order import Onset, order_of
from bench.stats.scores import good_enough, model_score
from bench.stats.sizes import (
    REFERENCE_SIZE,
    OwnSlopes,
    Point,
    best_within,
    of_sizes_trained_often,
    own_slopes,
    points,
    regress,
    with_sizes,
)
from bench.stats.survivors import ByCovariate
from bench.stats.twin_outcomes import BASELINE, TWIN_OUTCOMES, twin_outcomes_of

# ------------------------------------------------------------------------------------------------------------- order of loss


def per_model(found: ReportData) -> list[str]:
    """Parts that speak of single models."""
    return [
        f"## What goes first, quality or diversity?\n\n{ORDER_NOTES}",
        losses(found) + "\n",
        f"## What else differs between the models\n\n{COVARIATE_NOTES}",
        covariates(found) + "\n",
        *sizes(found),
        *large_or_small(found),
        *survivors(found),
    ]


ORDER_NOTES = """\
The compression at which less than 0.90 is left, on the line through the rungs, with 95 % intervals of that model (over sampling seeds and
items). `first` names a role only where the two intervals do not overlap.
"""


def losses(found: ReportData) -> str:
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
first table since their U is below 0.5; a size that is not there for every training seed of every compared domain is in no mean, either.
"""


def covariates(found: ReportData) -> str:
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


def sizes(found: ReportData) -> list[str]:
    """The regression of C on size, a line a role; what is missing for it otherwise."""
    lines = []
    for role in ROLES:
        data = points(found.models, found.parameters, role)
        lines.append(f"- {role}: {_regression(data)}")
        solid = [p for p in data if not p.hollow]
        if len(solid) < len(data):
            lines.append(f"- {role}, without the models whose U is below 0.5: {_regression(solid)}")
        if len(often := of_sizes_trained_often(data)) < len(data) and regress(often) is not None:
            lines.append(f"- {role}, without sizes trained fewer times than another: {_regression(often)}")
    return [
        "**Does size matter?** C on log2 of the parameters by least squares in each domain, and the mean of the domains' slopes "
        "([picture](docs/images/sizes.png)):\n",
        "\n".join(lines) + "\n",
    ]


WITHIN_NOTES = """\
**Large and compressed, or small?** Of all sizes and rungs of a domain, fp32 included, the network whose smaller value (validity, mutual
recall) is largest in a file of at most so many bytes: means over training seeds, chosen on sampling seed 0, measured on the others. Sizes
with fewer training seeds than another take no part. A line is left out where the one above it is still the best.
"""
LIMITS = tuple(1024 * 2**k for k in range(4, 14))


def large_or_small(found: ReportData) -> list[str]:
    """Nothing where no domain has two sizes."""
    lines, several = [], False
    for d in found.now.domains:
        records = found.of(d.name)
        several |= len({size_of(r.model) for r in records}) > 1
        for fits in best_within(records, LIMITS):
            values = [f"{fits.values[role]:.3f}" for role in ROLES]
            limit = f"{fits.limit // 1024:,} KB"
            lines.append([d.name, limit, f"`{fits.method}` of {fits.size}", f"{fits.stored / 1024:,.0f} KB", *values])
    headers = ["domain", "at most", "network", "file", "valid ↑", "mutual recall ↑"]
    return [WITHIN_NOTES, table(headers, lines) + "\n"] if several else []


def _levels(levels: Mapping[str, Estimate]) -> str:
    """Ends cut to [0, 1], as those of C are everywhere."""
    cut = {domain: tuple(min(1.0, max(0.0, end)) for end in level.interval() or (0.0, 1.0)) for domain, level in levels.items()}
    said = ", ".join(f"{domain} {level.value:.3f} [{cut[domain][0]:.3f}, {cut[domain][1]:.3f}]" for domain, level in levels.items())
    return f" C on these lines at {REFERENCE_SIZE / 1e6:g} M parameters: {said}."


def _by_domain(own: OwnSlopes | None) -> str:
    """Empty where fewer than two domains have several sizes."""
    if own is None:
        return ""
    said = [f"{domain} {with_sign(slope)}" for domain, slope in own.slopes.items()]
    return f" Domain by domain: {', '.join(said)}; were the slopes equal, they would differ as much with a chance of {own.p:.3f} (Welch)."


def with_sign(slope: Estimate) -> str:
    """`+0.021 [+0.011, +0.031]`"""
    low, high = slope.interval() or (math.nan, math.nan)
    return f"{slope.value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _regression(data: Sequence[Point]) -> str:
    fit = regress(data)
    if fit is None:
        return f"no regression: {len(data)} models, and no domain has two sizes or too little is left to estimate the error from."
    own = own_slopes(data)
    slope = fit.slope if own is None else own.average
    low, high = slope.interval() or (math.nan, math.nan)
    models = f"{len(data)} models, {slope.df:.3g} degrees of freedom"
    levels = _levels(fit.levels if own is None else own.levels)
    varied = with_sizes(data)
    if len(varied) < len(fit.levels):
        models += f"; more than one size only in {', '.join(varied)}"
    return f"{slope.value:+.3f} a doubling, 95 % interval {low:+.3f} to {high:+.3f} ({models}).{_by_domain(own)}{levels}"


# ------------------------------------------------------------------------------------------------------------------ survivors

TWIN_OUTCOME_NOTES = """\
Each sample beside its twin, made from the same random numbers by the uncompressed network ([picture](docs/images/survival.png)).
**intact**: valid, as before; **drifted**: valid, but another sample; **repaired**: valid only now; **degraded**: valid only before;
**still invalid**: neither. Shares of all samples, means over the models of the first table, with 95 % intervals over training seeds; of
a domain of which none counts there, over all its models, without.
"""


def fates(found: ReportData) -> list[str]:
    """The shares of all samples, rung by rung; nothing where no record holds twins."""
    lines = []
    for d in found.now.domains:
        if (known := twin_outcomes_of(d, found.records)) is None:
            continue
        for k, rung in enumerate(known.rungs):
            ends = [None] * len(TWIN_OUTCOMES) if known.intervals is None else [(low, high) for low, high in known.intervals[k].tolist()]
            cells = [bracketed(share, end) for share, end in zip(known.shares[k].tolist(), ends)]
            if rung == BASELINE:  # each sample is its own twin
                cells[1:-1] = [DASH] * (len(TWIN_OUTCOMES) - 2)
            lines.append([d.name, f"`{rung}`", *cells])
    headers = ["domain", "rung", *(name.replace("_", " ") for name in TWIN_OUTCOMES)]
    return [TWIN_OUTCOME_NOTES, table(headers, lines, left=2) + "\n"] if lines else []


SURVIVOR_NOTES = """\
**Which ones?** Of the uncompressed network's valid samples, the share whose twin is still valid. **AUC**: the chance that a sample that
failed was more surprising to the judge (or rarer: farther from its neighbours among the real samples) than one that survived; 0.5 = it
tells nothing.
**fails again**: of the samples that failed one rung of the ladder earlier, the share that fails here, beside that of those which had
survived it. Intervals: 95 %, over items. Of labels (classes of garments) the one that fares worst and the one that fares best: chosen as
extremes, so they differ by chance alone, too. All of it: `results/<domain>/<model>/model.json`.
"""


def survivors(found: ReportData) -> list[str]:
    lines = [line for m in found.models if (file := found.files.get((m.domain, m.model))) for line in _survival_lines(m, file)]
    parts = fates(found)
    if not lines:
        return ["## Which samples survive?\n", *parts] if parts else []
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
    return ["## Which samples survive?\n", *parts, SURVIVOR_NOTES, folded]


def _survival_lines(m: ModelLadder, file: ModelFile) -> list[list[str]]:
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
