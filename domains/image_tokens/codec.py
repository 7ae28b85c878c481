"""The tokenizer of pictures: a convolutional encoder, codes of a fixed grid, and a decoder.

Finite scalar quantization (Mentzer et al. 2023, arXiv:2309.15505): each number of the encoder's output is
squashed and rounded to one of a few levels. So there is no codebook to learn, and no code that is never used.
Each of 7x7 positions has five numbers of four levels, which make one code of 1,024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BadInput, in_a_line
from domains.folders import read_object
from domains.images.training import to_floats, to_pixels

WEIGHTS = Path(__file__).parent / "weights" / "codec"
FILE, CONFIG = "codec.safetensors", "config.json"
GRID = 7  # positions along a side
TOGETHER = 50  # pictures that are coded together: always so many, so that none depends on its neighbours


@dataclass(frozen=True)
class CodecShape:
    """How large the networks are, and how many codes there are."""

    levels: int = 4  # of each number
    numbers: int = 5  # that make a code
    codes: int = 1  # of a position
    encoder: tuple[int, int] = (32, 96)  # channels at 14x14 and 7x7
    decoder: tuple[int, int, int] = (96, 64, 32)  # at 7x7, 14x14 and 28x28

    @property
    def code_count(self) -> int:
        """How many values a code has."""
        return self.levels**self.numbers

    @property
    def tokens(self) -> int:
        """Codes of a picture."""
        return GRID * GRID * self.codes


class CodecNetwork(nn.Module):
    """Pictures [b, 1, 28, 28] in [-1, 1] -> codes -> pictures."""

    def __init__(self, shape: CodecShape = CodecShape()) -> None:
        super().__init__()
        self.shape, width = shape, shape.numbers * shape.codes
        fine, coarse = shape.encoder
        self.encoder = nn.Sequential(
            nn.Conv2d(1, fine, 4, 2, 1),  # [b, fine, 14, 14]
            nn.ReLU(),
            nn.Conv2d(fine, coarse, 4, 2, 1),  # [b, coarse, 7, 7]
            Residual(coarse),
            nn.ReLU(),
            nn.Conv2d(coarse, width, 1),
        )
        a, b, c = shape.decoder
        self.decoder = nn.Sequential(
            nn.Conv2d(width, a, 3, 1, 1),  # [b, a, 7, 7]
            Residual(a),
            nn.ReLU(),
            nn.ConvTranspose2d(a, b, 4, 2, 1),  # [b, b, 14, 14]
            Residual(b),
            nn.ReLU(),
            nn.ConvTranspose2d(b, c, 4, 2, 1),  # [b, c, 28, 28]
            nn.ReLU(),
            nn.Conv2d(c, 1, 5, 1, 2),
        )
        initialise(self)
        sums = [module.second for module in self.modules() if isinstance(module, Residual)]
        with torch.no_grad():  # small where a sum or a picture is made
            for module in (*sums, cast(nn.Conv2d, self.decoder[-1])):
                module.weight.mul_(0.3)

    def numbers(self, images: Tensor) -> Tensor:
        """[b, 1, 28, 28] -> [b, codes * numbers, 7, 7], whole numbers from -levels/2, with the gradient of
        those before rounding.
        """
        squashed = squash(self.encoder(images), self.shape.levels)
        return squashed + (squashed.round() - squashed).detach()

    def draw(self, numbers: Tensor) -> Tensor:
        """[b, codes * numbers, 7, 7] -> pictures [b, 1, 28, 28]."""
        return self.decoder(numbers / (self.shape.levels / 2))

    def forward(self, images: Tensor) -> Tensor:
        return self.draw(self.numbers(images))

    def codes_of(self, numbers: Tensor) -> Tensor:
        """[b, codes * numbers, 7, 7] -> codes [b, 49 * codes] in raster order, all codes of a position
        together.
        """
        shape = self.shape
        digits = numbers.round().long().permute(0, 2, 3, 1) + shape.levels // 2  # [b, 7, 7, codes * numbers]
        digits = digits.reshape(len(numbers), shape.tokens, shape.numbers)
        return (digits * self._places(digits)).sum(2)

    def numbers_of(self, codes: Tensor) -> Tensor:
        """The inverse of `codes_of`."""
        shape = self.shape
        digits = codes[:, :, None] // self._places(codes) % shape.levels - shape.levels // 2
        return digits.reshape(len(codes), GRID, GRID, -1).permute(0, 3, 1, 2).float()

    def _places(self, like: Tensor) -> Tensor:
        """[numbers]: what each digit of a code counts."""
        return self.shape.levels ** torch.arange(self.shape.numbers, device=like.device)


def initialise(network: nn.Module) -> None:
    """Normal weights of He's deviations (He et al. 2015, arXiv:1502.01852), and no biases."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            transposed = isinstance(module, nn.ConvTranspose2d)  # four of 16 weights meet in a pixel
            seen = len(module.weight) * 4 if transposed else module.weight[0].numel()
            nn.init.normal_(module.weight, std=math.sqrt(2 / seen))
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class Residual(nn.Module):
    """x + two convolutions of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, 1, 1)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.first(F.relu(x))))


def squash(x: Tensor, levels: int) -> Tensor:
    """Any number -> one that rounds to -levels/2 .. levels/2 - 1 (an even number of levels)."""
    half = (levels - 1) * 1.001 / 2
    return torch.tanh(x + math.atanh(0.5 / half)) * half - 0.5


def shape_of(config: Mapping[str, Any]) -> CodecShape:
    """Of the codec's `config.json`, where tuples are lists."""
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in config.items()
    }
    return CodecShape(**known)


