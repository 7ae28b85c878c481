"""`bench pictures`: draws all pictures from the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.errors import BadInput
from bench.records.damage_file import read_damages
from bench.records.edge import read_edge
from bench.records.schema import Record, read_records
from bench.report.figures import (
    during,
    edge,
    families,
    overview,
    paths,
    sizes,
    survival,
    training_curves,
    two_way,
)
from bench.report.figures.twins_text import texts_of
from bench.stats.twin_outcomes import twin_outcomes_of
from bench.util.files import slug, write_atomically

MODEL = "s@0"  # the model whose methods are all drawn


def draw_all(results: Path, output: Path, say: Callable[[str], None]) -> list[Path]:
    """Draw everything -> the files written. Raises `BadInput` when nothing can be drawn."""
    records = read_records(results, say)
    drawn = []
    try:
        drawn += families.draw(records, output, MODEL)
    except BadInput as error:
        refused = error
        say(f"no pictures of single models: {error}")
    for name, data in across_domains(records, results, say).items():
        write_atomically(output / name, data)
        drawn.append(output / name)
    if not drawn:
        raise refused
    for domain, text in texts_of(results, records, MODEL, say).items():
        drawn.append(output / f"{slug(domain)}-twins.md")
        write_atomically(drawn[-1], text)
    return drawn


def across_domains(records: Sequence[Record], results: Path, say: Callable[[str], None]) -> dict[str, bytes]:
    """File name -> PNG. Empty where no model has a whole ladder."""
    found = {}
    if series := overview.series_of(records, say):
        found["domains.png"] = overview.picture(series)
    if panels := paths.panels_of(series, records, read_damages(results, say), say):
        found["quality-diversity.png"] = paths.picture(panels)
    if by_role := sizes.panels_of(series, records):
        found["sizes.png"] = sizes.picture(by_role, series)
    if by_kinds := two_way.panels_of(records, results):
        found["data-and-network.png"] = two_way.picture(by_kinds)
    titled = [
        (f"{one.domain.name} ({overview.models_in(one.domain)})", twin_outcomes_of(one.domain, records))
        for one in series
    ]
    if outcomes := {title: known for title, known in titled if known is not None}:
        found["survival.png"] = survival.picture(outcomes)
    if ways := during.panels_of(records):
        found["during.png"] = during.picture(ways)
    if curves := training_curves.panels_of(records):
        found["training-curves.png"] = training_curves.picture(curves)
    if costs := edge.panels_of(read_edge(results, say)):
        found["edge.png"] = edge.picture(costs)
    return found
