"""A pipeline folder in diffusers' own format: its network, its companion, and what cannot be measured.

What cannot be measured is refused when the folder is opened, in one line that says what to do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput, in_a_line, unknown
from bench.util.files import is_file
from domains.folders import check_whole, read_object
from domains.image_diffusion.network import CHANNELS, FOLD, SIDE

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

SCHEDULER = "scheduler/scheduler_config.json"
CONFIG = "config.json"
NETWORK_FOLDERS, COMPANION_FOLDERS = ("unet", "transformer"), ("vqvae", "vae")
CONDITION_FOLDERS = ("text_encoder", "text_encoder_2", "tokenizer", "image_encoder", "prior")
# `_class_name` in a folder -> the class of diffusers that opens it
NETWORKS = {
    "UNet2DModel": "UNet2DModel",
    "DiTTransformer2DModel": "DiTTransformer2DModel",
    "Transformer2DModel": "DiTTransformer2DModel",  # its name in older folders
}
COMPANIONS = {name: name for name in ("AutoencoderKL", "AutoencoderTiny", "VQModel")}
DECODED_TOGETHER = 5  # fixed, and a divisor of every batch: a picture does not depend on its neighbours
NO_PART_OF_IDENTITY = ("_name_or_path", "_diffusers_version")


def network_folder(folder: Path) -> str:
    """`unet`, or `transformer` where only that is there."""
    return next((name for name in NETWORK_FOLDERS if is_file(folder / name / CONFIG)), "unet")


def refuse_conditions(folder: Path) -> None:
    """Raises `BadInput` for a pipeline that needs prompts or pictures."""
    found = next((name for name in CONDITION_FOLDERS if (folder / name).exists()), None)
    if found:
        raise BadInput(
            f"{str(folder)!r} holds {found}/, so it draws what a prompt says; this domain opens "
            f"pipelines that are unconditional, or take class labels"
        )


def load_part(folder: Path, classes: Mapping[str, str], default: str, model: str) -> Any:
    """One network of a pipeline folder, whole, from safetensors only. Raises `BadInput`."""
    import diffusers

    kind = str(read_object(folder / CONFIG).get("_class_name", default))
    if kind not in classes:
        raise BadInput(f"the model {model!r}: {unknown(f'class in {folder.name}/{CONFIG}', kind, classes)}")
    try:
        loaded, info = getattr(diffusers, classes[kind]).from_pretrained(
            folder, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except Exception as error:
        raise BadInput(f"cannot open the model {model!r}: {in_a_line(error)}") from None
    check_whole(info["missing_keys"], model)
    return loaded.float().eval()


def identity_of(configs: Iterable[Mapping[str, Any]], *more: str) -> str:
    """A hash of configurations, in which places and versions do not count."""
    known: list[Any] = [
        {key: value for key, value in config.items() if key not in NO_PART_OF_IDENTITY} for config in configs
    ]
    return hashlib.sha256(json.dumps([*known, *more], sort_keys=True).encode()).hexdigest()


# -------------------------------------------------------------------------------------------- what is drawn


@dataclass(frozen=True)
class Drawn:
    """The shape of what a network draws: [channels, side, side]."""

    channels: int
    side: int
    fold: int = 1  # above 1: each fold x fold square of pixels is a stack of channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """[c, s, s]."""
        return self.channels, self.side, self.side


def drawn_by(network: Module, folder: str, model: str) -> Drawn:
    """What a network draws. Raises `BadInput` for one that draws nothing square.

    This domain's own networks draw pictures of 28x28 as four channels of 14x14. No others are folded.
    """
    config: Any = network.config
    channels, out = config["in_channels"], config.get("out_channels")
    if out not in (None, channels):
        raise BadInput(
            f"the model {model!r} takes {channels} channels and gives {out} (a learned variance, or another "
            f"condition); this domain opens networks that give as many as they take"
        )
    side = _side(config.get("sample_size"), folder, model)
    return Drawn(channels, side, FOLD if (channels, side) == (CHANNELS, SIDE) else 1)


def _side(size: Any, folder: str, model: str) -> int:
    sides = list(size) if isinstance(size, (list, tuple)) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise BadInput(
            f"the model {model!r} has sample_size={size!r} in {folder}/{CONFIG}; write the side of what it "
            f"draws there, such as 32"
        )
    if sides[0] != sides[1]:
        raise BadInput(f"the model {model!r} draws {sides[0]}x{sides[1]}; this domain opens square pictures")
    return int(sides[0])


def check_pixels(drawn: Drawn, model: str) -> None:
    """Raises `BadInput` where what is drawn without a companion is no picture."""
    if drawn.channels // drawn.fold**2 not in (1, 3):
        raise BadInput(
            f"the model {model!r} makes {drawn.channels} channels; this domain wants grey (1) or colour (3), "
            f"or the decoder of its latents in vae/ or vqvae/"
        )


# ---------------------------------------------------------------------------------------------- the companion


class Companion:
    """The decoder of a latent pipeline: from latents to pictures. It is never compressed."""

    decodes = "latents"

    def __init__(self, folder: Path, model: str, device: str) -> None:
        from bench.artifact.format import tensors_digest

        self.config = read_object(folder / CONFIG)
        network = load_part(folder, COMPANIONS, "AutoencoderKL", model)
        if any(network.config.get(name) is not None for name in ("latents_mean", "latents_std")):
            raise BadInput(
                f"the model {model!r} standardizes each channel of its latents (latents_mean in "
                f"{folder.name}/{CONFIG}); this domain opens those with one scaling_factor"
            )
        self.name, self.network = f"{folder.name}/{type(network).__name__}", network.to(device)
        self.digest = tensors_digest(network)
        self.channels = int(network.config["latent_channels"])
        self.factor = float(network.config.get("scaling_factor") or 1.0)
        self.shift = float(network.config.get("shift_factor") or 0.0)

    @property
    def fp32_bytes(self) -> int:
        """The bytes of its parameters as float32. No size or ratio holds them."""
        return 4 * sum(parameter.numel() for parameter in self.network.parameters())

    def decode(self, latents: Tensor) -> Tensor:
        """[b, c, s, s] -> pictures [b, 1 or 3, h, w] around [-1, 1]."""
        import torch

        parts = (latents / self.factor + self.shift).split(DECODED_TOGETHER)
        return torch.cat([self.network.decode(part).sample for part in parts])


def companion_of(folder: Path, drawn: Drawn, model: str, device: str) -> Companion | None:
    """The decoder beside a network; None where the network draws pixels.

    Raises `BadInput` where the two do not fit.
    """
    found = next((folder / name for name in COMPANION_FOLDERS if (folder / name).exists()), None)
    if found is None:
        return None
    companion = Companion(found, model, device)
    if companion.channels != drawn.channels:
        raise BadInput(
            f"the model {model!r} draws latents of {drawn.channels} channels, and its {found.name}/ decodes "
            f"{companion.channels}"
        )
    return companion
