"""Sizes and counts of a record, and records whose cost is computed again without sampling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.artifact.format import encode, save
from bench.interfaces import Compressed, Context, Domain
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.metrics.cost import cost_of, warnings_of
from bench.metrics.macs import Macs
from bench.records.cell import cells
from bench.records.schema import Cost, Record, read_record
from bench.registry import DOMAINS
from bench.runner.evaluation import Evaluation
from bench.runner.recompute_costs import recompute_costs
from bench.runner.run_cell import run_cell
from bench.runner.session import ModelSession

pytestmark = pytest.mark.usefixtures("toy_trains_once")

N = 300


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 20), nn.Linear(20, 10))


def cost(text: str, tmp_path: Path, macs: Macs | None = None, kept: dict[str, str] | None = None) -> Cost:
    compressed: Compressed = parse(text)(original(network()), Context(excluded=kept or {}))
    save(compressed, text, tmp_path / "file")
    return cost_of(compressed, text, tmp_path / "file", len(encode(original(network()), "none")), macs)


# each weight once a sample, and some attention
COUNTED = Macs({"0.weight": 800.0, "1.weight": 200.0}, other=50.0)


def test_operations_with_zero_weights_are_counted_apart(tmp_path: Path):
    found = cost("magnitude:sparsity=0.75+int4", tmp_path, COUNTED)
    assert found.macs == 1050 and found.macs_nonzero <= 0.25 * 1000 + 50
    assert found.sparsity == pytest.approx(1 - (found.macs_nonzero - 50) / 1000)
    assert found.sparsity >= 0.75  # int4 rounds a few more to zero
    assert found.bit_operations == pytest.approx((found.macs_nonzero - 50) * 4 * 32 + 50 * 32 * 32)
    dense = cost("none", tmp_path, COUNTED)
    assert (dense.macs, dense.macs_nonzero, dense.bit_operations, dense.sparsity) == (
        1050,
        1050,
        1050 * 32 * 32,
        0,
    )


@pytest.mark.parametrize("bits", [16, 8])
def test_low_rank_factors_cost_memory_and_operations(bits: int, tmp_path: Path):
    text = "lowrank:rank=2" + (",bits=8" if bits == 8 else "")
    found, alone = cost(f"{text}+int4", tmp_path, COUNTED), cost("int4", tmp_path)
    numbers = 2 * (20 + 40) + 2 * (10 + 20)  # [20, 40] and [10, 20] at rank 2
    scales = 2 * 2 * 4 if bits == 8 else 0  # float16, one for each of 2 vectors in 4 factors
    assert found.memory_bytes == alone.memory_bytes + numbers * bits // 8 + scales
    # one sample multiplies each weight once: 800 and 200 of the residuals, some of them rounded to zero
    factors = numbers * bits * 32
    assert found.bit_operations == pytest.approx(
        (found.macs_nonzero - 50 - numbers) * 4 * 32 + factors + 50 * 32 * 32, rel=0.02
    )
    assert 0.8 * 1000 < found.macs_nonzero - 50 - numbers <= 1000


def test_without_a_count_there_is_none(tmp_path: Path):
    found = cost("int4", tmp_path)
    assert found.macs is found.macs_nonzero is found.bit_operations is None


@pytest.mark.parametrize(
    "text, bits", [("none", 32), ("fp16", 16), ("int8", 8), ("int4", 4), ("ternary", 2), ("binary", 1)]
)
def test_memory_counts_whole_bits_zeros_and_scales(text: str, bits: int, tmp_path: Path):
    weights, biases, channels = 1000, 30, 30
    scales = 2 * channels if text not in ("none", "fp16") else 0
    assert (
        cost(text, tmp_path).memory_bytes
        == weights * bits // 8 + biases * (4 if text == "none" else 2) + scales
    )
    assert (
        cost(f"magnitude:sparsity=0.9+{text}", tmp_path).memory_bytes == cost(text, tmp_path).memory_bytes
        or text == "none"
    )


def test_packed_bytes_are_those_of_a_file_at_fixed_width(tmp_path: Path):
    found = cost("magnitude:sparsity=0.9+int4", tmp_path)
    assert found.stored_bytes == (tmp_path / "file").stat().st_size < found.packed_bytes
    assert found.packed_bytes >= 1000 / 8 + 100 * 4 / 8


def test_a_large_untouched_layer_is_a_warning(tmp_path: Path):
    small, large = (
        cost("int4", tmp_path, kept={name: "it is the last"}) for name in ("1.weight", "0.weight")
    )
    assert (small.untouched_bytes, large.untouched_bytes) == (800, 3200)
    assert warnings_of(cost("int4", tmp_path)) == []
    assert warnings_of(large) == ["78% of the model's bytes were left uncompressed: 0.weight"]


# --- costs again --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def domain() -> Domain:
    return DOMAINS.load("toy")()


@pytest.fixture
def measured(domain: Domain, tmp_path: Path) -> tuple[Path, Record]:
    """A record as the first schema held it: other sizes, no counts; the tensors' hash was added by hand."""
    evaluation = Evaluation(ModelSession(domain, domain.models["s@0"], N))
    cell = cells(evaluation.template, ["int4"], [0], {m: parse(m).versions for m in ("none", "int4")})[1]
    record = run_cell(cell, evaluation)
    raw = json.loads(record.model_dump_json())
    for name in ("speed", "warnings"):
        del raw[name]
    raw["schema_version"], raw["cost"] = 1, {"stored_bytes": 1}
    path = cell.folder(tmp_path) / f"{cell.hash[:16]}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path, record


