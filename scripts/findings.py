"""docs/findings.md from the published records: every figure is computed, none is typed. `python -m scripts.findings`

Not part of the package. What the words claim is asserted beside the figures: a claim that the records no longer carry stops the script.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.records.schema import Record, read_records
from bench.report.headline import pair_by_pair
from bench.report.report_data import material
from bench.report.verdict import paragraph
from bench.stats.ladder import ROLES
from bench.stats.model_file import ModelFile, out_of_date, read_models
from bench.stats.scores import COUNTS_FROM, model_score
from bench.util.files import write_atomically
from scripts.claims import CLAIMS, NEGATIVE, Claim
from scripts.field import field_table
from scripts.figures import DIFFUSION, ROOT, TEXT, Figures, short, span


def main() -> None:
    records, files = read_records(ROOT / "results"), read_models(ROOT / "results")
    assert not (old := out_of_date(files, records)), (
        f"made from other records: model.json of {old}; `python -m bench describe --domain all`"
    )
    write_atomically(ROOT / "docs" / "findings.md", findings(records, files))


def findings(records: Sequence[Record], files: dict[tuple[str, str], ModelFile]) -> str:
    found = material(records, files)
    f = Figures(found)
    return "\n".join(
        [
            INTRODUCTION,
            "## The answer, as far as it goes\n",
            paragraph(found.now, found.wider).replace("](docs/", "]("),
            pair_by_pair(found),
            "![Retention of quality and of diversity over compression, all domains](images/domains.png)\n",
            "## What the records show\n",
            *(_finding(i, one(f)) for i, one in enumerate(CLAIMS, 1)),
            FIGURES_OF_PATHS,
            "## What the field says of compressing generative models\n",
            field_table(f) + "\n",
            "## Negative results\n",
            *(f"- {text(f)}" for text in NEGATIVE),
            "",
            THREATS.format(parameters=_range_of_parameters(f), poorest=_poorest(f), all_count=_all_count(f), in_m=_in_m(f)),
        ]
    )


def _finding(number: int, claim: Claim) -> str:
    commands = "; ".join(claim.commands)
    return f"### {number}. {claim.head}\n\n{claim.words}\n\n{claim.table}\n\nMeasured by {commands}.\n"


def _range_of_parameters(f: Figures) -> str:
    counts = [count for m in f.found.models if (count := f.found.parameters(m)) is not None]
    return f"{min(counts) / 1e6:.2f} to {max(counts) / 1e6:.2f} M"


POOR = 0.8  # U of quality


def _poorest(f: Figures) -> str:
    """The sizes of domains of which an uncompressed network is poor, beside all others."""
    by_size: dict[tuple[str, str], list[float]] = {}
    for m in f.found.models:
        if m.whole:
            by_size.setdefault((m.domain, m.size), []).append(m.u["quality"])
    poor = {key: values for key, values in by_size.items() if min(values) < POOR}
    others = min(u for key, values in by_size.items() if key not in poor for u in values)
    named = " and ".join(
        f"the {domain} networks of size {size} have a U of quality of {span(values)}" for (domain, size), values in poor.items()
    )
    return f"Uncompressed, {named}, all others {short(others)} and more: theirs is retention of a poorer baseline."


def _in_m(f: Figures) -> str:
    """`.83/.93 of image_diffusion, .83/.89 of text`"""
    said = []
    for domain in (DIFFUSION, TEXT):
        (m,) = (m for m in f.found.models if (m.domain, m.model) == (domain, "m@0"))
        said.append(f"{'/'.join(short(one.value) for role in ROLES if (one := model_score(m, role)) is not None)} of {domain}")
    return ", ".join(said)


def _all_count(f: Figures) -> str:
    """Whether findings over all models are the same with those alone that count."""
    least = min(m.u[role] for models in (f.found.models, f.judged_twice) for m in models if m.whole for role in ROLES)
    assert least >= COUNTS_FROM, "findings over all models: give them without those of a low U, too"
    return f"The smallest U of any network, role and judge is {short(least)}, so none is left out of a finding for having little to lose."


INTRODUCTION = """\
# Findings

What the published records say, each claim with its figures. Retention is written quality/diversity, after the ratio of file sizes if it is given (`6.0x: .98/1.00`): 1 = like the uncompressed
network, 0 = like the same weights in random order. Sizes: xs about 0.125, s 0.5, m 2 million parameters; `s@0` is size s of training seed 0. Figures of rungs of the ladder (`int8` ... `binary`) are means over all models that are compared; those of other
methods are the model `s@0`'s, three sampling seeds each. Made by `python -m scripts.findings` from `results/`: no figure here was typed. What measured a model's records stands
under its table in the [leaderboard](../leaderboard.md); `python -m bench reproduce` measures all of them again. How intervals are made, and how often they hold: [statistics.md](statistics.md).
"""
FIGURES_OF_PATHS = """\
![Paths of quality against diversity, among real samples that were damaged on purpose](images/quality-diversity.png)

![What becomes of each sample, down the ladder](images/survival.png)

![C of each model over its parameters](images/sizes.png)
"""

THREATS = """\
## Threats to validity

- **Domain and architecture are confounded.** A DCGAN with batch norm, a U-Net with group norm and a transformer with RMS norm stand for three domains. "Images from a
  GAN" means here: this family of GANs.
- **Generator and judge read the same corpus.** The quality judge of text was trained on the training part that the generators learnt from; that of images is ImageNet's,
  fitted on the training part. Judges never saw the test part.
- **The judge of pictures is too kind from 15x on.** It passes blotchy or darkened pictures of the GAN ([image-domains.md](image-domains.md)): read the GAN's quality at
  `int2` and below with the twins (`results/image_gan/s@0/twins.png`). This flatters the GAN's C over 4x to 16x.
- **Small models, trained for minutes or hours on one or two cores.** {parameters} parameters; large models, and more over-parameterized ones, may bear more.
- **That text is ahead of the diffusion model rests on the small networks.** Size s alone does not decide it, which was known when the rule was written that lets a size into the
  means once every compared domain has it for each training seed ([statistics.md](statistics.md)). In size m, one network each, C of quality and diversity is {in_m}. The small text networks have a poorer baseline (below).
- **One U is not another.** The GAN makes fewer kinds of garments than the others (U of diversity, in the leaderboard), so it has less to lose.
  {poorest} {all_count}
- **N = 2,000, k = 5.** Mutual recall depends on both; all models, floors and ceilings have the same.
- **Size m was trained once in each domain**: what stands here of it is one network's. That of text is overfitted: 1.307 bits per byte of validation verses, 1.159 at its best step. .015
  of its samples are copies of training verses, .007 of held-out verses were ([text-domain.md](text-domain.md#do-the-networks-recite)).
- **After training only.** Nothing here says what quantization-aware training, distillation or retraining after pruning would keep.
- **Judges may err alike.** Second judges of another kind agree about the order of methods, but all were fitted on the same training part, and share ideas of damage.
"""

if __name__ == "__main__":
    main()
