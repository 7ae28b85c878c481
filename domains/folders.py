"""Model folders: a card beside the weights says what must be said about them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.errors import BadInput, unknown
from bench.interfaces import TRAINED_ON, ModelSpec

# size -> training seeds, of every domain that says nothing else, in the order of training
PUBLISHED_SEEDS = {"s": (0, 1, 2), "xs": (0, 1, 2), "m": (0, 1, 2)}


def grid_of(seeds: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """The names of models, `size@training seed`, in the order of training."""
    return tuple(f"{size}@{seed}" for size, known in seeds.items() for seed in known)


GRID = grid_of(PUBLISHED_SEEDS)  # the published models


def embedded(weights: Path) -> dict[str, ModelSpec]:
    """The models that ship below a folder, by name, `s@0` first."""
    cards = sorted(
        weights.glob("*@*/card.json"), key=lambda path: (path.parent.name != "s@0", path.parent.name)
    )
    return {card.parent.name: spec_of(card.parent.name, card.parent) for card in cards}


def own_spec(name: str, folder: Path) -> ModelSpec:
    """Of a user's folder, whose card may be out of date: its network says how many parameters it has."""
    return dataclasses.replace(spec_of(name, folder), parameters=None)


def spec_of(name: str, folder: Path) -> ModelSpec:
    known = card_of(folder)
    return ModelSpec(
        name,
        str(folder),
        known.get("licence", "unknown"),
        known.get("parameters"),
        known.get("train_seed"),
        description=known.get("description", ""),
        samples_seen=samples_seen(known),
    )


def samples_seen(card: Mapping[str, Any]) -> int | None:
    """Of a card: `images_seen`, `verses_seen` or whatever the samples are called there; None where it does
    not say one whole number.
    """
    found = [value for name, value in card.items() if name.endswith("_seen")]
    return found[0] if len(found) == 1 and type(found[0]) is int and found[0] >= 0 else None


def card_of(folder: Path) -> dict[str, Any]:
    """What a model's folder says about it beside the weights; raises `BadInput` when that is not readable."""
    card = read_object(folder / "card.json") if (folder / "card.json").is_file() else {}
    if not isinstance(card.get("sampler", {}), dict):
        raise BadInput(f"{str(folder / 'card.json')!r} is not a JSON object with an object 'sampler'")
    for name in ("parameters", "train_seed"):
        value = card.get(name)
        if value is not None and (type(value) is not int or value < 0):
            raise BadInput(f"{str(folder / 'card.json')!r}: {name}={value!r} is not a whole number from 0 on")
    return card


def check_trained_on(folder: Path) -> None:
    """Raises `LookupError` where the user's own data made a model: a recipe would go on with other data."""
    if (folder / TRAINED_ON).is_file():
        raise LookupError(f"{str(folder)!r} was trained on data of the user's, and the recipe has others")


def check_whole(missing: Iterable[str], model: str) -> None:
    """Raises `BadInput` where a model's file lacks tensors, which would be drawn at random."""
    if names := sorted(missing):
        raise BadInput(
            f"the model {model!r} is not whole: its file lacks {len(names)} tensors, {names[0]!r} among them"
        )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `BadInput`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BadInput(f"{str(path)!r} is not a JSON object")
    return found


def check_numbers(settings: Mapping[str, Any], allowed: Mapping[str, int | float]) -> None:
    """Each setting is a number above 0 and at most its bound, a whole one where the bound is.

    Raises `BadInput`.
    """
    for name, value in settings.items():
        if name not in allowed:
            raise unknown("sampler setting", name, allowed)
        whole = isinstance(allowed[name], int)
        if (
            isinstance(value, bool)
            or not isinstance(value, int if whole else (int, float))
            or not 0 < value <= allowed[name]
        ):
            kind = "a whole number" if whole else "a number"
            raise BadInput(
                f"sampler setting {name}={value!r} is not {kind} above 0 and at most {allowed[name]:g}"
            )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
