"""Known damages to real pictures, their strengths fixed before anyone looked.

The evaluators must see each, and only its kind.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
import torch.nn.functional as F

from bench.interfaces import Damage
from domains.images.data import part
from domains.images.files import as_it_is, to_image

Pixels = np.ndarray  # uint8 [n, 1 or 3, h, w]; strengths are shares of the range, 255


def _rounded(x: np.ndarray) -> Pixels:
    return np.rint(np.clip(x, 0, 255)).astype(np.uint8)


def noise(pixels: Pixels, sigma: float) -> Pixels:
    """Gaussian, each pixel its own."""
    return _rounded(pixels + 255 * sigma * np.random.default_rng(1).standard_normal(pixels.shape))


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """Gaussian, sigma in pixels."""
    positions = torch.arange(-6.0, 7.0, dtype=torch.float64)
    kernel = torch.softmax(-(positions**2) / (2 * sigma**2), dim=0)
    planes = torch.from_numpy(pixels).flatten(0, 1)[:, None].double()  # each channel by itself
    x = F.pad(planes, (6, 6, 6, 6), mode="reflect")
    x = F.conv2d(F.conv2d(x, kernel.reshape(1, 1, 1, -1)), kernel.reshape(1, 1, -1, 1))
    return _rounded(x.reshape(pixels.shape).numpy())


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    from PIL import Image

    def through(picture: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        to_image(picture).save(buffer, "JPEG", quality=quality)
        return as_it_is(Image.open(buffer))

    return np.stack([through(picture) for picture in pixels])


def checkerboard(pixels: Pixels, amplitude: float) -> Pixels:
    """Of period 2: what transposed convolutions leave."""
    rows, columns = np.indices(pixels.shape[-2:])
    return _rounded(pixels + 255 * amplitude * ((rows + columns) % 2 * 2.0 - 1))


def block_lost(pixels: Pixels, side: int) -> Pixels:
    """A square at a random place becomes middle grey."""
    random, spoilt = np.random.default_rng(2), pixels.copy()
    for picture in spoilt:
        top, left = random.integers(0, min(pixels.shape[-2:]) - side + 1, 2)
        picture[:, top : top + side, left : left + side] = 128
    return spoilt


def rotated(pixels: Pixels, degrees: float) -> Pixels:
    from PIL import Image

    return np.stack([as_it_is(to_image(p).rotate(degrees, Image.Resampling.BILINEAR)) for p in pixels])


def averages(pixels: Pixels) -> Pixels:
    """Each picture and the next one, half and half."""
    return _rounded((pixels.astype(float) + np.roll(pixels, 1, axis=0)) / 2)


def half_repeated(pixels: Pixels) -> Pixels:
    """The second half replaced by the first half again."""
    half = len(pixels) // 2
    return np.concatenate([pixels[: len(pixels) - half], pixels[:half]])


def ten_copies(pixels: Pixels) -> Pixels:
    """A tenth of the pictures, ten times each."""
    return pixels[np.arange(len(pixels)) % (len(pixels) // 10)]


def five_classes(pixels: Pixels) -> Pixels:
    """The held-out pictures of the first five classes: fewer samples, compared with as many real ones."""
    known = first_classes()
    return pixels[np.array([picture.tobytes() in known for picture in pixels], dtype=bool)]


@functools.cache
def first_classes() -> frozenset[bytes]:
    """The pictures of the shipped parts whose label is below five."""
    parts = (part(name) for name in ("test", "ceiling", "validation"))
    return frozenset(
        p.tobytes()
        for images in parts
        if images.labels is not None
        for p, label in zip(images.pixels, images.labels)
        if label < 5
    )


def _with(function: Callable[..., Pixels], **strength: float) -> Callable[[Pixels], Pixels]:
    return functools.partial(function, **strength)


SURFACE = (0.95, 9.0)  # mutual recall

DAMAGES: Mapping[str, Damage] = {
    "noise .02": Damage("nothing", _with(noise, sigma=0.02), valid=(0.95, 9), mutual_recall=SURFACE),
    "noise .05": Damage("surface", _with(noise, sigma=0.05), mutual_recall=SURFACE, milder=""),
    "noise .1": Damage("surface", _with(noise, sigma=0.1), mutual_recall=SURFACE, milder="noise .05"),
    "blur .5 px": Damage("surface", _with(blur, sigma=0.5), mutual_recall=SURFACE, milder=""),
    "blur 1 px": Damage("surface", _with(blur, sigma=1.0), mutual_recall=SURFACE, milder="blur .5 px"),
    "JPEG 50": Damage("surface", _with(jpeg, quality=50), mutual_recall=SURFACE),
    "JPEG 20": Damage("surface", _with(jpeg, quality=20), mutual_recall=SURFACE, milder="JPEG 50"),
    "JPEG 10": Damage("surface", _with(jpeg, quality=10), mutual_recall=SURFACE, milder="JPEG 20"),
    "checkerboard .1": Damage(
        "surface", _with(checkerboard, amplitude=0.1), valid=(0, 0.1), mutual_recall=SURFACE
    ),
    "half repeated": Damage("variety", half_repeated, mutual_recall=(0, 0.85)),
    "ten copies of a tenth": Damage("variety", ten_copies, mutual_recall=(0, 0.02)),
    "five of ten classes": Damage("variety", five_classes, mutual_recall=(0, 0.7)),
    "averages of two": Damage("both", averages, valid=(0, 0.6)),
    "block of 7x7 lost": Damage("surface", _with(block_lost, side=7)),
    "rotated 3°": Damage("surface", _with(rotated, degrees=3)),
}
