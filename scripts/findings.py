"""docs/findings.md from the published records: every figure is computed here, none is typed. `python -m scripts.findings`

Not part of the package. What the words claim is asserted beside the figures: a claim that the records no longer carry stops the script.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean

from bench.analysis.material import Material, material
from bench.analysis.measured import ROLES
from bench.analysis.order import order_of
from bench.analysis.scores import Domain
from bench.analysis.verdict import paragraph
from bench.compressibility import retention_of
from bench.files import write_atomically
from bench.leaderboard import survival_of
from bench.methods.notation import LADDER
from bench.model_file import ModelFile, read_models
from bench.record import Record, read_records

ROOT = Path(__file__).parent.parent
GAN, DIFFUSION, TEXT = "image_gan", "image_diffusion", "text"
DOMAINS = (GAN, DIFFUSION, TEXT)
SEEDS = "--seed 0 --seed 1 --seed 2"


class Figures:
    """Numbers of the records by domain and method; rungs are means over all compared models, other methods those of `s@0`."""

    def __init__(self, found: Material) -> None:
        self.found = found
        self.domains = {d.name: d for d in found.now.domains}

    def domain(self, name: str) -> Domain:
        return self.domains[name]

    def retention(self, domain: str, method: str, role: str) -> float:
        if method in LADDER:
            estimate = self.domains[domain].retention(role, method)
            assert estimate is not None, f"{domain} has no {method}"
            return estimate.value
        return mean(v for r in self.records(domain, method) if (v := retention_of(r, role)) is not None)

    def ratio(self, domain: str, method: str) -> float:
        if method in LADDER:
            return 2 ** (self.domains[domain].rate(method) or math.nan)
        return mean(r.cost.ratio for r in self.records(domain, method) if r.cost)

    def records(self, domain: str, method: str) -> list[Record]:
        """Of `s@0`; recalibrated where the domain's ladder is."""
        of_model = [r for r in self.found.records if r.domain == domain and r.model == "s@0"]
        named = [r for r in of_model if r.method == method + "+recalibrate"] or [r for r in of_model if r.method == method]
        assert named, f"{domain} has no records of {method}"
        return named

    def both(self, domain: str, method: str) -> str:
        """`9.0x: .99/.98`: ratio, quality, diversity."""
        q, d = (self.retention(domain, method, role) for role in ROLES)
        return f"{self.ratio(domain, method):.1f}x: {short(q)}/{short(d)}"

    def everywhere(self, method: str) -> str:
        return "; ".join(f"{domain} {self.both(domain, method)}" for domain in DOMAINS)

    def survival(self, domain: str, method: str) -> float:
        return mean(s for r in self.records(domain, method) if (s := survival_of(r)) is not None)


def short(value: float) -> str:
    """.99, 1.02, -.05"""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 0.995 else f"{value:.2f}"


def main() -> None:
    results = ROOT / "results"
    write_atomically(ROOT / "docs" / "findings.md", findings(read_records(results), read_models(results)))


def findings(records: Sequence[Record], files: dict[tuple[str, str], ModelFile]) -> str:
    found = material(records, files)
    f = Figures(found)
    return "\n".join(
        [
            INTRODUCTION,
            "## The answer, as far as it goes\n",
            paragraph(found.now, found.wider).replace("](docs/", "]("),
            "![Retention of quality and of diversity over compression, all domains](images/domains.png)\n",
            "## What the records show\n",
            *(f"{i}. {claim}\n" for i, claim in enumerate((one(f) for one in CLAIMS), 1)),
            FIGURES_OF_PATHS,
            "## What the field says of compressing generative models\n",
            field_table(f) + "\n",
            "## Negative results\n",
            *(f"- {text(f)}" for text in NEGATIVE),
            "",
            THREATS,
        ]
    )


INTRODUCTION = """\
# Findings

What the published records say, each claim with its figures and the command behind it. Retention is written quality/diversity: 1 = like the uncompressed
network, 0 = like the same weights in random order. Figures of rungs of the ladder (`int8` ... `binary`) are means over all models that are compared; those of other
methods are the model `s@0`'s, three sampling seeds each. Made by `python -m scripts.findings` from `results/`: no figure here was typed. The tables:
[leaderboard.md](../leaderboard.md); how intervals are made, and how often they hold: [statistics.md](statistics.md).
"""
FIGURES_OF_PATHS = """\
![Paths of quality against diversity, among real samples that were damaged on purpose](images/quality-diversity.png)

![What becomes of each sample, down the ladder](images/survival.png)
"""


