"""Writes docs/findings.md from findings.template and the records: `python -m scripts.findings`.

The method `name` of `Page` returns what stands for the placeholder `{{ name arguments }}` of the template.
A line with the word DOMAIN is repeated for each domain that was measured with every method. One with the word
COMPARED is repeated for each compared domain.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

from bench.methods.notation import LADDER
from bench.records.edge import EdgeRecord, read_edge
from bench.records.schema import Record, read_records
from bench.report import edge
from bench.report.cells import signed
from bench.report.contrasts import said
from bench.report.during import summary
from bench.report.report_data import report_data
from bench.report.secondary_table import tau_text
from bench.report.verdict import answer
from bench.stats.contrasts import OTHER, What, components, shares
from bench.stats.during import BothWays
from bench.stats.ladder import ROLES
from bench.stats.model_file import ModelFile, out_of_date, read_models
from bench.stats.order import order_of
from bench.stats.scores import model_score
from bench.stats.sizes import points
from bench.util.files import write_atomically
from bench.util.markup import joined, span
from scripts.conditions import POOR, Condition, conditions, count, spans
from scripts.figures import (
    DIFFUSION,
    DOMAINS,
    FEW_BITS,
    GAN,
    OTHERS,
    ROOT,
    STEPS,
    Figures,
    both_left,
    known,
    short,
)
from scripts.studies.training_time import Planned

TEMPLATE = ROOT / "scripts" / "findings.template"
PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
WORDS = {"DOMAIN": DOMAINS, "COMPARED": (*DOMAINS, *OTHERS)}  # of lines that are repeated


def main() -> None:
    records, files = read_records(ROOT / "results"), read_models(ROOT / "results")
    if old := out_of_date(files, records):
        sys.exit(f"model.json of {old} is out of date: run `python -m bench describe --domain all`")
    try:
        page = findings(records, files, read_edge(ROOT / "results"))
    except ValueError as error:
        sys.exit(str(error))
    write_atomically(ROOT / "docs" / "findings.md", page)


def findings(
    records: Sequence[Record],
    files: Mapping[tuple[str, str], ModelFile],
    of_runtimes: Sequence[EdgeRecord],
) -> str:
    """The page. Raises `ValueError` where the template and the records do not fit."""
    f, template = Figures(report_data(records, files)), TEMPLATE.read_text(encoding="utf-8")
    said = edge.findings(edge.latest(of_runtimes))
    slow = [any(f"**{claim}**" in line for line in said) for claim in (edge.NOT_SPEED, edge.NO_GAIN)]
    check([*conditions(f), ("**Not by themselves.**", all(slow))], template)
    return fill(template, Page(f, said))


def check(found: Sequence[Condition], template: str) -> None:
    """Raises `ValueError` with each sentence that the records do not support, or that the template lacks."""
    plain = " ".join(template.split())
    wrong = [f"the records do not support: {words}" for words, holds in found if not holds]
    wrong += [f"not in the template: {words}" for words, _ in found if words not in plain]
    if wrong:
        raise ValueError("\n".join(wrong))


def fill(template: str, page: object) -> str:
    """Raises `ValueError` for placeholders that the page does not know, or that the template does not use."""
    offered = {name for name in vars(type(page)) if not name.startswith("_")}
    used = {words.split()[0] for words in PLACEHOLDER.findall(template)}
    if used != offered:
        raise ValueError(f"unknown placeholders: {sorted(used - offered)}; unused: {sorted(offered - used)}")
    lines = []
    for line in template.splitlines(keepends=True):
        word = next((word for word in WORDS if word in line), None)
        lines += [line] if word is None else [line.replace(word, domain) for domain in WORDS[word]]
    return PLACEHOLDER.sub(lambda found: _value(page, *found[1].split()), "".join(lines))


def _value(page: object, name: str, *arguments: str) -> str:
    return str(getattr(page, name)(*arguments))


def slash(values: Iterable[float]) -> str:
    """`.99/1.02`"""
    return "/".join(map(short, values))


class Page:
    """A method for each placeholder of the template."""

    def __init__(self, f: Figures, of_runtimes: Sequence[str]) -> None:
        self._f, self._of_runtimes = f, of_runtimes

    def answer(self) -> str:
        """As the leaderboard says it."""
        return answer(self._f.found.now).strip()

    def contrasts(self) -> str:
        """As the page of details says it."""
        return "\n".join(said(self._f.found))

    def span_of_c(self, shared: What, role: str) -> str:
        """`.21 (.29)`: in brackets by the secondary evaluators."""
        first, second = (short(self._f.span_of_c(shared, role, other)) for other in (False, True))
        return f"{first} ({second})"

    def spans(self, method: str) -> str:
        """How far retentions lie apart: cells of quality and diversity, networks before kinds of data."""
        of_networks, of_data = (list(map(short, spans(self._f, method, one))) for one in OTHER)
        pairs = zip(of_networks[::2], of_networks[1::2], of_data[::2], of_data[1::2])
        return " | ".join("{} ({}) | {} ({})".format(*four) for four in pairs)

    def largest_span(self, method: str) -> str:
        """The largest of these differences."""
        return short(max(x for one in OTHER for x in spans(self._f, method, one)))

    def c_of_s(self, domain: str, decoder: str = "") -> str:
        """`.81 (.84)`: C of quality, the mean over the networks of size s, in brackets by the secondary
        evaluators. decoder: compressed, too.
        """
        return "{} ({})".format(*(short(self._f.c_of_s(domain, bool(decoder), two)) for two in (False, True)))

    def ratio(self, domain: str, method: str) -> str:
        return f"{self._f.ratio(domain, method):.1f}x"

    def shares(self, role: str) -> str:
        """`80 % (88 %) lies between networks, 10 % (7 %) between data, ...`: of the variance of C."""
        found = self._f.found
        first, second = (
            shares(components(domains, found.contrasts, role))
            for domains in (found.now.domains, found.now.second_domains)
        )
        said = [
            f"{100 * known(share):.0f} % ({100 * known(second[factor]):.0f} %) between {factor}"
            for factor, share in first.items()
        ]
        return joined(said).replace(") ", ") lies ", 1)

    def real_runtimes(self) -> str:
        """As the leaderboard says it."""
        return "\n".join(f"- {line}" for line in self._of_runtimes)

    def cell(self, domain: str, method: str, model: str = "", plain: str = "") -> str:
        """`9.0x: .99/.98`: ratio, quality, diversity."""
        ratio = self._f.ratio(domain, method, model, bool(plain))
        return f"{ratio:.1f}x: {slash(self._f.kept(domain, method, model, bool(plain)))}"

    def both_ways(self, domain: str, rung: str, when: str) -> str:
        """`9.0x: .99/.98` after or during training, means over the models that have both."""
        both = self._ways(domain, rung)
        if both is None:
            return "-"
        one = both.during if when == "during" else both.after
        kept = [known(one.retention(role, rung)).value for role in ROLES]
        return f"{2 ** known(one.rate(rung)):.1f}x: {slash(kept)}"

    def trained_models(self, domain: str, rung: str) -> str:
        one = self._ways(domain, rung)
        return "none" if one is None else ", ".join(m.model for m in one.during.averaged)

    def trained_summaries(self) -> str:
        """As the leaderboard says it."""
        second = self._f.found.second_ways
        return "\n".join(f"- {summary(one, second.get(one.name))}" for one in self._f.found.ways)

    def _ways(self, domain: str, rung: str) -> BothWays | None:
        found = [one for one in self._f.found.ways if one.name == domain]
        return found[0].rungs.get(rung) if found else None

    def trained_cell(self, domain: str, method: str) -> str:
        """As `cell`, of `s@0`; `-` where this training is not measured yet."""
        measured = Planned(domain, "s@0", method) in self._f.trainings()
        return self.cell(domain, method, "s@0", "plain") if measured else "-"

    def trained_secondary(self, domain: str, method: str) -> str:
        """As `secondary`, of `s@0`; `-` where this training is not measured yet."""
        measured = Planned(domain, "s@0", method) in self._f.trainings()
        return slash(self._f.kept_secondary(domain, method, "s@0", plain=True)) if measured else "-"

    def trainings(self) -> str:
        return str(len(self._f.trainings()))

    def few_bits(self) -> str:
        return str(len(self._f.trainings(FEW_BITS)))

    def collapsed(self, evaluators: str) -> str:
        """Trainings with few bits that keep less than .1 of quality."""
        return str(len(self._f.collapsed(evaluators == "secondary")))

    def gan_gain(self, role: str) -> str:
        return f"{self._f.gan_gain(role):+.2f}"

    def spread_of_equal(self, domain: str, method: str) -> str:
        """Of quality/diversity, over equal trainings; `-` where there are fewer than two."""
        return slash(self._f.spread_of_equal(domain, method)) or "-"

    def p_of_spread(self, role: str, evaluators: str = "") -> str:
        p = self._f.p_of_spread(role, evaluators == "secondary")
        return "not tested, for too few trainings" if p is None else f"p {p:.2f}"

    def tested_spreads(self, role: str) -> str:
        """The domains that the test of a role counts."""
        return joined(self._f.tested_spreads(role) or ["none"])

    def gan_models(self) -> str:
        return joined([f"`{model}`" for model in self._f.gan_models])

    def gan_networks(self, role: str, which: str) -> str:
        """What a GAN keeps whose networks were trained with binary weights from scratch."""
        return short(self._f.gan_networks(role, which))

    def cell_or_dash(self, domain: str, method: str) -> str:
        """As `cell`; `-` where a method is not measured, since another one does the same."""
        return self.cell(domain, method) if self._f.measured(domain, method) else "-"

    def secondary(self, domain: str, method: str, model: str = "") -> str:
        """Quality and diversity by the secondary evaluators."""
        return slash(self._f.kept_secondary(domain, method, model))

    def secondary_or_dash(self, domain: str, method: str) -> str:
        return self.secondary(domain, method) if self._f.measured(domain, method) else "-"

    def least_kept(self, method: str, *models: str) -> str:
        """The smallest retention of these models, any domain and role, by the primary evaluators."""
        return f"{min(x for d in self._f.domains for m in models for x in self._f.kept(d, method, m)):.3f}"

    def kept(self, domain: str, method: str, role: str) -> str:
        return short(self._f.kept(domain, method)[ROLES.index(role)])

    def range(self, domain: str, size: str, rung: str) -> str:
        """Of quality, over the models of a size."""
        kept = [both_left(m, rung)[0] for m in self._f.of(domain, size)]
        return span(kept, short) if kept else "-"

    def onset(self, domain: str, size: str, role: str) -> str:
        """The ratios at which a role falls below 0.90."""
        found = [order_of(m).onsets[role].ratio for m in self._f.of(domain, size)]
        return span(found, "{:.1f}x".format) if found else "-"

    def use(self, domain: str, size: str, rung: str) -> str:
        return span((self._f.use(m, rung) for m in self._f.of(domain, size)), short) or "-"

    def least_use(self, domain: str, rung: str) -> str:
        return short(min(self._f.use(m, rung) for m in self._f.of(domain)))

    def survivors(self, domain: str, size: str) -> str:
        return span(map(self._f.survivors, self._f.of(domain, size)), short)

    def models(self, evaluators: str) -> str:
        return str(len(self._f.orders(evaluators == "secondary")))

    def losers(self, evaluators: str) -> str:
        return str(len(self._f.losers(evaluators == "secondary")))

    def loser_names(self, evaluators: str) -> str:
        """`xs@0 .87/.97, ...`"""
        losers = self._f.losers(evaluators == "secondary")
        return ", ".join(f"{m.model} {slash(both_left(m, 'int6'))}" for m in losers)

    def falls_first(self, evaluators: str, role: str) -> str:
        """In how many models."""
        return str(count(self._f.orders(evaluators == "secondary"), role))

    def contrary(self) -> str:
        found = [o.model for o in self._f.orders(secondary=True) if o.first == "diversity"]
        return joined([f"{m.domain} {m.model}" for m in found])

    def on_ladder(self, domain: str, method: str) -> str:
        """What the ladder of `s@0` keeps in a file of the size that a method gives."""
        return slash(self._f.on_ladder(domain, self._f.ratio(domain, method, "s@0")))

    def step(self, domain: str) -> str:
        return "`{}` to `{}`".format(*STEPS[domain])

    def fails(self, domain: str, after: str) -> str:
        """Share that fails at the harsher rung, after a failure or a survival at the milder one."""
        rows = self._f.failures(domain)
        return span((known((a if after == "failure" else b).share) for _, a, b in rows), short)

    def unsure(self) -> str:
        return " and ".join(self._f.unsure())

    def auc(self, domain: str, trait: str) -> str:
        return span(self._f.aucs(domain, trait), short)

    def classes(self) -> str:
        """A line for each model: survival of the worst and of the best class."""
        lines = []
        for m in self._f.of(DIFFUSION):
            file = self._f.found.files[DIFFUSION, m.model]
            by = file.survival["int4"].by
            if not by:  # too few samples survive
                lines.append(f"| `{m.model}` | hardly any survives | - |")
                continue
            ends = known(by["class"].labels)
            shares = dict(zip(file.covariates["class"].labels, by["class"].survival))
            cells = [f"{name} {short(known(shares[name].share))}" for name in (ends.lowest, ends.highest)]
            lines.append(f"| `{m.model}` | {' | '.join(cells)} |")
        return "\n".join(lines)

    def widest(self) -> str:
        """Where models of one size differ most: `quality of text s at ..., from .. to ..`"""
        found = []
        groups = [group for d in self._f.domains for group in self._f.of_one_size(d)]
        for i, rung, group in itertools.product((0, 1), LADDER, groups):
            values = sorted(both_left(m, rung)[i] for m in group)
            where = f"{ROLES[i]} of {group[0].domain} {group[0].size} at `{rung}`"
            found.append((values[-1] - values[0], f"{where}, from {short(values[0])} to {short(values[-1])}"))
        return max(found)[1]

    def spread(self, domain: str, role: str) -> str:
        return f"{self._f.spread(domain, role):.3f}"

    def models_with_size(self) -> str:
        return str(len(points(self._f.found.compared, self._f.found.parameters, "quality")))

    def slope(self, role: str, sizes: str) -> str:
        return signed(self._f.slopes(role, sizes == "common").average)

    def slope_p(self, role: str, sizes: str) -> str:
        return f"{self._f.slopes(role, sizes == 'common').p:.3f}"

    def slope_of(self, domain: str, role: str) -> str:
        return signed(self._f.slopes(role).slopes[domain])

    def absolute(self, domain: str, size: str, rung: str) -> str:
        stored, *values = self._f.absolute(domain, size, rung)
        return f"{slash(values)} in {stored / 1024:.0f} KB"

    def bytes_of_small(self) -> str:
        of = self._f.absolute
        return span((of(d, "xs", "int8")[0] / of(d, "s", "int4")[0] for d in self._f.domains), short)

    def pairs(self) -> str:
        return str(sum(row.pairs for row in self._f.agreements.values()))

    def concordant(self) -> str:
        alike = sum(known(row.concordant) * row.pairs for row in self._f.agreements.values())
        return f"{alike / sum(row.pairs for row in self._f.agreements.values()):.1%}"

    def largest_difference(self) -> str:
        """Between primary and secondary evaluator."""
        found = [(row, row.disagreements[0]) for row in self._f.agreements.values()]
        row, worst = max(found, key=lambda pair: abs(pair[1].first - pair[1].second))
        values = f"{short(worst.first)} and {short(worst.second)}"
        return f"`{worst.method}` ({row.domain} {worst.model}, {row.role}: {values})"

    def scored(self, domain: str) -> str:
        """How many methods both evaluators have scored."""
        return str(self._f.agreements[domain, "quality"].methods)

    def tau(self, domain: str, role: str) -> str:
        row = self._f.agreements[domain, role]
        return f"{tau_text(row.tau)} ({' and '.join(row.evaluators)})"

    def use_tau(self, domain: str, role: str) -> str:
        return tau_text(self._f.use_taus[domain, role])

    def discriminator(self) -> str:
        """Its share of the numbers of the trained GAN."""
        one, other = map(self._f.numbers_in, ("discriminator", "generator"))
        return f"{one / (one + other):.0%}"

    def c(self, domain: str) -> str:
        return f"{known(self._f.domains[domain].score('quality')).value:.3f}"

    def c_up_to_16x(self) -> str:
        return f"{self._f.c_up_to_16x(GAN):.3f}"

    def c_of_m(self, domain: str) -> str:
        """Of quality/diversity, means over the networks of size m."""
        models = self._f.of(domain, "m")
        return slash(mean(known(model_score(m, role)).value for m in models) for role in ROLES)

    def six_below_five(self) -> str:
        """`xs@0` .87 and 1.00, by the secondary evaluator .75 and .84; ..."""
        found = []
        for name, first, second in self._f.six_below_five():
            one, other = (" and ".join(map(short, values)) for values in (first, second))
            found.append(f"`{name}` {one}, by the secondary evaluator {other}")
        return "; ".join(found)

    def parameters(self) -> str:
        counts = [known(self._f.found.parameters(m)) / 1e6 for m in self._f.whole]
        return f"{min(counts):.2f} to {max(counts):.2f} M"

    def u_poor(self) -> str:
        return span((m.u["quality"] for m in self._f.whole if m.u["quality"] < POOR), short)

    def u_others(self) -> str:
        return short(min(m.u["quality"] for m in self._f.whole if m.u["quality"] >= POOR))

    def u_least(self) -> str:
        return short(self._f.least_u())


if __name__ == "__main__":
    main()
