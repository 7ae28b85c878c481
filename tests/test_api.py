"""The Python API: its page and its docstrings run as doctests, and bad input is named in one line."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import api
from bench.errors import BadInput

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def test_the_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testmod(api)
    assert (failed, tried) == (0, 3)


@pytest.mark.usefixtures("toy_trains_once")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(PAGE), module_relative=False, optionflags=OPTIONS)
    assert failed == 0 and tried > 15
    assert {path.name for path in tmp_path.iterdir()} == {"network.genc", "my-results"}


def test_importing_it_loads_no_torch() -> None:
    script = "import sys; from bench import api; assert 'torch' not in sys.modules and api.load"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_a_list_of_samples_scores_as_its_file_does(tmp_path: Path) -> None:
    points = np.random.default_rng(0).standard_normal((60, 2)).astype("f4")
    np.save(tmp_path / "points.npy", points)
    found = api.score(points, domain="toy")
    assert found == api.score(str(tmp_path / "points.npy"), domain="toy") and found["samples"] == 60


def test_bad_input_is_named(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 4)
    with pytest.raises(BadInput, match="these are no samples of 'text'"):
        api.score([object()], domain="text")
    with pytest.raises(BadInput, match="line 1 is not"):
        api.score([1, 2], domain="text")
    with pytest.raises(BadInput, match="unknown domain 'no'"):
        api.run(domain="no")
    with pytest.raises(BadInput, match=r"unknown tensor 'head'.*allowed: bias, weight"):
        api.compress(module, "int4", tmp_path / "a", exclude=["head"])
    with pytest.raises(BadInput, match=r"cannot be applied to Linear: .*no running statistics"):
        api.compress(module, "int4+recalibrate", tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    file = api.compress(module, "int4", tmp_path / "a")
    with pytest.raises(BadInput, match="does not fit the network"):
        api.load(file, into=torch.nn.Linear(4, 5))
    with pytest.raises(BadInput, match="not an artifact"):
        (tmp_path / "b").write_bytes(b"x" * 100)
        api.load(tmp_path / "b")
