"""The recipe learns, and a run that is killed and resumed ends with the same weights as one that was not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench.errors import BadInput
from bench.interfaces import Domain, Training
from bench.training import train as training
from domains.language.gru import JudgeNetwork
from domains.language.training import Corpus, Recipe, SequenceTraining, epoch, schedule

VERSES = [[0, 2 + i % 7, 3 + i % 5, 4 + i % 3, 1] for i in range(64)]


class TinyTraining(SequenceTraining):
    def __init__(self, seed: int = 0, muon: float | None = 0.02) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = JudgeNetwork(vocabulary=16, width=8, states=12)
        super().__init__(
            network,
            Corpus(VERSES, VERSES[:16], 100),
            Recipe(steps=40, batch=8, warmup=5, muon_learning_rate=muon, average=0.9),
            seed,
        )

    def freeze(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        torch.save(self.averaged().state_dict(), folder / "weights.pt")


class Killed(BaseException):
    pass


class TinyDomain(Domain):
    """Only what `train` asks for."""

    name = "tiny"
    stop_at: int | None = None

    def train(self, name: str, data: str | None, device: str) -> Training:
        made = TinyTraining()
        if self.stop_at is not None:
            step, stop_at = made.step, self.stop_at

            def dying() -> dict[str, float]:
                if made.step_number == stop_at:
                    raise Killed
                return step()

            made.step = dying  # type: ignore[method-assign]
        return made


TinyDomain.__abstractmethods__ = frozenset()


def test_it_learns() -> None:
    made = TinyTraining()
    before = made.validate()["bits_per_byte"]
    for _ in range(40):
        made.step()
    assert made.validate()["bits_per_byte"] < 0.95 * before


@pytest.mark.parametrize("muon", [None, 0.02])
def test_a_resumed_run_ends_with_the_same_weights(muon: float | None) -> None:
    whole, first, second = (TinyTraining(muon=muon) for _ in range(3))
    for _ in range(20):
        whole.step()
    for _ in range(9):  # stops within an epoch
        first.step()
    second.load_state_dict(first.state_dict())
    for _ in range(11):
        second.step()
    assert all(
        torch.equal(a, b) for a, b in zip(whole.averaged().parameters(), second.averaged().parameters())
    )


@pytest.mark.parametrize("every_s", [0.0, 1e9], ids=["with a checkpoint", "before the first checkpoint"])
def test_train_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_s: float) -> None:
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", every_s)
    for case in ("whole", "killed"):
        monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / case))
        domain = TinyDomain()
        if case == "killed":
            domain.stop_at = 17
            with pytest.raises(Killed):
                training.train(domain, "x", None, tmp_path / case / "out")
            assert not (tmp_path / case / "out").exists()
            domain.stop_at = None
        final = training.train(domain, "x", None, tmp_path / case / "out")
        assert final["step"] == 40
    whole, killed = (
        torch.load(tmp_path / case / "out" / "weights.pt", weights_only=True) for case in ("whole", "killed")
    )
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    logs = [
        (tmp_path / case / "out" / "training.jsonl").read_text(encoding="utf-8").splitlines()
        for case in ("whole", "killed")
    ]
    figures = [
        [{k: v for k, v in json.loads(line).items() if k != "core_seconds"} for line in log] for log in logs
    ]
    assert figures[0] == figures[1]
    spreads = {"loss_sd", "gradient_norm", "gradient_norm_p99"}
    assert {"step", "loss", "validation_bits_per_byte"} | spreads == set(figures[0][0])


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_checkpoint_is_named_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path))
    monkeypatch.setattr(training, "CHECKPOINT_EVERY_S", 0.0)
    domain = TinyDomain()
    domain.stop_at = 5
    with pytest.raises(Killed):
        training.train(domain, "x", None, tmp_path / "out")
    (checkpoint,) = tmp_path.rglob("checkpoint.pt")
    checkpoint.write_bytes(damage)
    with pytest.raises(BadInput, match=r"cannot be read .*if it is damaged, delete it") as error:
        training.train(domain, "x", None, tmp_path / "out")
    assert str(checkpoint) in str(error.value) and "\n" not in str(error.value)


def test_every_verse_is_seen_once_an_epoch_in_another_order() -> None:
    tokens = [[0] * (1 + i % 9) for i in range(230)]
    first, second = epoch(tokens, 8, 0, 0), epoch(tokens, 8, 0, 1)
    assert sorted(i for batch in first for i in batch) == list(range(230))
    assert first != second and first == epoch(tokens, 8, 0, 0)
    assert first != epoch(tokens, 8, 1, 0)


def test_the_schedule_warms_up_and_ends_near_zero() -> None:
    recipe = Recipe(steps=1000, warmup=100)
    assert schedule(0, recipe) == pytest.approx(0.01, rel=1e-3)
    assert schedule(99, recipe) > 0.95
    assert schedule(999, recipe) < 1e-5


def test_other_steps_stretch_the_schedule_and_other_data_are_another_training() -> None:
    short, other = TinyTraining(), TinyTraining(seed=1)
    before = short.identity()
    short.shorten(10)
    assert schedule(9, short.recipe) < 0.1 < schedule(9, TinyTraining().recipe)
    assert len({before, short.identity(), other.identity()}) == 3
