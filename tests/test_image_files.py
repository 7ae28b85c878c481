"""Pictures from files: one stated rule, and broken files are named."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.cli.main import commands
from bench.errors import BadInput
from domains.image_gan.adapter import GanDomain
from domains.images import files
from domains.images.data import own_images, part, read_idx, split


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return part("test").pixels[:40]


def test_npz_and_folder_give_the_same_bytes(pictures: np.ndarray, tmp_path: Path) -> None:
    path = files.write(pictures, tmp_path / "samples")
    assert np.array_equal(files.read(path), pictures)
    for i, picture in enumerate(pictures):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / f"{i:03}.png").write_bytes(files.encode(picture))
    assert np.array_equal(files.read(tmp_path / "folder"), pictures)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x[:, 0],
        lambda x: x[:, 0, :, :, None],
        lambda x: np.repeat(x[:, 0, :, :, None], 3, axis=3),
        lambda x: x[:, 0].astype(np.float32) / 255,
        lambda x: x[:, 0].astype(np.float64) / 255,
        lambda x: np.concatenate(
            [np.repeat(x[:, 0, :, :, None], 3, axis=3), np.full((*x[:, 0].shape, 1), 255, np.uint8)], axis=3
        ),
    ],
    ids=["grey", "one channel", "colour", "float32", "float64", "opaque"],
)
def test_every_allowed_array_of_grey_is_the_same_pictures(convert, pictures: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    assert np.array_equal(files.from_array(convert(pictures), "x"), pictures)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 28), np.uint8),
        np.zeros((4, 1, 28, 28), np.uint8),  # channels come last
        np.zeros((0, 28, 28), np.uint8),
        np.full((4, 28, 28), 1.5),
        np.full((4, 28, 28), np.nan),
        np.zeros((4, 28, 28), np.int32),
    ],
    ids=["flat", "channels first", "empty", "above 1", "nan", "int32"],
)
def test_other_arrays_are_refused_with_what_is_allowed(array: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", array)
    with pytest.raises(BadInput, match=r"bad\.npz.*allowed: \[n, h, w\]"):
        files.read(tmp_path / "bad.npz")


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadInput, match="objects"):
        files.read(tmp_path / "objects.npz")


def test_sizes_and_modes_are_converted_by_the_rule(pictures: np.ndarray) -> None:
    grey = Image.fromarray(pictures[0, 0])
    large = _png(grey.resize((56, 56), Image.Resampling.NEAREST))
    assert np.abs(files.decode(large, "x").astype(int) - pictures[0]).mean() < 8  # the filter's own softness
    assert np.array_equal(files.decode(_png(grey.convert("RGB")), "x"), pictures[0])
    clear = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    assert files.decode(_png(clear), "x").max() == 0, "transparent is black"
    red = Image.new("RGB", (28, 28), (255, 0, 0))
    assert files.decode(_png(red), "x").max() == 76, "luma of ITU-R 601: .299 * 255"
    deep = Image.fromarray(pictures[0, 0].astype(np.uint16) << 8)
    assert np.array_equal(files.decode(_png(deep), "x"), pictures[0])


def test_sixteen_bits_with_a_transparent_level_keep_their_other_levels(pictures: np.ndarray) -> None:
    values = pictures[0, 0].astype(np.uint16) << 8
    transparent = int(np.sort(np.unique(values))[-1])
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", transparency=transparent)
    expected = np.where(values == transparent, 0, pictures[0, 0])
    assert np.array_equal(files.decode(buffer.getvalue(), "x")[0], expected)


@pytest.mark.parametrize("damage", [lambda data: data[:60], lambda data: data[:9], lambda data: b"text"])
def test_a_broken_file_in_a_folder_is_named(damage, pictures: np.ndarray, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.png").write_bytes(files.encode(pictures[0]))
    (tmp_path / "b.png").write_bytes(damage(files.encode(pictures[1])))
    with pytest.raises(BadInput, match=r"b\.png") as caught:
        files.read(tmp_path)
    assert "BytesIO" not in str(caught.value) and "0x" not in str(caught.value)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_its_file_says(
    orientation: int, form: str, pictures: np.ndarray, tmp_path: Path
) -> None:
    """A viewer shows all eight alike, so all eight are the same picture."""
    stored = {
        **{1: [], 2: ["FLIP_LEFT_RIGHT"], 3: ["ROTATE_180"], 4: ["FLIP_TOP_BOTTOM"], 5: ["TRANSPOSE"]},
        **{6: ["ROTATE_90"], 7: ["TRANSVERSE"], 8: ["ROTATE_270"]},
    }[orientation]
    image = Image.fromarray(pictures[0, 0])
    for name in stored:
        image = image.transpose(Image.Transpose[name])
    exif, file = Image.Exif(), tmp_path / f"a.{form.lower()}"
    exif[files.ORIENTATION] = orientation
    image.save(file, form, exif=exif, **({"quality": 100} if form in ("JPEG", "WEBP") else {}))
    assert np.abs(files.read(tmp_path)[0].astype(int) - pictures[0]).mean() < 3  # lossy ones differ a little


def test_a_broken_exif_block_does_not_hide_the_picture(pictures: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pictures[0, 0]).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.array_equal(files.read(tmp_path)[0], pictures[0])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_block_of_tags_is_no_traceback(pictures: np.ndarray) -> None:
    """Every byte of the block in turn: the picture is read, or refused in a line."""
    for form in ("PNG", "TIFF"):
        exif, buffer = Image.Exif(), io.BytesIO()
        exif[files.ORIENTATION], exif[0x010E], exif[0x011A] = 6, "a", 72.0
        Image.fromarray(pictures[0, 0]).save(buffer, form, exif=exif)
        whole, read = buffer.getvalue(), 0
        where = whole.find(b"eXIf") if form == "PNG" else int.from_bytes(whole[4:8], "little")
        for place in range(where, min(where + 120, len(whole))):
            data = bytearray(whole)
            data[place] ^= 0xFF
            try:
                read += files.decode(bytes(data), "x").shape == (1, 28, 28)
            except BadInput as error:
                assert "\n" not in str(error)
        assert read or form == "TIFF"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_one_picture_with_channels_is_not_taken_for_many(channels: int, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (28, 28, channels)).astype(np.uint8)
    np.savez(tmp_path / "one.npz", picture)
    with pytest.raises(BadInput, match=rf"one\.npz.*\[1, 28, 28, {channels}\].*\[28, 28, {channels}, 1\]"):
        files.read(tmp_path / "one.npz")
    np.savez(tmp_path / "one.npz", picture[None])
    assert files.read(tmp_path / "one.npz").shape == (1, 1, 28, 28)
    np.savez(tmp_path / "one.npz", picture[..., None])
    assert files.read(tmp_path / "one.npz").shape == (28, 1, 28, 28)


def test_bytes_of_zero_and_one_are_refused_with_the_remedy(pictures: np.ndarray, tmp_path: Path) -> None:
    """White may be 1 or 255; taken as bytes, all is black. Black alone stays allowed."""
    flags = (pictures[:, 0] > 127).astype(np.uint8)
    np.savez(tmp_path / "flags.npz", flags)
    with pytest.raises(BadInput, match=r"flags\.npz.*multiply them by 255"):
        files.read(tmp_path / "flags.npz")
    np.savez(tmp_path / "flags.npz", flags * 255)
    assert files.read(tmp_path / "flags.npz").max() == 255
    np.savez(tmp_path / "flags.npz", flags * 0)
    assert files.read(tmp_path / "flags.npz").max() == 0
    (tmp_path / "folder").mkdir()
    Image.fromarray(flags[0]).save(tmp_path / "folder" / "a.png")
    with pytest.raises(BadInput, match=r"folder.*multiply them by 255"):
        files.read(tmp_path / "folder")


def test_what_an_operating_system_adds_is_skipped(pictures: np.ndarray, tmp_path: Path) -> None:
    import zipfile

    folder = tmp_path / "mine"
    for name in ("a.png", "__MACOSX/a.png", "__MACOSX/._a.png", ".hidden/a.png", "sub/._b.png", ".DS_Store"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(files.encode(pictures[0]) if name == "a.png" else b"rubble")
    assert len(files.read(folder)) == 1 and len(own_images(str(folder))) == 1
    whole = files.write(pictures, tmp_path / "whole")
    with zipfile.ZipFile(whole) as archive, zipfile.ZipFile(tmp_path / "other.npz", "w") as other:
        other.writestr("__MACOSX/._samples.npy", b"rubble")
        other.writestr(".DS_Store", b"rubble")
        other.writestr("samples.npy", archive.read("samples.npy"))
    assert np.array_equal(files.read(tmp_path / "other.npz"), pictures)


def test_what_is_no_whole_npz_is_refused_in_one_line(pictures: np.ndarray, tmp_path: Path) -> None:
    import zipfile

    whole = files.write(pictures, tmp_path / "whole").read_bytes()
    bad = tmp_path / "bad.npz"
    variants = [whole[:-5], whole[:400], b"", whole[:200] + bytes([whole[200] ^ 255]) + whole[201:]]
    for data in variants:
        bad.write_bytes(data)
        with pytest.raises(BadInput, match=r"bad\.npz"):
            files.read(bad)
    for members in (
        {},
        {"notes.txt": b"no array"},
        {
            "a.npy": b"\x93NUMPY\x01\x00v\x00"
            b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 99999)}"
        },
    ):
        with zipfile.ZipFile(bad, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        with pytest.raises(BadInput, match=r"bad\.npz"):
            files.read(bad)


def test_a_damaged_cached_set_of_samples_is_made_again(pictures: np.ndarray, tmp_path: Path) -> None:
    from bench.util.cache import Cache

    cache, domain = Cache(folder=tmp_path), GanDomain()
    cache.samples(["key"], domain, lambda: pictures)
    (file,) = tmp_path.rglob("*.npz")
    file.write_bytes(file.read_bytes()[:200] + b"rubble" + file.read_bytes()[206:])
    assert np.array_equal(cache.samples(["key"], domain, lambda: pictures), pictures)


def test_odd_files_in_a_folder(pictures: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(files.encode(pictures[0]))
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert len(files.read(tmp_path)) == 1
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\nshowpage\n")
    with pytest.raises(BadInput, match=r"script\.png"):
        files.read(tmp_path)


def test_values_without_a_stated_range_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((28, 28), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(BadInput, match=r"a\.tif.*8 or 16 bits"):
        files.read(tmp_path)


def test_tables_are_read_from_embedded_pictures_only(tmp_path: Path) -> None:
    import datasets

    rows = {"image": [{"bytes": None, "path": "/etc/hostname"}]}
    datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()})).to_parquet(
        tmp_path / "mine.parquet"
    )
    with pytest.raises(BadInput, match="row 0 holds no picture"):
        own_images(str(tmp_path / "mine.parquet"))


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    bomb = bytearray(_png(Image.new("L", (28, 28))))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    (tmp_path / "bomb.png").write_bytes(bytes(bomb))
    with pytest.raises(BadInput, match=r"bomb\.png"):
        files.read(tmp_path)


def test_score_evaluates_foreign_pictures(tmp_path: Path) -> None:
    """Held-out real pictures from an NPZ of colour floats score as real; noise has no quality, and near a
    tenth of the diversity: the encoder looks through noise (docs/image-domains.md).
    """
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    real = part("ceiling").pixels[:300, 0, :, :, None]
    np.savez(good, np.repeat(real, 3, axis=3) / 255.0)
    np.savez(bad, np.random.default_rng(0).random((300, 28, 28)))
    found = {}
    for path in (good, bad):
        done = CliRunner().invoke(
            commands, ["score", "--domain", "image_gan", "--samples", str(path), "--json"]
        )
        assert done.exit_code == 0, done.output
        found[path.stem] = json.loads(done.stdout)["metrics"]
    assert found["good"]["quality_valid"] > 0.7 and found["good"]["diversity_mutual_recall"] > 0.8
    assert found["bad"]["quality_valid"] == 0 and found["bad"]["diversity_mutual_recall"] < 0.2


def test_twins_are_drawn_below_each_other(pictures: np.ndarray, tmp_path: Path) -> None:
    path = GanDomain().show(
        {"none": pictures[:6], "int2+recalibrate": 255 - pictures[:6]}, tmp_path / "twins"
    )
    drawn = np.asarray(Image.open(path))
    side = files.SIDE * 2
    assert drawn.shape[0] == 2 * (side + 2)
    left = drawn.shape[1] - 6 * (side + 2)
    assert np.array_equal(drawn[1 : 1 + side : 2, left : left + side : 2], pictures[0, 0])
    assert np.array_equal(drawn[side + 3 : 2 * side + 3 : 2, left : left + side : 2], 255 - pictures[0, 0])


# --------------------------------------------------------------------------------------------- original files


def write_idx(folder: Path, stem: str, pixels: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{stem}-images-idx3-ubyte").write_bytes(
        struct.pack(">4I", 0x803, *pixels.shape) + pixels.tobytes()
    )
    (folder / f"{stem}-labels-idx1-ubyte").write_bytes(
        struct.pack(">2I", 0x801, len(labels)) + labels.astype(np.uint8).tobytes()
    )


def test_the_original_files_are_read_cut_and_freed_of_repeats(pictures: np.ndarray, tmp_path: Path) -> None:
    labels = np.arange(40) % 10
    write_idx(tmp_path, "train", np.concatenate([pictures[:30, 0], pictures[:3, 0]]), np.arange(33) % 10)
    write_idx(tmp_path, "t10k", pictures[28:, 0], labels[:12])
    assert np.array_equal(read_idx(tmp_path, "train").pixels[:30], pictures[:30])
    parts, facts = split(tmp_path)  # fewer than a held-out part holds: test and validation take all
    known = [p.tobytes() for images in parts.values() for p in images.pixels]
    assert len(known) == len(set(known)) == 40
    assert facts["validation"] == {"found": 33, "kept": 28}


def test_files_that_are_missing_or_cut_short_are_named(pictures: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no train-images-idx3-ubyte.*dataset-fashion-mnist.*--data"):
        read_idx(tmp_path, "train")
    write_idx(tmp_path, "train", pictures[:, 0], np.zeros(40))
    cut = tmp_path / "train-images-idx3-ubyte"
    cut.write_bytes(cut.read_bytes()[:-1])
    with pytest.raises(BadInput, match="train-images-idx3-ubyte"):
        read_idx(tmp_path, "train")


def test_a_users_own_pictures_come_from_tables_too(pictures: np.ndarray, tmp_path: Path) -> None:
    import datasets

    rows = {"image": [{"bytes": files.encode(p), "path": None} for p in pictures]}
    table = datasets.Dataset.from_dict(rows, features=datasets.Features({"image": datasets.Image()}))
    table.to_parquet(tmp_path / "mine.parquet")
    assert np.array_equal(own_images(str(tmp_path / "mine.parquet")), pictures)
    domain = GanDomain()
    parts = [domain.reference(name, str(tmp_path / "mine.parquet")) for name in ("test", "ceiling")]
    assert [len(part) for part in parts] == [20, 20]
    assert {p.tobytes() for part in parts for p in part} == {p.tobytes() for p in pictures}
    again = tmp_path / "again.parquet"
    datasets.Dataset.from_dict({"image": rows["image"][::-1]}, features=table.features).to_parquet(again)
    assert np.array_equal(domain.reference("test", str(again)), parts[0]), (
        "the order of the file says nothing"
    )
    dark = [{"bytes": files.encode((p > 99).astype(np.uint8)), "path": None} for p in pictures]
    datasets.Dataset.from_dict({"image": dark}, features=table.features).to_parquet(again)
    with pytest.raises(BadInput, match="are only 0 and 1"):
        own_images(str(again))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