# ------------------------------------------------------------------------------------------------------------------ claims


def down_to_six_bits(f: Figures) -> str:
    lowest = min(f.retention(d, "int6", role) for d in DOMAINS for role in ROLES)
    assert lowest > 0.95
    by_model = []
    for m in f.found.models:
        if m.whole:
            i = m.rungs.index("int5")
            by_model.append(f"{m.domain} {m.model} {short(float(m.outcomes['quality'].mean[i]))}")
    return (
        f"**Down to 6 bits, 6 times smaller, hardly anything is lost anywhere.** `int6`: {f.everywhere('int6')}. At 5 bits (7x) it depends on the "
        f"training: quality is {'; '.join(by_model)}."
    )


def ways_part_at_four(f: Figures) -> str:
    kept = {d: f.retention(d, "int4", "quality") for d in DOMAINS}
    assert kept[GAN] > 0.9 > kept[TEXT] > kept[DIFFUSION]
    return (
        f"**At 4 bits the ways part, in quality.** `int4`: {f.everywhere('int4')}. One bit further, `int3`: {f.everywhere('int3')}. "
        f"The GAN goes on to 2 bits ({f.both(GAN, 'int2')}), where nothing valid comes from the other two."
    )


def quality_first(f: Figures) -> str:
    orders = [order_of(m) for m in f.found.models if m.whole]
    first = sum(o.first == "quality" for o in orders)
    assert all(o.first != "diversity" for o in orders)
    where = "; ".join(
        f"{o.model.domain} {o.model.model} {o.onsets['quality'].ratio:.1f}x, then {o.onsets['diversity'].ratio:.1f}x" for o in orders
    )
    return (
        f"**Quality goes first, diversity later**, in {first} of {len(orders)} models with intervals that do not overlap, and the other way round in none. "
        f"Less than 0.90 is left from (quality, then diversity): {where}. At `int3` the diffusion model has {short(f.retention(DIFFUSION, 'int3', 'quality'))} of its quality "
        f"and {short(f.retention(DIFFUSION, 'int3', 'diversity'))} of its diversity: rubble, of every kind of garment. The GAN's last rungs are the exception: "
        f"`ternary` has {f.both(GAN, 'ternary')}."
    )


def coding_matters(f: Figures) -> str:
    better = {d: (f.both(d, "ecsq:bits=3"), f.both(d, "int3")) for d in DOMAINS}
    assert all(f.retention(d, "ecsq:bits=3", "quality") > f.retention(d, "int3", "quality") for d in DOMAINS)
    pairs = "; ".join(f"{d} {a} instead of {b}" for d, (a, b) in better.items())
    return f"**How the bits are spent matters as much as how many.** Entropy-coded steps (`ecsq:bits=3`) beside the fixed grid `int3`: {pairs}. The cliff moves; it does not go away."


def survivors_differ(f: Figures) -> str:
    gan, diffusion = f.found.files[GAN, "s@0"], f.found.files[DIFFUSION, "s@0"]
    step = next(s.table for s in gan.ladder if s.harsher.startswith("int2"))
    by = diffusion.survival["int4"].by
    assert step.after_failure and step.after_survival and step.after_failure.share and step.after_survival.share and by
    labels = by["class"].labels
    assert labels is not None
    low, high = (by["class"].survival[diffusion.covariates["class"].labels.index(name)].share for name in (labels.lowest, labels.highest))
    assert low is not None and high is not None and step.after_failure.low > step.after_survival.high
    text = f.found.files[TEXT, "s@0"].survival["int4"].by
    assert text and text["surprisal"].auc and by["surprisal"].auc
    return (
        f"**Which samples break is not chance.** The GAN's samples that fail at 3 bits fail at 2 in {short(step.after_failure.share)} of cases, those that survived 3 bits in "
        f"{short(step.after_survival.share)}. At `int4` the diffusion model keeps {short(low)} of its valid {labels.lowest} pictures and {short(high)} of its {labels.highest} pictures. "
        f"Samples that surprise the judge go first (AUC {by['surprisal'].auc.value:.2f} in the diffusion model at 4 bits, {text['surprisal'].auc.value:.2f} in text); rarity "
        f"among real samples hardly matters. In text one flipped token makes another verse, so a verse's fate at one rung says little of the next."
    )


