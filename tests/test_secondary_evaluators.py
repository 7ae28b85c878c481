"""The second evaluators' own promises: causality, closed forms, what each was trained for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from domains.images.data import part
from domains.images.pixel_judge import (
    LEVELS,
    PixelJudge,
    PixelJudgeTraining,
    PixelNetwork,
    Recipe,
    excess,
    levels_of,
)
from domains.images.restorer import Restorer, RestorerTraining
from domains.language.convolutional import DILATIONS, ConvJudgeNetwork
from domains.text.data import verses
from domains.text.evaluators import ConvJudge
from domains.text.topics import Topics, counts, vocabulary, weighted


def pictures(n: int = 40) -> np.ndarray:
    return part("validation").pixels[:n]


# --- the pixel evaluator ------------------------------------------------------------------------------


def test_a_pixel_is_predicted_from_those_above_and_to_the_left_alone() -> None:
    torch.manual_seed(0)
    network, levels = PixelNetwork().eval(), levels_of(pictures(2))
    other = levels.clone()
    other[:, :, 10, 5] = (other[:, :, 10, 5] + 7) % LEVELS
    changed = (network(levels) - network(other)).abs().amax((0, 1)) > 0
    assert not changed[:10].any() and not changed[10, :6].any() and changed[10, 6] and changed[11, 4]


def test_excess_is_zero_where_nothing_is_known_and_standardized_where_something_is() -> None:
    """All levels as likely: every loss is the entropy.

    Two pixels of p = 1/4, 3/4: loss ln 4 and ln 4/3, mean and variance by hand.
    """
    assert excess(torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long)).item() == 0
    logits = torch.tensor([0.25, 0.75]).log().reshape(1, 2, 1, 1).expand(1, 2, 1, 2)
    losses = np.array([math.log(4), math.log(4 / 3)])
    entropy = np.dot([0.25, 0.75], losses)
    variance = np.dot([0.25, 0.75], losses**2) - entropy**2
    by_hand = (losses.sum() - 2 * entropy) / math.sqrt(2 * variance)
    assert excess(logits, torch.tensor([[[0, 1]]])).item() == pytest.approx(by_hand, rel=1e-5)


def test_real_pictures_surprise_as_expected_and_noise_far_more() -> None:
    from domains.images.damages import DAMAGES

    evaluator, whole = PixelJudge(), part("ceiling").pixels[:200]
    real, noise = (evaluator.surprisal(x).median() for x in (whole, DAMAGES["noise .1"].apply(whole)))
    assert abs(real) < 1 and noise > 5


def test_hidden_noise_is_drowned_by_the_dither() -> None:
    """The dither follows from the picture: two looks at it are the same."""
    assert torch.equal(levels_of(pictures()), levels_of(pictures())) and levels_of(pictures()).max() < LEVELS


# --- the restorer -------------------------------------------------------------------------------------


def test_a_damaged_picture_keeps_its_place() -> None:
    """Of 500 pictures, nearly each is nearest to its own damaged copy."""
    from domains.images.damages import DAMAGES

    restorer, whole = Restorer(), part("ceiling").pixels[:500]
    clean, damaged = restorer.features(whole), restorer.features(DAMAGES["noise .1"].apply(whole))
    assert (torch.cdist(damaged, clean).argmin(1) == torch.arange(500)).float().mean() > 0.8


@pytest.mark.parametrize("kind", [PixelJudgeTraining, RestorerTraining])
def test_their_recipes_learn_and_resume_to_the_same_bits(kind: type) -> None:
    recipe = Recipe(steps=12, batch=16, learning_rate=2e-3, average=0.5)
    pixels = part("validation").pixels[:64]

    def run(training: object, steps: int) -> object:
        for _ in range(steps):
            training.step()  # type: ignore[attr-defined]
        return training

    through = run(kind(pixels, pixels, recipe), 12)
    half = run(kind(pixels, pixels, recipe), 6)
    resumed = kind(pixels, pixels, recipe)
    resumed.load_state_dict(half.state_dict())  # type: ignore[attr-defined]
    run(resumed, 6)
    states = [t.averages["network"].state_dict() for t in (through, resumed)]  # type: ignore[attr-defined]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    (name, before), (_, after) = (
        next(iter(t.validate().items())) for t in (kind(pixels, pixels, recipe), through)
    )  # type: ignore[attr-defined]
    assert after < before, name


# --- the convolutional evaluator ----------------------------------------------------------------------


def test_a_token_is_predicted_from_those_before_it_within_the_window() -> None:
    torch.manual_seed(0)
    network, tokens = ConvJudgeNetwork(50, 16).eval(), torch.randint(50, (1, 200))
    other = tokens.clone()
    other[0, 20] = (other[0, 20] + 1) % 50
    changed = (network(tokens) - network(other)).abs().amax((0, 2)) > 0
    last = 20 + 2 * sum(DILATIONS)
    assert not changed[:20].any() and changed[20] and changed[last] and not changed[last + 1 :].any()


def test_it_prefers_verses_to_their_words_in_disorder() -> None:
    from domains.text.damages import shuffle_words

    evaluator, whole = ConvJudge(), verses("ceiling")[:60]
    assert (evaluator.surprisal(shuffle_words(whole)) > evaluator.surprisal(whole)).float().mean() > 0.95
    assert evaluator.features(whole).shape == (60, 64)


# --- topics -------------------------------------------------------------------------------------------


def test_topics_are_blind_to_order_case_and_unknown_words() -> None:
    topics = Topics()
    a, b, c, nothing = topics.features(
        [
            "And God said, Let there be light",
            "light be there let SAID god and",
            "And God said, Let there be light qxz",
            "",
        ]
    )
    assert torch.allclose(a, b) and torch.allclose(a, c) and a.norm().item() == pytest.approx(1, abs=1e-6)
    assert not nothing.any()


def test_the_two_parts_of_a_verse_lie_near_each_other() -> None:
    """Of 500 verses: how many other second parts lie nearer to a first part than its own.

    By chance half of them would.
    """
    words = [verse.split() for verse in verses("ceiling")[:500]]
    first, second = (
        Topics().features([" ".join(half(w)) for w in words])
        for half in (lambda w: w[: len(w) // 2], lambda w: w[len(w) // 2 :])
    )
    similar = first @ second.T
    assert (similar > similar.diagonal()[:, None]).sum(1).float().median() < 0.25 * 500


def test_rarity_and_weights_by_hand() -> None:
    found = [counts("a a b"), counts("a b"), counts("a c"), counts("b b b")]
    words, rarity = vocabulary([*found, counts("b")])
    assert words == ["a", "b"] and rarity == pytest.approx([math.log(5 / 3) + 1, math.log(5 / 4) + 1])
    row = weighted(found, words, rarity).toarray()[0]
    by_hand = np.array([(1 + math.log(2)) * rarity[0], rarity[1]])
    assert row == pytest.approx(by_hand / np.linalg.norm(by_hand))
