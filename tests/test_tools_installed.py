"""Each tool that is installed, on a small network of each kind. `pip install -e '.[tools]'` installs all."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import Given
from test_tools import POINTS
from torch import Tensor, nn

from bench.artifact.format import decode, encode, fill
from bench.artifact.structure import rebuilt
from bench.contracts.contract import Skipped
from bench.contracts.method import CONTRACTS
from bench.contracts.network import Small, SmallGenerator
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Context, Generator, StructureEdit
from bench.layers import weights_of
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.methods.tools.codes import TOLERANCE
from bench.methods.tools.tool import quietly
from bench.registry import METHODS

# method -> its kinds of layers in `Small`
COVERED = {
    "torchao:dtype=int8": {"Linear"},
    "torchao:dtype=int4": {"Linear"},
    "torchao:dtype=float8": {"Linear"},
    "quanto:bits=8": {"Linear", "Conv2d"},
    "quanto:bits=4": {"Linear", "Conv2d"},
    "quanto:bits=2": {"Linear", "Conv2d"},
    "hqq:bits=8": {"Linear"},
    "hqq:bits=4,group=32": {"Linear"},
    "hqq:bits=3": {"Linear"},
    "hqq:bits=1": {"Linear"},
    "bitsandbytes:type=nf4": {"Linear"},
    "bitsandbytes:type=fp4": {"Linear"},
    "bitsandbytes:type=int8": {"Linear"},
    "nncf:mode=int8_sym": {"Embedding", "Linear", "Conv1D", "Conv1d", "Conv2d", "ConvTranspose2d"},
    "nncf:mode=int4_asym": {"Embedding", "Linear", "Conv1D", "Conv1d", "Conv2d", "ConvTranspose2d"},
    "modelopt:config=int8": {"Linear", "Conv1D", "Conv1d", "Conv2d", "ConvTranspose2d"},
    "modelopt:config=int4": {"Linear", "Conv1D", "ConvTranspose2d"},
    "modelopt:config=int4_awq": {"Linear", "Conv1D"},
    "modelopt:config=fp8": {"Linear", "Conv1D", "Conv1d", "Conv2d", "ConvTranspose2d"},
}
every_method = pytest.mark.parametrize("text", COVERED)


class Images(nn.Module):
    """[b, 8] -> [b, 3, 8, 8]: a generator of pictures without any Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(8, 32, 4), nn.BatchNorm2d(32), nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, noise: Tensor) -> Tensor:
        """[b, 8] -> [b, 3, 8, 8]"""
        made: Tensor = self.layers(noise[:, :, None, None])
        return made


class Words(nn.Module):
    """[b, 4] -> [b, 4, 50]: a transformer whose embedding is not tied to its head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 64)
        self.block = nn.TransformerEncoderLayer(64, 2, 128, batch_first=True, dropout=0.0)
        self.head = nn.Linear(64, 50)

    def forward(self, tokens: Tensor) -> Tensor:
        """[b, 4] -> [b, 4, 50]"""
        made: Tensor = self.head(self.block(self.embed(tokens)))
        return made


class Made(Generator):
    """Samples are the network's outputs for fixed inputs."""

    def __init__(self, network: nn.Module, inputs: Tensor) -> None:
        self.network, self.inputs = network.eval(), inputs

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        return type(self.network)()

    def sample(self, network: nn.Module, n: int, seed: int) -> Any:
        with torch.no_grad():
            return network.eval()(self.inputs[:n])


