"""bench.artifact: packing, size, one file that is whole or absent, and files that lie."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bench import artifact
from bench.artifact import HEAD, MAGIC, VERSION, decode, encode, fill, load, pack, save, tensors_digest, unpack, word
from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Edit
from bench.methods.notation import parse
from bench.methods.plain import original


class Small(nn.Module):
    """A layer of each covered kind, tied weights, a norm with statistics, buffers of integers and flags."""

    def __init__(self, seed: int = 0, width: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.expand = Conv1D(5, width)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(width, 11)
        self.head.weight = self.embed.weight
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor([2**40 + 1, -3]))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        self.register_buffer("not_stored", torch.zeros(2), persistent=False)
        noise = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            nn.init.normal_(parameter, generator=noise)


def compress(text: str, network: nn.Module) -> Compressed:
    return parse(text)(original(network), Context())


def artifact_of(text: str, network: nn.Module | None = None) -> bytes:
    return encode(compress(text, network or Small()), text)


# --- packing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", range(2, 257))
def test_a_word_holds_its_digits(levels: int):
    """And lengths around one word, at the largest digits, come back."""
    size, digits = word(levels)
    assert levels**digits <= 256**size <= 2**64
    for count in {0, 1, digits - 1, digits, digits + 1}:
        data = pack(np.full(count, levels - 1, np.uint8), levels)
        assert len(data) == -(-count // digits) * size
        assert unpack(io.BytesIO(data), count, levels).tolist() == [levels - 1] * count


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.integers(2, 256).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=90))))
def test_packing_round_trip(case: tuple[int, list[int]]):
    levels, digits = case
    payload = io.BytesIO(pack(np.array(digits, np.uint8), levels) + b"next")
    assert unpack(payload, len(digits), levels).tolist() == digits
    assert payload.read() == b"next"


# --- size ------------------------------------------------------------------------------------------------------------


def hundred_thousand() -> nn.Module:
    return nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 128))  # 98,304 weights in 384 channels, 384 biases


def test_int4_is_an_eighth_of_fp32():
    """15 levels at 4 bits; 384 scales and biases of 2 bytes are 3 % more, the header less than 1 %."""
    ratio = len(artifact_of("int4", hundred_thousand())) / len(artifact_of("none", hundred_thousand()))
    assert 1 / 8 < ratio < 1.04 / 8


def test_ternary_takes_1_6_bits():
    beside = 384 * (2 + 2) + 600  # scales and biases; header and checksum
    assert 98_304 * 1.585 / 8 < len(artifact_of("ternary", hundred_thousand())) < 98_304 * 1.61 / 8 + beside  # log2(3) = 1.585


def test_fp32_is_not_coded():
    assert 4 * (98_304 + 384) < len(artifact_of("none", hundred_thousand())) < 4 * (98_304 + 384) + 600


def test_pruned_weights_cost_one_bit():
    """magnitude:sparsity=0.75+int8: 1 bit a weight for the mask, 8 for each kept one."""
    size = len(artifact_of("magnitude:sparsity=0.75+int8", hundred_thousand()))
    assert 98_304 * 3 / 8 < size < 98_304 * 3 / 8 + 384 * 4 + 1500  # 255 levels in the header


# --- there and back --------------------------------------------------------------------------------------------------

TEXTS = ("none", "fp16", "int8", "int4", "int2", "ternary", "binary", "magnitude:sparsity=0.75", "magnitude+int4", "permute:seed=1")


@pytest.mark.parametrize("text", TEXTS)
def test_every_tensor_comes_back_exactly(text: str, tmp_path: Path):
    compressed = compress(text, Small())
    assert save(compressed, text, tmp_path / "a") == (tmp_path / "a").stat().st_size
    method, structure, tensors = load(tmp_path / "a")
    assert (method, structure) == (text, [])
    assert list(tensors) == list(compressed.tensors)
    for name, stored in compressed.tensors.items():
        assert torch.equal(tensors[name].dequantize(), stored.dequantize())
        assert (tensors[name].mask is None) == (stored.mask is None)
        assert stored.mask is None or torch.equal(tensors[name].mask, stored.mask)


def test_a_network_is_filled_tied_weights_once_buffers_unrounded():
    network = Small(seed=1)
    network.steps.zero_()
    _, _, tensors = decode(artifact_of("int4"))
    assert "embed.weight" in tensors and "head.weight" not in tensors and "not_stored" not in tensors
    fill(network, tensors)
    assert network.head.weight is network.embed.weight
    assert torch.equal(network.embed.weight, tensors["embed.weight"].dequantize())
    assert network.steps.tolist() == [2**40 + 1, -3] and network.flags.tolist() == [True, False, True]


def test_the_structure_comes_back():
    compressed = compress("none", Small())
    edits = (Edit("head", "low_rank", {"rank": 3}),)
    _, structure, _ = decode(encode(Compressed(compressed.network, compressed.tensors, edits), "none"))
    assert structure == list(edits)


def test_the_same_network_makes_the_same_bytes():
    assert artifact_of("magnitude+int4") == artifact_of("magnitude+int4")
    assert artifact_of("int4") != artifact_of("int4", Small(seed=1))


def test_two_codings_of_the_same_values_share_a_digest():
    rounded, copy, other = Small(), Small(seed=1), Small(seed=1)
    fill(rounded, decode(artifact_of("fp16"))[2])
    fill(copy, decode(artifact_of("none", rounded))[2])
    assert tensors_digest(rounded) == tensors_digest(copy) != tensors_digest(other)


def test_a_network_of_another_shape_is_refused_by_name():
    with pytest.raises(BadInput, match=r"embed.weight is \(11, 6\), not \(11, 7\)"):
        fill(Small(width=7), decode(artifact_of("int4"))[2])
    with pytest.raises(BadInput, match=r"missing \['bias', 'weight'\], not wanted \['embed.weight'"):
        fill(nn.Linear(6, 11), decode(artifact_of("int4"))[2])


# --- whole or absent -------------------------------------------------------------------------------------------------


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk on fire"):
        save(compress("int4", Small()), "int4", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_every_truncated_file_is_refused():
    data = artifact_of("magnitude+int4")
    for length in range(len(data)):
        with pytest.raises(BadInput):
            decode(data[:length])
    with pytest.raises(BadInput):
        decode(data + b"\0")


def test_every_changed_byte_is_noticed():
    data = artifact_of("magnitude+int4")
    for position in range(len(data)):
        with pytest.raises(BadInput):
            decode(data[:position] + bytes([data[position] ^ (1 << position % 8)]) + data[position + 1 :])


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "text").write_text("hello")
    for name, reason in {"absent": "No such file", ".": "directory", "text": "not an artifact"}.items():
        with pytest.raises(BadInput, match=reason) as caught:
            load(tmp_path / name)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_version_is_named():
    data = artifact_of("int4")
    with pytest.raises(BadInput, match=f"artifact version 9; this program reads version {VERSION}"):
        decode(HEAD.pack(MAGIC, 9, 0) + data[HEAD.size :])


# --- files that lie, under a valid checksum --------------------------------------------------------------------------


def forged(header: Any, payload: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    packed = zlib.compress(text, 9)
    body = HEAD.pack(MAGIC, VERSION, len(packed)) + packed + payload
    return body + hashlib.sha256(body).digest()


def header(*tensors: Any, **other: Any) -> dict[str, Any]:
    return {"method": "int4", "coding": "fixed", "structure": [], "tensors": list(tensors), **other}


def grid(shape: Any = (2,), axis: Any = 0, levels: Any = (-1, 0, 1), scales: Any = 2) -> list[Any]:
    return ["w", shape, 0, "grid", axis, levels, scales]


PAYLOAD = bytes(4 + 1)  # two scales and two ternary digits: what `grid()` needs

LIES = {
    "huge": (header(["w", [10**30], 0, "f4"]), b""),
    "huge, masked": (header(["w", [10**12], 1, "f4"]), b""),
    "huge, empty": (header(["w", [0, 10**30], 0, "f4"]), b""),
    "huge, twice": (header(["w", [2**32, 2**32], 0, "f4"]), bytes(16)),
    "negative": (header(["w", [-1], 0, "f4"]), b""),
    "negative, twice": (header(["w", [-2, -2], 0, "f4"]), bytes(16)),
    "no integer": (header(["w", [1.5], 0, "f4"]), bytes(8)),
    "no list": (header(["w", 4, 0, "f4"]), bytes(16)),
    "many dimensions": (header(["w", [10**9] * 100_000, 0, "f4"]), bytes(4)),
    "larger than the payload": (header(["w", [3], 0, "f4"]), bytes(8)),
    "smaller than the payload": (header(["w", [1], 0, "f4"]), bytes(8)),
    "unknown type": (header(["w", [1], 0, "f8"]), bytes(8)),
    "type is a list": (header(["w", [1], 0, []]), bytes(8)),
    "no levels": (header(grid(levels=[])), PAYLOAD),
    "one level": (header(grid(levels=[1])), PAYLOAD),
    "too many levels": (header(grid(levels=[*range(257)])), PAYLOAD),
    "levels are words": (header(grid(levels=["a", "b", "c"])), PAYLOAD),
    "other levels": (header(grid(levels=[*range(200)])), PAYLOAD),
    "axis outside": (header(grid(axis=1)), PAYLOAD),
    "axis negative": (header(grid(axis=-1)), PAYLOAD),
    "axis is a float": (header(grid(axis=0.0)), PAYLOAD),
    "axis of a scalar": (header(grid(shape=[], scales=1)), bytes(3)),
    "other number of scales": (header(grid(scales=3)), PAYLOAD + bytes(2)),
    "no scales": (header(grid(scales=0)), bytes(1)),
    "huge number of scales": (header(grid(scales=10**30)), PAYLOAD),
    "negative number of scales": (header(grid(scales=-1)), PAYLOAD),
    "duplicate": (header(["w", [1], 0, "f4"], ["w", [1], 0, "f4"]), bytes(8)),
    "name is a number": (header([5, [1], 0, "f4"]), bytes(4)),
    "entry too short": (header(["w", [1]]), bytes(4)),
    "entry is empty": (header([]), b""),
    "tensors missing": ({"method": "int4", "coding": "fixed", "structure": []}, b""),
    "tensors are none": (header(tensors=None), b""),
    "method missing": ({"coding": "fixed", "structure": [], "tensors": []}, b""),
    "coding unknown": (header(coding="rot13"), b""),
    "structure": (header(structure=[["path", "kind"]]), b""),
    "structure of numbers": (header(structure=[[1, 2, 3]]), b""),
    "a list": (b"[]", b""),
    "no JSON": (b"{", b""),
    "no text": (b"\xff\xfe{", b""),
    "nested": (b"[" * 1_000_000, b""),
    "bomb": (b" " * (8 * artifact.LARGEST_HEADER) + b"{}", b""),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_in_bounded_memory(lie: str):
    data = forged(*LIES[lie])
    tracemalloc.start()
    try:
        with pytest.raises(BadInput) as caught:
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * artifact.LARGEST_HEADER  # the inflated header, twice while zlib joins it, and what is parsed
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_the_forger_can_tell_the_truth():
    """So that what the lies above are refused for is the lie."""
    _, _, tensors = decode(forged(header(grid()), PAYLOAD))
    assert tensors["w"].dequantize().tolist() == [0, 0]
    assert decode(forged(header(["w", [], 0, "i8"]), bytes(8)))[2]["w"].shape == ()


def test_missing_tensors_are_refused_when_loaded():
    with pytest.raises(BadInput, match=r"missing \['bias', 'weight'\], not wanted \['w'\]"):
        fill(nn.Linear(2, 2), decode(forged(header(grid()), PAYLOAD))[2])
