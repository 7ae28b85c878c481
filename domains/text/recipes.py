"""What can be trained here, with the settings that the search on the validation part chose
(docs/training-log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F

from bench.artifact.format import tensors_digest
from bench.interfaces import Wrap
from domains.folders import write_json
from domains.text import evaluators
from domains.text import network as generators
from domains.text.conv_judge import ConvJudgeNetwork
from domains.text.data import verses
from domains.text.judge import JudgeNetwork
from domains.text.training import IGNORED, Recipe, VerseTraining

# Of all embedded models; chosen on the validation part (docs/training-log.md).
SAMPLER = {"temperature": 1.0, "nucleus": 1.0, "max_tokens": 256}

TEACHING = 1.0  # weight of KL(teacher || student) of the next token
GENERATOR = Recipe(steps=20_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)
JUDGE = Recipe(steps=7_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)
CONV_JUDGE = Recipe(steps=6_000, batch=32, learning_rate=4e-3, muon_learning_rate=2e-2)


class GeneratorTraining(VerseTraining):
    """Trains a `transformers` causal language model; freezes it as a `save_pretrained` folder."""

    def __init__(
        self,
        model: torch.nn.Module,
        tokenizer: Any,
        texts: Sequence[str],
        seed: int,
        wrap: Wrap | None = None,
        teacher: torch.nn.Module | None = None,
    ) -> None:
        model = model if wrap is None else wrap("generator", model)
        self.model, self.tokenizer = model, tokenizer
        self.teacher = None if teacher is None else Logits(teacher)
        held_out = verses("validation")
        super().__init__(
            Logits(model),
            encode(tokenizer, texts),
            encode(tokenizer, held_out),
            sum(len(text.encode()) for text in held_out),
            GENERATOR,
            seed,
        )

    def losses(self, network: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
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
        total = loss + TEACHING * taught
        return total, {"loss": loss.item(), "teacher": taught.item()}

    def finished(self) -> torch.nn.Module:
        return cast(torch.nn.Module, self.averaged().model)

    def freeze(self, folder: Path) -> None:
        """Averaged weights, rounded to fp16, stored as fp32 so that every reader computes the same."""
        model: Any = self.averaged().cpu().model.half().float()  # type: ignore[operator,union-attr]
        folder.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_json(folder / "recipe.json", self.written_recipe())
        card = {
            "licence": "Apache-2.0; trained on a text in the public domain",
            "description": "Llama trained on King James verses",
            "parameters": sum(p.numel() for p in model.parameters()),
            "train_seed": self.seed,
            "verses_seen": self.step_number * self.recipe.batch,
            "weights_sha256": tensors_digest(model),
            "sampler": SAMPLER,
        }
        write_json(folder / "card.json", card)


class Logits(torch.nn.Module):
    """A `transformers` model as a plain function from tokens to logits."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=tokens, use_cache=False).logits


def encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return list(tokenizer(list(texts))["input_ids"])


def fresh_generator(size: str, seed: int, texts: Sequence[str]) -> tuple[torch.nn.Module, Any]:
    """An untrained network and the one tokenizer of all sizes (a function of the texts alone)."""
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(generators.config(size))
    return model, generators.train_tokenizer(texts)


class JudgeTraining(VerseTraining):
    """Trains an evaluator of quality with its own tokens; freezes network, tokenizer and the main
    directions of its states.
    """

    def __init__(self, texts: Sequence[str], name: str = "judge", seed: int = 0, device: str = "cpu") -> None:
        self.texts, self.plan = texts, JUDGES[name]
        self.tokenizer = generators.train_tokenizer(texts, self.plan.shape["vocabulary"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.plan.network(**self.plan.shape).to(device)
        held_out = verses("validation")
        tokens = encode(self.tokenizer, texts), encode(self.tokenizer, held_out)
        super().__init__(network, *tokens, sum(len(t.encode()) for t in held_out), self.plan.recipe, seed)

    def freeze(self, folder: Path) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: value.half().cpu().contiguous() for name, value in self.averaged().state_dict().items()
        }
        save_file(state, folder / f"{self.plan.evaluator.name}.safetensors")
        self.tokenizer.save_pretrained(folder)
        write_json(folder / "recipe.json", {**self.written_recipe(), **self.plan.shape})
        judge = self.plan.evaluator(folder=folder, directions=False)
        evaluators.Directions.fit(judge.read(self.texts)[0]).write(folder / "directions.safetensors")


@dataclass(frozen=True)
class JudgePlan:
    evaluator: type[evaluators.LanguageJudge]
    network: Callable[..., torch.nn.Module]
    shape: Mapping[str, int]
    recipe: Recipe


JUDGES = {
    "judge": JudgePlan(
        evaluators.Judge, JudgeNetwork, {"vocabulary": 2048, "width": 160, "states": 448}, JUDGE
    ),
    "conv_judge": JudgePlan(
        evaluators.ConvJudge, ConvJudgeNetwork, {"vocabulary": 512, "width": 128}, CONV_JUDGE
    ),
}
