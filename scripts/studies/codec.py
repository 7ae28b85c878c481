"""What real pictures keep after the codec of `image_tokens`, beside the same pictures untouched.

    python -m scripts.studies.codec [--part validation|test] [--folder FOLDER] [--samples N]

validation: the reference is the first N validation pictures, and the N last ones go through the codec. test:
the reference is the first N test pictures, as in every record, and N ceiling pictures go through it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.evaluation.panel import Panel
from bench.metrics.shared import K
from domains.image_tokens.adapter import TokensDomain
from domains.image_tokens.codec import WEIGHTS, Codec
from domains.images.data import part

METRICS = {"quality": "valid", "diversity": "mutual_recall"}  # by role


class OwnReference(TokensDomain):
    """The domain with a given reference."""

    real: np.ndarray

    def reference(self, split: str = "test", source: str | None = None) -> np.ndarray:
        return self.real


def pictures(part_name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """-> (the reference, as many other real pictures)"""
    if part_name == "test":
        return part("test").pixels[:n], part("ceiling").pixels[:n]
    found = part("validation").pixels
    return found[:n], found[-n:]


@click.command()
@click.option("--part", "part_name", default="validation", type=click.Choice(["validation", "test"]))
@click.option("--folder", default=WEIGHTS, type=click.Path(path_type=Path), help="Of the codec.")
@click.option("--samples", "n", default=2000)
def main(part_name: str, folder: Path, n: int) -> None:
    """Print one line of JSON for each evaluator."""
    for line in kept(part_name, folder, n):
        print(json.dumps(line), flush=True)


def kept(part_name: str, folder: Path, n: int) -> Iterator[dict[str, Any]]:
    """Of each evaluator: its score of untouched pictures and of those after the codec, and their ratio."""
    domain = OwnReference()
    domain.real, others = pictures(part_name, n)
    codec = Codec.read(folder)
    through = codec.decode(codec.encode(others))
    roles = {**domain.evaluators(), **domain.second_evaluators()}
    panel = Panel(domain, n, K, roles=roles)
    found = [panel.verdicts(panel.observe(some, "pictures")) for some in (others, through)]
    for name, role in roles.items():
        ceiling, after = (verdicts[name].metrics[METRICS[role]] for verdicts in found)
        scores = {"ceiling": ceiling, "codec": after, "share": after / ceiling}
        yield {"evaluator": name, "metric": METRICS[role], **scores}


if __name__ == "__main__":
    main()
