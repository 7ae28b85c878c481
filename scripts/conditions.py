"""What each sentence of findings.template needs of the records: one function for each section."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import mean

from bench.report.verdict import ClaimContext
from bench.stats.contrasts import What
from bench.stats.ladder import ROLES
from bench.stats.order import Order
from bench.stats.rank_agreement import interval_of
from bench.stats.scores import COUNTS_FROM
from scripts.figures import (
    DIFFUSION,
    DOMAINS,
    FEW_BITS,
    GAN,
    MOLECULES,
    OTHERS,
    TEXT,
    TOKENS,
    Figures,
    both_left,
    known,
)
from scripts.studies.training_tables import collapses, diverged

POOR = 0.7  # U of quality
NOT_GAN = (TEXT, DIFFUSION)
ECSQ, PRUNED, BOTH = "ecsq:bits=3", "magnitude", "magnitude+int4"
EIGHTFOLD, TENFOLD, SMALL = "ldlq:bits=3.5,mixed", "ldlq:bits=3,mixed", "ldlq:bits=2,mixed"
ONE_BIT, TAUGHT = "qat:grid=binary", "qat:grid=binary,teacher"
FOUR_BITS = ("gptq:bits=4", "adaround:bits=4", "brecq:bits=4")
Condition = tuple[str, bool]  # (words of the template, whether the records support them)


def conditions(f: Figures) -> list[Condition]:
    """Every condition, in the order of the sections."""
    return list(itertools.chain.from_iterable(part(f) for part in SECTIONS))


def data_or_network(f: Figures) -> Iterator[Condition]:
    """Section "Data or network?"."""
    every = itertools.product(ROLES, (False, True))
    wider = [f.span_of_c("data", *one) > f.span_of_c("network", *one) for one in every]
    yield (
        "**On the ladder, C differs more between these networks than between these kinds of data**",
        all(wider),
    )
    most = {max(f.domains, key=lambda d: f.spread(d, role)) for role in ROLES}
    yield "Networks of molecules have the largest measured spread", most == {MOLECULES}
    at_eight, at_ten = (spans(f, m, "data") + spans(f, m, "network") for m in (EIGHTFOLD, TENFOLD))
    ratios = [f.ratio(d, m, "s@0") for d in f.domains for m in (EIGHTFOLD, TENFOLD)]
    little = max(at_eight) <= max(at_ten) < 0.15 and 8 < min(ratios) < max(ratios) < 11
    yield "With calibrated rounding at 8x to 10x, the differences are at most", little
    pairs = list(zip(spans(f, SMALL, "network"), spans(f, SMALL, "data")))[:2]
    more = all(a > b + 0.1 for a, b in pairs)
    yield "and quality differs more between the kinds of data than between the networks", more
    yield "At 2 bits (14x to 16x) they are large", all(14 <= f.ratio(d, SMALL, "s@0") < 16 for d in f.domains)
    left = [f.lead_left(*one) for one in itertools.product(NOT_GAN, (False, True))]
    text, text_too, diffusion, diffusion_too = left
    yield "the decoder makes at least half of the lead over text", max(text, text_too) < 0.5
    parts = 0.6 < 1 - diffusion < 0.8 and 0.2 < 1 - diffusion_too < 0.3
    yield "it makes most by the primary evaluators and a quarter by the secondary ones", parts


def at_6_bits(f: Figures) -> Iterator[Condition]:
    """Finding 1."""
    lossy, lossy_too = f.losers(), f.losers(secondary=True)
    yield "(6 times smaller)", {round(f.ratio(d, "int6")) for d in f.domains} == {6}
    yield "GANs and transformers lose almost nothing", {m.domain for m in lossy + lossy_too} == {DIFFUSION}
    few = len(lossy) < len(f.whole) / 3 and f.quality(DIFFUSION, "int6") > 0.8
    yield "models lose more than 5 %", few
    yield "At 5 bits (7x)", round(f.ratio(DIFFUSION, "int5")) == 7
    int5 = [[both_left(m, "int5")[0] for m in f.of(DIFFUSION, size)] for size in ("xs", "s", "m")]
    xs, s, m = (max(kept) - min(kept) for kept in int5)
    depends = min(xs, s) > 0.2 and m < 0.1
    yield "of a diffusion model of size xs or s depends on its training seed", depends


def at_4_bits(f: Figures) -> Iterator[Condition]:
    """Finding 2."""
    q = f.quality
    apart = q(GAN, "int4") - 0.2 > q(TEXT, "int4") > q(DIFFUSION, "int4")
    yield "the domains differ in quality", apart
    yield "make hardly any valid samples", max(q(d, "int3") for d in NOT_GAN) < 0.1
    yield "Diffusion models of size m keep", max(both_left(m, "int3")[0] for m in f.of(DIFFUSION, "m")) > 0.1
    valid = [f.absolute(d, size, "int2")[1] for d in (TEXT, DIFFUSION) for size in ("xs", "s", "m")]
    yield "At `int2`, fewer than one in 10,000 is valid", max(valid) < 1e-4
    yield "The GANs still make valid samples there", q(GAN, "int2") > 0.3
    kept = [both_left(m, "int3")[0] for m in f.of(MOLECULES)]
    two = sum(one > 0.5 for one in kept) == 2 and sum(one < 0.05 for one in kept) == 4
    yield "Two of six networks of molecules keep more than half there, and four less than .05", two
    strict = [both_left(m, "int3")[0] for m in f.secondary if m.domain == TOKENS]
    yield "by the secondary evaluators two of six keep more than half", sum(one > 0.5 for one in strict) == 2


def order_of_loss(f: Figures) -> Iterator[Condition]:
    """Finding 3."""
    q, v, first, second = f.quality, f.diversity, f.orders(), f.orders(secondary=True)
    most = count(second, "quality") > 0.7 * len(second)
    yield "In most models quality falls below 0.90 before diversity", most
    yield "In no model does the opposite hold", count(first, "diversity") == 0
    of_tokens = [o for o in second if o.model.domain == TOKENS]
    yield "They find it in no network of image_tokens", count(of_tokens, "quality") == 0
    yield "and the opposite in", 0 < count(second, "diversity") < 0.1 * len(second)
    yield "recognises many kinds of garments", v(DIFFUSION, "int3") > q(DIFFUSION, "int3") + 0.3
    yield "it keeps much less diversity than quality", v(GAN, "ternary") < q(GAN, "ternary") - 0.1
    left = {m: (f.kept(GAN, m), f.kept_secondary(GAN, m)) for m in ("ternary", "int3", "int2")}
    at_three_levels = all(quality > diversity + 0.1 for quality, diversity in left["ternary"])
    not_above = all(quality < diversity for quality, diversity in (*left["int3"], *left["int2"]))
    yield "**True at `ternary`, and not at 3 and 2 bits.**", at_three_levels and not_above
    ours, theirs = ([o for o in some if o.model.domain == GAN] for some in (first, second))
    yield "in no GAN here does diversity fall below 0.90 first", count(ours, "diversity") == 0
    turned = [o.model.size for o in theirs if o.first == "diversity"]
    yield "By the secondary ones it does in two networks of size xs", turned == ["xs", "xs"]
    yield "GANs that are pruned or", all(v(GAN, m) < q(GAN, m) for m in (PRUNED, "ecsq:bits=1"))


def entropy_coding(f: Figures) -> Iterator[Condition]:
    """Finding 4."""
    at = {d: f.ratio(d, ECSQ, "s@0") for d in DOMAINS}
    better = all(f.quality(d, ECSQ) > f.on_ladder(d, at[d])[0] for d in DOMAINS)
    yield "entropy coding keeps more quality than the ladder", better
    between = [f.ratio(d, "int4", "s@0") < at[d] < f.ratio(d, "int3", "s@0") for d in DOMAINS]
    yield "interpolated between `int4` and `int3`", all(between)


def which_samples_fail(f: Figures) -> Iterator[Condition]:
    """Finding 5, and the claim that some samples stay intact."""
    failures = [(known(a.share), known(b.share)) for d in DOMAINS for _, a, b in f.failures(d)]
    yield "In every model", len(failures) == sum(m.domain in DOMAINS for m in f.whole)
    yield "fail more often at the harsher one", all(a > b for a, b in failures)
    unsure = bool(f.unsure()) and not any(name.startswith(GAN) for name in f.unsure())
    yield "the intervals overlap", unsure
    more = all(min(f.aucs(d, "surprisal")) > 0.5 for d in NOT_GAN)
    yield "samples with high surprisal fail more often", more
    yield "In text the effect is weak", max(f.aucs(TEXT, "surprisal")) < 0.6
    traits = [mean(f.aucs(d, "surprisal")) - mean(f.aucs(d, "rarity")) for d in NOT_GAN]
    yield "predicts failure less well", min(traits) > 0
    survival = [f.survivors(m) for m in f.of(DIFFUSION, "s")]
    yield "Which samples survive is not random (finding 5)", 0.1 < min(survival) and max(survival) < 0.9
    yield "is mostly another verse", f.fate(TEXT, "drifted") > 5 * f.fate(TEXT, "intact")


def size(f: Figures) -> Iterator[Condition]:
    """Finding 7."""
    (of_quality, common), (of_diversity, common_too) = (
        (f.slopes(r), f.slopes(r, common=True)) for r in ROLES
    )
    slopes = (of_quality, of_diversity, common, common_too)
    lows = [known(s.average.interval())[0] for s in slopes]
    yield "larger networks keep more of their quality and diversity", min(lows) > 0
    yield "The slopes differ between the domains", max(of_quality.p, of_diversity.p, common_too.p) < 0.05
    yield "In quality, sizes xs and s alone do not show it", common.p >= 0.05
    sizes = [(f.absolute(d, "xs", "int8"), f.absolute(d, "s", "int4")) for d in f.domains]
    as_well = all(min(a[1] - b[1], a[2] - b[2]) > -0.02 for a, b in sizes)
    yield "does about as well as `s` at 4 bits", as_well
    yield "of the bytes", max(a[0] / b[0] for a, b in sizes) < 0.65


def evaluators_and_use(f: Figures) -> Iterator[Condition]:
    """Findings 8 and 9."""
    least = min(f.agreements.values(), key=lambda row: row.tau.value)
    yield "rank the methods similarly", least.tau.value > 0.5
    yield "least so for the quality of image_gan", (least.domain, least.role) == (GAN, "quality")
    tau = {role: f.use_taus[GAN, role].value for role in ROLES}
    yield "diversity predicts the use of samples", tau["diversity"] > tau["quality"]
    ends = {key: known(interval_of(one)) for key, one in f.use_taus.items()}
    apart = [d for d in f.domains if ends[d, "diversity"][0] > ends[d, "quality"][1]]
    yield "In image_gan the two intervals do not overlap", apart == [GAN]
    spared = [f.use(m, "int4") - min(max(both_left(m, "int4")), 1) for m in f.whole]
    yield "no model's use falls more than .03 below", min(spared) > -0.03
    yield "without a valid sample", f.quality(TEXT, "binary") < 0.005
    yield "the GANs keep most of it", min(f.use(m, "binary") for m in f.of(GAN)) > 0.6
    hardly = mean(f.use(m, "binary") for m in f.of(DIFFUSION)) < 0.1
    yield "The diffusion models keep almost none", hardly


def calibrated(f: Figures) -> Iterator[Condition]:
    """Calibrated rounding: 8x, 4-bit weights, small files."""
    q, v = f.quality, f.diversity
    least = min(f.least(d, EIGHTFOLD) for d in f.domains)
    yield "keeps more than .9 of quality and of diversity", least > 0.9
    yield "by both sets of evaluators", least > 0.9
    yield "at more than 8x", min(f.ratio(d, EIGHTFOLD) for d in f.domains) > 8
    gains = {d: [q(d, m) - f.kept(d, "int4", "s@0")[0] for m in FOUR_BITS] for d in NOT_GAN}
    yield "Text gains less", max(gains[TEXT]) < min(gains[DIFFUSION])
    rejected = max(f.kept_secondary(DIFFUSION, m)[0] for m in FOUR_BITS)
    yield "rejects many of these pictures", rejected < 0.7
    at_4_bits = f.kept(DIFFUSION, "int4", "s@0")[0]
    yield "it takes most of the diffusion model's quality", at_4_bits < 0.5
    yield "calibrated rounding keeps all of it", min(q(DIFFUSION, m) for m in FOUR_BITS) > 0.95
    calibrated, at_ten = (
        [read(DIFFUSION, m)[0] > read(TEXT, m)[0] + 0.02 for read in (f.kept, f.kept_secondary)]
        for m in (EIGHTFOLD, TENFOLD)
    )
    yield "the diffusion model keeps more quality than text in `s@0`", all(calibrated)
    yield "At about 10x the two sets of evaluators disagree", at_ten == [True, False]
    views = (f.kept(DIFFUSION, SMALL), f.kept(TOKENS, SMALL))
    secondary = (f.kept_secondary(DIFFUSION, SMALL), f.kept_secondary(TOKENS, SMALL))
    more = all(ours[0] > theirs[0] for ours, theirs in (views, secondary))
    smaller = f.ratio(TOKENS, SMALL) > f.ratio(DIFFUSION, SMALL)
    yield "reverses this in `s@0`, though the file of image_tokens is smaller", more and smaller
    less_diverse = [v(d, BOTH) < v(d, SMALL) and f.ratio(d, BOTH) < f.ratio(d, SMALL) for d in DOMAINS]
    yield "calibrated rounding keeps more diversity in each domain", all(less_diverse)
    less_valid = [q(d, BOTH) < q(d, SMALL) for d in NOT_GAN]
    yield "and more quality in the diffusion model and", all(less_valid)


def one_bit(f: Figures) -> Iterator[Condition]:
    """1 bit and three levels, after and during training."""
    q, v = f.quality, f.diversity
    yield "No file of `binary` is 32 times smaller", max(f.ratio(d, "binary") for d in f.domains) < 32
    yield "only the GAN still makes garments", max(q(d, "binary") for d in NOT_GAN) < 0.05
    yield "and it loses most of both roles", max(q(GAN, "binary"), v(GAN, "binary")) < 0.5
    entropy_coded = q(GAN, "ecsq:bits=1") > 0.5 > v(GAN, "ecsq:bits=1")
    yield "keeps most of the GAN's quality but not of its", entropy_coded
    rows = [row for one in f.found.ways if (row := one.rungs.get("binary")) is not None]
    gained = [known(known(row.difference(r, "binary")).interval())[0] for row in rows for r in ROLES]
    yield "**During training it keeps more", bool(gained) and min(gained) > 0
    left = [[known(row.during.retention(r, "binary")).value for r in ROLES] for row in rows]
    yield "no domain keeps .9 of both roles**", all(min(kept) < 0.9 for kept in left)
    taught = f.kept(GAN, TAUGHT, "s@0", plain=True) + f.kept_secondary(GAN, TAUGHT, "s@0", plain=True)
    yield "keeps more than .95 of both at 1 bit**", min(taught) > 0.95
    yield "it does not help", f.kept(TEXT, TAUGHT, "xs@0")[0] < f.kept(TEXT, ONE_BIT, "xs@0")[0]
    three, two = ([f.kept(d, f"qat:grid={g}", "s@0", plain=True) for d in DOMAINS] for g in FEW_BITS)
    levels = [a - b for ternary, binary in zip(three, two) for a, b in zip(ternary, binary)]
    yield "Three levels a weight keep more than two", min(levels) > 0.02
    sizes = [[f.ratio(d, f"qat:grid={g}", "s@0", True) for g in FEW_BITS] for d in DOMAINS]
    yield "in files 1.5 times as large", all(1.35 < binary / ternary < 1.65 for ternary, binary in sizes)
    strict = [f.kept_secondary(DIFFUSION, f"qat:grid={g}", "s@0", plain=True)[0] for g in FEW_BITS]
    yield "The secondary evaluators reject nearly all", max(strict) < 0.1


def training(f: Figures) -> Iterator[Condition]:
    """Collapses, spreads and the networks of a GAN."""
    trained, few = f.trainings(), f.trainings(FEW_BITS)
    yield "No training has diverged", not any(map(diverged, trained.values()))
    yield "and none in diversity", not any(collapses(records)[1] for records in few.values())
    others = [collapses(same) for cell, same in trained.items() if cell not in few]
    yield "No other training collapses", not any(map(any, others))
    # `ends=int8` stores more than a bit a weight
    binary = {cell for cell in f.trainings(["binary"]) if "ends=" not in cell.method}
    smallest = {cell for cell in binary if cell.domain in NOT_GAN and cell.model[:2] == "xs"}
    yield "They are all trainings with binary weights throughout", f.collapsed() == smallest
    doubted = f.collapsed(secondary=True)
    of_diffusion = smallest < doubted and {cell.domain for cell in doubted - smallest} == {DIFFUSION}
    yield "these, and others of the diffusion model", of_diffusion
    p_of_spreads = [[f.p_of_spread(role, second) or 1.0 for second in (False, True)] for role in ROLES]
    words = "At 1 bit no larger spread of diversity is shown, and that of quality is not tested"
    yield words, f.p_of_spread("quality") is None and max(p_of_spreads[1]) >= 0.05
    generators = [f.gan_networks(role, "generator") for role in ROLES]
    yield "The generator alone can be trained with binary weights", min(generators) > 0.7
    yield "one training each", len(f.gan_models) == 1
    spread = f.spread_of_equal(GAN, ONE_BIT)
    within = all(abs(f.gan_gain(role)) < 4 * sd for role, sd in zip(ROLES, spread))
    yield "cannot tell such a difference from chance", within


def claims_of_others(f: Figures) -> Iterator[Condition]:
    """Claims about images, text and tokens."""
    claimed = claims(f.found.now)
    gan_over_text = all((GAN, TEXT) in claimed[role] for role in ROLES)
    yield "the GAN's pictures keep more of both roles than text", gan_over_text
    tokens = [(TOKENS, TEXT) in claimed[role] for role in ("quality", "diversity")]
    yield "keep more quality than text, and not more diversity", tokens == [True, False]
    either = {(TEXT, DIFFUSION), (DIFFUSION, TEXT)}
    yield "no difference in quality is claimed", not either & claimed["quality"]
    yield "and text keeps more diversity", (TEXT, DIFFUSION) in claimed["diversity"]
    ahead = (TOKENS, DIFFUSION) in claimed["quality"]
    yield "**True of quality on the ladder, on average over sizes s and xs.**", ahead
    either = {(TOKENS, DIFFUSION), (DIFFUSION, TOKENS)}
    yield "In diversity no difference is claimed", not either & claimed["diversity"]
    yield "writes no tokens and keeps more than both", {(GAN, TOKENS), (GAN, DIFFUSION)} <= claimed["quality"]


def pruning(f: Figures) -> Iterator[Condition]:
    """Pruning, alone and with quantization."""
    q, v = f.quality, f.diversity
    yield "only the GAN keeps its quality", max(q(d, BOTH) for d in NOT_GAN) < 0.1 and q(GAN, BOTH) > 0.9
    yield "it does not keep its diversity", f.kept_secondary(GAN, BOTH)[1] < 0.7 < v(GAN, BOTH)
    yield "`wanda` keeps more quality than `magnitude`", q(DIFFUSION, "wanda") > q(DIFFUSION, PRUNED) + 0.1
    yield "`sparsegpt` keeps most", q(DIFFUSION, "sparsegpt") > q(DIFFUSION, "wanda") + 0.1
    yield "`wanda` keeps less diversity than `magnitude`", v(GAN, "wanda") < v(GAN, PRUNED) - 0.02
    yield "all three ruin quality", max(q(TEXT, m) for m in (PRUNED, "wanda", "sparsegpt")) < 0.1
    yield "ruins the diffusion model and the transformer", max(q(d, PRUNED) for d in NOT_GAN) < 0.1
    yield "It costs the GAN diversity", f.kept_secondary(GAN, PRUNED)[1] < 0.7
    yield "**Pruning while training keeps far more, and still does not pay.**", f.gain_of_pruning() > 0.1
    after = f.loss_of_pruning() > 0
    yield "calibrated rounding without further training keeps more of both roles", after


def running_statistics(f: Figures) -> Iterator[Condition]:
    """Recalibration, and rungs that keep more than milder ones."""
    q, v = f.quality, f.diversity
    without, with_it = (f.kept(GAN, "binary", "s@0", plain)[0] for plain in (True, False))
    yield "decides what a GAN keeps at 1 bit", with_it > 4 * without
    (bare0, bare1), (s0, s1) = (
        [f.kept(GAN, "int2", m, plain) for m in ("s@0", "s@1")] for plain in (True, False)
    )
    yield "At 2 bits it adds diversity to both", s0[1] > bare0[1] and s1[1] > bare1[1]
    yield "It costs one network quality", s0[0] < bare0[0]
    yield "and the other none", s1[0] >= bare1[0]
    yield "`ternary` is smaller than `int2`", f.ratio(GAN, "ternary") > f.ratio(GAN, "int2")
    yield "It keeps more quality", q(GAN, "ternary") > q(GAN, "int2")
    yield "Its zeros make smooth pictures of fewer kinds", v(GAN, "ternary") < v(GAN, "int2")
    yield "may keep more quality with fewer bits", bool(f.six_below_five())


def threats(f: Figures) -> Iterator[Condition]:
    """Threats to validity."""
    in_fp16 = [f.kept(d, "fp16", "s@0", plain=True) for d in DOMAINS]
    yield "exact in fp16, so a file in fp16 keeps everything", in_fp16 == [[1.0, 1.0]] * len(DOMAINS)
    alone = {name: number(claims(now)) for name, now in f.found.now.alone.items()}
    fewer = alone["xs"] < alone["s"] < number(claims(f.found.now))
    yield "Size s alone shows fewer of them, and size xs alone fewer still", fewer
    networks = [len(f.of(d, "m")) for d in (*DOMAINS, *OTHERS)]
    words = "**Three domains have three networks of size m, the others none.**"
    yield words, networks == [3, 3, 3, 0, 0]
    wider = f.found.now.including["m"]
    of_three = {c for c in f.found.now.conclusions() if {c[1], c[2]} <= {d.name for d in wider.domains}}
    yield "show the same claims", of_three == set(wider.conclusions())
    m_alone, claimed = f.found.now.outside["m"], {c for c in of_three if c[3]}
    lacks = claimed - set(m_alone.conclusions())
    yield "Size m alone shows four of their five claims", (len(claimed), len(lacks)) == (5, 1)
    undecided = {("diversity", TEXT, DIFFUSION, True)}
    yield "It does not show text ahead of the U-Net in diversity", lacks == undecided
    first, second = (
        {d.name: known(d.score("diversity")).value for d in some}
        for some in (m_alone.domains, m_alone.second_domains)
    )
    turned = first[DIFFUSION] > first[TEXT] and second[DIFFUSION] < second[TEXT]
    yield "there the U-Net is ahead by the primary evaluators, and text by the secondary ones", turned
    poor = {(m.domain, m.size) for m in f.whole if m.u["quality"] < POOR}
    yield "Uncompressed text networks of size xs", poor == {(TEXT, "xs")}
    yield "so no finding leaves out a network", f.least_u() >= COUNTS_FROM


SECTIONS: Iterable[Callable[[Figures], Iterator[Condition]]] = (
    *(data_or_network, at_6_bits, at_4_bits, order_of_loss, entropy_coding, which_samples_fail, size),
    *(evaluators_and_use, calibrated, one_bit, training, claims_of_others, pruning, running_statistics),
    threats,
)


def claims(now: ClaimContext) -> dict[str, set[tuple[str, str]]]:
    """Role -> pairs of domains of which the first is claimed to keep more."""
    return {r: {(c.a, c.b) for c in now.comparisons if c.role == r and now.claimed(c)} for r in ROLES}


def number(claimed: dict[str, set[tuple[str, str]]]) -> int:
    """How many claims in both roles."""
    return sum(map(len, claimed.values()))


def spans(f: Figures, method: str, shared: What) -> list[float]:
    """How far retentions of `s@0` lie apart: quality by both sets of evaluators, then diversity."""
    return [f.span_of(method, shared, role, second) for role in ROLES for second in (False, True)]


def count(orders: Sequence[Order], role: str) -> int:
    """In how many models a role falls below 0.90 first."""
    return sum(o.first == role for o in orders)
