"""The domain `image_gan`: garments from a DCGAN generator, in one pass from latents to a picture."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadInput
from bench.interfaces import Exportable, Generator, Metric, ModelSpec, StructureEdit, Training, Wrap
from bench.util.files import is_file
from domains.folders import check_trained_on, read_object
from domains.image_gan.sizes import SIZES
from domains.images.adapter import ImageDomain, locate_folder

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from domains.images.data import Images

WEIGHTS = Path(__file__).parent / "weights"
FILES, FOREIGN_FILES = ("config.json", "generator.safetensors"), ("config.json", "model.safetensors")
BATCH = 100  # fixed, the last one filled up: so a picture does not depend on how many others are made
CALIBRATION_BATCHES, CALIBRATION_BATCH = 20, 250
LARGEST_BATCH = 512  # of an exported network


class GanDomain(ImageDomain):
    name = "image_gan"
    description = "grey pictures of garments (Fashion-MNIST) from a small DCGAN generator"
    version = 1
    kind_of_network = "GAN"
    sizes, weights = SIZES, WEIGHTS

    def locate(self, model: str) -> ModelSpec:
        """An embedded model, a folder with `config.json` and `generator.safetensors` as `train` writes it,
        or one with `config.json` and `model.safetensors` (`domains.image_gan.foreign`).
        """
        if is_foreign(Path(model)):
            return locate_folder(self.models, model, "a generator", *FOREIGN_FILES)
        kind = f"a generator of a class of yours ({' and '.join(FOREIGN_FILES)}), or of this domain"
        return locate_folder(self.models, model, kind, *FILES)

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        if is_foreign(Path(spec.source)):
            from domains.image_gan.foreign import ForeignGenerator

            return ForeignGenerator(spec, device, settings or {})
        return GanGenerator(spec, device, settings or {})

    def train_generator(
        self, size: str, seed: int, images: Images, held_out: Images, device: str
    ) -> Training:
        from domains.image_gan.training import GanTraining, fresh_pair

        return GanTraining(*fresh_pair(size, seed), images.pixels, held_out.pixels, seed, device=device)

    def metrics(self) -> Mapping[str, Metric]:
        own = Metric(
            "p_real",
            "mean probability of being real, as the generator's own discriminator sees it; not an evaluator",
            "higher",
        )
        return {**super().metrics(), own.name: own}


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds a generator of others, and not one of this domain's own."""
    ours, theirs = folder / FILES[1], folder / FOREIGN_FILES[1]
    return is_file(theirs) and not is_file(ours)


