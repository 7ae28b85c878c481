"""Writes the section "After training or during training?" of the leaderboard and of the page of details."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bench.methods.notation import CONTROL
from bench.report.cells import DASH, kept_ratio, signed, smaller_by_secondary, table, with_interval
from bench.report.report_data import ReportData
from bench.stats.comparison import Ratio, ratio_at
from bench.stats.domain import Domain
from bench.stats.during import BothWays, DuringTraining, compare_ways, domain_of, over_seeds
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, ModelLadder, size_of
from bench.stats.rank_agreement import secondary_views
from bench.util.markup import as_text, joined

TITLE = "## After training or during training?\n\n"
KEPT = 0.9
BOTH = tuple(itertools.product(ROLES, ("after", "during")))
ONE_BIT = "binary"
UNDECIDED = "No difference in {role} is shown at"
UNTESTED = "one training seed is measured so far, so nothing is tested."
NOTES = """\
Mean retention of the same models, compressed after training and during training. **During**: the trained
network trains on for a quarter of the steps of its first training, and computes with the rung's few values in
each step (`qat`). **After** is plain rounding, with batch norm recalibrated;
[other methods](#the-best-method-at-each-ratio) keep more. The largest models that were trained are shown; all
sizes and intervals: [details]({details}#after-training-or-during-training).
"""
GAINS = """\
Gains by training, paired by model, with 95 % intervals over training seeds (not adjusted for the rungs; one
seed has none). In round brackets: by the secondary evaluators.
"""
CONTROLS = "The **control** trains for the same steps without compression. Quality/diversity that it keeps:"
DETAIL_NOTES = """\
The same models both ways, under the same sampling seeds. The difference is during minus after, paired by
model. Its interval is over training seeds, as in the ranking; it is not adjusted. One training seed has none.
A training that diverged has retention 0.
"""
KEPT_NOTES = """\
The largest ratio at which a one-sided 95 % test over training seeds shows a retention of at least 0.90, by
the primary evaluators. Each line has the same models both ways. **After** covers the whole ladder, **during**
only the rungs that all of these models were trained with. `-`: none of them passes the test.
"""
CONTROL_NOTES = """\
**control**: retention after the same steps without compression, stored as fp32.
"""


# ----------------------------------------------------------------------------------------------- leaderboard


def during_section(found: ReportData, order: Sequence[str], details: str) -> list[str]:
    """The parts of the section; none where nothing was measured both ways.

    order: names of the domains. details: the link to the page of details.
    """
    ways = _ordered(found, order)
    if not ways:
        return []
    shown = [largest(found, one) for one in ways]
    controls = [f"{as_text(one.name)} {said}" for one in ways if (said := _control_kept(one))]
    control = f"{CONTROLS} {', '.join(controls) or 'not measured'}.\n"
    gains = "".join(_gains(one, second) for one, second in shown)
    kept = [KEPT_NOTES, both_ratios(found, ways, all_sizes=False) + "\n"]
    parts = [TITLE + NOTES.format(details=details), means([one for one, _ in shown]) + "\n"]
    return [*parts, f"{GAINS}\n{gains}", control, *kept]


def largest(found: ReportData, one: DuringTraining) -> tuple[DuringTraining, DuringTraining | None]:
    """(the comparison of the size of the largest models, the same by the secondary evaluators)."""
    size = found.largest_size(_trained(one))
    records = [r for r in found.records if r.domain == one.name and size_of(r.model) == size]
    (primary,), second = compare_ways(records), compare_ways(secondary_views(records))
    return primary, second[0] if second else None


def _trained(one: DuringTraining) -> list[ModelLadder]:
    """The models that any rung was trained in."""
    return one.together.during.averaged


def _ordered(found: ReportData, order: Sequence[str]) -> list[DuringTraining]:
    return [one for name in order for one in found.ways if one.name == name]


def means(ways: Sequence[DuringTraining]) -> str:
    """Mean retention after and during training: a line for each domain and rung."""
    lines = []
    for one in ways:
        for rung, row in one.rungs.items():
            values = [_value(d, role, rung) for role in ROLES for d in (row.after, row.during)]
            lines.append([f"{one.name} `{rung}`", _models(row), *values])
    headers = [f"{role} {when} ↑" for role, when in BOTH]
    return table(["domain and rung", "models", *headers], lines, 2)


def _gains(one: DuringTraining, second: DuringTraining | None) -> str:
    """`- a, binary: quality +0.734 [+0.614, +0.854] (+0.701) ...`"""
    said = []
    for rung, row in one.rungs.items():
        gains = []
        for role in ROLES:
            gains.append(f"{role} {signed(row.difference(role, rung))}{_seconded(one, second, role, rung)}")
        said.append(f"`{rung}`: {joined(gains)}")
    return f"- {as_text(one.name)}, {'; '.join(said)}.\n"


def _seconded(one: DuringTraining, second: DuringTraining | None, role: str, rung: str) -> str:
    """` (+0.026)`: the same difference by the secondary evaluators; empty if they lack a model."""
    other = _same_models(one, second, rung)
    found = None if other is None else other.difference(role, rung)
    return "" if found is None else f" ({found.value:+.3f})"


def _same_models(one: DuringTraining, second: DuringTraining | None, rung: str) -> BothWays | None:
    """The row of the secondary evaluators, if they have scored all models of the row."""
    other = None if second is None else second.rungs.get(rung)
    return other if other is not None and other.models == one.rungs[rung].models else None


def _models(row: BothWays) -> str:
    """`s@0, s@1, s@2`; `6 (s, xs)` for many."""
    models = row.during.averaged
    if len(models) <= 3:
        return ", ".join(m.model for m in models)
    return f"{len(models)} ({', '.join(sorted({m.size for m in models}, key=len))})"


def _value(domain: Domain, role: str, rung: str) -> str:
    known = domain.retention(role, rung)
    return DASH if known is None else f"{known.value:.3f}"


def summary(one: DuringTraining, second: DuringTraining | None = None) -> str:
    """What training with the grid changes in one domain, rung by rung; 1 bit; the control.

    second: the same by the secondary evaluators. The text says which gains they do not show.
    """
    said = [f"**{one.name}**:"]
    if all(row.seeds < 2 for row in one.rungs.values()):
        return " ".join([*said, UNTESTED, _control(one)])
    for role in ROLES:
        said += _compared(one, second, role)
    return " ".join([*said, *_one_bit(one), _control(one)])


def _compared(one: DuringTraining, second: DuringTraining | None, role: str) -> list[str]:
    """One sentence for each answer. Rungs of one training seed have none: the table gives their figures."""
    answers: dict[str, list[str]] = {}
    for rung, row in one.rungs.items():
        if (d := row.difference(role, rung)) is None or (interval := d.interval()) is None:
            continue
        answer = _answer(interval)
        if answer != UNDECIDED and (other := _same_models(one, second, rung)) is not None:
            theirs = other.difference(role, rung)
            if theirs is None or (ends := theirs.interval()) is None or _answer(ends) != answer:
                answer = f"By the primary evaluators alone, {answer[0].lower()}{answer[1:]}"
        answers.setdefault(answer, []).append(f"`{rung}` ({signed(d)})")
    return [f"{answer.format(role=role)} {joined(rungs)}." for answer, rungs in answers.items()]


def _answer(interval: tuple[float, float]) -> str:
    if interval[0] > 0:
        return "Training keeps more {role} at"
    return "Training keeps less {role} at" if interval[1] < 0 else UNDECIDED


def _one_bit(one: DuringTraining) -> list[str]:
    """Whether tests show that one bit a weight keeps 0.90 of each role."""
    if ONE_BIT not in one.rungs:
        return []
    said = []
    for role in ROLES:
        kept = over_seeds(one.rungs[ONE_BIT].during, role, ONE_BIT)
        if kept is not None:
            said.append(f"1 bit {_verdict(kept)} {KEPT:.2f} of {role} ({kept.value:.3f}).")
    return said


def _verdict(kept: Estimate) -> str:
    """By one-sided 95 % tests. One training seed shows nothing."""
    lower, upper = kept.lower(), kept.upper()
    if lower is not None and lower >= KEPT:
        return "keeps at least"
    return "keeps less than" if upper is not None and upper < KEPT else "is not shown to keep"


def _control(one: DuringTraining) -> str:
    said = _control_kept(one)
    return f"The control keeps {said} of quality/diversity." if said else "The control is not measured."


def _control_kept(one: DuringTraining) -> str:
    """`0.995/1.003 (xs@0)`: quality/diversity after the steps without compression; empty without it."""
    if one.control is None:
        return ""
    kept = "/".join(_value(one.control, role, CONTROL) for role in ROLES)
    return f"{kept} ({joined([m.model for m in one.control.averaged])})"


# --------------------------------------------------------------------------------------------------- details


def during_details(found: ReportData) -> list[str]:
    """The section of the page of details; none where nothing was measured both ways."""
    if not found.ways:
        return []
    tables = every_rung(found.ways), both_ratios(found, found.ways), controls(found.ways)
    notes = TITLE + DETAIL_NOTES, KEPT_NOTES, CONTROL_NOTES
    return [part for note, shown in zip(notes, tables) for part in (note, shown + "\n")]


def every_rung(ways: Sequence[DuringTraining]) -> str:
    """Retention and ratio both ways with intervals: a line for each domain and rung."""
    headers = ["domain", "rung", "models", "training seeds", "ratio after", "ratio during"]
    for role in ROLES:
        headers += [f"{role} after ↑", f"{role} during ↑", "difference ↑"]
    return table(headers, [_line(one.name, rung, row) for one in ways for rung, row in one.rungs.items()], 2)


def _line(name: str, rung: str, row: BothWays) -> list[str]:
    line = [name, f"`{rung}`", str(row.models), str(row.seeds)]
    line += [DASH if (rate := d.rate(rung)) is None else f"{2**rate:.1f}x" for d in (row.after, row.during)]
    for role in ROLES:
        line += [with_interval(over_seeds(d, role, rung)) for d in (row.after, row.during)]
        line.append(signed(row.difference(role, rung)))
    return line


def both_ratios(found: ReportData, ways: Sequence[DuringTraining], all_sizes: bool = True) -> str:
    """The largest ratio that keeps 0.90, after and during training: a line for each domain and size. Below
    it, where the secondary evaluators show less.

    all_sizes: or else of each domain only the size of the largest models.
    """
    lines, doubts = [], []
    for one in ways:
        second, trained = found.second_ways.get(one.name), _trained(one)
        for size in sorted({m.size for m in trained} if all_sizes else {found.largest_size(trained)}):
            names = [m.model for m in trained if m.size == size]
            title = f"{as_text(one.name)} {as_text(size)}"
            kept = _kept(one, found.models, names)
            lines.append([title, ", ".join(names), *map(kept_ratio, kept)])
            if second is not None and {m.model for m in _trained(second)}.issuperset(names):
                places = [f"{title} {what} {when} training" for what, when in BOTH]
                doubts += [*zip(places, kept, _kept(second, found.second_models, names))]
    shown = table(["90 % kept", "models", *(f"{what}, {when} ↑" for what, when in BOTH)], lines, 2)
    return "\n\n".join(filter(None, [shown, smaller_by_secondary(doubts)]))


def _kept(one: DuringTraining, ladders: Sequence[ModelLadder], names: Sequence[str]) -> list[Ratio | None]:
    """The largest ratios that keep 0.90 in these models: of each role, after and during training."""
    whole = [m for m in ladders if m.domain == one.name and m.model in names]
    own = [m for m in _trained(one) if m.model in names]
    both = domain_of(one.name, whole), domain_of(one.name, own)
    # the test is over training seeds: one network has none
    return [ratio_at(way, role, KEPT) if len(way.units) > 1 else None for role in ROLES for way in both]


def controls(ways: Sequence[DuringTraining]) -> str:
    """What the control keeps: a line for each domain."""
    lines = []
    for one in ways:
        names = [m.model for unit in (one.control.units if one.control else ()) for m in unit]
        kept = [_of_control(one.control, role) for role in ROLES]
        lines.append([one.name, ", ".join(names) or DASH, *kept])
    return table(["control", "models", *(f"{role} ↑" for role in ROLES)], lines, 2)


def _of_control(control: Domain | None, role: str) -> str:
    return DASH if control is None else with_interval(over_seeds(control, role, CONTROL))
