"""The domain `pictures`: models and real pictures of the user's, in their own size and colours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_foreign_gans import package
from test_foreign_gans import write as write_gan
from test_pipelines import unet, vae
from test_pipelines import write as write_pipeline

from bench.cli.main import commands
from bench.contracts import domain as of_domain
from bench.contracts import evaluator as of_evaluator
from bench.contracts import generator as of_generator
from bench.contracts import real_samples
from bench.contracts.check import attempt, check
from bench.contracts.evaluator import Loaded
from bench.contracts.generator import Opened
from bench.errors import BadInput, NeedsReference
from bench.evaluation.damage import damage_matrix, failures
from bench.evaluation.panel import Panel, find_evaluator
from bench.records.schema import read_records
from bench.util.cache import content_digest
from domains.images.data import part
from domains.images.files import as_it_is, read, to_image, write
from domains.pictures.adapter import PicturesDomain
from domains.pictures.generators import COMPARABLE

__all__ = ["package"]  # a fixture
COUNT = 210


def tinted(count: int, side: int = 32) -> np.ndarray:
    """Garments in colour before a darker ground: uint8 [count, 3, side, side]."""
    random, made = np.random.default_rng(0), []
    for picture in part("test").pixels[:count]:
        image = Image.fromarray(picture[0]).resize((side, side), Image.Resampling.BICUBIC)
        cloth = np.asarray(image)[None] / 255
        colour, ground = random.uniform(0.3, 1, (3, 1, 1)), random.uniform(0, 0.4, (3, 1, 1))
        made.append(np.rint(255 * (colour * cloth + ground * (1 - cloth))).clip(0, 255).astype(np.uint8))
    return np.stack(made)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of pictures in colour."""
    folder = tmp_path_factory.mktemp("reference")
    for i, picture in enumerate(tinted(COUNT)):
        to_image(picture).save(folder / f"{i}.png")
    return str(folder)


