"""`--evaluator`: evaluators whose weights are not shipped, on tiny models saved in the hub's own format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.errors import BadInput
from bench.evaluation.panel import Panel, find_evaluator
from bench.registry import DOMAINS
from domains.images.data import part
from domains.text.data import verses


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained, another architecture than the generators'."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from domains.language.network import train_tokenizer

    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_embd=80, n_layer=1, n_head=2, n_positions=128)
    ).save_pretrained(folder)
    train_tokenizer(verses("validation")[:200], 300).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["vit", "dinov2"])
def image_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

    size: dict[str, Any] = dict(
        hidden_size=80,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=80,
        image_size=28,
        patch_size=14,
    )
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    (
        ViTModel(ViTConfig(**size)) if request.param == "vit" else Dinov2Model(Dinov2Config(**size))
    ).save_pretrained(folder)
    return folder


def test_a_language_model_scores(language_model: Path) -> None:
    evaluator = find_evaluator(DOMAINS.load("text")(), str(language_model))
    texts = [*verses("test")[:20], "", "\ud7ffodd"]
    features, surprisal = evaluator.features(texts), evaluator.surprisal(texts)
    assert evaluator.role == "quality" and features.shape == (22, 64) and surprisal.shape == (22,)
    assert features.dtype == surprisal.dtype == torch.float32 and features.isfinite().all()
    # untrained: as good as a guess among 300 tokens
    assert surprisal.mean() == pytest.approx(np.log(300), rel=0.05)
    assert torch.allclose(evaluator.features(texts[5:6]), features[5:6], atol=1e-5)


def test_its_surprisal_is_the_models_own_loss(language_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    evaluator = find_evaluator(DOMAINS.load("text")(), str(language_model))
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(language_model),
        AutoTokenizer.from_pretrained(language_model),
    )
    text = verses("test")[3]
    ids = torch.tensor([tokenizer(text)["input_ids"]])  # the tokenizer adds start and end
    assert evaluator.surprisal([text]).item() == pytest.approx(
        model(input_ids=ids, labels=ids).loss.item(), rel=1e-5
    )


def test_an_image_model_scores(image_model: Path) -> None:
    evaluator = find_evaluator(DOMAINS.load("image_gan")(), str(image_model))
    pictures = part("test").pixels[:20]
    features, surprisal = evaluator.features(pictures), evaluator.surprisal(pictures)
    assert (
        evaluator.role == "quality"
        and features.shape == (20, 64)
        and surprisal.shape == (20,)
        and features.isfinite().all()
    )
    assert torch.allclose(evaluator.features(pictures[5:6]), features[5:6], atol=1e-3)
    noise = np.random.default_rng(0).integers(0, 256, (20, 1, 28, 28), dtype=np.uint8)
    # its directions were fitted on real pictures
    assert evaluator.surprisal(noise).min() > surprisal.median()


VIT: dict[str, Any] = dict(
    **dict(hidden_size=80, num_hidden_layers=1, num_attention_heads=2, intermediate_size=80),
    **dict(image_size=28, patch_size=14),
)


def test_a_classifier_is_read_without_the_pooler_that_its_file_lacks(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    ViTForImageClassification(ViTConfig(**VIT)).save_pretrained(tmp_path)
    domain, pictures = DOMAINS.load("image_gan")(), part("test").pixels[:4]
    first, second = (find_evaluator(domain, str(tmp_path)) for _ in range(2))
    assert first.identity() == second.identity()
    assert torch.equal(first.features(pictures), second.features(pictures))


def test_image_models_that_are_not_whole_or_not_square_or_draw_noise_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import ViTConfig, ViTMAEConfig, ViTMAEModel, ViTModel

    torch.manual_seed(0)
    ViTModel(ViTConfig(**VIT)).save_pretrained(tmp_path / "vit")
    wide = json.loads((tmp_path / "vit" / "config.json").read_text(encoding="utf-8"))
    for size, said in (([28, 28], None), ([28, 14], "allowed: one side in pixels"), ("a", "cannot open")):
        config = {**wide, "image_size": size}
        (tmp_path / "vit" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        if said is None:
            assert find_evaluator(DOMAINS.load("image_gan")(), str(tmp_path / "vit")).role == "quality"
            continue
        with pytest.raises(BadInput):
            find_evaluator(DOMAINS.load("image_gan")(), str(tmp_path / "vit"))
    (tmp_path / "vit" / "config.json").write_text(json.dumps(wide), encoding="utf-8")
    tensors = load_file(tmp_path / "vit" / "model.safetensors")
    del tensors["encoder.layer.0.output.dense.weight"]
    save_file(tensors, tmp_path / "vit" / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"not whole: its file lacks 1 tensors, 'layers"):
        find_evaluator(DOMAINS.load("image_gan")(), str(tmp_path / "vit"))
    ViTMAEModel(ViTMAEConfig(**{**VIT, "patch_size": 7})).save_pretrained(tmp_path / "mae")
    with pytest.raises(BadInput, match="sees the same picture differently each time"):
        find_evaluator(DOMAINS.load("image_gan")(), str(tmp_path / "mae"))


def test_a_language_model_reads_no_further_than_its_positions(tmp_path: Path) -> None:
    """MPT calls them max_seq_len."""
    from transformers import MptConfig, MptForCausalLM

    from domains.language.network import train_tokenizer

    torch.manual_seed(0)
    shape: dict[str, Any] = dict(d_model=80, n_heads=2, n_layers=1, vocab_size=300, max_seq_len=32)
    MptForCausalLM(MptConfig(**shape)).save_pretrained(tmp_path)
    train_tokenizer(verses("validation")[:200], 300).save_pretrained(tmp_path)
    evaluator = find_evaluator(DOMAINS.load("text")(), str(tmp_path))
    assert evaluator.surprisal([verses("test")[0] * 20]).isfinite().all()


def test_what_it_is_is_part_of_what_is_remembered(language_model: Path, tmp_path: Path) -> None:
    """Other weights under the same name are another evaluator: for the cache of features, and for floors
    and ceilings.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(language_model)
    torch.nn.init.normal_(model.transformer.wte.weight)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(language_model).save_pretrained(other)
    domain = DOMAINS.load("text")()
    first, second = (find_evaluator(domain, str(folder)) for folder in (language_model, other))
    assert len(first.identity()) == 64 and first.identity() != second.identity()
    named = [
        list(Panel(domain, 50, roles={str(folder): "quality"}).implementation(own=False))
        for folder in (language_model, other)
    ]
    assert named[0][-1].split()[-1] == first.identity()[:12] and named[0] != named[1]


