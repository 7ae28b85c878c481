"""Writes docs/findings.md from the template findings.md and the published records: `python -m scripts.findings`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from statistics import mean

from bench.records.schema import Record, read_records
from bench.report.headline import pair_by_pair
from bench.report.per_model import with_sign
from bench.report.report_data import material, table
from bench.report.secondary_table import tau_text
from bench.report.verdict import ClaimContext, paragraph
from bench.stats.agreement import Agreement, interval_of
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.model_file import ModelFile, out_of_date, read_models
from bench.stats.order import Order, order_of
from bench.stats.scores import COUNTS_FROM, model_score
from bench.stats.sizes import OwnSlopes, points
from bench.util.files import write_atomically
from scripts.figures import DIFFUSION, DOMAINS, GAN, ROOT, SIZES, STEPS, TEXT, Figures, by_domain, known, left, short, slash, span

TEMPLATE = ROOT / "scripts" / "findings.md"
PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
FAILURES = ("step", "fail after failure", "fail after survival", "AUC of surprisal at `int4`", "AUC of rarity")
POOR = 0.8  # U of quality
Conditions = list[tuple[str, bool]]  # (words of the template, whether the records support them)


def main() -> None:
    records, files = read_records(ROOT / "results"), read_models(ROOT / "results")
    if old := out_of_date(files, records):
        sys.exit(f"model.json of {old} is out of date: run `python -m bench describe --domain all`")
    try:
        page = findings(records, files)
    except ValueError as error:
        sys.exit(str(error))
    write_atomically(ROOT / "docs" / "findings.md", page)


def findings(records: Sequence[Record], files: Mapping[tuple[str, str], ModelFile]) -> str:
    """The page. Raises `ValueError` where the template and the records do not fit."""
    f, template = Figures(material(records, files)), TEMPLATE.read_text()
    check(conditions(f), template)
    return fill(template, texts(f) | tables(f))


def check(found: Conditions, template: str) -> None:
    """Raises `ValueError` that names each sentence which the records do not support, or which the template lacks."""
    plain = " ".join(template.split())
    wrong = [f"the records do not support: {words}" for words, holds in found if not holds]
    wrong += [f"not in the template: {words}" for words, _ in found if words not in plain]
    if wrong:
        raise ValueError("\n".join(wrong))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Raises `ValueError` for a placeholder without a figure, and for a figure without a placeholder."""
    used = set(PLACEHOLDER.findall(template))
    wrong = [f"no figure for the placeholder: {name}" for name in sorted(used - values.keys())]
    wrong += [f"no placeholder for the figure: {name}" for name in sorted(values.keys() - used)]
    if wrong:
        raise ValueError("\n".join(wrong))
    return PLACEHOLDER.sub(lambda found: values[found[1]], template)


