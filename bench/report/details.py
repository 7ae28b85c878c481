"""Writes the page of details: comparisons between models with intervals and tests, and possible
explanations.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev

from bench.methods.notation import LADDER
from bench.report.caveats import checks, pairs_not_shown
from bench.report.cells import DASH, kept_ratio, table, with_interval
from bench.report.contrasts import data_or_network
from bench.report.during import during_details
from bench.report.loss_order import ORDER_NOTES, by_domain, losses
from bench.report.model_page import GENERATED
from bench.report.report_data import ReportData
from bench.report.secondary_table import secondary_agreement
from bench.report.size_tables import large_or_small, sizes
from bench.report.survivor_tables import survivors
from bench.report.verdict import PAIR_HEADERS, averaged_sizes, pairs
from bench.stats.comparison import Ratio, ratio_at
from bench.stats.compressibility import FULL_RANGE, HIGH_RANGE
from bench.stats.domain import Domain
from bench.stats.frontier import CHOOSING_SEED, Best, frontier
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.scores import counts, good_enough, model_score
from bench.stats.use import use_by_method
from bench.util.markup import as_text, joined


def details_page(found: ReportData, leaderboard: str, runtimes: Sequence[str] = ()) -> str:
    """The page as Markdown. `leaderboard` is the link back, `runtimes` the section of `bench edge`."""
    parts = [
        "# Details of the comparison\n",
        (
            f"[Back to the leaderboard]({leaderboard}). All intervals are 95 % intervals "
            f"([statistics.md](docs/statistics.md)).\n"
        ),
        "## Each domain, with intervals\n",
        SCORE_NOTES,
        domain_scores(found) + "\n",
        pair_by_pair(found),
        not_in_each_size(found),
        in_no_average(found),
        checks(found.now, found.wider),
        *size_by_size(found),
        *data_or_network(found),
        f"## How small can the file be?\n\n{RATIO_NOTES}",
        ratios(found) + "\n",
        f"## Rung by rung\n\n{RUNG_NOTES}",
        rungs(found) + "\n",
        *during_details(found),
        *secondary_agreement(found),
        f"## The best method at each ratio\n\n{METHOD_NOTES}",
        best_methods(found) + "\n",
        f"## What is lost first, quality or diversity?\n\n{ORDER_NOTES}",
        by_domain(found),
        losses(found) + "\n",
        f"## What else differs between the models?\n\n{COVARIATE_NOTES}",
        covariates(found) + "\n",
        *sizes(found),
        *large_or_small(found),
        *survivors(found),
        *runtimes,
        GENERATED,
    ]
    return "\n".join(parts)


# ------------------------------------------------------------------------------------------------ each domain

SCORE_NOTES = """\
- **C**: mean retention from the fp32 file down to a sixteenth. The mildest rung is about 4x, and the curve up
  to it is a straight line from 1. A network that breaks just after that rung still has a C of about 0.5.
- **4x to 16x**: the same from a quarter of the file down to a sixteenth, where the losses are.
- **90 % kept**: the largest ratio at which at least 0.90 is left by a one-sided 95 % test, and at every
  milder rung too.
- **lost from**: the mildest ratio from which all rungs test below 0.90. A later rise moves it to a larger
  ratio.
- The intervals are over training seeds. With one training seed there is none; its ratios are over sampling
  seeds and items.
