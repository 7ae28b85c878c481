"""Opens a causal language model with its tokenizer, and refuses in one line what cannot be measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch.nn import Module

from bench.errors import BadInput, in_a_line
from bench.interfaces import ModelSpec
from domains.folders import card_of, check_numbers, check_whole
from domains.language.causal import check_causal
from domains.language.network import MAX_TOKENS

PROBE_TOKENS = 7
# names of the number of positions in a configuration
POSITIONS = ("max_position_embeddings", "max_seq_len", "n_positions")


@dataclass(frozen=True)
class Opened:
    """A model that can be measured."""

    network: Module
    tokenizer: Any
    start: int  # the token that texts begin with
    end: int | None  # the token that ends a text
    settings: dict[str, Any]  # of the sampler
    cached: bool  # False: the sampler reads the whole text again for each token


def open_model(spec: ModelSpec, device: str, settings: Mapping[str, Any]) -> Opened:
    """Load a folder or hub id in the hub's format. Raises `BadInput` for a model that cannot be measured."""
    check_config(spec)
    tokenizer = load_tokenizer(spec)
    network = load_network(spec).to(device).eval()
    check_ids(tokenizer, network, spec.name)
    start = start_token(tokenizer, network, spec.name)
    longest = positions(network)
    chosen = sampler_settings(spec, settings, longest)
    cached = check_causal(network, probe_ids(tokenizer)[-max(3, (longest or PROBE_TOKENS) + 1) :], spec.name)
    if not cached:
        from bench.util.progress import note

        note(
            f"{spec.name}: its cached steps differ from a pass over the whole text; it is sampled without a "
            f"cache, which is slower"
        )
    return Opened(network, tokenizer, start, tokenizer.eos_token_id, chosen, cached)


def check_config(spec: ModelSpec) -> None:
    """Raises `BadInput` for an encoder-decoder, before its weights are read."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(spec.source, trust_remote_code=False)
    except Exception as error:  # of many types, by what the configuration says
        raise BadInput(f"cannot open the model {spec.name!r}: {in_a_line(error)}") from None
    if getattr(config, "is_encoder_decoder", False):
        raise BadInput(
            f"the model {spec.name!r} is an encoder-decoder ({config.model_type}): this domain needs a "
            f"causal language model"
        )


def load_tokenizer(spec: ModelSpec) -> Any:
    """The tokenizer.

    Raises `BadInput` where there is none: transformers makes one up, of special tokens alone.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(spec.source, trust_remote_code=False)
    except Exception as error:  # whatever the tokenizer's own code raises
        raise BadInput(f"no tokenizer in {spec.source!r}: {in_a_line(error)}") from None
    if len(ordinary_ids(tokenizer)) < 2:
        raise BadInput(f"no tokenizer in {spec.source!r}: its files are missing, such as tokenizer.json")
    return tokenizer


def load_network(spec: ModelSpec) -> Any:
    """The network in float32. Raises `BadInput` where it cannot be opened, or lacks tensors."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    had_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # small models load at once: their bar is a leftover on the terminal
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            spec.source,
            dtype="float32",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except Exception as error:  # of many types, by what the configuration says
        raise BadInput(f"cannot open the model {spec.name!r}: {in_a_line(error)}") from None
    finally:
        if had_bar:
            logging.enable_progress_bar()
    network, info = loaded
    check_whole(info["missing_keys"], spec.name)
    return network


def ordinary_ids(tokenizer: Any) -> list[int]:
    """The ids of tokens that are no special ones, ascending."""
    return sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids))


def probe_ids(tokenizer: Any) -> list[int]:
    """A few ordinary tokens, from all over the vocabulary; the last two differ."""
    ids = ordinary_ids(tokenizer)
    return [ids[i * (len(ids) - 1) // (PROBE_TOKENS - 1)] for i in range(PROBE_TOKENS - 1)][::-1] + ids[-1:]


def embeddings(network: Any) -> int:
    """How many tokens the network has embeddings for."""
    return len(network.get_input_embeddings().weight)


def check_ids(tokenizer: Any, network: Any, name: str) -> None:
    """Raises `BadInput` for a tokenizer with ids that the network has no embedding for.

    Special tokens that no text begins or ends with, such as padding, are never read.
    """
    rows, ends = embeddings(network), {tokenizer.bos_token_id, tokenizer.eos_token_id} - {None}
    largest = max({*ordinary_ids(tokenizer), *ends})
    if largest >= rows:
        raise BadInput(
            f"the tokenizer of {name!r} does not fit its network: token "
            f"{tokenizer.convert_ids_to_tokens(largest)!r} has id {largest}, and there are {rows} embeddings"
        )


def start_token(tokenizer: Any, network: Any, name: str) -> int:
    """The token that texts begin with: the tokenizer's start or end token, or else the configuration's."""
    text_config = network.config.get_text_config()
    known = (
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        getattr(text_config, "bos_token_id", None),
        getattr(text_config, "eos_token_id", None),
    )
    allowed = range(embeddings(network))
    for token in known:
        if isinstance(token, int) and token in allowed:
            return token
    raise BadInput(
        f"the tokenizer of {name!r} has neither a start nor an end token to begin a text with; config.json "
        f"may name one as bos_token_id"
    )


def positions(network: Any) -> int | None:
    """How many tokens the network can read; None where its configuration gives no limit."""
    config = network.config.get_text_config()
    known = [getattr(config, name, None) for name in POSITIONS]
    return next((number for number in known if isinstance(number, int) and number > 0), None)


def sampler_settings(spec: ModelSpec, settings: Mapping[str, Any], longest: int | None) -> dict[str, Any]:
    """Defaults, the card's and the user's. Raises `BadInput` for values that are not allowed."""
    most = min(MAX_TOKENS, longest or MAX_TOKENS)
    default = min(MAX_TOKENS, max(1, (longest or MAX_TOKENS) - 1))
    defaults = {"temperature": 1.0, "nucleus": 1.0, "max_tokens": default}
    card = cast(Mapping[str, Any], card_of(Path(spec.source)).get("sampler", {}))
    chosen = {**defaults, **card, **settings}
    check_numbers(chosen, {"temperature": 100.0, "nucleus": 1.0, "max_tokens": MAX_TOKENS})
    if chosen["max_tokens"] > most:
        raise BadInput(
            f"sampler setting max_tokens={chosen['max_tokens']} is beyond the {most} positions of the model "
            f"{spec.name!r}"
        )
    return chosen
