"""Hostile inputs: the study's mutations on every reader, and each fault that it has found."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from bench.errors import BadInput
from bench.registry import open_domain
from scripts.studies import hostile

OURS = ("image_gan", "image_diffusion", "text")


@pytest.mark.parametrize("name", OURS)
def test_a_name_longer_than_a_file_can_have_is_unknown(name: str) -> None:
    with pytest.raises(BadInput, match=r"^unknown model "):
        open_domain(name).locate("a" * 5000)


@pytest.mark.parametrize(
    "changes", [{"vocab_size": ""}, {"num_attention_heads": 7}, {"initializer_range": -1e308}]
)
def test_a_configuration_that_lies_is_refused(changes: dict[str, object], tmp_path: Path) -> None:
    text = open_domain("text")
    folder = tmp_path / "model"
    shutil.copytree(text.locate("xs@0").source, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    with pytest.raises(BadInput, match=r"^cannot open the model .*$"):
        text.open(text.locate(str(folder)))


@pytest.fixture(scope="module")
def watch() -> hostile.Watch:
    return hostile.Watch()


@pytest.mark.parametrize("kind", ["texts", "pictures", "records"])
def test_hostile_inputs_are_read_or_refused(kind: str, watch: hostile.Watch) -> None:
    watch.counts.clear()
    hostile.attack(kind, 60, 1, watch, 10.0)
    assert watch.found == {} and set(watch.counts) <= {"accepted", "refused"} and watch.counts["refused"] > 10


def test_what_goes_wrong_is_counted(watch: hostile.Watch) -> None:
    """An error, an execution and a message of two lines do not pass as refusals."""

    def two_lines(data: bytes) -> None:
        raise BadInput("one\ntwo")

    watch.counts.clear()
    watch.feed(lambda data: 1 / 0, b"")
    watch.feed(lambda data: os.system("true"), b"")
    watch.feed(two_lines, b"")
    assert watch.counts == {"other error": 1, "executed": 1, "accepted": 1, "more than one line": 1}
    watch.found.clear()
    assert hostile.mutated(b'{"a": 1}', hostile.Rng(0)) == hostile.mutated(b'{"a": 1}', hostile.Rng(0))
