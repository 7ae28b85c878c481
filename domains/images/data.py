"""Fashion-MNIST: 70,000 grey pictures of garments, 28x28, ten classes, in four parts that share no picture.

Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747; MIT licence. `python -m domains.images.data` makes the shipped
Parquet files again from the four original files (Debian's package `dataset-fashion-mnist`, or any folder that
holds them); everything but training reads the shipped files. Test and ceiling are halves of the 10,000 test
images, validation is cut from the training images; which image goes where, and the order within a part, is
fixed by a hash of its number. Of equal images one stays.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BadInput
from domains.images.files import SIDE, Conversion, as_grey

if TYPE_CHECKING:
    from datasets import Dataset

FOLDER = Path(__file__).parent / "data"
SHIPPED = ("test", "ceiling", "validation")
PARTS = (*SHIPPED, "train")
HELD_OUT = 5000
CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
PACKAGED = Path("/usr/share/datasets/fashion-mnist")  # Debian's dataset-fashion-mnist
FILES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class Images:
    """Pictures as all of this code knows them, with their classes where these are known."""

    pixels: np.ndarray  # uint8 [n, 1, 28, 28]; 0 = black background
    labels: np.ndarray | None = None  # int64 [n]

    def __getitem__(self, which: np.ndarray) -> Images:
        return Images(self.pixels[which], None if self.labels is None else self.labels[which])


@functools.cache
def part(name: str) -> Images:
    """A shipped part, in its hashed order."""
    from bench.data import image_column, load_rows
    from domains.images.files import decode

    rows = load_rows(FOLDER / f"{name}.parquet")
    pixels = np.stack([decode(data, f"{name} {i}") for i, data in enumerate(image_column(rows))])
    return Images(pixels, np.array(rows["label"]))


def training_part(folder: str | Path | None = None) -> Images:
    """The training images: all 60,000 but the validation part and repeats, in hashed order.

    Raises `BadInput` when the original files are not there.
    """
    return split(Path(folder) if folder else PACKAGED)[0]["train"]


def training_images(source: str | None = None) -> Images:
    """The training part; or a user's own: a folder of the four original files, or pictures as `own_images`
    reads them.
    """
    if source is None or list(Path(source).glob("train-images-idx3-ubyte*")):
        return training_part(source)
    return Images(own_images(source))


def own_images(source: str, convert: Conversion = as_grey) -> np.ndarray:
    """A user's pictures: a folder of image files, an NPZ, or a table with an image column (file, folder or
    hub id).
    """
    from bench.data import image_column, load_rows
    from domains.images import files

    path = Path(source)
    if path.suffix.lower() == ".npz" or (path.is_dir() and files.pictures_in(path)):
        return files.read(path, convert)
    found = {
        (name := f"{source} row {i}"): files.decode(data, name, convert)
        for i, data in enumerate(image_column(load_rows(source), source))
    }
    return files.with_range(files.stacked(found), source)


def split(folder: Path) -> tuple[dict[str, Images], dict[str, object]]:
    """Cut the original files into the four parts -> (parts, what was removed)."""
    found = {name: read_idx(folder, stem) for name, stem in FILES.items()}
    order = {name: _hashed_order(name, len(images.pixels)) for name, images in found.items()}
    cut = {
        "test": found["test"][order["test"][:HELD_OUT]],
        "ceiling": found["test"][order["test"][HELD_OUT:]],
        "validation": found["train"][order["train"][:HELD_OUT]],
        "train": found["train"][order["train"][HELD_OUT:]],
    }
    seen: set[bytes] = set()
    facts: dict[str, object] = {}
    for name in PARTS:  # a repeat stays in the first part that has it
        kept = np.zeros(len(cut[name].pixels), dtype=bool)
        for i, picture in enumerate(cut[name].pixels):
            kept[i] = (key := picture.tobytes()) not in seen
            seen.add(key)
        facts[name] = {"found": len(kept), "kept": int(kept.sum())}
        cut[name] = cut[name][kept]
    return cut, facts


def read_idx(folder: Path, stem: str) -> Images:
    """One pair of the original files, gzipped or not (LeCun's IDX format: magic, sizes, bytes)."""
    pixels = _read_idx_file(folder, f"{stem}-images-idx3-ubyte", 3)
    labels = _read_idx_file(folder, f"{stem}-labels-idx1-ubyte", 1)
    if pixels.shape[1:] != (SIDE, SIDE) or len(pixels) != len(labels):
        raise BadInput(
            f"the files {stem}-* in {str(folder)!r} hold images {pixels.shape} and {len(labels)} labels; "
            f"wanted: 28x28, as many"
        )
    return Images(pixels[:, None], labels.astype(np.int64))


def _read_idx_file(folder: Path, name: str, dimensions: int) -> np.ndarray:
    path = next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)
    if path is None:
        raise BadInput(
            f"the training images are not at {str(folder)!r}: no {name}[.gz] there. "
            "Install Debian's package dataset-fashion-mnist, "
            "or name the folder of the four original files with --data"
        )
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, *shape = struct.unpack_from(f">{1 + dimensions}I", raw)
        data = np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions)
        if magic != 0x800 + dimensions:
            raise ValueError(f"magic number {magic:#x}")
        return data.reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise BadInput(f"{str(path)!r} is not a whole IDX file: {error}") from None


def _hashed_order(name: str, count: int) -> np.ndarray:
    return np.array(
        sorted(
            range(count), key=lambda i: hashlib.sha256(f"fashion-mnist split 1:{name}:{i}".encode()).digest()
        )
    )


def to_dataset(images: Images) -> Dataset:
    """Rows with an `Image` (PNG) and a `ClassLabel`."""
    import datasets

    from domains.images.files import encode

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
    )
    assert images.labels is not None
    rows = {
        "image": [{"bytes": encode(p), "path": None} for p in images.pixels],
        "label": images.labels.tolist(),
    }
    return datasets.Dataset.from_dict(rows, features=features)


def make(source: Path = PACKAGED, folder: Path = FOLDER) -> dict[str, object]:
    """Write the shipped Parquet files and `origin.json` -> the facts of the split."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, facts = split(source)
    for name in SHIPPED:
        to_dataset(parts[name]).to_parquet(folder / f"{name}.parquet")
    origin = {
        "origin": (
            "Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist (Xiao, Rasul, Vollgraf "
            "2017, arXiv:1708.07747)"
        ),
        "licence": "MIT (Expat), Copyright 2017 Zalando SE",
        "changes": (
            "cut into parts by a hash of each image's number; of equal images the first stays; "
            "stored as PNG in Parquet"
        ),
        "split": facts,
    }
    (folder / "origin.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
    return facts


if __name__ == "__main__":
    print(json.dumps(make(*map(Path, sys.argv[1:])), indent=1))
