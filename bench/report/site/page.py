"""Writes the page: one HTML file that asks nothing of any server.

Jinja escapes every value. A Content-Security-Policy allows only the page's own style and script, by hash.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.errors import BadInput
from bench.records.schema import read_records
from bench.report.caveats import caveats
from bench.report.cells import DASH, with_interval
from bench.report.contrasts import short_answer
from bench.report.details import best_cells
from bench.report.headline import answers, ranked, rung_lines, scores_and_ratios
from bench.report.loss_order import losses_of
from bench.report.report_data import ReportData
from bench.report.site.curves import cell_charts, domain_charts, looks
from bench.report.site.data import NUMBERS, TEXTS, Row, Say, SiteData, Source, site_data
from bench.report.site.samples import Twins
from bench.report.small_files import rows, small_files
from bench.report.verdict import PAIR_HEADERS, pairs
from bench.stats.during import over_seeds
from bench.stats.frontier import frontier
from bench.stats.ladder import ROLES
from bench.util.files import write_atomically

MAIN_COLUMNS = ("domain", "model", "method", "family", "ratio", "quality", "diversity", "survival", "status")
FATES = {  # letter -> sign, name
    "i": ("●", "intact"),
    "d": ("◆", "drifted"),
    "r": ("▲", "repaired"),
    "g": ("▼", "degraded"),
    "s": ("✕", "still invalid"),
    "-": ("·", "not known"),
}
TITLES = {"stored_bytes": "bytes", "bits_per_param": "bits/param", "macs_left": "MACs left"}


def page_and_rows(sources: Sequence[Source], say: Say = lambda line: None) -> tuple[str, int]:
    """(the page as HTML, the number of its cells). Equal records give equal text."""
    site = site_data(sources, say)
    return render(site, say), len(site.rows)


def render(site: SiteData, say: Say = lambda line: None) -> str:
    """The page as HTML."""
    found = site.main.found
    style, script = _file("style.css"), _file("script.js")
    made: str = _template().render(
        policy=policy(style, script),
        style=_raw(style),
        script=_raw(script),
        data=_raw(in_script(site.for_script() | {"fates": FATES})),
        answers=[_bold(sentence) for sentence in (*answers(found), short_answer(found)) if sentence],
        caveats=_caveats(found),
        tables=_tables(found),
        charts=domain_charts(site, say),
        cells=cell_charts(site),
        site=site,
        looks=looks(site),
        columns=[(name, TITLES.get(name, name.replace("_", " "))) for name in column_names()],
        main_columns=(*MAIN_COLUMNS, *(["source"] if len(site.sources) > 1 else [])),
        numbers=NUMBERS,
        fates=FATES,
        ratios={_name_of(row): row["ratio"] for row in site.rows},
        shown_twins=_shown_twins(site),
    )
    return made.strip() + "\n"


def sources_of(published: Path, results: Path, say: Say) -> list[Source]:
    """The published records, and a user's own beside them. Raises `BadInput` without a folder of records."""
    if not results.is_dir():
        raise BadInput(f"there is no folder of records at {str(results)!r}")
    own = results.resolve() != published.resolve()
    found = []
    if published.is_dir():
        found.append(Source("published", published, read_records(published, say)))
    if own:
        found.append(Source("own", results, read_records(results, say)))
    kept = [source for source in found if source.records]
    if not kept or (own and not found[-1].records):
        raise BadInput(f"there are no records below {str(results)!r}")
    return kept


def write_page(sources: Sequence[Source], output: Path, say: Say) -> tuple[Path, int]:
    """Write `index.html` to a folder -> (its path, the number of cells)."""
    path = output / "index.html"
    page, rows = page_and_rows(sources, say)
    write_atomically(path, page.encode("utf-8", "replace"))
    return path, rows


