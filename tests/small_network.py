"""A small network with a tensor of every kind, and a larger one, compressed once a method: what the tests
of the file share.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bench.artifact.format import HEAD, MAGIC, encode
from bench.artifact.header import VERSION
from bench.interfaces import Compressed, Context, Generator, StructureEdit
from bench.methods import notation
from bench.methods.plain import original


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Normal values that the seed decides."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Given(Generator):
    """A network that is called with given batches."""

    def __init__(self, network: nn.Module, *batches: Any) -> None:
        self.network, self.batches = network.eval(), batches

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        assert not structure  # the benchmark repeats these edits itself
        return copy.deepcopy(self.network)

    def sample(self, network: nn.Module, n: int, seed: int) -> Any:
        with torch.no_grad():
            return network(self.batches[0])

    def calibration(self, seed: int) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        if not self.batches:
            raise LookupError("it has none")
        for batch in self.batches:
            yield (batch,), {}


class Small(nn.Module):
    """A layer of each covered kind, tied weights, tensors of no, of one and of equal elements, buffers of
    integers and flags.
    """

    def __init__(self, seed: int = 0, width: int = 6) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.expand = Conv1D(5, width)
        self.norm = nn.BatchNorm1d(5)
        self.up = nn.ConvTranspose2d(4, 3, 2)
        self.recurrent = nn.GRU(3, 4)
        self.head = nn.Linear(width, 11)
        self.head.weight = self.embed.weight
        self.one, self.constant, self.zero, self.empty = (
            nn.Linear(1, 1),
            nn.Linear(4, 3),
            nn.Linear(4, 3),
            nn.Linear(1, 3),
        )
        self.empty.weight = nn.Parameter(torch.zeros(3, 0))
        self.nothing = nn.Parameter(torch.zeros(0, 5))
        self.scalar = nn.Parameter(torch.zeros(()))
        self.steps: Tensor
        self.register_buffer("steps", torch.tensor([2**40 + 1, -3]))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        self.register_buffer("not_stored", torch.zeros(2), persistent=False)
        noise = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=noise)
            self.constant.weight.fill_(0.5)
            self.zero.weight.zero_()


class Rebuilder(Generator):
    """What `rebuild` needs of a generator."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        return self.network

    def sample(self, network: nn.Module, n: int, seed: int) -> Any:
        raise NotImplementedError


def gaussian() -> nn.Module:
    """98,304 weights in 384 channels."""
    network, noise = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 128)), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=noise)
    return network


def compress(text: str, network: nn.Module) -> Compressed:
    return notation.parse(text)(original(network), Context())


@functools.cache
def small(text: str) -> Compressed:
    return compress(text, Small())


@functools.cache
def large(text: str) -> Compressed:
    return compress(text, gaussian())


def artifact_of(text: str, of: Callable[[str], Compressed] = small) -> bytes:
    return encode(of(text), text)


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def sealed(packed: bytes, streams: bytes, version: int = VERSION, header_length: int | None = None) -> bytes:
    body = (
        HEAD.pack(MAGIC, version, len(packed) if header_length is None else header_length) + packed + streams
    )
    return body + hashlib.sha256(body).digest()
