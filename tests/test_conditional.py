"""Conditional models: `--prompts` and `--labels`. Twins share their condition as they share their noise."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pipelines import dit, int4_of, unet, write
from tiny_models import tiny_model, tiny_tokenizer

from bench import api
from bench.cli.main import main
from bench.data import read_conditions
from bench.errors import BadInput
from bench.interfaces import Conditions
from bench.records.schema import read_records
from bench.runner.evaluate_secondary import Wanted
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.util.cache import Cache
from domains.image_diffusion.adapter import DiffusionDomain
from domains.language import sampler
from domains.text import prompts
from domains.text.adapter import TextDomain
from domains.text.data import verses
from domains.text.evaluators import Judge

TEXT, IMAGES = TextDomain(), DiffusionDomain()
PROMPTS = ("And God said, ", "In the beginning", "Blessed are they that mourn: ")


def prompted(texts: tuple[str, ...] = PROMPTS) -> Conditions:
    return Conditions("prompts", texts, "mine.txt")


def labelled(*texts: str) -> Conditions:
    return Conditions("labels", texts, "mine.txt")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "gpt2"
    tiny_tokenizer(tiny_model(folder, "gpt2", n_positions=64))
    (folder / "card.json").write_text('{"sampler": {"max_tokens": 12}}', encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draws pictures of ten classes, far apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = unet(1, 8, num_class_embeds=10)
    with torch.no_grad():
        network.class_embedding.weight.mul_(20)
    return write(tmp_path_factory.mktemp("models") / "unet", "DDIMScheduler", unet=network)


def writer(folder: Path, conditions: Conditions | None) -> Any:
    spec = TEXT.locate(str(folder))
    return TEXT.open(spec) if conditions is None else TEXT.open_conditional(spec, conditions)


def painter(folder: Path, conditions: Conditions) -> Any:
    return IMAGES.open_conditional(IMAGES.locate(str(folder)), conditions)


# ---------------------------------------------------------------------------------------------------- prompts


def test_item_i_continues_prompt_i_mod_their_number(language_model: Path) -> None:
    opened = writer(language_model, prompted())
    texts = opened.sample(opened.network, 9, 0)
    for item, text in enumerate(texts):
        assert text.startswith(PROMPTS[item % 3])
    assert len(set(texts)) == 9, "items of one prompt have noise of their own"
    others = writer(language_model, prompted(PROMPTS[::-1])).sample(opened.network, 9, 0)
    ends = [text.removeprefix(PROMPTS[i % 3]) for i, text in enumerate(texts)]
    other_ends = [text.removeprefix(PROMPTS[2 - i % 3]) for i, text in enumerate(others)]
    assert ends[0] != other_ends[0] and ends[1] == other_ends[1], "the same prompt in the middle"


@pytest.mark.parametrize("cached", [True, False])
def test_twins_depend_on_condition_and_seed_alone(
    language_model: Path, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = writer(language_model, prompted())
    opened.cached = cached
    many = opened.sample(opened.network, 9, 0)
    assert opened.sample(opened.network, 4, 0) == many[:4]
    assert opened.sample(opened.network, 4, 1) != many[:4]
    alone = dataclasses.replace(sampler.SamplerSettings(opened.start, opened.end, 12), batch=1, cached=cached)
    given = {"prompt": opened.prompts.of_item}
    found = dict(sampler.sample_tokens(opened.network, range(9), 0, alone, **given))
    together = dict(
        sampler.sample_tokens(opened.network, range(9), 0, dataclasses.replace(alone, batch=9), **given)
    )
    assert found == together


def test_a_prompt_is_read_as_one_pass_over_the_whole_text_reads_it(language_model: Path) -> None:
    """The first chosen token is the best of the logits behind the prompt with the item's first noise."""
    opened = writer(language_model, prompted())
    settings = sampler.SamplerSettings(opened.start, opened.end, max_tokens=1)
    rows = dict(sampler.sample_tokens(opened.network, range(3), 5, settings, prompt=opened.prompts.of_item))
    for item, tokens in enumerate(opened.prompts.tokens):
        with torch.inference_mode():
            logits = opened.network(torch.tensor([[opened.start, *tokens]])).logits[:, -1]
        best = (logits + sampler.gumbel(5, torch.tensor([item]), 0, logits.shape[1])).argmax().item()
        assert rows[item] == [*tokens, best] if best != opened.end else list(tokens)


