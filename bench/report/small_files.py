"""The table of small files: what the best methods after training and few levels during training leave."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.methods.notation import during, is_trained, without_recalibration
from bench.records.schema import Record
from bench.report.cells import DASH, table
from bench.report.report_data import ReportData, methods
from bench.stats.compressibility import mean_retention
from bench.stats.during import BothWays, domain_of
from bench.stats.frontier import CHOOSING_SEED, frontier
from bench.stats.ladder import ROLES
from bench.stats.rank_agreement import as_secondary_sees
from bench.util.markup import as_text, joined, span

RATIOS = (8, 12)  # the least of the best methods; there the order of two domains may be reversed
AFTER, DURING = "after training", "during training"
FEWEST = {"ternary": "three levels", "binary": "1 bit"}  # rung -> values of a weight
CLEARLY, APART = 0.03, 0.2  # of retention
DOUBTS = f"For these files the secondary evaluators give more than {APART} less:"
NOTES = """\
The table gives the retention of small files. Each column names their ratios. **After training**: the
best method without further training, in one network of each domain
([all methods]({page}#the-best-method-at-each-ratio))."""
DURING_NOTES = """
**During training**: quantization-aware training (`qat`), the mean over the largest networks that were
trained{networks} ([after or during training]({page}#after-training-or-during-training))."""


@dataclass(frozen=True)
class Kept:
    """A domain's files of one kind and what is left in them."""

    ratio: float
    values: Mapping[str, float]  # role -> mean retention
    records: Sequence[Record]  # of these means

    @property
    def networks(self) -> list[str]:
        """The models of the records."""
        return sorted({r.model for r in self.records})

    def secondary(self) -> dict[str, float]:
        """The same means by the secondary evaluators, without roles of which one of them has no score."""
        seen = [as_secondary_sees(r) for r in self.records]
        return {} if None in seen else means([r for r in seen if r is not None])


def means(records: Sequence[Record]) -> dict[str, float]:
    """Role -> mean retention; that of a network that diverged is 0. Without roles that a record lacks."""
    return {role: kept for role in ROLES if (kept := mean_retention(records, role)) is not None}


Row = Mapping[str, Kept]  # by domain


def rows(found: ReportData, domains: Sequence[str]) -> dict[str, Row]:
    """What was done -> the files of these domains; without those in which nothing is measured."""
    every = {f"{AFTER}, at least {ratio}x": best_after(found, ratio) for ratio in RATIOS}
    every |= {f"{DURING}, {name}": trained_with(found, rung) for rung, name in FEWEST.items()}
    shown = {}
    for title, row in every.items():
        shown[title] = {name: row[name] for name in domains if name in row}
    return {title: row for title, row in shown.items() if row}


def best_after(found: ReportData, ratio: float) -> dict[str, Kept]:
    """The best method that does not train, in one network of each domain."""
    best = {name: _best(every, ratio) for name, every in found.richest.items()}
    return {name: one for name, one in best.items() if one is not None}


def _best(every: Sequence[Record], ratio: float, among: Container[str] | None = None) -> Kept | None:
    """The same of one network. among: only these, named without recalibration; None: all."""
    usable = [r for r in every if not is_trained(r.method)]
    if among is not None:
        usable = [r for r in usable if without_recalibration(r.method) in among]
    one = next(iter(frontier(usable, (ratio,))), None)
    if one is None:
        return None
    own = [r for r in usable if r.method == one.method and r.sample_seed != CHOOSING_SEED]
    return Kept(one.ratio, {role: fmean(one.values[role]) for role in ROLES}, own)


def trained_with(found: ReportData, rung: str) -> dict[str, Kept]:
    """The networks of the largest size that were trained with a rung's grid, by domain."""
    rows = {one.name: one.rungs[rung] for one in found.ways if rung in one.rungs}
    kept = {name: _of_largest(found, name, row, rung) for name, row in rows.items()}
    return {name: one for name, one in kept.items() if one is not None}


def _of_largest(found: ReportData, name: str, row: BothWays, rung: str) -> Kept | None:
    models = row.during.averaged
    size = found.largest_size(models)
    of_size = domain_of(name, [m for m in models if m.size == size])
    rate = of_size.rate(rung)
    names = [m.model for m in of_size.models]
    known = {role: of_size.retention(role, rung) for role in ROLES}
    values = {role: one.value for role, one in known.items() if one is not None}
    own = [r for r in found.records if (r.domain, r.method) == (name, during(rung)) and r.model in names]
    whole = rate is not None and len(values) == len(ROLES)
    return Kept(2**rate, values, own) if whole and rate is not None else None


def small_files(shown: Mapping[str, Row], order: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """(headers, lines): a line for each domain and role, a column for each kind of file."""
    titles = [f"{title}: {_ratios(row)}" for title, row in shown.items()]
    lines = []
    for name, role in itertools.product(order, ROLES):
        kept = [row.get(name) for row in shown.values()]
        cells = [DASH if one is None else f"{one.values[role]:.2f}" for one in kept]
        lines.append([f"{name} {role}", *cells])
    return ["kept ↑", *titles], lines


def _ratios(row: Row) -> str:
    return span((one.ratio for one in row.values()), "{:.1f}x".format)


def fewest_bytes(found: ReportData, order: Sequence[str], page: str = "") -> str:
    """The table with its notes; empty where nothing is measured.

    page: the link to the page of the sections on methods and on training.
    """
    shown = rows(found, order)
    if not shown:
        return ""
    headers, lines = small_files(shown, order)
    trained = [kept for title, row in shown.items() if title.startswith(DURING) for kept in row.values()]
    notes = NOTES.format(page=page)
    if trained:
        every = {joined(kept.networks) for kept in trained}
        named = f": {every.pop()}" if len(every) == 1 else ""
        notes += DURING_NOTES.format(page=page, networks=named)
    return f"{table(headers, lines)}\n\n{notes}{doubts(shown)}"


def doubts(shown: Mapping[str, Row]) -> str:
    """Where the secondary evaluators see far less left than the primary ones; or empty."""
    said = []
    for title, row in shown.items():
        for name, kept in row.items():
            for role, value in kept.secondary().items():
                if kept.values[role] - value > APART:
                    said.append(f"{as_text(name)} {role} {value:.2f} ({title})")
    return f"\n\n{DOUBTS} {'; '.join(said)}." if said else ""


def reversed_order(found: ReportData, order: Sequence[str]) -> str:
    """Pairs of domains whose quality the best methods order otherwise, in one sentence; empty without any.

    order: the domains by C of quality. Only methods that both domains have take part. Where there are
    secondary evaluators, they have to show it, too.
    """
    richest = found.richest
    measured = [name for name in order if name in richest]
    pairs = [
        (as_text(ahead), as_text(behind))
        for ahead, behind in itertools.combinations(measured, 2)
        if (gains := _reversal(richest[ahead], richest[behind])) and min(gains) > CLEARLY
    ]
    if not pairs:
        return ""
    which = f"of {joined(pairs[0])}" if len(pairs) == 1 else f"of {len(pairs)} pairs of domains"
    than: dict[str, list[str]] = {}
    for ahead, behind in pairs:
        than.setdefault(behind, []).append(ahead)
    more = "; ".join(f"to {one} than to {joined(others)}" for one, others in than.items())
    return (
        f"**The best methods without further training reverse the order {which}**: in one network of each, "
        f"they leave more quality {more}."
    )


def _reversal(ahead: Sequence[Record], behind: Sequence[Record]) -> list[float]:
    """How much more quality the best shared methods leave to `behind`: at each ratio, by each evaluator."""
    shared = set(map(without_recalibration, methods(ahead)))
    shared &= set(map(without_recalibration, methods(behind)))
    gains = []
    for ratio in RATIOS:
        a, b = _best(ahead, ratio, shared), _best(behind, ratio, shared)
        gains += _gains(a, b) if a is not None and b is not None else []
    return gains


def _gains(a: Kept, b: Kept) -> list[float]:
    """How much more quality b keeps than a, by the primary evaluators and by the secondary ones."""
    views = [(a.values, b.values), (a.secondary(), b.secondary())]
    role = "quality"
    return [second[role] - first[role] for first, second in views if role in first and role in second]
