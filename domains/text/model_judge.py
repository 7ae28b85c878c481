"""`--evaluator ./folder` or `--evaluator owner/name`: any causal language model of transformers as one
more evaluator of quality.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Evaluator
from bench.util.cache import Latest
from domains.text.evaluators import Directions

if TYPE_CHECKING:
    from domains.text.adapter import TextGenerator

LONGEST = 512  # tokens of a text that are read; verses are shorter


class ModelJudge(Evaluator):
    """Features: the last layer's states, averaged over a text, in the 64 main directions of the validation
    verses.

    Surprisal: mean negative log-likelihood of a token, the end of the text included, in nats.
    """

    role = "quality"
    version = 1

    def __init__(self, name: str, opened: TextGenerator, device: str = "cpu") -> None:
        """`opened`: the model, as it would be opened to generate; `name`: the folder or hub id that the
        user gave.
        """
        from bench.artifact.format import tensors_digest

        self.name = name  # type: ignore[misc]
        self.network: Any = opened.network
        self.tokenizer, self.start, self.end, self.device = opened.tokenizer, opened.start, opened.end, device
        content = tensors_digest(opened.network) + opened.identity()
        self._identity = hashlib.sha256(content.encode()).hexdigest()
        self._directions: Directions | None = None
        self._latest: Latest[tuple[Tensor, Tensor]] = Latest()

    def identity(self) -> str:
        return self._identity

    def features(self, samples: Sequence[str]) -> Tensor:
        if self._directions is None:
            from domains.text.data import verses

            self._directions = Directions.fit(self._read(verses("validation"))[0])
        return self._directions(self.read(samples)[0])

    def surprisal(self, samples: Sequence[str]) -> Tensor:
        return self.read(samples)[1]

    def read(self, samples: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> mean states [n, d], mean surprisal [n]."""
        return self._latest.of(samples, lambda: self._read(samples))

    @torch.inference_mode()
    def _read(self, samples: Sequence[str]) -> tuple[Tensor, Tensor]:
        """One text at a time: no padding that a model might look at."""
        from bench.util.progress import Bar
        from domains.language.opening import positions

        longest = min(LONGEST, positions(self.network) or LONGEST)
        ends = [] if self.end is None else [self.end]
        states, surprisals = [], []
        with Bar(f"score with {Path(self.name).name}", len(samples)) as bar:
            for text in samples:
                written = self.tokenizer(text, add_special_tokens=False)["input_ids"]
                tokens = torch.tensor([self.start, *written, *ends][:longest], device=self.device)
                if len(tokens) < 2:
                    raise BadInput(
                        f"evaluator {self.name!r} has no end token, and cannot score an empty text"
                    )
                seen = self.network(input_ids=tokens[None], output_hidden_states=True, use_cache=False)
                states.append(seen.hidden_states[-1][0].float().mean(0).cpu())
                surprisals.append(F.cross_entropy(seen.logits[0, :-1].float(), tokens[1:]).cpu())
                bar.update()
        return torch.stack(states), torch.stack(surprisals)
