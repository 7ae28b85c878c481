"""Training-time methods with the recipes of the domains: named networks, teachers, rates, stops."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_network import bits
from test_image_training import HELD_OUT, PIXELS, flow, gan, tiny_unet
from torch import nn
from toy_training import TrainableToy
from trained_networks import Killed, SmallGenerator, Toy, apply, dying, parametrized, read_back, same

from bench.errors import BadInput, Unsupported
from bench.interfaces import TRAINED_ON, StructureEdit, Training, Wrap
from bench.layers import weights_of
from bench.methods.fake_quantize import FakeQuantize
from bench.registry import open_domain
from bench.runner.sweep import Request, run


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this test alone."""
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def few_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch norm's statistics of the GAN from few batches."""
    monkeypatch.setattr("domains.image_gan.training.STATISTICS_BATCHES", 2)


class Pair(SmallGenerator):
    """A generator whose recipe trains two networks, as image_gan's does."""

    def __init__(self) -> None:
        made = gan()
        super().__init__(made.networks["generator"])
        self.discriminator = made.networks["discriminator"]

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        return copy.deepcopy(self.network)

    def training(self, network: nn.Module, seed: int, wrap: Wrap | None = None, **options: Any) -> Training:
        like = gan()
        pair = network, copy.deepcopy(self.discriminator)
        teacher = options.get("teacher")
        self.started.append(
            type(like)(*pair, PIXELS, HELD_OUT, seed, like.recipe, wrap=wrap, teacher=teacher)
        )
        return self.started[-1]


class Flow(SmallGenerator):
    """A generator with image_diffusion's recipe."""

    def __init__(self) -> None:
        super().__init__(tiny_unet())

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        return tiny_unet()

    def training(self, network: nn.Module, seed: int, wrap: Wrap | None = None, **options: Any) -> Training:
        like = flow()
        self.started.append(
            type(like)(
                network, PIXELS, HELD_OUT, seed, like.recipe, wrap=wrap, teacher=options.get("teacher")
            )
        )
        return self.started[-1]


VERSES = ["In the beginning God created the heaven and the earth.", "And the evening was the day."] * 20


@pytest.fixture
def few_verses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the validation part."""
    monkeypatch.setattr("domains.text.recipes.verses", lambda split: VERSES[:4])


def llama() -> nn.Module:
    """Two thousand weights; input and output share the embedding."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


class Words:
    """A tokenizer of the first twenty characters."""

    def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0, *(2 + ord(c) % 60 for c in text[:20]), 1] for text in texts]}


class Writer(SmallGenerator):
    """A generator with text's recipe, on few verses."""

    def __init__(self) -> None:
        super().__init__(llama())

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        return llama()

    def training(self, network: nn.Module, seed: int, wrap: Wrap | None = None, **options: Any) -> Training:
        from domains.text.recipes import VerseTraining

        self.started.append(VerseTraining(network, Words(), VERSES, seed, wrap, options.get("teacher")))
        return self.started[-1]


def quantized(network: nn.Module) -> set[str]:
    return {
        name
        for name, module in network.named_modules()
        if hasattr(module, "parametrizations") and isinstance(module.parametrizations.weight[0], FakeQuantize)
    }


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ("generator", {"generator"}),
        ("discriminator", {"discriminator"}),
        ("both", {"generator", "discriminator"}),
    ],
)
def test_exactly_the_named_networks_are_quantized(
    named: str, expected: set[str], few_statistics: None
) -> None:
    generator = Pair()
    made = apply(f"qat:grid=binary,networks={named},budget=0.1", generator)
    (training,) = generator.started
    for name, network in training.networks.items():
        every = {
            weight.rpartition(".")[0]
            for weight in weights_of(generator.network if name == "generator" else generator.discriminator)
        }  # type: ignore[arg-type]
        assert quantized(network) == (every if name in expected else set()), name
    assert {name for name, stored in made.tensors.items() if stored.quantized} == (
        set(weights_of(generator.network)) if "generator" in expected else set()
    )
    assert {name: stored.shape for name, stored in made.tensors.items()} == {
        name: tuple(tensor.shape) for name, tensor in generator.network.state_dict().items()
    }