def generator(kind: str) -> Generator:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "images":
            return Made(Images(), torch.randn(8, 8))
        return Made(Words(), torch.randint(50, (8, 4)))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tools are methods, also where the package was installed before they were entry points."""
    for name, target in POINTS["gencompress.methods"].items():
        monkeypatch.setitem(METHODS._targets, name, target)


def skip_without(text: str) -> None:
    if reason := METHODS.load(text.partition(":")[0]).missing():
        pytest.skip(reason)


@functools.cache
def small(text: str) -> Compressed:
    network = Small()
    return parse(text)(original(network), Context(SmallGenerator(network)))


@every_method
def test_a_tool_covers_these_layers_and_our_coding_has_its_values(text: str) -> None:
    skip_without(text)
    made, weights = small(text), weights_of(Small())
    found = {weights[name].layer for name, stored in made.tensors.items() if stored.quantized}
    assert found == COVERED[text]
    (report,) = made.tools
    assert report["tool"] == METHODS.load(text.partition(":")[0]).package and report["file_bytes"] > 1000
    assert 0 < report["deviation"] <= TOLERANCE
    assert report["skipped"].keys() == weights.keys() - {n for n, s in made.tensors.items() if s.quantized}
    assert parse(text).text == text


@every_method
@pytest.mark.parametrize("kind", ["images", "words"])
def test_the_network_rebuilt_from_our_file_samples_like_the_original(kind: str, text: str) -> None:
    """At 4 bits and more, at most a quarter of the signal is lost. Some tools need a Linear."""
    skip_without(text)
    made_of = generator(kind)
    try:
        made = parse(text)(original(made_of.network), Context(made_of))
    except Unsupported as error:
        name = text.partition(":")[0]
        assert kind == "images" and str(error).startswith(f"{name} quantizes no layer of this network")
        assert COVERED[text] <= {"Linear", "Conv1D"}
        return
    network = rebuilt(made_of, made.structure)
    fill(network, decode(encode(made, text))[2])
    before, after = (made_of.sample(one, 8, 0) for one in (made_of.network, network))
    lost = (after - before).square().mean() / before.var()
    low_bits = text in ("quanto:bits=2", "hqq:bits=1", "hqq:bits=3")
    assert 0 < lost < (1.5 if low_bits else 0.25)


class Idle(nn.Module):
    """Two layers, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second, self.unused = (nn.Linear(128, 128) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """[b, 128] -> [b, 128]"""
        made: Tensor = self.second(torch.relu(self.first(x)))
        return made


class Uneven(Given):
    """Some inputs are a hundred times as large as others, in the last batch alone."""

    def __init__(self) -> None:
        x = torch.randn(512, 128, generator=torch.Generator().manual_seed(0))
        self.large = x * torch.logspace(0, -2, 128)
        super().__init__(Idle(), x / 100, self.large)


def test_awq_makes_large_inputs_smaller_and_our_network_computes_as_the_tools() -> None:
    skip_without("modelopt")
    given, text = Uneven(), "modelopt:config=int4_awq"
    made = parse(text)(original(given.network), Context(given))
    assert [edit.path for edit in made.structure] == ["first", "second"]
    assert made.untouched.keys() == {"unused.weight"}
    scales = made.tensors["first.input_scales"].dequantize()
    assert scales[:8].mean() < 0.7 * scales[-8:].mean(), "large inputs become smaller"

    def computed(factors: bool) -> Tensor:
        network = rebuilt(given, made.structure if factors else ())
        fill(network, {n: s for n, s in made.tensors.items() if factors or not n.endswith(".input_scales")})
        with torch.no_grad():
            return network(given.large)

    with torch.no_grad():
        wanted = given.network(given.large)
    lost, without = ((computed(factors) - wanted).square().mean() / wanted.var() for factors in (True, False))
    assert lost < 0.01 and without > 3 * lost

    tool = parse(text).links[0]
    with quietly(), tempfile.TemporaryDirectory() as folder:
        network = tool.quantize(copy.deepcopy(given.network), {"first", "second"}, Context(given))
        tool.save(network, Path(folder))
        again = tool.load(copy.deepcopy(given.network), Path(folder), Context(given))
        theirs = again(given.large)
    assert (computed(True) - theirs).square().mean() < 1e-4 * wanted.var()


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("method", POINTS["gencompress.methods"])
def test_a_tool_keeps_each_contract_of_a_method(method: str, contract: Callable[[str], None]) -> None:
    skip_without(method)
    try:
        contract(method)
    except Skipped as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torchao:dtype=int5x", "dtype='int5x' of 'torchao' is not one of: int8, int7"),
        ("torchao:dtype=int4,group=1", "group=1 of 'torchao' is too small"),
        ("quanto:bits=3", "bits=3 of 'quanto' is not one of: 8, 4, 2"),
        ("hqq:bits=7", "bits=7 of 'hqq' is not one of: 8, 6"),
        ("hqq:group=20", "group=20 of 'hqq' is no multiple of 8"),
        ("bitsandbytes:type=int4", "type='int4' of 'bitsandbytes' is not one of: nf4, fp4, int8"),
        ("nncf:mode=nf4", "mode='nf4' of 'nncf' is not one of: int8_sym"),
        ("modelopt:config=w4a8", "config='w4a8' of 'modelopt' is not one of: int8, int4, int4_awq, fp8"),
    ],
)
def test_a_setting_that_is_not_possible_is_named_also_without_the_tool(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse(text)
