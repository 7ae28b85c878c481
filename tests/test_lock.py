"""The lock of a training: free when its process is gone, also where its machine is gone with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.errors import BadInput
from bench.training import lock
from bench.training.lock import locked

ELSEWHERE = "77 node7/12345678 3"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fractions of a second in place of minutes."""
    for name, seconds in {"BEAT_S": 0.05, "DEAD_AFTER_S": 0.6, "SETTLE_S": 0.3, "LOOK_EVERY_S": 0.02}.items():
        monkeypatch.setattr(lock, name, seconds)


def left_behind(folder: Path, line: str) -> Path:
    (folder / "lock").write_text(line, encoding="utf-8")
    return folder


def test_the_lock_of_a_dead_process_of_this_machine_is_free_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    for line in ("", "77\n", f"{2**22 + 1} {lock.here()} 5"):
        with locked(left_behind(tmp_path, line), "t"):
            assert (tmp_path / "lock").read_text(encoding="utf-8").startswith(f"{os.getpid()} {lock.here()} ")
    assert time.monotonic() - start < lock.DEAD_AFTER_S and (tmp_path / "lock").read_bytes() == b""


@pytest.mark.parametrize("wait", [True, False])
def test_the_lock_of_a_dead_machine_is_taken_over_after_a_while(tmp_path: Path, wait: bool) -> None:
    start = time.monotonic()
    with locked(left_behind(tmp_path, ELSEWHERE), "t", wait):
        assert time.monotonic() - start > lock.DEAD_AFTER_S
        assert (tmp_path / "lock").read_text(encoding="utf-8").startswith(f"{os.getpid()} ")


def test_a_living_machine_keeps_its_lock_though_the_system_would_give_it(tmp_path: Path) -> None:
    left_behind(tmp_path, ELSEWHERE)
    gone, file = threading.Event(), os.open(tmp_path / "lock", os.O_RDWR)

    def lives() -> None:
        for number in range(4, 10_000):
            if gone.wait(0.05):
                return
            os.pwrite(file, f"77 node7/12345678 {number:9}".encode(), 0)

    other = threading.Thread(target=lives)
    other.start()
    try:
        with (
            pytest.raises(BadInput, match=r"^t is being trained already, by process 77 on node7$"),
            locked(tmp_path, "t"),
        ):
            pass
        waited = threading.Timer(2 * lock.DEAD_AFTER_S, gone.set)
        start = time.monotonic()
        waited.start()
        with locked(tmp_path, "t", wait=True):
            assert time.monotonic() - start > 3 * lock.DEAD_AFTER_S - 0.2
    finally:
        gone.set()
        other.join()
        os.close(file)


def test_a_lock_that_the_storage_keeps_for_a_dead_machine_is_ignored(tmp_path: Path) -> None:
    """As some shared file systems do: the system says that it is held, but nobody changes the file."""
    pytest.importorskip("fcntl")
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); "
        f"f.write({ELSEWHERE!r}); f.flush(); print(flush=True); time.sleep(60)"
    )
    stuck = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert stuck.stdout is not None and stuck.stdout.readline()
    try:
        with locked(tmp_path, "t", wait=True):
            assert (tmp_path / "lock").read_text(encoding="utf-8").startswith(f"{os.getpid()} ")
    finally:
        stuck.kill()
        stuck.wait()


def test_whoever_is_taken_over_leaves_the_lock_of_the_next(tmp_path: Path) -> None:
    with locked(tmp_path, "t"):
        left_behind(tmp_path, ELSEWHERE)
        time.sleep(4 * lock.BEAT_S)
    assert (tmp_path / "lock").read_text(encoding="utf-8") == ELSEWHERE


def test_only_one_of_several_takes_over(tmp_path: Path) -> None:
    left_behind(tmp_path, ELSEWHERE)
    inside, most = [0], [0]

    def train() -> None:
        with locked(tmp_path, "t", wait=True):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.05)
            inside[0] -= 1

    several = [threading.Thread(target=train) for _ in range(4)]
    for one in several:
        one.start()
    for one in several:
        one.join(20)
    assert most[0] == 1 and not any(one.is_alive() for one in several)
