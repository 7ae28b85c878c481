"""Writes leaderboard.md and the pages behind it. Every number comes from the records.

- `leaderboard.md`: the ranking, and one short table for each question.
- `<results>/README.md`: all comparisons between models, with intervals.
- `<results>/<domain>/<model>/README.md`: every number of one model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from bench.records.edge import read_edge
from bench.records.schema import Record
from bench.report.details import details_page
from bench.report.edge import details_section, section
from bench.report.headline import headline, models_table, score_line
from bench.report.model_page import GENERATED, first_table, folder_of, model_page, with_named_metrics
from bench.report.report_data import ReportData, report_data
from bench.stats.ladder import conditions, grouped, measured
from bench.stats.model_file import read_models
from bench.util.files import write_atomically
from bench.util.markup import as_text, only_own_html

PAGE = "README.md"  # GitHub shows it where the folder is opened


def write_pages(records: Sequence[Record], results: Path, output: Path) -> list[Path]:
    """Write every page atomically. Raises `BadInput` where a folder cannot be written."""
    made = pages(records, results, output)
    for path, text in made.items():
        write_atomically(path, text)
    return [*made]


def pages(records: Sequence[Record], results: Path, output: Path) -> dict[Path, str]:
    """Path -> Markdown: the leaderboard at `output`, and the details and one page for each model below
    `results`. No name in a record can add HTML to them.
    """
    found = report_data(records, read_models(results))
    made = {output: _leaderboard(found, records, results, output)}
    if found.comparable:
        runtimes = details_section(read_edge(results))
        text = details_page(found, os.path.relpath(output, results), runtimes)
        made[results / PAGE] = _docs_from(results, text)
    for (domain, model), group in grouped(records, lambda r: (r.domain, r.model)):
        made[folder_of(results, domain, model) / PAGE] = model_page(group, results, output)
    return {path: only_own_html(text) for path, text in made.items()}


def _leaderboard(found: ReportData, records: Sequence[Record], results: Path, output: Path) -> str:
    here = output.parent
    details = os.path.relpath(results / PAGE, here)
    links = {
        (r.domain, r.model): os.path.relpath(folder_of(results, r.domain, r.model) / PAGE, here)
        for r in records
    }
    parts = ["# Leaderboard\n"]
    if found.comparable:
        parts += [*headline(found, details), *section(read_edge(results), details)]
        parts += ["## Models\n", models_table(found, links)]
    else:  # a run of your own: its numbers stand here at once
        for (domain, model, *_), same in grouped(records, lambda r: (r.domain, r.model, conditions(r))):
            more = f"[All numbers of this model]({links[domain, model]})\n"
            title = f"## {as_text(domain)} · {as_text(model)}{with_named_metrics(same)}\n"
            parts += [title, first_table(same) + "\n", score_line(measured(same)), more]
        parts += details_section(read_edge(results))
    if not records:
        parts.append("There are no records yet.\n")
    return _docs_from(here, "\n".join([*parts, GENERATED]))


def _docs_from(folder: Path, text: str) -> str:
    """Rewrite links to `docs/` from the project's root so that they work from `folder`."""
    return text.replace("](docs/", f"]({os.path.relpath('docs', folder)}/")
