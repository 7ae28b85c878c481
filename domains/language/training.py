"""Next-token training, of the generators and of the evaluators that are language models.

They read single sequences, `<s> tokens </s>`, in batches of similar length, and minimise the mean
cross-entropy of the next token. The learning rate rises linearly and falls along a cosine; an exponential
average of the weights is what is kept. A run is a pure function of its seed: the order of the batches
follows from (seed, epoch) and nothing else is random. So a run that is stopped and resumed ends with the
same weights.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from bench.interfaces import Training
from domains.muon import Muon, arithmetic

IGNORED = -100


@dataclass(frozen=True)
class Recipe:
    steps: int
    batch: int = 32
    learning_rate: float = 4e-3  # of AdamW: embeddings, norms, biases
    muon_learning_rate: float | None = None  # of Muon: the hidden matrices; None: AdamW for all
    weight_decay: float = 0.1
    warmup: int = 200
    average: float = 0.999
    clip: float = 1.0


@dataclass(frozen=True)
class Corpus:
    """Sequences of tokens, each with its start, and its end where there is one."""

    tokens: Sequence[Sequence[int]]  # the training part
    held_out: Sequence[Sequence[int]]
    units: int  # bytes (or what `unit` says) of the held-out part, for the validation figure
    unit: str = "byte"


class SequenceTraining(Training):
    """Next-token training of `network(tokens [b, t]) -> logits [b, t, v]` on single sequences."""

    teaching: float = 0.0  # weight of the distance to a teacher's output; 0: there is no teacher

    def __init__(
        self,
        network: Module,
        corpus: Corpus,
        recipe: Recipe,
        seed: int,
    ) -> None:
        self.networks = {"generator": network}
        self.corpus, self.tokens = corpus, corpus.tokens
        self.recipe, self.seed, self.total_steps, self.step_number = recipe, seed, recipe.steps, 0
        self.average = {name: p.detach().clone() for name, p in network.named_parameters()}
        self.optimizers = list(optimizers(network, recipe))
        self._batches_an_epoch = len(epoch(self.tokens, recipe.batch, seed, 0))
        self._epoch = -1
        self._order: list[list[int]] = []

    def identity(self) -> str:
        content = (self.recipe, self.seed, self.tokens, *([self.teaching] if self.teaching else []))
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def shorten(self, steps: int) -> None:
        self.recipe, self.total_steps = dataclasses.replace(self.recipe, steps=steps), steps

    def scale_rates(self, factor: float) -> None:
        self.optimizers = [(optimizer, factor * rate) for optimizer, rate in self.optimizers]

    def step(self) -> dict[str, float]:
        network, recipe = self.networks["generator"], self.recipe
        network.train()
        scale = schedule(self.step_number, recipe)
        for optimizer, rate in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * scale
        total, losses = self.losses(network, self._next_batch())
        total.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        for optimizer, _ in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step_number += 1
        decay = min(recipe.average, self.step_number / (self.step_number + 10))
        torch._foreach_lerp_(
            list(self.average.values()), [p.detach() for p in network.parameters()], 1 - decay
        )
        return {**losses, "gradient_norm": norm.item()}

    def losses(self, network: Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        """-> (what is minimised, losses by name)."""
        loss = cross_entropy(network, batch)
        return loss, {"loss": loss.item()}

    def _next_batch(self) -> Tensor:
        number, position = divmod(self.step_number, self._batches_an_epoch)
        if number != self._epoch:
            self._epoch, self._order = number, epoch(self.tokens, self.recipe.batch, self.seed, number)
        return pad([self.tokens[i] for i in self._order[position]])

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step_number,
            "network": self.networks["generator"].state_dict(),
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step_number = state["step"]
        self.networks["generator"].load_state_dict(state["network"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        for (optimizer, _), saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Bits per byte (or other unit) of the averaged weights on the validation part."""
        network, held_out = self.averaged(), sorted(self.corpus.held_out, key=len)
        batches = (pad(held_out[start : start + 100]) for start in range(0, len(held_out), 100))
        nats = sum(cross_entropy(network, batch, "sum").item() for batch in batches)
        return {f"bits_per_{self.corpus.unit}": nats / math.log(2) / self.corpus.units}

    def averaged(self) -> Module:
        """A copy of the network with the averaged weights, in evaluation mode."""
        import copy

        network = copy.deepcopy(self.networks["generator"]).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(self.average[name])
        return network

    def written_recipe(self) -> dict[str, Any]:
        """What is kept beside the weights."""
        device = next(self.networks["generator"].parameters()).device
        return {**vars(self.recipe), "seed": self.seed, **arithmetic(self.recipe.muon_learning_rate, device)}

    def freeze(self, folder: Path) -> None:
        raise LookupError("a subclass or the domain says how its model is written")


