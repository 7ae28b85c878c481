"""Language models as evaluators of quality: they know whether a sequence is well-formed.

They are trained on the same training part as the generators, have their own tokens, and are of other kinds
than the generators: recurrent or convolutional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Module

from bench.interfaces import Evaluator
from bench.util.cache import Latest
from domains.folders import write_json
from domains.language.convolutional import ConvJudgeNetwork
from domains.language.gru import JudgeNetwork
from domains.language.training import IGNORED, Corpus, Recipe, SequenceTraining, batches, pad, spread

COMPONENTS = 64
# what a batch holds, padding included: 768 tokens of 128 texts, more than networks of our tokenizer write
MOST_TOKENS = 128 * 768
LOGITS_AT_ONCE = 2**14  # tokens whose logits are in memory together


class LanguageJudge(Evaluator):
    """A language model, trained on the same training part as the generators, with its own tokens.

    Features: its states, averaged over a text, in the 64 main directions of training texts.
    Surprisal: mean negative log-likelihood of a token, the end of the text included, in nats; where
    `largest` is set, the mean over the tokens that cost most.
    """

    role = "quality"
    weights: ClassVar[Path]  # the domain's folder of weights; the judge's own folder there has its name
    longest: ClassVar[int | None] = None  # tokens that are read of a text
    largest: ClassVar[int | None] = None  # the surprisal is the mean of this many largest costs; None: of all

    def __init__(self, device: str = "cpu", folder: Path | None = None, directions: bool = True) -> None:
        from safetensors.torch import load_file
        from transformers import AutoTokenizer

        folder = folder or self.weights / self.name
        state = load_file(folder / f"{self.name}.safetensors")
        self.network = self.empty(state).to(device).eval()
        self.network.load_state_dict({name: value.float() for name, value in state.items()})
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.directions = Directions.read(folder / "directions.safetensors") if directions else None
        self.device = device
        self._latest: Latest[tuple[Tensor, Tensor]] = Latest()

    @staticmethod
    def empty(state: Mapping[str, Tensor]) -> Any:
        """A network of the shapes of these weights, with `states(tokens)` and `logits(states)`."""
        raise NotImplementedError

    def features(self, samples: Sequence[str]) -> Tensor:
        assert self.directions is not None
        return self.directions(self.read(samples)[0])

    def surprisal(self, samples: Sequence[str]) -> Tensor:
        return self.read(samples)[1]

    def of_text(self, nats: Tensor, real: Tensor) -> Tensor:
        """What each token costs, and 1 where there is one, both [b, t] -> a text's surprisal [b]."""
        if self.largest is None:
            return nats.sum(1) / real.sum(1)
        most = nats.topk(min(self.largest, nats.shape[1]), 1).values.sum(1)  # padding costs 0
        return most / real.sum(1).clamp(max=self.largest)

    def read(self, samples: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> mean states [n, states], surprisal [n]."""
        return self._latest.of(samples, lambda: self._read(samples))

    @torch.inference_mode()
    def _read(self, samples: Sequence[str], batch: int = 128) -> tuple[Tensor, Tensor]:
        tokens = [row[: self.longest] for row in self.tokenizer(list(samples))["input_ids"]]
        states, surprisal = torch.empty(0), torch.empty(len(tokens))
        for rows in batches([len(row) for row in tokens], batch, MOST_TOKENS):
            padded = pad([tokens[i] for i in rows]).to(self.device)
            inputs, targets = padded[:, :-1].clamp(min=0), padded[:, 1:]
            real = (targets != IGNORED).float()
            hidden = self.network.states(inputs)  # [b, t, states]
            if not len(states):
                states = torch.empty(len(tokens), hidden.shape[2])
            states[rows] = ((hidden * real[..., None]).sum(1) / real.sum(1, keepdim=True)).cpu()
            surprisal[rows] = self.of_text(self._nats(hidden, targets), real).cpu()
        return states, surprisal

    @torch.inference_mode()
    def continuation_surprisal(self, samples: Sequence[str], after: Sequence[int]) -> Tensor:
        """[n] mean nats a token of what follows the first `after[i]` characters of a text, given these.

        The end of the text counts, too. A token across the border belongs to what follows.
        """
        found = self.tokenizer(list(samples), return_offsets_mapping=True)
        surprisal = torch.empty(len(samples))
        for rows in batches([len(row) for row in found["input_ids"]], 128, MOST_TOKENS):
            padded = pad([found["input_ids"][i] for i in rows]).to(self.device)
            inputs, targets = padded[:, :-1].clamp(min=0), padded[:, 1:]
            nats = self._nats(self.network.states(inputs), targets).cpu()  # [b, t]
            for i, costs in zip(rows, nats):
                ends = [end for _, end in found["offset_mapping"][i]][1:-1]
                follows = torch.tensor([end > after[i] for end in ends] + [True])
                surprisal[i] = costs[: len(follows)][follows].mean()
        return surprisal

    def _nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[b, t, states], [b, t] -> what each token costs, [b, t]; 0 for padding."""
        steps = max(1, LOGITS_AT_ONCE // len(hidden))
        parts = []
        for some, wanted in zip(hidden.split(steps, 1), targets.split(steps, 1)):
            logits = self.network.logits(some).flatten(0, 1)
            nats = F.cross_entropy(logits, wanted.flatten(), ignore_index=IGNORED, reduction="none")
            parts.append(nats.reshape(wanted.shape))
        return torch.cat(parts, 1)


class RecurrentJudge(LanguageJudge):
    """A recurrent one (GRU): it has a memory as long as the text."""

    @staticmethod
    def empty(state: Mapping[str, Tensor]) -> JudgeNetwork:
        vocabulary, width = state["embed.weight"].shape
        layers = sum(name.startswith("gru.weight_hh") for name in state)
        return JudgeNetwork(vocabulary, width, state["project.weight"].shape[1], layers)


class ConvolutionalJudge(LanguageJudge):
    """A convolutional one: it reads in a window."""

    longest = 256  # broken networks write without end

    @staticmethod
    def empty(state: Mapping[str, Tensor]) -> ConvJudgeNetwork:
        return ConvJudgeNetwork(*state["embed.weight"].shape)


class Directions:
    """Principal components: x -> (x - mean) @ components."""

    def __init__(self, mean: Tensor, components: Tensor) -> None:
        self.mean, self.components = mean, components  # [d], [d, 64]

    def __call__(self, x: Tensor) -> Tensor:
        """[n, d] -> [n, 64] float32.

        Row by row in float64, so that a sample's features do not depend on its neighbours.
        """
        return ((x.double() - self.mean.double()) @ self.components.double()).float()

    @classmethod
    def fit(cls, x: Tensor, count: int = COMPONENTS, centred: bool = True) -> Directions:
        """centred=False: the mean counts as 0, so that the zero vector stays one (truncated SVD)."""
        mean = x.double().mean(0) if centred else torch.zeros(x.shape[1], dtype=torch.float64)
        shifted = x.double() - mean
        _, vectors = torch.linalg.eigh(shifted.T @ shifted / len(x))
        vectors = vectors.flip(1)[:, :count]
        # the sign is arbitrary: fix it
        signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        return cls(mean.float(), (vectors * signs).float().contiguous())

    @classmethod
    def read(cls, path: Path) -> Directions:
        from safetensors.torch import load_file

        tensors = load_file(path)
        return cls(tensors["mean"], tensors["components"])

    def write(self, path: Path) -> None:
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"mean": self.mean, "components": self.components}, path)


@dataclass(frozen=True)
class JudgePlan:
    """How a judge is trained."""

    evaluator: type[LanguageJudge]
    network: Callable[..., Module]
    shape: Mapping[str, int]
    recipe: Recipe
    fitted_on: int | None = None  # training texts that give tokens and main directions; None: all


class JudgeTraining(SequenceTraining):
    """Trains a judge with its own tokens; freezes network, tokenizer and the main directions of its
    states.
    """

    def __init__(
        self,
        plan: JudgePlan,
        tokenizer: Any,
        texts: Sequence[str],
        corpus: Corpus,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.plan, self.tokenizer, self.texts = plan, tokenizer, spread(texts, plan.fitted_on)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = plan.network(**plan.shape).to(device)
        super().__init__(network, corpus, plan.recipe, seed)

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
        Directions.fit(judge.read(self.texts)[0]).write(folder / "directions.safetensors")
