"""Writes the first page: the ranking of the domains, then one short table for each question."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import mean

from bench.methods.notation import LADDER
from bench.report.caveats import caveats, why_no_score
from bench.report.cells import DASH, kept_ratio, smaller_by_secondary, table
from bench.report.contrasts import short_answer
from bench.report.details import best_cells, retentions_at
from bench.report.during import during_section
from bench.report.loss_order import UNDECIDED, ratio_text
from bench.report.report_data import ReportData, methods
from bench.report.small_files import APART, fewest_bytes, reversed_order
from bench.report.verdict import answer
from bench.stats.comparison import ratio_at
from bench.stats.domain import Domain
from bench.stats.frontier import Best, frontier
from bench.stats.ladder import ROLES, ModelLadder, size_of, training_seed_of
from bench.stats.order import order_of
from bench.stats.scores import COUNTS_FROM, Score, good_enough, model_score
from bench.util.markup import as_text, joined, span

NOTES = """\
- **Ladder**: eight methods, `int8` to `binary`, that round each weight on its own. Each is a **rung**.
- **Sizes**: xs has about 0.125 million parameters, s 0.5, m 2. `s@0` is size s, training seed 0.
- **C**: mean retention over file sizes from the fp32 file down to a sixteenth; each halving has equal \
weight. 1 means that nothing is lost. No rung lies below 4x, so a network that fails right after `int8` \
still has a C of about 0.5.
- **90 % kept**: the largest ratio of the ladder at which a one-sided 95 % test over the training seeds shows
  a retention of at least 0.90, by the primary evaluators. The test is stricter than the mean. Single models
  and other methods can reach more: see below. {doubts}