class GanGenerator(Generator):
    """A transposed-convolutional generator; its discriminator, where there is one, stays whole and only
    scores samples.
    """

    macs_sample_count = batch = BATCH
    calibration_batch = CALIBRATION_BATCH
    trained_networks = "generator", "discriminator"

    def __init__(self, spec: ModelSpec, device: str, settings: Mapping[str, Any]) -> None:
        from bench.errors import unknown

        for name in settings:
            raise unknown("sampler setting", name, [])
        self.device, self.folder = device, Path(spec.source)
        self.config = read_object(self.folder / "config.json")
        self.network = self._load(self._empty(), self.folder / "generator.safetensors", spec.name).to(device)
        self.latent_shape: tuple[int, ...] = (self.config["latent"],)
        self.discriminator, self._discriminator_sha256 = self._open_discriminator()

    def _empty(self) -> Module:
        import torch

        from domains.image_gan.network import GeneratorNetwork

        try:
            latent, widths = self.config["latent"], self.config["widths"]
            if len(widths) != 4 or not all(
                isinstance(size, int) and 0 < size <= 4096 for size in (latent, *widths)
            ):
                raise ValueError
        except (KeyError, TypeError, ValueError):
            raise BadInput(
                f"{str(self.folder / 'config.json')!r} needs a number 'latent' and four 'widths', from 1 "
                f"to 4096"
            ) from None
        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            return GeneratorNetwork(latent, widths).eval()

    def _open_discriminator(self) -> tuple[Module | None, str]:
        """-> (network, SHA-256 of its file); a generator may come without."""
        import torch
        from safetensors import SafetensorError, safe_open

        from domains.image_gan.network import DiscriminatorNetwork

        file = self.folder / "discriminator.safetensors"
        if not file.is_file():
            return None, ""
        try:
            with safe_open(file, "pt") as opened:
                widths = [
                    opened.get_slice(f"{layer}.weight").get_shape()[0]
                    for layer in ("first", "second", "third")
                ]
        except (OSError, SafetensorError) as error:
            raise BadInput(
                f"cannot open the discriminator {str(file)!r}: {' '.join(str(error).split())[:200]}"
            ) from None
        with torch.random.fork_rng(devices=[]):
            network = DiscriminatorNetwork(widths)
        return self._load(network, file, str(file)).to(self.device), hashlib.sha256(
            file.read_bytes()
        ).hexdigest()

    @staticmethod
    def _load(network: Module, file: Path, name: str) -> Module:
        from safetensors import SafetensorError

        from domains.images.encoder import load

        try:
            return load(network, file)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise BadInput(f"cannot open the model {name!r}: {' '.join(str(error).split())[:200]}") from None

    def identity(self) -> str:
        """Of the configuration, and of the discriminator whose scores are in the record."""
        return hashlib.sha256(
            json.dumps([self.config, self._discriminator_sha256], sort_keys=True).encode()
        ).hexdigest()

    def rebuild(self, structure: Sequence[StructureEdit]) -> Module:
        if structure:
            raise BadInput(f"this domain cannot rebuild a network with edits of kind {structure[0].kind!r}")
        return self._empty().to(self.device)

    def sample(self, network: Module, n: int, seed: int) -> np.ndarray:
        return self._sample(network, n, seed, self.batch)

    def _sample(self, network: Callable[[Tensor], Tensor], n: int, seed: int, batch: int) -> np.ndarray:
        import torch

        from bench.errors import Diverged
        from bench.util.progress import Bar
        from domains.images.noise import item_noise

        made = []
        with torch.inference_mode(), Bar("sampling", n) as bar:
            for start in range(0, n, batch):
                latents = item_noise(seed, range(start, start + batch), self.latent_shape)
                images = network(latents.to(self.device))
                if not images.isfinite().all():
                    raise Diverged("the generator's output is not finite")
                made.append(self.to_pictures(images))
                bar.update(min(batch, n - start))
        return np.concatenate(made)[:n]

    def exportable(self, network: Module) -> Exportable:
        """One call for a batch of latents."""
        import torch

        def sample(call: Callable[..., tuple[Tensor, ...]], n: int, seed: int, batch: int) -> np.ndarray:
            return self._sample(lambda latents: call(latents)[0], n, seed, batch)

        return Exportable(
            network,
            {"latents": torch.zeros(2, *self.latent_shape)},
            {"latents": {0: "batch"}},
            {"batch": LARGEST_BATCH},
            sample,
            lambda seed: (args for args, _ in self.calibration(seed)),
        )

    def to_pictures(self, images: Tensor) -> np.ndarray:
        """The network's output -> uint8 [b, 1, 28, 28]."""
        from domains.images.training import to_pixels

        return to_pixels(images)

    def calibration(self, seed: int) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Latents, other ones than any sample's."""
        import torch

        from domains.images.training import generator

        noise = generator(seed, 0, "calibration")
        for _ in range(CALIBRATION_BATCHES * CALIBRATION_BATCH // self.calibration_batch):
            yield (
                (torch.randn(self.calibration_batch, *self.latent_shape, generator=noise).to(self.device),),
                {},
            )

    def auxiliary_scores(self, samples: Any) -> dict[str, float]:
        """The discriminator's mean p(real)."""
        import torch

        from domains.image_gan.training import p_real
        from domains.images.training import to_floats

        if self.discriminator is None:
            return {}
        with torch.inference_mode():
            images = to_floats(torch.from_numpy(np.ascontiguousarray(samples))).to(self.device)
            return {"p_real": p_real(self.discriminator, images).mean().item()}

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        """With the trained discriminator, or from scratch with a fresh one."""
        from domains.image_gan.training import GanTraining, fresh_pair
        from domains.images.data import part, training_part

        check_trained_on(self.folder)
        if scratch:
            _, discriminator = fresh_pair("s", seed)
        elif self.discriminator is None:
            raise LookupError(f"{str(self.folder)!r} holds no discriminator to train further against")
        else:
            discriminator = copy.deepcopy(self.discriminator).train().requires_grad_(True)
        return GanTraining(
            network,
            discriminator,
            training_part().pixels,
            part("validation").pixels,
            seed,
            wrap=wrap,
            device=self.device,
            teacher=teacher,
        )
