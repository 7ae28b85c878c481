"""Writes the first page: the ranking of the domains, then one short table for each question."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from statistics import mean

from bench.methods.notation import LADDER, is_trained
from bench.records.schema import Record
from bench.report.contrasts import short_answer
from bench.report.details import best_cells, losses_of, retentions_at, richest_models
from bench.report.during import during_section, few_bits
from bench.report.report_data import DASH, ReportData, table
from bench.report.verdict import answer, caveats, why_no_score
from bench.stats.frontier import TARGETS, Best, frontier
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.scores import COUNTS_FROM, Domain, Ratio, Score, good_enough, model_score, ratio_at
from bench.util.markup import as_text, joined

NOTES = """\
- **models**: how many networks are ranked: each training seed in each ranked size. Sizes: xs has about 0.125
  million parameters, s 0.5, m 2. `s@0` is size s, training seed 0.
- **C**: mean retention over file sizes from the fp32 file down to a sixteenth; each halving has equal weight.
  1 means that nothing is lost. No rung lies below 4x, so a network that fails right after `int8` still has a
  C of about 0.5.
- **90 % kept**: the largest ratio of the ladder at which at least 0.90 of the retention is left, by a
  one-sided 95 % test over the training seeds. Single models and other methods can reach more: see below.

[reading-the-leaderboard.md](docs/reading-the-leaderboard.md) explains all terms. Intervals, tests, and every
model and size alone are in [the details]({details}).
"""
RUNG_NOTES = """\
Mean retention over the models of the ranking, from 8 bits down to 1 bit. Networks with batch norm are
recalibrated. File sizes and spreads: [details]({details}#rung-by-rung).
"""
METHOD_NOTES = """\
The best of all measured methods in a file at least this many times smaller. The best method has the largest
minimum of quality and diversity. Sampling seed 0 selects it; the numbers come from the other seeds, so the
selection does not flatter them. Each domain is represented by the model with the most methods. **best up to**
is the largest of the ratios at which no other method is better.
"""
METHODS_THAT_TRAIN = """\
Methods that train (`qat`, `parq`, `prune_train`) also cost further steps of training.
"""
EVALUATOR_NOTES = """\
C by the primary evaluators, and by secondary evaluators of another kind
([secondary-evaluators.md](docs/secondary-evaluators.md)). Rank correlations and disagreements:
[details]({details}#do-other-evaluators-agree).
"""
LOST_FIRST = """\
The ratio at which the retention of each model falls below 0.90, on straight lines between the rungs of its
ladder. **lost first** names quality or diversity only where the 95 % intervals do not overlap. The link leads
to all numbers of the model.
"""
SHOWN_RATIOS = (8, 12)  # of the best methods
IN_BRACKETS = """\
Models in brackets are not ranked: their headroom U is below 0.5.
"""


def headline(found: ReportData, details: str) -> list[str]:
    """The parts of the first page above the table of models. `details` is the link to the page of details."""
    parts = [
        "## How compressible is each domain?\n",
        *(f"{sentence}\n" for sentence in answers(found)),
        ranking(found) + "\n",
        *without_score(found),
        NOTES.format(details=details),
        caveats(found.now),
        *filter(None, [short_answer(found, details)]),
        f"## What is left at each bit width?\n\n{RUNG_NOTES.format(details=details)}",
        *(rungs(found, role) + "\n" for role in ROLES),
        *during_section(found, [d.name for d in ranked(found)], details),
        f"## The best method at each ratio\n\n{METHOD_NOTES}{METHODS_THAT_TRAIN if found.ways else ''}",
        best_methods(found) + "\n",
        *filter(None, [best_tools(found)]),
    ]
    if found.now.second_domains:
        parts += [
            f"## Do other evaluators agree?\n\n{EVALUATOR_NOTES.format(details=details)}",
            both_evaluators(found) + "\n",
        ]
    return parts


def answers(found: ReportData) -> list[str]:
    """The answer: who is ahead, how far each goes on the ladder and by the best methods, and the fewest bits
    during training.
    """
    order = [d.name for d in ranked(found)]
    said = [answer(found.now).strip(), _kept(ranked(found)), best_kept(found), *few_bits(found, order)]
    return [sentence for sentence in said if sentence]


def _kept(domains: Sequence[Domain]) -> str:
    """How small a file may be with 0.90 of quality and of diversity left. Empty without such a ratio."""
    said = []
    for role in ROLES:
        ratios = [(d.name, _ratio(ratio_at(d, role, 0.9))) for d in domains]
        parts = [f"{ratio} in {name}" for name, ratio in ratios if ratio != DASH]
        said += [f"at least 0.90 of {role} is left down to {joined(parts)}"] if parts else []
    return f"On the ladder, {'; '.join(said)}." if said else ""


def best_kept(found: ReportData) -> str:
    """What the best methods that do not train keep, in one network of each domain. Empty without them."""
    said = _best_by_ratio(found, SHOWN_RATIOS, lambda r: not is_trained(r.method), _kept_in)
    return f"The best methods after training keep quality/diversity of one network: {said}." if said else ""


def best_tools(found: ReportData) -> str:
    """What the best of other projects' tools keep, in one network of each domain. Empty without them."""

    def named(best: Best, d: Domain) -> str:
        return f"{_kept_in(best, d)} (`{best.method}`)"

    said = _best_by_ratio(found, TARGETS, lambda r: bool(r.tools), named)
    if not said:
        return ""
    return (
        f"The best of [other projects' tools](docs/tools.md) keep quality/diversity, in our coding of their "
        f"values: {said}. Domains without such a file are not named.\n"
    )


def _best_by_ratio(
    found: ReportData,
    ratios: Sequence[float],
    chosen: Callable[[Record], bool],
    told: Callable[[Best, Domain], str],
) -> str:
    """`at 8x or more, ...; at 12x or more, ...`: the best of the chosen records of each domain."""
    richest = richest_models(found)
    said = []
    for ratio in ratios:
        kept = []
        for d in ranked(found):
            records = [r for r in richest.get(d.name, []) if chosen(r)]
            kept += [told(best, d) for best in frontier(records, (ratio,))]
        said += [f"at {ratio}x or more, {joined(kept)}"] if kept else []
    return "; ".join(said)


def _kept_in(best: Best, d: Domain) -> str:
    """`0.98/1.00 in image_gan`: quality and diversity."""
    return f"{'/'.join(f'{mean(best.values[role]):.2f}' for role in ROLES)} in {as_text(d.name)}"


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
        "models",
        "C quality ↑",
        "C diversity ↑",
        "90 % of quality kept ↑",
        "90 % of diversity kept ↑",
    ]
    lines = []
    for d in ranked(found):
        lines.append([d.name, str(sum(map(len, d.units))), *scores_and_ratios(d)])
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


def score_line(found: ReportData, domain: str, model: str) -> str:
    """C of one model, or why it has none."""
    m = next((m for m in found.models if (m.domain, m.model) == (domain, model)), None)
    if m is None:
        return "No C: no rung of the ladder was measured with its baseline (`--method ladder`).\n"
    if reasons := why_no_score(m):
        return f"No C: {'; '.join(reasons)}.\n"
    said = [f"{role} {_number(model_score(m, role))}" for role in ROLES]
    return f"C of this model: {', '.join(said)}. A ranking needs two domains.\n"


def scores_and_ratios(d: Domain) -> list[str]:
    """[C quality, C diversity, 90 % of quality kept, 90 % of diversity kept], in the README too."""
    return [*(_number(d.score(role)) for role in ROLES), *(_ratio(ratio_at(d, role, 0.9)) for role in ROLES)]


def rungs(found: ReportData, role: str) -> str:
    """Retention of one role by rung, the domains side by side."""
    domains = [d for d in ranked(found) if d.units]
    lines = []
    for rung in LADDER:
        lines.append([f"`{rung}`", *(_mean_retention(d, role, rung) for d in domains)])
    return table([f"{role} ↑", *(d.name for d in domains)], lines)


def _mean_retention(d: Domain, role: str, rung: str) -> str:
    values = retentions_at(d, role, rung)
    return f"{mean(values):.3f}" if values else DASH


def best_methods(found: ReportData) -> str:
    """The best method at each ratio, the domains one after another. One row where several ratios share it."""
    lines: list[tuple[float, list[str]]] = []
    richest = richest_models(found)
    for d in ranked(found):
        best_of = frontier(richest.get(d.name, []))  # a method is best at ratios that follow each other
        for _, group in itertools.groupby(best_of, key=lambda best: best.method):
            same = list(group)
            _, *cells = best_cells(same[0], d.name)
            lines.append((same[0].target, [f"{same[0].target}x", f"{same[-1].target}x", *cells]))
    headers = ["at least", "best up to", "domain", "method", "ratio", *(f"{role} ↑" for role in ROLES)]
    return table(headers, [line for _, line in sorted(lines, key=lambda pair: pair[0])], left=4)


def both_evaluators(found: ReportData) -> str:
    """C of each role, by the primary and by the secondary evaluators."""
    secondary = {d.name: d for d in found.now.second_domains}
    lines = []
    for d in ranked(found):
        if (other := secondary.get(d.name)) is not None:
            lines.append([d.name, *(_number(one.score(role)) for role in ROLES for one in (d, other))])
    return table(
        ["domain", *(f"{role}, {which}" for role in ROLES for which in ("primary", "secondary"))], lines
    )


def models_table(found: ReportData, links: Mapping[tuple[str, str], str]) -> str:
    """Every model with records: its page, its parameters, and where quality and diversity fall below 0.90."""
    known = {(m.domain, m.model): m for m in found.models}
    lines = []
    for (domain, model), link in links.items():
        name = f"[{as_text(domain)} {as_text(model)}]({link})"
        m = known.get((domain, model))
        count = m and found.parameters(m)
        lost = losses_of(m) if m is not None and m.whole else [DASH] * (len(ROLES) + 1)
        lines.append(
            [name if m is None or good_enough(m) else f"({name})", f"{count:,}" if count else DASH, *lost]
        )
    headers = ["model", "parameters", *(f"{role} below 0.90 at ↑" for role in ROLES), "lost first"]
    notes = LOST_FIRST + (IN_BRACKETS if any(line[0].startswith("(") for line in lines) else "")
    return f"{notes}\n{table(headers, lines)}\n"


def _number(score: Score | None) -> str:
    return DASH if score is None else f"{score.value:.3f}"


def _ratio(ratio: Ratio | None) -> str:
    return DASH if ratio is None or ratio.certified is None else f"{ratio.certified:.1f}x"
