"""Prompts: what a causal language model continues. A sample is the prompt with its continuation.

The evaluators know whole verses, so the whole text is judged. Whether a continuation fits its prompt is told
by its surprisal given the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.interfaces import Conditions
from domains.language.strings import LONGEST

if TYPE_CHECKING:
    import numpy as np

    from domains.text.evaluators import Judge


@dataclass(frozen=True)
class Prompts:
    """Prompts as a model reads them."""

    conditions: Conditions
    tokens: tuple[tuple[int, ...], ...]  # of each prompt, without the start token

    def of_item(self, item: int) -> Sequence[int]:
        """The tokens that item `item` begins with."""
        return self.tokens[self.conditions.index(item)]

    def texts(self, n: int) -> list[str]:
        """The prompts of the first n items."""
        return [self.conditions.texts[self.conditions.index(item)] for item in range(n)]


def read_prompts(
    conditions: Conditions, tokenizer: Any, embeddings: int, positions: int | None, model: str
) -> Prompts:
    """Encode prompts. Raises `BadInput` for one that the model cannot read and then continue."""
    rows = []
    for number, text in enumerate(conditions.texts, 1):
        tokens = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        prompt = f"prompt {number} of {conditions.file!r}"
        if positions is not None and len(tokens) > positions - 1:
            raise BadInput(
                f"{prompt} has {len(tokens)} tokens; the model {model!r} has {positions} positions, so a "
                f"prompt has at most {positions - 1}"
            )
        if len(text) >= LONGEST:
            raise BadInput(
                f"{prompt} has {len(text)} characters, and only the first {LONGEST} of a text count"
            )
        if tokens and max(tokens) >= embeddings:
            raise BadInput(
                f"{prompt} has token {max(tokens)}, and the model {model!r} has {embeddings} embeddings"
            )
        rows.append(tokens)
    return Prompts(conditions, tuple(rows))


def fits(judge: Judge, samples: Sequence[str], prompts: Sequence[str], real: Sequence[str]) -> np.ndarray:
    """[n] bool: whether a continuation is as surprising, given its prompt, as real ones are.

    samples, prompts: [n]. Real verse i is cut after as many characters as prompt i has. Verses that end
    before are left out. As for whole texts, the central 95 % of the real ones count as typical.
    """
    import torch

    from bench.evaluation.verdicts import TYPICAL

    lengths = [len(prompt) for prompt in prompts]
    here = judge.continuation_surprisal(samples, lengths).double()
    longer = [(verse, after) for verse, after in zip(real, lengths) if after < len(verse)]
    if not longer:
        return (here < torch.inf).numpy()
    there = judge.continuation_surprisal(*zip(*longer)).double()
    low, high = torch.quantile(there, torch.tensor(TYPICAL, dtype=torch.float64))
    return ((here >= low) & (here <= high)).numpy()
