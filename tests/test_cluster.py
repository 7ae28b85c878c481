"""Cells as tasks of a Ray cluster: the order of the tasks, and what a worker, a node and a driver may do.

The tests marked `slow` start a real cluster of two nodes on this machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from test_kills import numbers, whole
from test_leaderboard import record

from bench.errors import BadInput, Failed
from bench.records.cell import Cell, cell_of
from bench.records.schema import Record
from bench.runner.cluster import Cluster, Plan, measure_on_ray
from bench.runner.session import Drawn, ModelSession
from bench.runner.sweep import OpenModel, Request, evaluation_of, run
from bench.util.cache import Cache, cache_folder, read_files, store_files


def asked(*methods: str, seeds: int = 1) -> list[Cell]:
    template = cell_of(record("none", 0))
    return [replace(template, method=method, sample_seed=seed) for seed in range(seeds) for method in methods]


def names(cells: Any) -> list[tuple[str, int]]:
    return [(cell.method, cell.sample_seed) for cell in cells]


# --- without Ray ----------------------------------------------------------------------------------------


def test_a_baseline_comes_before_its_seed_and_a_training_before_its_other_seeds() -> None:
    plan = Plan.of(asked("none", "int4", "finetune", seeds=2))
    assert names(plan.ready) == [("none", 0), ("none", 1)]
    plan.finish(plan.ready.popleft())
    assert names(plan.ready) == [("finetune", 0), ("none", 1), ("int4", 0)], "what takes longest starts first"
    training, baseline = plan.ready.popleft(), plan.ready.popleft()
    plan.finish(baseline)
    assert ("int4", 1) in names(plan.ready) and ("finetune", 1) not in names(plan.ready)
    plan.finish(training)
    assert names(plan.ready)[0] == ("finetune", 1) and not any(plan.missing.values())


def test_cells_whose_baseline_is_finished_wait_for_nothing() -> None:
    assert len(Plan.of(asked("int8", "int4", seeds=3)).ready) == 6


def test_the_cache_of_another_machine_gets_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.registry import open_domain

    toy = open_domain("toy")
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "here"))
    cache = Cache()
    points = cache.samples(["key"], toy, lambda: toy.reference("test")[:5])
    files = read_files([*cache.used, tmp_path / "gone"])
    assert len(files) == 2, "the samples, and the file that names them"
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "there"))
    store_files(files)

    def never() -> Any:
        raise AssertionError("sampled again")

    assert (Cache().samples(["key"], toy, never) == points).all()
    first = next(iter(files))
    (cache_folder() / first).write_bytes(b"own")
    store_files(files)
    assert (cache_folder() / first).read_bytes() == b"own", "what is there stays"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"executor": "threads"}, "unknown executor 'threads'; allowed: processes, ray"),
        ({"address": "auto"}, "--address 'auto' is of a Ray cluster: add --executor ray"),
    ],
)
def test_bad_executors_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        run(Request("toy", results=tmp_path, **changes), print)


def test_without_ray_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BadInput, match=r"pip install 'gencompress\[ray\]'"):
        run(Request("toy", executor="ray", results=tmp_path), print)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_opens_another_model_is_refused(toy_trains_once: None, tmp_path: Path) -> None:
    from bench.registry import default_model, open_domain

    toy = open_domain("toy")
    request, spec = Request("toy", samples=20, results=tmp_path), default_model(toy)
    template = evaluation_of(toy, spec, [], request).template
    assert OpenModel("toy", spec, request, template)() is not None
    other = OpenModel("toy", spec, request, replace(template, weights_sha256="0" * 64))
    with pytest.raises(
        BadInput, match=r"^worker on \S+: weights_sha256 of toy s@0 is '\w{64}', but '0{64}' where"
    ):
        other()


def test_a_time_that_was_not_taken_alone_says_so() -> None:
    from bench.registry import default_model, open_domain

    toy = open_domain("toy")
    session = ModelSession(toy, default_model(toy), 20)
    alone = session.speed(Drawn([], 2.0))
    session.alone = False
    beside = session.speed(Drawn([], 2.0))
    assert alone is not None and beside is not None and alone.samples_per_second == 10
    assert beside.runtime == alone.runtime + "; beside other cells"


# --- on a cluster of two nodes --------------------------------------------------------------------------


@dataclass(frozen=True)
class Fake:
    """Instead of a model: notes who measured what, and does as the method says."""

    folder: Path

    def __call__(self) -> Callable[[Cell], Record]:
        return self.measure

    def measure(self, cell: Cell) -> Record:
        node = os.environ.get("RAY_NODE_ID", "") or str(os.getppid())
        with (self.folder / f"{os.getpid()}").open("a", encoding="utf-8") as notes:
            notes.write(f"{cell.method} {cell.sample_seed} {node}\n")
        if cell.method == "dies":
            os._exit(9)
        if cell.method == "dies once" and not (self.folder / "died").exists():
            (self.folder / "died").touch()
            os._exit(9)
        if cell.method == "bad":
            raise BadInput("no such thing")
        time.sleep(0.3)
        return record(cell.method, cell.sample_seed, quality_retention=0.5)

    def notes(self) -> list[str]:
        return [
            line for path in self.folder.iterdir() for line in path.read_text(encoding="utf-8").splitlines()
        ]


@dataclass(frozen=True)
class Broken:
    """A machine on which the model cannot be opened."""

    def __call__(self) -> Callable[[Cell], Record]:
        raise ImportError("no module named 'bench'")


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head without processors and two nodes of one each."""
    pytest.importorskip("ray", reason="pip install 'gencompress[ray]'")
    from ray.cluster_utils import Cluster as Nodes

    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [*sys.path[:2], str(Path(__file__).parent), *sys.path]))
    )
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes.workers = [nodes.add_node(num_cpus=1) for _ in range(2)]
    yield nodes
    nodes.shutdown()
    patch.undo()


