"""The evaluators of quality: language models of SMILES strings. They know whether one is well-formed."""

from __future__ import annotations

from pathlib import Path

from domains.language.judges import ConvolutionalJudge, RecurrentJudge

WEIGHTS = Path(__file__).parent / "weights"


class Judge(RecurrentJudge):
    """The primary evaluator of quality. Each character is a token."""

    name = "judge"
    version = 1
    weights = WEIGHTS


class ConvJudge(ConvolutionalJudge):
    """The secondary evaluator of quality. Its tokens are pieces of molecules."""

    name = "conv_judge"
    version = 1
    weights = WEIGHTS