def test_an_empty_prompt_is_no_prompt(language_model: Path) -> None:
    plain, empty = writer(language_model, None), writer(language_model, prompted(("",)))
    assert plain.sample(plain.network, 6, 3) == empty.sample(empty.network, 6, 3)


def test_a_text_ends_at_the_last_position(language_model: Path) -> None:
    longest = "a" * 40
    tokens = writer(language_model, None).tokenizer(longest)["input_ids"]
    assert len(tokens) > 20
    opened = writer(language_model, prompted((longest, "b")))
    opened.positions = len(tokens) + 2
    opened.end = None
    settings = sampler.SamplerSettings(opened.start, None, 12, positions=opened.positions)
    rows = dict(sampler.sample_tokens(opened.network, range(2), 0, settings, prompt=opened.prompts.of_item))
    assert len(rows[0]) == len(tokens) + 2 and len(rows[1]) == len(opened.prompts.tokens[1]) + 12


def test_prompts_that_no_model_can_continue_are_refused(language_model: Path) -> None:
    with pytest.raises(BadInput, match=r"prompt 2 of 'mine.txt' has \d+ tokens.*64 positions.*at most 63"):
        writer(language_model, prompted(("a", " ".join(PROMPTS * 20))))
    with pytest.raises(BadInput, match=r"prompt 1 of 'mine.txt' has 4097 characters"):
        prompts.read_prompts(prompted(("a" * 4097,)), str_tokenizer, 300, None, "model")
    with pytest.raises(BadInput, match=r"prompt 1 of 'mine.txt' has token 299.*250 embeddings"):
        prompts.read_prompts(prompted(("a",)), str_tokenizer, 250, None, "model")


def str_tokenizer(text: str, add_special_tokens: bool) -> dict[str, list[int]]:
    return {"input_ids": [299]}


def test_a_continuation_fits_where_real_ones_are_as_surprising() -> None:
    """Real verses behind their own beginnings fit; the same words in disorder do not."""
    judge, real = Judge(directions=False), verses("test")[:100]
    others = [verse for verse in verses("ceiling") if len(verse) > 60][:100]
    begun = [verse[: verse.index(" ", 20)] for verse in others]
    shuffled = []
    for verse, prompt in zip(others, begun, strict=True):
        words = verse[len(prompt) :].split()
        shuffled.append(" ".join([prompt, *np.random.default_rng(0).permutation(words)]))
    assert prompts.fits(judge, others, begun, real).mean() > 0.85
    assert prompts.fits(judge, shuffled, begun, real).mean() < 0.2


def test_the_surprisal_of_a_continuation_is_that_of_the_text_without_its_beginning() -> None:
    judge, texts = Judge(directions=False), verses("test")[:5]
    torch.testing.assert_close(judge.continuation_surprisal(texts, [0] * 5), judge.surprisal(texts))
    lengths = [len(row) - 1 for row in judge.tokenizer(texts)["input_ids"]]  # with the end token
    ends = judge.continuation_surprisal(texts, [len(text) for text in texts])
    most = judge.continuation_surprisal(texts, [len(text) - 1 for text in texts])
    assert ((judge.surprisal(texts) * torch.tensor(lengths)) > ends).all() and not torch.equal(ends, most)


# ----------------------------------------------------------------------------------------------------- labels


def test_item_i_is_of_label_i_mod_their_number(pipeline: Path) -> None:
    two = painter(pipeline, labelled("3", "7"))
    many = two.sample(two.network, 6, 0)
    assert np.array_equal(many[:2], two.sample(two.network, 2, 0))
    threes = painter(pipeline, labelled("3")).sample(two.network, 6, 0)
    assert np.array_equal(many[::2], threes[::2]) and not np.array_equal(many[1::2], threes[1::2])
    assert not np.array_equal(two.sample(two.network, 6, 1), many)


