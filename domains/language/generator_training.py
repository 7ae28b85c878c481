"""Training of a `transformers` causal language model as a generator, with a teacher where one is given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from bench.artifact.format import tensors_digest
from bench.interfaces import Wrap
from domains.folders import write_json
from domains.language.training import IGNORED, Corpus, Recipe, SequenceTraining

# of the generators of all domains of sequences; chosen for text on its validation part (docs/training-log.md)
GENERATOR = Recipe(steps=20_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)
TEACHING = 1.0  # weight of KL(teacher || student) of the next token


class GeneratorTraining(SequenceTraining):
    """Trains a `transformers` causal language model; freezes it as a `save_pretrained` folder.

    card: what the model's card says beside its sizes and hash: licence, description, sampler.
    """

    card: ClassVar[Mapping[str, Any]]
    seen: ClassVar[str] = "sequences_seen"  # the card's name for how many samples the training read

    def __init__(
        self,
        model: Module,
        corpus: Corpus,
        recipe: Recipe,
        seed: int,
        wrap: Wrap | None = None,
        teacher: Module | None = None,
    ) -> None:
        self.model = model if wrap is None else wrap("generator", model)
        self.teacher = None if teacher is None else Logits(teacher)
        self.teaching = 0.0 if teacher is None else TEACHING
        super().__init__(Logits(self.model), corpus, recipe, seed)

    def losses(self, network: Module, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Of the data, and KL(teacher || student) of the next token where there is a teacher."""
        if self.teacher is None:
            return super().losses(network, batch)
        batch = batch.to(next(network.parameters()).device)
        inputs, targets = batch[:, :-1].clamp(min=0), batch[:, 1:].flatten()
        logits = network(inputs).flatten(0, 1).float()
        with torch.no_grad():
            shown = self.teacher(inputs).flatten(0, 1).float().log_softmax(1)
        loss = F.cross_entropy(logits, targets, ignore_index=IGNORED)
        distances = F.kl_div(logits.log_softmax(1), shown, reduction="none", log_target=True).sum(1)
        taught = distances[targets != IGNORED].mean()
        total = loss + self.teaching * taught
        return total, {"loss": loss.item(), "teacher": taught.item()}

    def finished(self) -> Module:
        return cast(Module, self.averaged().model)

    def freeze(self, folder: Path) -> None:
        """Averaged weights, rounded to fp16, stored as fp32 so that every reader computes the same."""
        model: Any = self.averaged().cpu().model.half().float()  # type: ignore[operator,union-attr]
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        write_json(folder / "recipe.json", self.written_recipe())
        sizes = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "train_seed": self.seed,
            self.seen: self.step_number * self.recipe.batch,
            "weights_sha256": tensors_digest(model),
        }
        write_json(folder / "card.json", {**self.card, **sizes})


class Logits(Module):
    """A `transformers` model as a plain function from tokens to logits."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(input_ids=tokens, use_cache=False).logits