@pytest.mark.slow
def test_every_cell_once_on_both_nodes(two_nodes: Any, tmp_path: Path) -> None:
    cells = asked("none", "int8", "int4", "finetune", seeds=4)
    found = list(measure_on_ray(cells, Fake(tmp_path), Cluster(two_nodes.address)))
    assert sorted(names(cell for cell, _ in found)) == sorted(names(cells))
    assert all(made is not None and made.method == cell.method for cell, made in found)
    assert len(list(tmp_path.iterdir())) == 2, "a process on each node, and no other"


@pytest.mark.slow
def test_a_dead_worker_costs_no_cell_and_a_cell_that_always_kills_costs_one(
    two_nodes: Any, tmp_path: Path
) -> None:
    cells = asked("none", "dies once", "dies", "int8", "int4")
    found = {
        cell.method: made for cell, made in measure_on_ray(cells, Fake(tmp_path), Cluster(two_nodes.address))
    }
    assert {method for method, made in found.items() if made is None} == {"dies"} and len(found) == 5


@pytest.mark.slow
def test_bad_input_and_a_broken_machine_end_the_run_in_one_line(two_nodes: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^no such thing$"):
        list(measure_on_ray(asked("bad", "int8"), Fake(tmp_path), Cluster(two_nodes.address)))
    with pytest.raises(Failed, match=r"^a worker on \S+ failed: ImportError: no module named 'bench'$"):
        list(measure_on_ray(asked("int8"), Broken(), Cluster(two_nodes.address)))
    with pytest.raises(BadInput, match=r"^the Ray cluster has no GPU, and each cell needs one$"):
        list(measure_on_ray(asked("int8"), Broken(), Cluster(two_nodes.address, gpu=True)))


@pytest.mark.slow
def test_a_dead_node_costs_no_cell(two_nodes: Any, tmp_path: Path) -> None:
    cells, found = asked("none", "int8", "int4", "int3", seeds=4), []
    for cell, made in measure_on_ray(cells, Fake(tmp_path), Cluster(two_nodes.address)):
        found.append((cell, made))
        if len(found) == 3:
            two_nodes.remove_node(two_nodes.workers.pop(), allow_graceful=False)
    two_nodes.workers.append(two_nodes.add_node(num_cpus=1))
    assert sorted(names(cell for cell, _ in found)) == sorted(names(cells))
    assert all(made is not None for _, made in found)


@dataclass(frozen=True)
class Trains:
    """Each cell is a training of the toy, with many checkpoints. It notes node and step."""

    folder: Path

    def __call__(self) -> Callable[[Cell], Record]:
        return self.measure

    def measure(self, cell: Cell) -> Record:
        import ray
        from toy_domain import ToyDomain  # type: ignore[import-not-found]
        from toy_training import ToyTraining, TrainableToy

        from bench.artifact.format import tensors_digest
        from bench.training import train
        from bench.training.lock import locked

        train.CHECKPOINT_EVERY_S = 0.3
        training = ToyTraining(TrainableToy(ToyDomain.models["s@0"]).network, 0, None, None)
        node = ray.get_runtime_context().get_node_id()

        def note(share: float) -> None:
            with (self.folder / "steps").open("a", encoding="utf-8") as notes:
                notes.write(f"{node} {training.step_number}\n")
            time.sleep(0.02)

        with locked(self.folder / "training", "t", wait=True):
            train.run(training, self.folder / "training", "t", before_step=note)
        made = tensors_digest(training.finished())
        return record(cell.method, cell.sample_seed).model_copy(update={"tensors_sha256": made})

    def steps(self) -> list[list[str]]:
        """[node, step] of all so far."""
        path = self.folder / "steps"
        return (
            [line.split() for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
        )


@pytest.mark.slow
def test_a_training_goes_on_where_its_dead_node_stopped(two_nodes: Any, tmp_path: Path) -> None:
    """The checkpoint is on storage that the nodes share."""
    calm, disturbed = Trains(tmp_path / "calm"), Trains(tmp_path / "disturbed")
    for one in (calm, disturbed):
        one.folder.mkdir()

    def kill_its_node() -> None:
        while len(disturbed.steps()) < 60:
            time.sleep(0.02)
        (node,) = (n for n in two_nodes.workers if n.node_id == disturbed.steps()[0][0])
        two_nodes.workers.remove(node)
        two_nodes.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill_its_node)
    ((_, first),) = measure_on_ray(asked("finetune"), calm, Cluster(two_nodes.address))
    killer.start()
    ((_, second),) = measure_on_ray(asked("finetune"), disturbed, Cluster(two_nodes.address))
    killer.join()
    two_nodes.workers.append(two_nodes.add_node(num_cpus=1))
    assert first is not None and second is not None and first.tensors_sha256 == second.tensors_sha256
    nodes = {node for node, _ in disturbed.steps()}
    repeated = len(disturbed.steps()) - len(calm.steps())
    print("steps until the node died: 60 or more; repeated:", repeated)
    assert len(nodes) == 2 and 0 <= repeated < 60, "it began again, and did not go on from its checkpoint"


def command(results: Path, *how: str) -> list[str]:
    words = [
        "--method",
        "ladder",
        "--seed",
        "0",
        "--seed",
        "1",
        "--samples",
        "200",
        "--results",
        str(results),
    ]
    return [sys.executable, "-m", "bench", "run", "--domain", "toy", *words, *how]


@pytest.mark.slow
def test_ray_gives_the_records_of_processes(
    two_nodes: Any, toy_trains_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for name, how in (("a", {"workers": 2}), ("b", {"executor": "ray", "address": two_nodes.address})):
        monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / f"cache-{name}"))
        request = Request("toy", methods=("int8", "int2"), samples=200, results=tmp_path / name)
        made.append(run(replace(request, **how), print))
    assert [comparable(r) for r in made[0]] == [comparable(r) for r in made[1]] and len(made[0]) == 3
    assert all(r.speed is None or r.speed.runtime.endswith("beside other cells") for r in made[1])


