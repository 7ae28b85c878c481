"""The network of a recurrent judge: a language model, of another kind than the generators."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class JudgeNetwork(nn.Module):
    """Embedding -> GRU layers -> projection -> logits through the tied embedding."""

    def __init__(
        self, vocabulary: int, width: int, states: int, layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.gru = nn.GRU(width, states, num_layers=layers, batch_first=True)
        self.project = nn.Linear(states, width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        nn.init.normal_(self.embed.weight, std=0.05)

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, t] -> logits [b, t, vocabulary]."""
        return self.logits(self.states(tokens))

    def states(self, tokens: Tensor) -> Tensor:
        """[b, t] -> the last layer's states [b, t, states]."""
        return self.gru(self.embed(tokens))[0]

    def logits(self, states: Tensor) -> Tensor:
        return self.project(states) @ self.embed.weight.T + self.bias
