"""Files that are whole or absent, and where the caches lie."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from bench.errors import BadInput


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write beside the target, flush to disk, rename: a reader never sees a part.

    Raises `BadInput` when the folder cannot be written.
    """
    raw = data.encode() if isinstance(data, str) else data
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
    except OSError as error:
        raise BadInput(f"cannot write to {str(path.parent)!r}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Raises `BadInput`, before anything is computed, when files could not be written to `folder`; creates nothing."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise BadInput(f"cannot write to {str(folder)!r}: {str(existing)!r} is not a folder that can be written to")


def cache_folder() -> Path:
    """The user's cache: `$GENCOMPRESS_CACHE`, else `$XDG_CACHE_HOME/gencompress`, else `~/.cache/gencompress`."""
    own = os.environ.get("GENCOMPRESS_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gencompress"


def slug(text: str) -> str:
    """A file name of [a-z0-9._=-]: other characters become `-`. Never empty, never hidden."""
    return re.sub(r"[^a-z0-9._=-]+", "-", text.lower()).strip("-.") or "unnamed"
