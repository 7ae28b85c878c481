"""Tiny untrained language models in the hub's own format: a configuration, weights and a real tokenizer."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

VOCABULARY, POSITIONS = 300, 256
COMMON: dict[str, Any] = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=POSITIONS,
)
GROUPED: dict[str, Any] = dict(**COMMON, num_key_value_heads=1, head_dim=16)
STATES: dict[str, Any] = dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8)
EXPERTS: dict[str, Any] = dict(**GROUPED, num_experts_per_tok=2)
KINDS: dict[str, dict[str, Any]] = {  # type of the model -> its configuration
    "gpt2": dict(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=POSITIONS),
    "llama": GROUPED,
    "gpt_neox": COMMON,
    "qwen2": GROUPED,
    "gemma": GROUPED,
    "mamba": STATES,
    "mamba2": dict(**STATES, num_heads=4, head_dim=16, n_groups=1, chunk_size=8),
    "mixtral": dict(**EXPERTS, num_local_experts=4),
    "qwen2_moe": dict(**EXPERTS, num_experts=4, moe_intermediate_size=32, shared_expert_intermediate_size=32),
}
SPECIAL = dict(bos_token_id=0, eos_token_id=1, pad_token_id=2)  # of the tokenizer


def tiny_model(folder: Path, kind: str, spread: float = 5.0, **changes: Any) -> Path:
    """Save a model of one type. `spread` multiplies its matrices, so that texts depend on their past."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = {**SPECIAL, **KINDS.get(kind, COMMON), **changes}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(spread)
    model.save_pretrained(folder)
    return folder


@functools.cache
def _tokenizer(vocabulary: int) -> Any:
    from domains.language.network import train_tokenizer
    from domains.text.data import verses

    return train_tokenizer(verses("validation")[:200], vocabulary)


def tiny_tokenizer(folder: Path, vocabulary: int = VOCABULARY, without: tuple[str, ...] = ()) -> Path:
    """Save a byte-level tokenizer. `without` names the special tokens that it does not declare."""
    from transformers import PreTrainedTokenizerFast

    special = {f"{name}_token": token for name, token in SPECIAL_TOKENS.items() if name not in without}
    made = PreTrainedTokenizerFast(tokenizer_object=_tokenizer(vocabulary).backend_tokenizer, **special)
    made.save_pretrained(folder)
    return folder


SPECIAL_TOKENS = {"bos": "<s>", "eos": "</s>", "pad": "<pad>"}
