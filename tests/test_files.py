"""bench.util.files: whole or absent, safe names, early checks."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadInput, BrokenPlugIn
from bench.util.cache import content_digest
from bench.util.files import LONGEST, cache_folder, check_writable, shortened, slug, write_atomically

# --- write_atomically ---------------------------------------------------------------------------------


def test_bytes_and_text_are_written_into_new_folders(tmp_path: Path):
    write_atomically(tmp_path / "a" / "b" / "bytes", b"\0\xff")
    write_atomically(tmp_path / "a" / "b" / "text", "ü\n")
    assert (tmp_path / "a" / "b" / "bytes").read_bytes() == b"\0\xff"
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "ü\n".encode()
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["bytes", "text"]


def test_a_file_is_replaced_whole_and_readable(tmp_path: Path):
    target = tmp_path / "file"
    target.write_text("a longer text that was there before", encoding="utf-8")
    write_atomically(target, "new")
    assert target.read_text(encoding="utf-8") == "new" and target.stat().st_mode & 0o777 == 0o644


def test_a_new_file_has_the_rights_that_the_umask_leaves_and_an_old_one_keeps_its_own(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640
    (tmp_path / "new").chmod(0o600)
    write_atomically(tmp_path / "new", "y")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path):
    (tmp_path / "data").mkdir()
    for name, target in (("link", "data/old"), ("to come", "data/new")):
        (tmp_path / name).symlink_to(tmp_path / target)
    (tmp_path / "data/old").write_text("old", encoding="utf-8")
    for name in ("link", "to come"):
        write_atomically(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink() and (tmp_path / name).read_text(encoding="utf-8") == "new"
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["new", "old"]


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    for path, kind in (
        (tmp_path / "fifo", "FIFO"),
        (tmp_path / "link", "FIFO"),
        (tmp_path / "folder", "folder"),
        (Path("/dev/null"), "device"),
    ):
        with pytest.raises(
            BadInput, match=rf"cannot write '{re.escape(str(path))}': it is a {kind}; allowed"
        ):
            write_atomically(path, "x")
    assert (tmp_path / "fifo").is_fifo() and sorted(p.name for p in tmp_path.iterdir()) == [
        "fifo",
        "folder",
        "link",
    ]


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("old", encoding="utf-8")
    monkeypatch.setattr(os, step, fails)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text(encoding="utf-8") == "old"


def test_a_folder_that_is_a_file_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=rf"cannot write to '{re.escape(str(tmp_path))}/file'") as caught:
        write_atomically(tmp_path / "file" / "below", "x")
    assert "\n" not in str(caught.value)


def test_long_names_fit(tmp_path: Path):
    name = "n" * 250  # file systems allow 255 bytes, and the temporary name is longer than its target's
    write_atomically(tmp_path / name, "x")
    assert (tmp_path / name).read_text(encoding="utf-8") == "x"


# --- check_writable -----------------------------------------------------------------------------------


def test_a_folder_to_come_is_fine_and_not_made(tmp_path: Path):
    check_writable(tmp_path / "not" / "yet")
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_may_check_one_folder_to_come_at_once(tmp_path: Path):
    """Two workers of a training begin with an empty cache."""
    folders = [tmp_path / "models" / name for name in ("a", "b")] * 200
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(check_writable, folders)] == [None] * 400
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(BadInput, match="link' is not a folder"):
        check_writable(tmp_path / "link" / "below")


def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="name too long"):
        check_writable(tmp_path / ("n" * 300))


def test_a_file_on_the_way_is_named(tmp_path: Path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match=rf"'{re.escape(str(tmp_path))}/file' is not a folder"):
            check_writable(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match=re.escape(str(tmp_path))):
        check_writable(tmp_path / "below")


# --- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, name",
    [
        ("s@0", "s@0"),
        ("magnitude:sparsity=0.5+int8", "magnitude-sparsity=0.5+int8"),
        ("image_gan", "image_gan"),
        ("Org/Model", "org-model-"),
        ("../../etc", "etc-"),
        (".hidden", "hidden-"),
        ("..", "unnamed-"),
        ("", "unnamed-"),
    ],
)
def test_slugs(text: str, name: str):
    """What had to be changed gets a hash, so that no two names share a folder."""
    assert re.fullmatch(re.escape(name) + ("[0-9a-f]{6}" if name.endswith("-") else ""), slug(text))


@settings(derandomize=True, deadline=None)
@given(st.text())
def test_a_slug_is_a_safe_file_name(text: str):
    assert re.fullmatch(r"[a-z0-9_=+@][a-z0-9._=+@-]*", slug(text))
    assert slug(slug(text)) == slug(text)


def test_long_texts_become_names_that_a_file_can_have():
    long, other = "int4:keep=" + "a" * 5000, "int4:keep=" + "a" * 4999
    assert len(slug(long)) == 120 and slug(long) != slug(other) and slug(slug(long)) == slug(long)
    assert slug("a" * 120) == "a" * 120, "a name that fits stays"
    assert re.fullmatch("unnamed-[0-9a-f]{6}", slug("\ud800")), "no UTF-8, as of a command line"


def test_the_cache_lies_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("GENCOMPRESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "gencompress"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "gencompress"


def test_samples_without_content_of_their_own_have_no_digest() -> None:
    """The bytes of an array of objects are addresses."""
    with pytest.raises(BrokenPlugIn, match="samples are of type dict; allowed: texts, and arrays of numbers"):
        content_digest([{"nodes": 3}])
    assert content_digest(["a"]) == content_digest(["a"]) != content_digest([np.zeros(1)])


def test_long_names_are_shortened_and_keep_apart():
    """Also where only letters differ that are cut off; short names stay as they are."""
    plain = ["n" * 300, "n" * 299 + "m", "../" + "Ü" * 400, "../" + "Ü" * 401, "n" * 120]
    slugs = [slug(name) for name in plain]
    assert len(set(slugs)) == len(plain) and max(map(len, slugs)) == LONGEST
    assert slugs[-1] == plain[-1] and shortened("int4", 4) == "int4" and len(shortened("n" * 300, 200)) == 200
