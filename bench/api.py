"""The Python API, for notebooks: run, score, compress, load. Importing it loads no torch.

>>> from torch.nn import Linear
>>> file = compress(Linear(64, 64), "int4", "layer.genc")
>>> {name: tuple(tensor.shape) for name, tensor in load(file).items()}
{'weight': (64, 64), 'bias': (64,)}
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput, Unsupported, in_a_line

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from bench.interfaces import Samples
    from bench.records.schema import Record


def run(
    domain: str,
    method: str | Sequence[str] = "int8",
    *,
    model: str | None = None,
    seed: int | Sequence[int] = 0,
    samples: int | None = None,
    results: str | Path = "results/local",
    reference: str | None = None,
    prompts: str | Path | None = None,
    labels: str | Path | None = None,
    device: str = "auto",
    workers: int = 1,
) -> list[Record]:
    """Measure a model by one method or several -> one record for each method and seed, the baseline first.

    It is `python -m bench run`: finished cells come from `results`, and new ones are written there.

    samples: of a seed; None: 2,000, or as many as there are real ones. prompts, labels: a file with the
    conditions of a conditional model's samples, one a line. Raises `bench.errors.BadInput` for what cannot be
    measured.
    """
    from bench.cli.shared import check_domain
    from bench.data import read_conditions
    from bench.runner.sweep import Request
    from bench.runner.sweep import run as run_sweep

    check_domain(domain, also=("all",))
    request = Request(
        domain=domain,
        model=model,
        methods=(method,) if isinstance(method, str) else tuple(method),
        seeds=(seed,) if isinstance(seed, int) else tuple(seed),
        samples=samples,
        results=Path(results),
        reference=reference,
        conditions=read_conditions(*(None if file is None else Path(file) for file in (prompts, labels))),
        device=device,
        workers=workers,
        command="bench.api.run",
    )
    return run_sweep(request, _silent)


def score(
    samples: Samples, domain: str, *, reference: str | None = None, device: str = "auto"
) -> dict[str, Any]:
    """Score samples of any model against as many real ones -> metrics, and the ceiling of real samples.

    samples: as the domain knows them (texts, an array of pictures ...), or the path of a file or folder.
    It is `python -m bench score`. Raises `bench.errors.BadInput` for samples that are none of the domain's.
    """
    from bench.evaluation.panel import score_samples
    from bench.registry import open_domain
    from bench.runner.devices import pick_device

    opened, device = open_domain(domain, reference), pick_device(device)
    if isinstance(samples, str | Path):
        return score_samples(opened, Path(samples), reference, device)
    with tempfile.TemporaryDirectory() as folder:  # one way in: what a file may hold, a list may
        try:
            path = opened.write_samples(samples, Path(folder) / "samples")
        except Exception as error:  # whatever is wrong with them, the domain's writer meets it first
            raise BadInput(f"these are no samples of {domain!r}: {in_a_line(error)}") from None
        return score_samples(opened, path, reference, device)


def compress(
    module: Module, method: str = "int8", file: str | Path = "module.genc", *, exclude: Sequence[str] = ()
) -> Path:
    """Compress any torch module into one file -> its path. The module stays as it is.

    exclude: names of tensors that must stay as they are. Methods that train or recalibrate need a domain's
    generator: use `python -m bench compress`. Raises `bench.errors.BadInput` where the method cannot be used.
    """
    from bench.artifact.format import save
    from bench.errors import unknown
    from bench.interfaces import Context
    from bench.layers import tensors_of
    from bench.methods.notation import parse
    from bench.methods.plain import original
    from bench.util.files import check_writable

    chain, path = parse(method), Path(file)
    for name in exclude:
        if name not in tensors_of(module):
            raise unknown("tensor", name, tensors_of(module))
    check_writable(path.parent)
    context = Context(excluded=dict.fromkeys(exclude, "excluded by the caller"))
    try:
        save(chain(original(module), context), chain.text, path)
    except Unsupported as error:
        raise BadInput(f"{chain.text!r} cannot be applied to {type(module).__name__}: {error}") from None
    return path


def load(file: str | Path, into: Module | None = None) -> Mapping[str, Tensor]:
    """The tensors of a compressed file by name, dequantized; tied ones once, under their first name.

    into: a module of the same structure that gets them, and the file's edits of layers, such as factors of
    inputs; the tensors alone lack these. Raises `bench.errors.BadInput` for a file that is
    damaged, or that does not fit.
    """
    from bench.artifact.format import fill
    from bench.artifact.format import load as read
    from bench.artifact.structure import KINDS, edit_network

    _, structure, tensors = read(Path(file))
    if into is not None:
        if any(edit.kind not in KINDS for edit in structure):
            raise BadInput(
                f"{str(file)!r} changes the structure of its network: only its domain can rebuild it"
            )
        edit_network(into, structure)
        fill(into, tensors)
    return {name: stored.dequantize() for name, stored in tensors.items()}


def _silent(line: str) -> None:
    """Messages of a run that a notebook does not need: the records hold the same."""
