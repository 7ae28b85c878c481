"""Compresses models into files and back: the code of `bench compress` and `bench decompress`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.artifact.format import encode, open_artifact, rebuild, save
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Conditions, Domain, ModelSpec
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.metrics.cost import untouched_bytes
from bench.runner.session import context_of, open_generator
from bench.util.files import check_regular, check_writable, write_atomically


def compress_model(
    domain: Domain,
    spec: ModelSpec,
    text: str,
    output: Path,
    seed: int,
    device: str,
    conditions: Conditions | None = None,
) -> str:
    """Write the file and load it again -> one line that describes it."""
    method = parse(text)
    check_writable(check_regular(output).parent)
    generator = open_generator(domain, spec, device, conditions)
    plain = original(generator.network)
    try:
        compressed = method(plain, context_of(generator, spec, seed, device))
        size, fp32 = save(compressed, method.text, output), len(encode(plain, "none"))
    except Unsupported as error:
        raise BadInput(f"{method.text!r} cannot be applied to {spec.name!r}: {error}") from None
    rebuild(output, generator)
    return (
        f"{output}: {size:,} bytes, {fp32 / size:.2f}x smaller than {fp32:,} bytes of "
        f"float32{_of_tools(compressed)}{_left_alone(compressed)}"
    )


def _of_tools(compressed: Compressed) -> str:
    return "".join(
        f"\nthe file of {one['tool']} {one['version']}: {one['file_bytes']:,} bytes for the same values"
        for one in compressed.tools
    )


def _left_alone(compressed: Compressed) -> str:
    lines = [f"\nleft uncompressed: {name}: {reason}" for name, reason in compressed.untouched.items()]
    if lines:
        lines.append(f"\n{untouched_bytes(compressed):,} bytes of float32 in all")
    unknown = compressed.uncalibrated.items()
    lines += [f"\nwithout calibration: {name}: {why}" for name, why in unknown]
    for text, exceptions in compressed.exceptions.items():
        lines += [f"\nnot by {text}: {what}: {why}" for what, why in exceptions.items()]
    return "".join(lines)


def decompress_file(file: Path, output: Path) -> str:
    """Write all tensors, dequantized, as safetensors -> one line that describes them.

    Tied tensors are written once, under their first name.
    """
    from safetensors.torch import save as to_bytes

    artifact = open_artifact(file)
    check_writable(check_regular(output).parent)
    tensors = {name: stored.dequantize().contiguous() for name, stored in artifact.tensors()}
    write_atomically(output, to_bytes(tensors, {"format": "pt", "method": artifact.header.method}))
    kinds = Counter(edit.kind for edit in artifact.header.structure)
    edits = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    lacking = f"; without the edits of the structure that the network needs: {edits}" if edits else ""
    size = f"{output.stat().st_size:,} bytes"
    return f"{output}: {len(tensors)} tensors of {artifact.header.method}, {size}{lacking}"
