"""Copy the answer, the ranking and the ladder side by side to the README's first screen: `python -m scripts.update_readme`.

Not part of the package.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from bench.util.files import write_atomically

ROOT = Path(__file__).parent.parent


def main() -> None:
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition("<!-- ladder -->")
    _, _, after = rest.partition("<!-- end -->")
    write_atomically(readme, f"{before}<!-- ladder -->\n{shown((ROOT / 'leaderboard.md').read_text())}\n<!-- end -->{after}")


def shown(leaderboard: str) -> str:
    """The sentence, what each size alone shows of it (without what stands in brackets), the ranking, and the ladder."""
    tables = [
        "\n".join(group) for is_table, group in itertools.groupby(leaderboard.splitlines(), lambda line: line.startswith("|")) if is_table
    ]
    said = leaderboard.split("## How compressible is each domain?\n\n", 1)[1].split("\n\n")
    alone = [re.sub(r" \([^()]*\)", "", part) for part in said[2:4] if part.startswith(("**In each size alone**", "**In size "))]
    return "\n\n".join([said[1], *alone, tables[0], next(table for table in tables if table.startswith("| rung"))])


if __name__ == "__main__":
    main()
