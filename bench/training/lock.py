"""Keeps two processes from training into the same folder, on one machine or on shared storage.

The system's file lock ends with its process. It does not tell a dead machine from a living one everywhere:
some shared file systems keep the lock of a machine that is gone, others lock on one machine only. So the
holder also changes the file every few seconds. Whoever waits watches the file by a clock of its own, so wrong
or jumping clocks do no harm.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from bench.errors import BadInput
from bench.util.files import check_writable

BEAT_S = 15.0  # between two changes of the file
DEAD_AFTER_S = 180.0  # without a change: shared storage may show a change only after a minute
SETTLE_S = 5.0  # after a machine's lock was taken over: whoever wrote last has it
LOOK_EVERY_S = 1.0
LENGTH = 200  # bytes of the line


@contextlib.contextmanager
def locked(folder: Path, title: str, wait: bool = False) -> Iterator[None]:
    """Keep other processes from training into the same folder, also those of other machines.

    The lock of a process that died is free at once on its own machine, and after `DEAD_AFTER_S` on others.

    wait: wait while another process holds it. Without it, that raises `BadInput`. Should two processes hold
    it after all, each writes whole files, and both compute the same.
    """
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    us, done = f"{os.getpid()} {here()} {uuid.uuid4().hex[:8]}", threading.Event()
    file = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(file, us, title, wait)
        beats = threading.Thread(target=_beat, args=(file, us, done), daemon=True)
        beats.start()
        try:
            yield
        finally:
            done.set()
            beats.join()
            if _read(file).startswith(us):
                with contextlib.suppress(OSError):
                    os.ftruncate(file, 0)
    finally:
        os.close(file)


def _take(file: int, us: str, title: str, wait: bool) -> None:
    """Return when the lock is ours. Raises `BadInput` where another process lives, and `wait` is false."""
    seen, since = _read(file), time.monotonic()
    while True:
        free, now = _system_lock(file), _read(file)
        if free and _is_of_the_dead(now):
            _write(file, us, 0)
            return
        if not wait and (not free or now != seen):
            raise BadInput(f"{title} is being trained already, by process {_name(now)}")
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > DEAD_AFTER_S and _took_over(file, us):
            return
        time.sleep(LOOK_EVERY_S)


def _system_lock(file: int) -> bool:
    """Whether the system gives the lock. True where the file system has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True


def _took_over(file: int, us: str) -> bool:
    """Write our name in place of a dead one's -> whether it is still there after others could do so, too."""
    _write(file, us, 0)
    time.sleep(SETTLE_S)
    return _read(file).startswith(us)


def _beat(file: int, us: str, done: threading.Event) -> None:
    """Change the file again and again, while it is ours."""
    number = 1
    while not done.wait(BEAT_S) and _read(file).startswith(us):
        _write(file, us, number)
        number += 1


def _read(file: int) -> str:
    with contextlib.suppress(OSError):
        return os.pread(file, LENGTH, 0).decode(errors="replace").strip()
    return ""


def _write(file: int, us: str, number: int) -> None:
    """One line in one piece: process, machine, this lock, and a number that grows."""
    with contextlib.suppress(OSError):  # where it cannot be written, the system's lock has to do
        os.pwrite(file, f"{us} {number}".encode()[:LENGTH].ljust(LENGTH), 0)


@functools.cache
def here() -> str:
    """This machine since it was started: its name alone may not be the only one of its kind."""
    try:
        started = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")[:8]
    except OSError:
        started = f"{uuid.getnode():x}"
    return f"{socket.gethostname()[:100]}/{started}"


def _is_of_the_dead(content: str) -> bool:
    """Whether a line names no process, or one of this machine that has ended; old lines name no machine."""
    machine, process = _machine(content), content.partition(" ")[0]
    if machine != here() or not process.isdecimal():
        return machine in ("", here())
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass
    return False


def _machine(content: str) -> str:
    """The machine that a line names, or nothing."""
    return content.split()[1] if len(content.split()) > 1 else ""


def _name(content: str) -> str:
    """The holder for a message: `123`, or `123 on node7` where it is on another machine."""
    machine = _machine(content)
    where = f" on {machine.partition('/')[0]}" if machine not in ("", here()) else ""
    return (content.split() or ["unknown"])[0] + where
