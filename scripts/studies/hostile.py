"""Feed hostile inputs to everything that reads a user's file or text: `python -m scripts.studies.hostile`.

Each input is a valid one with a few mutations, or noise. It must be accepted, or refused by `BadInput` in one
line. Counted are other errors (a user would see a traceback), inputs that execute something (seen by Python's
audit hooks), and inputs that take too long. The address space is limited, so a reader that trusts a length
ends in a MemoryError. With `--guided KIND`, atheris mutates by coverage in place of the seeded mutations.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import BadInput

ROOT = Path(__file__).parents[2]
SLOWEST_S = 20.0  # for one input
MOST_MEMORY = 8 * 2**30  # address space of the whole process, libraries included
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "pickle.find_class")
LEAVES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**400, -1e308, float("nan"), float("inf"), "", "a" * 5000),
    *(
        "\x00",
        "../../etc/passwd",
        "\ud800",
        "__import__('os').system('true')",
        "!!python/object",
        "{0.__class__}",
    ),
    *([], {}, [[]], [None] * 1000, {"": None}, {"__class__": "os.system"}),
)
WORDS = (
    b"\x00",
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\xff\xfe",
    b"NaN",
    b"1e999",
    b"[" * 3000,
    b'{"a":' * 2000,
    b"9" * 5000,
)
Reader = Callable[[bytes], object]
Rng = random.Random


# ------------------------------------------------------------------------------------------------- mutations


def mutated(data: bytes, rng: Rng) -> bytes:
    """A few changes of bytes; for JSON, half of the time a few changes of its values."""
    if data[:1] == b"{" and rng.random() < 0.6:
        with contextlib.suppress(ValueError):
            return of_values(json.loads(data), rng)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data = of_bytes(data, rng)
    return data


def of_bytes(data: bytes, rng: Rng) -> bytes:
    """One change: a byte, a cut, a piece that is removed, repeated or put in."""
    at = rng.randrange(len(data) + 1)
    piece = data[at : at + rng.choice((1, 4, 64))]
    kind = rng.randrange(6)
    if kind == 0 and data:
        return data[: at - 1] + bytes([rng.randrange(256)]) + data[at:] if at else data
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + len(piece) :]
    if kind == 3:
        return data[:at] + piece * rng.choice((2, 100)) + data[at:]
    if kind == 4:
        return data[:at] + rng.choice(WORDS) + data[at:]
    return data[:at] + rng.randbytes(len(piece)) + data[at + len(piece) :]


def of_values(content: Any, rng: Rng) -> bytes:
    """Some values become hostile ones, some names vanish."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        holder = content
        while isinstance(holder, dict | list) and holder:
            key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            inner = holder[key]
            if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.2:
                if rng.random() < 0.15:
                    del holder[key]
                else:
                    holder[key] = rng.choice(LEAVES)
                break
            holder = inner
    return json.dumps(content).encode()


# ----------------------------------------------------------------------------------------------- what is read


