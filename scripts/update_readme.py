"""Write the headline sentence and a short table of the domains to the README's first screen: `python -m
scripts.update_readme`.

Not part of the package. The figures come from the published records, by the functions that make
leaderboard.md.
"""

from __future__ import annotations

from pathlib import Path

from bench.records.schema import read_records
from bench.report.cells import table
from bench.report.contrasts import short_answer
from bench.report.headline import answers, doubted_ratios, ranked, scores_and_ratios
from bench.report.report_data import ReportData, report_data
from bench.report.small_files import fewest_bytes
from bench.stats.model_file import read_models
from bench.util.files import write_atomically
from scripts.blocks import filled

ROOT = Path(__file__).parent.parent
HEADERS = [
    "domain",
    "C quality ↑",
    "C diversity ↑",
    "ratio with 90 % of quality kept ↑",
    "ratio with 90 % of diversity kept ↑",
]


def main() -> None:
    results = ROOT / "results"
    readme = ROOT / "README.md"
    block = shown(report_data(read_records(results), read_models(results)))
    write_atomically(readme, filled(readme.read_text(encoding="utf-8"), {"ladder": block}))


def shown(found: ReportData) -> str:
    """The answer, data against network, scores and ratios of the domains (most compressible first), what is
    left in small files.
    """
    order = ranked(found)
    scores = table(HEADERS, [[d.name, *scores_and_ratios(d)] for d in order])
    few = fewest_bytes(found, [d.name for d in order], "leaderboard.md")
    contrasts = short_answer(found, "results/README.md").strip()
    return "\n\n".join(filter(None, [*answers(found), scores, doubted_ratios(found), contrasts, few]))


if __name__ == "__main__":
    main()
