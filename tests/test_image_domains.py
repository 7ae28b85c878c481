"""The two image generators: foreign folders, settings, schedulers, errors, and what companions say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.errors import BadInput
from bench.evaluation.verdicts import features_of
from bench.interfaces import Features, SampleFeatures
from domains.image_diffusion.adapter import DiffusionDomain
from domains.image_gan.adapter import BATCH, GanDomain
from domains.images import metrics
from domains.images.data import part
from domains.images.evaluators import Effnet, Encoder, ProbabilisticPCA, dithered
from domains.images.labeller import labels


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unconditional pipeline as others save it: colour, 32x32, noise prediction, DDIM."""
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    folder = tmp_path_factory.mktemp("foreign")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            norm_num_groups=4,
            block_out_channels=(8, 8),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
        )
    DDIMPipeline(unet, DDIMScheduler(num_train_timesteps=100)).save_pretrained(folder)
    return folder


# --- diffusion ----------------------------------------------------------------------------------------


def test_a_foreign_pipeline_is_opened_and_its_pictures_are_converted(pipeline: Path) -> None:
    domain = DiffusionDomain()
    opened = domain.open(domain.locate(str(pipeline)), settings={"steps": 3})
    made = opened.sample(opened.network, 5, 0)
    assert made.shape == (5, 1, 28, 28) and made.dtype == np.uint8
    assert opened.settings() == {"steps": 3, "scheduler": "DDIMScheduler", "network_calls": 3}
    assert len({picture.tobytes() for picture in made}) == 5


def test_the_steps_change_the_pictures_and_the_cell(pipeline: Path) -> None:
    domain = DiffusionDomain()
    few, more = (domain.open(domain.locate(str(pipeline)), settings={"steps": steps}) for steps in (2, 4))
    assert few.settings() != more.settings()
    assert not np.array_equal(few.sample(few.network, 2, 0), more.sample(more.network, 2, 0))


def test_the_schedulers_settings_are_part_of_the_identity(pipeline: Path, tmp_path: Path) -> None:
    import shutil

    other = shutil.copytree(pipeline, tmp_path / "other")
    file = other / "scheduler" / "scheduler_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text(encoding="utf-8")), "beta_end": 0.05}), encoding="utf-8"
    )
    domain = DiffusionDomain()
    assert (
        domain.open(domain.locate(str(other))).identity()
        != domain.open(domain.locate(str(pipeline))).identity()
    )


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "os"}, "unknown scheduler 'os'"),
        ("scheduler/scheduler_config.json", [], "not a JSON object"),
        ("unet/config.json", {"in_channels": 5, "_class_name": "UNet2DModel"}, "cannot open"),
        ("card.json", {"sampler": {"steps": 0}}, "steps=0"),
        ("card.json", {"sampler": {"steps": 2.5}}, "steps=2.5 is not a whole number"),
        ("card.json", {"sampler": {"speed": 3}}, "speed"),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "DDIMScheduler", "num_train_timesteps": 5},
            "cannot be set up",
        ),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "DDIMScheduler", "num_train_timesteps": "x"},
            "cannot be set up",
        ),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "stochastic_sampling": True},
            "draws noise",
        ),
        (
            "scheduler/scheduler_config.json",
            {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"},
            "draws noise",
        ),
    ],
)
def test_bad_pipelines_are_refused_in_one_line(
    pipeline: Path, tmp_path: Path, file: str, content: object, message: str
) -> None:
    import shutil

    bad = shutil.copytree(pipeline, tmp_path / "bad")
    (bad / file).write_text(json.dumps(content), encoding="utf-8")
    domain = DiffusionDomain()
    with pytest.raises(BadInput, match=message) as error:
        domain.open(domain.locate(str(bad)))
    assert "\n" not in str(error.value)


def test_the_identity_is_the_same_in_every_process(pipeline: Path, tmp_path: Path) -> None:
    """diffusers fills a config up with defaults in an order that changes from process to process."""
    import os
    import shutil
    import subprocess
    import sys

    older = shutil.copytree(pipeline, tmp_path / "older")
    file = older / "unet" / "config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    for name in ("dropout", "act_fn", "norm_eps", "freq_shift", "flip_sin_to_cos"):
        del config[name]
    file.write_text(json.dumps(config), encoding="utf-8")
    script = f"""
from domains.image_diffusion.adapter import DiffusionDomain as D
print(D().open(D().locate({str(older)!r})).identity())"""
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        encoding="utf-8",
    ).stdout
    domain = DiffusionDomain()
    assert other.strip() == domain.open(domain.locate(str(older))).identity()


