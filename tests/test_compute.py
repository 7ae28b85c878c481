"""bench.metrics.macs: closed forms of each kind of layer, the embedded models against formulas of their
shapes, nothing left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from transformers.pytorch_utils import Conv1D

from bench.errors import Diverged
from bench.interfaces import Generator
from bench.layers import weights_of
from bench.metrics.macs import Macs, _Counter, count_macs
from bench.registry import DOMAINS

STEPS = 7  # of a sequence


class Calls(Generator):
    """Calls a network on `n` rows of an input."""

    def __init__(self, network: nn.Module, make: Callable[[int], Any], inference: bool = True) -> None:
        self.network, self.make, self.inference = network.eval(), make, inference

    def rebuild(self, structure: Any) -> nn.Module:
        return self.network

    def sample(self, network: nn.Module, n: int, seed: int) -> Any:
        with torch.inference_mode(self.inference):
            return network(self.make(n))


def rows(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.ones(n, *shape)


def embedded(domain: str, settings: Mapping[str, Any] | None = None) -> Generator:
    opened = DOMAINS.load(domain)()
    return opened.open(opened.models["s@0"], "cpu", settings)


# --- layers -------------------------------------------------------------------------------------------

# network, input, MACs a sample by weight
LAYERS: dict[str, tuple[nn.Module, Callable[[int], Any], dict[str, int]]] = {
    "linear": (nn.Linear(8, 3), rows(8), {"weight": 8 * 3}),
    "linear, no bias": (nn.Linear(8, 3, bias=False), rows(8), {"weight": 8 * 3}),
    "linear, many positions": (nn.Linear(8, 3), rows(5, 2, 8), {"weight": 10 * 8 * 3}),
    "linear, strided input": (
        nn.Linear(8, 3, bias=False),
        lambda n: torch.ones(5, n, 8).transpose(0, 1),
        {"weight": 5 * 8 * 3},
    ),
    "Conv1D": (Conv1D(3, 8), rows(5, 8), {"weight": 5 * 8 * 3}),
    "conv, stride, groups": (
        nn.Conv2d(8, 6, 3, stride=2, padding=1, groups=2),
        rows(8, 9, 7),
        {"weight": (5 * 4) * 6 * (8 // 2) * 9},
    ),
    "conv, dilated": (
        nn.Conv1d(4, 6, 3, padding="same", dilation=2),
        rows(4, 10),
        {"weight": 10 * 6 * 4 * 3},
    ),
    "conv, depthwise": (nn.Conv2d(8, 8, 3, groups=8), rows(8, 9, 7), {"weight": (7 * 5) * 8 * 9}),
    "transposed conv": (
        nn.ConvTranspose2d(8, 6, 4, stride=2, groups=2),
        rows(8, 5, 3),
        {"weight": (5 * 3) * 8 * (6 // 2) * 16},
    ),
    "GRU": (
        nn.GRU(8, 6, batch_first=True),
        rows(STEPS, 8),
        {"weight_ih_l0": STEPS * 18 * 8, "weight_hh_l0": STEPS * 18 * 6},
    ),
    "LSTM": (
        nn.LSTM(8, 6, batch_first=True),
        rows(STEPS, 8),
        {"weight_ih_l0": STEPS * 24 * 8, "weight_hh_l0": STEPS * 24 * 6},
    ),
    "LSTM cell": (nn.LSTMCell(8, 6), rows(8), {"weight_ih": 24 * 8, "weight_hh": 24 * 6}),
    "looked up": (nn.Embedding(9, 4), lambda n: torch.zeros(n, 5, dtype=torch.long), {"weight": 0}),
}


@pytest.mark.parametrize("inference", [True, False], ids=["inference", "gradients"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_cost_what_their_shapes_say(name: str, inference: bool) -> None:
    network, make, expected = LAYERS[name]
    assert count_macs(Calls(network, make, inference), network, n=4) == Macs(expected, 0.0)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("batch_first", [True, False])
def test_each_recurrent_weight_meets_every_step(kind: Any, batch_first: bool) -> None:
    """Two layers in two directions, [n, steps, 8] or [steps, n, 8]: fused on this machine or not."""
    network = kind(8, 6, num_layers=2, bidirectional=True, batch_first=batch_first)
    make = rows(STEPS, 8) if batch_first else lambda n: torch.ones(STEPS, n, 8)
    expected = {name: STEPS * dict(network.named_parameters())[name].numel() for name in weights_of(network)}
    assert len(expected) == 8
    assert count_macs(Calls(network, make), network, n=4) == Macs(expected, 0.0)


def test_packed_sequences_cost_their_own_lengths() -> None:
    """Lengths 3, 2, 1, 1 of 3 steps: 7 instead of 12, or 1.75 a sample."""
    network = nn.LSTM(8, 6, batch_first=True)
    lengths = torch.tensor([3, 2, 1, 1])
    packed = Calls(
        network, lambda n: nn.utils.rnn.pack_padded_sequence(torch.ones(n, 3, 8), lengths, batch_first=True)
    )
    assert count_macs(packed, network, n=4).by_weight == {
        "weight_ih_l0": 1.75 * 24 * 8,
        "weight_hh_l0": 1.75 * 24 * 6,
    }


# --- attribution --------------------------------------------------------------------------------------


class Tied(nn.Module):
    """Tokens [b, 5] -> logits [b, 5, 9] through one matrix, looked up and multiplied with."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embed(tokens))


