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
    """A heading, what the package says of itself, and a line for each module that has a docstring."""
    said = {path.name: _beginning(path) for path in sorted(folder.glob("*.py"))}
    package = f"{said.pop('__init__.py', '')}\n\n".lstrip()
    lines = [f"- `{name}`: {text}" for name, text in said.items() if text]
    return f"## {folder.relative_to(ROOT)}/\n\n{package}" + "\n".join(lines) + "\n" if lines else ""


def _beginning(module: Path) -> str:
    """The first paragraph of a module's docstring, on one line."""
    said = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return " ".join(said.split("\n\n")[0].split())


if __name__ == "__main__":
    main()
