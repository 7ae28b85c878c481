"""The transformer over codes of pictures: the codec, its tokens, what a sample is, and what is refused."""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.errors import BadInput
from bench.interfaces import Training
from domains.folders import card_of, write_json
from domains.image_tokens.adapter import TokensDomain, TokensGenerator
from domains.image_tokens.codec import WEIGHTS, Codec, CodecNetwork, CodecShape
from domains.image_tokens.codec_training import CodecRecipe, CodecTraining
from domains.image_tokens.tokens import START, codes_of, encoded, tokens_of, vocabulary
from domains.image_tokens.training import TokensTraining, fresh_generator
from domains.images.data import part
from domains.images.training import to_floats
from domains.language.network import SIZES, fresh
from scripts.studies.codec import kept

DOMAIN, SHAPE = TokensDomain(), CodecShape()
PIXELS = part("validation").pixels[:64]


@pytest.fixture(scope="module")
def codec() -> Codec:
    return Codec.read()


def tiny(**changes: Any) -> LlamaForCausalLM:
    """An untrained network of the right vocabulary."""
    settings = {"vocab_size": vocabulary(SHAPE), "max_position_embeddings": SHAPE.tokens, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(
            LlamaConfig(
                **settings, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
            )
        )


def opened(folder: Path, settings: dict[str, Any] | None = None, **changes: Any) -> TokensGenerator:
    tiny(**changes).save_pretrained(folder)
    made = DOMAIN.open(DOMAIN.locate(str(folder)), settings=settings)
    assert isinstance(made, TokensGenerator)
    return made


# ------------------------------------------------------------------------------------------------------ codec


def test_pictures_survive_their_codes(codec: Codec) -> None:
    codes = codec.encode(PIXELS)
    assert codec.shape == SHAPE and codes.shape == (64, 49) and codes.min() >= 0 and codes.max() < 1024
    drawn = codec.decode(codes)
    assert drawn.shape == PIXELS.shape and drawn.dtype == np.uint8
    error = np.square(drawn.astype(float) - PIXELS).mean()
    assert error < 0.15 * PIXELS.astype(float).var(0).mean(), "far nearer than the mean picture"


@pytest.mark.slow
def test_real_pictures_keep_their_scores_after_the_codec() -> None:
    """The bar of the codec, on the validation part: .95 by the evaluators of both sets."""
    shares = {line["evaluator"]: line["share"] for line in kept("validation", WEIGHTS, 1000)}
    assert min(shares[name] for name in ("effnet", "encoder", "pixel_judge", "restorer")) > 0.95
    assert shares["effnet_undithered"] < 0.95, "without dither the codec is seen"


def test_a_picture_has_the_same_codes_and_codes_the_same_picture_whatever_else_is_there(codec: Codec) -> None:
    codes = codec.encode(PIXELS)
    assert np.array_equal(codec.encode(PIXELS[60:]), codes[60:])
    assert np.array_equal(codec.decode(codes[60:]), codec.decode(codes)[60:])


@pytest.mark.parametrize("shape", [SHAPE, CodecShape(levels=8, numbers=3, codes=2)])
def test_codes_hold_the_numbers_that_the_encoder_rounds_to(shape: CodecShape) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CodecNetwork(shape)
    with torch.no_grad():
        numbers = network.numbers(40 * to_floats(torch.from_numpy(PIXELS)))
    assert numbers.min() == -shape.levels // 2 and numbers.max() == shape.levels // 2 - 1
    codes = network.codes_of(numbers)
    assert codes.shape == (64, shape.tokens) and codes.max() < shape.code_count
    assert torch.equal(network.numbers_of(codes), numbers.round())


def test_codes_are_kept_until_codec_or_pictures_change(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    codes, calls = encoded(codec, PIXELS[:9]), []
    monkeypatch.setattr(codec, "encode", lambda pixels: calls.append(len(pixels)) or codes[: len(pixels)])
    assert np.array_equal(encoded(codec, PIXELS[:9]), codes) and calls == []
    encoded(codec, PIXELS[:8])
    monkeypatch.setattr(codec, "digest", "another")
    encoded(codec, PIXELS[:9])
    monkeypatch.setattr(codec, "shape", CodecShape(levels=6))
    encoded(codec, PIXELS[:9])
    assert calls == [8, 9, 9]


@pytest.mark.parametrize(
    "config, message",
    [
        ({"levels": 4, "depth": 2}, "depth"),
        ({"numbers": 3}, "loading state_dict"),
        ({}, "codec.safetensors"),
    ],
)
def test_a_codec_that_is_not_whole_is_refused_in_one_line(
    config: dict[str, int], message: str, tmp_path: Path
) -> None:
    write_json(tmp_path / "config.json", config)
    if config:
        shutil.copy(WEIGHTS / "codec.safetensors", tmp_path)
    with pytest.raises(BadInput, match=message) as refused:
        Codec.read(tmp_path)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("cannot open the codec ")


# ----------------------------------------------------------------------------------------------------- tokens


def test_a_picture_begins_with_the_start_and_codes_follow() -> None:
    codes = np.array([[0, 1, 1023]])
    assert tokens_of(codes, SHAPE) == [[START, 1, 2, 1024]] and vocabulary(SHAPE) == 1025
    assert np.array_equal(codes_of([[1, 2, 1024]], SHAPE), codes)


def test_each_code_of_a_position_has_tokens_of_its_own() -> None:
    codes, shape = np.array([[0, 0, 511, 511]]), CodecShape(levels=8, numbers=3, codes=2)
    assert tokens_of(codes, shape) == [[START, 1, 513, 512, 1024]] and vocabulary(shape) == 1025
    assert np.array_equal(codes_of([[1, 513, 512, 1024]], shape), codes)


def test_the_start_counts_as_code_0_and_a_token_of_another_place_as_its_code() -> None:
    assert codes_of([[START, 5]], SHAPE).tolist() == [[0, 4]]
    assert codes_of([[513, 512]], CodecShape(levels=8, numbers=3, codes=2)).tolist() == [[0, 511]]


# -------------------------------------------------------------------------------------------------- generator


def test_every_sample_has_as_many_tokens_as_a_picture_needs_and_twins_share_their_noise(
    tmp_path: Path,
) -> None:
    generator = opened(tmp_path)
    network = generator.network
    written = generator.write(network, 5, 0)
    assert [len(tokens) for tokens in written] == [SHAPE.tokens] * 5
    pictures = generator.sample(network, 5, 0)
    assert pictures.shape == (5, 1, 28, 28) and pictures.dtype == np.uint8
    assert np.array_equal(generator.sample(network, 2, 0), pictures[:2])
    assert not np.array_equal(generator.sample(network, 2, 1), pictures[:2])


def test_the_codec_is_named_with_its_bytes_and_is_part_of_the_identity(tmp_path: Path) -> None:
    generator = opened(tmp_path)
    expected = 4 * sum(p.numel() for p in generator.codec.network.parameters())
    settings = {"temperature": 1.0, "nucleus": 1.0, "max_tokens": SHAPE.tokens}
    assert generator.settings() == {**settings, "companion": "codec", "companion_bytes": expected}
    assert generator.notes()[0].startswith("codec decodes the codes; ")
    assert f"{expected:,} bytes" in generator.notes()[0]
    assert sum(p.numel() for p in generator.network.parameters()) == sum(
        p.numel() for p in tiny().parameters()
    )
    before = generator.identity()
    generator.codec.digest = "another"
    assert generator.identity() != before


def test_likelihood_is_that_of_the_true_tokens(tmp_path: Path) -> None:
    generator = opened(tmp_path)
    found = generator.likelihood_of_pictures(generator.network, None, PIXELS[:3])
    nats = 0.0
    for row in tokens_of(generator.codec.encode(PIXELS[:3]), SHAPE):
        with torch.no_grad():
            logits = generator.network(input_ids=torch.tensor([row[:-1]])).logits[0]
        nats -= logits.log_softmax(1)[range(SHAPE.tokens), row[1:]].sum().item()
    bits = nats / math.log(2) / (3 * SHAPE.tokens)
    assert found == {"bits_per_token": pytest.approx(bits), "perplexity": pytest.approx(2**bits)}
    assert set(found) | {"kl_to_base", "flip_rate"} <= set(DOMAIN.metrics())


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"vocab_size": 1024}, "knows 1024 tokens, and the codec has 1025$"),
        ({"max_position_embeddings": 32}, "reads 32 tokens, and a picture has 49$"),
        ({"settings": {"max_tokens": 50}}, "^unknown sampler setting 'max_tokens'"),
        ({"settings": {"temperature": 0}}, "temperature=0 is not a number above 0"),
    ],
)
def test_what_gives_no_pictures_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        opened(tmp_path, **changes)


