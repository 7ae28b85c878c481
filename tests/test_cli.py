"""What a user types and sees: exit statuses, one-line errors, JSON, resuming.

On the toy domain, so that it takes seconds.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from site_pages import data_of

from bench.cli import main as cli
from bench.records.schema import Record, read_records
from bench.registry import DOMAINS

pytestmark = pytest.mark.usefixtures("toy_trains_once")

RUN = ["run", "--domain", "toy", "--samples", "200"]
Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Invoke:
    """Run a command in an empty folder -> (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main(list(arguments))
        return status, *capsys.readouterr()

    return run


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_run_measures_writes_and_reports(invoke: Invoke, tmp_path: Path) -> None:
    status, out, err = invoke(*RUN, "--method", "int8", "--method", "int2")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["none", "int8", "int2"]
    records = read_records(tmp_path / "results" / "local")
    assert {r.method for r in records} == {"none", "int8", "int2"}
    assert "| `int8`" in (tmp_path / "results/local/leaderboard.md").read_text(encoding="utf-8")
    assert "results/local" in err


def test_run_says_what_a_model_notes_once(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.interfaces import Generator

    monkeypatch.setattr(Generator, "notes", lambda self: ["its pictures are scored as grey ones"])
    status, _, err = invoke(*RUN, "--method", "int8", "--seed", "0", "--seed", "1")
    assert status == 0 and err.count("note: its pictures are scored as grey ones\n") == 1


def test_json_holds_whole_records_and_nothing_else(invoke: Invoke) -> None:
    status, out, _ = invoke(*RUN, "--method", "int8", "--seed", "0", "--seed", "3", "--json")
    records = [Record.model_validate(record) for record in json.loads(out)]
    assert status == 0
    assert [(r.method, r.sample_seed) for r in records] == [
        ("none", 0),
        ("int8", 0),
        ("none", 3),
        ("int8", 3),
    ]
    for record in json.loads(out):
        wanted = {
            "domain",
            "model",
            "train_seed",
            "method",
            "sample_seed",
            "samples",
            "status",
            "reason",
            "metrics",
            "cost",
            "provenance",
        }
        assert wanted <= record.keys()
        assert {
            "quality_valid",
            "diversity_mutual_recall",
            "quality_retention",
            "diversity_retention",
        } <= record["metrics"].keys()
        assert {"stored_bytes", "fp32_bytes", "parameters", "bits_per_param"} <= record["cost"].keys()
        assert all(value is None or isinstance(value, float) for value in record["metrics"].values())


def test_a_finished_cell_is_not_measured_again_unless_fresh(invoke: Invoke, tmp_path: Path) -> None:
    invoke(*RUN)
    paths = {path: path.stat().st_mtime_ns for path in (tmp_path / "results/local").rglob("*.json")}
    _, _, err = invoke(*RUN)
    assert "2 finished before" in err
    assert all(path.stat().st_mtime_ns == time for path, time in paths.items())
    _, _, err = invoke(*RUN, "--fresh")
    assert "0 finished before" in err
    assert all(path.stat().st_mtime_ns > time for path, time in paths.items())
    assert {path for path in (tmp_path / "results/local").rglob("*.json")} == set(paths)


def test_a_damaged_record_is_named_kept_and_replaced_beside(invoke: Invoke, tmp_path: Path) -> None:
    invoke(*RUN)
    path = next((tmp_path / "results/local/toy/s@0/int8").glob("*.json"))
    half = path.read_bytes()[:500]
    path.write_bytes(half)
    status, _, err = invoke(*RUN)
    assert status == 0 and "skipped" in err and path.name in err
    assert path.read_bytes() == half
    assert [r.method for r in read_records(tmp_path / "results/local")] == ["int8", "none"]
    _, _, err = invoke(*RUN)
    assert "2 finished before" in err


def test_published_records_do_not_count_as_finished_but_are_compared(invoke: Invoke, tmp_path: Path) -> None:
    invoke(*RUN, "--results", "results")
    assert any(name.startswith("toy/s@0/int8/") for name in files(tmp_path / "results"))
    status, out, err = invoke(*RUN)
    assert status == 0 and "0 finished before" in err
    assert out.count("identical") == 2
    path = next((tmp_path / "results/toy/s@0/int8").glob("*.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    record["metrics"]["quality_retention"] = 0.1
    path.write_text(json.dumps(record), encoding="utf-8")
    _, out, _ = invoke(*RUN)
    assert "DIFFERS" in out


def test_published_leaderboard_leaves_out_local_records(invoke: Invoke, tmp_path: Path) -> None:
    invoke(*RUN, "--results", "results", "--method", "int4")
    invoke(*RUN, "--method", "int3")
    assert invoke("leaderboard")[0] == 0
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "`int4`" in text and "`int3`" not in text
    assert invoke("leaderboard", "--local")[0] == 0
    assert "`int3`" in (tmp_path / "results/local/leaderboard.md").read_text(encoding="utf-8")


def test_ladder_expands(invoke: Invoke) -> None:
    _, out, _ = invoke(*RUN, "--method", "ladder", "--json")
    assert [r["method"] for r in json.loads(out)] == [
        "none",
        "int8",
        "int6",
        "int5",
        "int4",
        "int3",
        "int2",
        "ternary",
        "binary",
    ]


def test_save_samples_writes_twins_that_score_reads(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke(*RUN, "--save-samples", "kept")[0] == 0
    names = files(tmp_path / "kept")
    assert names == ["toy-s-0-int8-seed0.npy", "toy-s-0-none-seed0.npy"] or names == [
        "toy-s@0-int8-seed0.npy",
        "toy-s@0-none-seed0.npy",
    ]
    _, out, _ = invoke(*RUN, "--json")
    measured = next(r for r in json.loads(out) if r["method"] == "int8")["metrics"]
    status, out, _ = invoke("score", "--domain", "toy", "--samples", f"kept/{names[0]}", "--json")
    found = json.loads(out)
    assert status == 0 and found["samples"] == 200 and found["domain"] == "toy"
    assert found["metrics"]["quality_valid"] == measured["quality_valid"]
    assert found["metrics"]["diversity_mutual_recall"] == measured["diversity_mutual_recall"]
    assert found["ceiling"].keys() == found["metrics"].keys()


BAD = {
    "unknown domain": (["run", "--domain", "tex"], ["'tex'", "did you mean 'text'", "toy"]),
    "unknown model": ([*RUN, "--model", "s@9"], ["'s@9'", "s@0"]),
    "unknown method": ([*RUN, "--method", "int99"], ["'int99'", "did you mean", "int8"]),
    "unknown setting": ([*RUN, "--method", "magnitude:sparsty=0.5"], ["'sparsty'", "sparsity"]),
    "value of a setting": ([*RUN, "--method", "magnitude:sparsity=much"], ["'much'"]),
    "sparsity of 1": ([*RUN, "--method", "magnitude:sparsity=1"], ["sparsity=1", "[0, 1)"]),
    "negative sparsity": ([*RUN, "--method", "magnitude:sparsity=-0.1"], ["sparsity=-0.1"]),
    "two quantizers": ([*RUN, "--method", "int8+int4"], ["int8", "int4"]),
    "too few samples": (["run", "--domain", "toy", "--samples", "6"], ["samples=6", "7"]),
    "too many samples": (["run", "--domain", "toy", "--samples", "2001"], ["samples=2001", "2000"]),
    "seed": ([*RUN, "--seed", "-1"], ["-1"]),
    "device": ([*RUN, "--device", "tpu"], ["'tpu'", "cpu"]),
    "results is a file": ([*RUN, "--results", "a-file/x"], ["a-file"]),
    "samples folder is a file": ([*RUN, "--save-samples", "a-file/x"], ["a-file"]),
    "metric": ([*RUN, "--metric", "no-such-folder"], ["'no-such-folder'"]),
    "score without a file": (["score", "--domain", "toy", "--samples", "nothing.npy"], ["nothing.npy"]),
    "score of nonsense": (["score", "--domain", "toy", "--samples", "a-file"], ["a-file"]),
    "leaderboard without records": (["leaderboard", "--results", "nowhere"], ["nowhere"]),
    "list what": (["list", "things"], ["things", "domains"]),
    "empty model": (["run", "--domain", "toy", "--model", ""], ["--model", "''"]),
    "empty model after =": (["run", "--domain", "toy", "--model="], ["--model", "''"]),
    "empty metric": ([*RUN, "--metric", ""], ["--metric", "''"]),
    "empty folder": ([*RUN, "--results", ""], ["--results", "''"]),
    "long model": (
        ["run", "--domain", "text", "--model", "m" * 300],
        ["mmm", "neither a folder"],
    ),
    "bounds without a folder": (["bounds", "--domain", "toy"], ["'s@0'", "--output"]),
    "compress into a device": (["compress", "--domain", "toy", "--output", "/dev/null"], ["device"]),
    "unknown option": ([*RUN, "--metod", "int8"], ["--metod"]),
    "unknown command": (["rum"], ["rum"]),
    "what to train": (["train", "--domain", "text", "--model", "q@0"], ["'q@0'", "s@0"]),
    "a path that leads to no model": (
        ["run", "--domain", "text", "--model", "./nothing-here"],
        ["./nothing-here"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_writes_nothing(case: str, invoke: Invoke, tmp_path: Path) -> None:
    arguments, named = BAD[case]
    (tmp_path / "a-file").write_text("not a folder", encoding="utf-8")
    status, out, err = invoke(*arguments)
    complaint = [line for line in err.splitlines() if line.strip()]
    assert status == 2 and out == ""
    assert len(complaint) == 1 and complaint[0].startswith("error: "), err
    assert all(name in complaint[0] for name in named), complaint[0]
    assert files(tmp_path) == ["a-file"]


def test_internal_failure_exits_1_leaves_a_record_and_is_tried_again(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.methods.quantize import Int8

    with monkeypatch.context() as patch:
        patch.setattr(Int8, "fit", lambda *_: 1 / 0)
        status, _, err = invoke(*RUN)
    record = next(r for r in read_records(tmp_path / "results/local") if r.method == "int8")
    assert status == 1 and "ZeroDivisionError" in err and "Traceback" not in err
    assert record.status == "failed" and record.reason is not None and "ZeroDivisionError" in record.reason
    status, _, err = invoke(*RUN)
    assert status == 0 and "1 finished before" in err


def test_interrupt_exits_130_and_the_next_run_goes_on(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.methods.quantize import Int8

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Int8, "fit", interrupt)
        assert invoke(*RUN)[0] == 130
    assert [r.method for r in read_records(tmp_path / "results/local")] == ["none"]
    assert "1 finished before" in invoke(*RUN)[2]


def test_somebody_elses_metric(invoke: Invoke, tmp_path: Path) -> None:
    folder = tmp_path / "mean_radius"
    folder.mkdir()
    (folder / "mean_radius.py").write_text(
        "import datasets\nimport evaluate\nimport numpy as np\n"
        "class MeanRadius(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        row = datasets.Sequence(datasets.Value('float32'))\n"
        "        features = datasets.Features({'predictions': row, 'references': row})\n"
        "        return evaluate.MetricInfo("
        "description='mean radius', citation='', inputs_description='', features=features)\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'mean_radius': float(np.linalg.norm(predictions, axis=1).mean())}\n",
        encoding="utf-8",
    )
    status, out, err = invoke(*RUN, "--metric", "mean_radius", "--json")
    assert status == 0, err
    assert all(1.5 < r["metrics"]["mean_radius"] < 2.5 for r in json.loads(out))


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["run", "--help"]])
def test_help_and_list_load_no_torch(arguments: list[str]) -> None:
    code = (
        f"import sys; from bench.cli.main import main; status = main({arguments}); print('torch' in "
        f"sys.modules, status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, encoding="utf-8"
    )
    assert done.stdout.splitlines()[-1] == "False 0", done.stderr


@pytest.mark.parametrize(("set_before", "found"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(
    set_before: dict[str, str], found: str
) -> None:
    code = (
        "import atexit, os, runpy, sys\n"
        "atexit.register(lambda: print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules))\n"
        "sys.argv = ['bench', 'list', 'domains']\n"
        "runpy.run_module('bench', run_name='__main__')"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=inherited | set_before,
        encoding="utf-8",
    )
    assert done.stdout.splitlines()[-1] == f"{found} False", done.stderr


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator's business")
@pytest.mark.parametrize(("tuned", "kept"), [({}, True), ({"MALLOC_ARENA_MAX": "2"}, False)])
def test_freed_memory_is_kept_unless_the_user_has_tuned_malloc(tuned: dict[str, str], kept: bool) -> None:
    """Page faults of blocks of 40 MB, made and freed again and again: 10,000 pages each, or none."""
    code = (
        "import resource\n"
        "from bench.util.memory import keep_freed_memory\n"
        "keep_freed_memory()\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        # the system's own threshold adapts up to 32 MB
        "blocks = lambda: [b'x' * (size << 20) for size in (40, 39)]\n"
        "blocks(); before = faults()\n"
        "for _ in range(5): blocks()\n"
        "print(faults() - before)"
    )
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("GLIBC", "MALLOC_"))
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=inherited | tuned, encoding="utf-8"
    )
    assert (int(done.stdout) < 5000) == kept, done.stdout + done.stderr


def test_no_arguments_shows_help(invoke: Invoke) -> None:
    status, out, err = invoke()
    assert "Usage" in out + err and status in (0, 2)


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("no_such_module", ""),
        ("wrecked_module", "class Other: pass"),
        ("wrecked_module", "def Thing(:"),
        ("wrecked_module", "{}['key']"),
        ("wrecked_module", "def Thing(): raise RuntimeError"),
    ],
    ids=["missing", "without it", "no Python", "fails when imported", "fails when made"],
)
def test_a_broken_plugin_is_listed_and_breaks_nobody_else(
    module: str, code: str, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from bench.registry import DOMAINS

    (tmp_path / "wrecked_module.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wrecked_module", raising=False)
    monkeypatch.setitem(DOMAINS._targets, "wrecked", f"{module}:Thing")
    status, out, _ = invoke("list", "domains")
    assert status == 0 and "broken" in next(line for line in out.splitlines() if line.startswith("wrecked"))
    assert invoke(*RUN)[0] == 0
    status, _, err = invoke("run", "--domain", "wrecked")
    assert status == 2 and "wrecked" in err and err.count("\n") == 1 and err.startswith("error: ")


def test_score_prints_the_ceiling_beside(invoke: Invoke, tmp_path: Path) -> None:
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(50, 2)).astype("f4"))
    status, out, _ = invoke("score", "--domain", "toy", "--samples", "points.npy")
    assert status == 0 and "quality_valid" in out and "other real samples" in out


def test_a_record_that_was_given_another_name_is_not_taken_for_finished(
    invoke: Invoke, tmp_path: Path
) -> None:
    invoke(*RUN)
    path = next((tmp_path / "results/local/toy/s@0/int8").glob("*.json"))
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, "sample_seed": 7}), encoding="utf-8")
    assert "1 finished before" in invoke(*RUN)[2]


def test_a_metric_may_not_take_the_benchmarks_names(invoke: Invoke, tmp_path: Path) -> None:
    folder = tmp_path / "quality_valid"
    folder.mkdir()
    (folder / "quality_valid.py").write_text(
        "import datasets\nimport evaluate\n"
        "class QualityValid(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        row = datasets.Sequence(datasets.Value('float32'))\n"
        "        features = datasets.Features({'predictions': row, 'references': row})\n"
        "        return evaluate.MetricInfo("
        "description='x', citation='', inputs_description='', features=features)\n"
        "    def _compute(self, predictions, references):\n"
        "        return {'quality_valid': 0.9}\n",
        encoding="utf-8",
    )
    status, _, err = invoke(*RUN, "--metric", "quality_valid")
    assert status == 2 and "'quality_valid'" in err


def test_permute_after_a_quantizer_is_refused_before_anything_is_measured(
    invoke: Invoke, tmp_path: Path
) -> None:
    assert invoke(*RUN, "--method", "int8+permute")[0] == 2
    assert files(tmp_path) == []


# --- secondary evaluators -----------------------------------------------------------------------------


def test_evaluate_leaves_records_alone_that_lack_no_score(invoke: Invoke, tmp_path: Path) -> None:
    invoke(*RUN, "--method", "int8")
    before = {path: (tmp_path / path).read_bytes() for path in files(tmp_path)}
    status, _, err = invoke("evaluate", "--domain", "all")
    assert (
        status == 0 and "toy s@0: 0 of 2 records lack a score" in err and "0 records have new scores" in err
    )
    assert {path: (tmp_path / path).read_bytes() for path in files(tmp_path)} == before


@pytest.mark.parametrize(("old", "new"), [("judge", "evaluate"), ("recost", "costs")])
def test_old_command_names_work_and_are_not_listed(old: str, new: str, invoke: Invoke) -> None:
    listed = invoke("--help")[1]
    assert f"\n  {new} " in listed and f"\n  {old} " not in listed
    assert invoke(old, "--help")[1].split("Options:")[1] == invoke(new, "--help")[1].split("Options:")[1]
    assert invoke(old, "--domain" if old == "judge" else "--results", "nowhere")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("evaluate", "--domain", "all"), "there is no folder of records at 'results/local'"),
        (("evaluate", "--domain", "nonsense"), "unknown domain 'nonsense'"),
        (("evaluate", "--domain", "all", "--results", "."), "there is no record of domain 'all'"),
        (("damages", "--domain", "toy", "--samples", "-5"), "-5 is not in the range x>=20"),
        (
            ("bounds", "--domain", "toy", "--model", "./mine"),
            "model './mine' does not ship with the benchmark: name a folder with --output",
        ),
        (
            ("damages", "--domain", "text", "--samples", "9999"),
            "samples=9999 is not possible: allowed are 7 (k = 5 neighbours) to 2000",
        ),
        (("damages", "--domain", "toy", "--second"), "domain 'toy' has no secondary evaluators"),
        (("damages", "--domain", "text", "--second", "--save", "."), "--save needs the primary evaluators"),
        ((*RUN, "--evaluator", "nonsense"), "unknown evaluator 'nonsense'; allowed: direction, position"),
        ((*RUN, "--evaluator", "position"), "evaluator 'position' is already a primary evaluator"),
    ],
)
def test_bad_input_about_evaluators_gets_one_line(
    arguments: tuple[str, ...], words: str, invoke: Invoke, tmp_path: Path
) -> None:
    status, out, err = invoke(*arguments)
    assert status == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1 and words in err
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["s@99999999999999999999", "s@²", "s@-1", "s@", "s"])
@pytest.mark.parametrize("domain", ["text", "image_gan", "image_diffusion"])
def test_a_training_seed_is_a_number_that_generators_take(
    domain: str, name: str, invoke: Invoke, tmp_path: Path
) -> None:
    status, out, err = invoke("train", "--domain", domain, "--model", name)
    assert (
        status == 2
        and out == ""
        and err.startswith("error: unknown model to train")
        and repr(name) in err
        and "s@0" in err
    )
    assert files(tmp_path) == []


def test_a_run_names_the_sampling_seed_of_its_twins(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def show(self: object, columns: Mapping[str, Sequence[object]], path: Path) -> Path:
        target = path.with_name(path.name + ".txt")
        blocks = [f"none | {i}\nint8 | {i}" for i in range(len(columns["none"]))]
        target.write_text("\n\n".join(blocks), encoding="utf-8")
        return target

    monkeypatch.setattr(DOMAINS.load("toy"), "show", show)
    assert invoke(*RUN, "--method", "int8", "--seed", "3")[0] == 0
    said = (tmp_path / "results/local/toy/s@0" / "twins-seed.txt").read_text(encoding="utf-8")
    assert re.fullmatch(r"3\n[0-9a-f]{16}\n", said), "the seed and the conditions"
    assert invoke("site", "--results", "results/local")[0] == 0
    (twins,) = data_of((tmp_path / "site/index.html").read_text(encoding="utf-8"))["twins"]
    assert twins["seed"] == 3 and set(twins["fates"]) == {"none", "int8"}
    assert "g" not in twins["fates"]["none"] and "r" not in twins["fates"]["none"]
