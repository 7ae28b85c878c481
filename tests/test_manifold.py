"""bench.metrics.manifold: identity, closed forms, hand-made cases, parity with `prdc`, exactness,
published nulls.
"""

from __future__ import annotations

from dataclasses import fields

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from torch import Tensor

from bench.errors import BadInput, Diverged
from bench.metrics import manifold as manifold_module
from bench.metrics.manifold import Manifold, _dtypes, _Screen, manifold, nearest_neighbour_distance, radii


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def column(*values: float) -> Tensor:
    """One-dimensional features [n, 1]."""
    return torch.tensor(values)[:, None]


# --- by hand ------------------------------------------------------------------------------------------


def test_the_arguments_are_real_then_generated():
    """k = 1; real radii 1, 1, 1, 8; generated radii 1.5, 1.5. Distances, rows real, columns generated:

    0   1.5   3        only the outlier 10, of radius 8, reaches 3, at 7; capped at the 90th percentile, 1
    .5    2        the third of four radii, 1, it does not. 3 is at 1 from 2, whose radius is 1: not inside. 2
    .5    1        0 is at 1.5 from 1.5, whose radius is 1.5: not inside. 10  8.5   7
    """
    m = manifold(column(0, 1, 2, 10), column(1.5, 3), k=1)
    assert m.real_radii.tolist() == [1, 1, 1, 8]
    assert m.generated_radii.tolist() == [1.5, 1.5]
    assert m.precision.tolist() == [True, True]
    assert m.inside_capped.tolist() == [True, False]
    assert m.density.tolist() == [2, 1]
    assert m.coverage.tolist() == [False, True, True, True]
    assert m.recall.tolist() == [False, True, True, False]
    assert m.mutual_recall.tolist() == [False, True, True, False]
    assert m.means()["coverage"] == 0.75


def test_mutual_recall_needs_one_pair_inside_both_balls():
    """0 (radius 1) holds .5 and .55, whose balls are small (.05); -3 (3.5) holds 0, but is not in 0's
    ball.
    """
    m = manifold(column(0, 1), column(-3, 0.5, 0.55), k=1)
    assert bool(m.recall[0]) and bool(m.coverage[0]) and not bool(m.mutual_recall[0])


def test_a_radius_leaves_the_sample_itself_out_and_counts_its_copies():
    x = column(0, 0, 1, 3)
    assert radii(x, 1).tolist() == nearest_neighbour_distance(x).tolist() == [0, 0, 1, 2]
    assert radii(x, 2).tolist() == [1, 1, 1, 3]
    assert radii(x, 3).tolist() == [3, 3, 2, 3]


# --- closed forms -------------------------------------------------------------------------------------


def test_identity():
    """A set against itself: all 1.

    Each ball strictly holds its centre and k - 1 neighbours, so density is 1 too.
    """
    x = normal(300, 8, seed=0)
    m = manifold(x, x).means()
    assert [m[name] for name in ("precision", "recall", "coverage", "mutual_recall")] == [1, 1, 1, 1]
    assert m["density"] == pytest.approx(1, abs=1e-12)


def test_swapping_the_arguments_swaps_precision_and_recall():
    real, generated = normal(200, 4, seed=1), normal(150, 4, seed=2) * 0.5
    there, back = manifold(real, generated), manifold(generated, real)
    assert torch.equal(there.precision, back.recall) and torch.equal(there.recall, back.precision)
    assert there.means()["precision"] > 0.9 > there.means()["recall"]  # contracted
    assert (there.mutual_recall <= there.recall & there.coverage).all()


@pytest.mark.parametrize(("n", "m", "k"), [(40, 40, 3), (40, 20, 5), (15, 60, 1)])
def test_expected_coverage_and_density_when_both_sets_have_one_distribution(n, m, k):
    """Around a real sample the n - 1 other real and m generated samples come in random order of distance,
    whatever the distribution. It is uncovered when the first k are all real: product of (n-1-i) / (n+m-1-i),
    near 2^-k for n = m. Before the k-th real one come k m / n generated ones (negative hypergeometric), so
    density is 1. Tolerances: 5 standard errors of the mean over 300 draws, as observed.
    """
    draws = [manifold(normal(n, 3, 2 * s), normal(m, 3, 2 * s + 1), k).means() for s in range(300)]
    uncovered = np.prod([(n - 1 - i) / (n + m - 1 - i) for i in range(k)])
    for name, expected in (("coverage", 1 - uncovered), ("density", 1.0)):
        values = np.array([draw[name] for draw in draws])
        assert values.mean() == pytest.approx(expected, abs=5 * values.std() / 300**0.5)