class Twice(nn.Module):
    """One layer called twice, its matrix multiplied with a third time by hand, and a matrix that no method
    covers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.own = nn.Linear(8, 8), nn.Parameter(torch.ones(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x)) @ self.layer.weight[:, :2] @ self.own[:2]


class Attention(nn.Module):
    def __init__(self, flash: bool) -> None:
        super().__init__()
        self.project, self.flash = nn.Linear(8, 24, bias=False), flash

    def forward(self, x: Tensor) -> Tensor:
        """[b, t, 8] -> [b, 2 heads, t, 4]"""
        q, k, v = self.project(x).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4)
        if self.flash:
            return nn.functional.scaled_dot_product_attention(q, k, v)
        return torch.einsum("bhst,bhtd->bhsd", (q @ k.transpose(2, 3)).softmax(3), v)


class Whole(nn.Module):
    """torch's own attention layer, to itself (one operator in inference mode) or, by parts of its matrix,
    to something else.
    """

    def __init__(self, to_itself: bool) -> None:
        super().__init__()
        self.layer, self.to_itself = nn.MultiheadAttention(8, 2, batch_first=True), to_itself

    def forward(self, x: Tensor) -> Tensor:
        other = x if self.to_itself else x + 1
        return self.layer(x, other, x, need_weights=False)[0]


def test_a_tied_head_is_booked_under_the_first_name_and_the_lookup_is_free() -> None:
    network = Tied()
    counted = count_macs(Calls(network, lambda n: torch.zeros(n, 5, dtype=torch.long)), network, n=3)
    assert counted == Macs({"embed.weight": 5 * 4 * 9}, 0.0)
    assert counted.total == 5 * 4 * 9


def test_every_use_of_a_weight_counts_and_uncovered_weights_are_other() -> None:
    network = Twice()
    assert count_macs(Calls(network, rows(8)), network, n=3) == Macs({"layer.weight": 2 * 64 + 16}, 2 * 5)


@pytest.mark.parametrize("flash", [True, False])
def test_attention_belongs_to_no_weight(flash: bool) -> None:
    network = Attention(flash)
    assert count_macs(Calls(network, rows(STEPS, 8)), network, n=3) == Macs(
        {"project.weight": STEPS * 8 * 24}, 2 * STEPS**2 * 8
    )


@pytest.mark.parametrize("to_itself", [True, False])
def test_torchs_attention_layer(to_itself: bool) -> None:
    network = Whole(to_itself)
    expected = {"layer.in_proj_weight": STEPS * 8 * 24, "layer.out_proj.weight": STEPS * 8 * 8}
    assert count_macs(Calls(network, rows(STEPS, 8)), network, n=3) == Macs(expected, 2 * STEPS**2 * 8)


def test_torchs_encoder_layer_costs_the_same_fused_or_not() -> None:
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    fused = count_macs(Calls(network, rows(STEPS, 8)), network, n=3)
    assert fused == count_macs(Calls(network, rows(STEPS, 8), inference=False), network, n=3)
    assert fused.total == STEPS * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 2 * STEPS**2 * 8


def test_weights_in_one_piece_of_memory_are_told_apart() -> None:
    """As cuDNN lays out those of a recurrent layer."""
    network = nn.Sequential(nn.Linear(8, 3, bias=False), nn.Linear(3, 5, bias=False))
    flat = torch.ones(8 * 3 + 3 * 5)
    network[0].weight, network[1].weight = (
        nn.Parameter(flat[:24].view(3, 8)),
        nn.Parameter(flat[24:].view(5, 3)),
    )
    assert count_macs(Calls(network, rows(8)), network, n=3) == Macs({"0.weight": 24, "1.weight": 15}, 0.0)


# --- the embedded models ------------------------------------------------------------------------------


def test_gan() -> None:
    """A transposed convolution's elements, once for each position of its input: 1, 4x4, 7x7, 7x7, 14x14,
    28x28.
    """
    generator = embedded("image_gan")
    network: Any = generator.network
    latent, (a, b, c, d) = network.latent, network.widths
    layers = (
        latent * a * 16,
        16 * a * b * 9,
        49 * b * b * 9,
        49 * b * c * 16,
        196 * c * d * 16,
        784 * d * 25,
    )
    counted = count_macs(generator, network)
    assert counted == Macs(dict(zip(weights_of(network), layers, strict=True)), 0.0)
    assert count_macs(generator, network, n=200, seed=1) == counted
    # the batch that is filled up is counted whole
    assert count_macs(generator, network, n=50).total == 2 * counted.total


def test_diffusion_is_proportional_to_the_network_calls() -> None:
    """One call against formulas by hook; with 2 steps Heun's method calls three times."""
    generator, images = embedded("image_diffusion", {"steps": 1}), 50
    expected, attention = dict.fromkeys(weights_of(generator.network), 0.0), 0.0
    network: Any = generator.network

    def seen(name: str, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        positions = (
            output.shape[2:].numel() if isinstance(module, nn.Conv2d) else output.shape[:-1].numel() / images
        )
        expected[name] += module.weight.numel() * positions

    handles = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen(f"{name}.weight", module, inputs, output)
        )
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    generator.sample(network, images, 0)
    for handle in handles:
        handle.remove()
    for name, module in network.named_modules():
        if name.endswith("to_q"):  # attention at 7x7: 49 queries to 49 keys
            attention += 2 * 49**2 * module.weight.shape[0]
    one = count_macs(generator, network, n=images)
    assert one == Macs(expected, attention)
    assert attention > 0
    three = count_macs(embedded("image_diffusion", {"steps": 2}), network, n=images)
    assert three.total == 3 * one.total


