"""The recipe of the generator: that of text, on the codes of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch.nn import Module

from bench.interfaces import Wrap
from domains.folders import card_of, write_json
from domains.image_tokens.codec import Codec, CodecShape
from domains.image_tokens.tokens import HELD_OUT, encoded, tokens_of, vocabulary
from domains.language.generator_training import GENERATOR, GeneratorTraining
from domains.language.network import fresh
from domains.language.training import Corpus


class TokensTraining(GeneratorTraining):
    """Trains the generator on the codes of pictures. The card names the codec."""

    seen = "images_seen"
    card: ClassVar[Mapping[str, Any]] = {
        "licence": "Apache-2.0; trained on Fashion-MNIST (MIT)",
        "description": "Llama over the codes of Fashion-MNIST pictures",
    }

    def __init__(
        self,
        model: Module,
        codec: Codec,
        pixels: np.ndarray,
        held_out: np.ndarray,
        seed: int,
        wrap: Wrap | None = None,
        teacher: Module | None = None,
    ) -> None:
        self.codec = codec
        super().__init__(model, corpus(codec, pixels, held_out), GENERATOR, seed, wrap, teacher)

    def freeze(self, folder: Path) -> None:
        super().freeze(folder)
        write_json(folder / "card.json", {**card_of(folder), "codec_sha256": self.codec.digest})


def corpus(codec: Codec, pixels: np.ndarray, held_out: np.ndarray) -> Corpus:
    """Training pictures and some validation pictures, as tokens of this codec."""
    parts = (pixels, held_out[:HELD_OUT])
    rows, checked = (tokens_of(encoded(codec, pictures), codec.shape) for pictures in parts)
    return Corpus(rows, checked, len(checked) * codec.shape.tokens, "token")


def fresh_generator(size: str, seed: int, shape: CodecShape) -> Module:
    """An untrained network. No token ends a picture, and none pads it."""
    return fresh(size, seed, vocab_size=vocabulary(shape), eos_token_id=None, pad_token_id=None)