# --- parity and exactness -----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d", "k"), [(400, 400, 64, 5), (300, 500, 8, 3), (500, 200, 2, 1)])
def test_parity_with_prdc(n, m, d, k):
    real, generated = normal(n, d, seed=3), 0.9 * normal(m, d, seed=4) + 0.1
    theirs = compute_prdc(real.numpy(), generated.numpy(), nearest_k=k)
    ours = manifold(real, generated, k).means()
    for name in ("precision", "recall", "density", "coverage"):  # the same counts, divided in another order
        assert ours[name] == pytest.approx(theirs[name], abs=1e-12), name


def brute_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[n, m] float64, by the definition: squared differences added coordinate by coordinate."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    squared = np.zeros((len(x), len(y)))
    for c in range(x.shape[1]):
        squared += (x[:, None, c] - y[None, :, c]) ** 2
    return squared


def brute_force(real: np.ndarray, generated: np.ndarray, k: int) -> Manifold:
    real_balls = np.sort(brute_squares(real, real), axis=1)[:, k]
    generated_balls = np.sort(brute_squares(generated, generated), axis=1)[:, k]
    squared = brute_squares(real, generated)
    in_real, in_generated = squared < real_balls[:, None], squared < generated_balls
    capped = squared < np.minimum(real_balls, np.quantile(real_balls, 0.9, method="lower"))[:, None]
    answers = (
        in_real.any(0),
        in_generated.any(1),
        in_real.sum(0) / k,
        in_real.any(1),
        (in_real & in_generated).any(1),
    )
    arrays = (*answers, capped.any(0), np.sqrt(real_balls), np.sqrt(generated_balls))
    return Manifold(*map(torch.from_numpy, arrays))


def assert_same(a: Manifold, b: Manifold) -> None:
    """Bit by bit; only the reported radii may differ by one rounding: PyTorch's `sqrt` is not correctly
    rounded.
    """
    for field in fields(Manifold):
        rounding = 2**-52 if field.name.endswith("radii") else 0
        torch.testing.assert_close(getattr(a, field.name), getattr(b, field.name), rtol=rounding, atol=0)