def conditions(f: Figures) -> Conditions:
    """Every condition that a sentence of the template needs."""
    ecsq, both, pruned, others = "ecsq:bits=3", "magnitude+int4", "magnitude", (TEXT, DIFFUSION)
    quality, diversity = f.quality, f.diversity
    first, second = f.orders()
    lossy, lossy_too = f.losers()
    int5 = [left(m, "quality", "int5") for m in f.of(DIFFUSION)]
    failures = [(known(a.share), known(b.share)) for d in DOMAINS for _, a, b in f.failures(d)]
    slopes, slopes_of_diversity = f.slopes("quality"), f.slopes("diversity")
    lows = [known(s.average.interval())[0] for s in (*slopes, *slopes_of_diversity)]
    small = [f.absolute(d, "xs", "int8") for d in DOMAINS]
    large = [f.absolute(d, "s", "int4") for d in DOMAINS]
    least = min(f.agreements.values(), key=lambda row: row.tau.value)
    tau, ends = f.use_taus(), {key: known(interval_of(one)) for key, one in f.use_taus().items()}
    apart = [d for d in DOMAINS if ends[d, "diversity"][0] > ends[d, "quality"][1]]
    spared = [f.use(m, "int4") - min(left(m, role, "int4"), 1) for m in f.whole for role in ROLES]
    survival = [f.survivors(m) for m in f.of(DIFFUSION, "s")]
    claimed, alone = claims(f.found.now), {size: claims(now) for size, now in f.found.now.alone.items()}
    bare = {(m, rung): f.kept(GAN, rung, m, plain=True) for m in ("s@0", "s@1") for rung in ("binary", "int2")}
    recalibrated = {key: f.kept(GAN, key[1], key[0]) for key in bare}
    gained = {key: [b - a for a, b in zip(bare[key], recalibrated[key])] for key in bare}
    poor = {(m.domain, m.size) for m in f.whole if m.u["quality"] < POOR}
    return [
        ("(6 times smaller)", {round(f.ratio(d, "int6")) for d in DOMAINS} == {6}),
        ("GANs and transformers lose almost nothing", {m.domain for m in lossy + lossy_too} == {DIFFUSION}),
        ("models lose more than 5 %", len(lossy) < len(f.whole) / 3 and quality(DIFFUSION, "int6") > 0.8),
        ("At 5 bits (7x)", round(f.ratio(DIFFUSION, "int5")) == 7),
        ("depends on its training seed", max(int5) - min(int5) > 0.2),
        ("At 4 bits the domains differ in quality", quality(GAN, "int4") - 0.2 > quality(TEXT, "int4") > quality(DIFFUSION, "int4")),
        ("make hardly any valid samples", max(quality(d, "int3") for d in others) < 0.1),
        ("they make none at `int2`", max(quality(d, "int2") for d in others) < 0.005),
        ("The GANs still make valid samples there", quality(GAN, "int2") > 0.3),
        ("Quality falls below 0.90 before diversity", count(second, "quality") > 0.7 * len(second)),
        ("In no model does the opposite hold", count(first, "diversity") == 0),
        ("They find the opposite in", {o.model.domain for o in second if o.first == "diversity"} == {GAN}),
        ("recognises many kinds of garments", diversity(DIFFUSION, "int3") > quality(DIFFUSION, "int3") + 0.3),
        ("`ternary` keeps less diversity than quality", diversity(GAN, "ternary") < quality(GAN, "ternary")),
        ("So do GANs that are pruned", all(diversity(GAN, m) < quality(GAN, m) for m in (pruned, "ecsq:bits=1"))),
        ("keeps more quality than a fixed grid", all(quality(d, ecsq) > quality(d, "int3") for d in DOMAINS)),
        ("In every model these fail more often", all(failed > survived for failed, survived in failures)),
        ("the intervals overlap", bool(f.unsure()) and not any(name.startswith(GAN) for name in f.unsure())),
        ("samples with high surprisal fail first", all(min(f.aucs(d, "surprisal")) > 0.5 for d in others)),
        ("predicts failure less well", all(mean(f.aucs(d, "surprisal")) > mean(f.aucs(d, "rarity")) for d in others)),
        ("larger networks keep more of their quality and diversity", min(lows) > 0),
        ("slopes of diversity differ", max(s.p for s in slopes_of_diversity) < 0.05),
        ("slopes of quality differ only when all sizes", slopes[0].p < 0.05 <= slopes[1].p),
        ("does about as well as `s` at 4 bits", all(min(a[1] - b[1], a[2] - b[2]) > -0.02 for a, b in zip(small, large))),
        ("of the bytes", max(a[0] / b[0] for a, b in zip(small, large)) < 0.65),
        ("rank the methods similarly", least.tau.value > 0.5),
        ("least so for the quality of image_gan", (least.domain, least.role) == (GAN, "quality")),
        ("diversity predicts the use of samples", all(tau[d, "diversity"].value > tau[d, "quality"].value for d in DOMAINS)),
        ("In image_gan the two intervals do not overlap", apart == [GAN]),
        ("no model loses more of its use", min(spared) > -0.03),
        ("the GANs keep most of it", min(f.use(m, "binary") for m in f.of(GAN)) > 0.6),
        ("The diffusion models keep almost none", mean(f.use(m, "binary") for m in f.of(DIFFUSION)) < 0.1),
        ("one coding keeps the samples", min(f.least(GAN, "ecsq:bits=4"), f.least(DIFFUSION, "nf4")) > 0.9),
        ("just below 8x", {round(f.ratio(GAN, "ecsq:bits=4")), round(f.ratio(DIFFUSION, "nf4"))} == {8}),
        ("For the diffusion model it is `nf4`", f.least(DIFFUSION, "ecsq:bits=4") < 0.9 and f.best_at_8x() < 0.8),
        ("Text falls short", max(quality(TEXT, "ecsq:bits=4"), quality(TEXT, "nf4")) < 0.9),
        ("Only the GAN still makes garments", quality(DIFFUSION, "binary") < 0.05 and quality(TEXT, "binary") < 0.05),
        ("most of its quality or most of its diversity", quality(GAN, "binary") < 0.5 > diversity(GAN, "ecsq:bits=1")),
        ("only the GAN keeps its quality", max(quality(d, both) for d in others) < 0.1 and quality(GAN, both) > 0.9),
        ("it does not keep its diversity", f.kept_secondary(GAN, both)[1] < 0.7 < diversity(GAN, both)),
        ("Which samples survive is not random (finding 5)", 0.1 < min(survival) and max(survival) < 0.9),
        ("is mostly another verse", f.fate(TEXT, "drifted") > 5 * f.fate(TEXT, "intact")),
        ("pictures compress more easily than text", (GAN, TEXT) in claimed),
        ("compress less easily in quality", (TEXT, DIFFUSION) in claimed),
        ("Neither size s nor size xs shows this alone", not any((TEXT, DIFFUSION) in one for one in alone.values())),
        ("ruins the diffusion model and the transformer", max(quality(d, pruned) for d in others) < 0.1),
        ("It costs the GAN diversity", f.kept_secondary(GAN, pruned)[1] < 0.7),
        ("keeps less than an entropy-coded one", all(quality(d, both) < quality(d, ecsq) for d in others)),
        ("for the diversity of the GAN", diversity(GAN, both) < diversity(GAN, ecsq)),
        ("decides what a GAN keeps at 1 bit", recalibrated["s@0", "binary"][0] > 4 * bare["s@0", "binary"][0]),
        ("At 2 bits it adds diversity to both", min(gained["s@0", "int2"][1], gained["s@1", "int2"][1]) > 0),
        ("It costs one network quality", gained["s@0", "int2"][0] < 0),
        ("and the other none", gained["s@1", "int2"][0] >= 0),
        ("`ternary` is smaller than `int2`", f.ratio(GAN, "ternary") > f.ratio(GAN, "int2")),
        ("It keeps more quality", quality(GAN, "ternary") > quality(GAN, "int2")),
        ("zeros make smooth pictures of fewer kinds", diversity(GAN, "ternary") < diversity(GAN, "int2")),
        ("may keep more quality with fewer bits", bool(f.six_below_five())),
        ("Size s alone does not show it", (TEXT, DIFFUSION) not in alone["s"]),
        ("Uncompressed text networks of size xs", poor == {(TEXT, "xs")}),
        ("so no finding leaves out a network", least_u(f) >= COUNTS_FROM),
    ]


