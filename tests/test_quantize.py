"""bench.methods.quantize: published limits, the grids, scales against brute force, float16, channels, hostile values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bench.errors import BadInput
from bench.interfaces import Compressed, Context, Stored
from bench.methods.notation import parse
from bench.methods.plain import halve_the_rest, original
from bench.methods.quantize import Binary, Int2, Int3, Int4, Int5, Int6, Int7, Int8, Quantizer, Ternary

UNIFORM = (Int2(), Int3(), Int4(), Int5(), Int6(), Int7(), Int8())
ALL = (*UNIFORM, Ternary(), Binary())
every_uniform = pytest.mark.parametrize("method", UNIFORM, ids=lambda m: m.name)
every_quantizer = pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ideal_normal(n: int) -> Tensor:
    """[1, n]: the quantiles of a Gaussian, that is, Gaussian weights without sampling error."""
    return torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n).float()[None]


def quantized(method: Quantizer, weights: Tensor, axis: int = 0, mask: Tensor | None = None) -> Stored:
    return method.quantize(Stored(tuple(weights.shape), values=weights, mask=mask), axis)


def errors(method: Quantizer, weights: Tensor) -> np.ndarray:
    """Squared error of each channel, float64 [channels]."""
    return (quantized(method, weights).dequantize().double() - weights.double()).square().sum(1).numpy()


def errors_at(method: Quantizer, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """The same at given scales, by another way of rounding: float64 [channels]."""
    top, units = max(method.levels), weights / scale[:, None]
    mid_rise = top % 1 != 0
    rounded = np.clip(np.floor(units) + 0.5 if mid_rise else np.round(units), -top, top)
    return np.square(weights - rounded * scale[:, None]).sum(1)


def compress(text: str, network: nn.Module, **context: object) -> Compressed:
    return parse(text)(original(network), Context(**context))  # type: ignore[arg-type]


# --- limits ----------------------------------------------------------------------------------------------------------

# reference/limits.json: optimal_uniform_db, ternary_optimum, lloyd_max (1 bit). Its 4 bits, 19.38 dB, are 16 levels;
# int4 has 15 (design, "Grids"), for which the same integral gives 18.90 dB (next test). 255 of 256 levels cost 0.03 dB.
LIMITS_DB = [(Int2(), 9.25), (Int3(), 14.27), (Int4(), 18.90), (Int8(), 40.57), (Ternary(), 7.21), (Binary(), 4.40)]


@pytest.mark.parametrize("method, limit_db", LIMITS_DB, ids=lambda v: getattr(v, "name", v))
def test_a_gaussian_reaches_the_published_limit(method: Quantizer, limit_db: float):
    """1 % in D: the brief's tolerance; .005 dB of rounding in the limits are 0.1 %, 400k quantiles leave 0.4 % at 8 bits."""
    weights = ideal_normal(400_000)
    distortion = errors(method, weights)[0] / weights.numel()
    assert distortion == pytest.approx(10 ** (-limit_db / 10), rel=0.01)


@pytest.mark.parametrize("top, step, limit_db", [(7.5, 0.3352, 19.38), (7.0, 0.3536, 18.90), (1.5, 0.9957, 9.25)])
def test_where_the_limit_of_int4_comes_from(top: float, step: float, limit_db: float):
    """Squared error of a uniform grid under the Gaussian density, near the optimal step (Max 1960, table II: 0.3352, 0.9957)."""

    def distortion(s: float) -> float:
        x = np.linspace(-9, 9, 200_001)
        rounded = s * np.clip(np.floor(x / s) + 0.5 if top % 1 else np.round(x / s), -top, top)
        return float(np.sum(np.square(x - rounded) * np.exp(-np.square(x) / 2)) * (x[1] - x[0]) / math.sqrt(2 * math.pi))

    best = min(distortion(step * share) for share in np.linspace(0.95, 1.05, 41))
    assert -10 * math.log10(best) == pytest.approx(limit_db, abs=0.01)  # two printed decimals


@every_uniform
def test_grids(method: Quantizer):
    bits = int(method.name[3:])
    if bits <= 3:  # mid-rise: odd multiples of half a step, none is zero
        assert method.levels == tuple((2 * i + 1 - 2**bits) / 2 for i in range(2**bits))
    else:  # mid-tread
        assert method.levels == tuple(range(-(2 ** (bits - 1) - 1), 2 ** (bits - 1)))
    assert len(method.levels) == (2**bits if bits <= 3 else 2**bits - 1)
    used = quantized(method, torch.linspace(-1, 1, 10_000)[None]).indices
    assert used is not None and len(used.unique()) == len(method.levels)


