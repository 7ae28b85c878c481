"""Generators of others: a folder with `config.json` and `model.safetensors`, and a class that is installed.

`config.json` names the class, its arguments, and the shape of one item's latents, which are standard normal:

    {"class": "dcgan", "arguments": {"width": 64}, "latent": [100, 1, 1], "range": [-1, 1]}

A folder is data, but a class is code: importing and constructing it runs that code, with arguments from the
folder. So a folder alone cannot name any class that happens to be installed. Either the package that holds it
offers it as an entry point of the group `gencompress.networks`, or the user names it in the environment
variable `GENCOMPRESS_TRUST_CLASS`, as `package.module:Class`. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadInput, in_a_line, unknown
from bench.interfaces import ModelSpec, Training
from bench.registry import Registry
from domains.folders import read_object
from domains.image_gan.adapter import BATCH, CALIBRATION_BATCH, FOREIGN_FILES, GanGenerator
from domains.images.files import conversion_note

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

TRUST = "GENCOMPRESS_TRUST_CLASS"
KEYS = ("class", "arguments", "latent", "range")
LARGEST_LATENT = 2**20  # numbers
BATCH_PIXELS = BATCH * 64**2  # of a batch: larger pictures come in smaller batches


class ForeignGenerator(GanGenerator):
    """A network from latents to pictures [b, 1 or 3, s, s], in one pass and without noise of its own."""

    def __init__(self, spec: ModelSpec, device: str, settings: Mapping[str, Any]) -> None:
        for name in settings:
            raise unknown("sampler setting", name, [])
        self.device, self.folder, self.discriminator = device, Path(spec.source), None
        self.name, self.file = spec.name, str(self.folder / "config.json")
        self.config = read_object(self.folder / "config.json")
        self._check_config()
        self.kind = class_of(str(self.config["class"]), self.file)
        self.network = self._filled(self._empty()).to(device)
        self.picture = self._probe()  # channels, side
        self.batch = min(BATCH, max(1, BATCH_PIXELS // self.picture[1] ** 2))
        self.calibration_batch = max(1, CALIBRATION_BATCH * self.batch // BATCH)
        self.macs_sample_count = self.batch  # type: ignore[misc]

    def _check_config(self) -> None:
        for key in self.config:
            if key not in KEYS:
                raise BadInput(f"{self.file!r}: {unknown('key', key, KEYS)}")
        if not isinstance(self.config.get("class"), str):
            raise BadInput(f"{self.file!r} names no class; it needs 'class' and 'latent'")
        if not isinstance(self.config.get("arguments", {}), dict):
            raise BadInput(f"{self.file!r}: 'arguments' is not a JSON object of keywords")
        low, high = pixel_range(self.config.get("range", [-1, 1]), self.file)
        self.low, self.high = low, high
        self.latent_shape = latent_shape(self.config.get("latent"), self.file)

    def _empty(self) -> Module:
        import torch

        try:
            with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
                return self.kind(**self.config.get("arguments", {})).float().eval()
        except Exception as error:  # whatever the class raises for these arguments
            reason = in_a_line(error)
            raise BadInput(f"{self.file!r}: {self.config['class']!r} cannot be built: {reason}") from None

    def _filled(self, network: Module) -> Module:
        from safetensors import SafetensorError
        from safetensors.torch import load_model

        try:
            load_model(network, self.folder / FOREIGN_FILES[1])
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise BadInput(f"cannot open the model {self.name!r}: {reason}") from None
        return network

    def notes(self) -> list[str]:
        """What becomes of its pictures."""
        return conversion_note(self.name, *self.picture)

    def _probe(self) -> tuple[int, int]:
        """(channels, side) of its pictures. Raises `BadInput` for outputs that cannot be measured."""
        import torch

        latents = torch.ones(2, *self.latent_shape, device=self.device)
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                first, second = self.network(latents), self.network(latents)
        except Exception as error:
            reason = in_a_line(error)
            raise BadInput(f"the model {self.name!r} cannot draw from {self.file!r}: {reason}") from None
        shape = list(getattr(first, "shape", []))
        if len(shape) != 4 or shape[0] != 2 or shape[1] not in (1, 3) or shape[2] != shape[3]:
            raise BadInput(
                f"the model {self.name!r} gives {shape or type(first).__name__}; this domain wants a tensor "
                f"[b, 1 or 3, side, side]: wrap it in a class that gives it"
            )
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            raise BadInput(
                f"the model {self.name!r} draws noise of its own, so it has no twins; switch it off by an "
                f"argument, or wrap it in a class that does"
            )
        return shape[1], shape[2]

    def to_pictures(self, images: Tensor) -> np.ndarray:
        """-> uint8 [b, 1, 28, 28], by the rule of `domains.images.files`."""
        from domains.images.files import from_array

        return from_array(self.to_pixels(images).transpose(0, 2, 3, 1), "the network's output")

    def to_pixels(self, images: Tensor) -> np.ndarray:
        """-> uint8 [b, 1 or 3, s, s], in their own size."""
        from domains.images.training import to_pixels

        return to_pixels((images - self.low) / (self.high - self.low) * 2 - 1)

    def identity(self) -> str:
        """Of the configuration and of the modules that define the class, its bases and its layers."""
        kinds = [*self.kind.__mro__, *map(type, self.network.modules())]
        others = sorted({kind.__module__ for kind in kinds} - {self.kind.__module__})
        modules = [self.kind.__module__, *(n for n in others if n.split(".")[0] not in ("torch", "builtins"))]
        content = [self.config, *map(source_of, modules)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def training(self, *arguments: Any, **options: Any) -> Training:
        """Raises `LookupError`: only this domain's own networks have a recipe."""
        raise LookupError(f"{self.name!r} comes without a discriminator to train further against")


