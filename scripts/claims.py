"""What the records show, claim by claim, and what failed: words with the figures that they rest on, and the assertions that hold them to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
from bench.report.per_model import with_sign

from bench.methods.notation import LADDER
from bench.records.schema import Record
from bench.report.headline import gain_text
from bench.report.secondary_table import tau_text
from bench.stats.agreement import agreements, as_second_judges_see, interval_of
from bench.stats.compressibility import FULL_RANGE, retention_of, score
from bench.stats.intervals import Estimate
from bench.stats.ladder import ROLES, ModelLadder
from bench.stats.model_file import ModelFile
from bench.stats.scores import model_score
from bench.stats.sizes import iso_quality_gain, of_sizes_trained_often, own_slopes, points
from bench.stats.use import foretold, use_by_method
from scripts.figures import DIFFUSION, DOMAINS, GAN, SEEDS, TEXT, Figures, by_domain, ratios, short, span


@dataclass(frozen=True)
class Claim:
    """What is claimed, in a sentence; what else is to be said of it; the figures, domain by domain; the commands that measured these."""

    head: str
    words: str
    table: str
    commands: tuple[str, ...]


EVERY_LADDER = f"`python -m bench run --domain all --model s@0 --method ladder {SEEDS} --results results`, and so on for every model"
SECOND_JUDGES = "`python -m bench judge --domain all --results results`"
FIGURES = "tabulated by `python -m bench leaderboard`"


def down_to_six_bits(f: Figures) -> Claim:
    assert min(f.retention(d, "int6", role) for d in DOMAINS for role in ROLES) > 0.8
    whole, theirs = [m for m in f.found.models if m.whole], f.judged_twice
    first, second = ([m for m in models if min(left(m, role, "int6") for role in ROLES) < 0.95] for models in (whole, theirs))
    assert {m.domain for m in first} <= {DIFFUSION} and len(first) < len(whole) / 3
    of = lambda models, d: [f"{m.model} {'/'.join(short(left(m, role, 'int6')) for role in ROLES)}" for m in models if m.domain == d]
    named = lambda models, d: ", ".join(of(models, d)) or "none"
    return Claim(
        "Down to 6 bits, 6 times smaller, hardly anything is lost, except by diffusion models",
        f"{len(first)} of {len(whole)} models lose more than 5 % of their quality or diversity, by the second judges {len(second)} of {len(theirs)}. "
        "At 5 bits (7x) the diffusion model's quality depends on the training.",
        by_domain(
            [
                "`int6`",
                "by the second judges",
                "models that lose more than 5 %",
                "the same, by the second judges",
                "quality at `int5`, by size, range over training seeds",
            ],
            lambda d: [
                *(f.both(d, "int6"), f.second_of(d, "int6"), named(first, d), named(second, d)),
                f.by_size_of(d, lambda models: span(left(m, "quality", "int5") for m in models)),
            ],
        ),
        (EVERY_LADDER, SECOND_JUDGES),
    )


def ways_part_at_four(f: Figures) -> Claim:
    kept = {d: f.retention(d, "int4", "quality") for d in DOMAINS}
    assert kept[GAN] - 0.2 > kept[TEXT] > kept[DIFFUSION]
    assert all(f.retention(d, "int3", "quality") < 0.1 and f.retention(d, "int2", "quality") < 0.005 for d in (TEXT, DIFFUSION))
    return Claim(
        "At 4 bits the ways part, in quality",
        "One bit further, at `int3`, hardly anything valid comes from the transformers and the diffusion models, and at `int2` nothing; the GANs go on.",
        by_domain(
            ["`int4`", "by the second judges", "its quality by size, range over training seeds", "`int3`", "`int2`"],
            lambda d: [
                *(f.both(d, "int4"), f.second_of(d, "int4")),
                f.by_size_of(d, lambda models: span(left(m, "quality", "int4") for m in models)),
                *(f.both(d, "int3"), f.both(d, "int2")),
            ],
        ),
        (EVERY_LADDER, SECOND_JUDGES),
    )


def quality_first(f: Figures) -> Claim:
    orders, theirs = f.orders()
    first, second = (sum(o.first == "quality" for o in some) for some in (orders, theirs))
    contrary = [f"{o.model.domain} {o.model.model}" for o in theirs if o.first == "diversity"]
    assert all(o.first != "diversity" for o in orders) and second > 0.7 * len(theirs) and all(name.startswith(GAN) for name in contrary)
    onset = {(o.model.domain, o.model.model): o.onsets for o in orders}
    where = lambda d, role: f.by_size_of(d, lambda models: ratios(onset[m.domain, m.model][role].ratio for m in models))
    but = f", and the other way round in {' and '.join(contrary)}" if contrary else ""
    return Claim(
        "Quality falls below 0.90 first, diversity later",
        f"So in {first} of {len(orders)} models, with intervals that do not overlap, and the other way round in none; by the second judges in {second} of "
        f"{len(theirs)}{but}. (Two metrics, each on its own scale from floor to baseline.) At `int3` the diffusion model has "
        f"{short(f.retention(DIFFUSION, 'int3', 'quality'))} of its quality and {short(f.retention(DIFFUSION, 'int3', 'diversity'))} of its diversity: rubble, in which many "
        f"kinds of garments can still be told. The exception on the ladder is the GAN's `ternary`, where diversity has lost more: {f.both(GAN, 'ternary')}; off "
        f"it, pruned and entropy-coded GANs lose more of their diversity, too (`magnitude` {f.both(GAN, 'magnitude')}, `ecsq:bits=1` {f.both(GAN, 'ecsq:bits=1')}).",
        by_domain(
            ["less than 0.90 of quality left from, by size, range over training seeds", "less than 0.90 of diversity left from"],
            lambda d: [where(d, role) for role in ROLES],
        ),
        (EVERY_LADDER, SECOND_JUDGES, FIGURES),
    )


def coding_matters(f: Figures) -> Claim:
    quality = lambda d, method: mean(retention_of(r, "quality") or 0.0 for r in f.records(d, method))
    assert all(quality(d, "ecsq:bits=3") > quality(d, "int3") for d in DOMAINS)
    stored = lambda d, method: mean(r.cost.stored_bytes for r in f.records(d, method) if r.cost)
    more = [100 * (stored(d, "ecsq:bits=3") / stored(d, "int3") - 1) for d in DOMAINS]
    larger = f"{min(more):.0f} to {max(more):.0f}"
    return Claim(
        "How the bits are spent matters, too",
        f"Entropy-coded steps beside the fixed grid of as many nominal bits, both of `s@0`; the first files are {larger} % larger. The cliff moves; it does not go away.",
        by_domain(["`ecsq:bits=3`", "`int3`"], lambda d: [f.alone(d, "ecsq:bits=3"), f.alone(d, "int3")]),
        (
            *(
                f"`python -m bench run --domain {d} --method ecsq:bits=3 --method int3 {SEEDS} --results results`"
                for d in (DIFFUSION, TEXT)
            ),
            f"`python -m bench run --domain {GAN} --method ecsq:bits=3+recalibrate --method int3+recalibrate {SEEDS} --results results`",
        ),
    )


def survivors_differ(f: Figures) -> Claim:
    """Over all models: what holds in one need not hold in the next."""
    files = {d: [f.found.files[d, m.model] for m in f.found.models if m.domain == d and m.whole] for d in DOMAINS}
    next_rung = {GAN: ("int3", "int2"), DIFFUSION: ("int6", "int5"), TEXT: ("int6", "int5")}
    of = {d: [(file.model, s.table) for file in files[d] for s in file.ladder if s.harsher.startswith(next_rung[d][1])] for d in DOMAINS}
    steps = {d: [table for _, table in of[d]] for d in DOMAINS}
    both = {d: [(t.after_failure, t.after_survival) for t in steps[d] if t.after_failure and t.after_survival] for d in DOMAINS}
    rows = [
        (f"{d} {name}", t.after_failure, t.after_survival) for d in DOMAINS for name, t in of[d] if t.after_failure and t.after_survival
    ]
    unsure = [name for name, failed, survived in rows if failed.low <= survived.high]
    but = f" (in {' and '.join(unsure)} the intervals overlap)" if unsure else ""
    assert all((a.share or 0.0) > (b.share or 0.0) for pairs in both.values() for a, b in pairs)
    assert len(both[GAN]) == len(steps[GAN]) and all(a.low > b.high for a, b in both[GAN])
    fails = lambda d, after: span(pair[after].share or 0.0 for pair in both[d])
    surprised, rare = ({d: _aucs(files[d], trait) for d in DOMAINS} for trait in ("surprisal", "rarity"))
    for d in (DIFFUSION, TEXT):
        assert mean(surprised[d]) > mean(rare[d]) and min(surprised[d]) > 0.5
    return Claim(
        "Which samples break is not chance",
        f"In every model, at the steps below, samples that failed at the milder rung fail more often at the harsher one than samples that had survived it{but}. Samples that surprise the judge go first in the diffusion models and in text, those that "
        f"are rare among real ones less clearly. In text one flipped token makes another verse. Of the diffusion models' valid pictures of the class that fares worst and of "
        f"that which fares best, `int4` keeps {_classes(files[DIFFUSION])}; extremes of ten, they differ by chance, too.",
        by_domain(
            [
                "step",
                "fail of those that had failed, range over training seeds",
                "of those that had survived",
                "AUC of surprisal at `int4`",
                "of rarity",
            ],
            lambda d: [
                *(f"`{next_rung[d][0]}` to `{next_rung[d][1]}`", fails(d, 0), fails(d, 1)),
                *(span(surprised[d]), span(rare[d])),
            ],
        ),
        (EVERY_LADDER, "`python -m bench describe --domain all`"),
    )


def _aucs(files: Sequence[ModelFile], trait: str) -> list[float]:
    """How well a trait of the samples tells which of them 4 bits break, model by model where that can be told."""
    ends = [next((file.survival[rung].by for rung in ("int4+recalibrate", "int4") if rung in file.survival), None) for file in files]
    return [by[trait].auc.value for by in ends if by and by[trait].auc]


def _classes(files: Sequence[ModelFile]) -> str:
    """`.04 sneaker to .58 coat (`s@0`); ...`"""
    told, none_left = [], []
    for file in files:
        by = file.survival["int4"].by
        if not by:  # too little survives to be told apart
            none_left.append(f"`{file.model}`")
            continue
        labels = by["class"].labels
        assert labels is not None
        shares = dict(zip(file.covariates["class"].labels, (share.share or 0.0 for share in by["class"].survival)))
        told.append(f"{short(shares[labels.lowest])} {labels.lowest} to {short(shares[labels.highest])} {labels.highest} (`{file.model}`)")
    return "; ".join(told) + (f" ({' and '.join(none_left)}: hardly any survives)" if none_left else "")


def seeds_matter(f: Figures) -> Claim:
    """How far models of one size go apart that differ by their training seed alone."""
    widest = []
    for role in ROLES:
        for group in (group for d in DOMAINS for group in _of_one_size(f, d)):
            for rung in LADDER:
                values = [left(m, role, rung) for m in group]
                which = f"{role} of {group[0].domain} {group[0].size} at `{rung}`, from {short(min(values))} to {short(max(values))}"
                widest.append((max(values) - min(values), which))
    return Claim(
        "Another training seed is another network",
        f"Standard deviation of C between training seeds of one size, pooled over sizes; with few degrees of freedom each, it is not shown that domains differ in it. The farthest apart at one "
        f"rung: {max(widest)[1]}. A single model a domain would have hidden this: here more training seeds say more than more samples ([statistics.md](statistics.md#how-many-models-does-one-need)).",
        by_domain(
            ["C of quality", "C of diversity"],
            lambda d: [f"{_spread(_of_one_size(f, d), role):.3f}" for role in ROLES],
        ),
        (EVERY_LADDER,),
    )


def _of_one_size(f: Figures, domain: str) -> list[list[ModelLadder]]:
    """The compared models of a domain by size, of which there are several."""
    models = [m for unit in f.domain(domain).units for m in unit]
    groups = [[m for m in models if m.size == size] for size in dict.fromkeys(m.size for m in models)]
    return [group for group in groups if len(group) > 1]


def _spread(groups: Sequence[Sequence[ModelLadder]], role: str) -> float:
    """Standard deviation of C within a size, pooled over sizes."""
    scores = [[one.value for m in group if (one := model_score(m, role)) is not None] for group in groups]
    return math.sqrt(sum(np.var(values, ddof=1) * (len(values) - 1) for values in scores) / sum(len(values) - 1 for values in scores))


def size_matters(f: Figures) -> Claim:
    """The regression of the leaderboard, and whether a smaller network would have done as well."""
    slopes, sure, own = [], [], {}
    for role in ROLES:
        data = points(f.found.models, f.found.parameters, role)
        solid = of_sizes_trained_often([p for p in data if not p.hollow])
        every, without = own_slopes(data), own_slopes(solid)
        assert every is not None and without is not None
        own[role] = every.slopes
        slopes.append(
            f"{role} {with_sign(every.average)}, {with_sign(without.average)} without sizes trained once; equal slopes: p {every.p:.3f}, {without.p:.3f}"
        )
        signs = {_sign(one.average) for one in (every, without)}
        if signs in ({1}, {-1}):
            alike = "" if max(every.p, without.p) >= 0.05 else f" (of {role} not alike in each)"
            sure.append(f"{'more' if signs == {1} else 'less'} of its {role}{alike}")
    head = (
        f"On average over the domains a larger network keeps {' and '.join(sure)}"
        if sure
        else "What size does to C, these models do not show"
    )
    gains = {d.name: iso_quality_gain(f.found.of(d.name), [*dict.fromkeys(m.size for m in d.models)]) for d in f.found.now.domains}
    assert all(gain.value > 0 for gain in gains.values() if gain is not None and gain.bound != "at most")
    small = min(
        {m.size for m in f.found.models}, key=lambda size: min(f.found.parameters(m) or 0 for m in f.found.models if m.size == size)
    )
    cells = {(d, size, rung): f.absolute(d, size, rung) for d in DOMAINS for size, rung in ((small, "int8"), ("s", "int4"))}
    assert all(a > b - 0.02 for d in DOMAINS for a, b in zip(cells[d, small, "int8"][1:], cells[d, "s", "int4"][1:]))
    shares = [cells[d, small, "int8"][0] / cells[d, "s", "int4"][0] for d in DOMAINS]
    assert max(shares) < 0.65
    return Claim(
        head,
        f"C by a doubling of the parameters, mean of the domains' slopes, {len(data)} models: {'; '.join(slopes)}. **A larger network, mildly "
        f"compressed, beats a smaller one left in fp32**: the gain is the number of halvings by which its file is smaller than that of an uncompressed network of equal validity, "
        f"on straight lines between the measured sizes ([picture](images/sizes.png)); the GANs' validity hardly depends on size, so theirs says little. **But `{small}` at 8 bits does about as "
        f"well as `s` at 4 bits, or better**, in {short(min(shares))} to {short(max(shares))} of the bytes: shares of valid samples / of real ones found again ([more](../leaderboard.md#what-else-differs-between-the-models)).",
        by_domain(
            ["slope of C of quality", "of diversity", "halvings gained", f"`{small}` at `int8`", "`s` at `int4`"],
            lambda d: [
                *(with_sign(own[role][d]) for role in ROLES),
                *(gain_text(gains[d]), _in_bytes(cells[d, small, "int8"]), _in_bytes(cells[d, "s", "int4"])),
            ],
        ),
        (EVERY_LADDER, FIGURES),
    )


def _sign(estimate: Estimate) -> int:
    """Of an estimate whose interval leaves 0 out; else 0."""
    low, high = estimate.interval() or (-math.inf, math.inf)
    return 1 if low > 0 else -1 if high < 0 else 0


def _in_bytes(cell: tuple[float, float, float]) -> str:
    """`.81/.82 in 111 KB`"""
    return f"{short(cell[1])}/{short(cell[2])} in {cell[0] / 1024:.0f} KB"


def other_judges(f: Figures) -> Claim:
    rows = {(row.domain, row.role): row for row in agreements(f.found.records)}
    assert rows and all(row.tau.value > 0.5 for row in rows.values())
    apart = sum(row.pairs for row in rows.values())
    alike = sum((row.concordant or 0.0) * row.pairs for row in rows.values()) / apart
    least = min(rows.values(), key=lambda row: row.tau.value)
    widest = max(rows.values(), key=lambda row: abs(row.partings[0].first - row.partings[0].second))
    parting = widest.partings[0]
    told = lambda row: f"{tau_text(row.tau)} ({' and '.join(row.judges)})"
    return Claim(
        f"Judges of another kind put the methods in much the same order, least of all by the {least.role} of {least.domain}",
        f"Kendall's tau between the two judges, with intervals over methods. Of {apart} pairs of methods that both tell apart, {alike:.1%} stand in the same order. They part most over `{parting.method}` ({widest.domain} {parting.model}, "
        f"{widest.role}: {short(parting.first)} beside {short(parting.second)}). What each is, and which damages it misses: [second-judges.md](second-judges.md).",
        by_domain(
            ["methods", "tau of quality", "tau of diversity"],
            lambda d: [str(rows[d, "quality"].methods), *(told(rows[d, role]) for role in ROLES)],
        ),
        (SECOND_JUDGES, FIGURES),
    )


def useful(f: Figures) -> Claim:
    told = {(one.domain, one.role): one.tau for one in foretold(f.found.records)}
    assert all(told[d, "diversity"].value > told[d, "quality"].value for d in DOMAINS)
    ends = {key: interval_of(tau) for key, tau in told.items()}
    apart = [d for d in DOMAINS if (low := ends[d, "diversity"]) and (high := ends[d, "quality"]) and low[0] > high[1]]
    elsewhere = "; elsewhere it cannot be told" if len(apart) < len(DOMAINS) else ""
    use = {
        (m.domain, m.model): use_by_method([r for r in f.found.records if (r.domain, r.model) == (m.domain, m.model)])
        for m in f.found.models
    }
    kept = lambda m, rung: use[m.domain, m.model][rung + ("+recalibrate" if m.domain == GAN else "")].value
    used = lambda d, rung: f.by_size_of(d, lambda models: span(kept(m, rung) for m in models))
    whole = [m for m in f.found.models if m.whole]
    assert apart and all(kept(m, "binary") > 0.6 for m in whole if m.domain == GAN)
    assert mean(kept(m, "binary") for m in whole if m.domain == DIFFUSION) < 0.1
    assert all(kept(m, "int4") > min(left(m, role, "int4"), 1.0) - 0.03 for m in whole for role in ROLES)
    return Claim(
        f"What samples are good for as training data follows their diversity more than their quality in {', '.join(apart)}{elsewhere}",
        f"The intervals of tau, which are over methods, lie apart in {', '.join(apart)} and overlap elsewhere. At 4 bits no model loses more of its use than of its quality or diversity (by more than .03), and GANs keep most of it at 1 bit: pictures that are "
        f"fragments to the eye keep {short(min(kept(m, 'binary') for m in whole if m.domain == GAN))} or more of the way from permuted weights to the uncompressed network; those of the diffusion models keep nearly nothing "
        "([second-judges.md](second-judges.md#what-samples-are-good-for)).",
        by_domain(
            ["tau of use with quality", "with diversity", "use at `int4`, by size, range over training seeds", "at `binary`"],
            lambda d: [
                *(tau_text(told[d, role]) for role in ROLES),
                *(used(d, "int4"), used(d, "binary")),
            ],
        ),
        (SECOND_JUDGES, FIGURES),
    )


def left(m: ModelLadder, role: str, rung: str) -> float:
    """Retention of one model at a rung."""
    return float(m.outcomes[role].mean[m.rungs.index(rung)])


CLAIMS: Sequence[Callable[[Figures], Claim]] = (
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
    assert all(f.retention(d, "magnitude+int4", "quality") < f.retention(d, "ecsq:bits=3", "quality") for d in (TEXT, DIFFUSION))
    assert f.retention(GAN, "magnitude+int4", "diversity") < f.retention(GAN, "ecsq:bits=3", "diversity")
    return (
        f"Pruning half of the weights without training again ruins the diffusion model and the transformer, and costs the GAN diversity: `magnitude` {f.everywhere('magnitude')}; by the second "
        f"judges {f.second_alone('magnitude')}. Quantized as well (`magnitude+int4`: {f.everywhere('magnitude+int4')}) it keeps less of their quality than `ecsq:bits=3` "
        f"({f.everywhere('ecsq:bits=3')}), and less of the GAN's diversity ([compression.md](compression.md))."
    )


def recalibration(f: Figures) -> str:
    """The rungs without it were measured of `s@0` and `s@1` alone."""
    two = {model: (f.plain(GAN, "int2", model), f.alone(GAN, "int2", model)) for model in ("s@0", "s@1")}
    pairs = "; ".join(f"`{model}` {without} without, {with_it} with" for model, (without, with_it) in two.items())
    return (
        f"Recalibrating batch norm decides the GAN's fate at 1 bit (`s@0`, {f.plain(GAN, 'binary')} without it, {f.alone(GAN, 'binary')} with it). At 2 bits it buys diversity, in one network at the "
        f"cost of quality, in the other at none ({pairs})."
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
            end = int(np.argmax(m.rates >= FULL_RANGE[1])) + 1
            scores.append(score(m.rates[:end].tolist(), m.outcomes["quality"].mean[:end].tolist(), FULL_RANGE))
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
