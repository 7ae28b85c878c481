"""Measures squared error at equal stored bits: our quantizers and files, theory, and the usual formats.

    python -m scripts.studies.rate_distortion [NAME...]

    gaussian     gaps to the Gaussian rate-distortion function, 2 million weights
    networks     the embedded networks: our quantizers against group-wise absmax in equally large files
    pruning      pruning + quantizing against entropy-coded steps in equally large files
    coders       fixed width, range coder, zstd, entropy
    binary       what keeps `binary` below 32x

Prints the tables of docs/compression.md. Every size is the length of a file's bytes.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate
from torch import nn

from bench.artifact.format import encode, save
from bench.artifact.inspect import account
from bench.errors import BadInput, unknown
from bench.interfaces import Compressed, Context, Generator
from bench.layers import weights_of
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.registry import DOMAINS, default_model, open_domain

WEIGHTS = 2_000_000
OURS = (
    *tuple(f"tcq:bits={bits}" for bits in (1, 1.5, 2, 3, 4)),
    "tcq:bits=2,states=8",
    *tuple(f"ecsq:bits={bits}" for bits in (1, 1.5, 2, 3, 4, 5, 6)),
    "binary",
    "binary:residual=2",
    "ternary",
    *tuple(f"codebook:bits={bits}" for bits in (2, 3, 4)),
    "int2",
    "int3",
    "int4",
    "nf4",
)
# as the usual formats do it: stored at fixed width, a float16 scale for each 32 weights
ABSMAX = "int{bits}:group=32,scale=minmax"


def compressed(network: nn.Module, method: str) -> Compressed:
    return parse(method)(original(network), Context())


def sqnr_db(made: Compressed) -> float:
    """Over all compressible weights of a network."""
    plain = original(made.network).tensors
    names = weights_of(made.network)
    noise = sum(
        (made.tensors[n].dequantize() - plain[n].dequantize()).double().square().sum().item() for n in names
    )
    return 10 * math.log10(sum(plain[n].dequantize().double().square().sum().item() for n in names) / noise)


def gaussian() -> None:
    layer = nn.Linear(2000, WEIGHTS // 2000, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
    rows = []
    absmax = [ABSMAX.format(bits=bits) for bits in (2, 3, 4, 8)]
    for method in (*OURS, *absmax):
        made = compressed(layer, method)
        coded, fixed = (8 * len(encode(made, method, entropy)) / WEIGHTS for entropy in (True, False))
        theory = sqnr_db(made) / (20 * math.log10(2))  # R(D) = log2(variance / D) / 2
        rows.append(
            [
                f"`{method}`",
                f"{sqnr_db(made):.2f}",
                f"{coded:.3f}",
                f"{coded - theory:.3f}",
                f"{fixed - theory:.3f}",
            ]
        )
    show(rows, ["method", "SQNR dB", "stored bits a weight", "gap to R(D), bits", "gap at fixed width"])


def networks() -> None:
    rows = []
    for domain, generator in generators():
        for bits in (2, 3, 4, 8):
            usual = compressed(generator.network, ABSMAX.format(bits=bits))
            size = len(encode(usual, "", entropy=False))
            ours = of_size(generator, size)
            coded = len(encode(usual, ""))
            same = of_size(generator, coded)
            parameters = sum(p.numel() for p in generator.network.parameters())
            rows.append(
                [
                    *(
                        domain,
                        bits,
                        f"{8 * size / parameters:.2f}",
                        f"{sqnr_db(usual):.2f}",
                        f"{sqnr_db(ours[1]):.2f} (`{ours[0]}`)",
                    ),
                    *(f"{8 * coded / parameters:.2f}", f"{sqnr_db(same[1]):.2f} (`{same[0]}`)"),
                ]
            )
    headers = [
        "domain",
        "absmax, bits",
        "bits/param",
        "absmax, dB",
        "ours at these bytes, dB",
        "absmax, entropy-coded: bits/param",
        "ours, dB",
    ]
    show(rows, headers)


def pruning() -> None:
    rows = []
    for domain, generator in generators():
        for method in (
            "magnitude:sparsity=0.5+int4",
            "magnitude:sparsity=0.75+int4",
            "magnitude:sparsity=0.9+int4",
            "2:4+int4",
        ):
            made = compressed(generator.network, method)
            size = len(encode(made, ""))
            name, ours = of_size(generator, size)
            zeros = np.mean(
                np.concatenate(
                    [
                        (ours.tensors[n].dequantize() == 0).numpy().ravel()
                        for n in weights_of(generator.network)
                    ]
                )
            )
            rows.append(
                [
                    domain,
                    f"`{method}`",
                    f"{size:,}",
                    f"{sqnr_db(made):.2f}",
                    f"{sqnr_db(ours):.2f}",
                    f"`{name}`",
                    f"{zeros:.0%}",
                ]
            )
    show(rows, ["domain", "method", "bytes", "SQNR dB", "ecsq at these bytes, dB", "which", "its zeros"])


def of_size(generator: Generator, size: int) -> tuple[str, Compressed]:
    """Entropy-coded steps in at most `size` bytes, as many bits as fit."""

    def made(bits: float) -> tuple[str, Compressed]:
        method = f"ecsq:bits={bits:.4f}"
        return method, compressed(generator.network, method)

    low, high = 0.05, 8.0
    while high - low > 0.002:
        middle = (low + high) / 2
        low, high = (middle, high) if len(encode(made(middle)[1], "")) <= size else (low, middle)
    method, found = made(low)
    return f"ecsq:bits={float(method.split('=')[1]):.2f}", found


def coders() -> None:
    import zstandard

    from bench.artifact.coding import entropy_encode, pack, table_of

    zstd = zstandard.ZstdCompressor(level=19)
    rows = []
    layer = nn.Linear(2000, WEIGHTS // 2000, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0)))
    for method in (
        "int8",
        "int4",
        "int3",
        "int2",
        "ternary",
        "ecsq:bits=2",
        "ecsq:bits=1",
        "magnitude:sparsity=0.9",
    ):
        stored = compressed(layer, method).tensors["weight"]
        symbols = (stored.indices if stored.quantized else stored.mask).numpy().ravel().astype(np.uint8)  # type: ignore[union-attr]
        counts = np.bincount(symbols)
        share = counts[counts > 0] / counts.sum()
        packed = pack(symbols, len(counts))
        sizes = [
            packed,
            entropy_encode(symbols, table_of(counts)),
            zstd.compress(symbols.tobytes()),
            zstd.compress(packed),
        ]
        rows.append(
            [
                f"`{method}`",
                f"{-(share * np.log2(share)).sum():.4f}",
                *(f"{8 * len(size) / len(symbols):.4f}" for size in sizes),
            ]
        )
    show(rows, ["indices of", "entropy", "fixed width", "range coder", "zstd -19", "zstd -19 of fixed width"])


def binary() -> None:
    rows = []
    for domain, generator in generators():
        made = compressed(generator.network, "binary")
        with tempfile.TemporaryDirectory() as folder:
            save(made, "binary", Path(folder) / "file")
            found = account(Path(folder) / "file")
        weights = weights_of(generator.network)
        beside: dict[str, float] = {"scales": found["components"]["scales"]}
        signs = found["components"]["indices"]
        for tensor in found["tensors"]:
            if tensor["name"] not in weights:
                kind = (
                    "running statistics"
                    if "running" in tensor["name"] or "num_batches" in tensor["name"]
                    else "norms and biases"
                )
                beside[kind] = beside.get(kind, 0.0) + tensor["bytes"]["values"]
        beside["header, checksum"] = found["components"]["header"] + found["components"]["checksum and frame"]
        fp32 = len(encode(original(generator.network), "none"))
        names = ("norms and biases", "running statistics", "header, checksum")
        parts = [
            f"{signs:,.0f}",
            f"{beside['scales']:,.0f}",
            *(f"{beside.get(name, 0.0):,.0f}" for name in names),
        ]
        rows.append(
            [
                domain,
                f"{fp32:,}",
                *parts,
                f"{found['bytes']:,}",
                f"{fp32 / found['bytes']:.2f}x",
                f"{fp32 / signs:.2f}x",
            ]
        )
    headers = [
        "domain",
        "fp32 file",
        "signs",
        "scales",
        "norms and biases",
        "running statistics",
        "header, checksum",
        "file",
        "ratio",
    ]
    show(rows, [*headers, "of the signs alone"])


def generators() -> Iterator[tuple[str, Generator]]:
    for name in DOMAINS:
        domain = open_domain(name)
        if domain.models:
            yield name, domain.open(default_model(domain))


def show(rows: Sequence[Sequence[object]], headers: list[str]) -> None:
    print(tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True))


TABLES: dict[str, Callable[[], None]] = {
    "gaussian": gaussian,
    "networks": networks,
    "pruning": pruning,
    "coders": coders,
    "binary": binary,
}


def main(names: list[str]) -> None:
    for name in names or list(TABLES):
        if name not in TABLES:
            raise unknown("table", name, TABLES)
        TABLES[name]()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BadInput as error:
        sys.exit(f"error: {error}")