"""


def domain_scores(found: ReportData) -> str:
    """C and the ratios of each domain, with intervals."""
    return table(
        ["domain", "models", *SCORE_HEADERS],
        [[d.name, str(sum(map(len, d.units))), *_scores(d)] for d in found.now.domains],
    )


SCORE_HEADERS = (
    *(f"C {role}{span}" for span in ("", ", 4x to 16x") for role in ROLES),
    *(
        f"{what} {role} {verb}"
        for role in ROLES
        for what, verb in (("90 % of", "kept ↑"), ("90 % of", "lost from"))
    ),
)


def _scores(d: Domain) -> list[str]:
    """C by span and role, then the two ratios at 0.90 by role."""
    scores = [with_interval(d.score(role, span)) for span in (FULL_RANGE, HIGH_RANGE) for role in ROLES]
    return scores + [cell for role in ROLES for cell in ratio_cells(ratio_at(d, role, 0.9))]


def ratio_cells(ratio: Ratio | None) -> list[str]:
    """[the largest ratio that keeps the threshold, the ratio from which it is lost]."""
    if ratio is None:
        return [DASH, DASH]
    stopped = " (samples too short)" if ratio.stopped_by == "length" else ""
    return [kept_ratio(ratio) + stopped, DASH if ratio.refuted is None else f"{ratio.refuted:.1f}x"]


PAIR_NOTES = """\
The test of each pair: C of the first domain minus C of the second. The p-values are adjusted for all pairs
and roles together (Holm); the intervals are not adjusted. An undecided pair may differ by as much as the
farther end of its interval.
"""


def pair_by_pair(found: ReportData) -> str:
    """The test behind each claim. Empty where nothing is compared."""
    lines = pairs(found.now)
    return f"{PAIR_NOTES}\n{table(PAIR_HEADERS, lines, left=2)}\n" if lines else ""


SIZE_AND_PAIR = ("size", *PAIR_HEADERS)
NOT_SHOWN_NOTES = """\
**Claims that one size alone does not show**, with what that size finds. Each size has its own adjustment.
"""
OUTSIDE_NOTES = """\
**Sizes outside the averages of all domains.** Each is tested alone. Then the domains that have it are
compared by averages over all their sizes. Each such group of rows has its own adjustment.
"""


def not_in_each_size(found: ReportData) -> str:
    """The claims that rest on several sizes. Empty where each size shows every claim."""
    lines = pairs_not_shown(found.now)
    return f"{NOT_SHOWN_NOTES}\n{table(SIZE_AND_PAIR, lines, left=3)}\n" if lines else ""


def in_no_average(found: ReportData) -> str:
    """What the sizes find that no average counts. Empty where they allow no test."""
    lines = []
    for size, one in found.now.outside.items():
        for group in filter(None, [one, found.now.including.get(size)]):
            tested = any(c.difference is not None for c in group.comparisons)
            names = joined([as_text(name) for name in averaged_sizes(group)])
            lines += [[names, *line] for line in pairs(group)] if tested else []
    return f"{OUTSIDE_NOTES}\n{table(SIZE_AND_PAIR, lines, left=3)}\n" if lines else ""


SIZE_NOTES = """\
The same for each size alone. A size with one training seed has no interval, and its ratios are over sampling
seeds and items.
"""


def size_by_size(found: ReportData) -> list[str]:
    """The scores of each size alone. Empty where all ranked models have one size."""
    lines, sizes = [], set()
    for d in found.now.domains:
        counting = [m for m in d.models if counts(m)]
        for size in dict.fromkeys(m.size for m in counting):
            models = [m for m in counting if m.size == size]
            one = Domain(d.name, tuple(models), tuple((m,) for m in models))
            lines.append([as_text(size), as_text(d.name), str(len(models)), *_scores(one)])
            sizes.add(size)
    if len(sizes) < 2:
        return []
    return [
        SIZE_NOTES,
        table(["size", "domain", "models", *SCORE_HEADERS], sorted(lines, key=lambda line: line[0]), left=2)
        + "\n",
    ]


RATIO_NOTES = """\
Ratios at two thresholds, for the ranked models together and for each model alone. The test of one model is
over its sampling seeds and items, so it holds for that model only. It can certify more than the test over a
few training seeds.
"""


def ratios(found: ReportData) -> str:
    """The ratios at two thresholds, for each domain and for each of its ranked models."""
    lines = []
    for d in found.now.domains:
        alone = [Domain(d.name, (m,), ((m,),)) for m in d.averaged]
        name_of = as_text(d.name)
        singles = [(f"{name_of} {as_text(a.models[0].model)}", a) for a in alone]
        for name, one in [(f"**{name_of}**", d), *singles]:
            found_at = [ratio_at(one, role, threshold) for role in ROLES for threshold in (0.9, 0.95)]
            lines.append([name, *(cell for ratio in found_at for cell in ratio_cells(ratio))])
    headers = [
        f"{threshold} of {role} {what}"
        for role in ROLES
        for threshold in ("0.90", "0.95")
        for what in ("kept ↑", "lost from")
    ]
    return table(["models", *headers], lines)


# -------------------------------------------------------------------------------------------------- each rung

RUNG_NOTES = """\
Mean retention over the ranked models ± its standard deviation over sizes and training seeds together. With
one model it is the mean over its sampling seeds, without a spread. Networks with batch norm are recalibrated.
"""


def rungs(found: ReportData) -> str:
    """Mean retention by rung, the domains side by side."""
    domains = [d for d in found.now.domains if d.units]
    lines = []
    for rung in LADDER:
        line = [f"`{rung}`"]
        for d in domains:
            rate = d.rate(rung)
            line += [DASH if rate is None else f"{2**rate:.1f}x", *(_spread(d, role, rung) for role in ROLES)]
        lines.append(line)
    return table(["rung", *(f"{d.name}: {what}" for d in domains for what in ("ratio", *ROLES))], lines)


def retentions_at(d: Domain, role: str, rung: str) -> list[float]:
    """Retention of each ranked model at a rung."""
    models = [m for m in d.averaged if rung in m.rungs]
    return [float(m.outcomes[role].mean[m.rungs.index(rung)]) for m in models]


def _spread(d: Domain, role: str, rung: str) -> str:
    values = retentions_at(d, role, rung)
    if not values:
        return DASH
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


# ------------------------------------------------------------------------------------------------ each method

METHOD_NOTES = """\
As on the leaderboard, with every row and the use of the samples. **use**: how good a model becomes that is
trained on the samples and tested on real data ([secondary-evaluators.md](docs/secondary-evaluators.md)). 1 is
the uncompressed network, 0 a network of permuted weights. The interval is of this model; `-` means not
measured under these sampling seeds.
"""


def best_methods(found: ReportData) -> str:
    """The best method at each ratio."""
    lines: list[tuple[float, list[str]]] = []
    for domain, records in found.richest.items():
        use = use_by_method([r for r in records if r.sample_seed != CHOOSING_SEED])
        for best in frontier(records):
            cells = best_cells(best, f"{as_text(domain)} {as_text(records[0].model)}")
            lines.append((best.target, [*cells, with_interval(use.get(best.method))]))
    headers = ["at least", "model", "method", "ratio", *(f"{role} ↑" for role in ROLES), "use ↑"]
    return table(headers, [line for _, line in sorted(lines, key=lambda pair: pair[0])], left=3)


def best_cells(best: Best, name: str) -> list[str]:
    """[at least, domain or model, method, ratio, quality, diversity]"""
    kept = [f"{mean(best.values[role]):.3f}" for role in ROLES]
    return [f"{best.target}x", name, f"`{best.method}`", f"{best.ratio:.1f}x", *kept]


# ------------------------------------------------------------------------------------------------- covariates

COVARIATE_NOTES = """\
C has the interval of this model alone, over sampling seeds and items. **U**: headroom; 1 is as good as real
samples. **kurtosis**: excess kurtosis of the weights; 0 is Gaussian, positive means heavy tails.
**untouched**: share of the parameters that no method compresses. Models in brackets are not ranked, since
their U is below 0.5. A size is ranked only if every compared domain has it for each training seed.
"""


def covariates(found: ReportData) -> str:
    """One line for each model: headroom, C and the covariates of the network."""
    headers = ["model", "parameters", "U quality", "U diversity", "C quality", "C diversity"]
    headers += ["samples seen per parameter", "untouched", "kurtosis", "normalization layers"]
    return table(headers, [_covariate_line(found, m) for m in found.models])


def _covariate_line(found: ReportData, m: ModelLadder) -> list[str]:
    file = found.files.get((m.domain, m.model))
    a = file.anatomy if file else None
    count = found.parameters(m)
    name = f"{as_text(m.domain)} {as_text(m.model)}"
    return [
        name if good_enough(m) else f"({name})",
        f"{count:,}" if count else DASH,
        *(f"{m.u[role]:.2f}" if role in m.u else DASH for role in ROLES),
        *(with_interval(model_score(m, role)) for role in ROLES),
        f"{a.samples_per_parameter:.2f}" if a and a.samples_per_parameter else DASH,
        f"{100 * a.untouched_share:.1f} %" if a else DASH,
        f"{a.weight_kurtosis:.2f}" if a and a.weight_kurtosis is not None else DASH,
        (", ".join(f"{n} {kind}" for kind, n in a.normalisation.items()) or "none") if a else DASH,
    ]
