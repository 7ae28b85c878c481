"""What can be trained here, with the settings that the search on the validation part chose
(docs/training-log.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from domains.language.convolutional import ConvJudgeNetwork
from domains.language.gru import JudgeNetwork
from domains.language.judges import JudgePlan
from domains.language.string_training import StringTraining
from domains.language.training import Recipe
from domains.text.data import verses
from domains.text.evaluators import ConvJudge, Judge

# Of all embedded models; chosen on the validation part (docs/training-log.md).
SAMPLER = {"temperature": 1.0, "nucleus": 1.0, "max_tokens": 256}

JUDGE = Recipe(steps=7_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)
CONV_JUDGE = Recipe(steps=6_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)


class VerseTraining(StringTraining):
    """Trains the generator on verses."""

    seen = "verses_seen"
    card: ClassVar[Mapping[str, Any]] = {
        "licence": "Apache-2.0; trained on a text in the public domain",
        "description": "Llama trained on King James verses",
        "sampler": SAMPLER,
    }

    @staticmethod
    def texts() -> list[str]:
        return verses("train")

    @staticmethod
    def held_out() -> list[str]:
        return verses("validation")


TRAINING = VerseTraining
JUDGES = {
    "judge": JudgePlan(Judge, JudgeNetwork, {"vocabulary": 2048, "width": 160, "states": 448}, JUDGE),
    "conv_judge": JudgePlan(ConvJudge, ConvJudgeNetwork, {"vocabulary": 512, "width": 128}, CONV_JUDGE),
}
