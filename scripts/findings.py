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
from bench.report.contrasts import said
from bench.report.during import summary
from bench.report.report_data import report_data, signed
from bench.report.secondary_table import tau_text
from bench.report.verdict import ClaimContext, answer
from bench.stats.contrasts import OTHER, What, components, shares
from bench.stats.during import BothWays
from bench.stats.ladder import ROLES
from bench.stats.model_file import ModelFile, out_of_date, read_models
from bench.stats.order import Order, order_of
from bench.stats.rank_agreement import interval_of
from bench.stats.scores import COUNTS_FROM, model_score
from bench.stats.sizes import points
from bench.util.files import write_atomically
from bench.util.markup import joined, span
from scripts.figures import (
    DIFFUSION,
    DOMAINS,
    FEW_BITS,
    GAN,
    MOLECULES,
    OTHERS,
    ROOT,
    STEPS,
    TEXT,
    TOKENS,
    Figures,
    both_left,
    known,
    short,
)
from scripts.studies.training_tables import collapses, diverged
from scripts.studies.training_time import Planned

TEMPLATE = ROOT / "scripts" / "findings.template"
PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
WORDS = {"DOMAIN": DOMAINS, "COMPARED": (*DOMAINS, *OTHERS)}  # of lines that are repeated
POOR = 0.7  # U of quality
Conditions = list[tuple[str, bool]]  # (words of the template, whether the records support them)


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


def check(found: Conditions, template: str) -> None:
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


