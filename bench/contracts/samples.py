"""How contracts compare samples, whatever their domain."""

from __future__ import annotations

import numpy as np

from bench.interfaces import Samples
from bench.util.cache import content_digest

SMALL = 64  # samples: enough for contracts, too few for any number


def items(samples: Samples) -> list[str]:
    """The digest of each sample."""
    return [content_digest([sample]) for sample in samples]


def agree(a: Samples, b: Samples) -> bool:
    """Texts equal; numbers within 1e-5, since another batch size may add float32 numbers in another order."""
    if len(a) != len(b):
        return False
    return all(x == y if isinstance(x, str) else np.allclose(x, y, 1e-5, 1e-5) for x, y in zip(a, b))
