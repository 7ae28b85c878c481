"""Writes a package with a toy plug-in that keeps its contracts: the code of `bench new`.

The templates are the packages in `examples/`, which the guide shows.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.contracts.check import REGISTRIES
from bench.errors import BadInput
from bench.registry import NO_DOMAINS
from bench.util.files import check_writable, write_atomically

TEMPLATES = Path(__file__).parent / "templates"
FILES = ("*.toml", "*.py")


@dataclass(frozen=True)
class Toy:
    """The names of a template's plug-in: of its entry point, and as its classes begin."""

    name: str
    title: str


TOYS: Mapping[str, Toy] = {
    "domain": Toy("toy", "Toy"),
    "method": Toy("bfloat", "BFloat"),
    "metric": Toy("spread", "Spread"),
}


def write_plug_in(kind: str, name: str, parent: Path) -> Path:
    """Write the package of a new plug-in into `parent` -> its folder, such as `waves-domain`.

    Raises `BadInput` for a name that is taken or cannot be one, and for a folder that exists.
    """
    check_name(kind, name)
    folder, template = parent / f"{name}-{kind}", TEMPLATES / kind
    if folder.exists():
        raise BadInput(f"{str(folder)!r} exists: remove it, or choose another name or --output")
    if not template.is_dir():
        raise BadInput(f"there is no template at {str(template)!r}: this copy has lost its symbolic links")
    check_writable(folder)
    for pattern in FILES:
        for path in sorted(template.glob(pattern)):
            file = path.name.replace(TOYS[kind].name, name)
            write_atomically(folder / file, renamed(path.read_text("utf-8"), kind, name))
    return folder


def renamed(text: str, kind: str, name: str) -> str:
    """A template's text with the names of the new plug-in; `bfloat16` is no name of it."""
    toy = TOYS[kind]
    text = re.sub(rf"\b{toy.name}(?=\b|[-_]{kind}\b)", name, text)
    title = "".join(part.capitalize() for part in name.split("_"))
    return re.sub(rf"\b{toy.title}(?=[A-Z]|\b)", title, text)


def check_name(kind: str, name: str) -> None:
    """Raises `BadInput` for a name that is taken, or that cannot be part of a module's name."""
    if not re.fullmatch("[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise BadInput(
            f"a {kind} cannot be called {name!r}: use up to 40 of a-z, 0-9 and _, beginning with a letter"
        )
    if kind == "domain" and name in NO_DOMAINS:
        raise BadInput(f"a domain cannot be called {name!r}: results/{name} is a folder of other records")
    if name in REGISTRIES[kind]:
        raise BadInput(f"there is a {kind} {name!r} already ({REGISTRIES[kind][name]}): choose another name")
