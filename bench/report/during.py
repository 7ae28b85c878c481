"""Writes the section "After training or during training?" of the leaderboard and of the page of details."""

from __future__ import annotations

from collections.abc import Sequence

from bench.methods.notation import CONTROL
from bench.report.report_data import DASH, ReportData, table, with_interval
from bench.stats.during import BothWays, DuringTraining, over_seeds
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES
from bench.stats.scores import Domain, ratio_at
from bench.util.markup import as_text, joined

TITLE = "## After training or during training?\n\n"
KEPT = 0.9
ONE_BIT = "binary"
UNTESTED = "one training seed is measured so far, so nothing is tested."
NOTES = """\
Mean retention of the same models, compressed after training and during training. **During** means a quarter
of the recipe's steps more, with the grid in each forward pass (`qat`). **After** recalibrates batch norm.
Compare rungs only where models are the same. All intervals:
[details]({details}#after-training-or-during-training).
"""
GAINS = """\
Gains by training, with 95 % intervals over training seeds (paired by model, not adjusted for the rungs):
"""
CONTROLS = "The **control** trains for the same steps without compression. Quality/diversity that it keeps:"
DETAIL_NOTES = """\
The same models both ways, under the same sampling seeds. The difference is during minus after, paired by
model. Its interval is over training seeds, as in the ranking; it is not adjusted. One training seed has none.
A training that diverged has retention 0.
"""
RATIO_NOTES = """\
**90 % kept**: the largest ratio of these rungs at which at least 0.90 is left, by the one-sided test of the
ranking. Rungs that were not trained do not count here, so the ladder may reach more after training.
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
    controls = [f"{as_text(one.name)} {said}" for one in ways if (said := _control_kept(one))]
    control = f"{CONTROLS} {', '.join(controls) or 'not measured'}.\n"
    gains = "".join(map(_gains, ways))
    parts = [f"{GAINS}\n{gains}"] if gains else []
    return [TITLE + NOTES.format(details=details), means(ways) + "\n", *parts, control]


def _ordered(found: ReportData, order: Sequence[str]) -> list[DuringTraining]:
    return [one for name in order for one in found.ways if one.name == name]


def means(ways: Sequence[DuringTraining]) -> str:
    """Mean retention after and during training: a line for each domain and rung."""
    lines = []
    for one in ways:
        for rung, row in one.rungs.items():
            values = [_value(d, role, rung) for role in ROLES for d in (row.after, row.during)]
            lines.append([f"{one.name} `{rung}`", _models(row), *values])
    headers = [f"{role} {when} ↑" for role in ROLES for when in ("after", "during")]
    return table(["domain and rung", "models", *headers], lines, 2)


def _gains(one: DuringTraining) -> str:
    """`- a: +0.734 [+0.614, +0.854] of quality ... at binary`, of the rungs with an interval; or empty."""
    said = []
    for rung, row in one.rungs.items():
        found = {role: row.difference(role, rung) for role in ROLES}
        if any(known is not None and known.interval() is not None for known in found.values()):
            said.append(f"{joined([f'{_signed(found[role])} of {role}' for role in ROLES])} at `{rung}`")
    return f"- {as_text(one.name)}: {'; '.join(said)}.\n" if said else ""


def _models(row: BothWays) -> str:
    """`s@0, s@1, s@2`; `6 (s, xs)` for many."""
    models = [m for unit in row.during.units for m in unit]
    if len(models) <= 3:
        return ", ".join(m.model for m in models)
    return f"{len(models)} ({', '.join(sorted({m.size for m in models}, key=len))})"


def _value(domain: Domain, role: str, rung: str) -> str:
    known = domain.retention(role, rung)
    return DASH if known is None else f"{known.value:.3f}"


def summary(one: DuringTraining) -> str:
    """What training with the grid changes in one domain, rung by rung; 1 bit; the control."""
    said = [f"**{one.name}**:"]
    if all(row.seeds < 2 for row in one.rungs.values()):
        return " ".join([*said, UNTESTED, _control(one)])
    for role in ROLES:
        said += _compared(one, role)
    return " ".join([*said, *_one_bit(one), _control(one)])


def _compared(one: DuringTraining, role: str) -> list[str]:
    """One sentence for each answer. Rungs of one training seed have none: the table gives their figures."""
    answers: dict[str, list[str]] = {}
    for rung, row in one.rungs.items():
        if (d := row.difference(role, rung)) is not None and (interval := d.interval()) is not None:
            answers.setdefault(_answer(interval), []).append(f"`{rung}` ({_signed(d)})")
    return [f"{answer.format(role=role)} {joined(rungs)}." for answer, rungs in answers.items()]


def _answer(interval: tuple[float, float]) -> str:
    if interval[0] > 0:
        return "Training keeps more {role} at"
    return "Training keeps less {role} at" if interval[1] < 0 else "No difference in {role} is shown at"


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
    """`0.995/1.003 (1 model)`: quality/diversity after the steps without compression; empty without it."""
    if one.control is None:
        return ""
    number = sum(map(len, one.control.units))
    kept = "/".join(_value(one.control, role, CONTROL) for role in ROLES)
    return f"{kept} ({number} model{'s' * (number > 1)})"


def _signed(difference: Estimate | None) -> str:
    """A difference with its interval: `+0.021 [+0.011, +0.031]`."""
    if difference is None:
        return DASH
    interval = difference.interval()
    ends = "" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
    return f"{difference.value:+.3f}{ends}"


# --------------------------------------------------------------------------------------------------- details


def during_details(found: ReportData) -> list[str]:
    """The section of the page of details; none where nothing was measured both ways."""
    if not found.ways:
        return []
    return [TITLE + DETAIL_NOTES, every_rung(found.ways) + "\n", RATIO_NOTES, both_ratios(found.ways) + "\n"]


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
        line.append(_signed(row.difference(role, rung)))
    return line


def both_ratios(ways: Sequence[DuringTraining]) -> str:
    """The control, and the largest ratio of these rungs that keeps 0.90: a line for each domain."""
    lines = []
    for one in ways:
        line = [one.name, *(_of_control(one.control, role) for role in ROLES)]
        for role in ROLES:
            line += [_kept_at(d, role) for d in (one.together.after, one.together.during)]
        lines.append(line)
    headers = ["domain", *(f"control: {role} ↑" for role in ROLES)]
    return table(
        [*headers, *(f"90 % of {role} kept, {when} ↑" for role in ROLES for when in ("after", "during"))],
        lines,
    )


def _of_control(control: Domain | None, role: str) -> str:
    return DASH if control is None else with_interval(over_seeds(control, role, CONTROL))


def _kept_at(domain: Domain, role: str) -> str:
    ratio = ratio_at(domain, role, KEPT)
    return DASH if ratio is None or ratio.certified is None else f"{ratio.certified:.1f}x"
