"""What generated pictures are good for: more training data.

A classifier is trained on them and tried on real pictures.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from bench.interfaces import Task
from domains.images.data import CLASSES, Images

if TYPE_CHECKING:
    from torch import Tensor

    from domains.images.evaluators import Pictures

# of the kernel, in units of a picture's length; chosen on the validation part (docs/training-log.md)
WIDTH, RIDGE = 4.5, 0.1


class Classifier(Task):
    """Utility: accuracy on real test pictures.

    The generated ones have no labels; the labeller says what it takes each for.

    Kernel ridge regression on one-hot classes with a Gaussian kernel: exact, without a start to depend on,
    and quick.
    """

    name = "classifier"
    version = 1
    description = "a classifier trained on the samples, labelled by the labeller: accuracy on real pictures"

    def score(self, samples: Pictures) -> np.ndarray:
        import torch

        from domains.images.labeller import labels

        real = _real()
        assert real.labels is not None
        found = classify(as_rows(samples), labels(samples), as_rows(real.pixels))
        return (found == torch.from_numpy(real.labels)).double().numpy()


@functools.cache
def _real() -> Images:
    from domains.images.data import part

    return part("test")


def as_rows(pixels: Pictures) -> Tensor:
    """uint8 [n, 1, 28, 28] -> float64 [n, 784] in [0, 1]"""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels)).double().flatten(1) / 255


def classify(
    known: Tensor, classes: Tensor, unknown: Tensor, width: float = WIDTH, ridge: float = RIDGE
) -> Tensor:
    """Rows of known class [n], and rows to be classified -> their classes."""
    import torch

    targets = torch.eye(len(CLASSES), dtype=torch.float64)[classes]
    kernel = _gaussian(known, known, width)
    kernel.diagonal().add_(ridge)
    return (_gaussian(unknown, known, width) @ torch.linalg.solve(kernel, targets)).argmax(1)


def _gaussian(a: Tensor, b: Tensor, width: float) -> Tensor:
    import torch

    squared = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
    return torch.exp(squared.clamp_min(0) / (-2 * width**2))