def column_names() -> list[str]:
    """The columns of the table, the usual ones first."""
    return [*MAIN_COLUMNS, *(name for name in (*TEXTS, *NUMBERS) if name not in MAIN_COLUMNS)]


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy: nothing from elsewhere, and no style or script but these two."""
    return (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        f"base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def in_script(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda sign: f"\\u{ord(sign[0]):04x}", text)


def _raw(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)


def _bold(text: str) -> Any:
    """Escape a sentence of Markdown, then make `**x**` bold. Other Markdown becomes plain text."""
    from markupsafe import Markup, escape

    # names are escaped for Markdown already, and a character must not be escaped twice
    plain = html.unescape(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text.strip()))
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(plain))))


@cache
def _file(name: str) -> str:
    return files("bench.report.site").joinpath(name).read_text(encoding="utf-8")


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = shown
    return environment.from_string(_file("template.html.j2"))


def shown(value: Any, digits: int = 3) -> str:
    """A value as the tables show it; a dash where it was not measured."""
    if value is None or value == "":
        return DASH
    return f"{value:,.{digits}f}" if isinstance(value, int | float) else str(value)


# ----------------------------------------------------------------------------------------------------- tables


def _caveats(found: ReportData) -> list[Any]:
    """The paragraphs of caveats. Empty without a ranking."""
    if not found.comparable:
        return []
    return [_bold(part) for part in caveats(found.now, found.crossed).split("\n\n")]


def _tables(found: ReportData) -> dict[str, Any]:
    """Title -> (headers, lines) of the leaderboard's tables. Empty without a ranking."""
    if not found.comparable:
        return {}
    kept = [f"90 % of {role} kept" for role in ROLES]
    models = [[m.domain, m.model, *losses_of(m)] for m in found.models if m.whole]
    return {
        "ranking": (
            ["domain", *(f"C {role}" for role in ROLES), *kept],
            [[d.name, *scores_and_ratios(d)] for d in ranked(found)],
        ),
        "small_files": _small_files(found),
        "rungs": _rungs(found),
        "best": (["at least", "domain", "method", "ratio", *ROLES], _best(found)),
        "models": (["domain", "model", *(f"{role} below 0.90 at" for role in ROLES), "lost first"], models),
        "pairs": (PAIR_HEADERS, [[*map(html.unescape, line)] for line in pairs(found.now)]),
        **({"during": _during(found)} if found.ways else {}),
    }


def _small_files(found: ReportData) -> tuple[list[str], list[list[str]]]:
    order = [d.name for d in ranked(found)]
    return small_files(rows(found, order), order)


def _rungs(found: ReportData) -> tuple[list[str], list[list[str]]]:
    headers, lines = rung_lines(found)
    return [header.strip("`") for header in headers], lines


def _during(found: ReportData) -> tuple[list[str], list[list[str]]]:
    """The same models, compressed after and during training, with the difference and its interval."""
    lines = []
    for one in found.ways:
        for rung, row in one.rungs.items():
            line = [one.name, rung]
            for role in ROLES:
                line += [with_interval(over_seeds(d, role, rung)) for d in (row.after, row.during)]
                line.append(with_interval(row.difference(role, rung)))
            lines.append(line)
    kinds = ("after", "during", "during minus after")
    return ["domain", "rung", *(f"{role} {kind}" for role in ROLES for kind in kinds)], lines


def _best(found: ReportData) -> list[list[str]]:
    lines: list[tuple[float, list[str]]] = []
    richest = found.richest
    for d in ranked(found):
        for best in frontier(richest.get(d.name, [])):
            lines.append((best.target, [cell.strip("`") for cell in best_cells(best, d.name)]))
    return [line for _, line in sorted(lines, key=lambda pair: pair[0])]


def _name_of(row: Row) -> tuple[str, ...]:
    return tuple(row[key] for key in ("source", "domain", "model", "method"))


def _shown_twins(site: SiteData) -> list[Twins]:
    """The twins that the page shows without its script: of the model with the most methods, by domain."""
    found: dict[str, Twins] = {}
    for twins in site.twins:
        best = found.get(twins.domain)
        if best is None or len(twins.samples) > len(best.samples):
            found[twins.domain] = twins
    return sorted(found.values(), key=lambda twins: len(twins.samples), reverse=True)
