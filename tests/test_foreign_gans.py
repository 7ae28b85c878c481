"""GANs of others: a class that the user allows, weights that are data, and what a folder alone cannot do."""

from __future__ import annotations

import json
import linecache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_model

from bench.artifact.format import fill, rebuild, save
from bench.errors import BadInput
from bench.interfaces import Context
from bench.methods.notation import parse
from bench.methods.plain import original
from domains.image_gan.adapter import GanDomain
from domains.image_gan.foreign import TRUST

MODULE = """
import pathlib
import torch
from torch import nn

pathlib.Path(__file__).with_name("imported").touch()

class Dcgan(nn.Module):
    def __init__(self, channels=3, side=16, width=8, noisy=False, pair=False):
        super().__init__()
        self.side, self.noisy, self.pair = side, noisy, pair
        self.first = nn.ConvTranspose2d(6, width, 4, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, latents):
        x = self.norm(self.first(latents)).relu()
        x = nn.functional.interpolate(x, size=self.side)
        images = self.last(x).tanh()
        images = images + torch.rand_like(images) if self.noisy else images
        return (images, latents) if self.pair else images

def factory():
    return Dcgan()

class NoNetwork:
    pass
"""
CONFIG: dict[str, Any] = {"class": "other_gans:Dcgan", "latent": [6, 1, 1]}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package, whose class the user allows."""
    import sys

    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "other_gans.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "other_gans", raising=False)
    monkeypatch.setenv(TRUST, "other_gans:Dcgan, other_gans:factory,other_gans:NoNetwork,os:system")
    return folder


def write(package: Path, arguments: dict[str, Any] | None = None, **config: Any) -> Path:
    """A model folder whose weights fit the arguments."""
    import importlib

    folder = package.parent / "model"
    folder.mkdir(exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = importlib.import_module("other_gans").Dcgan(**arguments or {})
    save_model(network, str(folder / "model.safetensors"))
    given = {"arguments": arguments} if arguments is not None else {}
    (folder / "config.json").write_text(json.dumps({**CONFIG, **given, **config}), encoding="utf-8")
    return folder


def open_folder(folder: Path) -> Any:
    domain = GanDomain()
    return domain.open(domain.locate(str(folder)))


@pytest.mark.parametrize(
    "arguments", [None, {}, {"channels": 1}, {"channels": 1, "side": 28}, {"side": 64}], ids=str
)
def test_a_folder_is_sampled_compressed_and_rebuilt(arguments: dict[str, Any] | None, package: Path) -> None:
    opened = open_folder(write(package, arguments))
    assert len(opened.notes()) == (arguments != {"channels": 1, "side": 28})
    made = opened.sample(opened.network, 3, 0)
    assert made.shape == (3, 1, 28, 28) and made.dtype == np.uint8 and len(np.unique(made, axis=0)) == 3
    assert np.array_equal(opened.sample(opened.network, 101, 0)[:3], made)
    method = parse("int4+recalibrate")
    compressed = method(original(opened.network), Context(opened))
    save(compressed, "int4+recalibrate", package / "file")
    network = opened.rebuild(())
    fill(network, compressed.tensors)
    again = rebuild(package / "file", opened)
    assert np.array_equal(opened.sample(network, 3, 0), opened.sample(again, 3, 0))
    assert compressed.tensors["first.weight"].quantized and compressed.tensors["last.weight"].quantized


def test_large_pictures_are_calibrated_in_smaller_batches(package: Path) -> None:
    small, large = (open_folder(write(package, {"side": side})) for side in (64, 256))
    shapes = [[args[0].shape[0] for args, _ in opened.calibration(0)] for opened in (small, large)]
    assert shapes[0] == [250] * 20 and max(shapes[1]) <= 250 // 16 and sum(shapes[1]) > 4900


def test_an_edit_of_a_module_that_the_class_builds_on_is_another_identity(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    source = "from other_gans import Dcgan\nclass Mine(Dcgan):\n    pass\n"
    (package / "my_gans.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv(TRUST, "my_gans:Mine,other_gans:Dcgan")
    folder, found = write(package, {"channels": 1}), []
    (folder / "config.json").write_text(
        json.dumps({**CONFIG, "class": "my_gans:Mine", "arguments": {"channels": 1}}), encoding="utf-8"
    )
    for text in (MODULE, MODULE, MODULE.replace("side=16", "side=17")):
        (package / "other_gans.py").write_text(text, encoding="utf-8")
        for name in ("my_gans", "other_gans"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        linecache.clearcache()
        found.append(open_folder(folder).identity())
    assert found[0] == found[1] != found[2]


def test_the_range_of_the_pixels_is_the_folders(package: Path) -> None:
    plain = open_folder(write(package))
    halved = open_folder(write(package, range=[-1, 3]))
    a, b = (opened.sample(opened.network, 3, 0).astype(int) for opened in (plain, halved))
    assert np.abs(a / 2 - b).max() <= 1.5, "white is at twice the distance from black"
    assert plain.identity() != halved.identity()


def test_an_entry_point_of_an_installed_package_allows_a_class(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TRUST)
    folder = write(package, **{"class": "dcgan"})
    with pytest.raises(BadInput, match=r"'dcgan'.*not allowed to run"):
        open_folder(folder)
    about = package / "other_gans-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: other-gans\nVersion: 1.0\n", encoding="utf-8"
    )
    (about / "entry_points.txt").write_text(
        "[gencompress.networks]\ndcgan = other_gans:Dcgan\n", encoding="utf-8"
    )
    assert open_folder(folder).sample(open_folder(folder).network, 1, 0).shape == (1, 1, 28, 28)


def test_a_folder_alone_runs_nothing(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a class that is installed, nor a file beside the model or in the current folder."""
    import sys

    folder = write(package)
    (package / "imported").unlink()
    monkeypatch.delenv(TRUST)
    monkeypatch.delitem(sys.modules, "other_gans")
    monkeypatch.chdir(package)
    for name in ("other_gans:Dcgan", "other_gans.Dcgan", "os:system", "torch.nn:Linear", ""):
        (folder / "config.json").write_text(json.dumps({**CONFIG, "class": name}), encoding="utf-8")
        with pytest.raises(BadInput, match=rf"not allowed to run.*{TRUST}.*gencompress\.networks") as caught:
            open_folder(folder)
        assert "\n" not in str(caught.value)
    assert not (package / "imported").exists()