@pytest.mark.slow
def test_ray_gives_the_records_of_processes_also_when_its_driver_is_killed(
    two_nodes: Any, toy_env: dict[str, str], tmp_path: Path
) -> None:
    """Killed whenever seven more records are there, and started again. The caches are apart."""
    own = {**toy_env, "OMP_NUM_THREADS": "1"}
    apart = [{**own, "GENCOMPRESS_CACHE": str(tmp_path / name)} for name in ("cache", "cache-of-ray")]
    subprocess.run(command(tmp_path / "a", "--workers", "2"), env=apart[0], check=True, capture_output=True)
    how, kills = ("--executor", "ray", "--address", two_nodes.address), 0
    while True:
        with (tmp_path / "said").open("w", encoding="utf-8") as said:
            driver = subprocess.Popen(command(tmp_path / "b", *how), env=apart[1], stderr=said)
        before = len(whole(tmp_path / "b"))
        while driver.poll() is None and len(whole(tmp_path / "b")) < before + 7:
            time.sleep(0.05)
        if driver.poll() is not None:
            break
        driver.kill()
        driver.wait()
        kills += 1
    assert driver.returncode == 0, (tmp_path / "said").read_text(encoding="utf-8")
    print("drivers killed:", kills)
    first, second = whole(tmp_path / "a"), whole(tmp_path / "b")
    assert kills >= 2 and len(first) == len(second) == 18
    assert {r.cell: comparable(r) for r in first} == {r.cell: comparable(r) for r in second}
    assert numbers(first) == numbers(second)
    assert {r.provenance.threads for r in second} == {1}


def comparable(record: Record) -> dict[str, Any]:
    """All but the machine, its times, and the commit of the code."""
    return record.model_dump(exclude={"provenance": True, "speed": True, "cost": {"commit"}})


@pytest.mark.slow
def test_no_cluster_is_one_line(toy_env: dict[str, str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    words = command(tmp_path / "results", "--executor", "ray", "--address", "127.0.0.1:1")
    made = subprocess.run(words, env=toy_env, capture_output=True, text=True, encoding="utf-8")
    last = made.stderr.strip().splitlines()[-1]
    assert made.returncode == 2 and last.startswith("error: there is no Ray cluster at '127.0.0.1:1': ")
    assert "Traceback" not in made.stderr and whole(tmp_path / "results") == []