@st.composite
def awkward_sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Two sets on a small lattice, so that ties and copies abound, shrunk and moved to where float32 just
    holds them; some generated rows are copies of real ones, which puts them exactly on the border of balls.
    """
    k, d = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    places = [
        (0, 1),
        (1, 1e-6),
        (1e3, 1),
        (1e3, 1e-4),
        (-1e6, 1),
        (0, 1e-20),
        (0, 1e15),
        (1e4, 1e-3),
        (0, 1e20),
        (0, 1e36),
        (0, 1e-44),
    ]
    offset, scale = draw(st.sampled_from(places))

    def features(n: int) -> np.ndarray:
        lattice = draw(hnp.arrays(np.int8, (n, d), elements=st.integers(-3, 3)))
        return (offset + scale * lattice.astype(np.float64)).astype(np.float32)

    real, generated = features(draw(st.integers(k + 1, 16))), features(draw(st.integers(k + 1, 16)))
    for row in draw(st.lists(st.integers(0, len(generated) - 1), max_size=6)):
        generated[row] = real[row % len(real)]
    return real, generated, k


@settings(derandomize=True, deadline=None, max_examples=150)
@given(awkward_sets(), st.integers(1, 20))
def test_equals_brute_force_on_awkward_sets(sets, block):
    real, generated, k = sets
    ours = manifold(torch.from_numpy(real), torch.from_numpy(generated), k, block=block)
    assert_same(ours, brute_force(real, generated, k))


def adversarial(case: str) -> tuple[Tensor, Tensor]:
    """300 real and 400 generated samples in 16 dimensions."""
    real, generated = normal(300, 16, seed=5), normal(400, 16, seed=6)
    if case == "copies of real samples":
        generated[:300] = real
    elif case == "all copies of one":
        generated[:] = real[0]
    # float32 steps of 6e-5 at 1e3: copies and near copies
    elif case == "clusters of 1e-6 at 1e3 and at the origin":
        centres = normal(10, 16, seed=7) + torch.tensor([[1e3]] * 5 + [[0.0]] * 5)
        real, generated = (centres[torch.arange(len(x)) % 10] + 1e-6 * x for x in (real, generated))
    elif case == "offset 1e3":
        real, generated = real + 1e3, generated + 1e3
    elif case == "offset 1e6, tiny spread":  # float32 steps of 1/16
        real, generated = real * 0.1 + 1e6, generated * 0.1 + 1e6
    elif case == "offset 1e4":
        real, generated = real + 1e4, generated + 1e4
    elif case == "neighbours one float32 step away":
        generated[:300] = torch.nextafter(real, torch.tensor(torch.inf))
        real[150:] = torch.nextafter(real[:150], torch.tensor(-torch.inf))
    elif case == "a dynamic range of 1e40":
        real, generated = (
            x * 10 ** (40 * torch.linspace(0, 1, len(x))[:, None] - 22) for x in (real, generated)
        )
    elif case == "magnitude 1e20":  # squares overflow float32
        real, generated = 1e20 * real, 1e20 * generated
    elif case == "magnitude 1e-30":  # squares underflow float32
        real, generated = 1e-30 * real, 1e-30 * generated
    elif case == "clusters 1e5 apart":  # float32 separates none of a cluster: its blocks are screened again
        centres = 1e5 * normal(10, 16, seed=7)
        real, generated = (centres[torch.arange(len(x)) % 10] + x for x in (real, generated))
    elif case == "every generated sample in every real ball":
        generated = 1e-3 * generated
    elif case == "on the border":  # of integer balls
        real, generated = (2 * real).round(), (2 * generated).round()
    elif case == "1 dimension":
        real, generated = real[:, :1], generated[:, :1]
    elif case == "512 dimensions":
        real, generated = normal(300, 512, seed=5), 0.98 * normal(400, 512, seed=6)
    elif case == "real all alike":
        real[:] = real[0]
    elif case == "outlier":
        generated[0] = 1e30
        real[0] = -1e18
    else:
        assert case == "ordinary"
    return real, generated


CASES = [
    "ordinary",
    "copies of real samples",
    "all copies of one",
    "clusters of 1e-6 at 1e3 and at the origin",
    "offset 1e3",
    "offset 1e6, tiny spread",
    "outlier",
    "offset 1e4",
    "neighbours one float32 step away",
    "a dynamic range of 1e40",
    "magnitude 1e20",
    "magnitude 1e-30",
    "clusters 1e5 apart",
    "every generated sample in every real ball",
    "on the border",
    "1 dimension",
    "512 dimensions",
    "real all alike",
]


@pytest.mark.parametrize("case", CASES)
def test_equals_brute_force(case):
    real, generated = adversarial(case)
    for k in (1, 5):
        assert_same(manifold(real, generated, k, block=128), brute_force(real.numpy(), generated.numpy(), k))


@pytest.mark.parametrize("case", CASES)
def test_the_block_size_changes_nothing(case):
    real, generated = adversarial(case)
    whole = manifold(real, generated, block=1000)
    for block in (1, 7, 256):
        assert_same(whole, manifold(real, generated, block=block))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bounds_hold_and_gaps_settle(case, dtype):
    """Every bound is at most the squared distance; with a gap that knows one of the two it never claims
    too much.
    """
    real, generated = (x.double() for x in adversarial(case))
    truth = torch.from_numpy(brute_squares(real.numpy(), generated.numpy()))
    screen = _Screen(real, generated, dtype, group=7)
    truth, bounds = truth * screen.scale**2, screen.bounds(slice(0, 300)).flatten(1).double()
    assert bounds[:, 400:].isinf().all() and bounds.shape[1] == 406
    bounds = bounds[:, :400]
    assert (bounds <= truth + screen.tiny).all()
    # as if each distance were the radius: is its pair held for inside?
    for norms in (screen.x_norms[:, None], screen.y_norms):
        assert (bounds >= truth - screen.gap(norms, truth)).all()


def test_the_screen_settles_nearly_all_pairs(monkeypatch):
    """Of 600 ordinary samples' 1.1 million distances, few are summed: the k + 1 in each ball and those
    near a border.
    """
    summed = []
    exact = manifold_module._squared_distances
    monkeypatch.setattr(
        manifold_module,
        "_squared_distances",
        lambda x, y, i, j: (summed.append(len(i)), exact(x, y, i, j))[1],
    )
    manifold(normal(600, 64, seed=1), normal(600, 64, seed=2))
    assert 2 * 600 * 6 <= sum(summed) < 2 * 600 * 6 + 600


@pytest.mark.parametrize("n", [2, 3, 6, 31, 32, 33, 65])
def test_sets_smaller_than_a_group(n):
    real, generated = normal(n, 3, seed=1), normal(n + 1, 3, seed=2)
    assert_same(manifold(real, generated, k=n - 1), brute_force(real.numpy(), generated.numpy(), n - 1))
    assert_same(manifold(real, generated, k=1), brute_force(real.numpy(), generated.numpy(), 1))


def test_lower_precision_allowed_by_the_caller_changes_nothing():
    real, generated = normal(200, 16, seed=1), normal(200, 16, seed=2)
    before = manifold(real, generated)
    assert _dtypes(real) == [torch.float32, torch.float64]
    with torch.autocast("cpu", torch.bfloat16):
        assert _dtypes(real) == [torch.float64]
        assert_same(manifold(real, generated), before)
    torch.set_float32_matmul_precision("medium")
    try:
        assert _dtypes(real) == [torch.float64]
        assert_same(manifold(real, generated), before)
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_bar_where_it_takes_long(monkeypatch, capsys):
    real, generated = normal(200, 4, seed=1), normal(200, 4, seed=2)
    quiet = manifold(real, generated)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(manifold_module, "BAR_ABOVE", 1000)
    assert_same(manifold(real, generated, block=10), quiet)
    shown = capsys.readouterr().err
    assert "balls" in shown and "pairs" in shown and "20" in shown


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("case", CASES)
def test_a_gpu_gives_the_same(case):
    real, generated = adversarial(case)
    there = manifold(real.cuda(), generated.cuda())
    assert_same(
        Manifold(*(getattr(there, field.name).cpu() for field in fields(Manifold))), manifold(real, generated)
    )


# --- what it is for: damages, against the figures measured when the benchmark was designed ------------


def mixture(n: int, seed: int, modes: int = 10) -> Tensor:
    """Unit Gaussians around the first `modes` of ten centres, of deviation .7, in 64 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    mode = torch.randint(modes, (n,), generator=generator)
    return 0.7 * normal(10, 64, seed=0)[mode] + torch.randn(n, 64, generator=generator)


