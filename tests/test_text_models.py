"""Any causal language model in the hub's format: opened, sampled, scored, compressed and rebuilt.

What cannot be measured is refused at open, in one line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import KINDS, tiny_model, tiny_tokenizer

from bench.artifact.format import rebuild, save, tensors_digest
from bench.errors import BadInput
from bench.interfaces import Context
from bench.layers import uncovered, weights_of
from bench.methods.notation import parse
from bench.methods.plain import original
from domains.language.causal import check_causal
from domains.language.sampler import Read, SamplerSettings, sample_tokens
from domains.text.adapter import TextDomain, TextGenerator
from domains.text.data import verses

DOMAIN = TextDomain()


def opened(folder: Path) -> TextGenerator:
    made = DOMAIN.open(DOMAIN.locate(str(folder)), settings={"max_tokens": 12})
    assert isinstance(made, TextGenerator)
    return made


@pytest.fixture(params=list(KINDS))
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tiny_tokenizer(tiny_model(tmp_path, request.param))


def check_measured(generator: TextGenerator, path: Path) -> None:
    """Sample, score, compress to 4 bits, rebuild from the file, and sample the same again."""
    network = generator.network
    texts = generator.sample(network, 6, 0)
    assert len(set(texts)) > 3, "untrained, but not constant"
    scored = generator.likelihood_of(network, None, verses("test")[:1])
    assert 0 < scored["bits_per_byte"] < 30
    made = parse("int4")(original(network), Context(generator, 0, "cpu"))
    save(made, "int4", path)
    first, second = rebuild(path, generator), rebuild(path, generator)
    assert tensors_digest(first) == tensors_digest(second) != tensors_digest(network)
    assert generator.sample(first, 6, 0) == generator.sample(second, 6, 0)
    quantized = {name for name, stored in made.tensors.items() if stored.quantized}
    assert quantized == set(weights_of(network))
    named = quantized | set(made.untouched)
    assert {name for name, value in network.named_parameters() if value.ndim > 1} <= named


def test_every_kind_is_measured(folder: Path) -> None:
    generator = opened(folder)
    assert generator.cached, "each of these has a cache that works"
    check_measured(generator, folder / "small.genc")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sharded_checkpoints_of_half_precision(tied: bool, dtype: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    whole = tiny_model(tmp_path / "whole", "llama", tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_pretrained(whole, dtype=getattr(torch, dtype))
    folder = tiny_tokenizer(tmp_path / "sharded")
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    generator = opened(folder)
    assert {p.dtype for p in generator.network.parameters()} == {torch.float32}
    tied_names = weights_of(generator.network)["model.embed_tokens.weight"].tied
    assert tied_names == (("lm_head.weight",) if tied else ())
    check_measured(generator, tmp_path / "small.genc")


@pytest.mark.parametrize(
    ("without", "start", "end"),
    [(("pad",), 0, 1), (("bos",), 1, 1), (("eos",), 0, None), (("bos", "eos", "pad"), 0, None)],
)
def test_tokenizers_without_special_tokens(
    without: tuple[str, ...], start: int, end: int | None, tmp_path: Path
) -> None:
    """Without a start token, texts begin with the end token, or with what the configuration names."""
    generator = opened(tiny_tokenizer(tiny_model(tmp_path, "llama"), without=without))
    assert (generator.start, generator.end) == (start, end)
    check_measured(generator, tmp_path / "small.genc")


def test_without_any_start_token_is_refused(tmp_path: Path) -> None:
    model = tiny_model(tmp_path, "llama", bos_token_id=None, eos_token_id=None)
    refused(tiny_tokenizer(model, without=("bos", "eos")), "neither a start nor an end token")


def test_experts_are_compressed_or_named(tmp_path: Path) -> None:
    """Experts are parameters of three dimensions; the record names what no method compresses."""
    network = opened(tiny_tokenizer(tiny_model(tmp_path, "mixtral"))).network
    experts = {name for name, value in network.named_parameters() if value.ndim == 3}
    assert len(experts) == 4 and experts <= weights_of(network).keys() | uncovered(network).keys()


# -------------------------------------------------------------------------------------------- cache and order


def test_a_state_space_model_samples_with_memory(tmp_path: Path) -> None:
    """Step by step with the cache, a Mamba's logits are those of one pass over the whole text."""
    network: Any = opened(tiny_tokenizer(tiny_model(tmp_path, "mamba", spread=1.0))).network
    tokens = torch.tensor([[0, 5, 9, 4, 77, 8]])
    with torch.inference_mode():
        whole = network(input_ids=tokens).logits
        read = Read(network, cached=True)
        steps = torch.stack([read.next_logits(tokens[:, i : i + 1]) for i in range(6)], 1)
        alone = torch.cat([network(input_ids=tokens[:, i : i + 1]).logits for i in range(6)], 1)
    assert (steps - whole).abs().max() < 1e-5 < 0.1 < (alone - whole).abs().max()


