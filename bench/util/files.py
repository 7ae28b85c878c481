"""Atomic file writes, and the location of the caches."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bench.errors import BadInput, in_a_line

LONGEST = 120  # characters of a part of a path; most file systems allow 255 bytes
KINDS: dict[Callable[[int], bool], str] = {
    stat.S_ISDIR: "folder",
    stat.S_ISFIFO: "FIFO",
    stat.S_ISCHR: "device",
    stat.S_ISBLK: "device",
    stat.S_ISSOCK: "socket",
}


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write to a temporary file, flush it to disk and rename it, so that readers never see an incomplete
    file.

    The target of a symbolic link is written, and the link stays. Raises `BadInput` when the folder cannot be
    written, the disk is full, or the path is no regular file.
    """
    raw = data.encode() if isinstance(data, str) else data
    path = check_regular(path)
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        # 0666 less the user's umask, as `open` would do
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise BadInput(f"cannot write to {str(path.parent)!r}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise BadInput(f"cannot write {str(path)!r}: {error.strerror or error}") from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_regular(path: Path) -> Path:
    """The file that a path leads to, behind any symbolic links.

    Raises `BadInput` where the path is a folder, a FIFO or a device, which a new file must not replace.
    """
    try:
        target = path.resolve() if path.is_symlink() else path
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise BadInput(f"cannot write {str(path)[:200]!r}: {in_a_line(error)}") from None
    if not stat.S_ISREG(mode):
        kind = next((name for is_one, name in KINDS.items() if is_one(mode)), "special file")
        raise BadInput(f"cannot write {str(path)!r}: it is a {kind}; allowed: a regular file, or a new one")
    return target


def check_writable(folder: Path) -> None:
    """Raises `BadInput` before any computation if files cannot be written to `folder`.

    It leaves nothing behind.
    """
    there = next(parent for parent in (folder, *folder.parents) if os.path.lexists(parent))
    if not there.is_dir():
        raise BadInput(f"cannot write to {str(folder)!r}: {str(there)!r} is not a folder")
    try:
        # beside the folder to come: processes that make and remove one folder would disturb each other
        with tempfile.TemporaryDirectory(dir=there, prefix=".") as probe:
            (Path(probe) / folder.relative_to(there)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot write to {str(folder)!r}: {error.strerror}") from None


def cache_folder() -> Path:
    """The user's cache: `$GENCOMPRESS_CACHE`, else `$XDG_CACHE_HOME/gencompress`, else
    `~/.cache/gencompress`.
    """
    own = os.environ.get("GENCOMPRESS_CACHE")
    return (
        Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gencompress"
    )


def slug(text: str) -> str:
    """A file name of [a-z0-9._=+@-], never empty, never hidden, and at most `LONGEST` characters.

    `:` becomes `-`. A hash keeps names apart that need more changes.
    """
    plain = text.replace(":", "-")
    safe = re.sub(r"[^a-z0-9._=+@-]+", "-", plain.lower()).strip("-.") or "unnamed"
    if safe == plain:
        return shortened(safe, LONGEST)
    return f"{safe[: LONGEST - 7]}-{_hash(text)}"


def is_file(path: Path) -> bool:
    """Whether a file is there. A name that no file can have leads to none."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def shortened(name: str, longest: int) -> str:
    """A name of at most so many characters. A hash of the whole name replaces what is cut off."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 7]}-{_hash(name)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:6]
