"""Known damages to the user's own pictures, in the functions and strengths of the image domains.

The bounds are wider than there: they were set on few pictures, and must hold for pictures of anybody's. A
damage without bounds is shown and not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from bench.interfaces import Damage
from domains.images import damages as of_images
from domains.images.damages import Pixels

KEPT = (0.7, 9.0)  # mutual recall under damages to the surface
SEEN = (0.0, 0.9)


def quarter_lost(pixels: Pixels) -> Pixels:
    """A square of a quarter of the side becomes middle grey."""
    return of_images.block_lost(pixels, min(pixels.shape[-2:]) // 4)


def no_colour(pixels: Pixels) -> Pixels:
    """Each pixel gets the mean of its three channels."""
    mean = np.rint(pixels.mean(axis=1, keepdims=True)).astype(np.uint8)
    return np.repeat(mean, pixels.shape[1], axis=1)


def half_the_colour(pixels: Pixels) -> Pixels:
    """Half way to grey."""
    return np.rint((pixels.astype(float) + no_colour(pixels)) / 2).astype(np.uint8)


def swapped(pixels: Pixels) -> Pixels:
    """Red becomes blue, and blue red."""
    return np.ascontiguousarray(pixels[:, ::-1])


DAMAGES: Mapping[str, Damage] = {
    "noise .02": Damage("nothing", partial(of_images.noise, sigma=0.02), (0.8, 9.0), mutual_recall=KEPT),
    "noise .05": Damage("surface", partial(of_images.noise, sigma=0.05), mutual_recall=KEPT),
    "noise .1": Damage("surface", partial(of_images.noise, sigma=0.1), SEEN, mutual_recall=KEPT),
    "blur 1 px": Damage("surface", partial(of_images.blur, sigma=1.0), mutual_recall=KEPT),
    "blur 2 px": Damage("surface", partial(of_images.blur, sigma=2.0), SEEN),
    "JPEG 20": Damage("surface", partial(of_images.jpeg, quality=20), mutual_recall=KEPT),
    "JPEG 10": Damage("surface", partial(of_images.jpeg, quality=10), SEEN, mutual_recall=KEPT),
    "checkerboard .1": Damage(
        "surface", partial(of_images.checkerboard, amplitude=0.1), (0.0, 0.2), mutual_recall=KEPT
    ),
    "square of a quarter lost": Damage("surface", quarter_lost),
    "rotated 3°": Damage("surface", partial(of_images.rotated, degrees=3)),
    "averages of two": Damage("both", of_images.averages),
    "half repeated": Damage("variety", of_images.half_repeated, mutual_recall=(0.0, 0.95)),
    "ten copies of a tenth": Damage("variety", of_images.ten_copies, mutual_recall=(0.0, 0.2)),
}
OF_COLOUR: Mapping[str, Damage] = {
    "half the colour": Damage("both", half_the_colour),
    "no colour": Damage("both", no_colour, mutual_recall=SEEN),
    "red and blue swapped": Damage("both", swapped),
}
