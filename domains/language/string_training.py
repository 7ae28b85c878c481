"""Training on strings: of a generator with its tokenizer, and of a judge with other tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch.nn import Module

from bench.interfaces import Wrap
from domains.language.generator_training import GENERATOR, GeneratorTraining
from domains.language.judges import JudgePlan, JudgeTraining
from domains.language.network import fresh, train_tokenizer
from domains.language.training import Corpus, Recipe, spread

ENCODED_AT_ONCE = 10_000  # texts


class StringTraining(GeneratorTraining):
    """Trains the generator on strings, and freezes it with its tokenizer."""

    chosen: ClassVar[Recipe] = GENERATOR  # by the validation part

    def __init__(
        self,
        model: Module,
        tokenizer: Any,
        texts: Sequence[str],
        seed: int,
        wrap: Wrap | None = None,
        teacher: Module | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        known = corpus(tokenizer, texts, self.held_out())
        super().__init__(model, known, self.chosen, seed, wrap, teacher)

    @staticmethod
    def texts() -> list[str]:
        """The training part."""
        raise NotImplementedError

    @staticmethod
    def held_out() -> list[str]:
        """The validation part."""
        raise NotImplementedError

    @classmethod
    def start(cls, size: str, seed: int, texts: Sequence[str], device: str) -> StringTraining:
        """Of an untrained network, with the one tokenizer of all sizes (a function of the texts alone)."""
        return cls(fresh(size, seed).to(device), cls.new_tokenizer(texts), texts, seed)

    @staticmethod
    def new_tokenizer(texts: Sequence[str]) -> Any:
        """The tokenizer of a training from scratch."""
        return train_tokenizer(texts)

    def freeze(self, folder: Path) -> None:
        super().freeze(folder)
        self.tokenizer.save_pretrained(folder)


def judge_training(
    plan: JudgePlan, texts: Sequence[str], held_out: Sequence[str], device: str = "cpu"
) -> JudgeTraining:
    """The training of an evaluator of quality, on no more texts than it can read."""
    texts = spread(texts, plan.recipe.steps * plan.recipe.batch)
    tokenizer = train_tokenizer(spread(texts, plan.fitted_on), plan.shape["vocabulary"])
    return JudgeTraining(plan, tokenizer, texts, corpus(tokenizer, texts, held_out), device=device)


def corpus(tokenizer: Any, texts: Sequence[str], held_out: Sequence[str]) -> Corpus:
    """Training texts and held-out ones, as tokens of this tokenizer."""
    length = sum(len(text.encode()) for text in held_out)
    return Corpus(encode(tokenizer, texts), encode(tokenizer, held_out), length)


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Token ids, some texts at a time: a tokenizer keeps a hundred bytes a token until it returns."""
    parts = (texts[start : start + ENCODED_AT_ONCE] for start in range(0, len(texts), ENCODED_AT_ONCE))
    return [row for part in parts for row in tokenizer(list(part))["input_ids"]]
