"""bench.artifact: files that lie under a valid checksum, and mutations: refused in one line, in bounded
time and memory.
"""

from __future__ import annotations

import dataclasses
import math
import resource
import time
import tracemalloc
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_network import Rebuilder, artifact_of, sealed
from torch import nn

from bench.artifact.format import CHECKSUM, HEAD, coding, decode, fill, parse, rebuild
from bench.artifact.header import (
    COLUMNS,
    COUNTED,
    FOLDED,
    FOLDED_INTO_ZERO,
    LARGEST,
    LONGEST_TEXT,
    MOST_TENSORS,
    PATTERNS,
    PLAIN_BITS,
    Entry,
    Header,
    Writer,
    columns,
)
from bench.errors import BadInput
from bench.interfaces import StoredTensor, StructureEdit

# --- files that lie, under a valid checksum -----------------------------------------------------------


def opened(data: bytes) -> tuple[bytes, bytes]:
    """-> (header, inflated; streams): the inverse of `sealed`."""
    start = HEAD.size + HEAD.unpack_from(data)[2]
    return coding.inflate(data[HEAD.size : start], LARGEST), data[start:-CHECKSUM]


def number(value: int) -> bytes:
    writer = Writer()
    writer.numbers([value])
    return bytes(writer.data)


TERNARY = ((-1.0, 0.0, 1.0),)
W = Entry("w", (2,), kept=2, halves=2, body_bytes=1, fidelity=100)
STREAMS = bytes(2 * 2 + 1)  # two scales, and two digits in a byte
TRUTH = Header("int4", (), (TERNARY,), (), (W,), 4, False)


def header(*entries: Entry, **changes: Any) -> Header:
    """The true header, changed."""
    return dataclasses.replace(TRUTH, entries=entries or (W,), **changes)


def forged(header: Header, streams: bytes = STREAMS) -> bytes:
    return sealed(header.pack(), streams)


def entry(
    streams: bytes = STREAMS,
    fp16_pool_bytes: int = 4,
    tables: tuple[bytes, ...] = (),
    codebook: Any = TERNARY,
    **fields: Any,
) -> bytes:
    """A file of one tensor, changed."""
    changed = header(
        dataclasses.replace(W, **fields),
        fp16_pool_bytes=fp16_pool_bytes,
        tables=tables,
        codebooks=(codebook,),
    )
    return forged(changed, streams)


def column(streams: bytes = STREAMS, **values: int) -> bytes:
    """The true file with other numbers in its columns: those of one tensor are the header's last bytes."""
    text = TRUTH.pack()
    inflated = coding.inflate(text, LARGEST)
    first, columns = inflated[: -len(COLUMNS)], [bytes([byte]) for byte in inflated[-len(COLUMNS) :]]
    for name, value in values.items():
        columns[[c.name for c in COLUMNS].index(name)] = number(value)
    return sealed(coding.deflate(first + b"".join(columns)), streams)


def text(
    method: bytes = b"int4", structure: bytes = b"[]", rest: bytes | None = None, streams: bytes = STREAMS
) -> bytes:
    """A file whose header begins otherwise, `rest` after its texts."""
    inflated = coding.inflate(TRUTH.pack(), LARGEST)
    rest = inflated[1 + 4 + 1 + 2 :] if rest is None else rest
    return sealed(
        coding.deflate(number(len(method)) + method + number(len(structure)) + structure + rest), streams
    )


def book(raw: bytes) -> bytes:
    """A file whose one code book is these bytes."""
    inflated = coding.inflate(TRUTH.pack(), LARGEST)
    old = Writer()
    old.codebook(TERNARY)
    place = inflated.index(bytes(old.data), 8)
    return sealed(coding.deflate(inflated[:place] + raw + inflated[place + len(old.data) :]), STREAMS)


def many(
    count: int,
    codebooks: Any,
    tables: tuple[bytes, ...] = (),
    names: Callable[[int], str] = str,
    **fields: Any,
) -> bytes:
    """A file of many tensors that are no longer than its byte each."""
    each = {"shape": (1,), "kept": 1, "halves": 1, "body_bytes": 1, **fields}
    entries = tuple(Entry(names(i), **each) for i in range(count))
    return sealed(
        header(*entries, codebooks=codebooks, tables=tables, fp16_pool_bytes=2 * count).pack(),
        bytes(3 * count),
    )


