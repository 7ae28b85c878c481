"""The generator: a small Llama (RMSNorm, rotary positions, gated MLP, tied embeddings) in three sizes, and
the tokenizer of texts.

Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", arXiv:2302.13971.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.nn import Module
    from transformers import LlamaConfig, PreTrainedTokenizerFast

VOCABULARY = 1024
MAX_TOKENS = 256  # the longest verse of the training part has 201; a sample that reaches it is cut there
START, END, PAD = "<s>", "</s>", "<pad>"

SIZES = {  # name -> width, layers, heads, MLP width                     parameters
    "xs": dict(hidden_size=48, num_hidden_layers=3, num_attention_heads=3, intermediate_size=128),
    "s": dict(hidden_size=112, num_hidden_layers=3, num_attention_heads=4, intermediate_size=304),
    "m": dict(hidden_size=208, num_hidden_layers=4, num_attention_heads=4, intermediate_size=560),
}


def fresh(size: str, seed: int, **changes: int | None) -> Module:
    """An untrained network."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config(size, **changes))


def config(size: str, **changes: int | None) -> LlamaConfig:
    """The `transformers` config of one size; `changes` replace settings, such as `vocab_size`."""
    from transformers import LlamaConfig

    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    settings: dict[str, Any] = {"vocab_size": VOCABULARY, **ids, **SIZES[size], **changes}
    return LlamaConfig(
        **settings,
        num_key_value_heads=settings["num_attention_heads"],
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
    )


def train_tokenizer(texts: Iterable[str], vocabulary: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer; encodes `<s> text </s>`.

    No token goes beyond a word, a number or a run of punctuation.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[START, END, PAD],
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, 0), (END, 1)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=START, eos_token=END, pad_token=PAD)
