"""The domain `image_diffusion`: garments from a diffusers U-Net, in a few deterministic steps from noise
to a picture.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from bench.errors import BadInput, in_a_line
from bench.interfaces import (
    ConditionKind,
    Conditions,
    Exportable,
    Generator,
    ModelSpec,
    StructureEdit,
    Training,
    Wrap,
)
from domains.folders import card_of, check_numbers, check_trained_on, read_object
from domains.image_diffusion.labels import are_of, labels_of
from domains.image_diffusion.network import SIZES
from domains.image_diffusion.pipeline import (
    NETWORKS,
    SCHEDULER,
    check_pixels,
    companion_of,
    drawn_by,
    identity_of,
    load_part,
    network_folder,
    refuse_conditions,
)
from domains.image_diffusion.sampler import default_steps, kind_of, set_up
from domains.images.adapter import ImageDomain, locate_folder
from domains.images.companions import companion_note, companion_settings
from domains.images.files import SIDE, conversion_note

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from domains.images.data import Images

WEIGHTS = Path(__file__).parent / "weights"
BATCH = 50  # fixed, the last one filled up: so a picture does not depend on how many others are made
BATCH_PIXELS = BATCH * 32**2  # of a batch, whatever the side: larger pictures come in smaller batches
CALIBRATION_START = 2**40  # the first item of calibration: far beyond those of samples
CALIBRATION_CALLS = 20  # of the network, along the paths of one batch
LARGEST_BATCH = 512  # of an exported network
PROBE_STEPS = 4  # of the one picture that a foreign pipeline draws when it is opened


class DiffusionDomain(ImageDomain):
    name = "image_diffusion"
    description = "grey pictures of garments (Fashion-MNIST) from a small diffusers U-Net"
    version = 1
    kind_of_network = "diffusion U-Net"
    sizes, weights = SIZES, WEIGHTS

    def locate(self, model: str) -> ModelSpec:
        """An embedded model, or the folder of a diffusers pipeline without prompts."""
        folder = Path(model)
        files = (f"{network_folder(folder)}/config.json", SCHEDULER)
        spec = locate_folder(self.models, model, "a diffusers pipeline", *files)
        refuse_conditions(Path(spec.source))
        return spec

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        return DiffusionGenerator(spec, device, settings or {})

    condition_kinds: ClassVar[Sequence[ConditionKind]] = ("labels",)

    def open_conditional(self, spec: ModelSpec, conditions: Conditions, device: str = "cpu") -> Generator:
        """Draws pictures of classes: item i is of label i mod their number."""
        return DiffusionGenerator(spec, device, {}, conditions)

    def train_generator(
        self, size: str, seed: int, images: Images, held_out: Images, device: str
    ) -> Training:
        from domains.image_diffusion.network import unet
        from domains.image_diffusion.training import FlowTraining

        return FlowTraining(cast(Any, unet(size, seed)), images.pixels, held_out.pixels, seed, device=device)


class DiffusionGenerator(Generator):
    """A denoising network with its scheduler, and with the decoder of its latents where it draws those.

    Only the network is compressed.
    """

    macs_sample_count = BATCH

    def __init__(
        self,
        spec: ModelSpec,
        device: str,
        settings: Mapping[str, Any],
        conditions: Conditions | None = None,
    ) -> None:
        self.device, self.folder, self.name = device, Path(spec.source), spec.name
        part = network_folder(self.folder)
        loaded = load_part(self.folder / part, NETWORKS, "UNet2DModel", spec.name)
        self.labels = labels_of(loaded, self.folder, spec.name, conditions)
        self.drawn = drawn_by(loaded, part, spec.name)
        self.companion = companion_of(self.folder, self.drawn, spec.name, device)
        if self.companion is None:
            check_pixels(self.drawn, spec.name)
        else:
            self.drawn = dataclasses.replace(self.drawn, fold=1)  # its channels are those of latents
        self.network: Module = loaded.to(device)
        self.network_config = read_object(self.folder / part / "config.json")
        self._set_sampler(settings)
        self.batch = min(BATCH, max(1, BATCH_PIXELS // self.drawn.side**2))
        self.macs_sample_count = self.batch  # type: ignore[misc]
        self.picture = (1, SIDE) if self.drawn.fold > 1 else self._probe()  # channels, side

    def _set_sampler(self, settings: Mapping[str, Any]) -> None:
        self.scheduler_config = read_object(self.folder / SCHEDULER)
        self.kind = kind_of(self.scheduler_config, str(self.folder))
        steps = default_steps(self.kind, self.scheduler_config)
        self._settings = {"steps": steps, **card_of(self.folder).get("sampler", {}), **settings}
        check_numbers(self._settings, {"steps": 1000})
        self.network_calls = self.kind.calls(self.scheduler())  # raises now, not after the compression

    def _probe(self) -> tuple[int, int]:
        """Draw one picture in few steps -> (its channels, its side).

        Raises `BadInput` for whatever would fail after the compression.
        """
        import torch

        steps = min(PROBE_STEPS, self._settings["steps"])
        try:
            with torch.inference_mode():
                shape = self._decode(self._draw(self.network, 0, range(1), steps)).shape
        except BadInput:
            raise
        except Exception as error:
            reason = in_a_line(error)
            raise BadInput(f"the model {self.name!r} cannot draw a picture: {reason}") from None
        if shape[1] not in (1, 3):
            raise BadInput(
                f"the model {self.name!r} decodes {shape[1]} channels, and not grey (1) or colour (3)"
            )
        return shape[1], shape[3]

    def notes(self) -> list[str]:
        """What becomes of its pictures, and what no size counts."""
        return [*conversion_note(self.name, *self.picture), *companion_note(self.companion)]

    def scheduler(self, steps: int | None = None) -> Any:
        """A fresh one, its times set. Raises `BadInput` for one that cannot be set up."""
        return set_up(self.scheduler_config, steps or self._settings["steps"], str(self.folder), self.device)

    def settings(self) -> dict[str, Any]:
        """The sampler's settings. A companion is named with its bytes, which are in no size of a record."""
        return {
            **self._settings,
            "scheduler": str(self.scheduler_config["_class_name"]),
            "network_calls": self.network_calls,
            **companion_settings(self.companion),
        }

    def identity(self) -> str:
        """Of all configurations and of the companion: networks of equal tensors may still draw different
        pictures.
        """
        configs = [self.network_config, self.scheduler_config]
        # a label's number is in another file of the folder
        labels = [] if self.labels is None else [str(self.labels.numbers)]
        if self.companion is None:
            return identity_of(configs, *labels)
        return identity_of([*configs, self.companion.config], self.companion.digest, *labels)

    def rebuild(self, structure: Sequence[StructureEdit]) -> Module:
        import torch

        if structure:
            raise BadInput(f"this domain cannot rebuild a network with edits of kind {structure[0].kind!r}")
        original = cast(Any, self.network)
        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            return type(original).from_config(original.config).to(self.device).eval()

    def sample(self, network: Module, n: int, seed: int) -> np.ndarray:
        return self._sample(network, n, seed, self.batch)

    def _sample(self, network: Module, n: int, seed: int, batch: int) -> np.ndarray:
        import torch

        from bench.errors import Diverged
        from bench.util.progress import Bar

        made = []
        with torch.inference_mode(), Bar("sampling", n * self.network_calls) as bar:
            for start in range(0, n, batch):
                tick = functools.partial(bar.update, min(batch, n - start))
                x = self._draw(network, seed, range(start, start + batch), tick=tick)
                images = self._decode(x)
                if not (x.isfinite().all() and images.isfinite().all()):
                    raise Diverged("the network's output is not finite")
                made.append(self.to_pictures(images))
        return np.concatenate(made)[:n]

    def exportable(self, network: Module) -> Exportable:
        """One call is one step of the scheduler, which stays in PyTorch."""
        import torch

        from domains.image_diffusion.exported import StandIn, Step

        if self.labels is not None or getattr(network, "config", {}).get("num_embeds_ada_norm") is not None:
            raise LookupError("networks with class labels are not exported")

        def sample(call: Callable[..., tuple[Tensor, ...]], n: int, seed: int, batch: int) -> np.ndarray:
            return self._sample(StandIn(call), n, seed, batch)

        def calibration(seed: int) -> Iterator[tuple[Tensor, ...]]:
            for (x, time), _ in self.calibration(seed):
                yield x, time.expand(len(x)).float()

        return Exportable(
            Step(network).eval(),
            {"x": torch.zeros(2, *self.drawn.shape), "time": torch.full((2,), 0.5)},
            {"x": {0: "batch"}, "time": {0: "batch"}},
            {"batch": LARGEST_BATCH},
            sample,
            calibration,
        )

    def _draw(
        self,
        network: Module,
        seed: int,
        items: range,
        steps: int | None = None,
        tick: Callable[[], Any] = lambda: None,
    ) -> Tensor:
        """[items, c, s, s]: from the items' own noise to samples."""
        from domains.images.noise import item_generators, item_noise

        labels = None if self.labels is None else self.labels.of(items)

        def denoise(x: Tensor, time: Tensor) -> Tensor:
            made = call(network, x, time, labels)
            tick()
            return made

        scheduler = self.scheduler(steps)
        x = item_noise(seed, items, self.drawn.shape).to(self.device)
        x = x * getattr(scheduler, "init_noise_sigma", 1.0)
        noise = item_generators(seed, items, "steps") if self.kind.draws_noise else []
        return self.kind.drive(denoise, scheduler, x, noise)

    def _decode(self, x: Tensor) -> Tensor:
        """What the network draws -> pictures [b, 1 or 3, h, w] around [-1, 1]."""
        import torch.nn.functional as F

        return F.pixel_shuffle(x, self.drawn.fold) if self.companion is None else self.companion.decode(x)

    def calibration(self, seed: int) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """What the network is given along its own paths, from noise of no sample's: at all times, or at
        evenly spaced ones of many.
        """
        import torch

        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def note(_: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append((args, kwargs))

        handle = self.network.register_forward_pre_hook(note, with_kwargs=True)
        try:
            with torch.no_grad():
                self._draw(self.network, seed, range(CALIBRATION_START, CALIBRATION_START + self.batch))
        finally:
            handle.remove()
        yield from calls[:: -(-len(calls) // CALIBRATION_CALLS)]

    def keeps_condition(self, samples: np.ndarray, real: np.ndarray) -> np.ndarray | None:
        """Whether the labeller sees the class that each picture was drawn of."""
        return None if self.labels is None else are_of(self.labels, samples)

    def to_pictures(self, images: Tensor) -> np.ndarray:
        """-> uint8 [b, 1, 28, 28], by the rule of `domains.images.files` where they are something else."""
        from domains.images.files import from_array

        return from_array(self.to_pixels(images).transpose(0, 2, 3, 1), "the network's output")

    def to_pixels(self, images: Tensor) -> np.ndarray:
        """-> uint8 [b, 1 or 3, s, s], in their own size."""
        from domains.images.training import to_pixels

        return to_pixels(images)

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

        if self.drawn.fold == 1:
            raise LookupError(f"the recipe trains this domain's own networks, and {self.name!r} is another")
        check_trained_on(Path(self.folder))
        return FlowTraining(
            network,
            training_part().pixels,
            part("validation").pixels,
            seed,
            wrap=wrap,
            device=self.device,
            teacher=teacher,
        )


def call(network: Module, x: Tensor, time: Tensor, labels: Sequence[int] | None = None) -> Tensor:
    """The network's output. Without labels, a transformer that knows some gets the one that stands for
    none.
    """
    none = getattr(network, "config", {}).get("num_embeds_ada_norm")
    if labels is None and none is None:
        return network(x, time).sample
    wanted = x.new_tensor([none] * len(x) if labels is None else labels).long()
    return network(x, timestep=time.expand(len(x)), class_labels=wanted).sample
