"""bench.methods.prune and the floor: what goes, how much of it, ties, limits, bad settings."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_network import normal
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


# --- magnitude ----------------------------------------------------------------------------------------


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
    stored = compress(
        "magnitude:sparsity=0.5", layer_of(torch.tensor([[1.0, -1, 1, -1, 1, -1, 2, 0]]))
    ).tensors["weight"]
    assert stored.mask is not None and stored.mask.int().tolist() == [[0, 0, 0, 1, 1, 1, 1, 0]]


def test_sparsity_0_changes_no_value():
    weights = normal(3, 4)
    assert torch.equal(
        compress("magnitude:sparsity=0", layer_of(weights)).tensors["weight"].dequantize(), weights
    )


def test_a_pruned_weight_never_comes_back():
    layer = layer_of(normal(4, 25))
    twice = compress("magnitude:sparsity=0.75+magnitude:sparsity=0.5", layer).tensors["weight"]
    assert torch.equal(
        twice.dequantize(), compress("magnitude:sparsity=0.75", layer).tensors["weight"].dequantize()
    )


@pytest.mark.parametrize("sparsity, limit_db", [(0.50, 11.47), (0.75, 5.58), (0.90, 2.51)])
def test_a_gaussian_loses_what_is_published(sparsity: float, limit_db: float):
    """reference/limits.json, pruning_magnitude_db; .005 dB of its rounding are 0.12 % in D.

    Quantiles: no sampling error.
    """
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


# --- permute ------------------------------------------------------------------------------------------


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
    values = [
        compress(f"permute:seed={seed}", network).tensors["embed.weight"].dequantize() for seed in (0, 0, 1)
    ]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_impossible_seeds_are_named(seed: int):
    with pytest.raises(BadInput, match=f"seed={seed}"):
        Permute(seed)


# --- other ways to prune ------------------------------------------------------------------------------


def test_a_global_threshold_spares_the_large_tensors():
    network = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 10, bias=False))
    with torch.no_grad():
        network[0].weight.copy_(normal(10, 10))
        network[1].weight.copy_(100 * normal(10, 10, seed=1))
    by_layer, all_together = (
        compress(f"magnitude:scope={scope}", network).tensors for scope in ("layer", "global")
    )
    assert [int((t.dequantize() == 0).sum()) for t in by_layer.values()] == [50, 50]
    assert [int((t.dequantize() == 0).sum()) for t in all_together.values()] == [95, 5] or int(
        sum((t.dequantize() == 0).sum() for t in all_together.values())
    ) == 100
    smallest_kept = min(t.dequantize().abs()[t.mask].min() for t in all_together.values() if t.mask.any())
    largest_gone = max(
        network[i].weight.detach().abs()[~t.mask].max()
        for i, t in enumerate(all_together.values())
        if not t.mask.all()
    )
    assert largest_gone <= smallest_kept


def test_random_pruning_is_drawn_by_its_seed_and_looks_at_no_weight():
    network = layer_of(normal(40, 50, seed=7))  # the seeds of the lots would give the same stream
    a, again, other = (
        compress(text, network).tensors["weight"].mask
        for text in ("random", "random:seed=0", "random:seed=1")
    )
    assert int((~a).sum()) == 1000 and torch.equal(a, again) and not torch.equal(a, other)
    gone = network.weight.detach().abs()[~a]
    assert gone.mean() == pytest.approx(network.weight.detach().abs().mean().item(), rel=0.1)  # 1,000 draws


@pytest.mark.parametrize("n, m", [(2, 4), (1, 4), (3, 8)])
@pytest.mark.parametrize("axis", [0, 1])
def test_n_of_every_m_stay_and_they_are_the_largest(n: int, m: int, axis: int):
    weights = normal(6, 16, 3) if axis else normal(6, 16 * 3)
    kind = nn.ConvTranspose1d(6, 16, 3, bias=False) if axis else nn.Linear(48, 6, bias=False)
    with torch.no_grad():
        kind.weight.copy_(weights)
    mask = compress(f"{n}:{m}", kind).tensors["weight"].mask
    rows, kept = (t.movedim(axis, 0).flatten(1) for t in (weights.abs(), mask))
    whole = rows.shape[1] // m * m
    groups, flags = rows[:, :whole].reshape(-1, m), kept[:, :whole].reshape(-1, m)
    assert (flags.sum(1) == n).all()
    assert (
        torch.where(flags, groups, torch.inf).amin(1) >= torch.where(flags, -torch.inf, groups).amax(1)
    ).all()
    assert kept[:, whole:].sum(1).max() <= n if whole < rows.shape[1] else True


def test_the_published_error_of_2_of_4():
    """8.78 dB for a Gaussian (reference/limits.json); 400,000 weights leave 0.02 dB."""
    weights = normal(1000, 400)
    error = (
        (compress("2:4", layer_of(weights)).tensors["weight"].dequantize() - weights).square().mean().item()
    )
    assert -10 * math.log10(error / weights.square().mean().item()) == pytest.approx(8.78, abs=0.03)


@pytest.mark.parametrize(
    "text",
    ["magnitude:sparsity=0.6,keep=1.*", "random:keep=1.*", "2:4,keep=1.*", "magnitude:scope=global,keep=1.*"],
)
def test_exempt_tensors_keep_all_their_weights(text: str):
    network = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 4))
    compressed = compress(text, network)
    assert compressed.tensors["1.weight"].mask is None and compressed.tensors["0.weight"].mask is not None
    assert list(compressed.untouched) == ["1.weight"] and "keep=1.*" in compressed.untouched["1.weight"]


THEN = [
    "int4",
    "int2",
    "int4:asym",
    "nf4",
    "ternary",
    "binary:residual=2",
    "ecsq:bits=1",
    "int4:group=8",
    "fp16",
]


@pytest.mark.parametrize("first", ["magnitude:sparsity=0.75", "random", "2:4", "1:4"])
@pytest.mark.parametrize("then", THEN)
def test_zeros_stay_zeros_whatever_comes_next(first: str, then: str):
    network = layer_of(normal(24, 36))
    zeros = compress(first, network).tensors["weight"].dequantize() == 0
    assert zeros.float().mean() >= 0.5
    assert not compress(f"{first}+{then}", network).tensors["weight"].dequantize()[zeros].any()


def test_half_precision_keeps_a_pattern_and_its_order():
    """In a file the numbers of 2:4 patterns take fewer bits than any other mask."""
    before = compress("2:4", layer_of(normal(16, 64))).tensors["weight"]
    after = compress("2:4+fp16", layer_of(normal(16, 64))).tensors["weight"]
    assert (after.pattern, after.layout) == (before.pattern, before.layout) == ((2, 4), before.layout)
    assert after.values is not None and after.values.dtype == torch.float16
