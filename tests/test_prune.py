"""bench.methods.prune and the floor: what goes, how much of it, ties, limits, bad settings."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bench.errors import BadInput
from bench.interfaces import Compressed, Context
from bench.methods.notation import parse
from bench.methods.plain import Permute, original
from bench.methods.prune import Magnitude


def layer_of(weights: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weights.shape[1], weights.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weights)
    return layer


def compress(text: str, network: nn.Module) -> Compressed:
    return parse(text)(original(network), Context())


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- magnitude -------------------------------------------------------------------------------------------------------


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 12), st.integers(1, 12), st.integers(0, 1000))
def test_the_exact_number_of_smallest_weights_goes(sparsity: float, channels: int, n: int, seed: int):
    weights = normal(channels, n, seed=seed)
    stored = Magnitude(sparsity)(original(layer_of(weights)), Context()).tensors["weight"]
    assert stored.mask is not None
    assert int((~stored.mask).sum()) == round(sparsity * weights.numel())
    gone, kept = weights.abs()[~stored.mask], weights.abs()[stored.mask]
    assert not len(gone) or not len(kept) or gone.max() <= kept.min()
    assert torch.equal(stored.dequantize(), weights * stored.mask)


def test_of_equal_weights_the_first_go():
    stored = compress("magnitude:sparsity=0.5", layer_of(torch.tensor([[1.0, -1, 1, -1, 1, -1, 2, 0]]))).tensors["weight"]
    assert stored.mask is not None and stored.mask.int().tolist() == [[0, 0, 0, 1, 1, 1, 1, 0]]


def test_sparsity_0_changes_no_value():
    weights = normal(3, 4)
    assert torch.equal(compress("magnitude:sparsity=0", layer_of(weights)).tensors["weight"].dequantize(), weights)


def test_a_pruned_weight_never_comes_back():
    layer = layer_of(normal(4, 25))
    twice = compress("magnitude:sparsity=0.75+magnitude:sparsity=0.5", layer).tensors["weight"]
    assert torch.equal(twice.dequantize(), compress("magnitude:sparsity=0.75", layer).tensors["weight"].dequantize())


@pytest.mark.parametrize("sparsity, limit_db", [(0.50, 11.47), (0.75, 5.58), (0.90, 2.51)])
def test_a_gaussian_loses_what_is_published(sparsity: float, limit_db: float):
    """reference/limits.json, pruning_magnitude_db; .005 dB of its rounding are 0.12 % in D. Quantiles: no sampling error."""
    weights = torch.special.ndtri((torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000).float()[None]
    pruned = compress(f"magnitude:sparsity={sparsity}", layer_of(weights)).tensors["weight"].dequantize()
    distortion = float((pruned - weights).double().square().mean())
    assert -10 * math.log10(distortion) == pytest.approx(limit_db, abs=0.01)


def test_biases_and_norms_stay():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before, after = original(network).tensors, compress("magnitude:sparsity=0.9", network)
    assert after.touched == {"0.weight"}
    for name in before.keys() - {"0.weight"}:
        assert torch.equal(after.tensors[name].dequantize(), before[name].dequantize())


@pytest.mark.parametrize("value", ["1.0", "-0.1", "nan", "inf"])
def test_impossible_sparsities_are_named(value: str):
    with pytest.raises(BadInput, match=rf"sparsity={float(value):g} .*0 <= sparsity < 1") as caught:
        parse(f"magnitude:sparsity={value}")
    assert "\n" not in str(caught.value)


# --- permute ---------------------------------------------------------------------------------------------------------


def network_with_everything() -> nn.Module:
    network = nn.ModuleDict({"embed": nn.Embedding(7, 5), "norm": nn.LayerNorm(5), "head": nn.Linear(5, 7)})
    network["head"].weight = network["embed"].weight
    return network


def test_permuting_keeps_the_values_and_loses_their_places():
    network = network_with_everything()
    before, after = original(network).tensors, compress("permute", network)
    assert after.touched == {"embed.weight"}  # tied: permuted once
    old, new = before["embed.weight"].dequantize(), after.tensors["embed.weight"].dequantize()
    assert torch.equal(old.flatten().sort().values, new.flatten().sort().values)
    assert (old == new).float().mean() < 0.3  # of 35 places, a random permutation leaves about one
    for name in ("norm.weight", "norm.bias", "head.bias"):
        assert torch.equal(after.tensors[name].dequantize(), before[name].dequantize())


def test_permuting_is_seeded_and_leaves_the_global_generator_alone():
    network, state = network_with_everything(), torch.random.get_rng_state()
    values = [compress(f"permute:seed={seed}", network).tensors["embed.weight"].dequantize() for seed in (0, 0, 1)]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_impossible_seeds_are_named(seed: int):
    with pytest.raises(BadInput, match=f"seed={seed}"):
        Permute(seed)