def test_a_network_that_the_recipe_lacks_is_named() -> None:
    with pytest.raises(BadInput, match=r"discriminator.*generator"):
        apply("qat:networks=discriminator", SmallGenerator())
    with pytest.raises(BadInput, match=r"'critic'.*both, discriminator, generator"):
        apply("qat:networks=critic", Pair())


def test_a_run_refuses_unknown_networks_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError("something was measured")

    results = tmp_path / "results"
    monkeypatch.setattr("bench.runner.sweep.attempt", measured)
    with pytest.raises(BadInput, match=r"networks= of 'qat' 'discriminator'; allowed: generator"):
        run(Request("toy", methods=("int8", "qat:networks=discriminator"), results=results), print)
    assert not results.exists() or [*results.iterdir()] == []


def test_the_gan_names_the_networks_of_its_recipe() -> None:
    from domains.image_gan.adapter import GanGenerator

    assert GanGenerator.trained_networks == tuple(gan().networks)


def test_a_language_model_of_others_has_no_recipe_here(tmp_path: Path) -> None:
    from domains.text.adapter import TextDomain

    domain = TextDomain()
    shutil.copytree(Path(domain.models["xs@0"].source), tmp_path / "model")
    (tmp_path / "model" / "recipe.json").unlink()
    opened = domain.open(domain.locate(str(tmp_path / "model")))
    for scratch in (False, True):
        with pytest.raises(LookupError, match=r"trains this domain's own networks, and .* is another"):
            opened.training(opened.network, 0, scratch=scratch)


@pytest.mark.parametrize("name", ["text", "image_gan", "image_diffusion", "image_tokens"])
def test_a_model_that_was_trained_on_other_data_has_no_recipe_here(name: str, tmp_path: Path) -> None:
    domain = open_domain(name)
    folder = shutil.copytree(domain.models["xs@0"].source, tmp_path / "model")
    (folder / TRAINED_ON).write_text('{"data": "mine"}', encoding="utf-8")
    opened = domain.open(domain.locate(str(folder)))
    with pytest.raises(LookupError, match="was trained on data of the user's, and the recipe has others"):
        opened.training(opened.network, 0)


def gan_folder(folder: Path) -> Any:
    from domains.image_gan.adapter import GanDomain

    made = gan()
    made.step()
    made.freeze(folder)
    (folder / "discriminator.safetensors").unlink()
    domain = GanDomain()
    return domain.open(domain.locate(str(folder)))


