"""Writes the section "After training or during training?" of the leaderboard and of the page of details."""

from __future__ import annotations

from collections.abc import Sequence

from bench.methods.notation import CONTROL
from bench.report.report_data import DASH, ReportData, table, with_interval
from bench.stats.during import BothWays, DuringTraining, over_seeds
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES
from bench.stats.scores import Domain, ratio_at
from bench.util.markup import joined

TITLE = "## After training or during training?\n\n"
KEPT = 0.9
ONE_BIT = "binary"
FEWEST = {"ternary": ("three levels", "keep"), ONE_BIT: ("1 bit", "keeps")}
UNTESTED = "one training seed is measured so far, so nothing is tested."
NOTES = """\
Mean retention of the same models, compressed after training and during training. **During** means a quarter
of the recipe's steps more, with the grid in each forward pass (`qat`). **After** recalibrates batch norm.
Ratios, intervals and the control: [details]({details}#after-training-or-during-training).
"""
CAVEAT = """\
Brackets are 95 % intervals over training seeds, paired by model and not adjusted for the number of rungs. One
training seed has no interval. The control trains for the same steps without compression.
"""
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
    said = "".join(f"- {summary(one)}\n" for one in ways)
    return [TITLE + NOTES.format(details=details), means(ways) + "\n", said, CAVEAT]


def _ordered(found: ReportData, order: Sequence[str]) -> list[DuringTraining]:
    return [one for name in order for one in found.ways if one.name == name]


def means(ways: Sequence[DuringTraining]) -> str:
    """Mean retention after and during training: a line for each domain and rung."""
    lines = []
    for one in ways:
        for rung, row in one.rungs.items():
            values = [_value(d, role, rung) for role in ROLES for d in (row.after, row.during)]
            lines.append([f"{one.name} `{rung}`", str(row.models), *values])
    headers = [f"{role} {when} ↑" for role in ROLES for when in ("after", "during")]
    return table(["domain and rung", "models", *headers], lines)


def _value(domain: Domain, role: str, rung: str, digits: int = 3) -> str:
    known = domain.retention(role, rung)
    return DASH if known is None else f"{known.value:.{digits}f}"


def few_bits(found: ReportData, order: Sequence[str]) -> list[str]:
    """What three levels and 1 bit a weight keep, during and after training: a sentence for each.

    A rung that was not measured both ways has none, nor have three levels of one training seed.
    """
    said = []
    for rung, (name, verb) in FEWEST.items():
        rows = [(one.name, one.rungs[rung]) for one in _ordered(found, order) if rung in one.rungs]
        if rows and (rung == ONE_BIT or min(row.seeds for _, row in rows) > 1):
            trained = joined([f"{_both(row.during, rung)} in {domain}" for domain, row in rows])
            after = joined([f"{_both(row.after, rung)} in {domain}" for domain, row in rows])
            sizes = sorted({m.size for _, row in rows for unit in row.during.units for m in unit}, key=len)
            of_sizes = f"size{'s' * (len(sizes) > 1)} {joined(sizes)}"
            said.append(
                f"During training, {name} a weight {verb} {'/'.join(ROLES)} of {trained} ({of_sizes}). "
                f"After training: {after}."
            )
    return said


def _both(domain: Domain, rung: str) -> str:
    return "/".join(_value(domain, role, rung, 2) for role in ROLES)


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
    if one.control is None:
        return "The control is not measured."
    kept = [f"{_value(one.control, role, CONTROL)} of {role}" for role in ROLES]
    number = sum(map(len, one.control.units))
    return f"The control ({number} model{'s' * (number > 1)}) keeps {joined(kept)}."


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
