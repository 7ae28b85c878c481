"""The domain `pictures`: models of others in their own size and colours, beside real pictures of the user's.

It ships no model and no real pictures. So its scores compare with no published row; docs/image-domains.md
says what does.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadInput, NeedsReference, unknown
from bench.interfaces import Damage, Domain, Evaluator, EvaluatorEntry, Generator, Metric, ModelSpec
from domains.image_diffusion.pipeline import SCHEDULER, network_folder, refuse_conditions
from domains.image_gan.adapter import FOREIGN_FILES, is_foreign
from domains.images.adapter import locate_folder
from domains.images.files import size_text
from domains.on_demand import OnDemand

if TYPE_CHECKING:
    from bench.interfaces import Role, Use

PARTS = ("test", "ceiling", "validation")
LEAST, MOST_FITTED = 60, 5000  # different pictures of a reference; of them, for fitting the evaluators
EVALUATORS: Mapping[str, tuple[Role, Use, str]] = {  # each is loaded with the pictures that it is fitted on
    "effnet_fitted": ("quality", "primary", "domains.pictures.evaluators:FittedEffnet"),
    "effnet_afar": ("diversity", "primary", "domains.pictures.evaluators:EffnetAfar"),
    "inception": ("quality", "optional", "domains.images.further:Inception"),
}


class PicturesDomain(Domain):
    """Pictures of one size, uint8 [n, 1 or 3, h, w]; evaluators are fitted on a third of the reference."""

    name = "pictures"
    description = "pictures of any size: --model FOLDER of yours, judged beside --reference FOLDER of yours"
    version = 1
    models: Mapping[str, ModelSpec] = {}

    def __init__(self, source: str | None = None) -> None:
        self.source = source
        self._loaded: dict[tuple[str, str], Evaluator] = {}

    def with_reference(self, source: str | None) -> PicturesDomain:
        return PicturesDomain(source)

    # ------------------------------------------------------------------------------------------------- models

    def locate(self, model: str) -> ModelSpec:
        """The folder of an unconditional diffusers pipeline, or of a GAN of a class that the user allows."""
        folder = Path(model)
        if is_foreign(folder):
            return locate_folder({}, model, "a generator", *FOREIGN_FILES)
        kind = f"a generator ({' and '.join(FOREIGN_FILES)}), or an unconditional diffusers pipeline"
        spec = locate_folder({}, model, kind, f"{network_folder(folder)}/config.json", SCHEDULER)
        refuse_conditions(folder)
        return spec

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        """Raises `BadInput` where the reference has another size or other colours."""
        from domains.pictures.generators import OwnDiffusion, OwnGan

        kind = OwnGan if is_foreign(Path(spec.source)) else OwnDiffusion
        generator = kind(spec, device, settings or {})
        channels, side = generator.picture
        self._check_shape((channels, side, side), f"the model {spec.name!r} draws")
        return generator

    # ------------------------------------------------------------------------------------ data and evaluators

    def reference(self, split: str = "test", source: str | None = None) -> np.ndarray:
        """A third of the user's pictures, whose contents fix which is where.

        Raises `NeedsReference` where there are none.
        """
        if split not in PARTS:
            raise unknown("split", split, PARTS)
        if source not in (None, self.source):
            return self.with_reference(source).reference(split)
        return self._parts[split]

    @functools.cached_property
    def _parts(self) -> Mapping[str, np.ndarray]:
        from domains.images.data import own_images
        from domains.images.files import as_it_is

        if self.source is None:
            raise NeedsReference(self.name)
        found = {hashed(picture): picture for picture in own_images(self.source, as_it_is)}
        if len(found) < LEAST:
            raise BadInput(
                f"{self.source!r} holds {len(found)} different pictures; allowed: {LEAST} or more, of which "
                f"each of {', '.join(PARTS)} gets a third"
            )
        pictures = np.stack([found[key] for key in sorted(found)])
        fitted = min(len(pictures) // 3, MOST_FITTED)
        half = (len(pictures) - fitted) // 2
        ends = {"validation": (0, fitted), "test": (fitted, fitted + half), "ceiling": (fitted + half, None)}
        return {split: pictures[start:end] for split, (start, end) in ends.items()}

    def _check_shape(self, shape: tuple[int, ...], what: str) -> None:
        """Raises `BadInput` where pictures of this shape cannot be compared with the reference."""
        if self.source is None:
            return
        real = self.reference().shape[1:]
        if shape != real:
            raise BadInput(
                f"{what} {shape_text(shape)}, and --reference {self.source!r} holds {shape_text(real)}; "
                f"allowed: a reference of the same size and colours"
            )

    def evaluator_table(self) -> Mapping[str, EvaluatorEntry]:
        return {
            name: EvaluatorEntry(role, use, functools.partial(self._fitted, path))
            for name, (role, use, path) in EVALUATORS.items()
        }

    def _fitted(self, path: str, device: str) -> Evaluator:
        """Fitted once: many panels ask for it."""
        if (path, device) not in self._loaded:
            self._loaded[path, device] = OnDemand(path)(device, self.reference("validation"))
        return self._loaded[path, device]

    def optional_evaluator(self, name: str, device: str = "cpu") -> Evaluator | None:
        """An image model of transformers, by its folder or hub id."""
        if "/" not in name and not Path(name).is_dir():
            return None
        from domains.images.further import Vision

        return Vision(name, device, self.reference("validation"))

    def optional_metric(self, name: str, device: str = "cpu") -> Metric | None:
        from domains.images.metrics import inception_metric

        return inception_metric(name, device)

    def damages(self) -> Mapping[str, Damage]:
        """Those of colour only where the user's pictures have colours."""
        from domains.pictures.damages import DAMAGES, OF_COLOUR

        grey = self.source is None or self.reference().shape[1] == 1
        return DAMAGES if grey else {**DAMAGES, **OF_COLOUR}

    # -------------------------------------------------------------------------------------------------- files

    def read_samples(self, path: Path) -> np.ndarray:
        """A folder of pictures of one size, or an NPZ whose first array holds them."""
        from domains.images import files

        samples = files.read(path, files.as_it_is)
        self._check_shape(samples.shape[1:], f"{str(path)!r} holds")
        return samples

    def write_samples(self, samples: np.ndarray, path: Path) -> Path:
        from domains.images import files

        return files.write(samples, path)

    def show(self, columns: Mapping[str, np.ndarray], path: Path) -> Path:
        """Twins in columns, one row for each title."""
        from domains.images import files

        return files.write_grid(columns, path)


def hashed(picture: np.ndarray) -> bytes:
    """A key of its content: equal pictures have one, and their order says nothing of their names."""
    return hashlib.sha256(f"{picture.shape}".encode() + picture.tobytes()).digest()


def shape_text(shape: tuple[int, ...]) -> str:
    """[channels, h, w] in words."""
    return f"{'grey' if shape[0] == 1 else 'colour'} pictures of {size_text(shape)}"
