"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), which our recipes use for kernels
and hidden matrices.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


class Muon(torch.optim.Muon):
    """torch's own, for kernels of any shape, and at a bearable speed on every processor.

    Each kernel is orthogonalised as the matrix [out, everything else]. torch's own takes matrices only, so it
    is given views: they share memory with the kernels, and each step their gradients.

    torch orthogonalises in bfloat16. A processor without such arithmetic emulates it, and a step of the text
    model of size m takes 3.9 s instead of 0.6 s on one thread of a Zen 3: there the same iteration runs in
    float32, all matrices of one shape together. `adjust` is torch's `adjust_lr_fn`: "original" or
    "match_rms_adamw".
    """

    def __init__(
        self, kernels: Iterable[Parameter], lr: float, weight_decay: float, adjust: str = "match_rms_adamw"
    ) -> None:
        self.kernels = list(kernels)
        self.views = [Parameter(kernel.detach().flatten(1)) for kernel in self.kernels]
        super().__init__(self.views, lr=lr, weight_decay=weight_decay, adjust_lr_fn=adjust)

    def step(self, closure: Any = None) -> Any:
        for kernel, view in zip(self.kernels, self.views):
            view.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        if all(computes_bfloat16(view.device) for view in self.views):
            return super().step(closure)
        loss = None if closure is None else closure()
        for group in self.param_groups:
            self._step_in_float32(group)
        return loss

    @torch.no_grad()
    def _step_in_float32(self, group: Mapping[str, Any]) -> None:
        alike = defaultdict(list)
        for view in group["params"]:
            if view.grad is not None:
                alike[view.shape].append(view)
        for shape, views in alike.items():
            updates = torch.stack([self._momentum(view, group) for view in views])
            updates = orthogonalised(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
            rate = group["lr"] * adjustment(shape, group["adjust_lr_fn"])
            for view, update in zip(views, updates):
                view.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _momentum(self, view: Tensor, group: Mapping[str, Any]) -> Tensor:
        """Its average gradient, the newest counted once more (Nesterov), kept where torch's own step keeps
        it.
        """
        state, gradient = self.state[view], view.grad
        assert gradient is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        average = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(average, group["momentum"]) if group["nesterov"] else average

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for kernel in self.kernels:
            kernel.grad = None


def computes_bfloat16(device: torch.device) -> bool:
    """Whether products of bfloat16 matrices are fast there: on accelerators, and on processors with
    512-bit vectors.
    """
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "AVX2")


def arithmetic(rate: float | None, device: str | torch.device) -> dict[str, str]:
    """What a trained model's recipe says beside its settings: in what `Muon` orthogonalised, the machine's
    choice; nothing without a rate.

    A run that went on on another kind of machine names the last one's.
    """
    return (
        {}
        if rate is None
        else {"orthogonalised_in": "bfloat16" if computes_bfloat16(torch.device(device)) else "float32"}
    )


def adjustment(shape: torch.Size, rule: str | None) -> float:
    """What the learning rate of a matrix [out, in] is multiplied by, by torch's names of the rules."""
    rows, columns = shape
    return (
        0.2 * math.sqrt(max(rows, columns))
        if rule == "match_rms_adamw"
        else math.sqrt(max(1, rows / columns))
    )


def orthogonalised(
    matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> Tensor:
    """[k, out, in] -> the same, with all singular values brought near 1 by a quintic Newton-Schulz
    iteration.
    """
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
