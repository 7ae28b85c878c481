"""What real pictures keep after the codec of `image_tokens`, beside the same pictures untouched.

    python -m scripts.studies.codec [--part validation|test] [--folder FOLDER] [--samples N]

validation: the reference is the first N validation pictures, and the N last ones go through the codec. test:
the reference is the first N test pictures, as in every record, and N ceiling pictures go through it.
"""

from __future__ import annotations

import json
from pathlib import Path

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
    domain = OwnReference()
    domain.real, others = pictures(part_name, n)
    codec = Codec.read(folder)
    through = codec.decode(codec.encode(others))
    roles = {**domain.evaluators(), **domain.second_evaluators()}
    panel = Panel(domain, n, K, roles=roles)
    found = [panel.verdicts(panel.observe(some, "pictures")) for some in (others, through)]
    for name, role in roles.items():
        ceiling, kept = (verdicts[name].metrics[METRICS[role]] for verdicts in found)
        line = {"evaluator": name, "metric": METRICS[role], "ceiling": ceiling, "codec": kept}
        print(json.dumps({**line, "share": kept / ceiling}), flush=True)


if __name__ == "__main__":
    main()
