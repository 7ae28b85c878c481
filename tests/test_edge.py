"""Networks in real runtimes: what leaves PyTorch computes the same, and records hold ratios of one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.cli import publishing
from bench.cli.main import main
from bench.edge import candidates as candidates_module
from bench.edge import run as run_module
from bench.edge.candidates import (
    FP32_TOLERANCE,
    Candidate,
    Subject,
    captured,
    difference,
    pairs,
    with_references,
)
from bench.edge.child import Footprint, Source, footprint
from bench.edge.repeat import NOT_MEASURED, disagreements, repeat, requests_of
from bench.edge.run import Request, run
from bench.edge.runtime import Loaded, Setup
from bench.edge.runtimes.eager import Eager
from bench.edge.timing import energy_joules, energy_missing, in_turns
from bench.errors import BadInput, Unsupported
from bench.evaluation.panel import find_evaluator
from bench.interfaces import Exportable, Generator
from bench.records.edge import EdgeRecord, faster, ratio_disagreements, read_edge, read_edge_record
from bench.records.schema import record_files
from bench.registry import METHODS, RUNTIMES, open_domain
from bench.report.edge import ANCHOR, details_section, run_table, section
from bench.report.figures import edge as pictures

DOMAINS = ("image_gan", "image_diffusion", "text", "image_tokens", "molecules")
BATCH = 3
# of the largest output. int8: a step of a layer is 1/127 of its range, and errors of layers add up
TOLERANCE = {"fp32": FP32_TOLERANCE, "bf16": 0.1, "fp16": 0.05, "int8-weights": 0.3}
TOLERANCE |= {"int8": 1.0, "int8-dynamic": 0.6, "int4-weights": 1.5}


@pytest.fixture(scope="module", params=DOMAINS)
def generator(request: pytest.FixtureRequest) -> Generator:
    domain = open_domain(request.param)
    if (reason := domain.missing()) is not None:
        pytest.skip(reason)
    return domain.open(domain.locate("xs@0"))


def candidate_of(generator: Generator, runtime: str, precision: str, folder: Path) -> Candidate:
    """Exported and loaded in this process, with what PyTorch computes beside it."""
    exportable = generator.exportable(generator.network)
    inputs, outputs = captured(exportable, BATCH)
    subject = Subject("none", exportable, Source("", "", ""), {BATCH: inputs}, {BATCH: outputs})
    candidate = Candidate(subject, runtime, precision, threads=1)
    made = RUNTIMES.load(runtime)()
    made.export(exportable, precision, folder)
    rebuild: Callable[[], Any] = lambda: generator.exportable(generator.rebuild(())).module
    candidate.loaded[BATCH] = made.load(folder, Setup(precision, exportable.shapes(BATCH), 1, rebuild))
    return candidate


def test_the_exported_network_and_sampler_draw_the_twins_of_the_generators_own(generator: Generator) -> None:
    exportable = generator.exportable(generator.network)
    with torch.no_grad():
        drawn = exportable.sample(lambda *t: candidates_module.as_tuple(exportable.module(*t)), 2, 5, 2)
    own = generator.sample(generator.network, 2, 5)
    if isinstance(own, np.ndarray):  # uint8; sums in another order may round otherwise
        assert drawn.shape == own.shape and np.abs(drawn.astype(int) - own.astype(int)).max() <= 1
    else:
        assert drawn == own


@pytest.mark.parametrize("precision", Eager.precisions)
def test_eager_agrees_with_pytorch(generator: Generator, precision: str, tmp_path: Path) -> None:
    try:
        candidate = candidate_of(generator, "eager", precision, tmp_path)
    except Unsupported as error:
        assert precision == "int8-dynamic", error
        pytest.skip(str(error))
    assert difference(candidate, BATCH) <= TOLERANCE[precision]
    assert set(candidate.loaded[BATCH].layers().values()) >= {precision.split("-")[0]}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["compile", "openvino", "onnxruntime", "executorch"])
def test_other_runtimes_agree_with_pytorch(generator: Generator, runtime: str, tmp_path: Path) -> None:
    kind = RUNTIMES.load(runtime)
    if (reason := kind.missing()) is not None:
        pytest.skip(reason)
    for precision in kind.precisions:
        folder = tmp_path / precision
        folder.mkdir()
        try:
            candidate = candidate_of(generator, runtime, precision, folder)
        except Exception as error:  # an exporter that cannot is a result, but float32 must work
            assert precision != "fp32" or runtime == "executorch", error
            continue
        assert difference(candidate, BATCH) <= TOLERANCE[precision], precision


@pytest.mark.slow
def test_a_fresh_process_measures_start_up_and_memory(tmp_path: Path) -> None:
    domain = open_domain("image_gan")
    generator = domain.open(domain.locate("xs@0"))
    (tmp_path / "files").mkdir()
    candidate = candidate_of(generator, "eager", "fp32", tmp_path / "files")
    from bench.artifact.format import save
    from bench.methods.plain import original

    save(original(generator.network), "none", tmp_path / "none.genc")
    inputs = candidate.subject.inputs[BATCH]
    np.savez(tmp_path / "inputs.npz", latents=inputs[0])
    setup = Setup("fp32", candidate.subject.exportable.shapes(BATCH), 1, torch.nn.Module)
    source = Source("image_gan", "xs@0", str(tmp_path / "none.genc"))
    found = footprint("eager", tmp_path / "files", tmp_path / "inputs.npz", setup, source)
    assert found.startup_seconds > 0 and found.peak_bytes > found.bare_bytes > 10 * 2**20
    with pytest.raises(Unsupported, match="a fresh process failed"):
        footprint("eager", tmp_path / "none", tmp_path / "inputs.npz", setup, source)


# ------------------------------------------------------------------------------------------------ bad input


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["edge", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ") and "\n" not in said
    return said


def test_unknown_names_are_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "--domain", "toy", "--runtime", "tflite")
    assert "'tflite'" in said and "compile, eager" in said
    said = refused(capsys, "--domain", "toy", "--precision", "fp8")
    assert "'fp8'" in said and "int8-weights" in said
    said = refused(capsys, "--domain", "toy", "--runtime", "eager", "--precision", "int4-weights")
    assert "eager fp32, bf16, int8-dynamic" in said


class Absent(Eager):
    """A runtime whose package is not installed."""

    name = "absent"
    packages = ("no-such-package",)


class Shrunk(Eager):
    """A whole plug-in: outputs a tenth too small, which float32 must not be."""

    name = "shrunk"
    description = "a toy"
    precisions = ("fp32", "short")

    def export(self, exportable: Exportable, precision: str, folder: Path) -> None:
        super().export(exportable, "fp32", folder)

    def load(self, folder: Path, setup: Setup) -> Loaded:
        loaded = super().load(folder, Setup("fp32", setup.shapes, setup.threads, setup.rebuild))
        share = 0.9 if setup.precision == "short" else 1.0
        return Loaded(lambda *arrays: [share * one for one in loaded.call(*arrays)], loaded.layers)


@pytest.fixture
def plug_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = {**RUNTIMES._targets, "absent": f"{__name__}:Absent", "shrunk": f"{__name__}:Shrunk"}
    monkeypatch.setitem(RUNTIMES.__dict__, "_targets", targets)


def test_a_missing_runtime_says_which_extra_to_install(
    plug_ins: None, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "--domain", "toy", "--runtime", "absent")
    assert "needs no-such-package, which is not installed: pip install -e '.[edge]'" in said
    heard: list[str] = []
    names = {name for name, _ in pairs((), ("fp32",), heard.append)}
    assert {"eager", "compile", "shrunk"} <= names and "absent" not in names
    assert any(line.startswith("runtime absent is left out") for line in heard)
    assert main(["list", "runtimes"]) == 0
    assert "(needs no-such-package" in capsys.readouterr().out


def test_a_domain_that_says_no_way_to_export_is_refused(
    toy_trains_once: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "--domain", "toy", "--runtime", "eager", "--results", str(tmp_path))
    assert "says no way to export its network" in said
    assert not (tmp_path / "edge").exists()


# ------------------------------------------------------------------------------------------------ a whole run


@pytest.fixture
def exportable_toy(monkeypatch: pytest.MonkeyPatch, toy_trains_once: None) -> Iterator[list[str]]:
    """The toy with the one more method, and without child processes, which would not know it."""
    generator = open_domain("toy").open(open_domain("toy").models["s@0"])

    def exportable(self: Any, network: torch.nn.Module) -> Exportable:
        def sample(call: Any, n: int, seed: int, batch: int) -> np.ndarray:
            noise = np.random.default_rng(seed).standard_normal((n, 2)).astype("f4")
            parts = [call(torch.from_numpy(noise[i : i + batch]))[0] for i in range(0, n, batch)]
            return torch.cat(parts).detach().numpy()

        inputs, axes = {"noise": torch.zeros(2, 2)}, {"noise": {0: "batch"}}
        return Exportable(network, inputs, axes, {"batch": 512}, sample, lambda seed: iter(()))

    started: list[str] = []

    def fake(runtime: str, *others: Any) -> Footprint:
        started.append(runtime)
        return Footprint(1.0, 3, 2)

    monkeypatch.setattr(type(generator), "exportable", exportable)
    monkeypatch.setattr(candidates_module, "footprint", fake)
    yield started


def request(results: Path, *methods: str) -> Request:
    return Request(
        "toy",
        methods=methods or ("none",),
        runtimes=("eager", "shrunk"),
        precisions=("fp32", "short"),
        batches=(1, 4),
        rounds=3,
        samples=60,
        results=results,
    )


def test_a_run_measures_a_plug_in_and_resumes(
    plug_ins: None, exportable_toy: list[str], tmp_path: Path
) -> None:
    records = run(request(tmp_path, "none", "magnitude"), print)
    by_name = {(r.method, r.runtime, r.precision): r for r in records}
    assert len(by_name) == 6 and {r.status for r in records} <= {"ok", "collapsed"}
    assert {r.run for r in records} == {records[0].run}
    plain = by_name["none", "eager", "fp32"]
    assert plain.metrics["quality_retention"] == 1.0 and plain.difference == 0.0
    assert plain.times[0].faster == {} and [one.batch for one in plain.times] == [1, 4]
    short = by_name["none", "shrunk", "short"]
    assert short.difference == pytest.approx(0.1, abs=1e-6)
    assert set(short.times[1].faster) == {"eager fp32", "same runtime fp32"}
    pruned = by_name["magnitude", "shrunk", "short"]
    assert "same runtime uncompressed" in pruned.times[0].faster
    exportable_toy.clear()
    assert run(request(tmp_path, "none", "magnitude"), print) == records and exportable_toy == []
    again = run(request(tmp_path, "none", "2:4"), print)  # the references are timed, and not written again
    assert {r.run for r in again if r.method == "none"} == {records[0].run}
    assert len(read_edge(tmp_path)) == 9


def test_another_version_of_a_runtime_is_measured_again(
    plug_ins: None, exportable_toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Request("toy", runtimes=("shrunk",), batches=(1,), rounds=1, samples=60, results=tmp_path)
    before = run(wanted, print)
    assert run(wanted, print) == before
    monkeypatch.setattr(RUNTIMES.load("shrunk"), "version", 2)
    assert not {r.key for r in run(wanted, print)} & {r.key for r in before}


@pytest.mark.parametrize("part", ["evaluator", "domain", "floor"])
def test_another_version_of_what_gives_scores_is_measured_again(
    part: str, plug_ins: None, exportable_toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Request("toy", batches=(1,), rounds=1, samples=60, results=tmp_path)
    before = run(wanted, print)
    domain = open_domain("toy")
    kinds = {"evaluator": type(find_evaluator(domain, "position")), "domain": type(domain)}
    kind: Any = kinds.get(part) or METHODS.load("permute")
    monkeypatch.setattr(kind, "version", kind.version + 1)
    assert not {r.key for r in run(wanted, print)} & {r.key for r in before}


def test_float32_that_computes_something_else_is_unsupported(
    plug_ins: None, exportable_toy: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates_module, "FP32_TOLERANCE", -1.0)
    records = run(request(tmp_path), print)
    refused_ones = {r.precision: r for r in records if r.runtime == "shrunk"}
    assert refused_ones["fp32"].status == "unsupported" and refused_ones["short"].status != "unsupported"
    assert "float32 differs from PyTorch" in str(refused_ones["fp32"].reason)


def test_references_are_eager_the_runtimes_float32_and_the_dense_network(plug_ins: None) -> None:
    found = with_references([("magnitude", "shrunk", "short")])
    assert found == [
        ("none", "eager", "fp32"),
        ("magnitude", "shrunk", "fp32"),
        ("none", "shrunk", "short"),
        ("magnitude", "shrunk", "short"),
    ]


# ----------------------------------------------------------------------------------------------------- timing


def test_candidates_are_timed_in_turns_and_take_turns_in_being_first() -> None:
    order = list(in_turns(["a", "b", "c"], 3))
    assert [name for _, name in order] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert [number for number, _ in order] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_ratio_is_of_paired_rounds_so_that_drift_cancels() -> None:
    drift = [1.0, 1.0, 5.0, 5.0, 5.0]
    assert faster([2 * d for d in drift], drift) == 2.0


def test_energy_is_read_where_it_can_be_and_else_the_reason_is_told(tmp_path: Path) -> None:
    assert energy_joules(tmp_path) is None and "does not offer RAPL" in str(energy_missing(tmp_path))
    for name, joules in {
        "intel-rapl:0": 3_000_000,
        "intel-rapl:0:0": 9_000_000,
        "intel-rapl:1": 500_000,
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(joules), encoding="utf-8")
    assert energy_joules(tmp_path) == 3.5 and energy_missing(tmp_path) is None


# ---------------------------------------------------------------------------------------------------- records


@pytest.fixture
def records(plug_ins: None, exportable_toy: list[str], tmp_path: Path) -> list[EdgeRecord]:
    return run(request(tmp_path, "none", "magnitude"), print)


def test_records_are_checked_and_no_other_reader_sees_them(records: list[EdgeRecord], tmp_path: Path) -> None:
    path = records[0].path(tmp_path)
    assert path.is_relative_to(tmp_path / "edge" / "toy" / "s@0" / "none")
    assert read_edge_record(path) == records[0] and record_files(tmp_path) == []
    content = json.loads(path.read_text(encoding="utf-8"))
    for broken in (
        {**content, "times": content["times"][:1]},
        {**content, "status": "unsupported"},
        {**content, "more": 1},
        {**content, "schema_version": 2},
    ):
        path.write_text(json.dumps(broken), encoding="utf-8")
        with pytest.raises(ValueError):
            read_edge_record(path)
    heard: list[str] = []
    assert records[0].key not in {r.key for r in read_edge(tmp_path, heard.append)} and len(heard) == 1


def test_ratios_are_compared_and_times_are_not(records: list[EdgeRecord]) -> None:
    published = next(r for r in records if r.runtime == "shrunk")

    def changed(seconds: float, ratio: float) -> EdgeRecord:
        times = []
        for one in published.times:
            faster_now = {to: value * ratio for to, value in one.faster.items()}
            slower = one.seconds_per_sample * seconds
            times.append(one.model_copy(update={"seconds_per_sample": slower, "faster": faster_now}))
        return published.model_copy(update={"times": times})

    assert ratio_disagreements(changed(10.0, 1.0), published) == []
    assert ratio_disagreements(changed(1.0, 1.4), published) == []
    assert "batch 1" in ratio_disagreements(changed(1.0, 2.0), published)[0]
    assert ratio_disagreements(changed(1.0, 0.5), published)
    other = published.model_copy(update={"precision": "int8"})
    assert ratio_disagreements(other, published) == ["they measure different candidates"]


def test_published_runs_are_measured_again_and_only_ratios_count(
    records: list[EdgeRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(publishing, "PUBLISHED", tmp_path)
    absent = records[0].model_copy(update={"runtime": "absent", "key": "0" * 64})
    heard: list[str] = []
    (one,) = requests_of([absent, *records], tmp_path / "again", "x", heard.append)
    assert (one.methods, one.runtimes, one.batches) == (("none", "magnitude"), ("eager", "shrunk"), (1, 4))
    assert len(heard) == 1 and heard[0].startswith("runtime absent is left out")
    again = repeat(records, tmp_path / "again", "x", print)
    assert [r.key for r in again] == [r.key for r in records] and again[0].run != records[0].run
    slow = next(r for r in records if r.times[0].faster)
    times = [t.model_copy(update={"faster": {to: 1e6 for to in t.faster}}) for t in slow.times]
    slow.model_copy(update={"times": times}).write(tmp_path)
    assert main(["reproduce", "--edge", "--results", str(tmp_path / "again")]) == 1
    said = capsys.readouterr().err
    assert f"error: toy s@0 {slow.method} {slow.runtime} {slow.precision}: batch 1: 1000000.00x" in said
    assert main(["reproduce", "--edge", "--check"]) == 2


def test_a_published_candidate_that_was_not_measured_again_disagrees(records: list[EdgeRecord]) -> None:
    assert disagreements(records, records) == []
    assert disagreements(records, records[1:]) == [(records[0], [NOT_MEASURED])]


# ----------------------------------------------------------------------------------------------------- report


def test_the_report_has_a_section_only_where_there_are_records(records: list[EdgeRecord]) -> None:
    assert section([], "d.md") == details_section([]) == [] and pictures.panels_of([]) == []
    text = "\n".join(details_section(records))
    assert "## What does it cost in real runtimes?" in text and "toy s@0" in text
    assert "same runtime and precision" in text and "`magnitude" in text
    refused = records[0].model_copy(update={"status": "unsupported", "reason": "a <b> reason", "times": []})
    assert "- toy s@0, eager fp32: unsupported. a &lt;b&gt; reason" in "\n".join(details_section([refused]))
    assert "shrunk" in run_table(records)
    short = "\n".join(section(records, "d.md"))
    assert f"(d.md#{ANCHOR})" in short and "|" not in short
    fastest = text.partition("All precisions")[0]
    assert fastest.count("| toy s@0") == 1, "one row for each runtime but eager"
    assert pictures.picture(pictures.panels_of(records)).startswith(b"\x89PNG")


def test_the_finding_says_whether_stored_bits_are_speed(records: list[EdgeRecord]) -> None:
    whole = next(r for r in records if (r.runtime, r.precision, r.method) == ("shrunk", "fp32", "none"))
    short = next(r for r in records if (r.precision, r.method) == ("short", "none"))

    def with_speed(ratio: float) -> str:
        last = short.times[-1].model_copy(update={"faster": {"same runtime fp32": ratio}})
        small = {"file_bytes": int(whole.file_bytes or 0) // 4, "times": [short.times[0], last]}
        return "\n".join(section([whole, short.model_copy(update=small)], "d.md"))

    assert (
        " of float32, 0 run at least 1.2 times"
        in with_speed(1.0).split("**Smaller files are rarely faster**: of 1 files")[1]
    )
    assert (
        " of float32, 1 run at least 1.2 times"
        in with_speed(2.0).split("**Fewer stored bits are more speed**: of 1 files")[1]
    )
    assert "Of these, 1 keep 0.95 of both roles." in with_speed(2.0)
    short = short.model_copy(update={"metrics": {**short.metrics, "quality_retention": 0.9}})
    assert "Of these, 0 keep 0.95 of both roles." in with_speed(2.0)


def test_zeros_and_fewer_weights_are_told_apart(records: list[EdgeRecord]) -> None:
    dense = next(r for r in records if (r.runtime, r.precision, r.method) == ("shrunk", "fp32", "none"))
    pruned = next(r for r in records if (r.runtime, r.precision) == ("shrunk", "fp32") and r.method != "none")

    def with_bytes(share: float) -> str:
        last = pruned.times[-1].model_copy(update={"faster": {"same runtime uncompressed": 1.7}})
        size = {"file_bytes": int(share * (dense.file_bytes or 0)), "times": [pruned.times[0], last]}
        return "\n".join(section([dense, pruned.model_copy(update=size)], "d.md"))

    assert "**Zeros can speed a network up**: the largest gain is 1.70x" in with_bytes(1.0)
    assert "**Removing channels brings speed**: the largest gain is 1.70x" in with_bytes(0.6)
    assert "Zeros" not in with_bytes(0.6)


def test_bad_input_of_a_run_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        run_module.run(Request("toy", methods=("int99",), runtimes=("eager",), results=tmp_path / "r"), print)
    assert not (tmp_path / "r").exists()