def source_of(module: str) -> str:
    """The source of a module; empty for a compiled one."""
    try:
        return inspect.getsource(sys.modules[module])
    except (OSError, TypeError):
        return ""


def class_of(name: str, file: str) -> type[Module]:
    """The class that a folder names, where the user has allowed it. Raises `BadInput`."""
    from torch import nn

    trusted = [text.strip() for text in os.environ.get(TRUST, "").split(",") if text.strip()]
    known = Registry("network", {text: (text, "") for text in trusted}, named=False)
    if name not in known:
        raise BadInput(
            f"{file!r} names the class {name!r}, whose code is not allowed to run; where you trust it, set "
            f"{TRUST}=package.module:Class, or install a package with an entry point in {known.group}"
        )
    found = known.load(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise BadInput(f"{file!r}: {name!r} is no class of torch.nn.Module")
    return found


def latent_shape(latent: Any, file: str) -> tuple[int, ...]:
    """The shape of one item's latents. Raises `BadInput`."""
    sizes = latent if isinstance(latent, list) else [latent]
    if not sizes or not all(type(size) is int and size > 0 for size in sizes) or len(sizes) > 4:
        raise BadInput(f"{file!r}: latent={latent!r} is neither a number nor a shape such as [100, 1, 1]")
    if math.prod(sizes) > LARGEST_LATENT:
        raise BadInput(f"{file!r}: latent={latent!r} has more than {LARGEST_LATENT} numbers")
    return tuple(sizes)


def pixel_range(ends: Any, file: str) -> tuple[float, float]:
    """The values of black and of white. Raises `BadInput`."""
    fine = isinstance(ends, list) and len(ends) == 2
    if not fine or not all(type(end) in (int, float) and math.isfinite(end) for end in ends):
        raise BadInput(f"{file!r}: range={ends!r} is not [black, white], such as [-1, 1]")
    if not ends[0] < ends[1]:
        raise BadInput(f"{file!r}: range={ends!r} has a white that is not above its black")
    return float(ends[0]), float(ends[1])
