"""What the image domains share; each adds its models and how they are opened and trained."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadInput, unknown
from bench.interfaces import Damage, Domain, Evaluator, Metric, ModelSpec, Task, Training
from domains.folders import GRID, embedded, spec_of, training_seed

if TYPE_CHECKING:
    from domains.images.data import Images

EVALUATORS = {"effnet": "quality", "encoder": "diversity", "effnet_undithered": "quality"}  # the first of a role is the primary one
SECOND = {"pixel_judge": "quality", "restorer": "diversity"}
JUDGES = {
    "encoder": "the evaluator of diversity",
    "pixel_judge": "the second evaluator of quality",
    "restorer": "the second evaluator of diversity",
    "labeller": "tells the classes apart, for the metrics of lost classes",
}


class ImageDomain(Domain):
    """Grey pictures of 28x28, uint8 [n, 1, 28, 28], judged beside real garments."""

    sizes: Mapping[str, Any]
    weights: Path  # the folder of the embedded models

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        return embedded(self.weights)

    # -------------------------------------------------------------------------------------------------------- training

    def trainings(self) -> Mapping[str, str]:
        return {**{f"{size}@N": f"the generator of size {size}, training seed N" for size in self.sizes}, **JUDGES}

    def grid(self) -> Sequence[str]:
        return GRID

    def train(self, name: str, data: str | None, device: str) -> Training:
        from domains.images.data import part, training_images

        size, seed = name.partition("@")[0], training_seed(name)
        if name not in JUDGES and (size not in self.sizes or seed is None):
            raise unknown("model to train", name, [*(f"{size}@0" for size in self.sizes), *JUDGES])
        images, held_out = training_images(data), part("validation")
        if name == "encoder":
            from domains.images.encoder import EncoderTraining

            return EncoderTraining(images.pixels, held_out.pixels, device=device)
        if name == "pixel_judge":
            from domains.images.pixel_judge import PixelJudgeTraining

            return PixelJudgeTraining(images.pixels, held_out.pixels, device=device)
        if name == "restorer":
            from domains.images.restorer import RestorerTraining

            return RestorerTraining(images.pixels, held_out.pixels, device=device)
        if name == "labeller":
            from domains.images.labeller import LabellerTraining

            return LabellerTraining(images, held_out, device=device)
        assert seed is not None
        return self.train_generator(size, seed, images, held_out, device)

    def train_generator(self, size: str, seed: int, images: Images, held_out: Images, device: str) -> Training:
        raise NotImplementedError

    # --------------------------------------------------------------------------------------------- data and evaluators

    def reference(self, split: str = "test", source: str | None = None) -> np.ndarray:
        from domains.images.data import SHIPPED, own_images, part

        if split not in SHIPPED:
            raise unknown("split", split, SHIPPED)
        if source is None:
            return part(split).pixels
        pixels = own_images(source)
        pixels = pixels[np.sort(np.unique(pixels.reshape(len(pixels), -1), axis=0, return_index=True)[1])]
        half = len(pixels) // 2  # the second half serves as the ceiling
        return pixels[half:] if split == "ceiling" else pixels[:half]

    def is_training_sample(self, samples: np.ndarray) -> list[bool] | None:
        known = _training_pictures()
        return None if known is None else [np.asarray(sample).tobytes() in known for sample in samples]

    def traits(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """`class`: the garment that the labeller takes it for."""
        from domains.images.data import CLASSES
        from domains.images.labeller import labels

        return {"class": np.array(CLASSES)[labels(samples).numpy()]}

    def evaluators(self) -> Mapping[str, str]:
        return EVALUATORS

    def second_evaluators(self) -> Mapping[str, str]:
        return SECOND

    def evaluator(self, name: str, device: str = "cpu") -> Evaluator:
        from domains.images.evaluators import Effnet, EffnetUndithered, Encoder
        from domains.images.pixel_judge import PixelJudge
        from domains.images.restorer import Restorer

        shipped = (Effnet, Encoder, EffnetUndithered, PixelJudge, Restorer)
        kinds: dict[str, Callable[[str], Evaluator]] = {kind.name: kind for kind in shipped}
        if name not in kinds:
            raise unknown("evaluator", name, kinds)
        return kinds[name](device)

    def optional_evaluator(self, name: str, device: str = "cpu") -> Evaluator | None:
        """`inception`, or an image model of transformers by its folder or hub id."""
        from domains.images.further import Inception, Vision

        if name == "inception":
            return Inception(device)
        return Vision(name, device) if "/" in name or Path(name).is_dir() else None

    def task(self, device: str = "cpu") -> Task:
        from domains.images.use import Classifier

        return Classifier()

    def damages(self) -> Mapping[str, Damage]:
        from domains.images.damages import DAMAGES

        return DAMAGES

    def metrics(self) -> Mapping[str, Metric]:
        from domains.images.metrics import METRICS

        return {metric.name: metric for metric in METRICS}

    def optional_metric(self, name: str, device: str = "cpu") -> Metric | None:
        from domains.images.metrics import inception_metric

        return inception_metric(name, device)

    # ----------------------------------------------------------------------------------------------------------- files

    def read_samples(self, path: Path) -> np.ndarray:
        """A folder of pictures, or an NPZ whose first array holds them (`domains.images.files` states the rule)."""
        from domains.images import files

        return files.read(path)

    def write_samples(self, samples: np.ndarray, path: Path) -> Path:
        from domains.images import files

        return files.write(samples, path)

    def show(self, columns: Mapping[str, np.ndarray], path: Path) -> Path:
        """Twins in columns, one row for each title."""
        from domains.images import files

        return files.write_grid(columns, path)


@functools.cache
def _training_pictures() -> frozenset[bytes] | None:
    """None where the training images are not installed."""
    from domains.images.data import training_part

    try:
        return frozenset(picture.tobytes() for picture in training_part().pixels)
    except BadInput:
        return None


def locate_folder(models: Mapping[str, ModelSpec], model: str, kind: str, *files: str) -> ModelSpec:
    """An embedded model's name or a folder that holds `files`. Raises `BadInput`."""
    if model in models:
        return models[model]
    folder = Path(model)
    if folder.is_dir() and all((folder / file).is_file() for file in files):
        return spec_of(model, folder)
    raise BadInput(f"{unknown('model', model, models)}, or {kind}: a folder with {' and '.join(files)}")
