"""The secondary evaluator of quality: a convolutional language model.

Its tokens are smaller, and it sees one window.

Gated convolutions (Dauphin et al. 2017, arXiv:1612.08083), dilated: 127 tokens back, longer than nearly every
verse.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DILATIONS = (1, 2, 4, 8, 16, 32)


class ConvJudgeNetwork(nn.Module):
    """Embedding -> gated causal convolutions -> logits through the tied embedding."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(GatedConvolution(width, dilation) for dilation in DILATIONS)
        self.norm = nn.RMSNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        nn.init.normal_(self.embed.weight, std=0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, t] -> logits [b, t, vocabulary]."""
        return self.logits(self.states(tokens))

    def states(self, tokens: Tensor) -> Tensor:
        """[b, t] -> [b, t, width]"""
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)

    def logits(self, states: Tensor) -> Tensor:
        return states @ self.embed.weight.T + self.bias


class GatedConvolution(nn.Module):
    """x + projection(a * sigmoid(b)), where (a, b) is linear in this token and those 1 and 2 dilations
    before it.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.RMSNorm(width)
        self.mix = nn.Linear(3 * width, 2 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[b, t, width] -> the same"""
        h, t = self.norm(x), x.shape[1]
        seen = torch.cat(
            [F.pad(h, (0, 0, back, 0))[:, :t] for back in (2 * self.dilation, self.dilation, 0)], dim=2
        )
        a, b = self.mix(seen).chunk(2, dim=2)
        return x + self.project(a * torch.sigmoid(b))
