"""Pipelines in diffusers' own format: each kind runs as its own pipeline does, or is refused when opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.artifact.format import fill, rebuild, save
from bench.errors import BadInput
from bench.interfaces import Context, Generator
from bench.methods.notation import parse
from bench.methods.plain import original
from domains.image_diffusion import adapter, sampler
from domains.image_diffusion.adapter import DiffusionDomain

SEED = 3


def unet(channels: int = 3, side: Any = 16, **settings: Any) -> Any:
    from diffusers import UNet2DModel

    known = {"out_channels": channels, "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    known |= {"block_out_channels": (8,), "down_block_types": ("AttnDownBlock2D",)}
    known |= {"up_block_types": ("UpBlock2D",), "add_attention": False}
    return UNet2DModel(sample_size=side, in_channels=channels, **known | settings)


def dit(channels: int = 3, side: int = 16, **settings: Any) -> Any:
    from diffusers import DiTTransformer2DModel

    sizes = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1, "norm_num_groups": 4}
    return DiTTransformer2DModel(
        in_channels=channels, sample_size=side, num_embeds_ada_norm=5, **sizes | settings
    )


def vae(channels: int = 4) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(latent_channels=channels, block_out_channels=(4,), norm_num_groups=2)


def vqvae(pictures: int = 3) -> Any:
    from diffusers import VQModel

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"num_vq_embeddings": 16, "in_channels": pictures, "out_channels": pictures}
    return VQModel(block_out_channels=(4, 4), norm_num_groups=2, **blocks, **sizes)


def write(folder: Path, scheduler: str, settings: dict[str, Any] | None = None, **parts: Any) -> Path:
    """Save networks below their names, and a scheduler, as `save_pretrained` of a pipeline does."""
    import diffusers

    for name, part in parts.items():
        part.save_pretrained(folder / name)
    getattr(diffusers, scheduler)(**settings or {}).save_pretrained(folder / "scheduler")
    (folder / "card.json").write_text(json.dumps({"sampler": {"steps": 4}}), encoding="utf-8")
    return folder


KINDS: dict[str, Callable[[Path], Path]] = {
    "DDPM, colour": lambda f: write(f, "DDPMScheduler", unet=unet()),
    "DDPM, grey, 20x20": lambda f: write(f, "DDPMScheduler", unet=unet(1, 20)),
    "DDIM, two sizes": lambda f: write(f, "DDIMScheduler", unet=unet(3, (16, 16))),
    "score-based": lambda f: write(f, "ScoreSdeVeScheduler", unet=unet(time_embedding_type="fourier")),
    "Karras": lambda f: write(f, "KarrasVeScheduler", unet=unet()),
    "transformer": lambda f: write(f, "DDIMScheduler", transformer=dit()),
    "transformer, grey, flow": lambda f: write(f, "FlowMatchEulerDiscreteScheduler", transformer=dit(1)),
    "latent, VQ-VAE": lambda f: write(f, "DDIMScheduler", unet=unet(3, 8), vqvae=vqvae()),
    "latent, VQ-VAE of grey": lambda f: write(f, "DDPMScheduler", unet=unet(3, 8), vqvae=vqvae(1)),
    "latent, transformer": lambda f: write(f, "DDIMScheduler", transformer=dit(4, 8), vae=vae()),
    "latent, 14x14": lambda f: write(f, "DDIMScheduler", unet=unet(4, 14), vae=vae()),
}


def open_folder(folder: Path, **settings: Any) -> Any:
    domain = DiffusionDomain()
    return domain.open(domain.locate(str(folder)), settings=settings)


@pytest.fixture
def seeded(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Networks of the same weights in every run, in small batches; the global seed stays as it was."""
    monkeypatch.setattr(adapter, "BATCH", 5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def int4_of(opened: Generator, path: Path) -> tuple[Any, Any]:
    """The network compressed to 4 bits: from memory, and from its file."""
    compressed = parse("int4")(original(opened.network), Context(opened))
    save(compressed, "int4", path)
    network = opened.rebuild(())
    fill(network, compressed.tensors)
    return network, rebuild(path, opened)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_sampled_compressed_and_rebuilt(kind: str, tmp_path: Path, seeded: None) -> None:
    opened = open_folder(KINDS[kind](tmp_path / "model"))
    made = opened.sample(opened.network, 2, SEED)
    assert made.shape == (2, 1, 28, 28) and made.dtype == np.uint8 and not np.array_equal(made[0], made[1])
    inside, outside = int4_of(opened, tmp_path / "file")
    assert np.array_equal(opened.sample(inside, 2, SEED), opened.sample(outside, 2, SEED))
    assert not np.array_equal(opened.sample(outside, 2, SEED), made), "compressed weights change the pictures"


@pytest.mark.parametrize("kind", ["DDPM, colour", "score-based", "Karras", "latent, VQ-VAE"])
def test_an_item_has_the_same_noise_whatever_n_is(kind: str, tmp_path: Path, seeded: None) -> None:
    """Of the global seed nothing is used; the second batch has noise of its own."""
    opened = open_folder(KINDS[kind](tmp_path / "model"))
    many, few = opened.sample(opened.network, 7, SEED), opened.sample(opened.network, 2, SEED)
    assert np.array_equal(many[:2], few) and not np.array_equal(many[5:], many[:2])
    state = torch.get_rng_state()
    assert np.array_equal(opened.sample(opened.network, 7, SEED), many)
    assert torch.equal(torch.get_rng_state(), state)
    assert not np.array_equal(opened.sample(opened.network, 2, SEED + 1), few)


@pytest.mark.parametrize("name", sampler.SCHEDULERS)
def test_each_scheduler_makes_a_picture_from_an_items_noise(name: str, tmp_path: Path, seeded: None) -> None:
    opened = open_folder(write(tmp_path / "model", name, unet=unet(1, 8)))
    calls = []
    opened.network.register_forward_hook(lambda *_: calls.append(1))
    made = opened.sample(opened.network, 2, SEED)
    assert len(calls) == opened.network_calls == opened.settings()["network_calls"]
    assert made.std() > 0


@pytest.mark.parametrize("name", ["DDPM", "DDIM", "ScoreSdeVe", "KarrasVe"])
def test_schedulers_are_driven_as_diffusers_drives_them(name: str, seeded: None) -> None:
    import diffusers
    from diffusers.utils.torch_utils import randn_tensor

    network = unet(3, 8, **{"time_embedding_type": "fourier"} if name == "ScoreSdeVe" else {}).eval()
    config = {"_class_name": f"{name}Scheduler"}
    scheduler = sampler.set_up(config, 5, "here", "cpu")

    def noise() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(item) for item in range(2)]

    def denoise(x: Tensor, time: Tensor) -> Tensor:
        return network(x, time).sample

    pipeline = getattr(diffusers, f"{name}Pipeline")(network, getattr(diffusers, f"{name}Scheduler")())
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(2, generator=noise(), num_inference_steps=5, output_type="np").images
    own, kind = noise(), sampler.kind_of(config, "here")
    with torch.inference_mode():
        x = randn_tensor((2, 3, 8, 8), generator=own) * scheduler.init_noise_sigma
        ours = kind.drive(denoise, scheduler, x, own if kind.draws_noise else [])
    pictures = (ours / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.allclose(pictures, theirs, atol=1e-4) and theirs.std() > 0.01


def test_the_companion_is_named_with_its_bytes_and_is_part_of_the_identity(
    tmp_path: Path, seeded: None
) -> None:
    folder = KINDS["latent, VQ-VAE"](tmp_path / "model")
    opened = open_folder(folder)
    expected = 4 * sum(p.numel() for p in vqvae().parameters())
    assert opened.settings()["companion"] == "vqvae/VQModel"
    assert opened.settings()["companion_bytes"] == expected
    assert opened.notes()[1].startswith("vqvae/VQModel") and f"{expected:,} bytes" in opened.notes()[1]
    assert sum(p.numel() for p in opened.network.parameters()) == sum(
        p.numel() for p in unet(3, 8).parameters()
    )
    vqvae().save_pretrained(folder / "vqvae")  # other weights
    assert open_folder(folder).identity() != opened.identity()


def test_the_older_name_of_the_transformer_is_known(tmp_path: Path, seeded: None) -> None:
    folder = KINDS["transformer"](tmp_path / "model")
    before = open_folder(folder)
    edit(folder / "transformer/config.json", _class_name="Transformer2DModel")
    after = open_folder(folder)
    assert np.array_equal(after.sample(after.network, 2, SEED), before.sample(before.network, 2, SEED))


def test_a_transformer_is_sampled_without_a_label(tmp_path: Path, seeded: None) -> None:
    """The last row of the table of labels stands for none. The others change nothing."""
    opened = open_folder(KINDS["transformer"](tmp_path / "model"))
    table = opened.network.transformer_blocks[0].norm1.emb.class_embedder.embedding_table.weight
    made = opened.sample(opened.network, 2, SEED)
    with torch.no_grad():
        table[:-1] += 9
        assert np.array_equal(opened.sample(opened.network, 2, SEED), made)
        table[-1] += 9
        assert not np.array_equal(opened.sample(opened.network, 2, SEED), made)


@pytest.mark.parametrize(("channels", "side", "kind"), [(3, 16, "colour"), (1, 20, "grey"), (1, 28, "")])
def test_a_note_says_what_becomes_of_the_pictures(
    channels: int, side: int, kind: str, tmp_path: Path, seeded: None
) -> None:
    opened = open_folder(write(tmp_path / "model", "DDIMScheduler", unet=unet(channels, side)))
    if kind:
        (note,) = opened.notes()
        assert f"draws {kind} pictures of {side}x{side}; they are scored as grey ones of 28x28" in note
    else:
        assert opened.notes() == []
    assert DiffusionDomain().open(DiffusionDomain().models["xs@0"]).notes() == []


def test_large_pictures_come_in_small_batches(tmp_path: Path) -> None:
    opened = open_folder(write(tmp_path / "model", "DDIMScheduler", unet=unet(1, 64)), steps=1)
    assert opened.batch == opened.macs_sample_count == 12
    assert DiffusionDomain().open(DiffusionDomain().models["xs@0"]).batch == 50


def test_others_networks_have_no_recipe_here(tmp_path: Path, seeded: None) -> None:
    opened = open_folder(KINDS["DDIM, two sizes"](tmp_path / "model"))
    with pytest.raises(LookupError, match="this domain's own networks"):
        opened.training(opened.network, 0)


# ---------------------------------------------------------------------------------------------------- refused


def edit(file: Path, **changes: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    file.write_text(json.dumps(known | changes), encoding="utf-8")


TWO_BLOCKS = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownBlock2D",) * 2,
    "up_block_types": ("UpBlock2D",) * 2,
}
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "class labels": (
        lambda f: write(f, "DDIMScheduler", unet=unet(num_class_embeds=10)),
        r"class label.*num_class_embeds=10.*--labels",
    ),
    "class embeddings": (
        lambda f: write(f, "DDIMScheduler", unet=unet(class_embed_type="timestep")),
        "class_embed_type='timestep'",
    ),
    "learned variance": (
        lambda f: write(f, "DDPMScheduler", unet=unet(3, 8, out_channels=6)),
        "takes 3 channels and gives 6.*learned variance",
    ),
    "learned variance of a transformer": (
        lambda f: write(f, "DDPMScheduler", transformer=dit(4, 8, out_channels=8), vae=vae()),
        "takes 4 channels and gives 8",
    ),
    "four channels": (lambda f: write(f, "DDIMScheduler", unet=unet(4)), r"4 channels.*grey.*vae/ or vqvae/"),
    "nine channels": (lambda f: write(f, "DDIMScheduler", unet=unet(9)), "9 channels.*grey"),
    "not square": (lambda f: write(f, "DDIMScheduler", unet=unet(3, (16, 32))), "draws 16x32.*square"),
    "no size": (lambda f: write(f, "DDIMScheduler", unet=unet(3, None)), "sample_size=None.*such as 32"),
    "no side": (lambda f: write(f, "DDIMScheduler", unet=unet(3, 0)), "sample_size=0"),
    "latents of others": (
        lambda f: write(f, "DDIMScheduler", transformer=dit(4, 8), vqvae=vqvae()),
        "latents of 4 channels.*vqvae/ decodes 3",
    ),
    "a companion of four channels": (
        lambda f: write(f, "DDIMScheduler", unet=unet(3, 8), vqvae=vqvae(4)),
        "decodes 4 channels, and not grey",
    ),
    "unknown scheduler": (
        lambda f: write(f, "SASolverScheduler", unet=unet()),
        r"unknown scheduler 'SASolverScheduler'.*DDPMScheduler.*_class_name.*scheduler_config\.json",
    ),
    "a learned variance's scheduler": (
        lambda f: write(f, "DDPMScheduler", {"variance_type": "learned_range"}, unet=unet()),
        "cannot draw a picture",
    ),
    "a size that its blocks cannot halve": (
        lambda f: write(f, "DDIMScheduler", unet=unet(3, 15, **TWO_BLOCKS)),
        "cannot draw a picture",
    ),
    "prompts": (
        lambda f: (write(f, "DDIMScheduler", unet=unet()) / "text_encoder").mkdir(),
        "text_encoder/.*prompt.*unconditional, or take class labels",
    ),
    "another network": (
        lambda f: edit(
            write(f, "DDIMScheduler", unet=unet()) / "unet/config.json", _class_name="UNet1DModel"
        ),
        r"unknown class in unet/config\.json 'UNet1DModel'.*UNet2DModel",
    ),
    "another companion": (
        lambda f: edit(
            write(f, "DDIMScheduler", unet=unet()) / "vae/config.json", _class_name="AutoencoderDC"
        ),
        r"unknown class in vae/config\.json 'AutoencoderDC'.*AutoencoderKL",
    ),
    "an empty companion": (
        lambda f: (write(f, "DDIMScheduler", unet=unet()) / "vae").mkdir(),
        r"vae/config\.json' is not a JSON object",
    ),
    "no network": (
        lambda f: write(f, "DDIMScheduler", vae=vae()),
        r"a folder with unet/config\.json and scheduler/scheduler_config\.json",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_measured_is_refused_when_opened(kind: str, tmp_path: Path, seeded: None) -> None:
    make, message = REFUSED[kind]
    make(tmp_path / "model")
    with pytest.raises(BadInput, match=message) as caught:
        open_folder(tmp_path / "model")
    assert "\n" not in str(caught.value)
