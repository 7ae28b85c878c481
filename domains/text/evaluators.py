"""The two evaluators: a recurrent language model for quality, and word embeddings for diversity.

Neither shares weights, tokens or architecture with the generators. The judge reads word by word and knows
whether a verse is well-formed; the embeddings are blind to word order and know only what it is about. One
space for both questions would confound them. Their principal components are fitted on training verses: the
judge's when its training ends, those of the words by `python -m domains.text.evaluators`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Evaluator
from bench.util.cache import Latest
from domains.text.conv_judge import ConvJudgeNetwork
from domains.text.judge import JudgeNetwork
from domains.text.training import IGNORED, batches, pad

WEIGHTS = Path(__file__).parent / "weights"
COMPONENTS = 64
# what a batch holds, padding included: 768 tokens of 128 texts, more than networks of our tokenizer write
MOST_TOKENS = 128 * 768
LOGITS_AT_ONCE = 2**14  # tokens whose logits are in memory together
WORDS_AT_ONCE = 2**18  # tokens whose embeddings are in memory together
WORDS_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"


class LanguageJudge(Evaluator):
    """A language model, trained on the same training part as the generators, with its own tokens.

    Features: its states, averaged over a verse, in the 64 main directions of training verses.
    Surprisal: mean negative log-likelihood of a token, the end of the verse included, in nats.
    """

    role = "quality"
    longest: ClassVar[int | None] = None  # tokens that are read of a text

    def __init__(self, device: str = "cpu", folder: Path | None = None, directions: bool = True) -> None:
        from safetensors.torch import load_file
        from transformers import AutoTokenizer

        folder = folder or WEIGHTS / self.name
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

    def read(self, samples: Sequence[str]) -> tuple[Tensor, Tensor]:
        """-> mean states [n, states], mean surprisal [n]."""
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
            surprisal[rows] = (self._nats(hidden, targets).sum(1) / real.sum(1)).cpu()
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


class Judge(LanguageJudge):
    """A recurrent one (GRU)."""

    name = "judge"
    version = 1

    @staticmethod
    def empty(state: Mapping[str, Tensor]) -> JudgeNetwork:
        vocabulary, width = state["embed.weight"].shape
        layers = sum(name.startswith("gru.weight_hh") for name in state)
        return JudgeNetwork(vocabulary, width, state["project.weight"].shape[1], layers)


class ConvJudge(LanguageJudge):
    """The secondary evaluator: a convolutional model.

    It reads smaller tokens in a window; the primary one has a memory.
    """

    name = "conv_judge"
    version = 1
    longest = 256  # the longest verse has 230; networks that are broken write without end

    @staticmethod
    def empty(state: Mapping[str, Tensor]) -> ConvJudgeNetwork:
        return ConvJudgeNetwork(*state["embed.weight"].shape)


class Words(Evaluator):
    """`wordllama`'s pre-trained word embeddings (Miller 2024, MIT), averaged over a verse, unit length, 64
    main directions.

    Read from the installed package with safetensors and tokenizers: its own loader would download a
    tokenizer.
    """

    name = "wordllama"
    role = "diversity"
    version = 1

    def __init__(
        self, device: str = "cpu", directions: Path = WEIGHTS / "wordllama" / "directions.safetensors"
    ) -> None:
        self.table, self.tokenizer = read_wordllama()
        self.directions = Directions.read(directions) if directions.exists() else None

    def features(self, samples: Sequence[str]) -> Tensor:
        assert self.directions is not None
        return self.directions(self.means(samples))

    def means(self, samples: Sequence[str]) -> Tensor:
        """[n, 256], unit length; a text without any token is the zero vector."""
        means = torch.zeros(len(samples), 256)
        encoded = self.tokenizer.encode_batch(list(samples), add_special_tokens=False)  # type: ignore[attr-defined]
        tokens = [e.ids for e in encoded]
        for rows in batches([len(row) for row in tokens], len(tokens), WORDS_AT_ONCE):
            lengths = torch.tensor([len(tokens[i]) for i in rows])
            ids = torch.tensor([token for i in rows for token in tokens[i]], dtype=torch.long)
            if len(ids):
                means[rows] = torch.segment_reduce(self.table[ids], "sum", lengths=lengths, initial=0.0)
        return F.normalize(means, dim=1)


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
    def fit(cls, x: Tensor, count: int = COMPONENTS) -> Directions:
        centred = x.double() - x.double().mean(0)
        _, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
        vectors = vectors.flip(1)[:, :count]
        # the sign is arbitrary: fix it
        signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        return cls(x.double().mean(0).float(), (vectors * signs).float().contiguous())

    @classmethod
    def read(cls, path: Path) -> Directions:
        from safetensors.torch import load_file

        tensors = load_file(path)
        return cls(tensors["mean"], tensors["components"])

    def write(self, path: Path) -> None:
        from safetensors.torch import save_file

        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"mean": self.mean, "components": self.components}, path)


@functools.cache
def read_wordllama() -> tuple[Tensor, object]:
    """The embedding table [32000, 256] float32 and the tokenizer, both from the installed package's files."""
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    spec = importlib.util.find_spec("wordllama")  # found, not imported: importing it sets up logging
    if spec is None or spec.origin is None:
        raise BadInput(
            "the text domain's evaluator of diversity needs the package wordllama: pip install wordllama"
        )
    folder = Path(spec.origin).parent
    weights = folder / "weights" / "l2_supercat_256.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != WORDS_SHA256:
        raise BadInput(
            f"{weights.name} of the installed wordllama is another than was validated here (SHA-256 "
            f"{found[:12]}...)"
        )
    tokenizer = Tokenizer.from_file(str(folder / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return next(iter(load_file(weights).values())).float(), tokenizer


if __name__ == "__main__":  # the judge's own are fitted when its training ends
    from domains.text.data import verses

    Directions.fit(Words().means(verses("train"))).write(WEIGHTS / "wordllama" / "directions.safetensors")