def test_a_folder_without_a_discriminator_trains_from_scratch_only(
    few_statistics: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domains.images.data.training_part", lambda: type("", (), {"pixels": PIXELS})())
    tiny = gan().networks["discriminator"]
    monkeypatch.setattr("domains.image_gan.training.fresh_pair", lambda size, seed: (None, tiny))
    generator = gan_folder(tmp_path / "model")
    with pytest.raises(Unsupported, match="holds no discriminator to train further against"):
        apply("qat:grid=int4", generator)
    made = apply("qat:grid=binary,start=scratch,budget=0.0002", generator)
    assert made.trainings[0]["steps"] == 2


def moved(training: Training, factor: float | None) -> float:
    """How far a first step moves the generator's weights, at most."""
    network = training.networks["generator"]
    before = [p.detach().clone() for p in network.parameters()]
    if factor is not None:
        training.scale_rates(factor)
    training.step()
    return max((p - old).abs().max().item() for p, old in zip(network.parameters(), before))


@pytest.mark.parametrize("recipe", [gan, flow, lambda: TrainableToy.training(Toy(), Toy().network, 0)])
def test_a_rate_scales_the_step_of_every_optimizer(recipe: Callable[[], Training]) -> None:
    assert moved(recipe(), 0.5) == pytest.approx(moved(recipe(), None) / 2, rel=0.02)


def test_rate_is_passed_to_the_recipe() -> None:
    def largest_change(text: str) -> float:
        toy = Toy()
        made = read_back(apply(text, toy))
        return max((made[name] - p).abs().max().item() for name, p in toy.network.named_parameters())

    assert largest_change("finetune:budget=0.1,rate=0.001") < 0.01 * largest_change("finetune:budget=0.1")
    with pytest.raises(Unsupported, match="'finetune' needs a training recipe: SmallTraining cannot change"):
        apply("finetune:rate=2", SmallGenerator())


def test_a_teacher_that_equals_the_network_adds_nothing() -> None:
    toy = object.__new__(TrainableToy)
    toy.device = "cpu"
    toy.network = toy.rebuild()
    trainings = [
        toy.training(toy.network, 0),
        toy.training(toy.network, 0, teacher=copy.deepcopy(toy.network)),
    ]
    assert "teacher" not in trainings[0].step()
    like = flow()
    unet = type(like)(tiny_unet(), PIXELS, HELD_OUT, 0, like.recipe, teacher=tiny_unet())
    alone = type(like)(tiny_unet(), PIXELS, HELD_OUT, 0, like.recipe)
    taught, free = unet.step(), alone.step()
    assert taught.pop("teacher") == 0.0 and taught == free
    assert unet.step()["teacher"] > 0
    stronger = type(like)(tiny_unet(), PIXELS, HELD_OUT, 0, like.recipe, teacher=tiny_unet())
    stronger.teaching *= 2
    identities = {one.identity() for one in (alone, unet, stronger)}
    assert len(identities) == 3, "a checkpoint of another teaching is never continued"


def test_the_text_recipe_has_a_teacher_and_rates(few_verses: None) -> None:
    free = Writer().training(llama(), 0, teacher=llama()).step()
    assert free["teacher"] == pytest.approx(0, abs=1e-6)
    alone, taught = (Writer().training(llama(), 0, teacher=one) for one in (None, llama()))
    assert alone.identity() != taught.identity()
    assert moved(Writer().training(llama(), 0), 0.1) == pytest.approx(
        moved(Writer().training(llama(), 0), None) / 10, rel=0.02
    )


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Writer, "qat:grid=int4,teacher,budget=0.0001"),
        (Flow, "qat:grid=ternary,teacher,budget=0.1"),
        (Pair, "qat:grid=int4,teacher,budget=0.1"),
    ],
)
def test_the_recipes_train_quantized_and_taught(
    kind: type[Writer | Flow | Pair], text: str, few_verses: None, few_statistics: None
) -> None:
    generator = kind()
    made = apply(text, generator)
    assert made.trainings[0]["steps"] == 2 and made.trainings[0]["log"][-1]["teacher"] > 0
    values, tensors = parametrized(generator.started[0].finished()), read_back(made)
    assert values.keys() - {"lm_head.weight"} == set(weights_of(generator.network))
    for name in weights_of(generator.network):
        assert bits(values[name]) == bits(tensors[name]), name


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Writer, "qat:grid=binary,teacher,budget=0.00025"),
        (Flow, "qat:grid=ternary,anneal=0.5,budget=0.25"),
        (Flow, "prune_train:sparsity=0.8,budget=0.25"),
        pytest.param(Pair, "qat:grid=int4,teacher,budget=0.25", marks=pytest.mark.slow),
        (Pair, "qat:grid=binary,networks=both,budget=0.25"),
    ],
)
def test_a_stopped_recipe_goes_on_to_the_same_file(
    kind: type[Writer | Flow | Pair],
    text: str,
    few_verses: None,
    few_statistics: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.training.train.CHECKPOINT_EVERY_S", -1.0)
    whole = apply(text, kind())
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "another"))
    training = type(kind().training(kind().network, 0))
    done = dying(monkeypatch, training, 2)
    with pytest.raises(Killed):
        apply(text, kind())
    assert same(whole, apply(text, kind())) and done == [0, 1, 2, 2, 3, 4]
