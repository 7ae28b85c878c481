"""Twins for the page: the files that `bench run` writes beside a model's records, with what became of each.

A text file has a block for each sample, with lines `method | text`. A picture has one row of tiles for each
method; its text chunk `twins` names the rows and gives the tiles' size.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.methods.notation import is_recalibrated, rung_of
from bench.records.schema import Record
from bench.report.figures.twins_text import BASELINE, LONGEST, TWINS, twins
from bench.report.model_page import are_twins_of, folder_of, said_of_twins
from bench.stats.twin_outcomes import TWIN_OUTCOMES

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Say = Callable[[str], None]
SHOWN, SHOWN_OF_LADDER = 6, 1  # samples of the richest model of a domain, and of every other model
PICTURE, CHUNK = "twins.png", "twins"
LARGEST = 30_000_000  # pixels
LETTERS = dict(zip(TWIN_OUTCOMES, "idrgs"))  # r: repaired, g: degraded


@dataclass(frozen=True)
class Twins:
    """The twins of one model. `fates` has a letter for each sample; it is empty where they are not known."""

    source: str  # whose records: the published ones, or a user's own
    domain: str
    model: str
    kind: str  # "picture" or "text"
    seed: int | None
    samples: Mapping[str, Sequence[str]]  # method -> texts, or pictures as data URIs
    fates: Mapping[str, str]  # method -> one letter for each sample

    @property
    def ladder(self) -> list[str]:
        """The uncompressed network and the rungs; recalibrated ones where the model has them."""
        rungs = [m for m in self.samples if rung_of(m)]
        ends = any(map(is_recalibrated, rungs))
        return [m for m in self.samples if m == BASELINE or (m in rungs and is_recalibrated(m) == ends)]


def read_twins(
    source: str, results: Path, records: Sequence[Record], every_method: bool, say: Say
) -> Twins | None:
    """The twins of one model, from its records under the same conditions.

    `every_method`: also methods that are not on the ladder. None without a file that can be read; a file of
    another form is reported to `say`.
    """
    first = records[0]
    folder, count = folder_of(results, first.domain, first.model), SHOWN if every_method else SHOWN_OF_LADDER
    if not are_twins_of(folder, first):
        return None
    for name, kind, read in ((PICTURE, "picture", _pictures), (TWINS, "text", _texts)):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = read(path, count)
        except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
            say(f"skipped {path}: {error}")
            continue
        known = {r.method for r in records}
        wanted = {m for m in found if m in known and (every_method or m == BASELINE or rung_of(m))}
        samples = {m: some for m, some in found.items() if m in wanted}
        if not samples:
            return None
        seed = _seed(folder)
        fates = _fates(samples, records, seed)
        return Twins(source, first.domain, first.model, kind, seed, samples, fates)
    return None


def _seed(folder: Path) -> int | None:
    text = next(iter(said_of_twins(folder)), "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 10 else None


def _texts(path: Path, count: int) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for rows in twins(path.read_text(encoding="utf-8"))[:count]:
        for method, text in rows.items():
            found.setdefault(method, []).append(text if len(text) <= LONGEST else text[:LONGEST] + " …")
    return found


def _pictures(path: Path, count: int) -> dict[str, list[str]]:
    """The tiles at their own size. Raises `ValueError` where the picture does not describe itself."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as opened:
            text = opened.info.get(CHUNK)
            if not isinstance(text, str):
                raise ValueError(f"it has no text chunk {CHUNK!r}")
            if opened.width * opened.height > LARGEST:
                raise ValueError("it is too large")
            layout, picture = json.loads(text), opened.copy()
    except Image.DecompressionBombError:
        raise ValueError("it is too large") from None
    return _tiles(picture, layout, count)


def _tiles(picture: Picture, layout: Mapping[str, Any], count: int) -> dict[str, list[str]]:
    from PIL import Image

    left, tile, scale = (int(layout[key]) for key in ("left", "tile", "scale"))
    if left < 0 or tile < 4 or not 1 <= scale <= tile:
        raise ValueError("its tiles have no possible size")
    count = min(count, (picture.width - left) // tile)
    side = (tile - 2) // scale
    found: dict[str, list[str]] = {}
    for row, title in enumerate(map(str, layout["titles"])):
        found[title] = []
        for column in range(count):
            x, y = left + column * tile, row * tile + 1
            part = picture.crop((x, y, x + tile - 2, y + tile - 2))
            found[title].append(_data_uri(part.resize((side, side), Image.Resampling.NEAREST)))
    return found


def _data_uri(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _fates(
    samples: Mapping[str, Sequence[str]], records: Sequence[Record], seed: int | None
) -> dict[str, str]:
    """What became of each twin, by method. Empty where the sampling seed of the twins is not known."""
    found = {}
    for record in records:
        if record.sample_seed == seed and record.method in samples and set(LETTERS) <= set(record.items):
            flags = {letter: record.items[name].unpack() for name, letter in LETTERS.items()}
            count = min(len(samples[record.method]), record.samples)
            letters = [_letter(flags, i) for i in range(count)]
            found[record.method] = "".join(letters)
    return found


def _letter(flags: Mapping[str, np.ndarray], i: int) -> str:
    return next((letter for letter, of_items in flags.items() if i < len(of_items) and of_items[i]), "-")
