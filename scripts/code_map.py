"""Write docs/code-map.md from the docstrings of all modules: `python -m scripts.code_map`."""

from __future__ import annotations

import ast
from pathlib import Path

from bench.util.files import write_atomically

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "code-map.md"
FIRST = "## bench/"
PACKAGES = ("bench", "domains", "scripts")


def main() -> None:
    write_atomically(PAGE, code_map(PAGE.read_text(encoding="utf-8")))


def code_map(page: str) -> str:
    """The page with its introduction as it is, and one line for each module."""
    introduction, _, _ = page.partition(FIRST)
    folders = sorted({path.parent for package in PACKAGES for path in (ROOT / package).rglob("*.py")})
    return introduction + "\n".join(filter(None, map(_section, folders)))


def _section(folder: Path) -> str:
    """A heading and a line for each module of a folder that has a docstring."""
    lines = []
    for path in sorted(folder.glob("*.py")):
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if said and path.name != "__init__.py":
            lines.append(f"- `{path.name}`: {' '.join(said.split(chr(10) * 2)[0].split())}")
    return f"## {folder.relative_to(ROOT)}/\n\n" + "\n".join(lines) + "\n" if lines else ""


if __name__ == "__main__":
    main()
