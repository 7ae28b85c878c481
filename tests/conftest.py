"""What all tests share: the toy domain as an installed plug-in, caches of their own, and no network."""

from __future__ import annotations

import copy
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.util.memory import keep_freed_memory

if TYPE_CHECKING:
    from bench.interfaces import Generator

TOY = Path(__file__).parent.parent / "examples" / "toy-domain"
FOLDER = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported or collected, since the contract tests are parametrized over the
    registry.
    """
    folder = config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="gencompress-tests-"))
    sys.path[:0] = install_toy(folder / "plugins")
    os.environ["GENCOMPRESS_CACHE"] = str(folder / "cache")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as `python -m bench` does, for the same reason
    keep_freed_memory()  # likewise
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process a core


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(config.stash[FOLDER], ignore_errors=True)


def install_toy(site: Path) -> list[str]:
    """What `pip install -e examples/toy-domain` would do, in a folder that is thrown away -> entries for
    `sys.path`.
    """
    info = site / "toy_domain-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy-domain\nVersion: 0.1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(
        "[gencompress.domains]\ntoy = toy_domain:ToyDomain\n", encoding="utf-8"
    )
    return [str(site), str(TOY)]


@pytest.fixture(scope="module")
def toy_trains_once() -> Iterator[None]:
    """The toy trains for seconds whenever it is opened; here each opening gets a copy of the first."""
    from bench.registry import DOMAINS

    kind, patch, first = DOMAINS.load("toy"), pytest.MonkeyPatch(), trained_toy()
    patch.setattr(kind, "open", staticmethod(lambda spec, device="cpu", settings=None: copy.deepcopy(first)))
    yield
    patch.undo()


@functools.cache
def trained_toy() -> Generator:
    """The toy's network, once a process."""
    from bench.registry import DOMAINS

    kind = DOMAINS.load("toy")
    return kind().open(kind.models["s@0"])


@pytest.fixture
def toy_env(pytestconfig: pytest.Config) -> dict[str, str]:
    """The environment of a subprocess that is to have the toy, too."""
    paths = [str(pytestconfig.stash[FOLDER] / "plugins"), str(TOY), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
