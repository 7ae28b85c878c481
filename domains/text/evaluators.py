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
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BadInput
from bench.interfaces import Evaluator
from domains.language.judges import ConvolutionalJudge, Directions, RecurrentJudge
from domains.language.training import batches

WEIGHTS = Path(__file__).parent / "weights"
WORDS_AT_ONCE = 2**18  # tokens whose embeddings are in memory together
WORDS_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"


class Judge(RecurrentJudge):
    """The primary evaluator of quality."""

    name = "judge"
    version = 1
    weights = WEIGHTS


class ConvJudge(ConvolutionalJudge):
    """The secondary evaluator of quality. Its tokens are smaller; the longest verse has 230 of them."""

    name = "conv_judge"
    version = 1
    weights = WEIGHTS


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