@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_samples_with_and_without_a_cache_are_the_same(kind: str, tmp_path: Path) -> None:
    """Their logits differ by float error, so texts part only at near-ties of the noise."""
    network = opened(tiny_tokenizer(tiny_model(tmp_path, kind))).network
    made = []
    for cached in (True, False):
        settings = SamplerSettings(0, 1, max_tokens=20, batch=32, cached=cached)
        made.append(dict(sample_tokens(network, range(40), 0, settings)))
    assert sum(made[0][item] == made[1][item] for item in range(40)) >= 39


def test_a_cache_that_forgets_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A forward pass that drops the cache in silence is found when the model is opened."""
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def forgetful(self: Any, input_ids: Any, cache: Any = None, use_cache: bool = False) -> Any:
        return forward(self, input_ids=input_ids, use_cache=False)

    folder = tiny_tokenizer(tiny_model(tmp_path, "llama"))
    expected = opened(folder).sample(opened(folder).network, 5, 0)
    capsys.readouterr()
    monkeypatch.setattr(LlamaForCausalLM, "forward", forgetful)
    generator = opened(folder)
    assert not generator.cached and "without a cache" in capsys.readouterr().err
    assert generator.sample(generator.network, 5, 0) == expected


def refused(folder: Path, why: str) -> None:
    with pytest.raises(BadInput, match=why) as error:
        DOMAIN.open(DOMAIN.locate(str(folder)))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("is_decoder", [True, False])
def test_a_bidirectional_model_is_refused(is_decoder: bool, tmp_path: Path) -> None:
    folder = tiny_tokenizer(tiny_model(tmp_path, "bert", spread=1.0, is_decoder=is_decoder))
    if is_decoder:
        assert opened(folder).cached
    else:
        refused(folder, "is not causal: its logits depend on later tokens")


def test_masked_models_and_encoder_decoders_are_refused(tmp_path: Path) -> None:
    from transformers import BartConfig, DistilBertConfig, T5Config

    for config in (T5Config(), BartConfig()):  # before weights are looked for
        folder = tiny_tokenizer(tmp_path / config.model_type)
        config.save_pretrained(folder)
        refused(folder, "is an encoder-decoder")
    folder = tiny_tokenizer(tmp_path / "distilbert")
    DistilBertConfig().save_pretrained(folder)
    refused(folder, "cannot open the model .* AutoModelForCausalLM")


def test_a_model_that_changes_its_own_weights_is_refused(tmp_path: Path) -> None:
    """RWKV divides weights at its first pass; a rebuilt network would divide them again."""

    class Dividing(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = None
            self.table = torch.nn.Parameter(torch.ones(9, 9))

        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> Any:
            self.table.data.div_(2)
            return type("Output", (), {"logits": self.table[input_ids]})

    with pytest.raises(BadInput, match="changes its own weights"):
        check_causal(Dividing(), range(7), "dividing")


def test_a_model_of_numbers_that_are_not_finite_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tiny_tokenizer(tiny_model(tmp_path, "llama"))
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match="its logits are not finite"):
        opened(folder)


def test_the_probe_reads_few_positions(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tiny_model(tmp_path, "gpt2", n_positions=3))
    generator = DOMAIN.open(DOMAIN.locate(str(folder)))
    assert generator.settings()["max_tokens"] == 2 and len(generator.sample(generator.network, 3, 0)) == 3


# ------------------------------------------------------------------------------------------------- tokenizers


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox", "qwen2", "gemma", "mamba", "mixtral"])
def test_a_folder_without_a_tokenizer_is_refused(kind: str, tmp_path: Path) -> None:
    """Transformers makes up a tokenizer of a few special tokens, and all texts would be empty."""
    refused(tiny_model(tmp_path, kind), "no tokenizer in")
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    refused(tmp_path, "no tokenizer in")


def test_a_tokenizer_beyond_the_embeddings_is_refused(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tiny_model(tmp_path, "llama"), vocabulary=301)
    refused(folder, "has id 300, and there are 300 embeddings")


def test_more_embeddings_than_tokens_are_sampled(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tiny_model(tmp_path, "qwen2", vocab_size=400))
    check_measured(opened(folder), tmp_path / "small.genc")


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_more_tokens_than_positions_are_refused(kind: str, tmp_path: Path) -> None:
    limit = {"n_positions" if kind == "gpt2" else "max_position_embeddings": 64}
    folder = tiny_tokenizer(tiny_model(tmp_path, kind, **limit))
    card = {"sampler": {"max_tokens": 65}}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    refused(folder, "max_tokens=65 is beyond the 64 positions")
    card = {"sampler": {"max_tokens": 64}}
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    generator = DOMAIN.open(DOMAIN.locate(str(folder)))
    generator.end = None  # type: ignore[attr-defined]  # texts go on to the last position
    assert len(generator.sample(generator.network, 2, 0)) == 2
