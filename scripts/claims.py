"""What the records show, claim by claim, and what failed: words with the figures that they rest on, and the assertions that hold them to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import mean

import numpy as np

from bench.analysis.agreement import agreements, as_second_judges_see, interval_of
from bench.analysis.headline import gain_text
from bench.analysis.measured import ROLES
from bench.analysis.particulars import LIMITS, with_sign
from bench.analysis.scores import model_score
from bench.analysis.second_table import tau_text
from bench.analysis.sizes import best_within, iso_quality_gain, own_slopes, points, regress
from bench.analysis.use import foretold, use_by_method
from bench.compressibility import FULL, retention_of, score
from bench.methods.notation import LADDER
from bench.record import Record
from scripts.figures import DIFFUSION, DOMAINS, GAN, TEXT, Figures, ratios, short, span


def down_to_six_bits(f: Figures) -> str:
    assert min(f.retention(d, "int6", role) for d in DOMAINS for role in ROLES) > 0.8
    kept = lambda m, role, rung: float(m.outcomes[role].mean[m.rungs.index(rung)])
    whole = [m for m in f.found.models if m.whole]
    lost = {  # of all models by the first judges, of those compared by the second
        judge: [m for m in models if min(kept(m, role, "int6") for role in ROLES) < 0.95]
        for judge, models in (("first", whole), ("second", [m for d in f.seconds.values() for m in d.models]))
    }
    assert {m.domain for m in lost["first"]} <= {DIFFUSION} and len(lost["first"]) < len(whole) / 3
    named = lambda judge: "; ".join(f"{m.domain} {m.model} {'/'.join(short(kept(m, role, 'int6')) for role in ROLES)}" for m in lost[judge])
    count = lambda judge: f"{len(lost[judge])} of {len(whole) if judge == 'first' else sum(len(d.models) for d in f.seconds.values())}"
    return (
        f"**Down to 6 bits, 6 times smaller, hardly anything is lost, but by diffusion models.** `int6`: {f.everywhere('int6')}; by the second judges {f.second_everywhere('int6')}. "
        f"More than 5 % is lost by {count('first')} models ({named('first')}), by the second judges by {count('second')} ({named('second')}). At 5 bits (7x) it depends on the "
        f"training: what is left of quality is, by size, over training seeds, {f.by_size(lambda models: span(kept(m, 'quality', 'int5') for m in models))}."
    )


def ways_part_at_four(f: Figures) -> str:
    kept = {d: f.retention(d, "int4", "quality") for d in DOMAINS}
    assert kept[GAN] - 0.2 > kept[TEXT] > kept[DIFFUSION]
    quality = f.by_size(lambda models: span(float(m.outcomes["quality"].mean[m.rungs.index("int4")]) for m in models))
    return (
        f"**At 4 bits the ways part, in quality.** `int4`: {f.everywhere('int4')}; by the second judges {f.second_everywhere('int4')}. Quality by size, over training seeds: {quality}. "
        f"One bit further, `int3`: {f.everywhere('int3')}. The GAN goes on to 2 bits ({f.both(GAN, 'int2')}), where nothing valid comes from the other two."
    )


def quality_first(f: Figures) -> str:
    orders, theirs = f.orders()
    first, second = (sum(o.first == "quality" for o in some) for some in (orders, theirs))
    contrary = [f"{o.model.domain} {o.model.model}" for o in theirs if o.first == "diversity"]
    assert all(o.first != "diversity" for o in orders) and second > 0.7 * len(theirs) and all(name.startswith(GAN) for name in contrary)
    onset = {(o.model.domain, o.model.model): o.onsets for o in orders}
    where = f.by_size(lambda models: ", then ".join(ratios(onset[m.domain, m.model][role].ratio for m in models) for role in ROLES))
    but = f", and the other way round in {' and '.join(contrary)}" if contrary else ""
    return (
        f"**Quality falls below 0.90 first, diversity later**, in {first} of {len(orders)} models with intervals that do not overlap, and the other way round in none; by the "
        f"second judges in {second} of {len(theirs)}{but}. (Two metrics, each on its own scale from floor to baseline.) "
        f"By the first judges less than 0.90 is left from (quality, then diversity; over training seeds): {where}. At `int3` the diffusion model has {short(f.retention(DIFFUSION, 'int3', 'quality'))} of its quality "
        f"and {short(f.retention(DIFFUSION, 'int3', 'diversity'))} of its diversity: rubble, of every kind of garment. The GAN's last rungs are the exception: "
        f"`ternary` has {f.both(GAN, 'ternary')}."
    )


def coding_matters(f: Figures) -> str:
    quality = lambda d, method: mean(retention_of(r, "quality") or 0.0 for r in f.records(d, method))
    assert all(quality(d, "ecsq:bits=3") > quality(d, "int3") for d in DOMAINS)
    pairs = "; ".join(f"{d} {f.alone(d, 'ecsq:bits=3')} instead of {f.alone(d, 'int3')}" for d in DOMAINS)
    return (
        f"**How the bits are spent matters as much as how many.** Entropy-coded steps (`ecsq:bits=3`) beside the fixed grid `int3`, both of `s@0`: {pairs}. "
        f"The cliff moves; it does not go away."
    )


def survivors_differ(f: Figures) -> str:
    """Over the compared models: what holds in one need not hold in the next."""
    files = {d: [f.found.files[d, model] for model in f.compared(d)] for d in DOMAINS}
    steps = [next(s.table for s in file.ladder if s.harsher.startswith("int2")) for file in files[GAN]]
    assert all(t.after_failure and t.after_survival and t.after_failure.low > t.after_survival.high for t in steps)
    again, fresh = (span(share.share or 0.0 for t in steps if (share := getattr(t, name))) for name in ("after_failure", "after_survival"))
    classes, none_left, aucs = [], [], {}
    for d in (DIFFUSION, TEXT):
        for trait in ("surprisal", "rarity"):
            aucs[d, trait] = [by[trait].auc.value for file in files[d] if (by := file.survival["int4"].by) and by[trait].auc]
        assert mean(aucs[d, "surprisal"]) > mean(aucs[d, "rarity"]) and min(aucs[d, "surprisal"]) > 0.5
    for file in files[DIFFUSION]:
        by = file.survival["int4"].by
        if not by:  # too little survives to be told apart
            none_left.append(f"`{file.model}`")
            continue
        labels = by["class"].labels
        assert labels is not None
        shares = dict(zip(file.covariates["class"].labels, (share.share for share in by["class"].survival)))
        classes.append(
            f"{short(shares[labels.lowest] or 0.0)} {labels.lowest} to {short(shares[labels.highest] or 0.0)} {labels.highest} (`{file.model}`)"
        )
    left_out = f" ({' and '.join(none_left)}: hardly any survives)" if none_left else ""
    of_text = [next(s.table for s in file.ladder if s.harsher == "int5") for file in files[TEXT]]
    after = {
        name: span(share.share or 0.0 for table in of_text if (share := getattr(table, name)))
        for name in ("after_failure", "after_survival")
    }
    return (
        f"**Which samples break is not chance.** The GAN's samples that fail at 3 bits fail at 2 in {again} of cases (over training seeds), those that survived 3 bits in "
        f"{fresh}. At `int4` the diffusion models keep, of their valid pictures of the class that fares worst and of that which fares best, {'; '.join(classes)}{left_out}. "
        f"Samples that surprise the judge go first (AUC {span(aucs[DIFFUSION, 'surprisal'])} in the diffusion models at 4 bits, {span(aucs[TEXT, 'surprisal'])} in text), those that are rare "
        f"among real ones less clearly ({span(aucs[DIFFUSION, 'rarity'])} and {span(aucs[TEXT, 'rarity'])}). In text one flipped token makes another verse: those that failed at 6 bits fail at 5 in "
        f"{after['after_failure']} of cases, those that had survived in {after['after_survival']}."
    )


def seeds_matter(f: Figures) -> str:
    """How far models of one size go apart that differ by their training seed alone."""
    spreads, widest = [], []
    for role in ROLES:
        of = []
        for d in f.domains.values():
            models = [m for unit in d.units for m in unit]
            groups = [[m for m in models if m.size == size] for size in dict.fromkeys(m.size for m in models)]
            several = [group for group in groups if len(group) > 1]
            if not several:
                continue
            scores = [[one.value for m in group if (one := model_score(m, role)) is not None] for group in several]
            pooled = sum(np.var(values, ddof=1) * (len(values) - 1) for values in scores) / sum(len(values) - 1 for values in scores)
            of.append(f"{d.name} {math.sqrt(pooled):.3f}")
            for group in several:
                for rung in LADDER:
                    values = [float(m.outcomes[role].mean[m.rungs.index(rung)]) for m in group]
                    which = f"{role} of {d.name} {group[0].size} at `{rung}`, from {short(min(values))} to {short(max(values))}"
                    widest.append((max(values) - min(values), which))
        spreads.append(f"{role} {', '.join(of)}")
    if not widest:
        return "**Training seeds**: no domain has two yet."
    return (
        "**Another training seed is another network, in some domains more than in others.** Standard deviation of C between training seeds of one size, pooled over sizes: "
        f"{'; '.join(spreads)}. The farthest apart at one rung: {max(widest)[1]}. A single model a domain would have hidden this: "
        "more training seeds say more than more samples ([statistics.md](statistics.md#how-many-models-does-one-need))."
    )


def size_matters(f: Figures) -> str:
    """The regression of the leaderboard, and whether a smaller network would have done as well."""
    slopes, sure, apart = [], [], []
    for role in ROLES:
        data = points(f.found.models, f.found.parameters, role)
        fit, own = regress(data), own_slopes(data)
        assert fit is not None and own is not None
        slopes.append(f"{role} {with_sign(fit.slope)} ({len(data)} models)")
        low, high = fit.slope.interval() or (-math.inf, math.inf)
        if low > 0 or high < 0:
            sure.append(f"{'more' if low > 0 else 'less'} of its {role}")
        shown = [d for d, slope in own.slopes.items() if (ends := slope.interval()) and (ends[0] > 0 or ends[1] < 0)]
        alone = ", ".join(f"{d} {with_sign(slope)}" for d, slope in own.slopes.items())
        apart.append(f"in {role} {alone} (shown in {', '.join(shown) or 'none'}; p of one slope for all {own.p:.3f})")
    head = (
        f"On average over the domains a larger network keeps {' and '.join(sure)}"
        if sure
        else "What size does to C, these models do not show"
    )
    gains = {d.name: iso_quality_gain(f.found.of(d.name), [*dict.fromkeys(m.size for m in d.models)]) for d in f.found.now.domains}
    assert all(gain.value > 0 for gain in gains.values() if gain is not None and gain.bound != "at most")
    better = "; ".join(f"{name} {gain_text(gain)}" for name, gain in gains.items() if gain is not None)
    within = {d: {fits.limit: fits for fits in best_within(f.found.of(d), LIMITS)} for d in DOMAINS}
    small = min(
        {m.size for m in f.found.models}, key=lambda size: min(f.found.parameters(m) or 0 for m in f.found.models if m.size == size)
    )
    up_to = {d: max(fits.limit for fits in found.values() if fits.size == small) for d, found in within.items()}
    best = "; ".join(f"{d} `{found[up_to[d]].method}` of {small} in {found[up_to[d]].stored / 1024:.0f} KB" for d, found in within.items())
    assert all(found[up_to[d]].method != "none" for d, found in within.items())
    return (
        f"**{head}, but not in each alike.** C by a doubling of the parameters: {'; '.join(slopes)}. Domain by domain, {'; '.join(apart)}. "
        f"**A larger network, mildly compressed, beats a smaller one left in fp32**: halvings by which its file is smaller than that of the smallest uncompressed network of equal "
        f"validity: {better} ([picture](images/sizes.png)). **But a small network compressed mildly beats a large one compressed hard**: the smallest size is still the best choice at the budgets that "
        f"these files fit: {best} ([leaderboard](../leaderboard.md#what-else-differs-between-the-models))."
    )


def other_judges(f: Figures) -> str:
    rows = agreements(f.found.records)
    assert rows and all(row.tau.value > 0.5 for row in rows)
    taus = "; ".join(f"{row.domain} {row.role} {tau_text(row.tau)} ({' and '.join(row.judges)}, {row.methods} methods)" for row in rows)
    apart = sum(row.pairs for row in rows)
    alike = sum((row.concordant or 0.0) * row.pairs for row in rows) / apart
    least = min(rows, key=lambda row: row.tau.value)
    widest = max(rows, key=lambda row: abs(row.partings[0].first - row.partings[0].second))
    parting = widest.partings[0]
    return (
        f"**Judges of another kind put the methods in much the same order, least of all by the {least.role} of {least.domain}.** Kendall's tau between the two: {taus}. Of {apart} pairs of methods that both tell apart, "
        f"{alike:.1%} stand in the same order. They part most over `{parting.method}` ({widest.domain} {parting.model}, {widest.role}: {short(parting.first)} beside "
        f"{short(parting.second)}). What each is, and which damages it misses: [second-judges.md](second-judges.md)."
    )


def useful(f: Figures) -> str:
    told = {(one.domain, one.role): one.tau for one in foretold(f.found.records)}
    assert all(told[d, "diversity"].value > told[d, "quality"].value for d in DOMAINS)
    taus = "; ".join(f"{d} {tau_text(told[d, 'quality'])} and {tau_text(told[d, 'diversity'])}" for d in DOMAINS)
    ends = {key: interval_of(tau) for key, tau in told.items()}
    apart = [d for d in DOMAINS if (low := ends[d, "diversity"]) and (high := ends[d, "quality"]) and low[0] > high[1]]
    overlap = f"the intervals lie apart in {', '.join(apart)} and overlap elsewhere" if apart else "the intervals overlap"
    use = {
        (m.domain, m.model): use_by_method([r for r in f.found.records if (r.domain, r.model) == (m.domain, m.model)])
        for m in f.found.models
    }
    kept = lambda m, rung: use[m.domain, m.model][rung + ("+recalibrate" if m.domain == GAN else "")].value
    four = "; ".join(f"{d} {f.by_size_of(d, lambda models: span(kept(m, 'int4') for m in models))}" for d in DOMAINS)
    one_bit = f.by_size_of(GAN, lambda models: span(kept(m, "binary") for m in models))
    assert apart and all(kept(m, "binary") > 0.6 for m in f.found.models if m.domain == GAN and m.whole and m.model in f.compared(GAN))
    return (
        f"**What samples are good for as training data follows their diversity more than their quality in {', '.join(apart)}; elsewhere that is not told.** Kendall's tau of use with quality and with diversity "
        f"(intervals over methods): {taus}; {overlap}. Use outlives both: at `int4` it is, by size, over training seeds, {four}; and pictures of the GAN at 1 bit, fragments to the eye, still train a classifier "
        f"to {one_bit} of what the uncompressed network's do ([second-judges.md](second-judges.md#what-samples-are-good-for))."
    )


CLAIMS: Sequence[Callable[[Figures], str]] = (
    down_to_six_bits,
    ways_part_at_four,
    quality_first,
    coding_matters,
    survivors_differ,
    seeds_matter,
    size_matters,
    other_judges,
    useful,
)


def no_pruning(f: Figures) -> str:
    assert f.retention(TEXT, "magnitude", "quality") < 0.05 and f.retention(DIFFUSION, "magnitude", "quality") < 0.1
    assert f.second(GAN, "magnitude", "diversity") < 0.7
    return (
        f"Pruning half of the weights without training again ruins two of three, and costs the third of its diversity: `magnitude` {f.everywhere('magnitude')}; by the second judges "
        f"{f.second_alone('magnitude')}. At nearly equal bytes entropy-coded quantization keeps more quality in both, and is level in the GAN's ([compression.md](compression.md))."
    )


def recalibration(f: Figures) -> str:
    """The rungs without it were measured of `s@0` and `s@1` alone."""
    two = {model: (f.plain(GAN, "int2", model), f.alone(GAN, "int2", model)) for model in ("s@0", "s@1")}
    pairs = "; ".join(f"`{model}` {without} without, {with_it} with" for model, (without, with_it) in two.items())
    return (
        f"Recalibrating batch norm decides the GAN's fate at 1 bit (`s@0`, {f.plain(GAN, 'binary')} without it, {f.alone(GAN, 'binary')} with it). At 2 bits it buys diversity, in one network with "
        f"quality and in the other not ({pairs})."
    )


def not_monotone(f: Figures) -> str:
    a, b = f.retention(GAN, "int2", "quality"), f.retention(GAN, "ternary", "quality")
    assert b > a
    return (
        f"The ladder is not a ladder for the GAN: `ternary`, smaller than `int2`, keeps more of its quality ({short(b)} beside {short(a)}) and less of its diversity "
        f"({short(f.retention(GAN, 'ternary', 'diversity'))} beside {short(f.retention(GAN, 'int2', 'diversity'))}): zeros give smooth pictures of fewer kinds. {_six_below_five(f)}C uses the monotone fit, which shares "
        f"out such a rise: without the rungs beyond the first that reaches 16x the GAN's C of quality would be {_without_what_lies_beyond(f):.3f} instead of {f.domain(GAN).score('quality').value:.3f}."  # type: ignore[union-attr]
    )


def _without_what_lies_beyond(f: Figures) -> float:
    """C of the GAN's quality from the rungs up to the first that reaches 16x."""
    scores = []
    for unit in f.domain(GAN).units:
        for m in unit:
            end = int(np.argmax(m.rates >= FULL[1])) + 1
            scores.append(score(m.rates[:end].tolist(), m.outcomes["quality"].mean[:end].tolist(), FULL))
    return mean(one for one in scores if one is not None)


def _six_below_five(f: Figures) -> str:
    """Of diffusion models where more bits leave less quality, by both judges."""
    found = []
    for m in f.found.models:
        if m.domain == DIFFUSION and m.whole:
            six, five = (f.records(DIFFUSION, rung, m.model) for rung in ("int6", "int5"))
            first = [mean(retention_of(r, "quality") or 0.0 for r in records) for records in (six, five)]
            second = [mean(s for r in records if (s := _second_retention(r)) is not None) for records in (six, five)]
            if max(first[0] - first[1], second[0] - second[1]) < -0.05:
                found.append(
                    f"`{m.model}` {short(first[0])} and {short(first[1])}, by the second judge {short(second[0])} and {short(second[1])}"
                )
    return f"Nor always for the diffusion model: at 6 and 5 bits it keeps, of its quality, {'; '.join(found)}. " if found else ""


def _second_retention(record: Record) -> float | None:
    other = as_second_judges_see(record)
    return None if other is None else retention_of(other, "quality")


NEGATIVE: Sequence[Callable[[Figures], str]] = (no_pruning, recalibration, not_monotone)
