"""Caches results by content, in the user's cache folder or in memory. Deleting the cache only costs time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from bench.errors import BadInput
from bench.interfaces import Domain, Features, Samples
from bench.util.files import cache_folder, write_atomically

T = TypeVar("T")


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


def _bytes(sample: Any) -> bytes:
    if isinstance(sample, str):
        return b"s" + len(raw := sample.encode("utf-8", "surrogatepass")).to_bytes(8, "little") + raw
    array = np.ascontiguousarray(sample)
    return f"a{array.dtype}{array.shape}".encode() + array.tobytes()


class Cache:
    """Results on disk. `use=False` neither reads nor writes. A damaged entry is computed again."""

    def __init__(self, use: bool = True, folder: Path | None = None) -> None:
        self.use, self.folder = use, folder or cache_folder()

    def features(self, key: list[Any], make: Callable[[], Features]) -> Features:
        """Features and surprisal, as one safetensors file."""
        from safetensors.torch import load, save

        path = self._path(key, "view")
        if self.use and path.exists():
            try:
                tensors = load(path.read_bytes())
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
                return domain.read_samples(path.with_name(marker.read_text(encoding="utf-8")))
            except (BadInput, OSError, ValueError):
                marker.unlink(missing_ok=True)
        made = make()
        if self.use:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._write(marker, domain.write_samples(made, path).name.encode())
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
        except (BadInput, OSError):
            self.use = False  # the disk is full or read-only: go on without a cache

    def _path(self, key: list[Any], kind: str) -> Path:
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.folder / kind / digest[:2] / digest[2:34]
