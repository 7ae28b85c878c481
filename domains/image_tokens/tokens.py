"""From codes of a picture to the tokens that the transformer reads, and back.

Token 0 begins a picture, and code c is token 1 + c. Where a position has several codes, each has tokens of
its own: code c of the k-th is token 1 + k times the number of codes + c. A picture has exactly as many tokens
as it has codes, so no token ends it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.util.cache import Cache, content_digest
from domains.image_tokens.codec import Codec, CodecShape

START = 0
HELD_OUT = 2000  # pictures that a likelihood is measured on: 98,000 tokens


def vocabulary(shape: CodecShape) -> int:
    """How many tokens there are."""
    return 1 + shape.codes * shape.code_count


def tokens_of(codes: np.ndarray, shape: CodecShape) -> list[list[int]]:
    """Codes [n, t] -> n rows of the start token and t tokens."""
    offsets = 1 + shape.code_count * (np.arange(codes.shape[1]) % shape.codes)
    rows = np.full((len(codes), 1 + codes.shape[1]), START, dtype=np.int64)
    rows[:, 1:] = codes + offsets
    return rows.tolist()  # type: ignore[no-any-return]


def codes_of(tokens: Sequence[Sequence[int]], shape: CodecShape) -> np.ndarray:
    """n rows of t tokens, without the start token -> codes [n, t].

    A network may draw a token that its place does not allow, and a damaged one often does. A token of another
    place counts as the code of its number, and the start token as code 0.
    """
    return (np.maximum(np.asarray(tokens, dtype=np.int64) - 1, 0) % shape.code_count).astype(np.int16)


def encoded(codec: Codec, pixels: np.ndarray) -> np.ndarray:
    """The codes of pictures, from the cache where they were encoded before. int16 [n, t]."""
    from safetensors.numpy import load, save

    shape = vars(codec.shape)  # codecs of equal tensors may still round to other levels
    cache, key = Cache(), ["codes", codec.digest, shape, codec.device, content_digest(pixels)]
    if (path := cache.kept(key, "codes")) is not None:
        try:
            return load(path.read_bytes())["codes"]
        except Exception:  # a damaged entry is made again
            path.unlink(missing_ok=True)
    codes = codec.encode(pixels)
    cache.keep(key, "codes", save({"codes": codes}))
    return codes
