"""bench.methods.scale_search: the shortcuts give exactly what evaluating every candidate gives."""

from __future__ import annotations

import pytest
import torch
from small_network import normal
from torch import Tensor

from bench.methods.quantize import NF4, Int2, Int3, Int4, Int8
from bench.methods.scale_search import Best, Grid, ScaleSearch, sweep

LEVELS = {method.name: method.levels for method in (Int2(), Int3(), Int4(), Int8(), NF4())}
every_grid = pytest.mark.parametrize("levels", LEVELS.values(), ids=list(LEVELS))


def every_candidate(rows: Tensor, mask: Tensor, levels: tuple[float, ...]) -> Grid:
    """The search without shortcuts: 121 passes over all rows, a level looked up for each weight."""
    best = Best(rows, mask, (levels,))
    largest = (rows.abs() * mask).amax(1).clamp(min=1e-30)
    for share in torch.linspace(1.0, 0.1, 96).tolist():
        best.consider(largest * share / levels[-1])
    centre, step = best.scales[0], 0.9 / 95
    for offset in torch.linspace(-step, step, 21).tolist():
        best.consider(centre + largest * offset / levels[-1])
    for _ in range(4):
        best.refit()
    return best.grid()


ROWS = {
    "gaussian": normal(12, 288),
    "short": normal(50, 3),
    "one weight each": normal(9, 1),
    "one row": normal(1, 2000),
    "heavy tails": normal(20, 100) ** 3,
    "whole numbers": normal(30, 64).mul(3).round(),
    "tiny, huge, zero": torch.cat([1e-7 * normal(2, 50), 3e4 * normal(2, 50), torch.zeros(1, 50)]),
}


@every_grid
@pytest.mark.parametrize("rows", ROWS.values(), ids=list(ROWS))
@pytest.mark.parametrize("pruned", [False, True])
def test_the_same_scales_and_indices(rows: Tensor, levels: tuple[float, ...], pruned: bool) -> None:
    mask = (normal(*rows.shape, seed=1) > 0).float() if pruned else torch.ones_like(rows)
    found, expected = sweep(rows, mask, levels), every_candidate(rows, mask, levels)
    assert torch.equal(found.scales, expected.scales)
    assert torch.equal(found.indices, expected.indices) and found.codebook == expected.codebook


def test_long_rows_are_never_apart() -> None:
    """torch adds 2^15 weights and more in another order where a row is alone, on several threads."""
    rows = normal(2, 2**15) * torch.tensor([[1.0], [0.01]])
    mask = torch.ones_like(rows)
    found, expected = sweep(rows, mask, LEVELS["int4"]), every_candidate(rows, mask, LEVELS["int4"])
    assert torch.equal(found.scales, expected.scales)
    assert not ScaleSearch(rows, mask, LEVELS["int4"]).moves
    assert ScaleSearch(rows[:, 1:], mask[:, 1:], LEVELS["int4"]).moves


@every_grid
def test_rounding_at_and_beside_every_border(levels: tuple[float, ...]) -> None:
    grid = torch.tensor(levels)
    borders = (grid[1:] + grid[:-1]) / 2
    beside = [torch.nextafter(borders, torch.full_like(borders, end)) for end in (-1e9, 1e9)]
    values = torch.cat([borders, *beside, torch.tensor([-1e30, 1e30, 0.0, -0.0, 1e-40])])[None]
    best, search = Best(values, values, (levels,)), ScaleSearch(values, values, levels)
    one = torch.ones(1)
    expected = grid[best.assign(one[None])]
    assert torch.equal(search.rounded(values, one, torch.empty_like(values)), expected)


@every_grid
def test_a_candidate_is_skipped_only_where_its_error_is_larger(levels: tuple[float, ...]) -> None:
    rows = normal(20, 200) ** 3
    search = ScaleSearch(rows, torch.ones_like(rows), levels)
    scales = rows.abs().amax(1)[:, None] * torch.linspace(0.02, 1.2, 40) / levels[-1]
    least, skipped = search.least_error(scales), 0
    for i, scale in enumerate(scales.T):
        rounded = search.rounded(rows, scale, torch.empty_like(rows)) * scale[:, None]
        error = (rows - rounded).double().square().sum(1)
        assert (least[:, i] <= error).all()
        skipped += int((least[:, i] > 0.5 * error).sum())
    assert skipped > 20, "a bound that is never near skips nothing"


def test_few_candidates_of_eight_bits_need_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[int] = []
    evaluate = ScaleSearch._evaluate

    def counted(own: ScaleSearch, scales: Tensor, chosen: Tensor, column: Tensor) -> None:
        evaluated.append(len(chosen))
        evaluate(own, scales, chosen, column)

    monkeypatch.setattr(ScaleSearch, "_evaluate", counted)
    rows = normal(200, 300)
    sweep(rows, torch.ones_like(rows), Int8().levels)
    assert sum(evaluated) < 35 * len(rows), "121 without the bound"
