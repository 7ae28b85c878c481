"""The domain `image_diffusion`: garments from a diffusers U-Net, in a few deterministic steps from noise
to a picture.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from bench.errors import BadInput, in_a_line, unknown
from bench.interfaces import Generator, ModelSpec, StructureEdit, Training, Wrap
from domains.folders import card_of, check_numbers, read_object
from domains.image_diffusion.network import SIZES
from domains.images.adapter import ImageDomain, locate_folder

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from domains.images.data import Images

WEIGHTS = Path(__file__).parent / "weights"
FILES = ("unet/config.json", "scheduler/scheduler_config.json")
BATCH = 50  # fixed, the last one filled up: so a picture does not depend on how many others are made
SCHEDULERS = (  # deterministic given the start noise
    *(
        "FlowMatchHeunDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "DDIMScheduler",
        "HeunDiscreteScheduler",
    ),
    *(
        "EulerDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "PNDMScheduler",
        "LMSDiscreteScheduler",
    ),
)
STEPS = 10  # unless the model's card says otherwise; Heun's method calls the network 2 * 10 - 1 times
NO_PART_OF_IDENTITY = ("_name_or_path", "_diffusers_version")


class DiffusionDomain(ImageDomain):
    name = "image_diffusion"
    description = "grey pictures of garments (Fashion-MNIST) from a small diffusers U-Net"
    version = 1
    sizes, weights = SIZES, WEIGHTS

    def locate(self, model: str) -> ModelSpec:
        """An embedded model, or the folder of an unconditional diffusers pipeline with a `UNet2DModel`."""
        spec = locate_folder(self.models, model, "an unconditional diffusers pipeline", *FILES)
        if any((Path(spec.source) / other).exists() for other in ("vae", "vqvae", "text_encoder")):
            raise BadInput(
                f"{model!r} is a pipeline in a latent space; this domain opens those that draw pixels"
            )
        return spec

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        return DiffusionGenerator(spec, device, settings or {})

    def train_generator(
        self, size: str, seed: int, images: Images, held_out: Images, device: str
    ) -> Training:
        from domains.image_diffusion.network import unet
        from domains.image_diffusion.training import FlowTraining

        return FlowTraining(cast(Any, unet(size, seed)), images.pixels, held_out.pixels, seed, device=device)


class DiffusionGenerator(Generator):
    """A `UNet2DModel` with its scheduler. Only the U-Net is compressed."""

    macs_sample_count = BATCH

    def __init__(self, spec: ModelSpec, device: str, settings: Mapping[str, Any]) -> None:
        from diffusers import UNet2DModel

        self.device, self.folder = device, Path(spec.source)
        try:
            loaded, info = UNet2DModel.from_pretrained(
                self.folder / "unet", use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
            )
        except Exception as error:
            raise BadInput(f"cannot open the model {spec.name!r}: {in_a_line(error)}") from None
        if info["missing_keys"]:
            raise BadInput(
                f"the model {spec.name!r} is not whole: its file lacks {len(info['missing_keys'])} tensors"
            )
        self.network: Module = loaded.float().to(device).eval()
        self.unet_config = read_object(self.folder / "unet" / "config.json")
        self.channels, self.side = loaded.config["in_channels"], loaded.config["sample_size"]
        self.fold = math.isqrt(self.channels) if math.isqrt(self.channels) ** 2 == self.channels else 1
        if self.channels // self.fold**2 not in (1, 3) or not isinstance(self.side, int):
            raise BadInput(
                f"the model {spec.name!r} makes {self.channels} channels of size {self.side}; this domain "
                f"wants grey or colour"
            )
        self.scheduler_config = read_object(self.folder / "scheduler" / "scheduler_config.json")
        self._settings = {"steps": STEPS, **card_of(self.folder).get("sampler", {}), **settings}
        check_numbers(self._settings, {"steps": 1000})
        self.network_calls = len(self.scheduler().timesteps)  # raises now, not after the compression

    def scheduler(self) -> Any:
        """A fresh one, its times set.

        Raises `BadInput` for one that draws noise of its own, or that cannot be set up.
        """
        import diffusers

        kind, config = self.scheduler_config.get("_class_name"), self.scheduler_config
        if kind not in SCHEDULERS:
            raise unknown("deterministic scheduler", str(kind), SCHEDULERS)
        if config.get("stochastic_sampling") or str(config.get("algorithm_type", "")).startswith("sde"):
            raise BadInput(
                f"the scheduler of {str(self.folder)!r} draws noise while it samples; only deterministic "
                f"ones make twins"
            )
        try:
            scheduler = getattr(diffusers, kind).from_config(config)
            scheduler.set_timesteps(self._settings["steps"], device=self.device)
        except Exception as error:
            reason = in_a_line(error)
            raise BadInput(f"the scheduler of {str(self.folder)!r} cannot be set up: {reason}") from None
        return scheduler

    def settings(self) -> dict[str, Any]:
        return {
            **self._settings,
            "scheduler": str(self.scheduler_config["_class_name"]),
            "network_calls": self.network_calls,
        }

    def identity(self) -> str:
        """Of both configurations: networks of equal tensors may still draw different pictures."""
        known = [
            {k: v for k, v in config.items() if k not in NO_PART_OF_IDENTITY}
            for config in (self.unet_config, self.scheduler_config)
        ]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()

    def rebuild(self, structure: Sequence[StructureEdit]) -> Module:
        import torch
        from diffusers import UNet2DModel

        if structure:
            raise BadInput(f"this domain cannot rebuild a network with edits of kind {structure[0].kind!r}")
        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            return UNet2DModel.from_config(cast(Any, self.network).config).to(self.device).eval()

    def sample(self, network: Module, n: int, seed: int) -> np.ndarray:
        import torch

        from bench.errors import Diverged
        from bench.util.progress import Bar

        made = []
        with torch.inference_mode(), Bar("sampling", n * self.network_calls) as bar:
            for start in range(0, n, BATCH):
                x = self._draw(network, seed, start, functools.partial(bar.update, min(BATCH, n - start)))
                if not x.isfinite().all():
                    raise Diverged("the network's output is not finite")
                made.append(self._to_pictures(x))
        return np.concatenate(made)[:n]

    def _draw(self, network: Module, seed: int, start: int, tick: Callable[[], None]) -> Tensor:
        """[BATCH, c, s, s]: from the items' own noise to samples."""
        from domains.images.noise import item_noise

        scheduler = self.scheduler()
        x = item_noise(seed, range(start, start + BATCH), (self.channels, self.side, self.side)).to(
            self.device
        )
        x = x * getattr(scheduler, "init_noise_sigma", 1.0)
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, time) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(network(scaled, time).sample, time, x).prev_sample
            tick()
        return x

    def _to_pictures(self, x: Tensor) -> np.ndarray:
        """What the network draws -> uint8 [b, 1, 28, 28], by the rule of `domains.images.files` where it
        draws something else.
        """
        import torch.nn.functional as F

        from domains.images.files import from_array
        from domains.images.training import to_pixels

        pixels = to_pixels(F.pixel_shuffle(x, self.fold))
        return from_array(pixels.transpose(0, 2, 3, 1), "the network's output")

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        from domains.image_diffusion.training import FlowTraining
        from domains.images.data import part, training_part

        return FlowTraining(
            network,
            training_part().pixels,
            part("validation").pixels,
            seed,
            wrap=wrap,
            device=self.device,
            teacher=teacher,
        )
