"""Pictures from files and into files. Everything becomes uint8 [n, 1, 28, 28] by one stated rule.

The rule: a picture is turned as its EXIF orientation says; transparent pixels are laid on black; colour
becomes grey (ITU-R 601 luma); other sizes are scaled to 28x28 with an antialiased bilinear filter, aspect
ratio not kept; floats in [0, 1] are multiplied by 255 and rounded. Files that an operating system adds to a
folder or an archive are skipped.

With the conversion `as_it_is` pictures keep their size and colours, which then must be the same for all.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from bench.errors import BadInput, in_a_line

if TYPE_CHECKING:
    from PIL import Image

SIDE, LARGEST_ENLARGED = 28, 64  # pixels; twins of larger pictures are shown at their own size
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
LARGEST = 2**26  # pixels of one picture: more is a decompression bomb
LARGEST_ARRAY = 2**30  # bytes
# what Pillow may try: not PostScript and its like
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


# a Pillow image -> uint8 [channels, h, w]: `as_grey` or `as_it_is`
Conversion = Callable[["Image.Image"], np.ndarray]


def as_grey(image: Image.Image) -> np.ndarray:
    """uint8 [1, 28, 28]: what the published models draw."""
    from PIL import Image

    image = _opaque(image).convert("L")
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(image)[None].copy()


def as_it_is(image: Image.Image) -> np.ndarray:
    """uint8 [1 or 3, h, w]: the picture in its own size, grey or in colour."""
    grey = image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
    pixels = np.asarray(_opaque(image).convert("L" if grey else "RGB"))
    return pixels[None].copy() if grey else pixels.transpose(2, 0, 1).copy()


def to_image(picture: np.ndarray) -> Image.Image:
    """uint8 [1 or 3, h, w] -> Pillow's image; `as_it_is` is the inverse."""
    from PIL import Image

    return Image.fromarray(picture[0] if len(picture) == 1 else picture.transpose(1, 2, 0))


def encode(pixels: np.ndarray) -> bytes:
    """uint8 [1, 28, 28] -> PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[0]).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def decode(data: bytes, name: str, convert: Conversion = as_grey) -> np.ndarray:
    """Bytes of any known image format -> uint8 [channels, h, w]. Raises `BadInput` naming a broken file."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"{image.width}x{image.height} pixels are too many")
            return convert(_upright(image))
    except UnidentifiedImageError:  # its message names the buffer in memory
        raise BadInput(f"{name!r} is no whole picture; allowed formats: {', '.join(FORMATS)}") from None
    except Exception as error:  # of many types: damaged tags reach deep into Pillow's readers
        raise BadInput(f"{name!r} cannot be read as a picture: {in_a_line(error)}") from None


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says. Other tags are not read: they may be damaged."""
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    image.load()  # a TIFF is turned there
    try:
        turn = turns.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # whatever a broken EXIF block makes of Pillow's parser: the pixels are what counts
        return image
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image) -> Image.Image:
    """Without transparency, and with 8 bits a channel."""
    from PIL import Image

    if image.mode in ("I", "F"):
        raise ValueError("32-bit values have no stated range; give 8 or 16 bits")
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        if isinstance(level := image.info.get("transparency"), int):
            values = np.where(values == level, 0, values)
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image


def read(path: Path, convert: Conversion = as_grey) -> np.ndarray:
    """A folder of pictures (in the order of their names) or an NPZ whose first array holds them -> uint8
    [n, channels, h, w].
    """
    if path.is_dir():
        return read_folder(path, convert)
    if path.suffix.lower() == ".npz" and path.is_file():
        return read_npz(path, convert)
    raise BadInput(
        f"cannot read samples from {str(path)!r}: it is neither a folder of pictures nor an .npz file"
    )


def pictures_in(folder: Path) -> list[Path]:
    """The picture files of a folder and of those below it, in the order of their names."""
    found = (file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
    return sorted(file for file in found if not _is_added(file.relative_to(folder).parts))


def _is_added(parts: Sequence[str]) -> bool:
    """Whether an operating system added a file: `.DS_Store`, `._a.png`, `__MACOSX/a.png`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def read_folder(path: Path, convert: Conversion = as_grey) -> np.ndarray:
    files = pictures_in(path)
    if not files:
        raise BadInput(f"the folder {str(path)!r} holds no pictures; known endings: {', '.join(ENDINGS)}")
    try:
        found = {str(file): decode(file.read_bytes(), str(file), convert) for file in files}
        return with_range(stacked(found), str(path))
    except OSError as error:
        raise BadInput(
            f"cannot read the pictures in {str(path)!r}: {error.strerror}: {error.filename!r}"
        ) from None


UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
)


def read_npz(path: Path, convert: Conversion = as_grey) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > LARGEST_ARRAY:
                raise ValueError("its arrays are too large")
        with np.load(path, allow_pickle=False) as arrays:
            names = [name for name in arrays.files if not _is_added(PurePosixPath(name).parts)]
            if not names:
                raise ValueError("it holds no array")
            array = arrays[names[0]]
        if not isinstance(array, np.ndarray):
            raise ValueError("its first member is not an array")
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        raise BadInput(f"cannot read samples from {str(path)!r}: {in_a_line(error)}") from None
    return from_array(with_range(array, str(path)), str(path), convert)


