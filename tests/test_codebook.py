"""bench.methods.codebook: published limits, levels against brute force, odd tensors, bytes of the book."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small_network import compress
from torch import Tensor, nn

from bench.artifact.format import decode, encode
from bench.errors import BadInput
from bench.interfaces import StoredTensor
from bench.methods import notation
from bench.methods.codebook import CodeBook, lloyd_max
from bench.methods.quantize import Int3


def quantized(method: CodeBook, weights: Tensor, mask: Tensor | None = None) -> StoredTensor:
    return method.quantize(StoredTensor(tuple(weights.shape), values=weights, mask=mask), 0)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits, distortion", [(1, 0.3634), (2, 0.1175), (3, 0.03454), (4, 0.009497)])
def test_a_gaussian_reaches_the_limit_of_max(bits: int, distortion: float) -> None:
    """Max 1960, table I. 200,000 quantiles stand for a Gaussian without sampling error."""
    weights = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000).float()[None]
    error = (quantized(CodeBook(bits=bits), weights).dequantize() - weights).square().mean().item()
    assert error == pytest.approx(distortion, rel=0.003)


def test_two_levels_are_the_best_of_all_cuts() -> None:
    for seed in range(20):
        values = np.sort(np.random.default_rng(seed).standard_normal(40) ** 3)
        cuts = [np.split(values, [i]) for i in range(1, 40)]
        best = min(sum(np.square(p - p.mean()).sum() for p in parts) for parts in cuts)
        levels = lloyd_max(values, 2)
        error = np.square(values[:, None] - levels).min(1).sum()
        assert error <= best * (1 + 1e-5), "levels are float16"


def test_levels_are_the_means_of_their_cells() -> None:
    values = np.random.default_rng(0).laplace(size=5000)
    levels = lloyd_max(values, 8)
    assert len(levels) == 8 and (np.diff(levels) > 0).all()
    nearest = np.abs(values[:, None] - levels).argmin(1)
    means = [values[nearest == i].mean() for i in range(8)]
    assert levels == pytest.approx(means, rel=2**-10, abs=1e-3)  # levels are float16


def test_beats_even_levels_of_the_same_number() -> None:
    weights = gaussian(50, 400) ** 3
    error = (
        (quantized(CodeBook(bits=3, granularity="channel"), weights).dequantize() - weights).square().sum()
    )
    even = Int3().quantize(StoredTensor(tuple(weights.shape), values=weights), 0).dequantize()
    assert error < 0.8 * (even - weights).square().sum()


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("settings", [{}, {"granularity": "channel"}, {"group": 3}])
@pytest.mark.parametrize(
    "weights",
    [
        torch.zeros(3, 4),
        torch.full((3, 4), 2.5),
        torch.tensor([[1e-7, -1e-7]]),
        torch.tensor([[1e4, 1.0, 0.0]]),
    ],
    ids=["zeros", "constant", "tiny", "outlier"],
)
def test_odd_tensors(weights: Tensor, settings: dict[str, object], bits: int) -> None:
    dense = quantized(CodeBook(bits=bits, **settings), weights).dequantize()  # type: ignore[arg-type]
    assert dense.isfinite().all() and (dense - weights).abs().max() <= weights.abs().max()


def test_pruned_weights_take_no_part() -> None:
    weights, mask = gaussian(30, 50), gaussian(30, 50, seed=1) > 0
    stored = quantized(CodeBook(bits=2), torch.where(mask, weights, 0), mask)
    alone = quantized(CodeBook(bits=2), weights[mask][None])
    assert torch.allclose(stored.dequantize()[mask], alone.dequantize()[0], rtol=2**-10)
    assert not stored.dequantize()[~mask].any()


def test_rows_of_a_large_tensor_share_one_book(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other quantizers process rows part by part; then each part would have a book of its own."""
    from bench.methods import quantize

    weights = gaussian(40, 50) * torch.linspace(0.1, 9, 40)[:, None]
    methods = [CodeBook(granularity="channel"), notation.parse("ecsq:granularity=channel").links[0]]
    whole = [method.quantize(StoredTensor((40, 50), values=weights), 0).dequantize() for method in methods]  # type: ignore[attr-defined]
    monkeypatch.setattr(quantize, "BLOCK", 200)
    for method, expected in zip(methods, whole, strict=True):
        parts = method.quantize(StoredTensor((40, 50), values=weights), 0).dequantize()  # type: ignore[attr-defined]
        assert torch.equal(parts, expected)


def test_the_book_is_in_the_file() -> None:
    layer = nn.Linear(40, 30, bias=False)
    made = compress("codebook:bits=4", layer)
    data = encode(made, "")
    assert torch.equal(decode(data)[2]["weight"].dequantize(), made.tensors["weight"].dequantize())
    assert len(data) > len(encode(compress("int4:granularity=tensor", layer), "")) + 16


@pytest.mark.parametrize(
    "text", ["codebook:bits=0", "codebook:bits=9", "codebook:bits=1.5", "codebook:group=-1"]
)
def test_bad_settings_are_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="'codebook'") as caught:
        notation.parse(text)
    assert "\n" not in str(caught.value)


def test_rare_values_far_away_get_levels() -> None:
    """Of 1,000 zeros and a few far values, quantiles see zeros alone."""
    values = np.array([0.0] * 1000 + list(itertools.chain(*([x] * 3 for x in (5.0, 6.0, 9.0)))))
    assert np.square(values[:, None] - lloyd_max(values, 4)).min(1).sum() < 1e-3