def claims(now: ClaimContext) -> set[tuple[str, str]]:
    """Pairs of domains of which the first is claimed to keep more quality."""
    return {(c.a, c.b) for c in now.comparisons if c.role == "quality" and now.claimed(c)}


def count(orders: Sequence[Order], role: str) -> int:
    """In how many models a role falls below 0.90 first."""
    return sum(o.first == role for o in orders)


def least_u(f: Figures) -> float:
    return min(m.u[role] for m in f.whole + f.secondary for role in ROLES)


def named(models: Sequence[ModelLadder]) -> str:
    """`xs@0 .87/.97, ...`: what they keep at 6 bits."""
    found = []
    for m in models:
        found.append(f"{m.model} {slash(left(m, role, 'int6') for role in ROLES)}")
    return ", ".join(found)


def c_of(m: ModelLadder) -> str:
    return slash(known(model_score(m, role)).value for role in ROLES)


def texts(f: Figures) -> dict[str, str]:
    """Figures that stand in sentences."""
    first, second = f.orders()
    losers, losers_secondary = f.losers()
    larger = sorted(100 * (f.stored(d, "ecsq:bits=3") / f.stored(d, "int3") - 1) for d in DOMAINS)
    smaller = [f.absolute(d, "xs", "int8")[0] / f.absolute(d, "s", "int4")[0] for d in DOMAINS]
    rows = f.agreements.values()
    pairs = sum(row.pairs for row in rows)
    apart = max(rows, key=lambda row: abs(row.partings[0].first - row.partings[0].second))
    worst = apart.partings[0]
    c = {d: known(f.domains[d].score("quality")).value for d in DOMAINS}
    of_m = [f"{c_of(f.of(d, 'm')[0])} of {d}" for d in (DIFFUSION, TEXT)]
    u = [m.u["quality"] for m in f.whole]
    counts = sorted(known(f.found.parameters(m)) / 1e6 for m in f.found.models)
    against = [f"{short(a)} against {short(b)}" for a, b in zip(f.kept(GAN, "ternary"), f.kept(GAN, "int2"))]
    return {
        "answer": (paragraph(f.found.now, f.found.wider) + "\n" + pair_by_pair(f.found)).replace("](docs/", "](").strip(),
        "models": str(len(first)),
        "models_secondary": str(len(second)),
        "losers": str(len(losers)),
        "losers_secondary": str(len(losers_secondary)),
        "loser_names": named(losers),
        "loser_names_secondary": named(losers_secondary),
        "quality_first": str(count(first, "quality")),
        "quality_first_secondary": str(count(second, "quality")),
        "diversity_first_secondary": str(count(second, "diversity")),
        "contrary": " and ".join(f"{o.model.domain} {o.model.model}" for o in second if o.first == "diversity"),
        "diffusion_int3_quality": short(f.quality(DIFFUSION, "int3")),
        "diffusion_int3_diversity": short(f.diversity(DIFFUSION, "int3")),
        "diffusion_int4": f.cell(DIFFUSION, "int4"),
        "text_int4": f.cell(TEXT, "int4"),
        "gan_ternary": f.cell(GAN, "ternary"),
        "gan_magnitude": f.cell(GAN, "magnitude"),
        "gan_ecsq1": f.cell(GAN, "ecsq:bits=1"),
        "ecsq_larger": f"{larger[0]:.0f} to {larger[-1]:.0f}",
        "unsure": " and ".join(f.unsure()),
        "classes": f.classes(),
        "widest": f.widest(),
        "bytes_of_small": span(smaller),
        "pairs": str(pairs),
        "concordant": f"{sum(known(row.concordant) * row.pairs for row in rows) / pairs:.1%}",
        "largest_difference": f"`{worst.method}` ({apart.domain} {worst.model}, {apart.role}: "
        f"{short(worst.first)} and {short(worst.second)})",
        "gan_use_binary": short(min(f.use(m, "binary") for m in f.of(GAN))),
        "nearly_8x": f"{f.ratio(GAN, 'ecsq:bits=4'):.1f}x and {f.ratio(DIFFUSION, 'nf4'):.1f}x",
        "best_at_8x": short(f.best_at_8x()),
        "discriminator": f"{f.discriminator():.0%}",
        "c_quality": "; ".join(f"{d} {c[d]:.3f}" for d in sorted(DOMAINS, key=lambda d: -c[d])),
        "gan_binary_plain": f.cell(GAN, "binary", "s@0", plain=True),
        "gan_binary": f.cell(GAN, "binary", "s@0"),
        "gan_int2_pairs": "; ".join(
            f"`{m}` {f.cell(GAN, 'int2', m, plain=True)} without, {f.cell(GAN, 'int2', m)} with" for m in ("s@0", "s@1")
        ),
        "gan_ternary_int2_quality": against[0],
        "gan_ternary_int2_diversity": against[1],
        "six_below_five": "; ".join(f.six_below_five()),
        "gan_c_up_to_16x": f"{f.c_up_to_16x():.3f}",
        "gan_c": f"{c[GAN]:.3f}",
        "parameters": f"{counts[0]:.2f} to {counts[-1]:.2f} M",
        "c_of_m": ", ".join(of_m),
        "u_poor": span(value for value in u if value < POOR),
        "u_others": short(min(value for value in u if value >= POOR)),
        "u_least": short(least_u(f)),
        "models_with_size": str(len(points(f.found.models, f.found.parameters, "quality"))),
    }


