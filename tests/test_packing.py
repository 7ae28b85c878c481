"""`bench compress`, `inspect`, `decompress`: files that a user makes and looks at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench.artifact.format import fill, open_artifact, parse, rebuild, tensors_digest
from bench.artifact.inspect import account
from bench.cli.main import main
from bench.registry import DOMAINS


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "no suffix, two words"
    assert (
        main(
            [
                "compress",
                "--domain",
                "image_gan",
                "--method",
                "magnitude:sparsity=0.9+int4",
                "--output",
                str(path),
            ]
        )
        == 0
    )
    return path


def test_the_file_is_written_under_exactly_its_name_and_holds_the_network(file: Path, tmp_path: Path):
    assert [path.name for path in file.parent.iterdir()] == ["no suffix, two words"]
    domain = DOMAINS.load("image_gan")()
    generator = domain.open(domain.models["s@0"])
    assert parse(file.read_bytes()).header.method == "magnitude:sparsity=0.9+int4"
    assert file.stat().st_size < sum(p.numel() * 4 for p in generator.network.parameters()) / 24
    assert tensors_digest(rebuild(file, generator)) != tensors_digest(generator.network)


def test_none_packs_the_plain_tensors(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, out, _ = run(capsys, "compress", "-d", "image_gan", "-M", "none", "-o", tmp_path / "x")
    domain = DOMAINS.load("image_gan")()
    generator = domain.open(domain.models["s@0"])
    assert status == 0 and "1.00x" in out
    assert tensors_digest(rebuild(tmp_path / "x", generator)) == tensors_digest(generator.network)


def test_every_byte_is_booked_once(file: Path, capsys: pytest.CaptureFixture[str]):
    status, out, _ = run(capsys, "inspect", file, "--json")
    found = json.loads(out)
    assert status == 0 and found["bytes"] == file.stat().st_size
    # each rounded to a tenth
    assert sum(found["components"].values()) == pytest.approx(found["bytes"], abs=5)
    assert found["numbers"] == sum(torch.Size(tensor["shape"]).numel() for tensor in found["tensors"])
    first = found["tensors"][0]
    assert first["shape"] == [64, 128, 4, 4] and "15 levels, a scale for each of axis 1" in first["stored_as"]
    assert 0.5 < first["bits_per_number"] < 1.2 and 2 < first["sqnr_db"] < 4


def test_what_is_inspected_can_be_read_by_a_person(file: Path, capsys: pytest.CaptureFixture[str]):
    status, out, _ = run(capsys, "inspect", file)
    assert (
        status == 0
        and "layers.0.weight" in out
        and "64x128x4x4" in out
        and "SQNR dB" in out
        and "header" in out
    )


def test_the_error_is_the_real_one(file: Path):
    domain = DOMAINS.load("image_gan")()
    network = domain.open(domain.models["s@0"]).network
    tensors = dict(open_artifact(file).tensors())
    for tensor in account(file)["tensors"][:4]:
        before, after = network.state_dict()[tensor["name"]], tensors[tensor["name"]].dequantize()
        if tensor["sqnr_db"] is not None:
            sqnr = 10 * torch.log10(before.square().sum() / (before - after).square().sum()).item()
            assert tensor["sqnr_db"] == pytest.approx(sqnr, abs=0.13)  # an eighth of a decibel


def test_decompressed_tensors_are_those_the_network_computes_with(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    status, out, _ = run(capsys, "decompress", file, "--output", tmp_path / "model.safetensors")
    assert status == 0 and "32 tensors of magnitude:sparsity=0.9+int4" in out
    domain = DOMAINS.load("image_gan")()
    generator = domain.open(domain.models["s@0"])
    network = generator.rebuild([])
    network.load_state_dict(load_file(tmp_path / "model.safetensors"))
    filled = generator.rebuild([])
    fill(filled, dict(open_artifact(file).tensors()))
    assert tensors_digest(network) == tensors_digest(filled)


@pytest.mark.parametrize("command", ["inspect", "decompress"])
def test_one_flipped_bit_ends_with_status_2(
    file: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad").write_bytes(data)
    output = ["--output", tmp_path / "out"] if command == "decompress" else []
    status, out, err = run(capsys, command, tmp_path / "bad", *output)
    assert (status, out) == (2, "") and "checksum does not match" in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


BAD = {
    "unknown domain 'txt'": ("compress", "-d", "txt", "-o", "x"),
    "unknown method 'int9'": ("compress", "-d", "image_gan", "-M", "int9", "-o", "x"),
    "unknown model": ("compress", "-d", "image_gan", "-m", "huge", "-o", "x"),
    "no running statistics": ("compress", "-d", "text", "-M", "int8+recalibrate", "-o", "x"),
    "matches no weight": ("compress", "-d", "image_gan", "-M", "int8:keep=head", "-o", "x"),
    "Missing option '--output'": ("compress", "-d", "image_gan"),
    "No such file": ("inspect", "nowhere"),
    "cannot write": ("compress", "-d", "image_gan", "-o", "/proc/nowhere/x"),
    "not an artifact": ("inspect", __file__),
    "no folder of records at 'there'": ("costs", "--results", "there"),
    "no folder of records at 'anywhere'": ("pictures", "--results", "anywhere"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_and_status_2(
    message: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, *BAD[message])
    assert status == 2 and message in err
    assert "Traceback" not in err and not list(tmp_path.iterdir())
