"""PARQ of torchao: what its proximal map does to weights, what is stored, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_network import bits, normal
from trained_networks import SmallGenerator, apply, parametrized, read_back

from bench.errors import BadInput
from bench.interfaces import StoredTensor
from bench.methods.notation import is_trained, parse
from bench.methods.plain import plain
from bench.methods.trained import MEAN_SCALES, quantizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each test alone."""
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path))


def skip_without_torchao() -> None:
    pytest.importorskip("torchao")


def start(grid: str, rows: torch.Tensor) -> StoredTensor:
    return quantizer(grid).quantize(plain(rows), 0)


def test_weights_reach_the_grid_of_the_tool_one_after_another() -> None:
    """Slope 1 leaves those within the outermost levels alone."""
    skip_without_torchao()
    from torchao.prototype.parq.quant import LSBQuantizer

    from bench.methods.parq import Proximal

    latent = normal(5, 400)
    for grid, number in (("binary", 1), ("ternary", 0)):
        made = Proximal(start(grid, latent), number, anneal=0.5)
        targets = LSBQuantizer().quantize(latent, number, dim=-1)[0]
        made.advance(latent, 0.0)
        largest = targets.abs().amax(1, keepdim=True)
        assert torch.allclose(made(latent), latent.clamp(-largest, largest), atol=2e-3)
        shares = []
        for share in (0.1, 0.2, 0.3, 0.4, 0.5):
            made.advance(latent, share)
            shares.append(((made(latent) - targets).abs() < 2e-3).float().mean().item())
        assert shares == sorted(shares) and shares[0] < 0.5 and shares[-1] == 1
        assert torch.equal(made(latent), made.stored(latent).dequantize())


@pytest.mark.parametrize(("grid", "number"), [("binary", 1), ("ternary", 0)])
def test_weights_follow_those_of_the_tools_own_optimizer(grid: str, number: int) -> None:
    """Stochastic gradient descent on a quadratic loss, with the tool's optimizer and with ours."""
    skip_without_torchao()
    from torchao.prototype.parq.optim import ProxPARQ, QuantOptimizer
    from torchao.prototype.parq.quant import LSBQuantizer

    from bench.methods.parq import Proximal

    aim, steps = normal(4, 50, seed=1), 20
    theirs, ours = (torch.nn.Parameter(normal(4, 50)) for _ in range(2))
    base = torch.optim.SGD([{"params": [theirs], "quant_bits": number}], 0.05)
    tool = QuantOptimizer(
        base, LSBQuantizer(), ProxPARQ(0, steps), quant_period=1, quant_per_channel=True, warmup_steps=0
    )
    made = Proximal(start(grid, ours.detach()), number, anneal=1.0)
    optimizer = torch.optim.SGD([ours], 0.05)
    made.advance(ours, 0.0)
    for step in range(1, steps // 2):
        theirs.grad = 2 * (theirs.detach() - aim)
        tool.step()
        optimizer.zero_grad()
        values = ours if step == 1 else made(ours)  # the tool's first step sees latent weights
        (values - aim).square().sum().backward()
        optimizer.step()
        made.advance(ours, (step - 1) / steps)
        assert torch.allclose(made(ours), theirs, atol=5e-3), step
    assert (theirs - ours).abs().max() > 0.01, "values between latent weights and grid"


def test_gradients_pass_unchanged() -> None:
    skip_without_torchao()
    from bench.methods.parq import Proximal

    latent, gradient = normal(2, 8).requires_grad_(), normal(2, 8, seed=1)
    made = Proximal(start("binary", latent.detach()), 1, anneal=0.5)
    for share in (0.0, 0.3, 1.0):
        latent.grad = None
        made.advance(latent, share)
        made(latent).backward(gradient)
        assert latent.grad is not None and torch.equal(latent.grad, gradient)


@pytest.mark.parametrize("before", ["", "magnitude+"])
@pytest.mark.parametrize("grid", MEAN_SCALES)
def test_the_file_gives_back_what_the_trained_network_computes_with(grid: str, before: str) -> None:
    skip_without_torchao()
    generator = SmallGenerator()
    made = apply(f"{before}parq:grid={grid},budget=1", generator)
    tensors, trained = read_back(made), parametrized(generator.started[0].finished())
    assert len(trained) > 5
    for name, value in trained.items():
        held = tensors["embed.weight" if name == "head.weight" else name]
        assert value.isfinite().all() and bits(value) == bits(held), name
    if before:
        pruned = [(name, stored.mask) for name, stored in apply("magnitude", generator).tensors.items()]
        assert not any(tensors[name][~mask].any() for name, mask in pruned if mask is not None)


def test_it_is_a_training_time_method_with_the_settings_of_qat() -> None:
    skip_without_torchao()
    assert parse("parq").text == "parq:grid=binary" and is_trained("parq:grid=binary")
    assert parse("parq:anneal=0.5,grid=ternary,seed=3").text == "parq:grid=ternary,seed=3,anneal=0.5"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("parq:grid=int4", "grid='int4' of 'parq' is not one of: ternary, binary"),
        ("parq:scales=learned", "scales='learned' of 'parq' is not one of: auto"),
        *((f"parq:anneal={share}", f"anneal={share} of 'parq' is outside of") for share in ("0", "1", "nan")),
    ],
)
def test_what_is_not_possible_is_named_also_without_torchao(text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse(text)