def test_a_model_of_another_codec_is_refused(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    write_json(tmp_path / "card.json", {"codec_sha256": "0123456789abcdef"})
    with pytest.raises(BadInput, match="on the codes of another codec, 0123456789ab; this domain's is"):
        DOMAIN.open(DOMAIN.locate(str(tmp_path)))


# --------------------------------------------------------------------------------------------------- training


def small_codec_training() -> CodecTraining:
    shape = CodecShape(encoder=(4, 8), decoder=(8, 8, 4))
    recipe = CodecRecipe(steps=30, batch=16, learning_rate=1e-2, warmup=2, average=0.8, shape=shape, alone=20)
    return CodecTraining(PIXELS, PIXELS, recipe)


def small_tokens_training() -> TokensTraining:
    training = TokensTraining(tiny(), Codec.read(), PIXELS, PIXELS[:8], 0)
    training.shorten(6)
    return training


@pytest.mark.parametrize("start", [small_codec_training, small_tokens_training])
def test_a_resumed_training_ends_with_the_same_bits(start: Callable[[], Training], tmp_path: Path) -> None:
    whole, resumed = start(), start()
    half = whole.total_steps - 3
    for _ in range(half):
        whole.step()
    saved = io.BytesIO()
    torch.save(whole.state_dict(), saved)
    saved.seek(0)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    for training in (whole, resumed):
        while training.step_number < training.total_steps:
            training.step()
    assert whole.validate() == resumed.validate()


def test_the_codec_learns_and_is_read_back(tmp_path: Path) -> None:
    training = small_codec_training()
    before = training.validate()
    losses = [training.step() for _ in range(training.total_steps)]
    after = training.validate()
    assert after["error"] < 0.6 * before["error"] and after["bits_of_code_1"] > 1
    assert "realism" not in losses[19] and losses[20].keys() >= {"realism", "likeness", "discriminator"}
    training.freeze(tmp_path)
    codec = Codec.read(tmp_path)
    assert card_of(tmp_path)["weights_sha256"] == codec.digest
    drawn = codec.decode(codec.encode(PIXELS))
    error = np.square(drawn / 127.5 - PIXELS / 127.5).mean()
    assert error == pytest.approx(after["error"], rel=0.1), "of averaged weights, in fp16"


def test_a_trained_generator_names_its_codec_and_is_opened(tmp_path: Path) -> None:
    training = small_tokens_training()
    assert {(row[0], len(row)) for row in training.tokens} == {(START, 1 + SHAPE.tokens)}
    before = training.validate()["bits_per_token"]
    assert before == pytest.approx(10, abs=0.1), "an untrained network knows nothing of 1,025 tokens"
    while training.step_number < training.total_steps:
        training.step()
    assert training.validate()["bits_per_token"] < before
    training.freeze(tmp_path)
    card = card_of(tmp_path)
    assert card["codec_sha256"] == training.codec.digest and card["images_seen"] == 6 * 32
    generator = DOMAIN.open(DOMAIN.locate(str(tmp_path)))
    assert generator.sample(generator.network, 1, 0).shape == (1, 1, 28, 28)


@pytest.mark.parametrize("size", list(SIZES))
def test_the_network_is_that_of_text_but_for_its_tokens(size: str) -> None:
    ours, text = fresh_generator(size, 0, SHAPE), fresh(size, 0)
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, text)]
    assert counts[0] == pytest.approx(counts[1], rel=0.01)
    special = ("vocab_size", "eos_token_id", "pad_token_id")
    differ = {
        name
        for name, value in ours.config.to_dict().items()  # type: ignore[union-attr,operator]
        if value != text.config.to_dict()[name]  # type: ignore[union-attr,operator]
    }
    assert differ == set(special)


def test_two_sizes_are_published_and_a_third_can_be_trained() -> None:
    assert DOMAIN.grid() == ("s@0", "s@1", "s@2", "xs@0", "xs@1", "xs@2")
    assert {"m@N", "codec"} <= set(DOMAIN.trainings())
