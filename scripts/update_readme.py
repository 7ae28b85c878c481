"""Write the headline sentence and a short table of the domains to the README's first screen: `python -m
scripts.update_readme`.

Not part of the package. The figures come from the published records, by the functions that make
leaderboard.md.
"""

from __future__ import annotations

from pathlib import Path

from bench.records.schema import read_records
from bench.report.report_data import DASH, ReportData, report_data, table
from bench.report.verdict import sentence
from bench.stats.ladder import ROLES
from bench.stats.model_file import read_models
from bench.stats.scores import Domain, ratio_at
from bench.util.files import write_atomically

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
    before, _, rest = readme.read_text().partition("<!-- ladder -->")
    _, _, after = rest.partition("<!-- end -->")
    block = shown(report_data(read_records(results), read_models(results)))
    write_atomically(readme, f"{before}<!-- ladder -->\n{block}\n<!-- end -->{after}")


def shown(found: ReportData) -> str:
    """The headline sentence, and for each domain two scores and two ratios; most compressible domain
    first.
    """
    lines = sorted((_line(d) for d in found.now.domains), key=lambda line: line[1], reverse=True)
    return f"{sentence(found.now)}\n\n{table(HEADERS, lines)}"


def _line(d: Domain) -> list[str]:
    scores = [d.score(role) for role in ROLES]
    ratios = [ratio_at(d, role, 0.9) for role in ROLES]
    return [
        d.name,
        *(DASH if score is None else f"{score.value:.3f}" for score in scores),
        *(
            DASH if ratio is None or ratio.certified is None else f"{ratio.certified:.1f}x"
            for ratio in ratios
        ),
    ]


if __name__ == "__main__":
    main()