class Kinds:
    """Kind -> (valid inputs, what reads them). Files are written to one folder, again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> tuple[list[bytes], Reader]:
        """Texts of methods, and names of models, domains and files."""
        from bench.methods.notation import expand, is_trained, parse, without_seed
        from bench.registry import open_domain
        from bench.util.files import slug

        domains = [open_domain(name) for name in ("image_gan", "image_diffusion", "text")]
        texts = [
            "magnitude:sparsity=0.5,scope=global+int4:group=64,asym",
            "2:4+nf4",
            "qat:grid=int3,budget=0.1",
        ]
        texts += [
            "ecsq:bits=2.5",
            "tcq:bits=1.5,states=8",
            "lowrank:rank=8,bits=8+codebook:bits=2",
            "s@0",
            "permute:seed=3+recalibrate",
            "../models/my-model",
            "int4:keep=a|b*",
        ]

        def read(data: bytes) -> None:
            text = data.decode(errors="replace")
            name = slug(text)
            assert name and "/" not in name and not name.startswith(".") and len(name.encode()) < 256, name[
                :80
            ]
            without_seed(text), is_trained(text)
            for domain in domains:
                with contextlib.suppress(BadInput):
                    domain.locate(text)
            with contextlib.suppress(BadInput):
                open_domain(text)
            assert parse(parse(text).text).text == parse(text).text
            expand((text,))

        return [text.encode() for text in texts], read

    def records(self) -> tuple[list[bytes], Reader]:
        """Records, and what the pages take from them."""
        from bench.records.cell import cell_of, look_up
        from bench.records.schema import read_record, read_records
        from bench.report.run_table import comparison
        from bench.runner.recompute_costs import read_any

        paths = sorted((ROOT / "results").glob("*/xs@0/*/*.json"))[::9]
        path = self.folder / "records" / "text" / "m" / "int8" / "record.json"
        path.parent.mkdir(parents=True)

        def read(data: bytes) -> None:
            path.write_bytes(data)
            read_records(self.folder / "records", lambda line: None)
            refused = ""
            for reader in (read_record, read_any):
                try:
                    record = reader(path)
                except ValueError as error:
                    assert len(str(error).splitlines()) == 1, "more than one line"
                    refused = str(error)
                    continue
                cell = cell_of(record)
                look_up(cell, self.folder / "records")
                record.belongs_at(path)
                comparison([record], [record])
                for items in record.items.values():
                    items.unpack()
            if refused:
                raise BadInput(refused)

        return [path.read_bytes() for path in paths], read

    def pages(self) -> tuple[list[bytes], Reader]:
        """One record among others, with everything that the leaderboard and its pages make of them."""
        from bench.records.schema import read_records
        from bench.report.leaderboard import write_pages

        paths = sorted((ROOT / "results").glob("text/xs@0/int*/*.json"))[:4]
        folder = self.folder / "pages"
        for path in paths:
            target = folder / path.relative_to(ROOT / "results")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())

        def read(data: bytes) -> None:
            target.write_bytes(data)
            write_pages(read_records(folder), folder, folder / "leaderboard.md")

        return [path.read_bytes() for path in paths[-1:]], read

    def artifacts(self) -> tuple[list[bytes], Reader]:
        """Compressed files, three of four with the right checksum: without it nearly all are refused."""
        import hashlib

        from bench.artifact.format import CHECKSUM, encode, open_artifact
        from bench.methods.notation import parse
        from bench.methods.plain import original
        from bench.registry import open_domain
        from bench.runner.session import context_of

        gan = open_domain("image_gan")
        spec = gan.locate("xs@0")
        generator = gan.open(spec)
        made = []
        for text in (
            "int4",
            "binary",
            "nm:n=2,m=4",
            "ecsq:bits=2",
            "tcq:states=8",
            "lowrank:rank=2+int3",
            "codebook:bits=2",
            "fp16",
            "nf4",
        ):
            compressed = parse(text)(original(generator.network), context_of(generator, spec, 0, "cpu"))
            made.append(encode(compressed, text))
        path, sealed = self.folder / "a.genc", Rng(0)

        def read(data: bytes) -> None:
            if sealed.random() < 0.75:
                data = data[:-CHECKSUM] + hashlib.sha256(data[:-CHECKSUM]).digest()[:CHECKSUM]
            path.write_bytes(data)
            artifact = open_artifact(path)
            for _, stored in artifact.tensors():
                stored.dequantize()

        return made, read

    def texts(self) -> tuple[list[bytes], Reader]:
        """Files of texts."""
        from bench.registry import open_domain

        domain, path = open_domain("text"), self.folder / "samples.jsonl"

        def read(data: bytes) -> None:
            path.write_bytes(data)
            domain.read_samples(path)

        return [b'{"text": "In the beginning"}\n{"text": "God \\u00e9"}\n' * 3], read

    def pictures(self) -> tuple[list[bytes], Reader]:
        """NPZ files and pictures of several formats; one of them holds a pickle."""
        from PIL import Image

        from bench.registry import open_domain

        domain, folder = open_domain("image_gan"), self.folder / "pictures"
        folder.mkdir()
        seeds = [npz(np.zeros((3, 28, 28), np.uint8)), npz(np.array([Exploit()], object))]
        for kind, mode in (
            ("png", "RGBA"),
            ("png", "P"),
            ("gif", "P"),
            ("jpeg", "L"),
            ("tiff", "RGB"),
            ("bmp", "L"),
            ("webp", "RGB"),
            ("ppm", "RGB"),
        ):
            buffer = io.BytesIO()
            Image.new(mode, (9, 7)).save(buffer, kind)
            seeds.append(buffer.getvalue())

        def read(data: bytes) -> None:
            is_npz = b"PK" in data[:8]
            path = folder / ("a.npz" if is_npz else "a.png")
            path.write_bytes(data)
            domain.read_samples(path if is_npz else folder)

        return seeds, read

    def configs(self) -> tuple[list[bytes], Reader]:
        """The configuration of a model's folder, for each domain."""
        from bench.registry import open_domain

        opened: list[Any] = []
        seeds: list[bytes] = []
        for name, file in (
            ("image_gan", "config.json"),
            ("image_diffusion", "unet/config.json"),
            ("text", "config.json"),
        ):
            domain = open_domain(name)
            source = Path(domain.locate("xs@0").source)
            target = self.folder / name
            copy_links(source, target)
            (target / file).unlink()
            opened.append((domain, target, file))
            seeds.append(
                bytes([123, 48 + len(seeds)]) + (source / file).read_bytes()
            )  # `{0{...`: which domain

        def read(data: bytes) -> None:
            domain, target, file = opened[(data[1] if len(data) > 1 else 0) % 3]
            (target / file).write_bytes(data[2:])
            domain.open(domain.locate(str(target)))

        return seeds, read


class Exploit:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


