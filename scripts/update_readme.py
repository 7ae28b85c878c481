"""Copy the ranking and the ladder side by side to the README's first screen: `python -m scripts.update_readme`.

Not part of the package.
"""

from __future__ import annotations

import itertools
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    lines = (ROOT / "leaderboard.md").read_text().splitlines()
    tables = ["\n".join(group) for is_table, group in itertools.groupby(lines, lambda line: line.startswith("|")) if is_table]
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition("<!-- ladder -->")
    _, _, after = rest.partition("<!-- end -->")
    readme.write_text(f"{before}<!-- ladder -->\n" + "\n\n".join(tables[:2]) + f"\n<!-- end -->{after}")


if __name__ == "__main__":
    main()
