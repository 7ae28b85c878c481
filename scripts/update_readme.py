"""Copy the ladder from leaderboard.md to the README's first screen: `python -m scripts.update_readme`. Not part of the package."""

from __future__ import annotations

from itertools import dropwhile, takewhile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> None:
    lines = (ROOT / "leaderboard.md").read_text().splitlines()
    table = list(takewhile(lambda line: line.startswith("|"), dropwhile(lambda line: not line.startswith("| method"), lines)))
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text().partition("<!-- ladder -->")
    _, _, after = rest.partition("<!-- end -->")
    readme.write_text(f"{before}<!-- ladder -->\n" + "\n".join(table) + f"\n<!-- end -->{after}")


if __name__ == "__main__":
    main()
