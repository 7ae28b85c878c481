"""Kill it: at random moments, on a full disk, beside itself.

Nothing may be lost, doubled or believed that is not whole.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from bench.methods.notation import LADDER
from bench.records.schema import Record, read_record, record_files
from bench.runner.sweep import Request, run

pytestmark = pytest.mark.slow

KILLS, SEEDS = 20, (0, 1, 2)
CELLS = len(SEEDS) * (len(LADDER) + 1)


def sweep(results: Path, workers: int = 2) -> list[str]:
    seeds = [word for seed in SEEDS for word in ("--seed", str(seed))]
    how = ["--samples", "200", "--workers", str(workers), "--results", str(results)]
    return [sys.executable, "-m", "bench", "run", "--domain", "toy", "--method", "ladder", *seeds, *how]


@pytest.fixture
def env(toy_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A cache of its own: what one run has cached must not help the next."""
    return {**toy_env, "GENCOMPRESS_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}


def whole(results: Path) -> list[Record]:
    """All records; every file that has the name of one has to be one."""
    return [read_record(path) for path in record_files(results)]


def numbers(records: list[Record]) -> dict[str, object]:
    return {r.cell: (r.status, r.metrics, r.tensors_sha256, r.cost and r.cost.stored_bytes) for r in records}


class Undisturbed(NamedTuple):
    numbers: dict[str, object]
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Undisturbed:
    from conftest import FOLDER, TOY

    folder = tmp_path_factory.mktemp("undisturbed")
    paths = [str(pytestconfig.stash[FOLDER] / "plugins"), str(TOY)]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "GENCOMPRESS_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    start = time.monotonic()
    subprocess.run(sweep(folder / "results"), env=env, check=True, capture_output=True)
    found = numbers(whole(folder / "results"))
    assert len(found) == CELLS
    return Undisturbed(found, time.monotonic() - start)


def test_killed_at_random_moments(env: dict[str, str], tmp_path: Path, undisturbed: Undisturbed) -> None:
    """Moments are uniform over the time that a whole sweep takes; one that has come to its end is checked,
    and the next starts afresh.

    Every second kill spares the workers, who have to notice that nobody is there any more.
    """
    found_after: list[list[int]] = [[]]
    random_moment = random.Random(0)
    while (kills := sum(map(len, found_after))) < KILLS:
        results = tmp_path / f"results-{len(found_after)}"
        of_this_sweep = {**env, "GENCOMPRESS_CACHE": str(tmp_path / f"cache-{len(found_after)}")}
        process = subprocess.Popen(
            sweep(results),
            env=of_this_sweep,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            done = process.wait(random_moment.uniform(0, undisturbed.seconds)) == 0
        except subprocess.TimeoutExpired:
            done = False
            os.killpg(process.pid, signal.SIGKILL) if kills % 2 else process.kill()
            process.wait()
        assert process.returncode in (0, -signal.SIGKILL), "it ended by itself, and not well"
        assert all_gone(process.pid), "workers outlive the run that started them"
        found = whole(results)
        assert all(undisturbed.numbers[cell] == said for cell, said in numbers(found).items())
        assert max(Counter(r.cell for r in found).values(), default=1) == 1
        if done:
            assert numbers(found) == undisturbed.numbers
            found_after.append([])
        else:
            found_after[-1].append(len(found))
    print("records found after each kill, sweep by sweep:", found_after)
    assert all(counts == sorted(counts) for counts in found_after) and any(
        0 < n < CELLS for counts in found_after for n in counts
    )
    subprocess.run(sweep(results), env=of_this_sweep, check=True, capture_output=True)
    assert numbers(whole(results)) == undisturbed.numbers


def quiet_run(request: Request) -> None:
    """In a process of its own."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        torch.set_num_threads(1)  # the threads of the process that it was forked from are not there
        run(request, lambda line: None)


def test_a_hundred_kills(
    toy_trains_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Undisturbed
) -> None:
    """The same in processes that have the libraries and the model from the start, so that most kills meet the
    measuring and the writing.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    fork, random_moment = multiprocessing.get_context("fork"), random.Random(1)
    counts: list[int] = []
    sweeps = kills = 0
    seconds = 1.0  # of a whole sweep, corrected by each that ends
    while kills < 100:
        results = tmp_path / f"results-{sweeps}"
        monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / f"cache-{sweeps}"))
        request = Request("toy", methods=("ladder",), seeds=SEEDS, samples=200, results=results)
        start = time.monotonic()
        process = fork.Process(target=quiet_run, args=(request,))
        process.start()
        process.join(random_moment.uniform(0, seconds))
        killed = process.is_alive()
        process.kill()
        process.join()
        found = whole(results)
        assert all(undisturbed.numbers[cell] == said for cell, said in numbers(found).items())
        assert max(Counter(r.cell for r in found).values(), default=1) == 1
        if killed and process.exitcode == -signal.SIGKILL:
            kills += 1
            counts.append(len(found))
            seconds *= 1.02
        else:
            assert process.exitcode == 0 and numbers(found) == undisturbed.numbers
            seconds, sweeps = max(0.3, time.monotonic() - start), sweeps + 1
    print(f"{kills} kills, {sweeps} sweeps came to their end; records found after each kill: {counts}")
    assert sum(0 < n < CELLS for n in counts) > 20, "most kills met no work"


