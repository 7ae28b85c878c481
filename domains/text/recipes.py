"""What can be trained here, with the settings that the search on the validation part chose
(docs/training-log.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch.nn import Module

from bench.interfaces import Wrap
from domains.language.convolutional import ConvJudgeNetwork
from domains.language.generator_training import GENERATOR, GeneratorTraining
from domains.language.gru import JudgeNetwork
from domains.language.judges import JudgePlan, JudgeTraining
from domains.language.network import fresh, train_tokenizer
from domains.language.training import Corpus, Recipe
from domains.text.data import verses
from domains.text.evaluators import ConvJudge, Judge

# Of all embedded models; chosen on the validation part (docs/training-log.md).
SAMPLER = {"temperature": 1.0, "nucleus": 1.0, "max_tokens": 256}

JUDGE = Recipe(steps=7_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)
CONV_JUDGE = Recipe(steps=6_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)


class VerseTraining(GeneratorTraining):
    """Trains the generator on verses, and freezes it with its tokenizer."""

    seen = "verses_seen"
    card: ClassVar[Mapping[str, Any]] = {
        "licence": "Apache-2.0; trained on a text in the public domain",
        "description": "Llama trained on King James verses",
        "sampler": SAMPLER,
    }

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
        super().__init__(model, corpus(tokenizer, texts), GENERATOR, seed, wrap, teacher)

    def freeze(self, folder: Path) -> None:
        super().freeze(folder)
        self.tokenizer.save_pretrained(folder)


def corpus(tokenizer: Any, texts: Sequence[str]) -> Corpus:
    """Training texts and the validation verses, as tokens of this tokenizer."""
    held_out = verses("validation")
    length = sum(len(text.encode()) for text in held_out)
    return Corpus(encode(tokenizer, texts), encode(tokenizer, held_out), length)


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return list(tokenizer(list(texts))["input_ids"])


def fresh_generator(size: str, seed: int, texts: Sequence[str]) -> tuple[Module, Any]:
    """An untrained network and the one tokenizer of all sizes (a function of the texts alone)."""
    return fresh(size, seed), train_tokenizer(texts)


def judge_training(texts: Sequence[str], name: str = "judge", device: str = "cpu") -> JudgeTraining:
    """The training of an evaluator of quality."""
    plan = JUDGES[name]
    tokenizer = train_tokenizer(texts, plan.shape["vocabulary"])
    return JudgeTraining(plan, tokenizer, texts, corpus(tokenizer, texts), device=device)


JUDGES = {
    "judge": JudgePlan(Judge, JudgeNetwork, {"vocabulary": 2048, "width": 160, "states": 448}, JUDGE),
    "conv_judge": JudgePlan(ConvJudge, ConvJudgeNetwork, {"vocabulary": 512, "width": 128}, CONV_JUDGE),
}
