"""Copy the answer, the ranking and the ladder side by side to the README's first screen: `python -m scripts.update_readme`.

Not part of the package.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    text = (ROOT / "leaderboard.md").read_text()
    tables = ["\n".join(group) for is_table, group in itertools.groupby(text.splitlines(), lambda line: line.startswith("|")) if is_table]
    said = text.split("## How compressible is each domain?\n\n", 1)[1].split("\n\n")
    alone = [re.sub(r" \([^()]*\)", "", part) for part in said[2:3] if part.startswith("**In each size alone**")]  # figures: over there
    answer = "\n\n".join([said[1], *alone])
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition("<!-- ladder -->")
    _, _, after = rest.partition("<!-- end -->")
    shown = [answer, tables[0], next(table for table in tables if table.startswith("| rung"))]
    readme.write_text(f"{before}<!-- ladder -->\n" + "\n\n".join(shown) + f"\n<!-- end -->{after}")


if __name__ == "__main__":
    main()
