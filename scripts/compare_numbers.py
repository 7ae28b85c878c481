"""Which numbers do two generations of generated pages not share? `python -m scripts.compare_numbers REVISION`

Reads leaderboard.md, the pages below results/ and docs/findings.md at a git revision and in the working tree.
A rewrite of the words must not change a number: the output lists each number that vanished and each that is
new, with how often it occurs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?|[-+]?\.\d+")
FINDINGS = "docs/findings.md"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revision", help="the older generation, for example HEAD~1")
    revision = parser.parse_args().revision
    listed = git("ls-tree", "-r", "--name-only", revision).splitlines()
    old = [name for name in listed if is_generated(name)]
    new = [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.md")
        if is_generated(str(path.relative_to(ROOT)))
    ]
    for title, is_wanted in (("leaderboard and its pages", is_leaderboard), ("findings", is_findings)):
        before = numbers(git("show", f"{revision}:{name}") for name in old if is_wanted(name))
        after = numbers((ROOT / name).read_text(encoding="utf-8") for name in new if is_wanted(name))
        print(f"{title}: {len(before)} different numbers before, {len(after)} after")
        print(f"  vanished: {shown(before, after)}")
        print(f"  new:      {shown(after, before)}")


def is_findings(name: str) -> bool:
    return name == FINDINGS


def is_leaderboard(name: str) -> bool:
    return name == "leaderboard.md" or (name.startswith("results/") and not name.startswith("results/local"))


def is_generated(name: str) -> bool:
    return name.endswith(".md") and (is_findings(name) or is_leaderboard(name))


def numbers(texts: Iterable[str]) -> Counter[str]:
    """Number as written -> how often it occurs."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(NUMBER.findall(text))
    return found


def shown(some: Counter[str], others: Counter[str]) -> str:
    """The numbers of `some` that `others` lack altogether."""
    return (
        ", ".join(f"{number} ({count}x)" for number, count in sorted(some.items()) if number not in others)
        or "none"
    )


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True, encoding="utf-8"
    ).stdout


if __name__ == "__main__":
    main()