def tables(f: Figures) -> dict[str, str]:
    ecsq, taus, rows = "ecsq:bits=3", f.use_taus(), f.agreements
    slopes = {role: f.slopes(role) for role in ROLES}
    return {
        "table_int6": f.methods("int6", secondary=["int6"]),
        "table_int5": f.sizes(lambda m: left(m, "quality", "int5")),
        "table_int4": f.methods("int4", "int3", "int2", secondary=["int4"]),
        "table_int4_sizes": f.sizes(lambda m: left(m, "quality", "int4")),
        "table_onset": table(["domain", "role", *SIZES], [onset_line(f, d, role) for d in DOMAINS for role in ROLES], left=5),
        "table_ecsq": by_domain([f"`{ecsq}`", "`int3`"], lambda d: [f.cell(d, ecsq, "s@0"), f.cell(d, "int3", "s@0")]),
        "table_failures": by_domain(FAILURES, lambda d: failure_cells(f, d)),
        "table_spread": by_domain(
            ["C of quality", "C of diversity"],
            lambda d: [f"{f.spread(d, role):.3f}" for role in ROLES],
        ),
        "table_slopes": table(
            ["role", "all sizes", "p, equal slopes", "repeated sizes", "p, equal slopes"],
            [[role, *slope_cells(slopes[role][0]), *slope_cells(slopes[role][1])] for role in ROLES],
            left=5,
        ),
        "table_sizes": by_domain(
            ["slope of C of quality", "of C of diversity", "`xs` at `int8`", "`s` at `int4`"],
            lambda d: [
                *(with_sign(slopes[role][0].slopes[d]) for role in ROLES),
                *(in_kilobytes(*f.absolute(d, *what)) for what in (("xs", "int8"), ("s", "int4"))),
            ],
        ),
        "table_agreement": by_domain(
            ["methods", "tau of quality", "tau of diversity"],
            lambda d: [str(rows[d, "quality"].methods), *(agreement_cell(rows[d, role]) for role in ROLES)],
        ),
        "table_use_tau": by_domain(
            ["tau of use with quality", "tau of use with diversity"],
            lambda d: [tau_text(taus[d, role]) for role in ROLES],
        ),
        "table_use_int4": f.sizes(lambda m: f.use(m, "int4")),
        "table_use_binary": f.sizes(lambda m: f.use(m, "binary")),
        "table_8x": f.methods("ecsq:bits=4", "nf4", secondary=["ecsq:bits=4", "nf4"]),
        "table_binary": f.methods("binary"),
        "table_combined": f.methods("magnitude+int4", ecsq, secondary=["magnitude+int4"]),
        "table_survival": f.sizes(f.survivors),
        "table_pruned": f.methods("magnitude", "magnitude+int4", ecsq, secondary=["magnitude"]),
    }


def onset_line(f: Figures, domain: str, role: str) -> list[str]:
    """Ratios at which the retention of a role falls below 0.90, by size."""
    cells = []
    for size in SIZES:
        found = [order_of(m).onsets[role].ratio for m in f.of(domain, size)]
        cells.append(span(found, "{:.1f}x".format))
    return [domain, role, *cells]


def failure_cells(f: Figures, domain: str) -> list[str]:
    found = f.failures(domain)
    return [
        "`{}` to `{}`".format(*STEPS[domain]),
        span(known(failed.share) for _, failed, _ in found),
        span(known(survived.share) for _, _, survived in found),
        span(f.aucs(domain, "surprisal")),
        span(f.aucs(domain, "rarity")),
    ]


def slope_cells(slopes: OwnSlopes) -> list[str]:
    return [with_sign(slopes.average), f"{slopes.p:.3f}"]


def in_kilobytes(stored: float, valid: float, recall: float) -> str:
    return f"{slash([valid, recall])} in {stored / 1024:.0f} KB"


def agreement_cell(row: Agreement) -> str:
    return f"{tau_text(row.tau)} ({' and '.join(row.judges)})"


if __name__ == "__main__":
    main()