def test_grids_of_ternary_and_binary():
    assert Ternary().levels == (-1, 0, 1)
    assert Binary().levels == (-1, 1)


# --- scales ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", (Int2(), Int3(), Int4(), Int8()), ids=lambda m: m.name)
def test_uniform_scales_are_those_of_a_fine_search(method: Quantizer):
    """Within 0.1 % in D. (At 8 bits a channel of some hundred weights has many narrow minima; ours is then a few % off.)"""
    gaussian = normal(2, 20_000)
    weights = torch.cat([gaussian, gaussian.abs().pow(1.5) * gaussian.sign()])  # and two heavier-tailed channels
    w = weights.double().numpy()
    unit = np.abs(w).max(1) / max(method.levels)
    coarse = np.linspace(0.02, 1.05, 150)
    nearby = coarse[np.argmin([errors_at(method, w, unit * share) for share in coarse], 0)]
    fine = min_over(errors_at(method, w, unit * nearby * share) for share in np.linspace(0.98, 1.02, 120))
    assert (errors(method, weights) <= 1.001 * fine).all()


def min_over(arrays: object) -> np.ndarray:
    return np.minimum.reduce(list(arrays))  # type: ignore[call-overload]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.sampled_from(UNIFORM), st.integers(1, 40), st.sampled_from([1.0, 0.02, 1e-4, 1e-6]), st.integers(0, 10**6))
def test_no_scale_is_worse_than_min_max(method: Quantizer, n: int, size: float, seed: int):
    """Down to where float16 has one digit left."""
    weights = size * normal(8, n, seed=seed)
    minmax = (weights.abs().amax(1) / max(method.levels)).half().double().clamp(min=2.0**-24).numpy()
    of_minmax = np.sqrt(errors_at(method, weights.double().numpy(), minmax))
    rounding = 2.0**-21 * weights.norm(dim=1).numpy()  # both residuals are judged in float32, each 2^-22 of the weights off
    assert (np.sqrt(errors(method, weights)) <= of_minmax * (1 + 1e-6) + rounding).all()


def test_ternary_is_the_best_of_all_thresholds():
    weights = normal(6, 300)
    for row, scale in zip(weights.double().abs().numpy(), quantized(Ternary(), weights).scales[0].numpy()):
        kept = [row[row >= threshold] for threshold in row]
        best = min(kept, key=lambda k: np.square(k - k.mean()).sum() + np.square(row).sum() - np.square(k).sum())
        assert scale == np.float16(best.mean())


def test_binary_is_the_mean_magnitude():
    weights = normal(6, 300)
    assert torch.equal(quantized(Binary(), weights).scales[0], weights.double().abs().mean(1).half())


@every_quantizer
def test_indices_are_chosen_for_the_rounded_scale(method: Quantizer):
    weights = 1e-3 * normal(4, 200)  # int8's scales, 2e-5, are then subnormal in float16: up to 0.2 % off
    stored = quantized(method, weights)
    assert stored.scales is not None and stored.scales.dtype == torch.float16
    grid = stored.scales[0].float()[:, None, None] * torch.tensor(method.levels)  # [channels, 1, levels]
    nearest = (weights[..., None] - grid).abs().amin(-1)
    assert torch.allclose((stored.dequantize() - weights).abs(), nearest, rtol=0, atol=1e-9)  # 1e-9: ties of float32


# --- channels --------------------------------------------------------------------------------------------------------


@every_quantizer
def test_the_channels_of_a_conv1d_are_its_columns(method: Quantizer):
    layer = Conv1D(6, 50)  # [50, 6]
    with torch.no_grad():
        layer.weight.copy_(normal(50, 6) * torch.tensor([1.0, 2, 4, 8, 16, 32]))
    stored = compress(method.name, layer).tensors["weight"]
    rows = quantized(method, layer.weight.detach().T.contiguous())
    assert stored.layout.axis == 1 and stored.scales is not None and stored.scales.shape == (1, 6)
    assert torch.equal(stored.scales, rows.scales)
    assert torch.equal(stored.dequantize(), rows.dequantize().T)


@every_quantizer
def test_channels_of_zeros_of_one_weight_and_of_extreme_values(method: Quantizer):
    zeros, tiny, huge = torch.zeros(1, 5), torch.full((1, 5), 1e-12), torch.full((1, 5), 6e4)
    stored = quantized(method, torch.cat([zeros, tiny, huge, 2e-5 * normal(1, 5), zeros + 1]))
    dense = stored.dequantize()
    assert (dense[:2] == 0).all()  # 1e-12 is far below the smallest float16
    # a rounded scale is 2^-11 off; 127 steps of it are as well
    assert torch.allclose(dense[[2, 4]], torch.tensor([[6e4], [1.0]]).expand(2, 5), rtol=2**-11)
    assert dense.isfinite().all()
    single = normal(7, 1)
    assert torch.allclose(quantized(method, single).dequantize(), single, rtol=2**-11)


