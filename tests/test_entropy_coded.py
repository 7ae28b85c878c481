"""bench.methods.entropy_coded: the gap to rate-distortion theory, the rate that was asked for, odd
tensors.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.artifact.format import encode
from bench.interfaces import Context, StoredTensor
from bench.methods.entropy_coded import EntropyCoded, boundaries
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.methods.quantize import Quantizer


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(method: Quantizer, weights: Tensor, mask: Tensor | None = None) -> StoredTensor:
    return method.quantize(StoredTensor(tuple(weights.shape), values=weights, mask=mask), 0)


def entropy_of(stored: StoredTensor) -> float:
    assert stored.indices is not None
    kept = stored.indices if stored.mask is None else stored.indices[stored.mask]
    counts = np.bincount(kept.numpy().ravel())
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


@pytest.fixture(scope="module")
def two_million() -> nn.Module:
    layer = nn.Linear(2000, 1000, bias=False)
    with torch.no_grad():
        layer.weight.copy_(gaussian(1000, 2000))
    return layer


@pytest.mark.parametrize("bits", [1, 1.5, 2, 3, 4, 6])
def test_the_whole_file_is_within_027_bit_of_rate_distortion_theory(bits: float, two_million: nn.Module):
    """R(D) = log2(variance / D) / 2.

    Stored bits count header, table and checksum; theory says 0.255 at high rates.
    """
    made = parse(f"ecsq:bits={bits}")(original(two_million), Context())
    weights = two_million.weight.detach()
    distortion = (made.tensors["weight"].dequantize() - weights).double().square().mean().item()
    stored_bits = 8 * len(encode(made, "ecsq")) / weights.numel()
    gap = stored_bits - 0.5 * math.log2(weights.double().square().mean().item() / distortion)
    assert 0 < gap < 0.27
    assert stored_bits == pytest.approx(bits, abs=0.005)


@pytest.mark.parametrize("usual, gap", [("int4:group=32,scale=minmax", 1.139), ("binary", 0.271)])
def test_what_others_are_above_it(usual: str, gap: float, two_million: nn.Module):
    """At fixed width, float16 scales: 1.135 published for absmax in groups of 32 (16 levels there, 15
    here), 0.271 for 1 bit.
    """
    made = parse(usual)(original(two_million), Context())
    weights = two_million.weight.detach()
    distortion = (made.tensors["weight"].dequantize() - weights).double().square().mean().item()
    stored_bits = 8 * len(encode(made, "", entropy=False)) / weights.numel()
    assert stored_bits - 0.5 * math.log2(1 / distortion) == pytest.approx(gap, abs=0.01)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(st.floats(0.3, 6), st.sampled_from([1.0, 1e-3]), st.integers(0, 100))
def test_the_rate_is_the_one_asked_for_and_error_falls_with_it(bits: float, size: float, seed: int):
    weights = size * gaussian(60, 500, seed=seed)
    stored, finer = (quantized(EntropyCoded(bits=b), weights) for b in (bits, bits + 0.3))
    # bins and thresholds are approximate, 30,000 weights few
    assert entropy_of(stored) == pytest.approx(bits, abs=0.03)
    errors = [(s.dequantize() - weights).square().sum().item() for s in (stored, finer)]
    assert errors[1] < errors[0]


def test_rounding_that_knows_the_price_beats_plain_rounding_at_equal_entropy():
    weights = gaussian(200, 500)
    ours = quantized(EntropyCoded(bits=1), weights)
    plain = []
    for step in np.linspace(1.0, 4.0, 300):
        rounded = torch.round(weights / step)
        counts = np.unique(rounded.numpy(), return_counts=True)[1] / weights.numel()
        plain.append((-(counts * np.log2(counts)).sum(), (rounded * step - weights).square().mean().item()))
    entropy = entropy_of(ours)
    best_plain = min(error for bits, error in plain if bits <= entropy)
    assert (ours.dequantize() - weights).square().mean().item() < 0.96 * best_plain


@pytest.mark.parametrize("granularity", [{"granularity": "channel"}, {"group": 50}])
def test_rows_can_have_steps_of_their_own(granularity: dict[str, object]):
    """Channels of very different size: one step for all would be nothing to the small ones."""
    weights = gaussian(40, 500) * torch.logspace(-3, 0, 40)[:, None]
    stored = quantized(EntropyCoded(bits=3, **granularity), weights)  # type: ignore[arg-type]
    assert stored.scales is not None and stored.scales.shape[1] == (
        40 if granularity.get("granularity") else 400
    )
    share = (stored.dequantize() - weights).square().mean(1) / weights.square().mean(1)
    assert share.max() < 2 * 2.0**-6  # D / variance = 2^(-2 * 3), half a bit lost


def test_zeros_stay_and_take_no_part():
    weights, mask = gaussian(50, 100), gaussian(50, 100, seed=1) > 0
    stored = quantized(EntropyCoded(bits=2), torch.where(mask, weights, 0), mask)
    alone = quantized(EntropyCoded(bits=2), weights[mask][None])
    assert not stored.dequantize()[~mask].any()
    assert torch.equal(stored.dequantize()[mask], alone.dequantize()[0])


@pytest.mark.parametrize("bits", [0.1, 1, 8])
@pytest.mark.parametrize(
    "weights",
    [
        torch.zeros(3, 4),
        torch.ones(3, 4),
        torch.full((1, 1), -2.5),
        torch.tensor([[1e-7, -1e-7]]),
        torch.tensor([[1e4, 1.0, 0.0, -1.0]]),
    ],
    ids=["zeros", "constant", "one", "tiny", "outlier"],
)
def test_odd_tensors(weights: Tensor, bits: float):
    dense = quantized(EntropyCoded(bits=bits), weights).dequantize()
    assert dense.isfinite().all() and dense.shape == weights.shape
    assert (dense - weights).abs().max() <= weights.abs().max()  # never worse than setting all to zero


@pytest.mark.parametrize("text", ["ecsq:bits=8", "ecsq:bits=8,granularity=channel", "tcq:bits=8,states=8"])
@pytest.mark.parametrize("shape", [(1, 64), (4, 16)])
def test_the_step_of_small_weights_can_be_stored(text: str, shape: tuple[int, int]):
    """64 weights have at most 6 bits of entropy, so the search for 8 takes the smallest step."""
    method, weights = parse(text).links[0], 2e-5 * gaussian(*shape)
    dense = quantized(method, weights).dequantize()
    assert (dense - weights).norm() < 0.1 * weights.norm()


def test_a_level_that_never_pays_dies():
    levels, thresholds = boundaries(np.array([-1, 0, 1]), np.array([0.0, 3.0, 0.0]))
    assert levels.tolist() == [-1, 1] and thresholds.tolist() == [0.0]
    assert boundaries(np.array([0, 1]), np.array([0.0, 0.5]))[1].tolist() == [0.75]  # x^2 = (x - 1)^2 + 0.5
