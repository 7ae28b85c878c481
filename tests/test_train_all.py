"""`train` of all that is missing: what is made in which order, each once and whole, and what happens when
one fails or is stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bench.cli import main as cli
from bench.errors import BadInput
from bench.interfaces import TRAINED_ON, Domain, ModelSpec
from bench.registry import DOMAINS
from bench.training import train as training
from bench.training import train_missing as train_all
from bench.training.train_missing import Job, Options, Worker, missing, steps_of, train_missing
from bench.util.progress import Overview, report
from domains.folders import GRID

STEADY = '''
from bench.interfaces import Domain, Training


class SteadyTraining(Training):
    """Counts its steps; `bad` fails, `slow` takes a minute."""

    networks = {}

    def __init__(self, name):
        self.name, self.total_steps, self.step_number = name, 20, 0

    def identity(self):
        return "steady"

    def step(self):
        self.step_number += 1
        if self.name == "bad" and self.step_number == 2:
            raise ArithmeticError("the loss is not finite")
        return {"loss": 1.0}

    def state_dict(self):
        return {"step": self.step_number}

    def load_state_dict(self, state):
        self.step_number = state["step"]

    def validate(self):
        return {}

    def freeze(self, folder):
        folder.mkdir(parents=True)
        (folder / "weights").write_text("whole")
        (folder / "sub").mkdir()
        (folder / "sub" / "config").write_text("whole")
        if self.name == "torn":
            raise KeyboardInterrupt


class SteadyDomain(Domain):
    name = "steady"
    models = {}
    trainings = lambda self: {"good": "", "bad": "", "other": ""}
    grid = lambda self: ("bad", "good", "other")
    train = lambda self, name, data, device: SteadyTraining(name)


SteadyDomain.__abstractmethods__ = frozenset()
'''


@pytest.fixture
def steady(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Domain:
    """A domain whose models are trained in no time, known here and in subprocesses; a cache of its own."""
    site = tmp_path / "site"
    (site / "steady-0.dist-info").mkdir(parents=True)
    (site / "steady-0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: steady\nVersion: 0\n", encoding="utf-8"
    )
    (site / "steady-0.dist-info" / "entry_points.txt").write_text(
        "[gencompress.domains]\nsteady = steady:SteadyDomain\n", encoding="utf-8"
    )
    (site / "steady.py").write_text(STEADY, encoding="utf-8")
    # before the entry point can be found, so that the registry forgets it afterwards
    monkeypatch.setitem(DOMAINS._targets, "steady", "steady:SteadyDomain")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "steady", raising=False)
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(site), str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
    )
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    domain: Domain = DOMAINS.load("steady")()
    return domain


def made_of(code: str) -> Callable[[Job, Path], list[str]]:
    """In place of `Job.command`: a worker that runs `code`, with `job` and `progress` in it."""
    return lambda job, progress: [
        sys.executable,
        "-S",
        "-c",
        f"job, progress = {job.model!r}, {str(progress)!r}\n{code}",
    ]


class Listed(Domain):
    """Only what the plan asks for."""

    def __init__(self, name: str, grid: Sequence[str], models: Sequence[str] = ()) -> None:
        self._name, self._grid, self._models = name, grid, models

    name = property(lambda self: self._name)  # type: ignore[assignment]
    models = property(lambda self: {model: ModelSpec(model, "") for model in self._models})  # type: ignore[assignment]
    grid = lambda self: self._grid
    trainings = lambda self: {name: "" for name in self._grid}


Listed.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def plan(*domains: Domain, model: str | None = None, steps: int | None = None) -> tuple[list[str], list[str]]:
    """-> (jobs, what was said)"""
    said: list[str] = []
    return [str(job) for job in missing(domains, model, Options(steps=steps), said.append)], said


# ------------------------------------------------------------------------------------------------------- plan


def test_the_order_is_round_robin_by_position_in_the_grid_whatever_ships(steady: Domain) -> None:
    jobs, said = plan(Listed("a", ("s", "t", "u")), Listed("b", ("s", "t"), models=("s",)), Listed("c", ()))
    assert jobs == ["a s", "a t", "b t", "a u"]
    assert said == ["a: s, t, u missing", "b: s ships", "b: t missing"]


def test_our_domains_share_a_grid_of_sizes_and_training_seeds() -> None:
    assert GRID == ("s@0", "s@1", "s@2", "xs@0", "xs@1", "xs@2", "m@0", "m@1", "m@2")
    for name in ("text", "image_gan", "image_diffusion"):
        domain = DOMAINS.load(name)()
        assert domain.grid() == GRID
        assert {model.split("@")[0] for model in GRID} <= {
            recipe.split("@")[0] for recipe in domain.trainings()
        }


def test_a_finished_model_is_skipped_and_one_of_other_steps_is_another(steady: Domain) -> None:
    assert training.train(steady, "good", None, training.default_output("steady", "good"))["step"] == 20
    assert plan(steady) == (
        ["steady bad", "steady other"],
        ["steady: bad, other missing", "steady: good finished before"],
    )
    assert plan(steady, steps=3)[0] == ["steady bad", "steady good", "steady other"]


def test_one_name_of_every_domain_that_trains(steady: Domain) -> None:
    assert plan(steady, Listed("a", ("s",)), Listed("b", ()), model="x")[0] == ["steady x", "a x"]
    with pytest.raises(BadInput, match="no published models to train in b; name one with --model"):
        plan(Listed("b", ()))


# -------------------------------------------------------------------------------------------- whole or absent


def test_a_half_written_model_is_not_taken_for_a_finished_one_and_is_made_whole(
    steady: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = training.default_output("steady", "torn")
    with pytest.raises(KeyboardInterrupt):
        training.train(steady, "torn", None, output)
    assert not output.exists() and plan(steady, model="torn")[0] == ["steady torn"]
    made_by = sys.modules["steady"].SteadyTraining
    monkeypatch.setattr(type(steady), "train", lambda self, name, data, device: made_by("mended"))
    training.train(steady, "torn", None, output)
    assert (
        (output / "weights").read_text(encoding="utf-8")
        == (output / "sub" / "config").read_text(encoding="utf-8")
        == "whole"
    )
    assert [path.name for path in output.parent.iterdir()] == ["torn"]
    assert plan(steady, model="torn")[0] == []


def test_one_that_was_half_written_in_place_is_made_whole(steady: Domain) -> None:
    output = training.default_output("steady", "good")
    output.mkdir(parents=True)
    (output / "weights").write_text("ha", encoding="utf-8")
    assert plan(steady, model="good")[0] == ["steady good"]
    training.train(steady, "good", None, output)
    assert (output / "weights").read_text(encoding="utf-8") == "whole"
    assert plan(steady, model="good")[0] == []


def test_a_folder_of_the_users_keeps_what_else_it_holds(steady: Domain, tmp_path: Path) -> None:
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    (tmp_path / "mine" / "sub" / "notes").write_text("kept", encoding="utf-8")
    training.train(steady, "good", None, Path("mine"))
    training.train(steady, "good", None, Path("mine"))
    names = sorted(str(path.relative_to(tmp_path / "mine")) for path in (tmp_path / "mine").rglob("*"))
    assert names == ["sub", "sub/config", "sub/notes", "training.jsonl", "weights"]
    training.train(steady, "good", None, Path("fresh"))
    assert not list(tmp_path.glob(".*"))


def test_a_model_of_own_data_says_so(steady: Domain, tmp_path: Path) -> None:
    training.train(steady, "good", "mine.txt", tmp_path / "out")
    said = json.loads((tmp_path / "out" / TRAINED_ON).read_text(encoding="utf-8"))
    assert said == {"data": "mine.txt"}
    training.train(steady, "good", None, tmp_path / "out")
    assert not (tmp_path / "out" / TRAINED_ON).exists()


def test_a_model_is_not_trained_by_two_processes_at_once(steady: Domain, tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    training.train(steady, "good", None, tmp_path / "out")
    (folder,) = tmp_path.glob("cache/training/steady/good-*")
    code = (
        "import time; from pathlib import Path; from bench.training.lock import locked\n"
        f"with locked(Path({str(folder)!r}), ''): print(flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline()
    try:
        with pytest.raises(BadInput, match=f"steady good is being trained already, by process {other.pid}"):
            training.train(steady, "good", None, tmp_path / "again")
    finally:
        other.kill()
        other.wait()
    training.train(steady, "good", None, tmp_path / "again")  # the lock went with the process


# ---------------------------------------------------------------------------------------------------- workers


def test_two_workers_train_and_one_that_fails_is_named(
    steady: Domain, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--domain", "steady", "--steps", "3"]) == 1
    _, err = capfd.readouterr()
    assert (
        "steady bad: failed, ArithmeticError: the loss is not finite" in err
        and "steady good: finished" in err
    )
    assert err.splitlines()[-1] == "error: steady bad failed: ArithmeticError: the loss is not finite"
    assert plan(steady, steps=3)[0] == ["steady bad"]
    log = training.default_output("steady", "other", 3) / "training.jsonl"
    assert json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["step"] == 3


def test_other_data_is_another_model() -> None:
    own = training.default_output("steady", "good", data="mine.txt")
    assert (
        len(
            {
                own,
                training.default_output("steady", "good"),
                training.default_output("steady", "good", data="yours.txt"),
            }
        )
        == 3
    )
    assert own == training.default_output("steady", "good", data="mine.txt")


def test_never_more_workers_than_wanted(
    steady: Domain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "import time; open('log', 'a').write('+'); time.sleep(0.3); open('log', 'a').write('-')"
    monkeypatch.setattr(Job, "command", made_of(code))
    monkeypatch.setattr(train_all, "POLL_EVERY_S", 0.02)
    jobs = [Job("steady", name) for name in "abcde"]
    for workers, most in ((1, 1), (2, 2)):
        (tmp_path / "log").unlink(missing_ok=True)
        assert train_missing(jobs, workers) == []
        marks = (tmp_path / "log").read_text(encoding="utf-8")
        assert (
            max(marks[:i].count("+") - marks[:i].count("-") for i in range(len(marks) + 1)) == most
            and marks.count("-") == 5
        )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys; sys.stderr.write('warned\\nerror: no such thing\\n\\n'); sys.exit(2)", "no such thing"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
def test_why_a_worker_failed(code: str, reason: str, steady: Domain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "command", made_of(code))
    assert train_missing([Job("steady", "x")], 2) == [f"steady x failed: {reason}"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_stops_its_workers(number: signal.Signals, steady: Domain, tmp_path: Path) -> None:
    write = (
        "import os, time; open('part', 'w').write(str(os.getpid())); os.rename('part', 'pid'); time.sleep(60)"
    )
    code = (
        # jobs in the background may ignore it
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys; from bench.training.train_missing import Job; "
        f"Job.command = lambda *_: [sys.executable, '-S', '-c', {write!r}]\n"
        "from bench.cli.main import main; sys.exit(main(['train', '--domain', 'steady', '--workers', '1']))"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        encoding="utf-8",
    )
    until(lambda: (tmp_path / "pid").exists())
    worker = int((tmp_path / "pid").read_text(encoding="utf-8"))
    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130 and "the same command goes on from here" in err
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_while_it_starts_a_worker_stops_that_one_as_well(
    number: signal.Signals, steady: Domain, tmp_path: Path
) -> None:
    """The signal comes when the process is there and the list of workers does not hold it yet."""
    code = f"""