def test_pickled_weights_are_not_opened(pipeline: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file

    bad = shutil.copytree(pipeline, tmp_path / "bad")
    weights = bad / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    domain = DiffusionDomain()
    with pytest.raises(BadInput, match="cannot open"):
        domain.open(domain.locate(str(bad)))


# --- GAN ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"latent": 64, "widths": [1, 2]},
        {"latent": 1e9, "widths": [8] * 4},
        {"latent": -1, "widths": [8] * 4},
    ],
)
def test_bad_generators_are_refused(tmp_path: Path, config: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "generator.safetensors").write_bytes(b"rubble")
    domain = GanDomain()
    with pytest.raises(BadInput, match=r"config\.json.*latent"):
        domain.open(domain.locate(str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps({"latent": 8, "widths": [8, 8, 8, 8]}), encoding="utf-8")
    with pytest.raises(BadInput, match="cannot open the model"):
        domain.open(domain.locate(str(tmp_path)))


def test_the_discriminator_prefers_pictures_to_noise() -> None:
    domain = GanDomain()
    opened = domain.open(domain.models["s@0"])
    noise = np.random.default_rng(0).integers(0, 256, (200, 1, 28, 28)).astype(np.uint8)
    real, rubble = (opened.auxiliary_scores(p)["p_real"] for p in (part("test").pixels[:200], noise))
    assert 0 <= rubble < real <= 1


@pytest.mark.parametrize("domain", [GanDomain(), DiffusionDomain()], ids=lambda d: d.name)
def test_twins_do_not_depend_on_how_many_are_made(domain: GanDomain | DiffusionDomain) -> None:
    """Bit for bit: batches are of one size, the last one filled up."""
    opened = domain.open(domain.models["s@0"])
    n = 120 if domain.name == "image_gan" else 101
    many, few = opened.sample(opened.network, n, 3), opened.sample(opened.network, 7, 3)
    assert np.array_equal(many[:7], few) and len(many) == n > BATCH


# --- evaluators and metrics ---------------------------------------------------------------------------


def test_the_dither_follows_from_the_picture_alone() -> None:
    pixels = part("test").pixels[:8]
    assert torch.equal(dithered(pixels)[3:], dithered(pixels[3:]))
    noise = dithered(pixels) - torch.from_numpy(pixels).float() / 255
    assert 0.028 < noise.std() < 0.032 and abs(noise.mean()) < 0.002  # 6,272 values of sigma .03
    assert not torch.allclose(noise[0], noise[1], atol=1e-3)


def test_probabilistic_pca_is_the_density_it_says() -> None:
    """Against torch's own low-rank Gaussian with the same covariance."""
    x = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        6, 6, generator=torch.Generator().manual_seed(1)
    )
    model = ProbabilisticPCA.fit(x, 3)
    z = (x.double() - model.mean) / model.deviation
    factor = model.components * (model.variances - model.rest).sqrt()
    gaussian = torch.distributions.LowRankMultivariateNormal(
        torch.zeros(6).double(), factor, model.rest.expand(6)
    )
    assert torch.allclose(model.surprisal(x).double(), -gaussian.log_prob(z), rtol=1e-5)
    assert torch.allclose(model.features(x).double(), z @ model.components, atol=1e-5)


def test_evaluators_have_the_widths_that_the_design_names() -> None:
    pixels = part("test").pixels[:4]
    assert Effnet().features(pixels).shape == (4, 64)
    encoded = Encoder().features(pixels)
    assert encoded.shape == (4, 64) and torch.allclose(encoded.norm(dim=1), torch.ones(4), atol=1e-5)


def test_the_labeller_knows_the_classes() -> None:
    held_out = part("test")
    assert held_out.labels is not None
    right = (labels(held_out.pixels[:1000]).numpy() == held_out.labels[:1000]).mean()
    assert right > 0.87  # .907 on 5,000 validation pictures; four standard errors of 1,000 are .037


def test_lost_classes_are_counted() -> None:
    images = part("ceiling")
    assert images.labels is not None
    five = images.pixels[images.labels < 5][:500]
    real, half = (SampleFeatures(p, {}) for p in (images.pixels[:500], five))
    assert (
        metrics.classes_covered(real, real) == 10 and 5 <= metrics.classes_covered(half, real) <= 7
    )  # shirts look like classes of either half
    assert metrics.class_entropy(real, real) == pytest.approx(np.log2(10), abs=0.05)
    assert metrics.class_entropy(half, real) < 2.9
    one = SampleFeatures(np.repeat(images.pixels[:1], 50, axis=0), {})
    assert metrics.classes_covered(one, real) == 1 and metrics.class_entropy(one, real) == 0


def test_distances_are_small_for_real_pictures_and_grow_with_damage() -> None:
    """The Fréchet distance to itself is 0; the unbiased kernel distance of two parts of the same data is
    near 0.
    """
    from domains.images.damages import noise

    evaluator = Effnet()
    pixels = part("ceiling").pixels[:600]

    def seen(p: np.ndarray) -> SampleFeatures:
        return SampleFeatures(p, {"effnet": features_of(evaluator, p)})

    real, other, noisy = seen(pixels[:300]), seen(pixels[300:]), seen(noise(pixels[300:], 0.2))
    assert metrics.fid_effnet(real, real) == pytest.approx(0, abs=1e-3)
    assert metrics.fid_effnet(other, real) < 0.5 * metrics.fid_effnet(noisy, real)
    assert abs(metrics.kid_effnet(other, real)) < 0.1 * metrics.kid_effnet(noisy, real)


def test_the_frechet_distance_of_a_shift_is_its_square() -> None:
    """Closed form: equal covariances, means apart by d -> |d|^2."""
    x = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0))
    real, shifted = (
        SampleFeatures([], {"effnet": Features(v)}) for v in (x, x + torch.tensor([3.0, 0, 0, 0]))
    )
    assert metrics.fid_effnet(shifted, real) == pytest.approx(9.0, rel=1e-4)


def test_inception_metrics_fail_in_one_line_where_the_weights_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch_fidelity import feature_extractor_inceptionv3 as inception

    def nothing(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(inception, "FeatureExtractorInceptionV3", nothing)
    with pytest.raises(BadInput, match=r"fid, kid and is need .*: no route to host$"):
        GanDomain().optional_metric("fid")
    assert GanDomain().optional_metric("something else") is None