def test_text() -> None:
    """Each weight once for each token of each row that is still computed; attention to all tokens so far."""
    generator: Any = embedded("text", {"max_tokens": 60})
    network, n = generator.network, 20
    calls: list[int] = []  # rows of each call: it reads one token of each
    handle = network.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    texts = generator.sample(network, n, 0)
    handle.remove()
    config, parameters = network.config, dict(network.named_parameters())
    counted = count_macs(generator, network, n=n)
    weights, tokens = weights_of(network), sum(calls)
    assert counted.by_weight == {name: parameters[name].numel() * tokens / n for name in weights}
    assert weights["model.embed_tokens.weight"].tied == ("lm_head.weight",)
    attention = sum(
        2 * made * (position + 1) * config.hidden_size * config.num_hidden_layers
        for position, made in enumerate(calls)
    )
    # some versions of transformers multiply matrices for rotary positions
    assert counted.other == pytest.approx(attention / n, rel=1e-3)
    read = sum(len(generator.tokenizer(text, add_special_tokens=False).input_ids) for text in texts)
    assert counted.total > read / n * sum(parameters[name].numel() for name in weights)
    assert max(calls) == n and min(calls) < n  # rows are dropped only now and then


# --- nothing else happens -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "domain, settings", [("image_gan", {}), ("image_diffusion", {"steps": 1}), ("text", {"max_tokens": 30})]
)
def test_samples_are_the_same_when_they_are_counted(domain: str, settings: dict[str, Any]) -> None:
    generator = embedded(domain, settings)
    before = generator.sample(generator.network, 10, 3)
    with _Counter(generator.network):
        counted = generator.sample(generator.network, 10, 3)
    assert np.array_equal(counted, before)


def test_nothing_is_left_behind_when_a_network_diverges() -> None:
    generator = embedded("image_gan")
    with torch.no_grad():
        next(generator.network.parameters()).fill_(torch.nan)
    state = {name: tensor.clone() for name, tensor in generator.network.state_dict().items()}
    with pytest.raises(Diverged):
        count_macs(generator, generator.network)
    assert not _get_current_dispatch_mode_stack()
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in generator.network.modules()
    )
    assert all(
        torch.equal(tensor, state[name]) or tensor.isnan().all()
        for name, tensor in generator.network.state_dict().items()
    )