def test_pickled_weights_are_not_opened(package: Path) -> None:
    folder = write(package)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "model.pt")
    with pytest.raises(BadInput, match=r"config\.json and model\.safetensors"):
        open_folder(folder)
    torch.save({}, folder / "model.safetensors")
    with pytest.raises(BadInput, match="cannot open the model"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"class": 3}, "names no class"),
        ({"class": "other_gans:factory"}, "is no class of torch.nn.Module"),
        ({"class": "other_gans:NoNetwork"}, "is no class of torch.nn.Module"),
        ({"class": "os:system", "arguments": {"command": "touch x"}}, "is no class of torch.nn.Module"),
        ({"arguments": {"wide": 3}}, "cannot be built.*wide"),
        ({"arguments": [3]}, "'arguments' is not a JSON object"),
        ({"arguments": {"width": 9}}, "cannot open the model"),
        ({"latent": None}, "latent=None is neither a number nor a shape"),
        ({"latent": [6, 0]}, r"latent=\[6, 0\] is neither"),
        ({"latent": [2**30]}, "more than 1048576 numbers"),
        ({"latent": 6}, "cannot draw"),
        ({"range": [1, -1]}, "white that is not above its black"),
        ({"range": "pixels"}, r"is not \[black, white\]"),
        ({"latents": 6}, "unknown key 'latents' .did you mean 'latent'"),
    ],
    ids=str,
)
def test_bad_configurations_are_refused_in_one_line(
    config: dict[str, Any], message: str, package: Path
) -> None:
    folder = write(package)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}), encoding="utf-8")
    with pytest.raises(BadInput, match=message) as caught:
        open_folder(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noisy": True}, "draws noise of its own"),
        ({"pair": True}, "gives tuple.*wants a tensor"),
        ({"channels": 4}, r"gives \[2, 4, 16, 16\]"),
        ({"side": [16, 32]}, r"gives \[2, 3, 16, 32\]"),
    ],
    ids=str,
)
def test_outputs_that_cannot_be_measured_are_refused_when_opened(
    arguments: dict[str, Any], message: str, package: Path
) -> None:
    with pytest.raises(BadInput, match=message):
        open_folder(write(package, arguments))


def test_others_generators_have_no_recipe_here(package: Path) -> None:
    opened = open_folder(write(package))
    with pytest.raises(LookupError, match="without a discriminator"):
        opened.training(opened.network, 0)
    assert opened.auxiliary_scores(opened.sample(opened.network, 1, 0)) == {}
