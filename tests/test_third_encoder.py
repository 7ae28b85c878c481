"""The third encoder: its damages, what it learnt of them, and the study that asks it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import ladder, model

from bench.registry import open_domain
from domains.images.data import part
from domains.images.encoder import SPOILS, posterize, spoil
from domains.images.evaluators import Encoder
from domains.images.third_encoder import HELD_OUT, TRAINED, ThirdEncoder, smear, smear_horizontal
from domains.images.training import generator
from scripts.studies.third_encoder import Found, by_evaluator, cases, cliff, damaged, scored, was_trained

EVERY = {**TRAINED, **HELD_OUT}
PIXELS = part("validation").pixels[:64]
FIVE_PIXELS = torch.full((1, 1, 1, 1), 0.5)


@pytest.mark.parametrize("name", list(EVERY))
def test_a_damage_grows_with_its_strength(name: str) -> None:
    mild, middle, strong = (
        np.abs(damaged(PIXELS, EVERY[name], strength) / 255 - PIXELS / 255).mean()
        for strength in (0.02, 0.5, 1.0)
    )
    assert mild < middle < strong and mild < 0.03


@pytest.mark.parametrize("name", list(cases()))
def test_a_damage_of_the_study_is_the_same_twice_and_gives_pictures(name: str) -> None:
    pixels = part("ceiling").pixels[:60]
    before, once, again = pixels.copy(), cases()[name](pixels), cases()[name](pixels)
    assert once.dtype == np.uint8 and once.shape[1:] == pixels.shape[1:] and 0 < len(once) <= len(pixels)
    assert np.array_equal(once, again) and not np.array_equal(once, pixels)
    assert np.array_equal(before, pixels), "the undamaged pictures changed"


def test_what_is_held_out_is_no_part_of_the_training() -> None:
    assert not set(TRAINED) & set(HELD_OUT) and not set(TRAINED.values()) & set(HELD_OUT.values())
    assert posterize in SPOILS and was_trained("encoder", "posterize")
    assert not any(was_trained("third_encoder", name) for name in HELD_OUT)
    assert was_trained("third_encoder", "rotated 3°") and not was_trained("encoder", "rotated 3°")
    assert was_trained("third_encoder", "smear") and not was_trained("encoder", "smear")


def test_no_smear_of_the_training_is_horizontal() -> None:
    """A horizontal smear leaves a white row as it is; each other direction spreads it over five rows."""
    row = torch.zeros(100, 1, 28, 28)
    row[:, :, 14] = 1
    strength = FIVE_PIXELS.expand(100, 1, 1, 1)
    assert torch.allclose(smear_horizontal(row, strength, generator(0, 0, "x")), row)
    spread = smear(row, strength, generator(0, 0, "x"))
    assert torch.allclose(spread[:, 0, 12:17, 10:18], torch.full((100, 5, 8), 0.2))


def test_a_smear_over_five_pixels_is_the_mean_of_five() -> None:
    point = torch.zeros(1, 1, 28, 28)
    point[..., 14, 14] = 1
    line = smear_horizontal(point, FIVE_PIXELS, generator(0, 0, "x"))
    assert torch.allclose(line[0, 0, 14, 12:17], torch.full((5,), 0.2))
    assert line.sum().item() == pytest.approx(1)


def test_only_the_named_kinds_are_drawn() -> None:
    """One kind, the negative: two of it on one picture give the picture back."""
    x = torch.from_numpy(PIXELS).float() / 255
    drawn = spoil(x, generator(0, 0, "x"), 0.5, (lambda images, strength, noise: 1 - images,))
    same, negative = (torch.isclose(drawn, y, atol=1e-6).flatten(1).all(1) for y in (x, 1 - x))
    assert (same | negative).all() and same.any() and negative.any()


# --- the study ----------------------------------------------------------------------------------------


def test_a_cliff_is_the_mildest_rung_after_which_all_are_lost() -> None:
    found = model("image_gan", diversity=[1.0, 0.99, 0.85, 0.95, 0.8, 0.6, 0.3, 0.1])
    assert cliff(found, 0.9) == "int3", "int5 is low, and int4 is not"
    assert cliff(found, 0.5) == "ternary"
    assert cliff(found, 0.05) == "none"


def test_what_other_weights_measured_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    Found("a", path).add("matrix", "blur", {"encoder": 1.0})
    assert Found("a", path).content["matrix"] == {"blur": {"encoder": 1.0}}
    assert Found("b", path).content["matrix"] == {}


def test_a_ladder_is_scored_as_the_third_encoder_sees_it() -> None:
    """Diversity by its blocks, quality as before."""
    records = ladder("image_gan", quality=0.9, diversity=0.9, seeds=(0,))
    blocks = {}
    for record in ladder("image_gan", diversity=0.4, seeds=(0,)):
        kept = 1.0 if record.method == "none" else 0.4
        said = {"mutual_recall": kept, "retention": kept}
        blocks[record.method] = {
            "third_encoder": record.evaluators["diversity"].model_copy(update={"metrics": said})
        }
    found, score = scored(by_evaluator(records, blocks)["third_encoder"])
    before, score_before = scored({r.method: r for r in records})
    assert found.outcomes["diversity"].mean == pytest.approx([0.4] * 8)
    assert found.outcomes["quality"].mean == pytest.approx(before.outcomes["quality"].mean)
    assert before.outcomes["diversity"].mean == pytest.approx([0.9] * 8, abs=0.01)
    assert score.value < score_before.value


# --- what it learnt -----------------------------------------------------------------------------------


def found_again(encoder: Encoder, whole: np.ndarray, spoilt: np.ndarray) -> float:
    """The share of damaged pictures that lie nearest to their own undamaged one."""
    nearest = torch.cdist(encoder.features(spoilt), encoder.features(whole)).argmin(1)
    return (nearest == torch.arange(len(whole))).float().mean().item()


def test_it_knows_a_picture_after_a_damage_that_neither_was_trained_with() -> None:
    """A shear; of 400 pictures it finds most, and more than the first encoder does."""
    whole = part("ceiling").pixels[:400]
    spoilt = damaged(whole, HELD_OUT["shear"])
    third, first = (found_again(kind(), whole, spoilt) for kind in (ThirdEncoder, Encoder))
    assert third > 0.95 and third > first + 0.05


def test_its_name_and_weights_are_in_its_identity() -> None:
    """Cached features of the first encoder, which is the same class of network, are not taken for its own."""
    evaluator = open_domain("image_gan").evaluator("third_encoder")
    assert (evaluator.name, evaluator.role) == ("third_encoder", "diversity")
    assert len(evaluator.identity()) == 64 and "third_encoder" not in open_domain("image_gan").evaluators()
