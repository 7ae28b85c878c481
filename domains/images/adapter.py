"""What the image domains share; each adds its models and how they are opened and trained."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.errors import BadInput, unknown
from bench.interfaces import (
    Damage,
    Domain,
    Evaluator,
    EvaluatorEntry,
    Metric,
    ModelSpec,
    Task,
    Training,
    TrainingRecipe,
)
from bench.util.cache import in_order_of_content
from bench.util.files import is_file
from domains.folders import PUBLISHED_SEEDS, embedded, grid_of, own_spec
from domains.on_demand import OnDemand

if TYPE_CHECKING:
    from domains.images.data import Images

EVALUATORS = {  # the first primary one of a role is the one that counts
    "effnet": EvaluatorEntry("quality", "primary", OnDemand("domains.images.evaluators:Effnet")),
    "encoder": EvaluatorEntry("diversity", "primary", OnDemand("domains.images.evaluators:Encoder")),
    "effnet_undithered": EvaluatorEntry(
        "quality", "primary", OnDemand("domains.images.evaluators:EffnetUndithered")
    ),
    "pixel_judge": EvaluatorEntry("quality", "secondary", OnDemand("domains.images.pixel_judge:PixelJudge")),
    "restorer": EvaluatorEntry("diversity", "secondary", OnDemand("domains.images.restorer:Restorer")),
    "third_encoder": EvaluatorEntry(
        "diversity", "optional", OnDemand("domains.images.third_encoder:ThirdEncoder")
    ),
    "inception": EvaluatorEntry("quality", "optional", OnDemand("domains.images.further:Inception")),
}


class ImageDomain(Domain):
    """Grey pictures of 28x28, uint8 [n, 1, 28, 28], judged beside real garments."""

    kind_of_data = "images"
    sizes: Mapping[str, Any]
    weights: Path  # the folder of the embedded models
    published: Mapping[str, tuple[int, ...]] = PUBLISHED_SEEDS  # size -> training seeds

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        return embedded(self.weights)

    # ----------------------------------------------------------------------------------------------- training

    def training_table(self) -> Mapping[str, TrainingRecipe]:
        generators = {
            size: TrainingRecipe(
                f"the generator of size {size}",
                functools.partial(self.start_generator, size),
                self.published.get(size, ()),
            )
            for size in self.sizes
        }
        return {**generators, **COMPANIONS}

    def grid(self) -> Sequence[str]:
        return grid_of(self.published)

    def start_generator(self, size: str, seed: int, data: str | None, device: str) -> Training:
        return self.train_generator(size, seed, *training_parts(data), device)

    def train_generator(
        self, size: str, seed: int, images: Images, held_out: Images, device: str
    ) -> Training:
        raise NotImplementedError

    # ------------------------------------------------------------------------------------ data and evaluators

    def reference(self, split: str = "test", source: str | None = None) -> np.ndarray:
        from domains.images.data import SHIPPED, own_images, part

        if split not in SHIPPED:
            raise unknown("split", split, SHIPPED)
        if source is None:
            return part(split).pixels
        pixels = np.stack(in_order_of_content(own_images(source)))
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

    def evaluator_table(self) -> Mapping[str, EvaluatorEntry]:
        return EVALUATORS

    def optional_evaluator(self, name: str, device: str = "cpu") -> Evaluator | None:
        """An image model of transformers, by its folder or hub id."""
        if "/" not in name and not Path(name).is_dir():
            return None
        from domains.images.further import Vision

        return Vision(name, device)

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

    # -------------------------------------------------------------------------------------------------- files

    def read_samples(self, path: Path) -> np.ndarray:
        """A folder of pictures, or an NPZ whose first array holds them (`domains.images.files` states the
        rule).
        """
        from domains.images import files

        return files.read(path)

    def write_samples(self, samples: np.ndarray, path: Path) -> Path:
        from domains.images import files

        return files.write(samples, path)

    def show(self, columns: Mapping[str, np.ndarray], path: Path) -> Path:
        """Twins in columns, one row for each title."""
        from domains.images import files

        return files.write_grid(columns, path)


def training_parts(data: str | None) -> tuple[Images, Images]:
    """-> (the images to train on, the validation part)"""
    from domains.images.data import part, training_images

    return training_images(data), part("validation")


def start_encoder(seed: int, data: str | None, device: str) -> Training:
    from domains.images.encoder import EncoderTraining

    images, held_out = training_parts(data)
    return EncoderTraining(images.pixels, held_out.pixels, device=device)


def start_third_encoder(seed: int, data: str | None, device: str) -> Training:
    from domains.images.third_encoder import ThirdEncoderTraining

    images, held_out = training_parts(data)
    return ThirdEncoderTraining(images.pixels, held_out.pixels, device=device)


def start_pixel_judge(seed: int, data: str | None, device: str) -> Training:
    from domains.images.pixel_judge import PixelJudgeTraining

    images, held_out = training_parts(data)
    return PixelJudgeTraining(images.pixels, held_out.pixels, device=device)


def start_restorer(seed: int, data: str | None, device: str) -> Training:
    from domains.images.restorer import RestorerTraining

    images, held_out = training_parts(data)
    return RestorerTraining(images.pixels, held_out.pixels, device=device)


def start_labeller(seed: int, data: str | None, device: str) -> Training:
    from domains.images.labeller import LabellerTraining

    return LabellerTraining(*training_parts(data), device=device)


COMPANIONS = {
    "encoder": TrainingRecipe("the evaluator of diversity", start_encoder, seeded=False),
    "third_encoder": TrainingRecipe(
        "an encoder of diversity for a study alone, from a wider family of damages",
        start_third_encoder,
        seeded=False,
    ),
    "pixel_judge": TrainingRecipe("the secondary evaluator of quality", start_pixel_judge, seeded=False),
    "restorer": TrainingRecipe("the secondary evaluator of diversity", start_restorer, seeded=False),
    "labeller": TrainingRecipe(
        "tells the classes apart, for the metrics of lost classes", start_labeller, seeded=False
    ),
}


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
    if all(is_file(folder / file) for file in files):
        return own_spec(model, folder)
    raise BadInput(f"{unknown('model', model, models)}, or {kind}: a folder with {' and '.join(files)}")