class Codec:
    """A trained tokenizer of pictures. It is frozen, and never compressed."""

    name, decodes = "codec", "codes"

    def __init__(self, network: CodecNetwork, device: str = "cpu") -> None:
        from bench.artifact.format import tensors_digest

        self.device, self.shape = device, network.shape
        self.digest = tensors_digest(network)
        self.network = network.to(device).to(memory_format=torch.channels_last).eval()

    @property
    def fp32_bytes(self) -> int:
        """The bytes of its parameters as float32. No size or ratio holds them."""
        return 4 * sum(parameter.numel() for parameter in self.network.parameters())

    @classmethod
    def read(cls, folder: Path = WEIGHTS, device: str = "cpu") -> Codec:
        """The tokenizer that ships, or another one that `bench train` wrote. Raises `BadInput`."""
        from safetensors.torch import load_file

        known = read_object(folder / CONFIG)
        try:
            with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
                network = CodecNetwork(shape_of(known))
            state = load_file(folder / FILE)
            network.load_state_dict({name: value.float() for name, value in state.items()})
        except Exception as error:  # of many types, by what the two files hold
            raise BadInput(f"cannot open the codec {str(folder)!r}: {in_a_line(error)}") from None
        return cls(network, device)

    @torch.inference_mode()
    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [n, 1, 28, 28] -> codes, int16 [n, 49 * codes]."""
        parts = []
        for images in together(torch.from_numpy(np.ascontiguousarray(pixels))):
            parts.append(self.network.codes_of(self.network.numbers(to_floats(images).to(self.device))).cpu())
        return torch.cat(parts)[: len(pixels)].numpy().astype(np.int16)

    @torch.inference_mode()
    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes [n, 49 * codes] -> uint8 [n, 1, 28, 28]."""
        parts = []
        for some in together(torch.from_numpy(codes.astype(np.int64))):
            parts.append(to_pixels(self.network.draw(self.network.numbers_of(some.to(self.device)))))
        return np.concatenate(parts)[: len(codes)]


def together(rows: Tensor) -> Sequence[Tensor]:
    """Batches of one size; the last one is filled up with zeros."""
    missing = -len(rows) % TOGETHER
    return torch.cat((rows, rows.new_zeros(missing, *rows.shape[1:]))).split(TOGETHER)