def test_the_same_weights_under_another_configuration_are_another_evaluator_and_elsewhere_the_same(
    image_model: Path, tmp_path: Path
) -> None:
    shutil.copytree(image_model, tmp_path / "moved")
    shutil.copytree(image_model, tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "other" / "config.json").write_text(
        json.dumps({**config, "layer_norm_eps": 0.1}), encoding="utf-8"
    )
    domain = DOMAINS.load("image_gan")()
    first, moved, other = (
        find_evaluator(domain, str(folder)).identity()
        for folder in (image_model, tmp_path / "moved", tmp_path / "other")
    )
    assert len(first) == 64 and first == moved != other


@pytest.mark.parametrize("domain", ["text", "image_gan"])
def test_what_is_no_model_is_refused_in_a_line(domain: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput) as error:
        find_evaluator(DOMAINS.load(domain)(), str(tmp_path / "empty"))
    assert "\n" not in str(error.value) and "empty" in str(error.value)
    with pytest.raises(BadInput, match="unknown evaluator 'nonsense'"):
        find_evaluator(DOMAINS.load(domain)(), "nonsense")


def test_a_language_model_is_no_image_model(language_model: Path) -> None:
    with pytest.raises(BadInput, match="is no image model: it takes 'input_ids'"):
        find_evaluator(DOMAINS.load("image_gan")(), str(language_model))


def test_inception_without_weights_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch_fidelity.feature_extractor_inceptionv3 as theirs

    def cannot(*arguments: Any, **options: Any) -> None:
        raise OSError("no network\nat all")

    monkeypatch.setattr(theirs, "FeatureExtractorInceptionV3", cannot)
    with pytest.raises(BadInput, match="cannot be had: no network"):
        find_evaluator(DOMAINS.load("image_gan")(), "inception")


def test_inception_scores_with_a_network_of_its_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its 24 M weights cannot be had here: a small network that takes and gives the same stands in."""
    import domains.images.inception

    class Small(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            assert images.dtype == torch.uint8 and images.shape[1:] == (3, 28, 28)
            return (torch.nn.functional.adaptive_avg_pool2d(images.float(), 10)[:, :, :, :].flatten(1),)

    monkeypatch.setattr(domains.images.inception, "load_inception", lambda: Small())
    evaluator = find_evaluator(DOMAINS.load("image_gan")(), "inception")
    assert evaluator.name == "inception" and evaluator.features(part("test").pixels[:10]).shape == (10, 64)
