"""The study of what explains how much a network keeps."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch
from made_up import model
from torch import nn

from scripts.studies.explanation import (
    FILE,
    PARTS,
    Heard,
    Share,
    Turns,
    cut,
    divergences,
    drown,
    restore_all_but,
    tails_of,
)
from scripts.studies.explanation_tables import PAGE, filled, tolerance

RATES = (2.0, 3.0)


def test_an_error_is_a_share_of_the_variance() -> None:
    share = Share()
    share.add(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0]))
    assert share.value == pytest.approx(1.0)


def test_a_batch_is_cut_and_a_time_is_not() -> None:
    assert cut(torch.zeros(40, 2)).shape == (16, 2)
    assert cut(torch.tensor(0.5)).shape == () and cut(False) is False


def test_noise_has_the_power_of_each_channels_error() -> None:
    torch.manual_seed(0)
    original, changed = nn.Linear(4000, 2, bias=False), nn.Linear(4000, 2, bias=False)
    with torch.no_grad():
        changed.weight.copy_(original.weight + torch.tensor([[0.1], [0.0]]))
    drown(changed, original)
    error = (changed.weight - original.weight).square().mean(1)
    assert error[0].item() == pytest.approx(0.01, rel=0.1) and error[1] == 0


@pytest.mark.parametrize(("part", "changed_layers"), list(zip(PARTS, ([0, 1], [0], [1]))))
def test_a_part_alone_is_compressed(part: str, changed_layers: list[int]) -> None:
    pair = [nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3)) for _ in range(2)]
    for value, network in enumerate(pair):
        for layer in network:
            nn.init.constant_(layer.weight, value)
    restore_all_but(part, *pair)
    differ = [not torch.equal(a.weight, b.weight) for a, b in zip(*pair)]
    assert [i for i, other in enumerate(differ) if other] == changed_layers


def test_tails_are_those_of_all_weights_of_the_embedding_and_of_the_rest() -> None:
    network = nn.Sequential(nn.Embedding(40, 100), nn.Linear(100, 60))
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network[0].weight.normal_(generator=noise)
        network[0].weight[:, 0] = 30.0
        network[1].weight.uniform_(generator=noise)
    every, embedding, rest = (tails_of(network)[part] for part in PARTS)
    assert embedding > 50 and rest == pytest.approx(-1.2, abs=0.1) and rest < every < embedding
    assert tails_of(network)["largest coordinate"] == pytest.approx(30, rel=0.1)
    assert set(tails_of(network[1:])) == {"all weights", "the rest"}  # no embedding


def test_layers_are_asked_on_the_inputs_of_the_uncompressed_network() -> None:
    original = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    changed = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    changed.load_state_dict(original.state_dict())
    with torch.no_grad():
        changed[0].weight.zero_()
    heard = Heard(original, changed)
    with torch.no_grad():
        original(torch.randn(8, 3))
    heard.close()
    assert heard.outputs["0"].value > 0.1 and heard.outputs["1"].value == 0


def test_two_networks_take_turns_on_each_path() -> None:
    class Named(nn.Module):
        config: dict[str, str] = {}

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def forward(self) -> str:
            return self.name

    turns = Turns(Named("a"), Named("b"), 4, range(2, 4))
    assert "".join(turns() for _ in range(8)) == "aabbaabb"
    alone = Turns(Named("a"), Named("b"), 3, {1})
    assert "".join(alone() for _ in range(6)) == "abaaba"


class Fixed(nn.Module):
    """A language model of two tokens that gives the first one the same odds after each prefix."""

    def __init__(self, odds: float) -> None:
        super().__init__()
        self.logit = math.log(odds)

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.tensor([self.logit, 0.0]).expand(*input_ids.shape, 2))


def test_divergences_are_means_over_items_by_position() -> None:
    kl = divergences(Fixed(3.0), Fixed(1.0), [[0, 1, 1, 1]] * 20)
    wanted = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert kl.tolist() == pytest.approx([wanted] * 3)


def test_the_tolerance_lies_between_the_rungs_around_the_threshold() -> None:
    made = model("text", "s@0", [1.0, 0.8], rates=RATES)
    by_rung = {rung: {"output": 0.01 * 100**i} for i, rung in enumerate(made.rungs)}
    assert tolerance(made, by_rung, "quality") == pytest.approx(0.1), "half-way between .01 and 1"
    assert tolerance(model("text", "s@0", [1.0, 1.0], rates=RATES), by_rung, "quality") == math.inf


def test_the_page_shows_the_measured_figures() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, json.loads(FILE.read_text(encoding="utf-8"))) == page