def conditions(f: Figures) -> Conditions:
    """Every condition that a sentence of the template needs."""
    ecsq, both, pruned, others = "ecsq:bits=3", "magnitude+int4", "magnitude", (TEXT, DIFFUSION)
    q, v = f.quality, f.diversity
    at_ecsq = {d: f.ratio(d, ecsq, "s@0") for d in DOMAINS}
    between = [f.ratio(d, "int4", "s@0") < at_ecsq[d] < f.ratio(d, "int3", "s@0") for d in DOMAINS]
    first, second = f.orders(), f.orders(secondary=True)
    lossy, lossy_too = f.losers(), f.losers(secondary=True)
    int5 = [both_left(m, "int5")[0] for m in f.of(DIFFUSION)]
    failures = [(known(a.share), known(b.share)) for d in DOMAINS for _, a, b in f.failures(d)]
    slopes, slopes_of_diversity = f.slopes("quality"), f.slopes("diversity")
    lows = [known(s.average.interval())[0] for s in (*slopes, *slopes_of_diversity)]
    sizes = [(f.absolute(d, "xs", "int8"), f.absolute(d, "s", "int4")) for d in f.domains]
    least = min(f.agreements.values(), key=lambda row: row.tau.value)
    ends = {key: known(interval_of(one)) for key, one in f.use_taus.items()}
    apart = [d for d in DOMAINS if ends[d, "diversity"][0] > ends[d, "quality"][1]]
    tau = {role: f.use_taus[GAN, role].value for role in ROLES}
    spared = [f.use(m, "int4") - min(max(both_left(m, "int4")), 1) for m in f.whole]
    traits = [mean(f.aucs(d, "surprisal")) - mean(f.aucs(d, "rarity")) for d in others]
    survival = [f.survivors(m) for m in f.of(DIFFUSION, "s")]
    of_molecules = [both_left(m, "int3")[0] for m in f.of(MOLECULES)]
    claimed, alone = claims(f.found.now), {s: claims(now) for s, now in f.found.now.alone.items()}
    bare0, s0 = f.kept(GAN, "int2", "s@0", plain=True), f.kept(GAN, "int2", "s@0")
    bare1, s1 = f.kept(GAN, "int2", "s@1", plain=True), f.kept(GAN, "int2", "s@1")
    one_bit = [f.kept(GAN, "binary", "s@0", plain)[0] for plain in (False, True)]
    at_one_bit = [row for one in f.found.ways if (row := one.rungs.get("binary")) is not None]
    gained = [known(known(row.difference(r, "binary")).interval())[0] for row in at_one_bit for r in ROLES]
    kept_at_one_bit = [[known(row.during.retention(r, "binary")).value for r in ROLES] for row in at_one_bit]
    strict = [f.kept_secondary(DIFFUSION, f"qat:grid={g}", "s@0", plain=True)[0] for g in FEW_BITS]
    taught, one_bit_trained = "qat:grid=binary,teacher", "qat:grid=binary"
    three, two = (
        [f.kept(d, f"qat:grid={g}", "s@0", plain=True) for d in DOMAINS] for g in ("ternary", "binary")
    )
    taught_gan = f.kept(GAN, taught, "s@0", plain=True) + f.kept_secondary(GAN, taught, "s@0", plain=True)
    larger = [
        f.ratio(d, one_bit_trained, "s@0", True) / f.ratio(d, "qat:grid=ternary", "s@0", True)
        for d in DOMAINS
    ]
    levels = [a - b for ternary, binary in zip(three, two) for a, b in zip(ternary, binary)]
    poor = {(m.domain, m.size) for m in f.whole if m.u["quality"] < POOR}
    eight, tenfold = "ldlq:bits=3.5,mixed", "ldlq:bits=3,mixed"
    same = "gptq:bits=4", "adaround:bits=4", "brecq:bits=4"
    gains = {d: [q(d, m) - f.kept(d, "int4", "s@0")[0] for m in same] for d in others}
    trained, few = f.trainings(), f.trainings(FEW_BITS)
    others_trained = {cell: same for cell, same in trained.items() if cell not in few}
    doubted = f.collapsed(secondary=True)
    # `ends=int8` stores more than a bit a weight
    small = "ldlq:bits=2,mixed"
    less_diverse = [v(d, both) < v(d, small) and f.ratio(d, both) < f.ratio(d, small) for d in DOMAINS]
    plain_binary = {cell for cell in f.trainings(["binary"]) if "ends=" not in cell.method}
    binary_xs = {cell for cell in plain_binary if cell.domain in others and cell.model[:2] == "xs"}
    p_of_spreads = [[f.p_of_spread(role, second) or 1.0 for second in (False, True)] for role in ROLES]
    spread = f.spread_of_equal(GAN, one_bit_trained)
    within_chance = all(abs(f.gan_gain(role)) < 4 * sd for role, sd in zip(ROLES, spread))
    alone_in_gan = [f.gan_networks(role, "generator") for role in ROLES]
    return [
        (
            "**On the ladder, C differs more between these networks than between these kinds of data**",
            all(
                f.span_of_c("data", role, second) > f.span_of_c("network", role, second)
                for role, second in itertools.product(ROLES, (False, True))
            ),
        ),
        (
            "Networks of molecules have the largest measured spread",
            all(max(f.domains, key=lambda d: f.spread(d, role)) == MOLECULES for role in ROLES),
        ),
        (
            "leaves little difference at 8x to 10x",
            max(spans(f, eight, "data") + spans(f, eight, "network")) < 0.1
            and max(spans(f, tenfold, "data") + spans(f, tenfold, "network")) < 0.15
            and all(8 < f.ratio(d, m, "s@0") < 11 for d in f.domains for m in (eight, tenfold)),
        ),
        (
            "quality differs more between the kinds of data than between the networks",
            all(a > b + 0.1 for a, b in zip(spans(f, small, "network")[:2], spans(f, small, "data")[:2])),
        ),
        (
            "So most of image_tokens' lead over both rests on the decoder",
            all(
                f.c_of_s(TOKENS, decoder=True) - f.c_of_s(d) < 0.5 * (f.c_of_s(TOKENS) - f.c_of_s(d))
                for d in (DIFFUSION, TEXT)
            ),
        ),
        ("At 2 bits (14x to 16x)", all(14 <= f.ratio(d, small, "s@0") < 16 for d in f.domains)),
        ("**During training it keeps more", bool(gained) and min(gained) > 0),
        ("no domain keeps .9 of both roles**", all(min(kept) < 0.9 for kept in kept_at_one_bit)),
        ("keeps more than .95 of both at 1 bit**", min(taught_gan) > 0.95),
        ("The secondary evaluators reject nearly all", max(strict) < 0.1),
        (
            "it does not help",
            f.kept(TEXT, taught, "xs@0")[0] < f.kept(TEXT, one_bit_trained, "xs@0")[0],
        ),
        ("Three levels a weight keep more than two", min(levels) > 0.02),
        ("in files 1.5 times as large", all(1.35 < ratio < 1.65 for ratio in larger)),
        ("No file here is 32 times smaller", max(f.ratio(d, "binary") for d in f.domains) < 32),
        ("(6 times smaller)", {round(f.ratio(d, "int6")) for d in f.domains} == {6}),
        ("GANs and transformers lose almost nothing", {m.domain for m in lossy + lossy_too} == {DIFFUSION}),
        ("models lose more than 5 %", len(lossy) < len(f.whole) / 3 and q(DIFFUSION, "int6") > 0.8),
        ("At 5 bits (7x)", round(f.ratio(DIFFUSION, "int5")) == 7),
        ("depends on its training seed", max(int5) - min(int5) > 0.2),
        ("the domains differ in quality", q(GAN, "int4") - 0.2 > q(TEXT, "int4") > q(DIFFUSION, "int4")),
        ("make hardly any valid samples", max(q(d, "int3") for d in others) < 0.1),
        ("they make none at `int2`", max(q(d, "int2") for d in others) < 0.005),
        (
            "Two of six networks of molecules keep more than half there, and four less than .05",
            sum(kept > 0.5 for kept in of_molecules) == 2 and sum(kept < 0.05 for kept in of_molecules) == 4,
        ),
        ("The GANs still make valid samples there", q(GAN, "int2") > 0.3),
        (
            "exact in fp16, so a file in fp16 keeps everything",
            all(f.kept(d, "fp16", "s@0", plain=True) == [1.0, 1.0] for d in DOMAINS),
        ),
        ("Quality falls below 0.90 before diversity", count(second, "quality") > 0.7 * len(second)),
        ("In no model does the opposite hold", count(first, "diversity") == 0),
        ("They find the opposite in", 0 < count(second, "diversity") < 0.1 * len(second)),
        ("recognises many kinds of garments", v(DIFFUSION, "int3") > q(DIFFUSION, "int3") + 0.3),
        ("it keeps much less diversity than quality", v(GAN, "ternary") < q(GAN, "ternary") - 0.1),
        ("GANs that are pruned or", all(v(GAN, m) < q(GAN, m) for m in (pruned, "ecsq:bits=1"))),
        (
            "entropy coding keeps more quality than the ladder",
            all(q(d, ecsq) > f.on_ladder(d, at_ecsq[d])[0] for d in DOMAINS),
        ),
        ("interpolated between `int4` and `int3`", all(between)),
        ("In every model", len(failures) == sum(m.domain in DOMAINS for m in f.whole)),
        ("fail more often at the harsher one", all(a > b for a, b in failures)),
        ("the intervals overlap", bool(f.unsure()) and not any(name.startswith(GAN) for name in f.unsure())),
        (
            "samples with high surprisal fail more often",
            all(min(f.aucs(d, "surprisal")) > 0.5 for d in others),
        ),
        ("In text the effect is weak", max(f.aucs(TEXT, "surprisal")) < 0.6),
        ("predicts failure less well", min(traits) > 0),
        ("larger networks keep more of their quality and diversity", min(lows) > 0),
        ("slopes of diversity differ", max(s.p for s in slopes_of_diversity) < 0.05),
        ("Those of quality are not shown to differ", min(s.p for s in slopes) >= 0.05),
        ("does about as well as `s` at 4 bits", all(min(a[1] - b[1], a[2] - b[2]) > -0.02 for a, b in sizes)),
        ("of the bytes", max(a[0] / b[0] for a, b in sizes) < 0.65),
        ("rank the methods similarly", least.tau.value > 0.5),
        ("least so for the quality of image_gan", (least.domain, least.role) == (GAN, "quality")),
        ("diversity predicts the use of samples", tau["diversity"] > tau["quality"]),
        ("In image_gan the two intervals do not overlap", apart == [GAN]),
        ("no model's use falls more than .03 below", min(spared) > -0.03),
        ("without a valid sample", q(TEXT, "binary") < 0.005),
        ("the GANs keep most of it", min(f.use(m, "binary") for m in f.of(GAN)) > 0.6),
        ("The diffusion models keep almost none", mean(f.use(m, "binary") for m in f.of(DIFFUSION)) < 0.1),
        ("keeps more than .9 of quality and of diversity", min(f.least(d, eight) for d in f.domains) > 0.9),
        ("by both sets of evaluators", min(f.least(d, eight) for d in f.domains) > 0.9),
        ("Text gains less", max(gains[TEXT]) < min(gains[DIFFUSION])),
        ("rejects many of these pictures", max(f.kept_secondary(DIFFUSION, m)[0] for m in same) < 0.7),
        ("at more than 8x", min(f.ratio(d, eight) for d in f.domains) > 8),
        ("it takes most of the diffusion model's quality", f.kept(DIFFUSION, "int4", "s@0")[0] < 0.5),
        ("calibrated rounding keeps all of it", min(q(DIFFUSION, m) for m in same) > 0.95),
        ("only the GAN still makes garments", q(DIFFUSION, "binary") < 0.05 and q(TEXT, "binary") < 0.05),
        ("and it loses most of both roles", max(q(GAN, "binary"), v(GAN, "binary")) < 0.5),
        (
            "keeps most of the GAN's quality but not of its",
            q(GAN, "ecsq:bits=1") > 0.5 > v(GAN, "ecsq:bits=1"),
        ),
        ("No training has diverged", not any(diverged(records) for records in trained.values())),
        ("and none in diversity", not any(collapses(r)[1] for r in few.values())),
        ("No other training collapses", not any(map(any, map(collapses, others_trained.values())))),
        ("They are all trainings with binary weights throughout", f.collapsed() == binary_xs),
        (
            "these, and others of the diffusion model",
            binary_xs < doubted and {cell.domain for cell in doubted - binary_xs} == {DIFFUSION},
        ),
        ("but no larger spread is shown at 1 bit", min(max(one) for one in p_of_spreads) >= 0.05),
        ("The generator alone can be trained with binary weights", min(alone_in_gan) > 0.7),
        ("one training each", len(f.gan_models) == 1),
        ("cannot tell such a difference from chance", within_chance),
        ("only the GAN keeps its quality", max(q(d, both) for d in others) < 0.1 and q(GAN, both) > 0.9),
        ("it does not keep its diversity", f.kept_secondary(GAN, both)[1] < 0.7 < v(GAN, both)),
        ("Which samples survive is not random (finding 5)", 0.1 < min(survival) and max(survival) < 0.9),
        ("is mostly another verse", f.fate(TEXT, "drifted") > 5 * f.fate(TEXT, "intact")),
        (
            "the GAN's pictures keep more of both roles than text",
            all((GAN, TEXT) in claimed[role] for role in ROLES),
        ),
        (
            "keep more quality than text, and not more diversity",
            (TOKENS, TEXT) in claimed["quality"] and (TOKENS, TEXT) not in claimed["diversity"],
        ),
        (
            "no difference in quality is claimed",
            not {(TEXT, DIFFUSION), (DIFFUSION, TEXT)} & claimed["quality"],
        ),
        ("and text keeps more diversity", (TEXT, DIFFUSION) in claimed["diversity"]),
        ("the diffusion model keeps more than text in `s@0`", q(DIFFUSION, tenfold) > q(TEXT, tenfold)),
        (
            "**True on the ladder, on average over sizes s and xs.**",
            (TOKENS, DIFFUSION) in claimed["quality"],
        ),
        (
            "the diffusion model `s@0` keeps more quality",
            q(DIFFUSION, small) > q(TOKENS, small)
            and f.kept_secondary(DIFFUSION, small)[0] > f.kept_secondary(TOKENS, small)[0],
        ),
        (
            "writes no tokens and keeps more than both",
            {(GAN, TOKENS), (GAN, DIFFUSION)} <= claimed["quality"],
        ),
        ("`wanda` keeps more quality than `magnitude`", q(DIFFUSION, "wanda") > q(DIFFUSION, pruned) + 0.1),
        ("`sparsegpt` keeps most", q(DIFFUSION, "sparsegpt") > q(DIFFUSION, "wanda") + 0.1),
        ("`wanda` keeps less diversity than `magnitude`", v(GAN, "wanda") < v(GAN, pruned) - 0.02),
        ("all three ruin quality", max(q(TEXT, m) for m in (pruned, "wanda", "sparsegpt")) < 0.1),
        ("ruins the diffusion model and the transformer", max(q(d, pruned) for d in others) < 0.1),
        ("It costs the GAN diversity", f.kept_secondary(GAN, pruned)[1] < 0.7),
        ("calibrated rounding keeps more diversity in each domain", all(less_diverse)),
        ("and more quality in the diffusion model and", all(q(d, both) < q(d, small) for d in others)),
        ("decides what a GAN keeps at 1 bit", one_bit[0] > 4 * one_bit[1]),
        ("At 2 bits it adds diversity to both", s0[1] > bare0[1] and s1[1] > bare1[1]),
        ("It costs one network quality", s0[0] < bare0[0]),
        ("and the other none", s1[0] >= bare1[0]),
        ("**Pruning while training keeps far more, and still does not pay.**", f.gain_of_pruning() > 0.1),
        ("calibrated rounding without further training keeps more of both roles", f.loss_of_pruning() > 0),
        ("`ternary` is smaller than `int2`", f.ratio(GAN, "ternary") > f.ratio(GAN, "int2")),
        ("It keeps more quality", q(GAN, "ternary") > q(GAN, "int2")),
        ("Its zeros make smooth pictures of fewer kinds", v(GAN, "ternary") < v(GAN, "int2")),
        ("may keep more quality with fewer bits", bool(f.six_below_five())),
        (
            "Size s alone shows fewer of them, and size xs alone fewer still",
            number(alone["xs"]) < number(alone["s"]) < number(claimed),
        ),
        (
            "**Three domains have one measured network of size m, the others none.**",
            [len(f.of(d, "m")) for d in (*DOMAINS, *OTHERS)] == [1, 1, 1, 0, 0],
        ),
        ("Uncompressed text networks of size xs", poor == {(TEXT, "xs")}),
        ("so no finding leaves out a network", f.least_u() >= COUNTS_FROM),
    ]


