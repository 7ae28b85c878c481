"""What is known of a trained model before it is opened, and the conditions of its samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

TRAINED_ON = "data.json"  # in a folder that `bench train --data` writes: what the user named
TRAINED = "training.jsonl"  # the last file in a folder that `bench train` writes
ConditionKind = Literal["prompts", "labels"]  # what a conditional model makes samples of
# size in a model's name -> (fewest, most) parameters. A size is a class of comparison: domains are compared
# size by size, so that networks of one size must have about as many parameters in every domain.
SIZES: Mapping[str, tuple[int, int]] = {
    "xs": (62_500, 250_000),
    "s": (250_000, 1_000_000),
    "m": (1_000_000, 4_000_000),
}


def outside_of_its_size(model: str, parameters: int | None) -> str | None:
    """What is wrong with a model's number of parameters, where its name begins with a size; None: nothing."""
    size = model.partition("@")[0]
    if parameters is None or size not in SIZES or "@" not in model:
        return None
    fewest, most = SIZES[size]
    if fewest <= parameters <= most:
        return None
    return f"{model} has {parameters:,} parameters, and size {size} means {fewest:,} to {most:,}"


@dataclass(frozen=True)
class ModelSpec:
    """One trained generator: where its weights are, and what is known about them."""

    name: str  # `s@0` (size `s`, training seed 0), or the folder or hub id that the user gave
    source: str  # a local folder or a hub id
    licence: str = "unknown"  # of the weights, for example `Apache-2.0`
    parameters: int | None = None  # how many the network has; None: unknown
    train_seed: int | None = None  # the seed of its training; None: unknown
    # name of a tensor that is never compressed -> why
    excluded: Mapping[str, str] = field(default_factory=dict)
    description: str = ""  # one line for `bench list`
    samples_seen: int | None = None  # training samples, repeats counted; None: unknown


@dataclass(frozen=True)
class Conditions:
    """What the samples of a conditional model are made of: prompts, or class labels.

    Item i has condition i mod `len(texts)`, under every method, n and batch size. So twins share their
    condition as they share their noise.
    """

    kind: ConditionKind  # as the option is called
    texts: tuple[str, ...]  # a label is a number or a name, as the user wrote it
    file: str = ""  # name of the file that held them

    def index(self, item: int) -> int:
        """Which condition item `item` has."""
        return item % len(self.texts)

    @property
    def settings(self) -> dict[str, Any]:
        """What a cell and its record say of the conditions, as JSON."""
        content = json.dumps([self.kind, self.texts]).encode()
        known = {"kind": self.kind, "file": self.file, "count": len(self.texts)}
        return {**known, "sha256": hashlib.sha256(content).hexdigest()}
