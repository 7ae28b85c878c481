"""Which layers other projects' tools cover, and what their files weigh: the tables of docs/tools.md.

`python -m scripts.tools_matrix` writes them. It needs all tools: `pip install -e '.[tools]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.artifact.format import encode
from bench.contracts.network import Small, SmallGenerator
from bench.errors import Unsupported
from bench.interfaces import Compressed, Context, StructureEdit
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.util.files import write_atomically
from scripts.blocks import filled

PAGE = Path(__file__).parents[1] / "docs" / "tools.md"
METHODS = (
    "torchao:dtype=int8",
    "torchao:dtype=int4",
    "torchao:dtype=float8",
    "quanto:bits=8",
    "quanto:bits=4",
    "hqq:bits=8",
    "hqq:bits=4",
    "bitsandbytes:type=int8",
    "bitsandbytes:type=nf4",
    "nncf:mode=int8_sym",
    "nncf:mode=int4_sym",
    "modelopt:config=int8",
    "modelopt:config=int4",
    "modelopt:config=int4_awq",
    "modelopt:config=fp8",
)
# weight of the small network -> column
COLUMNS = {
    "contract.weight": "Linear",
    "head.weight": "Linear, last",
    "embed.weight": "Embedding",
    "expand.weight": "Conv1D of transformers",
    "flat.weight": "Conv1d",
    "down.weight": "Conv2d, 2 groups",
    "up.weight": "ConvTranspose2d",
    "up_groups.weight": "ConvTranspose2d, 2 groups",
    "recurrent.weight_ih_l0": "GRU",
}


class Untied(Small):
    """The small network with a head of its own, and with a recurrent layer."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.head.weight = nn.Parameter(self.head.weight.detach().clone())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.recurrent = nn.GRU(32, 32)


class UntiedGenerator(SmallGenerator):
    """Its generator."""

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        """Another seed's network."""
        return Untied(seed=1)


@dataclass(frozen=True)
class Row:
    """One method on the small network."""

    method: str
    made: Compressed | None  # None: it fails
    file_bytes: int  # of the tool
    our_bytes: int
    failure: str = ""

    def cell(self, weight: str) -> str:
        """What the tool does with a weight."""
        if self.made is None:
            return "fails"
        return "covered" if self.made.tensors[weight].quantized else "skipped"


def measured(method: str) -> Row:
    """One method on the network."""
    network = Untied()
    try:
        made = parse(method)(original(network), Context(UntiedGenerator(network)))
    except Unsupported as error:
        return Row(method, None, 0, 0, str(error))
    return Row(method, made, made.tools[0]["file_bytes"], len(encode(made, method)))


def tables(rows: Sequence[Row], float_bytes: int) -> str:
    """Both tables as Markdown."""
    lines = [f"| method | {' | '.join(COLUMNS.values())} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        lines.append(f"| `{row.method}` | {' | '.join(row.cell(weight) for weight in COLUMNS)} |")
    sizes = [
        f"Uncompressed, the network has {float_bytes:,} bytes.",
        "",
        "| method | tool's own file, bytes ↓ | our coding of the same values, bytes ↓ |",
        "|---|---:|---:|",
        *(f"| `{row.method}` | {row.file_bytes:,} | {row.our_bytes:,} |" for row in rows if row.made),
    ]
    failures = [f"- `{row.method}` fails: {row.failure}" for row in rows if row.made is None]
    return "\n".join([*lines, "", *sizes, *([""] if failures else []), *failures])


def main() -> None:
    """Write the tables to the page."""
    rows = [measured(method) for method in METHODS]
    generated = tables(rows, len(encode(original(Untied()), "none")))
    write_atomically(PAGE, filled(PAGE.read_text(encoding="utf-8"), {"matrix": generated}))


if __name__ == "__main__":
    main()