def all_gone(session: int, within_s: float = 30.0) -> bool:
    """Whether no process of a session is left; a worker that is just being started has yet to learn of its
    parent's end.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if (
            not subprocess.run(
                ["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True, encoding="utf-8"
            )
            .stdout.replace("Z", "")
            .strip()
        ):
            return True
        time.sleep(0.2)
    return False


def test_two_runs_on_one_folder_at_once(
    env: dict[str, str], tmp_path: Path, undisturbed: Undisturbed
) -> None:
    results = tmp_path / "results"
    both = [
        subprocess.Popen(
            sweep(results, 1),
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    records = whole(results)
    assert numbers(records) == undisturbed.numbers and len(records) == CELLS


def test_on_a_full_disk(env: dict[str, str], tmp_path: Path, undisturbed: Undisturbed) -> None:
    """Files may grow to 4 KiB, less than a record: every write fails half-way, as on a full disk.

    One line says so; then all is made.
    """
    results = tmp_path / "results"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    full = subprocess.run(
        sweep(results, 1), env=env, capture_output=True, text=True, preexec_fn=small_files, encoding="utf-8"
    )
    last = full.stderr.strip().splitlines()[-1]
    assert (
        full.returncode == 2
        and last.startswith("error: cannot write ")
        and "File too large" in last
        and "Traceback" not in full.stderr
    )
    assert whole(results) == [] and not list(results.rglob("*.part"))
    subprocess.run(sweep(results, 1), env=env, check=True, capture_output=True)
    assert numbers(whole(results)) == undisturbed.numbers


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_record_cut_off_is_never_believed(
    env: dict[str, str], tmp_path: Path, undisturbed: Undisturbed, share: float
) -> None:
    results = tmp_path / "results"
    subprocess.run(sweep(results, 1), env=env, check=True, capture_output=True)
    path = record_files(results)[3]
    cell, content = json.loads(path.read_text(encoding="utf-8"))["cell"], path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    again = subprocess.run(
        sweep(results, 1), env=env, check=True, capture_output=True, text=True, encoding="utf-8"
    )
    assert f"skipped {path}: not a whole record" in again.stderr
    assert path.read_bytes() == content[: int(share * len(content))], "what is damaged is not overwritten"
    (mended,) = [p for p in record_files(results) if p.name.startswith(path.stem) and p != path]
    assert read_record(mended).cell == cell and numbers([read_record(mended)]) == {
        cell: undisturbed.numbers[cell]
    }


def test_a_clock_that_jumps_changes_no_number(
    env: dict[str, str], tmp_path: Path, undisturbed: Undisturbed
) -> None:
    """Every look at the clock gives another time between 1970 and 2106."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import random, time\n"
        "jump, gmtime = random.Random(0), time.gmtime\n"
        "time.time = lambda: jump.uniform(0, 2**32)\n"
        "time.gmtime = lambda seconds=None: gmtime(time.time() if seconds is None else seconds)\n",
        encoding="utf-8",
    )
    jumping = {**env, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), env["PYTHONPATH"]])}
    results = tmp_path / "results"
    subprocess.run(sweep(results), env=jumping, check=True, capture_output=True)
    again = subprocess.run(
        sweep(results), env=jumping, check=True, capture_output=True, text=True, encoding="utf-8"
    )
    records = whole(results)
    assert numbers(records) == undisturbed.numbers and f"{CELLS} finished before" in again.stderr
    assert len({r.provenance.time[:4] for r in records}) > 5, "the clock did not jump"


def test_a_folder_of_records_that_cannot_be_written(env: dict[str, str], tmp_path: Path) -> None:
    """One line says so, before anything is measured."""
    results = tmp_path / "results"
    results.mkdir(mode=0o555)

    def as_others() -> None:
        """Root gives up that it may write everywhere (PR_CAPBSET_DROP, CAP_DAC_OVERRIDE)."""
        ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)

    made = subprocess.run(
        sweep(results),
        env=env,
        capture_output=True,
        text=True,
        preexec_fn=as_others,
        check=False,
        encoding="utf-8",
    )
    assert made.returncode == 2 and list(results.iterdir()) == [], made.stderr
    (line,) = (line for line in made.stderr.splitlines() if line.startswith("error: "))
    assert line == f"error: cannot write to {str(results)!r}: Permission denied"
    assert "Traceback" not in made.stderr