def test_a_labelled_network_is_compressed_and_rebuilt(pipeline: Path, tmp_path: Path) -> None:
    opened = painter(pipeline, labelled("3", "7"))
    inside, outside = int4_of(opened, tmp_path / "file")
    made = opened.sample(outside, 4, 0)
    assert np.array_equal(opened.sample(inside, 4, 0), made)
    assert not np.array_equal(opened.sample(opened.network, 4, 0), made)


def test_a_transformer_takes_labels_or_the_one_for_none(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        folder = write(tmp_path / "model", "DDIMScheduler", transformer=dit(1, 8))
    index = {"id2label": {"0": "tench, Tinca tinca", "4": "hen"}}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    opened = painter(folder, labelled("hen", "Tinca tinca", "2"))
    assert opened.labels.numbers == (4, 0, 2) and opened.labels.classes == 5
    index["id2label"] = {"4": "tench, Tinca tinca", "0": "hen"}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    other = painter(folder, labelled("hen", "Tinca tinca", "2"))
    assert other.labels.numbers == (0, 4, 2) and other.identity() != opened.identity()
    none = IMAGES.open(IMAGES.locate(str(folder)))
    seen: list[list[int]] = []
    none.network.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["class_labels"].tolist()), with_kwargs=True
    )
    opened.sample(none.network, 4, 0)
    assert seen[-1][:4] == [4, 0, 2, 4]
    none.sample(none.network, 4, 0)
    assert seen[-1][:4] == [5] * 4
    assert opened.keeps_condition(np.zeros((4, 1, 28, 28), "u1"), np.zeros(0)) is None, "no ten classes"
    with pytest.raises(BadInput, match=r"label 'cock'.*0 to 4.*model_index\.json, such as"):
        painter(folder, labelled("cock"))


def test_a_picture_keeps_its_label_where_the_labeller_sees_it(pipeline: Path) -> None:
    from domains.images.data import part

    real = part("test")
    assert real.labels is not None
    texts = [str(label) for label in real.labels[:200]]
    opened = painter(pipeline, labelled(*texts))
    assert opened.keeps_condition(real.pixels[:200], real.pixels).mean() > 0.85
    wrong = painter(pipeline, labelled(*(str((int(text) + 1) % 10) for text in texts)))
    assert wrong.keeps_condition(real.pixels[:200], real.pixels).mean() < 0.1


