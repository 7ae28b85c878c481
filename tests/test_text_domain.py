"""The text domain as shipped: corpus, model, evaluators, likelihood."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from bench.artifact.format import tensors_digest
from bench.errors import BadInput
from bench.interfaces import Generator
from domains.text import data
from domains.text.adapter import WEIGHTS, TextDomain
from domains.text.evaluators import Judge, Words

DOMAIN = TextDomain()


@pytest.fixture(scope="module")
def generator() -> Generator:
    return DOMAIN.open(DOMAIN.models["s@0"])


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


def test_parts_share_no_verse_and_no_chapter() -> None:
    texts = {part: set(data.verses(part)) for part in data.PARTS}
    chapters = {part: {(row["book"], row["chapter"]) for row in data.table(part)} for part in data.PARTS}
    for part in data.PARTS:
        for other in data.PARTS:
            assert part == other or (not texts[part] & texts[other] and not chapters[part] & chapters[other])
    assert [len(data.verses(part)) for part in data.PARTS[:3]] == [2000] * 3
    assert all(len(texts[part]) == 2000 for part in data.PARTS[:3])


def test_the_shipped_parts_are_what_the_package_gives() -> None:
    """The split is a function of the corpus alone."""
    parts, facts = data.split(data.read_package())
    assert all([row["text"] for row in rows] == data.verses(part) for part, rows in parts.items())
    origin = json.loads((data.FOLDER / "origin.json").read_text(encoding="utf-8"))
    assert origin["split"] == json.loads(json.dumps(facts)) and facts["verses"] == 31_102


def test_the_model_is_what_its_card_says(generator: Generator) -> None:
    card = json.loads((WEIGHTS / "s@0" / "card.json").read_text(encoding="utf-8"))
    assert tensors_digest(generator.network) == card["weights_sha256"]
    parameters = sum(p.numel() for p in generator.network.parameters())
    assert parameters == card["parameters"] and 400_000 <= parameters <= 600_000
    assert all(torch.equal(p, p.half().float()) for p in generator.network.parameters()), (
        "not rounded to fp16"
    )
    assert generator.settings() == card["sampler"]


def test_the_log_shows_the_recipe(generator: Generator) -> None:
    lines = [
        json.loads(line)
        for line in (WEIGHTS / "s@0" / "training.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    recipe = json.loads((WEIGHTS / "s@0" / "recipe.json").read_text(encoding="utf-8"))
    assert lines[-1]["step"] == recipe["steps"]
    assert lines[-1]["core_seconds"] <= 3600
    assert lines[-1]["validation_bits_per_byte"] < lines[0]["validation_bits_per_byte"]


def test_bits_per_byte_by_hand(generator: Generator) -> None:
    """The batched figure equals the sum over single verses, each scored alone."""
    network, tokenizer = generator.network, generator.tokenizer  # type: ignore[attr-defined]
    texts = data.verses("validation")[:40]
    nats = 0.0
    for text in texts:
        ids = torch.tensor(tokenizer(text)["input_ids"])
        assert ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        with torch.no_grad():
            logits = network(input_ids=ids[None, :-1]).logits[0].double()
        nats -= logits.log_softmax(1)[range(len(ids) - 1), ids[1:]].sum().item()
    expected = nats / math.log(2) / sum(len(text.encode()) for text in texts)
    found = generator.likelihood_of(network, None, texts)  # type: ignore[attr-defined]
    assert found["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_likelihood_beside_the_base(generator: Generator) -> None:
    import copy

    other = copy.deepcopy(generator.network)
    with torch.no_grad():
        next(other.parameters()).mul_(0.9)
    texts, likelihood = data.verses("test")[:50], generator.likelihood_of  # type: ignore[attr-defined]
    same = likelihood(generator.network, generator.network, texts)
    changed = likelihood(other, generator.network, texts)
    assert same["kl_to_base"] == 0 and same["flip_rate"] == 0
    assert changed["kl_to_base"] > 0 and 0 < changed["flip_rate"] < 1
    assert changed["bits_per_byte"] > same["bits_per_byte"]


def test_the_evaluator_prefers_verses_to_shuffled_verses(judge: Judge) -> None:
    from domains.text.damages import shuffle_words

    texts = data.verses("validation")[:100]
    assert (judge.surprisal(texts) < judge.surprisal(shuffle_words(texts))).all()


def test_the_words_do_not_see_order() -> None:
    words = Words()
    a, b = words.means(["and the lord said unto moses", "unto moses and the lord said"])
    assert torch.dot(a, b) > 0.97
    assert words.features(["", "."]).isfinite().all()


def test_odd_texts_are_scored_not_refused(judge: Judge) -> None:
    texts = ["", " ", "\n", "a", "\u4e2d\u6587 \U0001f600", "x" * 3000]
    assert judge.features(texts).isfinite().all() and judge.surprisal(texts).isfinite().all()


@pytest.mark.parametrize(
    ("line", "named"), [("nonsense", "line 2"), ('{"txt": "a"}', "line 2"), ('{"text": 3}', "line 2")]
)
def test_unreadable_samples_are_named(line: str, named: str, tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match=named):
        DOMAIN.read_samples(path)


def test_any_local_causal_language_model_can_be_run(tmp_path: Path) -> None:
    """GPT-2's layers are transformers' Conv1D; its folder is in the hub's own format."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from bench.layers import weights_of

    tokenizer = DOMAIN.open(DOMAIN.models["s@0"]).tokenizer  # type: ignore[attr-defined]
    GPT2LMHeadModel(
        GPT2Config(
            vocab_size=1024, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=1
        )
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    spec = DOMAIN.locate(str(tmp_path))
    opened = DOMAIN.open(spec)
    assert {weight.layer for weight in weights_of(opened.network).values()} == {"Conv1D", "Embedding"}
    assert len(opened.sample(opened.network, 5, 0)) == 5
    assert opened.settings()["max_tokens"] == 31
    assert opened.likelihood(opened.network) == {}, "its context is too short for the longest verse"


def test_a_folder_without_a_tokenizer_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot open the model"):
        DOMAIN.open(DOMAIN.locate(str(tmp_path)))


def test_a_reference_of_the_users_own(tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("\n".join(f"verse number {i}" for i in [*range(40), *range(10)]), encoding="utf-8")
    first, second = DOMAIN.reference("test", str(path)), DOMAIN.reference("ceiling", str(path))
    assert len(first) == len(second) == 20 and not set(first) & set(second)


def test_an_own_reference_is_not_cut_by_the_order_of_its_file(tmp_path: Path) -> None:
    """Sorted texts would give two halves that have nothing in common."""
    (tmp_path / "texts.txt").write_text(
        "\n".join(f"{word} {i}" for word in ("cat", "dog") for i in range(100)), encoding="utf-8"
    )
    halves = [DOMAIN.reference(split, str(tmp_path / "texts.txt")) for split in ("test", "ceiling")]
    cats = [sum(text.startswith("cat") for text in half) for half in halves]
    assert sum(cats) == 100 and min(cats) > 30


def test_twins_are_shown_under_each_other(tmp_path: Path) -> None:
    path = DOMAIN.show({"none": ["a verse", "b"], "int8": ["a horse", "b\n\x07"]}, tmp_path / "twins")
    assert (
        path.read_text(encoding="utf-8") == "none | a verse\nint8 | a horse\n\nnone | b\nint8 | b\\x0a\\x07\n"
    )


def test_equal_tensors_with_another_configuration_are_another_model(
    generator: Generator, tmp_path: Path
) -> None:
    """Otherwise the cache would hand out the samples of one for the other."""
    import shutil

    folder = shutil.copytree(WEIGHTS / "s@0", tmp_path / "copy")
    same = DOMAIN.open(DOMAIN.locate(str(folder)))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["rope_parameters"] = {"rope_type": "default", "rope_theta": 3.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    other = DOMAIN.open(DOMAIN.locate(str(folder)))
    assert tensors_digest(generator.network) == tensors_digest(other.network)
    assert generator.identity() == same.identity() != other.identity()


def test_the_identity_tells_tokenizers_of_one_vocabulary_apart(tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(WEIGHTS / "xs@0", tmp_path / "copy")
    first = DOMAIN.open(DOMAIN.locate(str(folder)))
    rules = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    rules["model"]["merges"] = rules["model"]["merges"][:1]
    (folder / "tokenizer.json").write_text(json.dumps(rules), encoding="utf-8")
    second = DOMAIN.open(DOMAIN.locate(str(folder)))
    assert first.tokenizer.get_vocab() == second.tokenizer.get_vocab()
    assert first.identity() == DOMAIN.open(DOMAIN.models["xs@0"]).identity() != second.identity()
    second.tokenizer(["some verse"], padding=True, truncation=True, max_length=5)
    assert DOMAIN.open(DOMAIN.locate(str(folder))).identity() == second.identity()


@pytest.mark.parametrize(("parameters", "refused"), [(7, False), ("7B", True), (-1, True)])
def test_a_card_of_a_users_folder_is_checked(parameters: object, refused: bool, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(WEIGHTS / "xs@0", tmp_path / "copy")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    (folder / "card.json").write_text(json.dumps({**card, "parameters": parameters}), encoding="utf-8")
    if refused:
        with pytest.raises(BadInput, match=rf"parameters={parameters!r} is not a whole number from 0 on"):
            DOMAIN.locate(str(folder))
    else:
        assert DOMAIN.locate(str(folder)).parameters is None, "the network says it"


def test_a_model_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(WEIGHTS / "s@0", tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match="not whole"):
        DOMAIN.open(DOMAIN.locate(str(folder)))
    (folder / "card.json").write_text('{"sampler": {"temperature": 0}}', encoding="utf-8")
    with pytest.raises(BadInput):
        DOMAIN.open(DOMAIN.locate(str(folder)))
