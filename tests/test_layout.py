"""The layout of `bench/`: a package imports only from those above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bench

ROOT = Path(bench.__file__).parent
API = ("interfaces", "errors", "registry", "layers", "data")  # the plug-in API: any package may import it
FOR_NOTEBOOKS = "api"  # as the command line: it imports from all, and nothing imports it
ORDER = (
    "util",
    "artifact",
    "records",
    "training",
    "methods",
    "metrics",
    "evaluation",
    "stats",
    "runner",
    "edge",
    "contracts",
    "report",
    "cli",
    FOR_NOTEBOOKS,
)


def imported(source: str) -> Iterator[str]:
    """The modules of `bench` that a source imports, at the top or later."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "bench":
            yield from (f"bench.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bench."):
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("bench."))


def rank(part: str) -> int:
    """0 for the plug-in API, else the place in `ORDER`, from 1. Raises `ValueError` for anything else."""
    return 0 if part in API else 1 + ORDER.index(part)


def violations(part: str, source: str) -> list[str]:
    """What a module of `part` imports from a package below its own."""
    found = [module for module in imported(source) if rank(module.split(".")[1]) > rank(part)]
    return found + [m for m in imported(source) if {part, m.split(".")[1]} == {"runner", "report"}]


def test_a_package_imports_only_from_those_above_it() -> None:
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part not in ("__init__", "__main__"):
            found[str(path)] = violations(part, path.read_text(encoding="utf-8"))
    assert {path: lines for path, lines in found.items() if lines} == {}
    assert len(found) > 60, "the package was not found"


def test_only_the_plug_in_api_lies_outside_of_the_packages() -> None:
    packages = {"interfaces"}
    files = {path.stem for path in ROOT.glob("*.py")}
    assert files == {*API, FOR_NOTEBOOKS, "__init__", "__main__"} - packages


def test_contracts_are_imported_from_their_package_which_imports_only_errors() -> None:
    inside = ROOT / "interfaces"
    for path in [path for top in (ROOT, ROOT.parent / "domains") for path in top.rglob("*.py")]:
        found = set(imported(path.read_text(encoding="utf-8")))
        of_contracts = {module for module in found if module.startswith("bench.interfaces")}
        if path.parent == inside:
            assert found - of_contracts <= {"bench.errors"}, path
        else:
            assert of_contracts <= {"bench.interfaces"}, path


def test_a_planted_violation_is_found() -> None:
    assert violations("stats", "def f():\n    from bench.report.show import show\n") == ["bench.report.show"]
    assert violations("report", "from bench.runner import sweep\n") == ["bench.runner"]
    assert violations("util", "from bench import errors\nimport bench.cli.main\n") == ["bench.cli.main"]
    assert violations("cli", "from bench.report import show\nfrom bench import errors\n") == []


# --- docstrings and style -----------------------------------------------------------------------------

COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def without_docstring(source: str) -> list[str]:
    """The module, its public functions and classes, and their public methods that lack a docstring.

    Dunder methods and functions within functions need none.
    """
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["module"]

    def visit(node: ast.Module | ast.ClassDef, prefix: str) -> None:
        for child in node.body:
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and not child.name.startswith("_"):
                if not ast.get_docstring(child):
                    found.append(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{child.name}.")

    visit(tree, "")
    return found


def style_violations(source: str) -> list[str]:
    """Lambdas that are assigned to a name, and comprehensions within comprehensions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            found.append(f"line {node.lineno}: lambda with a name")
        if (
            isinstance(node, COMPREHENSIONS)
            and sum(isinstance(inner, COMPREHENSIONS) for inner in ast.walk(node)) > 1
        ):
            found.append(f"line {node.lineno}: nested comprehension")
    return found


def test_everything_public_has_a_docstring() -> None:
    found = {
        str(path): without_docstring(path.read_text(encoding="utf-8"))
        for path in sorted(ROOT.rglob("*.py"))
        if path.stat().st_size
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_no_named_lambda_and_no_nested_comprehension() -> None:
    found = {
        str(path): style_violations(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_planted_style_violations_are_found() -> None:
    assert without_docstring(
        'def f(): ...\nclass A:\n    """A."""\n    def g(self): ...\n    def _h(self): ...\n'
    ) == [
        "module",
        "f",
        "A.g",
    ]
    assert style_violations("f = lambda x: x\n") == ["line 1: lambda with a name"]
    assert style_violations("x = [[i for i in row] for row in rows]\n") == ["line 1: nested comprehension"]
    assert style_violations("x = [i for row in rows for i in row]\n") == []
