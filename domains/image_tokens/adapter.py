"""The domain `image_tokens`: garments from the text domain's transformer, over the codes of a frozen
tokenizer of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadInput
from bench.interfaces import Generator, Metric, ModelSpec, Training, TrainingRecipe, Wrap
from domains.folders import card_of, check_numbers, check_trained_on
from domains.images.adapter import ImageDomain, locate_folder, training_parts
from domains.images.companions import companion_note, companion_settings
from domains.language.generator import LanguageGenerator
from domains.language.network import SIZES

if TYPE_CHECKING:
    from torch.nn import Module

    from domains.image_tokens.codec import Codec
    from domains.images.data import Images
    from domains.language.opening import Opened

WEIGHTS = Path(__file__).parent / "weights"
FILES = ("config.json", "model.safetensors")


class TokensDomain(ImageDomain):
    name = "image_tokens"
    description = "grey pictures of garments (Fashion-MNIST) from a small causal transformer over codes"
    version = 1
    kind_of_network = "transformer"
    sizes, weights = SIZES, WEIGHTS
    published = {"s": (0, 1, 2), "xs": (0, 1, 2)}

    def locate(self, model: str) -> ModelSpec:
        """An embedded model, or a folder that `bench train` wrote."""
        return locate_folder(self.models, model, "a transformer over the codes of this domain", *FILES)

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        return TokensGenerator(spec, device, settings or {})

    def training_table(self) -> Mapping[str, TrainingRecipe]:
        codec = TrainingRecipe("the tokenizer of pictures, a companion", start_codec, seeded=False)
        return {**super().training_table(), "codec": codec}

    def train_generator(
        self, size: str, seed: int, images: Images, held_out: Images, device: str
    ) -> Training:
        from domains.image_tokens.codec import Codec
        from domains.image_tokens.training import TokensTraining, fresh_generator

        codec = Codec.read(device=device)
        network = fresh_generator(size, seed, codec.shape).to(device)
        return TokensTraining(network, codec, images.pixels, held_out.pixels, seed)

    def metrics(self) -> Mapping[str, Metric]:
        return {**super().metrics(), **{metric.name: metric for metric in METRICS}}


def start_codec(seed: int, data: str | None, device: str) -> Training:
    from domains.image_tokens.codec_training import CodecTraining

    images, held_out = training_parts(data)
    return CodecTraining(images.pixels, held_out.pixels, device=device)


class TokensGenerator(LanguageGenerator):
    """A transformer over codes, with the codec that draws pictures of them. The codec is not compressed."""

    def __init__(self, spec: ModelSpec, device: str, settings: Mapping[str, Any]) -> None:
        from domains.image_tokens.codec import Codec

        self.codec = Codec.read(device=device)
        super().__init__(open_over_codes(spec, device, settings, self.codec), device)
        self.folder = Path(spec.source)

    def settings(self) -> dict[str, Any]:
        """The sampler's settings. The codec is named with its bytes, which are in no size of a record."""
        return {**super().settings(), **companion_settings(self.codec)}

    def notes(self) -> list[str]:
        return companion_note(self.codec)

    def identity(self) -> str:
        """Of configuration and codec: networks of equal tensors may still draw different pictures."""
        return self.identity_with(vars(self.codec.shape), self.codec.digest)

    def sample(self, network: Module, n: int, seed: int) -> np.ndarray:
        from domains.image_tokens.tokens import codes_of

        return self.codec.decode(codes_of(self.write(network, n, seed), self.codec.shape))

    def likelihood(self, network: Module, base: Module | None = None) -> dict[str, float]:
        """Bits a token and others of the codes of test pictures."""
        from domains.image_tokens.tokens import HELD_OUT
        from domains.images.data import part

        return self.likelihood_of_pictures(network, base, part("test").pixels[:HELD_OUT])

    def likelihood_of_pictures(
        self, network: Module, base: Module | None, pixels: np.ndarray
    ) -> dict[str, float]:
        """The same of any pictures, uint8 [n, 1, 28, 28]."""
        from domains.image_tokens.tokens import encoded, tokens_of
        from domains.language.likelihood import likelihood

        rows = tokens_of(encoded(self.codec, pixels), self.codec.shape)
        units = len(rows) * self.codec.shape.tokens
        return likelihood(network, base, rows, units, self.device, "token", context=self.positions)

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        from domains.image_tokens.training import TokensTraining
        from domains.images.data import part, training_part

        check_trained_on(self.folder)
        pixels, held_out = training_part().pixels, part("validation").pixels
        return TokensTraining(network, self.codec, pixels, held_out, seed, wrap, teacher)


def open_over_codes(spec: ModelSpec, device: str, settings: Mapping[str, Any], codec: Codec) -> Opened:
    """Load a network over the codec's codes. Raises `BadInput` for one that cannot be measured."""
    from domains.image_tokens.tokens import START, vocabulary
    from domains.language.causal import check_causal
    from domains.language.opening import Opened, check_config, embeddings, load_network, positions

    check_config(spec)
    known = card_of(Path(spec.source)).get("codec_sha256", codec.digest)
    if known != codec.digest:
        raise BadInput(
            f"the model {spec.name!r} was trained on the codes of another codec, {str(known)[:12]}; this "
            f"domain's is {codec.digest[:12]}"
        )
    network, wanted = load_network(spec).to(device).eval(), vocabulary(codec.shape)
    if (found := embeddings(network)) != wanted:
        raise BadInput(f"the model {spec.name!r} knows {found} tokens, and the codec has {wanted}")
    longest = positions(network)
    if longest is not None and longest < codec.shape.tokens:
        raise BadInput(
            f"the model {spec.name!r} reads {longest} tokens, and a picture has {codec.shape.tokens}"
        )
    chosen = sampler_settings(settings, codec.shape.tokens)
    probe = [1 + i * (wanted - 2) // 7 for i in range(8)]
    return Opened(network, None, START, None, chosen, check_causal(network, probe, spec.name))


def sampler_settings(settings: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """Defaults and the user's. The number of tokens is the codec's. Raises `BadInput`."""
    check_numbers(settings, {"temperature": 100.0, "nucleus": 1.0})
    return {"temperature": 1.0, "nucleus": 1.0, **settings, "max_tokens": tokens}


METRICS = (
    Metric("bits_per_token", "teacher-forced, codes of held-out pictures", "lower", "bits", headline=True),
    Metric("perplexity", "per token: 2 to the power of bits_per_token", "lower"),
    Metric(
        "kl_to_base", "mean KL(base || compressed) of the next token of held-out pictures", "lower", "nats"
    ),
    Metric("flip_rate", "share of held-out tokens where the most likely one changed", "lower"),
)