F4 = {"array": "f4", "halves": 0}
MASK = {"mask": PLAIN_BITS, "mask_bytes": 1, "kept": 2, "streams": bytes(4) + b"\x03\0"}
COUNTED_MASK = {"mask": COUNTED, "mask_bytes": 8, "mask_table": 1, "streams": bytes(4 + 8 + 1)}
PATTERN = {"mask": PATTERNS, "n": 1, "m": 2, "mask_bytes": 1, "kept": 2, "streams": bytes(6)}
EVEN = tuple(float(i) for i in range(2**15))
GARBAGE = np.random.default_rng(0).integers(0, 256, 400).astype(np.uint8).tobytes()

LIES: dict[str, Callable[[], bytes]] = {
    "a name that moves the cursor": lambda: many(1, (TERNARY,), names=lambda i: "\x1b]0;owned\x07"),
    "a name that means something else": lambda: many(1, (TERNARY,), names=lambda i: "__metadata__"),
    "huge": lambda: entry(shape=(2**62,)),
    "huge, kept": lambda: entry(shape=(2**40,), kept=2**40),
    "huge, twice": lambda: entry(shape=(2**32, 2**32)),
    "huge, empty": lambda: entry(
        shape=(0, 2**62, 2**62), kept=0, **F4, body_bytes=0, fp16_pool_bytes=0, streams=b""
    ),
    "huge, empty, indexed": lambda: entry(shape=(2**62, 0), kept=0, halves=2**62, body_bytes=0),
    "huge, of half floats": lambda: entry(
        shape=(2**40,), array="f2", kept=2**40, halves=2**40, body_bytes=0, streams=bytes(4)
    ),
    "huge, one level": lambda: entry(
        shape=(2**30,), kept=2**30, codebook=((1.0,),), halves=1, granularity="tensor"
    ),
    "huge, masked": lambda: entry(**{**MASK, "shape": (2**40,)}),
    "huge, masked, of bytes": lambda: entry(
        **{**MASK, "shape": (2**40,), "array": "u1", "halves": 0, "body_bytes": 2}
    ),
    "huge, counted": lambda: entry(**{**COUNTED_MASK, "shape": (2**30,), "kept": 0, "tables": (b"\xff\0",)}),
    "huge, folded": lambda: entry(shape=(2**30,), kept=2**30, mask=FOLDED),
    "huge, coded by a table of one symbol": lambda: entry(
        shape=(2**30,), kept=2**30, table=1, tables=(b"\0\1\0",)
    ),
    "a large number": lambda: column(kept=2**63 - 1),
    "a number beyond 64 bits": lambda: column(kept=2**64 - 1),
    "a number without end": lambda: text(rest=b"\xff" * 1000),
    "17 dimensions": lambda: entry(shape=(1,) * 17),
    "a scalar of indices": lambda: entry(shape=(), kept=1, halves=1, fp16_pool_bytes=2, streams=bytes(3)),
    "an empty tensor of indices": lambda: entry(
        shape=(0, 5), kept=0, halves=0, body_bytes=0, fp16_pool_bytes=0, streams=b""
    ),
    "larger than its streams": lambda: column(STREAMS, body_bytes=2),
    "smaller than its streams": lambda: forged(TRUTH, STREAMS + b"\0"),
    "more bytes than its indices": lambda: entry(body_bytes=2, streams=bytes(6)),
    "values larger than their stream": lambda: entry(**F4, fp16_pool_bytes=0, body_bytes=4, streams=bytes(4)),
    "values smaller than their stream": lambda: entry(
        **F4, fp16_pool_bytes=0, body_bytes=12, streams=bytes(12)
    ),
    "values with scales": lambda: entry(array="f4", halves=2, body_bytes=8, streams=bytes(12)),
    "half floats with a stream": lambda: entry(array="f2"),
    "type unknown": lambda: column(array=7),
    "granularity unknown": lambda: column(granularity=3),
    "axis outside": lambda: column(axis=1),
    "axis far outside": lambda: column(axis=2**63 - 1),
    "axis of a scalar": lambda: entry(
        shape=(), axis=1, kept=1, **F4, fp16_pool_bytes=0, body_bytes=4, streams=bytes(4)
    ),
    "groups without a length": lambda: column(granularity=2),
    "groups of channels": lambda: column(group=1),
    "groups longer than a channel": lambda: column(granularity=2, group=2),
    "groups longer than any channel": lambda: column(granularity=2, group=2**40),
    "code book missing": lambda: column(codebook=1),
    "other number of scales": lambda: column(halves=1),
    "no scales": lambda: column(halves=0),
    "huge number of scales": lambda: column(halves=2**62),
    "half a scale": lambda: entry(fp16_pool_bytes=3, streams=bytes(4)),
    "fewer scales than rows": lambda: entry(fp16_pool_bytes=2, streams=bytes(3)),
    "more scales than rows": lambda: entry(fp16_pool_bytes=6, streams=bytes(7)),
    "squeezed is neither yes nor no": lambda: sealed(
        coding.deflate(coding.inflate(TRUTH.pack(), LARGEST).replace(b"[]\4\0", b"[]\4\2")), STREAMS
    ),
    "scales squeezed badly": lambda: forged(header(fp16_pool_deflated=True), b"\xff" * 5),
    "scales squeezed, too few": lambda: deflated(1),
    "scales squeezed, too many": lambda: deflated(3),
    "bomb of scales": lambda: deflated(10**7),
    "fidelity above exact": lambda: column(fidelity=256),
    "more kept than there are": lambda: column(kept=3),
    "pruned without a mask": lambda: column(kept=1),
    "mask of another kind": lambda: column(mask=6),
    "mask without bytes": lambda: column(mask=PLAIN_BITS),
    "bytes of no mask": lambda: column(STREAMS + b"\0", mask_bytes=1),
    "mask keeps fewer": lambda: entry(**{**MASK, "streams": bytes(6)}),
    "mask longer than its tensor": lambda: entry(
        **{**MASK, "mask_bytes": 2, "streams": bytes(4) + b"\3\0\0"}
    ),
    "mask of flags": lambda: entry(
        **{**MASK, "array": "b1", "halves": 0, "fp16_pool_bytes": 0, "body_bytes": 2, "streams": b"\3\0\0"}
    ),
    "mask folded into values": lambda: entry(
        **F4, mask=FOLDED, fp16_pool_bytes=0, body_bytes=8, streams=bytes(8)
    ),
    "mask counted without a table": lambda: entry(**{**COUNTED_MASK, "mask_table": 0}),
    "mask counted by a missing table": lambda: entry(**COUNTED_MASK),
    "mask counted by three symbols": lambda: entry(**COUNTED_MASK, tables=(b"\1\1\1",)),
    "mask counted by no symbols": lambda: entry(**COUNTED_MASK, tables=(b"\0\0",)),
    "mask counted from garbage": lambda: entry(
        **{**COUNTED_MASK, "streams": bytes(4) + b"\xff" * 9}, tables=(b"\1\xff",)
    ),
    "table of a mask that has none": lambda: entry(mask_table=1, tables=(b"\1\1",)),
    "pattern of none": lambda: entry(**{**PATTERN, "n": 0}),
    "pattern of all": lambda: entry(**{**PATTERN, "n": 2}),
    "pattern of 33": lambda: entry(**{**PATTERN, "m": 33}),
    "pattern of far more": lambda: entry(**{**PATTERN, "n": 2**61, "m": 2**62}),
    "pattern of a longer mask": lambda: entry(**{**PATTERN, "mask_bytes": 2, "streams": bytes(7)}),
    "pattern that keeps another number": lambda: entry(
        **{**PATTERN, "kept": 1, "shape": (1, 2), "halves": 1, "fp16_pool_bytes": 4}
    ),
    "table missing": lambda: column(table=1),
    "table far away": lambda: column(table=2**63 - 1),
    "table shorter than the code book": lambda: entry(table=1, tables=(b"\1\1",)),
    "table longer than the code book": lambda: entry(table=1, tables=(b"\1\1\1\1",)),
    "table without room for what is folded": lambda: entry(table=1, mask=FOLDED, tables=(b"\1\1\1",)),
    "table of no symbols": lambda: entry(table=1, tables=(b"\0\0\0",)),
    "table of values": lambda: entry(
        **F4, table=1, tables=(b"\1\1\1",), fp16_pool_bytes=0, body_bytes=8, streams=bytes(8)
    ),
    "indices that are garbage": lambda: entry(
        table=1, tables=(b"\1\1\xff",), body_bytes=8, streams=bytes(4) + b"\xff" * 8
    ),
    "code book empty": lambda: book(bytes([1, 0])),
    "code book of too many levels": lambda: book(b"\0" + number(2**15 + 1) + b"\0\0"),
    "code book of 2^60 levels": lambda: book(b"\1" + number(2**60)),
    "code book of nine planes": lambda: book(bytes([9, 1]) + bytes(36)),
    "code book cut short": lambda: book(bytes([8]) + number(2**15)),
    "code book far away": lambda: book(bytes([0, 3]) + number(2**62) + b"\0"),
    "code book neither positive nor negative": lambda: book(bytes([0, 3, 2, 2])),
    "code book of NaN": lambda: entry(codebook=((0.0, math.nan, 1.0),)),
    "code book of infinity": lambda: entry(codebook=((0.0, 5.0, math.inf),)),
    "many levels in many code books": lambda: many(40, ((EVEN,),) * 40, body_bytes=2),
    "many code books": lambda: text(
        rest=bytes([4, 0]) + number(20_000) + b"\0" + number(20_000) + bytes([0, 1, 0, 0]) * 20_000
    ),
    "one large code book in many tensors": lambda: many(2000, ((EVEN,),), (bytes([9]) * 2**15,), table=1),
    "many tensors": lambda: many(MOST_TENSORS + 1, (TERNARY,)),
    "more code books than tensors": lambda: header_of_counts(2, 0, 1),
    "more tables than streams": lambda: header_of_counts(1, 3, 1),
    "2^60 tensors": lambda: header_of_counts(1, 0, 2**60),
    "duplicate": lambda: many(2, (TERNARY,), names=lambda _: "w"),
    "a name for two": lambda: many(3, (TERNARY,), names=lambda i: "a\nb" if i else "c"),
    "names without tensors": lambda: text(rest=bytes([0, 0, 0, 0, 0, 1]) + b"w", streams=b""),
    "names are not text": lambda: sealed(
        coding.deflate(coding.inflate(TRUTH.pack(), LARGEST).replace(b"\1w", b"\1\xff")), STREAMS
    ),
    "method is not text": lambda: text(method=b"\xff\xfe"),
    "method of two lines": lambda: text(method=b"int4\nrm -rf"),
    "method clears the screen": lambda: text(method=b"\x1b[2J"),
    "structure missing": lambda: text(structure=b""),
    "structure is no list": lambda: text(structure=b"{}"),
    "structure of numbers": lambda: text(structure=b"[[1,2,3]]"),
    "structure of two parts": lambda: text(structure=b'[["path","kind"]]'),
    "structure is cut short": lambda: text(structure=b'[["'),
    "structure nested": lambda: text(structure=b"[" * 1_000_000),
    "structure nested, whole": lambda: text(
        structure=b'[["a","b",{"c":' + b"[" * 10**5 + b"]" * 10**5 + b"}]]"
    ),
    "structure of a huge number": lambda: text(structure=b'[["a","b",{"c":' + b"9" * 10**5 + b"}]]"),
    "structure of many lists": lambda: text(structure=b"[" + b"[]," * (LONGEST_TEXT // 3 - 1) + b"[]]"),
    "structure too long": lambda: text(structure=b"[" + b"[]," * 2_000_000 + b"[]]"),
    "bomb of a header": lambda: sealed(coding.deflate(bytes(4 * LARGEST)), b""),
    "bomb of names": lambda: text(rest=bytes([4, 0, 1, 0, 1, 0, 3, 2, 1]) + number(2**22) + b"\n" * 2**22),
    "bomb of long names": lambda: text(
        rest=bytes([4, 0, 1, 0, 1, 0, 3, 2, 1]) + number(2**22 - 1) + b"ab\n" * (2**22 // 3) + "😀".encode()
    ),
    "bomb of numbers": lambda: text(rest=b"\x80" * 8 + b"\1" * (LARGEST - 100)),
    "header is garbage": lambda: sealed(GARBAGE, STREAMS),
    "header inflates to garbage": lambda: sealed(coding.deflate(GARBAGE), STREAMS),
    "header is empty": lambda: sealed(b"", b""),
    "header inflates to nothing": lambda: sealed(coding.deflate(b""), b""),
    "header goes on": lambda: sealed(coding.deflate(coding.inflate(TRUTH.pack(), LARGEST) + b"\0"), STREAMS),
    "header goes on, deflated": lambda: sealed(TRUTH.pack() + b"\0", STREAMS),
    "header cut short": lambda: sealed(coding.deflate(coding.inflate(TRUTH.pack(), LARGEST)[:-1]), STREAMS),
    "header longer than the file": lambda: sealed(TRUTH.pack(), STREAMS, header_length=2**32 - 1),
    "header reaches into the checksum": lambda: sealed(
        TRUTH.pack(), b"", header_length=len(TRUTH.pack()) + 1
    ),
    "flags that are not": lambda: entry(
        array="b1", halves=0, fp16_pool_bytes=0, body_bytes=2, streams=b"\1\2"
    ),
}


def deflated(count: int) -> bytes:
    pool = coding.deflate_fp16(np.zeros(count, np.float16))
    return forged(header(fp16_pool_bytes=len(pool), fp16_pool_deflated=True), pool + b"\0")


def header_of_counts(codebooks: int, tables: int, tensors: int) -> bytes:
    inflated = coding.inflate(TRUTH.pack(), LARGEST)
    assert inflated[8:13] == bytes([4, 0, 1, 0, 1])
    return sealed(
        coding.deflate(inflated[:10] + number(codebooks) + number(tables) + number(tensors) + inflated[13:]),
        STREAMS,
    )


@contextmanager
def bounded(most_bytes: float, most_seconds: float = 2.0) -> Iterator[None]:
    """What Python and numpy take at most, and the processor's time."""
    tracemalloc.start()
    start = time.process_time()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most_bytes
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < most_seconds


MOST = 4 * LARGEST  # the inflated header, twice while zlib joins it, and what is made of it


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_in_one_line_and_bounded_memory(lie: str):
    data = LIES[lie]()
    with warnings.catch_warnings(action="error"), bounded(MOST, 5.0), pytest.raises(BadInput) as caught:
        decode(data)
    line = str(caught.value)
    assert (
        line.isprintable()
        and len(line) < 300
        and line.startswith(("the artifact's header", "the artifact's streams"))
    )


def test_the_forger_can_tell_the_truth():
    """So that what the lies above are refused for is the lie."""
    true = [
        forged(TRUTH),
        column(),
        text(),
        entry(),
        deflated(2),
        header_of_counts(1, 0, 1),
        book(bytes([0, 3, 2, 1])),
        many(1, (TERNARY,)),
    ]
    for data in true:
        (tensor,) = decode(data)[2].values()
        assert not tensor.dequantize().any() and tensor.codebook == TERNARY
    assert decode(entry(**MASK))[2]["w"].mask.tolist() == [True, True]
    # each channel is one weight, and a place that is not there
    assert decode(entry(**PATTERN))[2]["w"].mask.tolist() == [True, True]
    assert decode(entry(**COUNTED_MASK, tables=(b"\0\1",)))[2]["w"].mask.tolist() == [True, True]
    assert decode(entry(mask=FOLDED))[2]["w"].mask.tolist() == [True, True]
    assert decode(entry(table=1, tables=(b"\1\1\1",)))[2]["w"].indices.tolist() == [0, 0]
    assert decode(entry(**F4, fp16_pool_bytes=0, body_bytes=8, streams=bytes(8)))[2][
        "w"
    ].dequantize().tolist() == [0, 0]
    assert decode(entry(array="b1", halves=0, fp16_pool_bytes=0, body_bytes=2, streams=b"\1\0"))[2][
        "w"
    ].values.tolist() == [True, False]
    assert (
        decode(
            entry(shape=(), array="i8", kept=1, halves=0, fp16_pool_bytes=0, body_bytes=8, streams=bytes(8))
        )[2]["w"].shape
        == ()
    )
    assert decode(text(structure=b'[["a","b",{"c":[[1]]}]]'))[1] == [StructureEdit("a", "b", {"c": [[1]]})]


def test_missing_tensors_are_refused_when_loaded():
    with pytest.raises(BadInput, match=r"missing \['bias', 'weight'\], not wanted \['w'\]"):
        fill(nn.Linear(2, 2), decode(forged(TRUTH))[2])


def test_long_names_are_not_repeated_at_length(tmp_path: Path):
    (tmp_path / "a").write_bytes(many(3, (TERNARY,), names=lambda i: f"{i}" * 100_000))
    with pytest.raises(BadInput, match="not wanted") as caught:
        rebuild(tmp_path / "a", Rebuilder(nn.Linear(2, 2)))
    assert len(str(caught.value)) < 400


# --- as large as a small file can make its tensors ----------------------------------------------------

B = 20_000  # bytes of the stream that is to become large
N = coding.SYMBOLS_PER_BYTE * B

LARGE: dict[str, Callable[[], bytes]] = {
    "one level": lambda: entry(
        bytes(2 + B), 2, codebook=((1.0,),), shape=(N,), kept=N, halves=1, granularity="tensor", body_bytes=B
    ),
    "one symbol": lambda: of_table(b"\0\1\0", TERNARY),
    "one frequent symbol": lambda: of_table(b"\xff\1\1", TERNARY),
    "one symbol, folded": lambda: of_table(b"\0\1\0\1", TERNARY, mask=FOLDED),
    "300 levels": lambda: of_table(b"\xff" + b"\1" * 299, (tuple(map(float, range(300))),)),
    "another axis": lambda: of_table(b"\xff\1\1", TERNARY, shape=(2, N // 2), axis=1),
    "nothing kept": lambda: nothing_kept("f4", (N,), 0),
    "nothing kept, another axis": lambda: nothing_kept("f4", (2, N // 2), 1),
    "patterns of channels of one": lambda: of_patterns(),
    "range-coded patterns of channels of one": lambda: of_coded_patterns(),
    "scales that are all alike": lambda: scales_alike(10**7),
}


def of_table(table: bytes, codebook: Any, **fields: Any) -> bytes:
    shape = {
        "shape": (N,),
        "kept": N,
        "granularity": "tensor",
        "halves": 1,
        "table": 1,
        "body_bytes": B,
        **fields,
    }
    return entry(bytes(2 + B), 2, (table,), codebook, **shape)


def nothing_kept(array: str, shape: tuple[int, ...], axis: int) -> bytes:
    mask = {"mask": COUNTED, "mask_table": 1, "mask_bytes": B, "kept": 0}
    return entry(bytes(B), 0, (b"\1\0",), shape=shape, axis=axis, array=array, halves=0, body_bytes=0, **mask)


def of_patterns() -> bytes:
    groups = coding.word(32)[1] * (B // coding.word(32)[0])
    body = -(-groups // 256)
    # number 0: the first of each group
    mask = {"mask": PATTERNS, "n": 1, "m": 32, "mask_bytes": B, "kept": groups}
    scale = {"codebook": ((1.0,),), "granularity": "tensor", "halves": 1}
    return entry(bytes(2 + B + body), 2, shape=(groups,), body_bytes=body, **scale, **mask)


def of_coded_patterns() -> bytes:
    mask = {"mask": PATTERNS, "n": 1, "m": 32, "mask_bytes": B, "mask_table": 1, "kept": N}
    scale = {"codebook": ((1.0,),), "granularity": "tensor", "halves": 1}
    table = b"\xff" + b"\1" * 31  # number 0, the first of each group, is by far the most frequent
    return entry(bytes(2 + 2 * B), 2, (table,), shape=(N,), body_bytes=B, **scale, **mask)


def scales_alike(count: int) -> bytes:
    pool = coding.deflate_fp16(np.zeros(count, np.float16))
    streams = pool + bytes(-(-count // 256))
    fields = {"shape": (count,), "kept": count, "halves": count, "body_bytes": -(-count // 256)}
    return forged(
        header(
            dataclasses.replace(W, **fields),
            codebooks=(((1.0,),),),
            fp16_pool_bytes=len(pool),
            fp16_pool_deflated=True,
        ),
        streams,
    )


def memory_of(tensors: dict[str, StoredTensor]) -> int:
    parts = [
        part for s in tensors.values() for part in (s.values, s.indices, s.scales, s.mask) if part is not None
    ]
    return sum(part.numel() * part.element_size() for part in parts)


@pytest.mark.parametrize("what", LARGE)
def test_tensors_are_in_proportion_to_their_file(what: str):
    """At most 256 symbols or 516 half floats a byte; and 2.5 KB a byte while they are decoded."""
    data = LARGE[what]()
    tensors: dict[str, StoredTensor] = {}
    with warnings.catch_warnings(action="error"), bounded(2500 * len(data) + 2**20, 20.0):
        tensors.update(decode(data)[2])
    assert memory_of(tensors) <= 1300 * len(data)
    if tensors["w"].indices is not None:
        assert int(tensors["w"].indices.max()) < tensors["w"].levels


WAYS: tuple[dict[str, Any], ...] = (
    *(
        {},
        {"table": 1},
        {"mask": FOLDED},
        {"mask": FOLDED, "table": 1},
        {"mask": FOLDED_INTO_ZERO},
        {"mask": FOLDED_INTO_ZERO, "table": 1},
    ),
)


def test_indices_stay_inside_of_the_code_book_whatever_the_bytes():
    """`dequantize` looks levels up: an index beyond them would be read from elsewhere."""
    rng = np.random.default_rng(0)
    for levels in (1, 2, 3, 6, 15, 255, 256, 257, 1000, 2**15):
        codebook = (tuple(map(float, range(levels))),)
        for fields in WAYS:
            alphabet = levels + (fields.get("mask") == FOLDED)
            table = rng.integers(1, 256, alphabet).astype(np.uint8).tobytes()
            length = 1000 if "table" in fields else coding.packed_length(500, alphabet)
            body = rng.integers(0, 256, length).astype(np.uint8).tobytes()
            fields = {
                "shape": (500,),
                "kept": 500,
                "halves": 1,
                "granularity": "tensor",
                "body_bytes": length,
                **fields,
            }
            data = entry(bytes(2) + body, 2, (table,), codebook, **fields)
            try:
                tensor = decode(data)[2]["w"]
            except BadInput as error:
                assert "table" in fields and "invalid for the employed entropy model" in str(error)
                continue
            assert (
                tensor.indices is not None
                and int(tensor.indices.min()) >= 0
                and int(tensor.indices.max()) < levels
            )
            assert tensor.dequantize().shape == (500,)


def test_a_number_beyond_the_last_pattern_is_read_as_one_of_them():
    """A byte holds three numbers below 6; 255 is more than 6^3."""
    for byte in range(256):
        data = entry(
            bytes([byte]) + bytes(16),
            0,
            shape=(3, 4),
            mask=PATTERNS,
            n=2,
            m=4,
            mask_bytes=1,
            kept=6,
            array="f4",
            halves=0,
            body_bytes=24,
        )
        data = entry(
            bytes([byte]) + bytes(24),
            0,
            shape=(3, 4),
            mask=PATTERNS,
            n=2,
            m=4,
            mask_bytes=1,
            kept=6,
            array="f4",
            halves=0,
            body_bytes=24,
        )
        mask = decode(data)[2]["w"].mask
        assert mask is not None and mask.sum(1).tolist() == [2, 2, 2]


# --- mutations ----------------------------------------------------------------------------------------

BASES = (
    "none",
    "fp16",
    "int4",
    "int4:asym,group=3",
    "magnitude:sparsity=0.9+int4",
    "2:4+int2",
    "random:sparsity=0.9+binary",
    "ecsq:bits=1.5",
    "tcq:bits=1.5,states=8",
    "magnitude+lowrank:rank=2,bits=8+codebook:bits=2",
)
NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 2**14, 2**15, 2**20, 2**31, 2**32, 2**40, 2**62, 2**63 - 1)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One of: bits flipped, a run of bytes replaced, the end or a part cut off, bytes or a number
    inserted.
    """

    def between(low: int, high: int) -> int:
        return int(rng.integers(low, max(high, low + 1)))

    changed, place = bytearray(data), between(0, len(data))
    match between(0, 6):
        case 0:
            for _ in range(between(1, 5)):
                if changed:
                    changed[between(0, len(changed))] ^= 1 << between(0, 8)
        case 1:
            run = min(between(1, 30), len(data) - place)
            changed[place : place + run] = (
                rng.integers(0, 256, run).astype(np.uint8).tobytes() if between(0, 2) else b"\xff" * run
            )
        case 2:
            del changed[place:]
        case 3:
            del changed[place : place + between(1, 20)]
        case 4:
            changed[place:place] = rng.integers(0, 256, between(1, 20)).astype(np.uint8).tobytes()
        case _:
            changed[place : place + 1] = number(NUMBERS[between(0, len(NUMBERS))])
    return bytes(changed)


def mutant(data: bytes, rng: np.random.Generator) -> bytes:
    """In a quarter anything; else header, streams or entries, under a checksum that was made good again."""
    (inflated, streams), kind = opened(data), int(rng.integers(0, 12))
    version = HEAD.unpack_from(data)[1]
    if kind < 3:
        return mutated(data, rng)
    if kind < 4:
        return sealed(mutated(coding.deflate(inflated), rng), streams, version)
    if kind < 6:
        return sealed(coding.deflate(mutated(inflated, rng)), streams, version)
    if kind < 7:
        return sealed(coding.deflate(inflated), mutated(streams, rng), version)
    return (
        sealed(coding.deflate(inflated), streams_replaced(streams, rng), version)
        if kind < 9
        else entry_changed(data, rng)
    )


def streams_replaced(streams: bytes, rng: np.random.Generator) -> bytes:
    """Of the same length, so that the coders have to cope."""
    place = int(rng.integers(0, len(streams)))
    run = min(int(rng.integers(1, 200)), len(streams) - place)
    return streams[:place] + rng.integers(0, 256, run).astype(np.uint8).tobytes() + streams[place + run :]


def entry_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """One or two fields of a tensor, or its shape, become what another tensor has, a neighbouring number,
    or a large one.
    """
    header, streams = parse(data).header, opened(data)[1]
    entries, place = list(header.entries), int(rng.integers(0, len(header.entries)))
    for field in rng.choice(
        ["shape", *(column.name for column in columns(header.version))],
        int(rng.integers(1, 3)),
        replace=False,
    ):
        value = getattr(entries[int(rng.integers(0, len(entries)))], field)
        if isinstance(value, int) and rng.integers(0, 2):
            value = int(rng.choice([max(value - 1, 0), value + 1, 2 * value, *NUMBERS]))
        entries[place] = dataclasses.replace(entries[place], **{field: value})
    changed = dataclasses.replace(header, entries=tuple(entries))
    return sealed(changed.pack(), streams, changed.version)


REFUSALS = ("checksum", "header", "streams", "version", "not an artifact")


@pytest.mark.parametrize("count", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_mutated_files_are_refused_or_decoded_and_nothing_else_happens(
    count: int, record_property: Callable[[str, object], None]
):
    rng, originals = np.random.default_rng(count), [artifact_of(text) for text in BASES]
    outcomes: Counter[str] = Counter()
    slowest, largest, resident = 0.0, 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(count):
        data = mutant(originals[i % len(originals)], rng)
        tracemalloc.start()
        start = time.process_time()
        try:
            with warnings.catch_warnings(action="error"):
                tensors = decode(data)[2]
        except BadInput as error:
            assert str(error).isprintable() and len(str(error)) < 300
            outcomes["refused: " + next(part for part in REFUSALS if part in str(error))] += 1
        else:
            outcomes["decoded"] += 1
            assert memory_of(tensors) <= 1300 * len(data)
            for tensor in tensors.values():
                assert tensor.dequantize().shape == tensor.shape
                assert (
                    tensor.indices is None
                    or not tensor.indices.numel()
                    or int(tensor.indices.max()) < tensor.levels
                )
        finally:
            slowest, largest = (
                max(slowest, time.process_time() - start),
                max(largest, tracemalloc.get_traced_memory()[1]),
            )
            tracemalloc.stop()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident) / 1024
    record_property(
        "mutations",
        f"{dict(outcomes)}, {slowest:.2f} s, {largest / 2**20:.1f} MiB traced, {grown:.0f} MiB resident",
    )
    print(
        f"\n{dict(outcomes)}, slowest {slowest:.2f} s, {largest / 2**20:.1f} MiB traced, {grown:.0f} MiB "
        f"more resident"
    )
    assert outcomes["decoded"] > count / 20 and sum(outcomes.values()) == count
    assert slowest < 2 and largest < MOST and grown < 256