def with_range(array: np.ndarray, name: str) -> np.ndarray:
    """The array. Raises `BadInput` for bytes of 0 and 1 only, whose white may be 1 or 255."""
    if array.dtype == np.uint8 and array.size and array.max() == 1:
        raise BadInput(
            f"the bytes of {name!r} are only 0 and 1, which is black in uint8; multiply them by 255, or give "
            f"floats in [0, 1]"
        )
    return array


def stacked(pictures: Mapping[str, np.ndarray]) -> np.ndarray:
    """Pictures by name -> [n, channels, h, w]; beside colour, grey has three equal channels.

    Raises `BadInput` for pictures of several sizes.
    """
    channels = max(picture.shape[0] for picture in pictures.values())
    (first, shape), *others = [(name, picture.shape[1:]) for name, picture in pictures.items()]
    for name, other in others:
        if other != shape:
            raise BadInput(
                f"{name!r} has {size_text(other)} pixels, and {first!r} {size_text(shape)}; allowed: one size"
            )
    return np.stack([np.broadcast_to(picture, (channels, *shape)) for picture in pictures.values()])


def size_text(shape: Sequence[int]) -> str:
    """[..., h, w] -> `width x height`, as files name it."""
    return f"{shape[-1]}x{shape[-2]}"


def conversion_note(name: str, channels: int, side: int) -> list[str]:
    """What becomes of a model's pictures before they are scored; nothing where they are 28x28 and grey."""
    if (channels, side) == (1, SIDE):
        return []
    kind = "grey" if channels == 1 else "colour"
    return [
        f"{name!r} draws {kind} pictures of {side}x{side}; they are scored as grey ones of {SIDE}x{SIDE}, "
        f"against garments unless --reference names others"
    ]


def from_array(array: np.ndarray, name: str, convert: Conversion = as_grey) -> np.ndarray:
    """[n, h, w] or [n, h, w, c], uint8 or float in [0, 1] -> uint8 [n, channels, h, w]."""
    from PIL import Image

    wanted = "allowed: [n, h, w] or [n, h, w, c] with c = 1, 3 or 4, uint8 or float in [0, 1]"
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] not in (1, 3, 4)) or 0 in array.shape:
        raise BadInput(f"the array of {name!r} has shape {list(array.shape)}; {wanted}")
    if array.ndim == 3 and array.shape[2] in (1, 3, 4):
        one, many = [1, *array.shape], [*array.shape, 1]
        raise BadInput(
            f"the array of {name!r} has shape {list(array.shape)}: give {one} for one picture with channels, "
            f"or {many} for {array.shape[0]} grey ones"
        )
    if array.dtype.kind == "f":
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise BadInput(f"the floats of {name!r} do not all lie in [0, 1]; {wanted}")
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise BadInput(f"the array of {name!r} is of type {array.dtype}; {wanted}")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.shape[1:] == (SIDE, SIDE):
        return array[:, None].copy()
    return np.stack([convert(Image.fromarray(picture)) for picture in array])


def write(pixels: Sequence[np.ndarray] | np.ndarray, path: Path) -> Path:
    """uint8 [n, 1 or 3, h, w] -> `path`.npz, which `read_npz` and every NumPy reads."""
    from bench.util.files import write_atomically

    buffer, array = io.BytesIO(), np.asarray(pixels)
    colour = array.ndim == 4 and array.shape[1] == 3
    np.savez_compressed(buffer, samples=array.transpose(0, 2, 3, 1) if colour else array[:, 0])
    target = path.with_name(path.name + ".npz")
    write_atomically(target, buffer.getvalue())
    return target


def write_grid(rows: Mapping[str, np.ndarray], path: Path, scale: int = 2) -> Path:
    """Title -> pictures, as `path`.png: one row each, twins below each other.

    The text chunk `twins` says where the tiles are, so that `bench site` can take them apart.
    """
    from PIL import Image, ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    from bench.util.files import write_atomically

    titled = {title: np.asarray(pictures) for title, pictures in rows.items()}
    font = ImageFont.load_default(14)
    margin = 12 + max(round(font.getlength(title)) for title in titled)
    channels, side = next(iter(titled.values())).shape[1:3]  # they are square, as generators draw them
    scale = scale if side <= LARGEST_ENLARGED else 1
    tile, mode = side * scale + 2, "L" if channels == 1 else "RGB"
    size = (margin + tile * max(map(len, titled.values())), tile * len(titled))
    canvas = Image.new(mode, size, "white")
    draw = ImageDraw.Draw(canvas)
    for row, (title, pictures) in enumerate(titled.items()):
        draw.text((6, row * tile + tile // 2), title, fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            enlarged = to_image(picture).resize((side * scale,) * 2, Image.Resampling.NEAREST)
            canvas.paste(enlarged, (margin + column * tile, row * tile + 1))
    buffer = io.BytesIO()
    layout = PngInfo()
    layout.add_text("twins", json.dumps({"titles": [*titled], "left": margin, "tile": tile, "scale": scale}))
    canvas.save(buffer, "PNG", optimize=True, pnginfo=layout)
    target = path.with_name(path.name + ".png")
    write_atomically(target, buffer.getvalue())
    return target