@pytest.fixture(scope="module")
def domain(reference: str) -> PicturesDomain:
    return PicturesDomain(reference)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of the same size and colours, untrained."""
    plain: dict[str, Any] = {"down_block_types": ("DownBlock2D",), "block_out_channels": (4,)}
    folder = write_pipeline(tmp_path_factory.mktemp("m"), "DDIMScheduler", unet=unet(side=32, **plain))
    (folder / "card.json").write_text('{"sampler": {"steps": 1}}', encoding="utf-8")
    return folder


def bench(*words: object) -> Any:
    return CliRunner().invoke(commands, [str(word) for word in words])


# -------------------------------------------------------------------------------------- models and pictures


def test_a_pipeline_draws_in_its_own_size_and_colours(model: Path, domain: PicturesDomain) -> None:
    opened = domain.open(domain.locate(str(model)))
    made = opened.sample(opened.network, 3, 0)
    assert made.shape == (3, 3, 32, 32) and made.dtype == np.uint8 and len(np.unique(made, axis=0)) == 3
    assert opened.notes() == [COMPARABLE]
    with pytest.raises(LookupError, match="no recipe"):
        opened.training(opened.network, 0)


def test_the_decoder_of_a_latent_pipeline_is_named_too(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path, "DDIMScheduler", unet=unet(4, 8), vae=vae())
    opened = PicturesDomain().open(PicturesDomain().locate(str(folder)))
    assert opened.notes()[0] == COMPARABLE and "vae/AutoencoderKL decodes" in opened.notes()[1]


@pytest.mark.parametrize("arguments", [{"side": 24}, {"channels": 1, "side": 28}], ids=str)
def test_a_gan_draws_in_its_own_size_and_colours(arguments: dict[str, Any], package: Path) -> None:
    domain = PicturesDomain()
    opened = domain.open(domain.locate(str(write_gan(package, arguments))))
    made = opened.sample(opened.network, 2, 0)
    side = arguments["side"]
    assert made.shape == (2, arguments.get("channels", 3), side, side)


@pytest.mark.parametrize(("channels", "side"), [(3, 16), (1, 32)])
def test_a_model_of_another_size_or_colours_than_the_reference_is_refused(
    channels: int, side: int, domain: PicturesDomain, tmp_path: Path
) -> None:
    folder = write_pipeline(tmp_path, "DDIMScheduler", unet=unet(channels, side))
    drawn = f"{'grey' if channels == 1 else 'colour'} pictures of {side}x{side}"
    with pytest.raises(BadInput, match=rf"draws {drawn}, .* holds colour pictures of 32x32") as caught:
        domain.open(domain.locate(str(folder)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "s@0", "a" * 5000])
def test_another_model_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BadInput, match=r"^unknown model .*diffusers pipeline") as caught:
        PicturesDomain().locate(name)
    assert "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------- the reference


def test_the_parts_share_nothing_and_depend_on_no_name(domain: PicturesDomain, tmp_path: Path) -> None:
    parts = {split: domain.reference(split) for split in ("test", "ceiling", "validation")}
    assert {len(pictures) for pictures in parts.values()} == {COUNT // 3}
    assert len({content_digest([p]) for pictures in parts.values() for p in pictures}) == COUNT
    shuffled = write(tinted(COUNT)[::-1], tmp_path / "shuffled")
    again = PicturesDomain().reference("ceiling", str(shuffled))
    assert np.array_equal(again, parts["ceiling"])


def test_a_reference_of_several_sizes_or_few_pictures_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 9)).save(tmp_path / "b.png")
    with pytest.raises(BadInput, match=r"b\.png' has 8x9 pixels, and .*a\.png' 8x8; allowed: one size"):
        PicturesDomain(str(tmp_path)).reference()
    (tmp_path / "b.png").unlink()
    with pytest.raises(BadInput, match="holds 1 different pictures; allowed: 60 or more"):
        PicturesDomain(str(tmp_path)).reference()


def test_files_keep_sizes_and_colours(tmp_path: Path) -> None:
    colour = tinted(4, 20)
    assert np.array_equal(read(write(colour, tmp_path / "colour"), as_it_is), colour)
    assert np.array_equal(read(write(colour[:, :1], tmp_path / "grey"), as_it_is), colour[:, :1])
    for mode, channels in (("L", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3)):
        assert as_it_is(Image.new(mode, (5, 4))).shape == (channels, 4, 5), mode
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    to_image(colour[0]).save(mixed / "a.png")
    to_image(colour[1, :1]).save(mixed / "b.png")
    found = read(mixed, as_it_is)
    assert np.array_equal(found[0], colour[0]) and (found[1] == colour[1, :1]).all()


# ------------------------------------------------------------------------------------------- the evaluators


def test_the_evaluators_see_damage_to_these_pictures_and_to_their_colours(domain: PicturesDomain) -> None:
    names = ["noise .02", "noise .1", "blur 2 px", "checkerboard .1", "ten copies of a tenth", "no colour"]
    rows = {row.name: row for row in damage_matrix(domain, 60, names)}
    assert [*rows] == names and failures([*rows.values()]) == []
    grey = rows["no colour"]
    assert grey.valid < 0.9 * grey.valid_ceiling and grey.mutual_recall < 0.2
    assert rows["ten copies of a tenth"].valid > 0.7


def test_grey_pictures_have_no_damages_of_colour(tmp_path: Path) -> None:
    source = str(write(part("test").pixels[:60], tmp_path / "grey"))
    assert {"no colour", "noise .1"} - PicturesDomain(source).damages().keys() == {"no colour"}


def test_another_reference_gives_other_keys(domain: PicturesDomain, tmp_path: Path) -> None:
    """Evaluators that were fitted on other pictures are others, and so are the cells of their records."""
    other = PicturesDomain(str(write(tinted(COUNT)[:180], tmp_path / "other")))
    for name in domain.evaluators():
        assert domain.evaluator(name).identity() != other.evaluator(name).identity()
    ours, theirs = (Panel(one, 40, reference=one.source).implementation() for one in (domain, other))
    assert ours != theirs


def test_an_image_model_of_the_hub_is_fitted_on_these_pictures(
    domain: PicturesDomain, tmp_path: Path
) -> None:
    from transformers import ViTConfig, ViTModel

    size = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    with torch.random.fork_rng(devices=[]):  # of untrained networks, a few see it the other way round
        torch.manual_seed(0)
        ViTModel(ViTConfig(**size, image_size=28, patch_size=14)).save_pretrained(tmp_path)
    here, published = (find_evaluator(d, str(tmp_path)) for d in (domain, _gan()))
    assert here.identity() != published.identity()
    samples = domain.reference("test")[:8]
    assert here.features(samples).isfinite().all()
    # in the middle of the pictures that it was fitted on, and far from garments in grey
    assert here.surprisal(samples).median() < published.surprisal(samples).median()


def _gan() -> Any:
    from domains.image_gan.adapter import GanDomain

    return GanDomain()


# --------------------------------------------------------------------------------------------- the commands


def test_a_run_says_what_compares_and_stays_out_of_the_ranking(
    model: Path, reference: str, tmp_path: Path
) -> None:
    options = ["--domain", "pictures", "--model", model, "--reference", reference, "-n", 60]
    done = bench("run", *options, "--method", "int4", "--results", tmp_path)
    assert done.exit_code == 0, done.output
    assert f"note: {COMPARABLE}" in done.output
    records = read_records(tmp_path)
    assert {r.method: r.status for r in records} == {"none": "ok", "int4": "ok"}
    assert all(r.reference.startswith("own:") for r in records)
    assert "not compared yet" not in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")


def test_real_pictures_score_like_other_real_ones(
    domain: PicturesDomain, reference: str, tmp_path: Path
) -> None:
    file = domain.write_samples(domain.reference("ceiling")[:60], tmp_path / "real")
    done = bench("score", "--domain", "pictures", "--samples", file, "--reference", reference, "--json")
    found = json.loads(done.stdout)
    assert found["metrics"] == found["ceiling"] and found["metrics"]["quality_valid"] > 0.7
    grey = write(domain.reference("ceiling")[:60, :1], tmp_path / "grey")
    refused = bench("score", "--domain", "pictures", "--samples", grey, "--reference", reference)
    assert isinstance(refused.exception, BadInput)
    assert "holds grey pictures of 32x32, and --reference" in str(refused.exception)


@pytest.mark.parametrize(
    "words",
    [("run", "--model", "MODEL"), ("score", "--samples", "FILE"), ("damages",), ("doctor", "-m", "MODEL")],
)
def test_without_a_reference_one_line_says_so(words: tuple[str, ...], model: Path, tmp_path: Path) -> None:
    file = write(tinted(60), tmp_path / "samples")
    given = {"MODEL": str(model), "FILE": str(file)}
    done = bench(*[given.get(word, word) for word in words], "--domain", "pictures")
    assert isinstance(done.exception, NeedsReference)
    assert str(done.exception) == "domain 'pictures' ships no real samples: name yours with --reference"


def test_the_list_says_what_it_needs() -> None:
    (line,) = [line for line in bench("list", "domains").output.splitlines() if line.startswith("pictures ")]
    assert "--model FOLDER" in line and "--reference FOLDER" in line


# -------------------------------------------------------------------------------------------- its contracts


def test_without_a_reference_no_contract_is_broken_and_the_reason_is_said() -> None:
    outcomes = list(check("pictures"))
    assert [str(o) for o in outcomes if o.status == "broken"] == []
    assert all(
        "ships no" in o.said or "both are the user's" in o.said for o in outcomes if o.status == "skipped"
    )


def test_with_a_reference_it_keeps_the_contracts(domain: PicturesDomain, model: Path) -> None:
    spec = domain.locate(str(model))
    subjects = [(contract, domain) for contract in (*of_domain.CONTRACTS, *real_samples.CONTRACTS)]
    opened = Opened(domain, spec, domain.open(spec))
    subjects += [(contract, opened) for contract in of_generator.CONTRACTS]  # type: ignore[misc]
    for name in domain.evaluators():
        loaded = Loaded(domain, name, domain.evaluator(name))
        subjects += [(contract, loaded) for contract in of_evaluator.CONTRACTS]  # type: ignore[misc]
    outcomes = [attempt(contract, "pictures", subject) for contract, subject in subjects]
    left = {outcome.contract for outcome in outcomes if outcome.status != "kept"}
    assert left <= {
        "it ships models under their names",
        "no held out sample is a training sample",
        "its figures are declared",
        "a cell is measured",
    }, [str(o) for o in outcomes if o.status != "kept"]


def test_a_domain_with_models_must_ship_real_samples() -> None:
    class Half(PicturesDomain):
        models = {"s@0": None}  # type: ignore[dict-item]

    outcome = attempt(of_domain.it_ships_models_under_their_names, "half", Half())
    assert outcome.status == "broken" and "ships models and no real samples" in outcome.said