REFUSED: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], str]] = {
    "beyond the classes": (
        lambda f: write(f, "DDIMScheduler", unet=unet(1, 8, num_class_embeds=10)),
        ("0", "10"),
        "label '10' of 'mine.txt' is not possible; allowed: 0 to 9$",
    ),
    "negative": (
        lambda f: write(f, "DDIMScheduler", unet=unet(1, 8, num_class_embeds=10)),
        ("-1",),
        "label '-1'",
    ),
    "unconditional": (
        lambda f: write(f, "DDIMScheduler", unet=unet(1, 8)),
        ("0",),
        "is unconditional; leave out --labels 'mine.txt'",
    ),
    "other embeddings": (
        lambda f: write(f, "DDIMScheduler", unet=unet(1, 8, class_embed_type="timestep")),
        ("0",),
        "class_embed_type='timestep'",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_labels_that_no_network_knows_are_refused(kind: str, tmp_path: Path) -> None:
    make, texts, message = REFUSED[kind]
    make(tmp_path / "model")
    with pytest.raises(BadInput, match=message) as caught:
        painter(tmp_path / "model", labelled(*texts))
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------ files and records


def test_files_of_conditions(tmp_path: Path) -> None:
    text, rows, labels = tmp_path / "a.txt", tmp_path / "a.jsonl", tmp_path / "labels.txt"
    text.write_bytes("\ufeffAnd God \r\n\r\nIn the\u2028beginning\n".encode())
    rows.write_text('{"prompt": "And\\nGod"}\n\n{"prompt": ""}\n', encoding="utf-8")
    labels.write_text(" 3\nhen \n", encoding="utf-8")
    found = read_conditions(text, None)
    assert found == Conditions("prompts", ("And God ", "In the\u2028beginning"), "a.txt")
    assert read_conditions(rows, None) == Conditions("prompts", ("And\nGod", ""), "a.jsonl")
    assert read_conditions(None, labels) == Conditions("labels", ("3", "hen"), "labels.txt")
    assert read_conditions(None, None) is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\n \n", "holds no prompt"),
        ("a.txt", b"\xff", "not UTF-8"),
        ("a.jsonl", b'{"prompt": "a"}\n{"text": "b"}\n', r'line 2 is not \{"prompt": "..."\}'),
        ("a.jsonl", b'{"prompt": "\\ud800"}\n', "line 1 is not"),
    ],
)
def test_files_that_hold_no_conditions(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_conditions(tmp_path / name, None)
    with pytest.raises(BadInput, match="cannot be used together"):
        read_conditions(tmp_path / name, tmp_path / name)
    with pytest.raises(BadInput, match="cannot read conditions"):
        read_conditions(None, tmp_path / "missing")


def session(folder: Path, conditions: Conditions | None) -> ModelSession:
    spec = TEXT.locate(str(folder))
    return ModelSession(TEXT, spec, 12, cache=Cache(use=False), conditions=conditions)


def test_the_conditions_are_part_of_the_cell(language_model: Path) -> None:
    def template(conditions: Conditions | None) -> Any:
        return Evaluation(session(language_model, conditions)).template

    plain, first, second = template(None), template(prompted()), template(prompted(PROMPTS[:2]))
    assert len({cell.hash for cell in (plain, first, second)}) == 3
    assert plain.sampler == writer(language_model, None).settings(), "as before there were conditions"
    assert "metric condition_kept" not in plain.implementation
    said = first.sampler["conditions"]
    assert said == prompted().settings and (said["count"], said["file"]) == (3, "mine.txt")
    many = session(language_model, prompted(PROMPTS * 5))
    assert many.notes() == ["only the first 12 of 15 prompts are used"]


def test_domains_without_conditions_refuse_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "conditions.txt"
    file.write_text("0\n", encoding="utf-8")
    results = ["--results", str(tmp_path / "results")]
    for domain, option, takes in (
        ("toy", "--labels", "no conditions"),
        ("image_gan", "--labels", "no conditions"),
        ("text", "--labels", "--prompts"),
        ("image_diffusion", "--prompts", "--labels"),
    ):
        assert main(["run", "--domain", domain, option, str(file), *results]) == 2
        said = f"error: domain '{domain}' takes no {option}; it takes {takes}\n"
        assert capsys.readouterr().err.endswith(said)
    for command in ("doctor", "compress"):
        extra = ["--output", str(tmp_path / "file")] if command == "compress" else []
        assert main([command, "--domain", "toy", "--labels", str(file), *extra]) == 2
    assert not (tmp_path / "results").exists()


def test_a_run_with_labels_from_start_to_end(
    pipeline: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(DiffusionDomain, "second_evaluators", lambda self: {})  # primary ones suffice
    monkeypatch.setattr(DiffusionDomain, "task", lambda self, device="cpu": None)
    labels, results = tmp_path / "labels.txt", tmp_path / "results"
    labels.write_text("\n".join(map(str, range(10))), encoding="utf-8")
    options = ["--domain", "image_diffusion", "--model", str(pipeline), "--labels", str(labels)]
    assert main(["run", *options, "--method", "int4", "--samples", "12", "--results", str(results)]) == 0
    records = read_records(results)
    assert {record.method for record in records} == {"none", "int4"}
    for record in records:
        assert record.conditions is not None and record.conditions["count"] == 10
        assert "condition_kept" in record.metrics and record.metric_info["condition_kept"].option is None
    again = ["evaluate", "--domain", "image_diffusion", "--results", str(results)]
    capsys.readouterr()
    assert main(again) == 2
    assert "same --prompts or --labels" in capsys.readouterr().err
    same = api.run("image_diffusion", "int4", model=str(pipeline), labels=labels, samples=12, results=results)
    assert {record.cell for record in same} == {record.cell for record in records}, "measured before"
    with pytest.raises(BadInput, match="image_diffusion' takes no --prompts"):
        api.run("image_diffusion", "int4", model=str(pipeline), prompts=labels, results=results)
    wanted = Wanted("image_diffusion", conditions=read_conditions(None, labels))
    assert len(wanted.chosen(records)) == 2
    assert main(["show", records[0].cell[:12], "--results", str(results)]) == 0
    assert "--labels labels.txt" in capsys.readouterr().out