def npz(array: np.ndarray) -> bytes:
    """The bytes of an NPZ file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        inner = io.BytesIO()
        np.lib.format.write_array(inner, array)
        archive.writestr("samples.npy", inner.getvalue())
    return buffer.getvalue()


def copy_links(source: Path, target: Path) -> None:
    """A folder with links to the files of another one."""
    for path in source.rglob("*"):
        if path.is_file():
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


# --------------------------------------------------------------------------------------------------- counting


class TooLong(BaseException):
    """An input took more than its time. No reader can catch it by accident."""


class Watch:
    """Counts what inputs do: refused, accepted, other errors, executions, too long."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.found: dict[str, bytes] = {}  # a line about what went wrong -> the first such input
        self.slowest_s, self.watching = 0.0, False
        self.executed: list[str] = []
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, self._alarm)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.watching and event in FORBIDDEN:
            self.executed.append(f"{event} {arguments!r}"[:200])

    def _alarm(self, *_: object) -> None:
        raise TooLong

    def feed(self, read: Reader, data: bytes) -> None:
        """Give one input to a reader."""
        start, self.watching = time.perf_counter(), True
        signal.setitimer(signal.ITIMER_REAL, SLOWEST_S)
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                outcome = self._outcome(read, data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.watching = False
        self.slowest_s = max(self.slowest_s, time.perf_counter() - start)
        self.counts[outcome] += 1
        if self.executed:
            self.counts["executed"] += 1
            self.found.setdefault(f"executed: {self.executed[0]}", data)
            self.executed.clear()

    def _outcome(self, read: Reader, data: bytes) -> str:
        try:
            read(data)
        except BadInput as error:
            if "\n" in str(error):
                self.found.setdefault(f"more than one line: {str(error)[:200]!r}", data)
                return "more than one line"
            return "refused"
        except TooLong:
            self.found.setdefault("too long", data)
            return "too long"
        except Exception as error:
            self.found.setdefault(f"{where(error)}: {type(error).__name__}: {str(error)[:150]!r}", data)
            return "other error"
        return "accepted"


def where(error: BaseException) -> str:
    """The last place in this project that an error came through."""
    place, trace = "?", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and file != Path(__file__):
            place = f"{file.relative_to(ROOT)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Limit the address space of this process."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def attack(kind: str, inputs: int, seed: int, watch: Watch, seconds: float) -> None:
    """Feed mutated inputs of one kind, until all are fed or the time is over."""
    with tempfile.TemporaryDirectory() as folder:
        seeds, read = getattr(Kinds(Path(folder)), kind)()
        rng = Rng(f"{kind} {seed}")
        for one in seeds:  # the libraries that they need are loaded now, and not with the first hostile input
            with contextlib.suppress(BadInput):
                read(one)
        for one in seeds:
            watch.feed(read, one)
        with limited_memory():
            start = time.monotonic()
            for _ in range(inputs):
                if time.monotonic() - start > seconds:
                    break
                data = rng.choice(seeds)
                is_config = kind == "configs"
                changed = mutated(data[2:], rng) if is_config else mutated(data, rng)
                watch.feed(read, data[:2] + changed if is_config else changed)


def guided(kind: str, inputs: int, seed: int) -> None:
    """The same by atheris, which keeps inputs that reach new code. It ends the process."""
    import atheris

    folder = Path(tempfile.mkdtemp())
    with atheris.instrument_imports(include=["bench", "domains"]):
        seeds, read = getattr(Kinds(folder), kind)()
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, one in enumerate(seeds):
        (corpus / str(number)).write_bytes(one)

    def one_input(data: bytes) -> None:
        with contextlib.suppress(BadInput):
            read(data)

    options = [
        f"-runs={inputs}",
        f"-seed={seed + 1}",
        f"-timeout={SLOWEST_S:.0f}",
        "-rss_limit_mb=4096",
        "-max_len=20000",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one_input)
    atheris.Fuzz()


KINDS = ("names", "records", "pages", "artifacts", "texts", "pictures", "configs")
SHARES = {
    "names": 0.25,
    "records": 0.25,
    "pages": 0.002,
    "artifacts": 0.1,
    "texts": 0.25,
    "pictures": 0.145,
    "configs": 0.003,
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=100_000, help="over all kinds, or of the kind given")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--kind", choices=KINDS)
    options.add_argument("--guided", choices=KINDS)
    options.add_argument("--seconds", type=float, default=float("inf"), help="of each kind, at most")
    options.add_argument("--keep", type=Path, help="folder for the inputs that went wrong")
    given = options.parse_args()
    if given.guided:
        guided(given.guided, given.inputs, given.seed)
        return
    for kind in [given.kind] if given.kind else KINDS:
        watch, start = Watch(), time.monotonic()
        attack(
            kind,
            given.inputs if given.kind else round(SHARES[kind] * given.inputs),
            given.seed,
            watch,
            given.seconds,
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        took = (
            f"slowest {watch.slowest_s:.2f} s, in all {time.monotonic() - start:.0f} s, peak {peak:.0f} MiB"
        )
        print(f"{kind}: {dict(watch.counts)}, {took}", flush=True)
        for number, (line, data) in enumerate(watch.found.items()):
            print(f"  {line}", flush=True)
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / f"{kind}-{number}").write_bytes(data)


if __name__ == "__main__":
    main()