[reading-the-leaderboard.md](docs/reading-the-leaderboard.md) explains all terms. Intervals, tests, and every
model and size alone are in [the details]({details}).
"""
RUNG_NOTES = """\
Mean retention of quality and of diversity over the models of the ranking. Above 1, samples score better than
those of the uncompressed network; below 0, worse than those of permuted weights. Networks with batch norm are
recalibrated. Other rungs, file sizes and spreads: [details]({details}#rung-by-rung).
"""
BETWEEN = ("int6", "int5", "int4", "int3")  # the rungs of the first page
METHOD_NOTES = """\
The best of all measured methods in a file at least this many times smaller. The best method has the largest \
minimum of quality and diversity. Sampling seed 0 selects it, and the numbers come from the other seeds, so \
the selection does not flatter them. They may differ a little from other pages.

Each domain is represented by the model with the most methods ({counts}). `+recalibrate` estimates running \
statistics again after compression. [compression.md](docs/compression.md) describes the methods. \
**4x to 8x**: this method is the best at each ratio of the range. A row is left out where even the best \
method keeps less than {least} of a role.
"""
LEAST_KEPT = 0.1  # of each role, in a row of this table
METHODS_THAT_TRAIN = """\
Methods that train (`qat`, `parq`, `prune_train`) also cost further steps of training.
"""
TOOL_NOTES = """\
The same for [other projects' tools](docs/tools.md), in our coding of their values. The row of a method stands
at the largest ratio at which it is the best.
"""
BEST_HEADERS = ["method", "ratio", *(f"{role} ↑" for role in ROLES)]
LOST_FIRST = """\
The columns give the ratio at which retention falls below 0.90; higher is better. Between two rungs it is
interpolated. A range covers the training seeds of a size; a seed without a whole ladder is left out.
**lost first**: the role that falls below 0.90 first; `undecided` if the 95 % intervals of the two ratios
overlap, and two entries if the seeds differ. The links lead to all numbers of a model.
"""
IN_BRACKETS = """\
Models in brackets are not ranked: their headroom U is below 0.5.
"""


def headline(found: ReportData, details: str) -> list[str]:
    """The parts of the first page above the table of models. `details` is the link to the page of details."""
    order = [d.name for d in ranked(found)]
    return [
        "## How compressible is each domain?\n",
        *(f"{sentence}\n" for sentence in answers(found)),
        ranking(found) + "\n",
        *filter(None, [short_answer(found, details)]),
        *([f"{few}\n"] if (few := fewest_bytes(found, order)) else []),
        *without_score(found),
        NOTES.format(details=details, doubts=doubted_ratios(found)),
        caveats(found.now, found.crossed),
        f"## What is left at 6 to 3 bits?\n\n{RUNG_NOTES.format(details=details)}",
        rungs(found) + "\n",
        *during_section(found, order, details),
        f"## The best method at each ratio\n\n{method_notes(found)}"
        f"{METHODS_THAT_TRAIN if found.ways else ''}",
        best_methods(found) + "\n",
        *filter(None, [best_tools(found)]),
    ]


def answers(found: ReportData) -> list[str]:
    """The answer in sentences: who is ahead on the ladder, and whom the best methods put ahead."""
    order = [d.name for d in ranked(found) if d.compared and d.score("quality") is not None]
    said = [answer(found.now).strip(), reversed_order(found, order)]
    return [sentence for sentence in said if sentence]


def best_tools(found: ReportData) -> str:
    """What the best of other projects' tools leave, in one network of each domain. Empty without them."""
    richest = found.richest
    lines = []
    for d in ranked(found):
        records = [r for r in richest.get(d.name, []) if r.tools]
        for _, same in itertools.groupby(frontier(records), key=lambda best: best.method):
            ratio, name, *rest = best_cells([*same][-1], d.name)
            lines.append([name, ratio, *rest])
    if not lines:
        return ""
    return f"{TOOL_NOTES}\n{table(['domain', 'at least', *BEST_HEADERS], lines, 3)}\n"


def ranked(found: ReportData) -> list[Domain]:
    """The domains, most compressible first by C of quality."""

    def score_of(d: Domain) -> float:
        score = d.score("quality")
        return -math.inf if score is None else score.value

    return sorted(found.now.domains, key=score_of, reverse=True)


def ranking(found: ReportData) -> str:
    """The table of domains, most compressible first; then those that are not compared yet, and why."""
    headers = [
        "domain",
        "C quality ↑",
        "C diversity ↑",
        "90 % of quality kept ↑",
        "90 % of diversity kept ↑",
    ]
    lines = [[d.name, *scores_and_ratios(d)] for d in ranked(found)]
    for domain, lacks in found.waiting.items():
        waits = f"{as_text(domain)}: not compared yet (missing: {'; '.join(lacks)})"
        lines.append([waits, *[DASH] * (len(headers) - 1)])
    return table(headers, lines)


def without_score(found: ReportData) -> list[str]:
    """Why a ranked domain has no C. Empty where each has one."""
    lines = []
    for d in ranked(found):
        if d.score("quality") is None:
            lines.append(f"- {as_text(d.name)} has no C: {'; '.join(map(_why_no_c, d.models))}.\n")
    return lines


def _why_no_c(m: ModelLadder) -> str:
    if reasons := why_no_score(m):
        return f"{m.model}: {', '.join(reasons)}"
    return f"{m.model} has no partner of its size and training seed, or its U is below {COUNTS_FROM}"


def score_line(m: ModelLadder | None) -> str:
    """C of one model, or why it has none."""
    if m is None:
        return "No C: no rung of the ladder was measured with its baseline (`--method ladder`).\n"
    if reasons := why_no_score(m):
        return f"No C: {'; '.join(reasons)}.\n"
    said = [f"{role} {_number(model_score(m, role))}" for role in ROLES]
    return f"C of this model: {', '.join(said)}. A ranking needs two domains.\n"


def scores_and_ratios(d: Domain) -> list[str]:
    """[C quality, C diversity, 90 % of quality kept, 90 % of diversity kept], in the README too."""
    return [
        *(_number(d.score(role)) for role in ROLES),
        *(kept_ratio(ratio_at(d, role, 0.9)) for role in ROLES),
    ]


def doubted_ratios(found: ReportData) -> str:
    """Where the secondary evaluators show 90 % kept at a smaller ratio; or empty."""
    return smaller_by_secondary(
        [
            (f"{as_text(d.name)} {role}", ratio_at(d, role, 0.9), ratio_at(second, role, 0.9))
            for d, second in found.now.by_both()
            for role in ROLES
        ]
    )


def rungs(found: ReportData) -> str:
    """Retention of quality and diversity where the domains differ most: a line for each domain and role.

    Below it, what the secondary evaluators doubt.
    """
    return table(*rung_lines(found, BETWEEN)) + _doubted_rungs(found)


def _doubted_rungs(found: ReportData) -> str:
    said = []
    for (d, second), role in itertools.product(found.now.by_both(), ROLES):
        doubted = []
        for rung in BETWEEN:
            first, other = (retentions_at(one, role, rung) for one in (d, second))
            if first and other and mean(first) - mean(other) > APART:
                doubted.append(f"{mean(other):.3f} at `{rung}`")
        said += [f"{as_text(d.name)} {role} {joined(doubted)}"] if doubted else []
    return f"\n\nThe secondary evaluators give more than {APART} less: {'; '.join(said)}." if said else ""


def rung_lines(found: ReportData, rungs: Sequence[str] = LADDER) -> tuple[list[str], list[list[str]]]:
    """(headers, lines) of this table, for some rungs."""
    lines = []
    for d in ranked(found):
        for role in ROLES if d.units else ():
            values = [retentions_at(d, role, rung) for rung in rungs]
            lines.append([f"{d.name} {role}", *(f"{mean(some):.3f}" if some else DASH for some in values)])
    return ["retention ↑", *(f"`{rung}`" for rung in rungs)], lines


def method_notes(found: ReportData) -> str:
    """What the table of methods holds; the more methods a domain has, the better is its best one."""
    richest = found.richest
    counts = [
        f"{as_text(d.name)} {len(methods(richest[d.name]))}" for d in ranked(found) if d.name in richest
    ]
    return METHOD_NOTES.format(least=LEAST_KEPT, counts=", ".join(counts))


def best_methods(found: ReportData) -> str:
    """The best method at each ratio, the domains one after another. One row where several ratios share it."""
    lines = []
    richest = found.richest
    for d in ranked(found):
        best_of = [one for one in frontier(richest.get(d.name, [])) if _usable(one)]
        # a method is best at ratios that follow each other
        for _, group in itertools.groupby(best_of, key=lambda best: best.method):
            same = list(group)
            _, name, *cells = best_cells(same[0], d.name)
            ends = dict.fromkeys(f"{one.target}x" for one in (same[0], same[-1]))
            lines.append([name, " to ".join(ends), *cells])
    return table(["domain", "at least", *BEST_HEADERS], lines, 3)


def _usable(best: Best) -> bool:
    return min(map(mean, best.values.values())) >= LEAST_KEPT


def models_table(found: ReportData, links: Mapping[tuple[str, str], str]) -> str:
    """Every model with records: where quality and diversity fall below 0.90. One row for each size.

    The training seeds of a size are links to the pages of their models.
    """
    ladders = {(m.domain, m.model): m for m in found.models}
    sizes: dict[tuple[str, str], list[str]] = {}
    for domain, model in links:
        size = size_of(model) + "@" if "@" in model else model
        sizes.setdefault((domain, size), []).append(model)
    lines = []
    for (domain, size), models in sizes.items():
        own = [ladders[domain, model] for model in models if (domain, model) in ladders]
        title = f"{as_text(domain)} {as_text(size.removesuffix('@'))} "
        names = {model: "@" + as_text(training_seed_of(model)) for model in models}
        if len(models) == 1:
            title, names = "", {models[0]: f"{as_text(domain)} {as_text(models[0])}"}
        poor = {m.model for m in own if not good_enough(m)}
        shown = []
        for model, name in names.items():
            link = f"[{name}]({links[domain, model]})"
            shown.append(f"({link})" if model in poor else link)
        counts = span((count for m in own if (count := found.parameters(m))), "{:,}".format)
        lines.append([title + " ".join(shown), counts or DASH, *_lost(own)])
    headers = ["model", "parameters", *(f"{role} below 0.90 at ↑" for role in ROLES), "lost first"]
    notes = LOST_FIRST + (IN_BRACKETS if any("([" in line[0] for line in lines) else "")
    return f"{notes}\n{table(headers, lines)}\n"


def _lost(models: Sequence[ModelLadder]) -> list[str]:
    """[quality below 0.90 at, diversity below 0.90 at, lost first]: ranges over models with whole ladders."""
    orders = [order_of(m) for m in models if m.whole]
    if not orders:
        return [DASH] * (len(ROLES) + 1)
    ranges = []
    for role in ROLES:
        ranges.append(span((order.onsets[role].ratio for order in orders), ratio_text))
    return [*ranges, ", ".join(sorted({order.first or UNDECIDED for order in orders}))]


def _number(score: Score | None) -> str:
    return DASH if score is None else f"{score.value:.3f}"
