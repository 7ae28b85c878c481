"""Second-order error feedback: what rounding or pruning one column costs, the later columns make good.

Hassibi and Stork 1993 (optimal brain surgeon), in the column order of Frantar et al. 2022 (arXiv:2210.17323).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 128  # columns whose feedback to the later ones is added at once: speed alone
DAMPING = 0.01  # of the mean diagonal, as published: it bounds the feedback where inputs are nearly dependent

# (current values [groups, rows, columns], number of the first column) -> the same shape
Mask = Callable[[Tensor, int], Tensor]  # bool: which of a block's weights stay, chosen at its beginning
Round = Callable[[Tensor, int], Tensor]  # what the values of one column, [groups, rows, 1], become


def inverse_factor(moments: Tensor) -> Tensor:
    """The upper Cholesky factor of (H + damping)^-1, float64 [groups, n, n] -> the same."""
    eye = torch.eye(moments.shape[-1], dtype=moments.dtype, device=moments.device)
    lower = torch.linalg.cholesky(moments + DAMPING * eye)
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)


def feed_back(rows: Tensor, factor: Tensor, mask: Mask, rounding: Round, block: int = BLOCK) -> Tensor:
    """float32 [groups, rows, n] -> the values that `mask` and `rounding` leave of each weight.

    Column j's error e_j changes each later column k by -e_j U[j, k] / U[j, j].
    """
    rows, made, factor = rows.clone(), torch.empty_like(rows), factor.float()
    for start in range(0, rows.shape[2], block):
        stop = min(start + block, rows.shape[2])
        part, errors = rows[:, :, start:stop], []  # a view: later columns of the block change at once
        kept = mask(part, start)
        for j in range(stop - start):
            column, line = part[:, :, j : j + 1], factor[:, start + j : start + j + 1, start + j : stop]
            made[:, :, start + j : start + j + 1] = rounding(column, start + j) * kept[:, :, j : j + 1]
            error = (column - made[:, :, start + j : start + j + 1]) / line[:, :, :1]
            part[:, :, j:] -= error * line
            errors.append(error)
        rows[:, :, stop:] -= torch.cat(errors, 2) @ factor[:, start:stop, stop:]
    return made
