"""Atomic file writes, and the location of the caches."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

from bench.errors import BadInput

LONGEST_NAME = 200  # characters of a file name that is made of a text; file systems allow 255 bytes


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write to a temporary file, flush it to disk and rename it, so that readers never see an incomplete
    file.

    Raises `BadInput` when the folder cannot be written, or the disk is full.
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
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise BadInput(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Raises `BadInput` before any computation if files cannot be written to `folder`.

    It leaves nothing behind.
    """
    for parent in (folder, *folder.parents):
        if parent.exists() and not parent.is_dir():
            raise BadInput(f"cannot write to {str(folder)!r}: {str(parent)!r} is not a folder")
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(f"cannot write to {str(folder)!r}: {error.strerror}") from None
    finally:
        for parent in made:  # the innermost first
            with suppress(OSError):  # it does not exist, or another process has written into it
                parent.rmdir()


def cache_folder() -> Path:
    """The user's cache: `$GENCOMPRESS_CACHE`, else `$XDG_CACHE_HOME/gencompress`, else
    `~/.cache/gencompress`.
    """
    own = os.environ.get("GENCOMPRESS_CACHE")
    return (
        Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gencompress"
    )


def slug(text: str) -> str:
    """A file name of [a-z0-9._=+@-], never empty, never hidden, and at most `LONGEST_NAME` characters.

    `:` becomes `-`. A hash keeps names apart that need more changes.
    """
    plain = text.replace(":", "-")
    safe = re.sub(r"[^a-z0-9._=+@-]+", "-", plain.lower()).strip("-.") or "unnamed"
    if safe == plain and len(safe) <= LONGEST_NAME:
        return safe
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{safe[: LONGEST_NAME - 7]}-{digest}"