def claims(now: ClaimContext) -> dict[str, set[tuple[str, str]]]:
    """Role -> pairs of domains of which the first is claimed to keep more."""
    return {r: {(c.a, c.b) for c in now.comparisons if c.role == r and now.claimed(c)} for r in ROLES}


def number(claimed: Mapping[str, set[tuple[str, str]]]) -> int:
    """How many claims in both roles."""
    return sum(map(len, claimed.values()))


def spans(f: Figures, method: str, shared: What) -> list[float]:
    """How far retentions of `s@0` lie apart: quality by both sets of evaluators, then diversity."""
    return [f.span_of(method, shared, role, second) for role in ROLES for second in (False, True)]


def count(orders: Sequence[Order], role: str) -> int:
    """In how many models a role falls below 0.90 first."""
    return sum(o.first == role for o in orders)


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

    def c_of_s(self, domain: str, decoder: str = "") -> str:
        """C of quality, the mean over the networks of size s; `decoder`: compressed, too."""
        return short(self._f.c_of_s(domain, bool(decoder)))

    def ratio(self, domain: str, method: str) -> str:
        return f"{self._f.ratio(domain, method):.1f}x"

    def shares(self, role: str) -> str:
        """`80 % lies between networks, 10 % between data, ...`: of the variance of C."""
        found = self._f.found
        of_role = shares(components(found.now.domains, found.contrasts, role))
        said = [f"{100 * known(share):.0f} % between {factor}" for factor, share in of_role.items()]
        return joined(said).replace(" %", " % lies", 1)

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
        return span((self._f.use(m, rung) for m in self._f.of(domain, size)), short)

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
        return signed(self._f.slopes(role)[sizes == "repeated"].average)

    def slope_p(self, role: str, sizes: str) -> str:
        return f"{self._f.slopes(role)[sizes == 'repeated'].p:.3f}"

    def slope_of(self, domain: str, role: str) -> str:
        return signed(self._f.slopes(role)[0].slopes[domain])

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
        (m,) = self._f.of(domain, "m")
        return slash(known(model_score(m, role)).value for role in ROLES)

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
