"""How contracts compare samples, whatever their domain."""

from __future__ import annotations

import numpy as np

from bench.interfaces import Samples
from bench.util.cache import content_digest

SMALL = 64  # samples: enough for contracts, too few for any number


def items(samples: Samples) -> list[str]:
    """The digest of each sample."""
    return [content_digest([sample]) for sample in samples]


def form(samples: Samples) -> str:
    """What kind of samples these are: `float32 [n, 2]`, or `list of str`."""
    if isinstance(samples, np.ndarray):
        return f"{samples.dtype} [{', '.join(['n', *map(str, samples.shape[1:])])}]"
    kinds = sorted({type(sample).__name__ for sample in samples})
    return f"{type(samples).__name__} of {' and '.join(kinds)}"


def agree(a: Samples, b: Samples) -> bool:
    """Texts equal; numbers within 1e-5, since another batch size may add float32 numbers in another order."""
    if len(a) != len(b):
        return False
    return all(x == y if isinstance(x, str) else np.allclose(x, y, 1e-5, 1e-5) for x, y in zip(a, b))
