"""Class labels of a pipeline's pictures: which ones its network knows, and what a user calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BadInput
from bench.interfaces import Conditions
from domains.folders import read_object

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

INDEX = "model_index.json"  # of a pipeline; `id2label` maps its labels to names
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Labels:
    """The classes that pictures are drawn of: picture i is of class `numbers[i mod their number]`."""

    numbers: tuple[int, ...]
    classes: int  # how many the network knows

    def of(self, items: range) -> list[int]:
        """The class of each item."""
        return [self.numbers[item % len(self.numbers)] for item in items]


def labels_of(network: Module, folder: Path, model: str, conditions: Conditions | None) -> Labels | None:
    """The labels that the user gave; None where there are none, and the network needs none.

    Raises `BadInput` where network and labels do not fit.
    """
    config: Any = network.config
    if (kind := config.get("class_embed_type")) is not None:
        raise BadInput(
            f"the model {model!r} embeds its classes in another way (class_embed_type={kind!r}); this domain "
            f"opens networks with one embedding a class (num_class_embeds)"
        )
    needed = config.get("num_class_embeds")
    classes = needed if needed is not None else config.get("num_embeds_ada_norm")
    if conditions is None:
        if needed is not None:
            raise BadInput(
                f"the model {model!r} wants a class label for each picture (num_class_embeds={needed!r}); "
                f"name a file of labels with --labels"
            )
        return None
    if classes is None:
        raise BadInput(f"the model {model!r} is unconditional; leave out --labels {conditions.file!r}")
    names = names_of(folder)
    return Labels(tuple(number(text, classes, names, conditions.file) for text in conditions.texts), classes)


def names_of(folder: Path) -> dict[str, int]:
    """Name -> class, as a pipeline's index says. A class may have several names, with commas between them."""
    file = folder / INDEX
    known = read_object(file).get("id2label") if file.is_file() else None
    if not isinstance(known, Mapping):
        return {}
    found: dict[str, int] = {}
    for label, names in known.items():
        if label.isascii() and label.isdigit():
            found |= {name.strip(): int(label) for name in [str(names), *str(names).split(",")]}
    return found


def number(text: str, classes: int, names: Mapping[str, int], file: str) -> int:
    """The class of one label. Raises `BadInput` for one that the network does not know."""
    found = names.get(text)
    if found is None and text.isascii() and text.isdigit() and len(text) < 10:
        found = int(text)
    if found is None or found >= classes:
        some = ", ".join(list(names)[:NAMES_SHOWN])
        also = f", or a name of {INDEX}, such as {some}" if some else ""
        raise BadInput(f"label {text[:60]!r} of {file!r} is not possible; allowed: 0 to {classes - 1}{also}")
    return found


def are_of(labels: Labels, samples: np.ndarray) -> np.ndarray | None:
    """[n] bool: whether the labeller sees the class that a picture was drawn of.

    None where the network's classes are not as many as the labeller's. Where they are, the same number must
    stand for the same garment.
    """
    import numpy as np

    from domains.images.data import CLASSES
    from domains.images.labeller import labels as seen

    if labels.classes != len(CLASSES):
        return None
    return seen(samples).numpy() == np.array(labels.of(range(len(samples))))