weight = st.one_of(st.just(0.0), *(st.floats(-size, size) for size in (6e4, 1e-3, 1e-12)))


@settings(derandomize=True, deadline=None, max_examples=150)
@given(st.sampled_from(ALL), st.lists(weight, min_size=1, max_size=12))
def test_never_worse_than_zeros_whatever_the_weights(method: Quantizer, weights: list[float]):
    row = torch.tensor([weights])
    dense = quantized(method, row).dequantize()
    assert dense.isfinite().all()
    # 1e-5: float32 sums; 1e-30: squares below it underflow
    assert (dense - row).double().square().sum() <= row.double().square().sum() * (1 + 1e-5) + 1e-30


# --- pruned weights --------------------------------------------------------------------------------------------------


@every_quantizer
def test_pruned_weights_stay_zero_and_take_no_part_in_scales(method: Quantizer):
    layer = nn.Linear(200, 1, bias=False)
    pruned = compress("magnitude:sparsity=0.75", layer).tensors["weight"]
    stored = compress(f"magnitude:sparsity=0.75+{method.name}", layer).tensors["weight"]
    kept = pruned.mask
    assert kept is not None and stored.mask is not None and torch.equal(stored.mask, kept)
    assert (stored.dequantize()[~kept] == 0).all()
    alone = quantized(method, layer.weight.detach()[kept][None])
    # one float16 step, since a sum over 200 terms rounds otherwise than one over 50
    assert torch.allclose(stored.scales.float(), alone.scales.float(), rtol=2**-10)


@every_quantizer
def test_a_channel_that_is_pruned_altogether(method: Quantizer):
    dense = quantized(method, normal(2, 9), mask=torch.tensor([[False] * 9, [True] * 9])).dequantize()
    assert (dense[0] == 0).all() and dense[1].isfinite().all() and (dense[1] != 0).any()


# --- around the grid -------------------------------------------------------------------------------------------------


def test_two_quantizers_are_one_too_many():
    with pytest.raises(BadInput, match=r"quantizes twice \(int8 and ternary\)"):
        parse("int8+ternary")
    once = compress("int8", nn.Linear(3, 2))
    with pytest.raises(BadInput, match="'ternary' would quantize 'weight' a second time"):
        Ternary()(once, Context())


class WithNorms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.position = nn.Parameter(normal(4))


def test_what_lies_beside_the_weights_becomes_float16():
    network = WithNorms()
    tensors = halve_the_rest(original(network)).tensors
    kinds = {name: stored.values.dtype for name, stored in tensors.items() if stored.values is not None}
    assert kinds == {
        "position": torch.float16,
        "linear.weight": torch.float32,  # the quantizer's business
        "linear.bias": torch.float16,
        "norm.weight": torch.float16,
        "norm.bias": torch.float16,
        "norm.running_mean": torch.float16,
        "norm.running_var": torch.float32,
        "norm.num_batches_tracked": torch.int64,
    }
    assert torch.equal(tensors["linear.bias"].dequantize(), network.linear.bias.detach().half().float())


def test_what_float16_cannot_hold_stays_float32():
    layer = nn.Linear(4, 3)
    nn.init.constant_(layer.bias, 1e5)
    assert (compress("int8", layer).tensors["bias"].dequantize() == 1e5).all()


def test_what_the_context_keeps_stays_as_it_is():
    network = WithNorms()
    compressed = compress("int4", network, kept={"linear.weight": "first layer", "position": "small"})
    for name in ("linear.weight", "position"):
        stored = compressed.tensors[name]
        assert stored.values is not None and stored.values.dtype == torch.float32
    assert compressed.untouched["linear.weight"] == "first layer"


def test_a_weight_computed_from_other_parameters_is_listed_not_compressed():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    compressed = compress("int4", layer)
    assert not any(stored.quantized for stored in compressed.tensors.values())
    assert "parametrizations.weight.original1" in compressed.untouched


def test_the_input_is_not_changed():
    layer = nn.Linear(20, 4)
    before, start = layer.weight.detach().clone(), original(layer)
    parse("magnitude+int2")(start, Context())
    assert torch.equal(layer.weight, before)
    assert torch.equal(start.tensors["weight"].dequantize(), before) and not start.touched
