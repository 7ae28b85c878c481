"""Caches results by content, in the user's cache folder or in memory. Deleting the cache only costs time."""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from bench.errors import BadInput, BrokenPlugIn
from bench.interfaces import Domain, Features, Samples
from bench.util.files import cache_folder, write_atomically

T = TypeVar("T")
Files = Mapping[str, bytes]  # path below the cache folder -> content
MOST_BYTES = 256 * 2**20  # of files that one machine sends to another


class Latest(Generic[T]):
    """Keeps the last result by the content of its samples, because features and surprisal are requested
    one after the other.
    """

    def __init__(self) -> None:
        self._key: str | None = None

    def of(self, samples: Samples, answer: Callable[[], T]) -> T:
        """The result for these samples, computed if they are not the last ones."""
        if (key := content_digest(samples)) != self._key:
            self._answer = answer()
            self._key = key
        return self._answer


def content_digest(samples: Samples) -> str:
    """SHA-256 of native samples: texts, or arrays."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(_bytes(sample))
    return digest.hexdigest()


@functools.cache
def source_digest(kind: type) -> str:
    """SHA-256 of the class's module and of the Python files beside it in its package.

    So an edit is noticed. A class without a file, as in a notebook, is another one in each process.
    """
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None:
        return secrets.token_hex(32)
    alone = "." not in kind.__module__  # a module of no package: what lies beside it is not its
    found = [Path(file)] if alone else sorted(Path(file).parent.glob("**/*.py"))
    digest = hashlib.sha256()
    for path in found:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def in_order_of_content(samples: Iterable[Any]) -> list[Any]:
    """The different samples, in an order that says nothing of their files and of their place in a file."""
    found = {content_digest([sample]): sample for sample in samples}
    return [found[key] for key in sorted(found)]


def _bytes(sample: Any) -> bytes:
    if isinstance(sample, str):
        return b"s" + len(raw := sample.encode("utf-8", "surrogatepass")).to_bytes(8, "little") + raw
    array = np.ascontiguousarray(sample)
    if array.dtype.hasobject:  # its bytes would be addresses
        allowed = "texts, and arrays of numbers"
        raise BrokenPlugIn(f"samples are of type {type(sample).__name__}; allowed: {allowed}")
    return f"a{array.dtype}{array.shape}".encode() + array.tobytes()


class Cache:
    """Results on disk. `use=False` neither reads nor writes. A damaged entry is computed again."""

    def __init__(self, use: bool = True, folder: Path | None = None) -> None:
        self.use, self.folder = use, folder or cache_folder()
        self.used: list[Path] = []  # files that this process has read or written, in that order

    def features(self, key: list[Any], make: Callable[[], Features]) -> Features:
        """Features and surprisal, as one safetensors file."""
        from safetensors.torch import load, save

        path = self._path(key, "view")
        if self.use and path.exists():
            try:
                tensors = load(path.read_bytes())
                self.used.append(path)
                return Features(tensors["features"], tensors.get("surprisal"))
            except Exception:
                path.unlink(missing_ok=True)
        made = make()
        if self.use:
            tensors = {"features": made.features.cpu().contiguous()}
            if made.surprisal is not None:
                tensors["surprisal"] = made.surprisal.cpu().contiguous()
            self._write(path, save(tensors))
        return made

    def samples(self, key: list[Any], domain: Domain, make: Callable[[], Samples]) -> Samples:
        """Samples, in their domain's own file format."""
        path = self._path(key, "samples")
        marker = path.with_name(path.name + ".name")  # written last: it names a complete file
        if self.use and marker.exists():
            try:
                made_before = path.with_name(marker.read_text(encoding="utf-8"))
                samples = domain.read_samples(made_before)
                self.used += [made_before, marker]
                return samples
            except (BadInput, OSError, ValueError):
                marker.unlink(missing_ok=True)
        made = make()
        if self.use:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                written = domain.write_samples(made, path)
                self.used.append(written)
                self._write(marker, written.name.encode())
            except (BadInput, OSError):
                self.use = False
        return made

    def keep(self, key: list[Any], kind: str, data: bytes) -> None:
        """Store bytes that contain their own checksum, such as an artifact."""
        if self.use:
            self._write(self._path(key, kind), data)

    def kept(self, key: list[Any], kind: str) -> Path | None:
        """The file of stored bytes; None where there is none."""
        path = self._path(key, kind)
        return path if self.use and path.is_file() else None

    def _write(self, path: Path, data: bytes) -> None:
        try:
            write_atomically(path, data)
            self.used.append(path)
        except (BadInput, OSError):
            self.use = False  # the disk is full or read-only: go on without a cache

    def _path(self, key: list[Any], kind: str) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / kind / digest[:2] / digest[2:34]


def read_files(paths: Iterable[Path]) -> Files:
    """The content of files below the cache folder, for another machine. Without those that are gone or large.

    The order is kept: a file that names another one comes after it.
    """
    found, total, root = {}, 0, cache_folder()
    for path in dict.fromkeys(paths):
        if path.is_file() and path.is_relative_to(root) and total + path.stat().st_size <= MOST_BYTES:
            found[path.relative_to(root).as_posix()] = path.read_bytes()
            total += len(found[path.relative_to(root).as_posix()])
    return found


def store_files(files: Files) -> None:
    """Write those files that the cache of this machine lacks, if it can be written."""
    for name, content in files.items():
        path = cache_folder() / name
        if not path.exists():
            with suppress(BadInput, OSError):
                write_atomically(path, content)
