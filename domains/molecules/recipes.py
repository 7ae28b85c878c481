"""What can be trained here, with the settings that the search on the validation part chose
(docs/training-log.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from domains.language.convolutional import ConvJudgeNetwork
from domains.language.gru import JudgeNetwork
from domains.language.judges import JudgePlan
from domains.language.network import train_tokenizer
from domains.language.string_training import StringTraining
from domains.language.training import Recipe, spread
from domains.molecules.data import molecules
from domains.molecules.evaluators import ConvJudge, Judge

# Molecules have 24 tokens on average and at most about 50; a sample that reaches the last token is cut there.
SAMPLER = {"temperature": 1.0, "nucleus": 1.0, "max_tokens": 64}

JUDGE = Recipe(steps=2_500, batch=64, learning_rate=4e-3, muon_learning_rate=2e-2)
CONV_JUDGE = Recipe(steps=2_500, batch=64, learning_rate=4e-3, muon_learning_rate=2e-2)

CHARACTERS = 3 + 256  # special tokens and bytes: no two characters share a token
TOKENIZED = 100_000  # molecules that the generator's tokens are learned from
FITTED_ON = 20_000  # molecules that give a judge's tokens and main directions


class MoleculeTraining(StringTraining):
    """Trains the generator on SMILES strings."""

    seen = "molecules_seen"
    card: ClassVar[Mapping[str, Any]] = {
        "licence": "Apache-2.0; trained on molecules of MOSES (MIT)",
        "description": "Llama trained on SMILES strings of MOSES",
        "sampler": SAMPLER,
    }

    @staticmethod
    def texts() -> list[str]:
        return molecules("train")

    @staticmethod
    def held_out() -> list[str]:
        return molecules("validation")

    @staticmethod
    def new_tokenizer(texts: Sequence[str]) -> Any:
        """Learned from a part of the molecules, which is enough for about 700 tokens."""
        return train_tokenizer(spread(texts, TOKENIZED))


TRAINING = MoleculeTraining
JUDGES = {
    "judge": JudgePlan(
        Judge, JudgeNetwork, {"vocabulary": CHARACTERS, "width": 64, "states": 320}, JUDGE, FITTED_ON
    ),
    "conv_judge": JudgePlan(
        ConvJudge, ConvJudgeNetwork, {"vocabulary": 512, "width": 96}, CONV_JUDGE, FITTED_ON
    ),
}