def seeds_matter(f: Figures) -> str:
    """How far models go apart that differ by their training seed alone."""
    spreads, widest = [], []
    for d in f.domains.values():
        if len(d.units) < 2:
            continue
        for role in ROLES:
            score = d.score(role)
            assert score is not None and score.estimate.variance is not None
            spreads.append(f"{d.name} {role} {math.sqrt(score.estimate.variance * len(d.units)):.3f}")
            for rung in LADDER:
                values = [mean(float(m.outcomes[role].mean[m.rungs.index(rung)]) for m in unit) for unit in d.units]
                widest.append(
                    (max(values) - min(values), f"{d.name} {role} at `{rung}`, from {short(min(values))} to {short(max(values))}")
                )
    if not spreads:
        return "**Training seeds**: no domain has two yet."
    return (
        "**Another training seed is another network, in some domains more than in others.** Standard deviation of C between training seeds: "
        f"{'; '.join(spreads)}. The farthest apart at one rung: {max(widest)[1]}. A single model a domain would have hidden this: "
        "more training seeds say more than more samples ([statistics.md](statistics.md#how-many-models-does-one-need))."
    )


CLAIMS: Sequence[Callable[[Figures], str]] = (
    down_to_six_bits,
    ways_part_at_four,
    quality_first,
    coding_matters,
    survivors_differ,
    seeds_matter,
)


# ------------------------------------------------------------------------------------------------------- the field's claims


def field_table(f: Figures) -> str:
    from tabulate import tabulate

    rows = [(said, *verdict(f)) for said, verdict in FIELD]
    headers = ["what is said", "verdict here", "figures (ratio: quality/diversity)", "command"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True)


def run_of(method: str) -> str:
    """What measures a method in all domains; the GAN's is recalibrated, which `ladder` knows by itself."""
    if method in LADDER:
        return f"`python -m bench run --domain all --method ladder {SEEDS}`"
    return f"`python -m bench run --domain all --method {method} {SEEDS}`; for image_gan `{method}+recalibrate`"


def eight_times(f: Figures) -> tuple[str, str, str]:
    kept = {d: min(f.retention(d, "ecsq:bits=4", role) for role in ROLES) for d in DOMAINS}
    assert kept[GAN] > 0.95 and kept[DIFFUSION] > 0.9 > kept[TEXT]
    return (
        "true for both image models (their `s@0`) with good coding, not for text",
        f"`ecsq:bits=4` {f.everywhere('ecsq:bits=4')}",
        run_of("ecsq:bits=4"),
    )


def one_bit(f: Figures) -> tuple[str, str, str]:
    assert f.retention(GAN, "binary", "quality") < 0.5 and f.retention(TEXT, "binary", "quality") < 0.05
    figures = f"`binary` {f.everywhere('binary')}; the GAN by `ecsq:bits=1` {f.both(GAN, 'ecsq:bits=1')}"
    return (
        "not after training: only the GAN still makes garments, and loses most of its quality or its diversity; during training not tested",
        figures,
        run_of("binary"),
    )


def combine(f: Figures) -> tuple[str, str, str]:
    assert all(f.retention(d, "magnitude+int4", "quality") < 0.1 for d in (TEXT, DIFFUSION))
    figures = f"`magnitude+int4` (half pruned) {f.everywhere('magnitude+int4')}; `ecsq:bits=3` {f.everywhere('ecsq:bits=3')}"
    return (
        "their savings combine, and so do their damages: without training again, only the GAN bears both",
        figures,
        run_of("magnitude+int4"),
    )


def only_the_generator(f: Figures) -> tuple[str, str, str]:
    folder = ROOT / "domains" / "image_gan" / "weights" / "s@0"
    bytes_of = lambda name: (folder / f"{name}.safetensors").stat().st_size
    share = bytes_of("discriminator") / (bytes_of("discriminator") + bytes_of("generator"))
    return (
        "true: nothing else takes part in sampling",
        f"the discriminator, {share:.0%} of the trained GAN's bytes, is in no compressed file; the diffusion scheduler and the tokenizer have no weights",
        "`python -m bench compress --domain image_gan --method int4+recalibrate --output tiny.genc`",
    )


def alike(f: Figures) -> tuple[str, str, str]:
    orders = [order_of(m) for m in f.found.models if m.whole]
    first = sum(o.first == "quality" for o in orders)
    gaps = "; ".join(f"{d} {f.both(d, 'int4')}" for d in (DIFFUSION, TEXT))
    return f"false: quality goes first in {first} of {len(orders)} models", f"`int4` {gaps}", run_of("int4")