def test_an_old_record_gets_todays_cost_and_nothing_else_changes(
    measured: tuple[Path, Record], tmp_path: Path
):
    path, record = measured
    with pytest.raises(ValueError, match="not a whole record"):
        read_record(path)
    lines: list[str] = []
    assert recompute_costs(tmp_path, lines.append) == 1 and not lines
    fresh = read_record(path)
    assert fresh.cost == record.cost and fresh.tensors_sha256 == record.tensors_sha256
    assert fresh.model_dump(exclude={"cost", "speed"}) == record.model_dump(exclude={"cost", "speed"})


def test_a_method_that_fails_leaves_its_record(
    measured: tuple[Path, Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, _ = measured

    def forgets(*some: object) -> None:
        raise KeyError("weights")

    monkeypatch.setattr("bench.methods.quantize.Int4.__call__", forgets)
    lines: list[str] = []
    assert recompute_costs(tmp_path, lines.append) == 0
    assert f"left {path}: method 'int4': KeyError: 'weights' (test_cost.py, line " in "\n".join(lines)


OTHER_TENSORS = "the tensors made here are not those that were measured"


@pytest.mark.parametrize("digest, why", [("0" * 64, OTHER_TENSORS), (None, "does not say which tensors")])
def test_records_of_other_tensors_are_left_and_named(
    measured: tuple[Path, Record], tmp_path: Path, digest: str | None, why: str
):
    path, _ = measured
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"tensors_sha256": digest}),
        encoding="utf-8",
    )
    before, lines = path.read_bytes(), []
    assert recompute_costs(tmp_path, lines.append) == 0
    assert why in lines[0] and path.read_bytes() == before


@pytest.mark.parametrize(
    "text", ['{"schema_version": 99}', "[" * 200_000], ids=["of a later schema", "nested"]
)
def test_what_is_no_record_of_this_or_an_older_schema_is_named_and_left(
    measured: tuple[Path, Record], tmp_path: Path, text: str
) -> None:
    path, _ = measured
    before = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(before | json.loads(text)) if text.startswith("{") else text, encoding="utf-8")
    kept, lines = path.read_bytes(), []
    assert recompute_costs(tmp_path, lines.append) == 0 and len(lines) == 1 and str(path) in lines[0]
    assert path.read_bytes() == kept