DAMAGES = {
    "none": lambda x: x,
    "half of the modes": lambda x: mixture(len(x), seed=2, modes=5),
    "contracted": lambda x: 0.8 * x,
    "noise": lambda x: x + 0.7 * normal(*x.shape, seed=3),
    "half repeated": lambda x: x[: len(x) // 2].repeat(2, 1),
    "ten copies of a tenth": lambda x: x[: len(x) // 10].repeat(10, 1),
}
NULLS = {  # N = 2,000, k = 5, one draw: precision, recall, coverage, mutual recall
    "none": (0.775, 0.766, 0.967, 0.66),
    "half of the modes": (0.788, 0.377, 0.494, 0.35),
    "contracted": (0.999, 0.108, 1.0, 0.108),
    "noise": (0.138, 0.998, 0.228, 0.223),
    "half repeated": (0.765, 0.591, 0.874, 0.445),
    "ten copies of a tenth": (0.775, 0.0, 0.406, 0.0),
}


@pytest.mark.parametrize("damage", NULLS)
def test_published_nulls(damage):
    """Over six draws of centres and samples most values have a standard deviation up to .015, and .03 where
    samples are repeated; both the figures and this are single draws: 3 * sqrt(2) of it.
    """
    m = manifold(mixture(2000, seed=1), DAMAGES[damage](mixture(2000, seed=2))).means()
    ours = tuple(m[name] for name in ("precision", "recall", "coverage", "mutual_recall"))
    assert ours == pytest.approx(
        NULLS[damage], abs=0.127 if "ten" in damage or "repeated" in damage else 0.064
    )


def test_ten_copies_of_a_tenth_have_no_mutual_recall():
    """Nine copies at distance 0: with k = 5 every generated ball has radius 0 and holds nothing."""
    real = normal(500, 16, seed=8)
    m = manifold(real, real[:50].repeat(10, 1))
    assert m.generated_radii.max() == 0
    assert not m.mutual_recall.any() and not m.recall.any()
    assert m.precision.all()


# --- errors -------------------------------------------------------------------------------------------


def test_too_few_samples():
    with pytest.raises(BadInput, match=r"real samples.*k = 5, 5 samples"):
        manifold(normal(5, 2, 0), normal(9, 2, 0))
    with pytest.raises(BadInput, match=r"generated samples.*k = 5, 3 samples"):
        manifold(normal(9, 2, 0), normal(3, 2, 0))
    with pytest.raises(BadInput, match="k = 0"):
        radii(normal(9, 2, 0), k=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_are_a_result(bad):
    x = normal(9, 2, 0)
    damaged = x.clone()
    damaged[3, 1] = bad
    with pytest.raises(Diverged, match="1 of 9 generated"):
        manifold(x, damaged)


def test_dimensions_must_agree():
    with pytest.raises(ValueError, match=r"\[9, 2\] and \[9, 3\]"):
        manifold(normal(9, 2, 0), normal(9, 3, 0))
    with pytest.raises(ValueError, match=r"\[9\]"):
        radii(torch.zeros(9))
