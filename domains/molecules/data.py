"""The data: molecules of MOSES as SMILES strings, in five parts that share none.

`python -m domains.molecules.data molsets-0.3.1-py3-none-any.whl` makes the Parquet files again from the CSV
files in that wheel, which is read as an archive: its code is never imported. Everything else reads the
shipped files.

Polykovskiy et al. 2020, "Molecular Sets (MOSES)", arXiv:1811.12823: 1.9 million drug-like molecules of ZINC,
of which 1.6 million are its training part. A random part is its test; molecules of scaffolds that are absent
from the training part are its scaffold test. Which molecules of each are kept here, and their order, is
fixed by a hash of the string. The training part is sorted instead, since a sorted file is half as long.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
HELD_OUT = 5000
TRAINING = 600_000  # of 1,584,663
# part -> the file of MOSES that it is a piece of, from which place in hashed order, and to which
PARTS = {
    "test": ("test", 0, HELD_OUT),
    "ceiling": ("test", HELD_OUT, 2 * HELD_OUT),
    "validation": ("test", 2 * HELD_OUT, 3 * HELD_OUT),
    "scaffold_test": ("test_scaffolds", 0, HELD_OUT),
    "train": ("train", 0, TRAINING),
}
ORIGIN = {
    "origin": "Molecular Sets (MOSES), package molsets 0.3.1, from the ZINC Clean Leads collection",
    "licence": "MIT, Copyright 2018 Insilico Medicine, Inc",
    "changes": "a hashed choice of the molecules of each file; the column SPLIT is left out",
}


@functools.cache
def molecules(part: str) -> list[str]:
    """The SMILES strings of one part, in its shipped order."""
    from bench.data import load_rows, text_column

    return text_column(load_rows(FOLDER / f"{part}.parquet"))


def read_wheel(wheel: Path) -> dict[str, list[str]]:
    """The molecules of the three CSV files in the wheel of `molsets`."""
    found = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in ("train", "test", "test_scaffolds"):
            raw = gzip.decompress(archive.read(f"moses/dataset/data/{name}.csv.gz"))
            found[name] = [line.split(",")[0] for line in raw.decode().split()[1:]]
    return found


def hashed(molecules: Iterable[str]) -> list[str]:
    """In the order of a hash of each string."""
    return sorted(molecules, key=lambda smiles: hashlib.sha256(f"moses split 1:{smiles}".encode()).digest())


def split(files: dict[str, list[str]]) -> dict[str, list[str]]:
    """The five parts, of molecules in files of MOSES."""
    ordered = {name: hashed(found) for name, found in files.items()}
    parts = {part: ordered[name][start:end] for part, (name, start, end) in PARTS.items()}
    return {**parts, "train": sorted(parts["train"])}


def make(wheel: Path, folder: Path = FOLDER) -> None:
    """Write the Parquet files and `origin.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = read_wheel(wheel)
    parts = split(files)
    for part, rows in parts.items():
        write(rows, folder / f"{part}.parquet")
    sizes = {
        "molecules_in_the_files": {name: len(rows) for name, rows in files.items()},
        "kept": {part: len(rows) for part, rows in parts.items()},
    }
    (folder / "origin.json").write_text(json.dumps({**ORIGIN, **sizes}, indent=1) + "\n", encoding="utf-8")


def write(rows: list[str], path: Path) -> None:
    """One column of strings, as small as Parquet makes it: each string as its difference to the last one."""
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(
        pyarrow.table({"smiles": rows}),
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding={"smiles": "DELTA_BYTE_ARRAY"},
        data_page_size=2**24,
        row_group_size=len(rows),
        write_statistics=False,
    )


if __name__ == "__main__":
    import sys

    if len(sys.argv) != 2 or not zipfile.is_zipfile(sys.argv[1]):
        sys.exit(f"give one file, the wheel of molsets 0.3.1; found: {' '.join(sys.argv[1:]) or 'nothing'}")
    make(Path(sys.argv[1]))