import os, signal, sys
from bench.training import train_missing as train_all
signal.signal(signal.SIGINT, signal.default_int_handler)
train_all.Job.command = lambda *_: [sys.executable, "-S", "-c", "import time; time.sleep(60)"]

class Struck(train_all.Worker):
    def __init__(self, *parts):
        super().__init__(*parts)
        open("pid", "w").write(str(self.process.pid))
        os.kill(os.getpid(), {int(number)})

train_all.Worker = Struck
from bench.cli.main import main
sys.exit(main(["train", "--domain", "steady", "--workers", "1"]))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, timeout=60, encoding="utf-8"
    )
    assert run.returncode == 130 and "the same command goes on from here" in run.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), 0)


def until(done: Callable[[], bool], within_s: float = 60) -> None:
    started = time.monotonic()
    while not done():
        assert time.monotonic() - started < within_s
        time.sleep(0.05)


@pytest.mark.parametrize(("option", "value"), [("--output", "somewhere"), ("--data", "mine.txt")])
@pytest.mark.parametrize(
    "chosen", [["--domain", "all"], ["--domain", "all", "--model", "s@0"], ["--domain", "steady"]]
)
def test_options_of_one_model_are_refused_for_several(
    option: str,
    value: str,
    chosen: list[str],
    steady: Domain,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    assert cli.main(["train", *chosen, option, value]) == 2
    assert (
        capsys.readouterr().err
        == f"error: {option} '{value}' needs one model of one domain: name it with --domain and --model\n"
    )
    assert not (tmp_path / "cache").exists()


# --------------------------------------------------------------------------------------------------- progress


def test_a_training_reports_where_it_is(tmp_path: Path) -> None:
    path, seen = tmp_path / "progress", []
    for _ in report(range(5, 8), path, total=8, initial=5):
        seen.append(json.loads(path.read_text(encoding="utf-8")))
    assert seen[0] == {"step": 5, "total": 8}
    assert json.loads(path.read_text(encoding="utf-8")) == {"step": 8, "total": 8}


def test_steps_are_summed_and_unknown_ones_estimated(
    steady: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Job, "command", made_of("pass"))
    begun = [Worker(Job(domain, "x"), tmp_path / domain) for domain in "abc"]
    for worker, (before, step, total) in zip(begun, [(100, 150, 1000), (0, 50, 3000), (None, 0, None)]):
        assert worker.process.wait() == 0
        worker.before, worker.step, worker.total = before, step, total
    waiting = [Job("a", "y"), Job("d", "x")]
    assert steps_of(begun, waiting) == (200, 1000 + 3000 + 2000 + 1000 + 2000, 100)
    assert steps_of([], waiting) == (0, 0, 0)


def test_without_a_terminal_a_plain_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Overview("2 models") as overview:
        for now[0] in range(150):
            overview.show(100 + now[0], 400, before=100)
    assert capsys.readouterr().err.splitlines() == [
        "2 models: 40.2 % of 400 steps after 01:01, about 03:59 left",
        "2 models: 55.5 % of 400 steps after 02:02, about 02:58 left",
    ]
