"""The image recipes learn, resume to the same bits, and freeze what `open` reads."""

from __future__ import annotations

import copy
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bench.artifact.format import tensors_digest
from bench.interfaces import Training
from bench.methods.batch_norm import reestimate
from domains.image_diffusion.adapter import DiffusionDomain
from domains.image_diffusion.training import FlowRecipe, FlowTraining, flow_loss
from domains.image_gan.adapter import GanDomain
from domains.image_gan.network import DiscriminatorNetwork, GeneratorNetwork
from domains.image_gan.training import GanRecipe, GanTraining
from domains.images.data import part
from domains.images.encoder import SPOILS, EncoderRecipe, EncoderTraining, contrast, spoil
from domains.images.labeller import LabellerTraining
from domains.images.noise import item_noise
from domains.images.third_encoder import ThirdEncoderTraining
from domains.images.training import Recipe, generator, to_floats, to_pixels
from domains.muon import Muon, orthogonalised

PIXELS = part("validation").pixels[:256]
HELD_OUT = part("ceiling").pixels[:256]


def tiny_unet() -> nn.Module:
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(  # type: ignore[return-value]
            sample_size=14,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            norm_num_groups=4,
            block_out_channels=(8,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            attention_head_dim=4,
        )


def gan() -> GanTraining:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pair = GeneratorNetwork(8, (16, 8, 8, 4)), DiscriminatorNetwork((4, 8, 8))
    return GanTraining(
        *pair, PIXELS, HELD_OUT, 0, GanRecipe(steps=20, batch=16, penalty_every=3, warmup=2, average=0.9)
    )


def flow() -> FlowTraining:
    recipe = FlowRecipe(steps=20, batch=16, warmup=2, average=0.9, muon_learning_rate=3e-3)
    return FlowTraining(tiny_unet(), PIXELS, HELD_OUT, 0, recipe)


def encoder() -> EncoderTraining:
    return EncoderTraining(PIXELS, HELD_OUT, EncoderRecipe(steps=20, batch=16, warmup=2, average=0.9))


def third_encoder() -> ThirdEncoderTraining:
    return ThirdEncoderTraining(PIXELS, HELD_OUT, EncoderRecipe(steps=20, batch=16, warmup=2, average=0.9))


def labeller() -> LabellerTraining:
    return LabellerTraining(
        part("validation")[np.arange(256)],
        part("ceiling")[np.arange(256)],
        Recipe(steps=20, batch=16, average=0.9),
    )


every_recipe = pytest.mark.parametrize("make", [gan, flow, encoder, third_encoder, labeller])


@every_recipe
def test_a_resumed_run_ends_with_the_same_weights(make: Callable[[], Training]) -> None:
    whole, first, second = make(), make(), make()
    state = torch.random.get_rng_state()
    for _ in range(19):  # over the end of an epoch of 16 batches
        whole.step()
    for _ in range(7):
        first.step()
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    for _ in range(12):
        second.step()
    for name in whole.networks:
        assert tensors_digest(whole.networks[name]) == tensors_digest(second.networks[name])
        assert tensors_digest(whole.averages[name]) == tensors_digest(second.averages[name])  # type: ignore[attr-defined]
    assert torch.equal(state, torch.random.get_rng_state()), "no draw from the global generator"


@every_recipe
def test_identity_names_data_seed_and_recipe(make: Callable[[], Training]) -> None:
    made, other = make(), make()
    assert made.identity() == other.identity()
    other.seed = 1  # type: ignore[attr-defined]
    third = make()
    third.shorten(19)
    assert len({t.identity() for t in (made, other, third)}) == 3


def test_wrap_is_applied_to_both_networks_before_their_optimizers() -> None:
    wrapped: list[str] = []

    def wrap(name: str, module: nn.Module) -> nn.Module:
        wrapped.append(name)
        return copy.deepcopy(module)

    made = gan()
    again = GanTraining(
        made.networks["generator"],
        made.networks["discriminator"],
        PIXELS,
        HELD_OUT,
        0,
        GanRecipe(steps=20, batch=16),
        wrap=wrap,
    )
    assert wrapped == ["generator", "discriminator"]
    for name, (optimizer, _) in again.optimizers.items():
        assert optimizer.param_groups[0]["params"][0] is next(again.networks[name].parameters())


def test_the_gan_is_frozen_as_open_reads_it(tmp_path: Path) -> None:
    made = gan()
    for _ in range(3):
        made.step()
    made.freeze(tmp_path)
    domain = GanDomain()
    opened = domain.open(domain.locate(str(tmp_path)))
    assert all(
        torch.equal(t, t.half().float())
        for t in opened.network.state_dict().values()
        if t.is_floating_point()
    )
    pictures = opened.sample(opened.network, 20, 0)
    assert pictures.shape == (20, 1, 28, 28) and pictures.dtype == np.uint8
    assert 0 < opened.auxiliary_scores(pictures)["p_real"] < 1
    (tmp_path / "discriminator.safetensors").unlink()
    alone = domain.open(domain.locate(str(tmp_path)))
    assert alone.auxiliary_scores(pictures) == {}
    assert opened.identity() != alone.identity(), "the identity includes the discriminator"


def test_the_frozen_gans_running_statistics_are_its_own() -> None:
    """Averaged weights with the other weights' statistics would be another network: re-estimating again
    changes little.
    """
    made = gan()
    for _ in range(10):
        made.step()
    network = made._finished()
    before = {name: b.clone() for name, b in network.named_buffers() if "running_mean" in name}
    noise = generator(7, 0, "other latents")
    reestimate(network, (((torch.randn(500, 8, generator=noise),), {}) for _ in range(10)))
    for name, value in network.named_buffers():
        if "running_mean" in name:
            assert torch.allclose(before[name], value, atol=0.05 * float(value.abs().max()) + 1e-3), name


def test_the_flow_is_frozen_as_a_pipeline_that_diffusers_reads(tmp_path: Path) -> None:
    from diffusers import FlowMatchHeunDiscreteScheduler, UNet2DModel

    flow().freeze(tmp_path)
    assert tensors_digest(UNet2DModel.from_pretrained(tmp_path / "unet")) == tensors_digest(
        DiffusionDomain().open(DiffusionDomain().locate(str(tmp_path))).network
    )
    FlowMatchHeunDiscreteScheduler.from_pretrained(tmp_path / "scheduler")


def test_the_sampler_solves_the_flow(tmp_path: Path) -> None:
    """For data that is one point, the true velocity at x_t is (x_t - point) / t: the sampler must arrive
    at the point.
    """
    flow().freeze(tmp_path)
    opened = DiffusionDomain().open(DiffusionDomain().locate(str(tmp_path)))
    point = torch.linspace(-0.9, 0.9, 4 * 14 * 14).reshape(1, 4, 14, 14)

    class Exact(nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor):  # type: ignore[no-untyped-def]
            from diffusers.models.unets.unet_2d import UNet2DOutput

            return UNet2DOutput(sample=(x - point) / (time / 1000))

    made = opened.sample(Exact(), 3, 0)
    assert (
        np.abs(made.astype(int) - to_pixels(torch.nn.functional.pixel_shuffle(point, 2)).astype(int)).max()
        <= 1
    )
    assert opened.settings()["network_calls"] == 19


def test_both_learn() -> None:
    made = flow()
    before = made.validate()["loss"]
    for _ in range(20):
        made.step()
    assert made.validate()["loss"] < 0.98 * before
    seen = encoder()
    before = seen.validate()["loss"]
    for _ in range(20):
        seen.step()
    assert seen.validate()["loss"] < before


def test_the_flow_loss_of_a_perfect_network_is_the_targets_variance() -> None:
    """With the network that always answers 0 the loss is E|noise - x|^2 = 1 + E|x|^2."""

    class Zero(nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor):  # type: ignore[no-untyped-def]
            from diffusers.models.unets.unet_2d import UNet2DOutput

            return UNet2DOutput(sample=torch.zeros_like(x))

    images = to_floats(torch.from_numpy(PIXELS))
    assert flow_loss(Zero(), images, generator(0, 0, "x")).item() == pytest.approx(
        1 + images.square().mean().item(), rel=0.01
    )


# tall, wide, and two alike, which are orthogonalised together
SHAPES = [(6, 3, 2, 2), (12, 5), (12, 5), (4, 40)]


def moved(optimizer, shapes=SHAPES, steps: int = 3, state=None) -> tuple[list[torch.Tensor], dict]:  # type: ignore[no-untyped-def,type-arg]
    """How far a few steps along fixed slopes move kernels from 0 -> with the optimizer's state."""
    noise = torch.Generator().manual_seed(0)
    kernels = [nn.Parameter(torch.zeros(shape)) for shape in shapes]
    made = optimizer([*kernels, nn.Parameter(torch.zeros(2, 2))])  # the last one has no slope
    if state is not None:
        made.load_state_dict(copy.deepcopy(state))
    for _ in range(steps):
        for kernel in kernels:
            kernel.grad = torch.randn(kernel.shape, generator=noise)
        made.step()
    return [kernel.detach().flatten(1) for kernel in kernels], made.state_dict()


def alike(a: torch.Tensor, b: torch.Tensor) -> float:
    """1 where they point the same way and are as long; bfloat16 and float32 differ by 1e-4 of that."""
    return 1 - ((a - b).square().sum() / (a.square().sum() + b.square().sum())).item()


@pytest.mark.parametrize("adjust", ["match_rms_adamw", "original"])
@pytest.mark.parametrize("native", [True, False], ids=["bfloat16", "float32"])
def test_muon_moves_kernels_as_torch_moves_matrices(monkeypatch, native: bool, adjust: str) -> None:  # type: ignore[no-untyped-def]
    """Kernels move as torch's own step moves them flattened to [out, rest]: to the bit in bfloat16, nearly
    in float32.
    """
    monkeypatch.setattr("domains.muon.computes_bfloat16", lambda device: native)
    matrices = [(shape[0], math.prod(shape[1:])) for shape in SHAPES]
    theirs, _ = moved(lambda p: torch.optim.Muon(p, lr=0.01, weight_decay=0.1, adjust_lr_fn=adjust), matrices)
    ours, state = moved(lambda p: Muon(p, 0.01, 0.1, adjust))
    for our, their in zip(ours, theirs):
        assert torch.equal(our, their) if native else alike(our, their) > 0.99
    assert len(state["state"]) == len(SHAPES)


def test_muon_goes_on_from_a_checkpoint_of_another_machine(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """The momentum lies in the same place whichever arithmetic orthogonalises it."""
    monkeypatch.setattr("domains.muon.computes_bfloat16", lambda device: True)
    _, state = moved(lambda p: Muon(p, 0.01, 0.1))
    there, _ = moved(lambda p: Muon(p, 0.01, 0.1), steps=1, state=state)
    monkeypatch.setattr("domains.muon.computes_bfloat16", lambda device: False)
    here, _ = moved(lambda p: Muon(p, 0.01, 0.1), steps=1, state=state)
    fresh, _ = moved(lambda p: Muon(p, 0.01, 0.1), steps=1)
    for a, b, c in zip(there, here, fresh):
        assert alike(a, b) > 0.99 > 0.95 > alike(b, c)


def test_a_recipe_names_the_arithmetic_only_where_muon_is_used(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    for native, named in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("domains.muon.computes_bfloat16", lambda device: native)  # noqa: B023
        for rate, known in ((None, None), (3e-3, named)):
            training = FlowTraining(
                tiny_unet(), PIXELS, HELD_OUT, 0, FlowRecipe(steps=1, batch=8, muon_learning_rate=rate)
            )
            training.freeze(tmp_path / f"{named}-{rate}")
            assert (
                json.loads((tmp_path / f"{named}-{rate}" / "recipe.json").read_text(encoding="utf-8")).get(
                    "orthogonalised_in"
                )
                == known
            )


def test_what_muon_orthogonalises_keeps_its_directions_and_loses_its_sizes() -> None:
    matrices = torch.randn(2, 30, 8, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -1, 8)
    before, after = (
        torch.linalg.svd(matrices),
        torch.linalg.svdvals(orthogonalised(matrices, (3.4445, -4.7750, 2.0315), 5, 1e-7)),
    )
    assert before.S.max() / before.S.min() > 5 and 0.6 < after.min() and after.max() < 1.3


def test_noise_follows_from_seed_and_item_alone() -> None:
    many = item_noise(3, range(50), (4, 14, 14))
    assert torch.equal(many[40:], item_noise(3, range(40, 50), (4, 14, 14)))
    assert not torch.equal(many, item_noise(4, range(50), (4, 14, 14)))
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02  # 39,200 values


@pytest.mark.parametrize("function", SPOILS, ids=lambda f: f.__name__)
def test_each_damage_of_the_encoders_training_grows_with_its_strength(function) -> None:  # type: ignore[no-untyped-def]
    x = torch.from_numpy(PIXELS[:64]).float() / 255
    distances = [
        (function(x, torch.full((64, 1, 1, 1), s), generator(0, 0, "x")).clamp(0, 1) - x).abs().mean().item()
        for s in (0.02, 0.5, 1.0)
    ]
    assert distances[0] < distances[1] < distances[2] and distances[0] < 0.03


def test_damages_differ_by_picture_and_stay_in_range() -> None:
    x = torch.from_numpy(PIXELS[:1]).float().expand(32, -1, -1, -1) / 255
    spoilt = spoil(x, generator(0, 0, "x"), 0.5)
    assert 0 <= spoilt.min() and spoilt.max() <= 1
    assert len({picture.numpy().tobytes() for picture in spoilt}) == 32


def test_contrast_is_least_where_each_finds_its_own() -> None:
    eye = torch.eye(8)
    assert contrast(eye, eye, 0.1) < contrast(eye, eye.roll(1, 0), 0.1)
    assert contrast(eye, eye, 1e3).item() == pytest.approx(np.log(8), rel=1e-3), (
        "nothing to tell apart: a guess among eight"
    )
