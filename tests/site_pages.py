"""Pages of made-up records, for the tests of `bench site`."""

from __future__ import annotations

import html.parser
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from made_up import ladder, trained

from bench.records.schema import Record
from bench.report.site.data import Source
from bench.report.site.page import page_and_rows

# each tries to leave the place where it stands: an element, an attribute, the script, a line of JSON, a style
HOSTILE = (
    "</script><script>window.broken = 1</script>",
    "\"><img src=x onerror='window.broken = 1'>",
    "<!--<script>",
    "' onmouseover='window.broken = 1",
    "{{ 7 * 7 }}{% raw %}",
    "\u2028window.broken = 1\u2029",
    "]]></style><svg onload=window.broken=1>",
    "=HYPERLINK(1), 2",
)


def records() -> list[Record]:
    """Two domains with two training seeds each; one domain was also compressed during training."""
    found: list[Record] = []
    for seed in (0, 1):
        high, low = 0.98 - 0.01 * seed, 0.55 + 0.02 * seed
        found += ladder("alpha", f"s@{seed}", [1.0, 1.0, high, high, 0.9, 0.9, 0.8, 0.7], 0.97)
        found += ladder("beta", f"s@{seed}", [0.99, 0.9, low, low, 0.3, 0.2, 0.1, 0.1], 0.8)
        found += trained("alpha", f"s@{seed}", 0.95, 0.9)
    return unlike(found)


def unlike(some: Sequence[Record]) -> list[Record]:
    """The same records, each with a hash of its own."""
    return [r.model_copy(update={"cell": f"{i:064x}"}) for i, r in enumerate(some, start=1)]


def hostile_records() -> list[Record]:
    """The same with hostile names and reasons."""
    found = []
    for r in records():
        model = HOSTILE[1] + HOSTILE[5] if r.domain == "alpha" else HOSTILE[3]
        domain = HOSTILE[0] if r.domain == "alpha" else HOSTILE[4]
        method = HOSTILE[7] if r.method.startswith("qat") else r.method
        changes = {"domain": domain, "model": model + r.model, "method": method}
        found.append(r.model_copy(update={**changes, "reason": "".join(HOSTILE), "status": "collapsed"}))
    return found


def made(some: Sequence[Record], folder: Path) -> str:
    return page_and_rows([Source("published", folder, some)])[0]


def data_of(page: str) -> dict[str, Any]:
    """What the script reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def rows_of(page: str) -> list[dict[str, Any]]:
    data = data_of(page)
    rows = [dict(zip(data["columns"], values, strict=True)) for values in data["rows"]]
    for row in rows:
        place, *values = row["metrics"]
        row["metrics"] = dict(zip(data["metric_names"][place], values, strict=True))
    return rows


class Elements(html.parser.HTMLParser):
    """Start tags with their attributes, and the text of table cells by table row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, Mapping[str, str | None]]] = []
        self.lines: list[list[str]] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "tr":
            self.lines.append([])
        if tag in ("td", "th") and self.lines:
            self.lines[-1].append("")
            self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.lines[-1][-1] += data
