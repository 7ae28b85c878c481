"""bench.artifact: what comes back, what it costs, one file that is whole or absent."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import Rebuilder, Small, artifact_of, bits, compress, large, sealed, small
from torch import Tensor, nn

from bench.artifact.format import (
    HEAD,
    MAGIC,
    Artifact,
    decode,
    encode,
    fill,
    load,
    parse,
    rebuild,
    save,
    tensors_digest,
)
from bench.artifact.header import (
    COUNTED,
    EXACT,
    FOLDED,
    FOLDED_INTO_ZERO,
    PATTERNS,
    PLAIN_BITS,
    VERSIONS,
    Entry,
)
from bench.artifact.writer import fidelity
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Layout, StoredTensor, StructureEdit
from bench.methods.plain import plain

# --- there and back -----------------------------------------------------------------------------------

TEXTS = (
    *(
        "none",
        "fp16",
        "permute:seed=1",
        "int8",
        "int6",
        "int4",
        "int3",
        "int2",
        "ternary",
        "binary",
        "nf4",
        "binary:residual=2",
        "tcq:bits=2,states=8",
        "2:4+tcq:states=4",
        "codebook:bits=3",
        "lowrank:rank=2",
        "magnitude+lowrank:rank=2+int4",
        "lowrank:rank=2,bits=8+tcq:states=8",
    ),
    *(
        "int4:group=5",
        "int4:asym",
        "int2:asym,group=3",
        "int8:granularity=tensor",
        "nf4:group=7",
        "int8:keep=embed*|up*",
    ),
    *("ecsq:bits=1.5", "ecsq:bits=0.2", "ecsq:bits=8", "ecsq:bits=3,group=4", "magnitude+ecsq:bits=2"),
    *(
        "magnitude",
        "magnitude:sparsity=0.75",
        "magnitude+fp16",
        "2:4",
        "1:32",
        "3:5",
        "random:sparsity=0.99",
        "2:4+magnitude",
    ),
    *(
        "2:4+int2",
        "2:4+int4",
        "3:5+int4",
        "3:5+nf4",
        "1:7+binary",
        "2:4+ecsq:bits=2",
        "magnitude:sparsity=0.9+int4",
        "magnitude+int4:asym",
    ),
    *(
        "random+ternary",
        "random:sparsity=0.9+binary",
        "random+binary:residual=2",
        "int4+magnitude",
        "int2+2:4",
        "magnitude:scope=global+int8",
    ),
)


@pytest.mark.parametrize("text", TEXTS)
def test_the_network_of_the_file_is_the_one_in_memory_bit_for_bit(text: str, tmp_path: Path):
    compressed = small(text)
    assert save(compressed, text, tmp_path / "a") == (tmp_path / "a").stat().st_size
    method, structure, tensors = load(tmp_path / "a")
    assert (method, structure) == (text, []) and list(tensors) == list(compressed.tensors)
    for name, stored in compressed.tensors.items():
        back = tensors[name].dequantize()
        assert back.dtype == stored.dequantize().dtype and back.shape == stored.shape and back.is_contiguous()
        assert bits(back) == bits(stored.dequantize()), name
    network = rebuild(tmp_path / "a", Rebuilder(Small(seed=1)))
    in_memory = Small(seed=2)
    fill(in_memory, compressed.tensors)
    assert tensors_digest(network) == tensors_digest(in_memory)


@pytest.mark.parametrize("text", TEXTS)
def test_at_fixed_width_the_same_comes_back(text: str):
    compressed = small(text)
    for name, stored in decode(encode(compressed, text, entropy=False))[2].items():
        assert bits(stored.dequantize()) == bits(compressed.tensors[name].dequantize()), name


@pytest.mark.parametrize(
    "text", ["none", "int4", "magnitude+ecsq:bits=2", "2:4+int2", "random:sparsity=0.9+binary"]
)
def test_the_same_network_makes_the_same_bytes(text: str):
    assert artifact_of(text) == encode(compress(text, Small()), text)


def test_another_network_makes_other_bytes():
    assert artifact_of("int4") != encode(compress("int4", Small(seed=1)), "int4")


def test_what_was_pruned_is_known_unless_zero_is_a_level():
    for text, folded in {
        "magnitude": False,
        "random:sparsity=0.9+binary": False,
        "magnitude:sparsity=0.9+int4": True,
    }.items():
        compressed = large(text)
        back, mask = decode(encode(compressed, text))[2]["0.weight"].mask, compressed.tensors["0.weight"].mask
        assert mask is not None and (back is None) == folded
        assert back is None or torch.equal(back, mask)


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
    compressed = small("none")
    edits = (
        StructureEdit("head", "low_rank", {"rank": 3}),
        StructureEdit("", "ü", {"nested": [1.5, None, {"a": "b"}]}),
    )
    _, structure, _ = decode(encode(Compressed(compressed.network, compressed.tensors, edits), "none"))
    assert structure == list(edits)


def test_a_network_without_tensors_is_a_file_too():
    assert decode(encode(compress("int4", nn.Identity()), "int4")) == ("int4", [], {})


def test_two_codings_of_the_same_values_share_a_digest():
    rounded, copy, other = Small(), Small(seed=1), Small(seed=1)
    fill(rounded, decode(artifact_of("fp16"))[2])
    fill(copy, decode(encode(compress("none", rounded), "none"))[2])
    assert tensors_digest(rounded) == tensors_digest(copy) != tensors_digest(other)


def test_the_header_knows_how_much_each_tensor_lost():
    """In quarter decibels: int4 of a Gaussian has 18.9 dB, fewer weights a bit more; buffers of numbers
    and flags lose nothing.
    """
    assert fidelity_of("int4")["0.weight"] / 4 == pytest.approx(19.2, abs=0.5)
    assert set(fidelity_of("none").values()) == {EXACT}
    lost = {entry.name: entry.fidelity for entry in parse(artifact_of("binary")).header.entries}
    assert (
        lost["steps"] == lost["flags"] == lost["zero.weight"] == lost["nothing"] == EXACT
        and lost["embed.weight"] < 40
    )
    assert fidelity(torch.zeros(3), plain(torch.zeros(2))) == 0 and fidelity(None, plain(torch.zeros(2))) == 0


def fidelity_of(text: str) -> dict[str, int]:
    return {entry.name: entry.fidelity for entry in parse(artifact_of(text, large)).header.entries}


# --- what cannot be stored, or does not fit -----------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_by_name(value: float):
    network = Small()
    network.up.weight.data[0, 0, 0, 0] = value
    with pytest.raises(BadInput, match=r"tensor 'up.weight' holds NaN or infinity"):
        compress("int4", network)


def stored(**fields: Any) -> StoredTensor:
    """A quantized tensor, well-formed but for `fields`."""
    whole: dict[str, Any] = {
        "indices": torch.zeros(2, 3, dtype=torch.uint8),
        "codebook": ((-1.0, 1.0),),
        "scales": torch.ones(1, 2).half(),
    }
    return StoredTensor(**{"shape": (2, 3), **whole, **fields})


UNWRITABLE = {
    "empty": stored(
        shape=(0, 3), indices=torch.zeros(0, 3, dtype=torch.uint8), scales=torch.ones(1, 0).half()
    ),
    "scalar": stored(shape=(), indices=torch.zeros((), dtype=torch.uint8), scales=torch.ones(1, 1).half()),
    "a level that is NaN": stored(codebook=((-1.0, math.nan),)),
    "nine planes": stored(codebook=((-1.0, 1.0),) * 9, scales=torch.ones(9, 2).half()),
    "scales of other rows": stored(scales=torch.ones(1, 3).half()),
    "complex numbers": StoredTensor((1,), values=torch.zeros(1, dtype=torch.complex64)),
    "17 dimensions": plain(torch.zeros((1,) * 17)),
}


@pytest.mark.parametrize("what", UNWRITABLE)
def test_what_could_not_be_read_is_not_written(what: str):
    with pytest.raises(Unsupported, match="cannot be stored"):
        encode(Compressed(nn.Identity(), {"w": UNWRITABLE[what]}), "plug-in")


def test_a_name_of_two_lines_is_not_written():
    with pytest.raises(Unsupported, match="cannot be stored"):
        encode(Compressed(nn.Identity(), {"a\nb": plain(torch.zeros(1))}), "none")


def test_levels_far_from_zero_come_back():
    """Evenly spaced ones are written as where they begin; not so far away, where a reader would not
    believe it.
    """
    for first in (-70_000.5, -65_536.0, -3.0, 0.5, 65_536.0, 1e6):
        codebook = ((first, first + 1),)
        assert (
            decode(encode(Compressed(nn.Identity(), {"w": stored(codebook=codebook)}), "plug-in"))[2][
                "w"
            ].codebook
            == codebook
        )


def test_a_group_longer_than_a_channel_is_stored_as_the_channel():
    """So that nobody who reads a file has to pad a channel to whatever length a plug-in names."""
    once = small("int4").tensors["embed.weight"]
    longer = dataclasses.replace(once, layout=Layout("group", 0, 1000))
    (back,) = decode(encode(Compressed(nn.Identity(), {"w": longer}), "plug-in"))[2].values()
    assert back.layout == Layout("group", 0, 6)
    assert bits(back.dequantize()) == bits(once.dequantize())


def test_a_network_of_another_shape_is_refused_by_name_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a").write_bytes(artifact_of("int4"))
    with pytest.raises(BadInput, match=r"embed.weight is \(11, 6\), not \(11, 7\)"):
        fill(Small(width=7), decode(artifact_of("int4"))[2])
    monkeypatch.setattr(Artifact, "tensors", lambda _: pytest.fail("decoded"))
    with pytest.raises(BadInput, match=r"embed.weight is \(11, 6\), not \(11, 7\)"):
        rebuild(tmp_path / "a", Rebuilder(Small(width=7)))
    with pytest.raises(BadInput, match=r"missing \['bias', 'weight'\], not wanted \['constant.bias'"):
        rebuild(tmp_path / "a", Rebuilder(nn.Linear(6, 11)))


# --- size ---------------------------------------------------------------------------------------------

WEIGHTS, CHANNELS = 98_304, 384


def entropy_bytes(values: Tensor) -> float:
    """What the values cost if each came alone, at their own frequencies."""
    share = values.flatten().unique(return_counts=True)[1].double() / values.numel()
    return values.numel() * float(-(share * share.log2()).sum()) / 8


def entries_of(data: bytes) -> list[Entry]:
    return [entry for entry in parse(data).header.entries if entry.name.endswith("weight")]


BESIDE = CHANNELS * (2 + 2) + 250  # scales and biases as half floats; header and checksum


@pytest.mark.parametrize(
    "text", ["int8", "int5", "int4", "int3", "int2", "ternary", "binary", "ecsq:bits=1.5", "ecsq:bits=0.3"]
)
def test_gaussian_weights_cost_their_entropy_within_one_percent(text: str):
    compressed = large(text)
    bound = sum(entropy_bytes(s.indices) for s in compressed.tensors.values() if s.indices is not None)
    assert bound < len(encode(compressed, text)) < 1.01 * bound + BESIDE


def test_at_fixed_width_int4_is_an_eighth_of_fp32_and_ternary_takes_1_6_bits():
    """15 levels at 4 bits; 384 scales and biases of 2 bytes are 3 % more, the header less than 1 %."""
    int4, ternary = (len(encode(large(text), text, entropy=False)) for text in ("int4", "ternary"))
    assert 1 / 8 < int4 / len(artifact_of("none", large)) < 1.04 / 8
    assert WEIGHTS * 1.585 / 8 < ternary < WEIGHTS * 1.61 / 8 + BESIDE  # log2(3) = 1.585


def test_fp32_is_not_coded():
    assert 4 * (WEIGHTS + CHANNELS) < len(artifact_of("none", large)) < 4 * (WEIGHTS + CHANNELS) + 250


def test_half_floats_lose_what_their_exponents_have_in_common():
    assert len(artifact_of("fp16", large)) < 0.95 * 2 * (WEIGHTS + CHANNELS)


@pytest.mark.parametrize("sparsity, wanted", [(0.5, 1.0), (0.75, 0.8113), (0.9, 0.4690), (0.99, 0.0808)])
def test_a_mask_costs_its_entropy(sparsity: float, wanted: float):
    for entry in entries_of(artifact_of(f"magnitude:sparsity={sparsity}", large)):
        assert entry.mask == (PLAIN_BITS if sparsity == 0.5 else COUNTED)
        assert 8 * entry.mask_bytes / entry.count == pytest.approx(wanted, abs=0.0015)


@pytest.mark.parametrize("text, wanted", [("2:4", 0.6462), ("1:4", 0.5), ("3:5", 0.6644), ("4:8", 0.7662)])
def test_the_mask_of_a_pattern_costs_the_number_of_patterns(text: str, wanted: float):
    """log2(m over n) / m bits a weight; range-coded, since words of 8 bytes hold no whole number of
    patterns.
    """
    for entry in entries_of(artifact_of(text, large)):
        assert (entry.mask, f"{entry.n}:{entry.m}") == (PATTERNS, text)
        assert wanted - 2e-3 < 8 * entry.mask_bytes / entry.count < 1.005 * wanted + 0.01


@pytest.mark.parametrize(
    "text, masks",
    [
        (
            "magnitude:sparsity=0.9+int4",
            {FOLDED_INTO_ZERO},
        ),  # few kept weights are rounded to zero, so pruned weights need no symbol of their own
        ("magnitude:sparsity=0.9+binary", {COUNTED, FOLDED}),
        ("2:4+int2", {PATTERNS}),
        ("2:4+int4", {PATTERNS, FOLDED_INTO_ZERO}),
    ],
)
def test_a_mask_is_written_in_the_shortest_way(text: str, masks: set[int]):
    """As short as pattern or mask and kept indices told apart, at least."""
    compressed, n = large(text), WEIGHTS
    data = encode(compressed, text)
    assert {entry.mask for entry in entries_of(data)} <= masks
    kept = [
        s.indices[s.mask] for s in compressed.tensors.values() if s.indices is not None and s.mask is not None
    ]
    mask = n * math.log2(6) / 4 * 1.04 if "2:4" in text else 0.469 * n
    assert len(data) < 1.01 * (sum(map(entropy_bytes, kept)) + mask / 8) + BESIDE


@pytest.mark.parametrize(
    "text", ["int4", "ecsq:bits=1.5", "2:4+int2", "magnitude:sparsity=0.9+int4", "fp16", "binary", "none"]
)
def test_entropy_coding_is_never_longer(text: str):
    """But for a few bytes: a fidelity for each tensor."""
    compressed = large(text)
    assert len(encode(compressed, text)) <= len(encode(compressed, text, entropy=False)) + 8


# --- whole or absent ----------------------------------------------------------------------------------


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise OSError("disk on fire")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(BadInput, match=r"cannot write .*disk on fire"):
        save(small("int4"), "int4", tmp_path / "a")
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
    (tmp_path / "text").write_text("hello", encoding="utf-8")
    for name, reason in {"absent": "No such file", ".": "directory", "text": "not an artifact"}.items():
        with pytest.raises(BadInput, match=reason) as caught:
            load(tmp_path / name)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [0, 1, 9, 65_535])
def test_another_version_is_named(version: int):
    data = artifact_of("int4")
    known = ", ".join(map(str, VERSIONS))
    with pytest.raises(BadInput, match=f"artifact version {version}; this program reads versions {known}"):
        decode(sealed(b"", b"", version))
    with pytest.raises(BadInput, match=f"artifact version {version};"):
        decode(HEAD.pack(MAGIC, version, 0) + data[HEAD.size :])


def test_the_example_of_the_document_is_a_file():
    """Its bytes stand in docs/format.md; what they mean is said there, too."""
    text = (Path(__file__).parent.parent / "docs" / "format.md").read_text(encoding="utf-8")
    data = bytes.fromhex("".join(re.findall(r"^[0-9a-f]{8}: ((?:[0-9a-f]{2} ?)+)", text, re.MULTILINE)))
    method, _, tensors = decode(data)
    assert method == "ternary" and list(tensors) == ["weight", "bias"]
    assert tensors["weight"].dequantize().tolist() == [[0, 0.5, 0, -0.5], [1, 0, -1, 1]]
    assert tensors["bias"].dequantize().tolist() == [0.25, -2]
