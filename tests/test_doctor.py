"""`bench doctor` on the toy: what it says of tensors, sizes, headroom and time."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from toy_domain import ToyDomain  # type: ignore[import-not-found]

from bench.cli.main import main
from bench.errors import BadInput
from bench.methods.notation import LADDER
from bench.runner.compress import compress_model
from bench.runner.doctor import Headroom, as_text, diagnose, remarks_of
from bench.runner.sweep import Request, run

pytestmark = pytest.mark.usefixtures("toy_trains_once")
SPEC = ToyDomain.models["s@0"]


def test_tensors_sizes_headroom_and_time_of_a_model(tmp_path: Path) -> None:
    found = diagnose(ToyDomain(), dataclasses.replace(SPEC, excluded={"4.weight": "it is the last one"}))
    assert found.parameters == sum(row.numbers for row in found.tensors) == 2594
    weights = "ladder, fp16, lowrank, magnitude, nm, random, permute"
    kinds = {(row.names, row.count, row.layer) for row in found.tensors}
    assert kinds == {("*.weight", 2, "Linear"), ("*.weight", 1, "Linear"), ("*.bias", 3, "other")}
    assert {row.fate for row in found.tensors} == {
        weights,
        "none: it is the last one",
        "ladder, fp16, lowrank",
    }
    plain = diagnose(ToyDomain(), SPEC)
    compress_model(ToyDomain(), SPEC, "int4", tmp_path / "file", 0, "cpu")
    sizes = {rung.method: rung.stored_bytes for rung in plain.rungs}
    assert tuple(sizes) == LADDER and sizes["int4"] == (tmp_path / "file").stat().st_size
    quality, diversity = plain.headroom
    assert quality.floor < quality.model <= quality.ceiling * 1.1 and diversity.floor < diversity.model
    assert plain.remarks == () and set(plain.seconds) >= {"load the model", "compress", "sample", "evaluate"}
    assert plain.seconds["sample"] > 0 and "int4" in as_text(plain)


def test_the_full_ladder_is_as_small_as_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    real = ToyDomain.reference
    monkeypatch.setattr(ToyDomain, "reference", lambda self, *split: real(self, *split)[:300])
    found = diagnose(ToyDomain(), SPEC)
    assert found.samples == 300 and "one seed, 300 samples" in as_text(found)


def test_a_run_takes_no_more_samples_than_there_are_real_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = ToyDomain.reference
    monkeypatch.setattr(ToyDomain, "reference", lambda self, *split: real(self, *split)[:120])
    request = Request("toy", results=tmp_path)
    assert {record.samples for record in run(request, lambda line: None)} == {120}
    with pytest.raises(
        BadInput, match=r"samples=121 is not possible: .* to 120 .*; for example --samples 120"
    ):
        run(dataclasses.replace(request, samples=121), lambda line: None)


def test_a_model_at_its_floor_is_remarked() -> None:
    low, high = Headroom("quality", 0.31, 0.3, 0.9), Headroom("diversity", 0.8, 0.3, 0.9)
    (said,) = remarks_of([low, high])
    assert said.startswith("the quality of this model is hardly above permuted weights")


def test_a_model_that_diverges_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = ToyDomain().open(SPEC)
    with torch.no_grad():
        generator.network[4].weight.mul_(1e38)
        generator.network[4].bias.fill_(3e38)
    monkeypatch.setattr(ToyDomain, "open", staticmethod(lambda spec, device="cpu", settings=None: generator))
    found = diagnose(ToyDomain(), SPEC)
    assert found.headroom == () and "diverges: points are not finite" in found.remarks[0]
    assert "note: the model diverges" in as_text(found)


def test_the_command_prints_a_table_and_names_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--domain", "toy"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("toy s@0: 2,594 parameters, ")
    assert (
        "stored again by" in out and "headroom" in out and "A full ladder of one seed, 2,000 samples" in out
    )
    assert max(map(len, out.splitlines())) <= 110
    assert main(["doctor", "--domain", "toy", "--model", "s@9"]) == 2
    assert main(["doctor", "--domain", "toy", "--model", ""]) == 2
    unknown, empty = capsys.readouterr().err.splitlines()
    assert unknown.startswith("error: unknown model 's@9'") and "--model has the empty value" in empty
