"""Words that several contracts share: roles, uses, directions, and the names of a model's files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, get_args

from bench.errors import BadInput

if TYPE_CHECKING:
    from torch.nn import Module

TRAINED_ON = "data.json"  # in a folder that `bench train --data` writes: what the user named
TRAINED = "training.jsonl"  # the last file in a folder that `bench train` writes
Samples = Any  # a sequence of samples as their domain knows them: a list of texts, an array [n, c, h, w] ...
Role = Literal["quality", "diversity"]
Use = Literal["primary", "secondary", "optional"]  # what an evaluator is for: see `EvaluatorEntry`
# what a damage lowers; "foreign": samples of another kind of data
Hurts = Literal["nothing", "surface", "variety", "both", "foreign"]
# which way is better; "none": nearest to the real data's value is best
Direction = Literal["higher", "lower", "none"]
ConditionKind = Literal["prompts", "labels"]  # what a conditional model makes samples of
# (name of a network, the network) -> the network to train in its place
Wrap = Callable[[str, "Module"], "Module"]


def check_allowed(what: str, value: str, kind: Any, of: str) -> None:
    """Raises `bench.errors.BadInput` unless `value` is one of the literals of `kind`."""
    if value not in get_args(kind):
        raise BadInput(f"{what} {value!r} of {of} is unknown; allowed: {', '.join(get_args(kind))}")