def some_intact(f: Figures) -> tuple[str, str, str]:
    share = {d: f.survival(d, "int4") for d in DOMAINS}
    assert 0.1 < share[DIFFUSION] < 0.9
    figures = "`int4`, share of valid samples whose twin is still valid: " + "; ".join(f"{d} {short(s)}" for d, s in share.items())
    return "true, and in images it depends on what is shown", figures, "`python -m bench describe --domain all`"


def images_easier(f: Figures) -> tuple[str, str, str]:
    scores = {d: f.domain(d).score("quality") for d in DOMAINS}
    values = {d: s.value for d, s in scores.items() if s is not None}
    ordered = sorted(values, key=lambda d: -values[d])
    assert ordered[0] == GAN and len(values) == 3
    said = "; ".join(f"{d} {values[d]:.3f}" for d in ordered)
    where = (
        "text lies between the two image models" if ordered[1] == TEXT else "text lies below both image models, near the diffusion model"
    )
    return f"not as such: {where}", f"C quality {said}", "`python -m bench leaderboard`"


FIELD: Sequence[tuple[str, Callable[[Figures], tuple[str, str, str]]]] = (
    ("8x after training keeps the samples", eight_times),
    ("1 bit (32x) is reachable", one_bit),
    ("quantization and pruning combine their benefits", combine),
    ("after training only the generator needs compressing", only_the_generator),
    ("quality and diversity suffer alike", alike),
    ("some samples stay intact where others break", some_intact),
    ("images compress more easily than text", images_easier),
)


# -------------------------------------------------------------------------------------------------------- negative, threats


def no_pruning(f: Figures) -> str:
    assert f.retention(TEXT, "magnitude", "quality") < 0.05 and f.retention(DIFFUSION, "magnitude", "quality") < 0.1
    return (
        f"Pruning half of the weights without training again ruins two of three: `magnitude` {f.everywhere('magnitude')}. At equal bytes "
        f"entropy-coded quantization keeps more in both, and is level in the GAN ([compression.md](compression.md))."
    )


def recalibration(f: Figures) -> str:
    plain = {m: [r for r in f.found.records if r.domain == GAN and r.model == "s@0" and r.method == m] for m in ("int2", "binary")}
    of = lambda m, role: mean(v for r in plain[m] if (v := retention_of(r, role)) is not None)
    return (
        f"Recalibrating batch norm decides the GAN's fate at 1 bit ({short(of('binary', 'quality'))}/{short(of('binary', 'diversity'))} without it, "
        f"{short(f.retention(GAN, 'binary', 'quality'))}/{short(f.retention(GAN, 'binary', 'diversity'))} with it), but at 2 bits it buys diversity with quality "
        f"({short(of('int2', 'quality'))}/{short(of('int2', 'diversity'))} without)."
    )


def not_monotone(f: Figures) -> str:
    a, b = f.retention(GAN, "int2", "quality"), f.retention(GAN, "ternary", "quality")
    assert b > a
    return (
        f"The ladder is not a ladder for the GAN: `ternary`, smaller than `int2`, keeps more of its quality ({short(b)} beside {short(a)}) and less of its diversity "
        f"({short(f.retention(GAN, 'ternary', 'diversity'))} beside {short(f.retention(GAN, 'int2', 'diversity'))}): zeros give smooth pictures of fewer kinds. C uses the monotone fit."
    )


NEGATIVE: Sequence[Callable[[Figures], str]] = (no_pruning, recalibration, not_monotone)

THREATS = """\
## Threats to validity

- **Domain and architecture are confounded.** A DCGAN with batch norm, a U-Net with group norm and a transformer with RMS norm stand for three domains. "Images from a
  GAN" means here: this family of GANs.
- **Generator and judge read the same corpus.** The quality judge of text was trained on the training part that the generators learnt from; that of images is ImageNet's,
  fitted on the training part. Judges never saw the test part.
- **The judge of pictures is too kind below 20x.** It passes blotchy or darkened pictures of the GAN ([image-domains.md](image-domains.md)): read the GAN's quality at
  `int2` and below with the twins (`results/image_gan/s@0/twins.png`). This flatters the GAN's C over 4x to 16x.
- **Small models, trained for an hour.** 0.1 to 2 M parameters, little over-parameterized; large models may bear more.
- **One U is not another.** The GAN makes fewer kinds of garments than the others (U of diversity, in the leaderboard), so it has less to lose.
- **N = 2,000, k = 5.** Mutual recall depends on both; all models, floors and ceilings have the same.
- **After training only.** Nothing here says what quantization-aware training, distillation or retraining after pruning would keep.
- **One evaluator a role.** Until a second one agrees, every sentence above is one judge's.
"""

if __name__ == "__main__":
    main()
