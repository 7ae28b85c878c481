"""The generated parts of pages: each stands between `<!-- name -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping

BLOCK = re.compile(r"<!-- (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def names(page: str) -> list[str]:
    """The names of the page's blocks, in order."""
    return BLOCK.findall(page)


def filled(page: str, texts: Mapping[str, str]) -> str:
    """The page with these blocks written anew; the others stay as they are."""

    def block(found: re.Match[str]) -> str:
        name = found[1]
        return f"<!-- {name} -->\n{texts[name]}\n<!-- end -->" if name in texts else found[0]

    return BLOCK.sub(block, page)