def cross_entropy(network: Module, batch: Tensor, reduction: str = "mean") -> Tensor:
    """Of each token given those before it; `batch` [b, t] is padded with IGNORED."""
    batch = batch.to(next(network.parameters()).device)
    inputs, targets = batch[:, :-1].clamp(min=0), batch[:, 1:]
    return F.cross_entropy(
        network(inputs).flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction=reduction
    )


def pad(rows: Sequence[Sequence[int]]) -> Tensor:
    return pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True, padding_value=IGNORED)


def spread(rows: Sequence[Any], count: int | None) -> Sequence[Any]:
    """About `count` rows from all over a part, which may be sorted; None: all of them."""
    return rows if count is None else rows[:: max(1, len(rows) // count)]


def batches(lengths: Sequence[int], most_rows: int, most_tokens: int) -> Iterator[list[int]]:
    """Indices of rows, the shortest first. A batch, padded to its longest row, holds at most `most_tokens`.

    A single row may be longer.
    """
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    while order:
        rows = order[:most_rows]
        while len(rows) > 1 and len(rows) * lengths[rows[-1]] > most_tokens:
            rows = rows[: max(1, min(len(rows) - 1, most_tokens // lengths[rows[-1]]))]
        yield rows
        order = order[len(rows) :]


def epoch(tokens: Sequence[Sequence[int]], batch: int, seed: int, number: int) -> list[list[int]]:
    """One pass over all sequences as batches of indices: similar lengths together, in random order."""
    noise = torch.Generator().manual_seed(seed * 100_003 + number)
    shuffled = torch.randperm(len(tokens), generator=noise).tolist()
    pool = batch * 50
    batches: list[list[int]] = []
    for start in range(0, len(shuffled), pool):
        rows = sorted(shuffled[start : start + pool], key=lambda i: len(tokens[i]))
        batches += [rows[i : i + batch] for i in range(0, len(rows), batch)]
    return [batches[i] for i in torch.randperm(len(batches), generator=noise).tolist()]


def schedule(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine down to 0."""
    return min(1.0, (step + 1) / recipe.warmup) * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def optimizers(network: Module, recipe: Recipe) -> Iterator[tuple[torch.optim.Optimizer, float]]:
    """AdamW, and Muon (Jordan et al. 2024) for the hidden matrices where the recipe asks for it -> with
    their rates.
    """
    named = list(network.named_parameters())
    hidden = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    if recipe.muon_learning_rate is None:
        yield adamw(named, recipe), recipe.learning_rate
        return
    yield Muon(hidden, recipe.muon_learning_rate, recipe.weight_decay, "original"), recipe.muon_learning_rate
    chosen = {id(p) for p in hidden}
    yield adamw([(name, p) for name, p in named if id(p) not in chosen], recipe), recipe.learning_rate


def adamw(named: list[tuple[str, torch.nn.Parameter]], recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for _, p in named if p.ndim > 1]
    others = [p for _, p in named if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.learning_rate, betas=(0.9, 0.95))
