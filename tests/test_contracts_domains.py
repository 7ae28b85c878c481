"""The same contract for every registered domain, the toy among them, and for each of its models."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.artifact.format import rebuild, save, tensors_digest
from bench.errors import BadInput
from bench.evaluation.damage import damage_matrix, failures
from bench.evaluation.verdicts import features_of
from bench.interfaces import (
    Context,
    Direction,
    Domain,
    Evaluator,
    Generator,
    Hurts,
    ModelSpec,
    SampleFeatures,
    Samples,
)
from bench.methods.plain import original
from bench.registry import DOMAINS
from bench.util.cache import content_digest

ROOT = Path(__file__).parent.parent
SPLITS = ("test", "validation", "ceiling")
SMALL = 64  # samples: enough for contracts, too few for any number
# Words that are also other things than a domain: a column and a file format of `datasets`.
HOMONYMS = {("bench/data.py", "text"), ("bench/report/site/samples.py", "text")}  # kinds of data

Opened = tuple[Domain, ModelSpec, Generator]


@pytest.fixture(scope="session", params=list(DOMAINS))
def domain(request: pytest.FixtureRequest) -> Domain:
    return DOMAINS.load(request.param)()


MODELS = [(name, model) for name in DOMAINS for model in DOMAINS.load(name)().models]


@pytest.fixture(scope="session", params=MODELS, ids="/".join)
def opened(request: pytest.FixtureRequest) -> Opened:
    name, model = request.param
    domain = DOMAINS.load(name)()
    return domain, domain.models[model], domain.open(domain.models[model])


EVALUATORS = [
    (name, evaluator)
    for name in DOMAINS
    for evaluator in (*DOMAINS.load(name)().evaluators(), *DOMAINS.load(name)().second_evaluators())
]


@pytest.fixture(scope="session", params=EVALUATORS, ids="/".join)
def pair(request: pytest.FixtureRequest) -> tuple[Domain, Evaluator]:
    name, evaluator = request.param
    domain = DOMAINS.load(name)()
    return domain, domain.evaluator(evaluator)


def items(samples: Samples) -> list[str]:
    return [content_digest([sample]) for sample in samples]


def agree(a: Samples, b: Samples) -> bool:
    """Texts equal; numbers within 1e-5, since another batch size may add float32 numbers in another order."""
    return len(a) == len(b) and all(
        x == y if isinstance(x, str) else np.allclose(x, y, rtol=1e-5, atol=1e-5) for x, y in zip(a, b)
    )


# --- models and generators ----------------------------------------------------------------------------


def test_a_domain_is_registered_under_its_name_and_has_models(domain: Domain) -> None:
    assert DOMAINS.load(domain.name) is type(domain)
    assert domain.description and "\n" not in domain.description
    assert domain.models, "a domain without models skips every contract of generators"
    assert all(spec.name == name for name, spec in domain.models.items())


def test_an_unknown_model_is_named(domain: Domain) -> None:
    assert all(domain.locate(name) == spec for name, spec in domain.models.items())
    with pytest.raises(BadInput, match="no-such@9"):
        domain.locate("no-such@9")


def test_opening_twice_gives_the_same_network(opened: Opened) -> None:
    domain, spec, generator = opened
    again = domain.open(spec)
    assert tensors_digest(again.network) == tensors_digest(generator.network)
    parameters = sum(p.numel() for p in generator.network.parameters())
    assert spec.parameters in (None, parameters)
    assert json.loads(json.dumps(generator.settings())) == again.settings()


def test_the_same_seed_gives_twins(opened: Opened) -> None:
    _, _, generator = opened
    a, b, other = (content_digest(generator.sample(generator.network, 8, seed)) for seed in (0, 0, 1))
    assert a == b != other


def test_noise_does_not_depend_on_the_number_of_samples(opened: Opened) -> None:
    _, _, generator = opened
    assert agree(generator.sample(generator.network, 16, 0)[:8], generator.sample(generator.network, 8, 0))


def test_sampling_leaves_the_network_and_the_global_seed_alone(opened: Opened) -> None:
    _, _, generator = opened
    before, state = tensors_digest(generator.network), torch.random.get_rng_state()
    generator.sample(generator.network, 8, 0)
    assert tensors_digest(generator.network) == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_network_rebuilt_from_the_artifact_makes_the_same_samples(opened: Opened, tmp_path: Path) -> None:
    _, _, generator = opened
    save(original(generator.network), "none", tmp_path / "artifact")
    network = rebuild(tmp_path / "artifact", generator)
    assert network is not generator.network
    assert tensors_digest(network) == tensors_digest(generator.network)
    assert content_digest(generator.sample(network, 8, 0)) == content_digest(
        generator.sample(generator.network, 8, 0)
    )


# --- real samples -------------------------------------------------------------------------------------


def test_the_splits_share_no_sample_with_each_other(domain: Domain) -> None:
    splits = {split: domain.reference(split) for split in SPLITS}
    digests = [digest for samples in splits.values() for digest in items(samples)]
    assert len(set(digests)) == len(digests) == sum(map(len, splits.values()))
    assert min(map(len, splits.values())) >= SMALL
    assert content_digest(domain.reference("test")) == content_digest(splits["test"])


def test_no_held_out_sample_is_a_training_sample(domain: Domain) -> None:
    for split in SPLITS:
        found = domain.is_training_sample(domain.reference(split)[:SMALL])
        if found is None:
            pytest.skip("the training samples are not installed here, or are not known")
        assert len(found) == SMALL and not any(found)


def test_samples_are_read_back_as_written(domain: Domain, tmp_path: Path) -> None:
    samples = domain.reference("test")[:16]
    path = domain.write_samples(samples, tmp_path / "samples")
    assert path.is_file() and path.parent == tmp_path and path.name.startswith("samples")
    assert content_digest(domain.read_samples(path)) == content_digest(samples)


def test_a_users_own_reference_is_read_and_cut(domain: Domain, tmp_path: Path) -> None:
    samples = domain.reference("test")[:SMALL]
    source = str(domain.write_samples(samples, tmp_path / "own"))
    test, ceiling = (set(items(domain.reference(split, source))) for split in ("test", "ceiling"))
    assert test and ceiling and not test & ceiling
    assert test | ceiling <= set(items(samples))


def test_files_that_hold_no_samples_are_named(domain: Domain, tmp_path: Path) -> None:
    (tmp_path / "rubble").write_bytes(bytes(range(256)))
    whole = domain.write_samples(domain.reference("test")[:16], tmp_path / "whole")
    cut = tmp_path / f"cut{whole.suffix}"
    cut.write_bytes(whole.read_bytes()[:-5])
    for name in ("missing", "rubble", cut.name):
        with pytest.raises(BadInput, match=name):
            domain.read_samples(tmp_path / name)


def test_traits_say_one_thing_of_each_sample_by_itself(domain: Domain) -> None:
    samples = domain.reference("test")[:SMALL]
    traits, few = domain.traits(samples), domain.traits(samples[:8])
    assert not traits.keys() & {"surprisal", "rarity"}, "these are there in every domain"
    for name, values in traits.items():
        assert values.shape == (SMALL,) and values.dtype.kind in "biufU", name
        assert values.dtype.kind == "U" or np.isfinite(values).all(), name
        assert values[:8].tolist() == few[name].tolist() == domain.traits(samples)[name][:8].tolist(), name


# --- evaluators ---------------------------------------------------------------------------------------


def test_each_role_has_an_evaluator(domain: Domain) -> None:
    assert set(domain.evaluators().values()) == {"quality", "diversity"}


def test_evaluators_answer_in_the_right_shape_and_repeatably(pair: tuple[Domain, Evaluator]) -> None:
    domain, evaluator = pair
    assert {**domain.evaluators(), **domain.second_evaluators()}[evaluator.name] == evaluator.role
    samples = domain.reference("test")[:SMALL]
    answers = [evaluator.features(samples), evaluator.features(samples)]
    if evaluator.role == "quality":
        answers += [evaluator.surprisal(samples), evaluator.surprisal(samples)]
    for answer, again in zip(answers[::2], answers[1::2]):
        assert answer.shape[0] == SMALL and answer.dtype == torch.float32 and answer.isfinite().all()
        assert torch.equal(answer, again)
    assert [answer.ndim for answer in answers[::2]] == [2, 1][: len(answers) // 2]


def test_secondary_evaluators_differ_from_the_primary_ones(domain: Domain) -> None:
    assert not domain.second_evaluators().keys() & domain.evaluators().keys()


def test_a_task_says_the_same_twice_and_sees_whether_samples_are_varied(domain: Domain) -> None:
    task = domain.task()
    if task is None:
        return
    samples = domain.reference("ceiling")[:500]
    score, again = task.score(samples), task.score(samples)
    assert score.ndim == 1 and len(score) > 100 and np.isfinite(score).all() and np.array_equal(score, again)
    poor = [samples[i % 5] for i in range(500)]
    assert task.score(poor if isinstance(samples, list) else np.stack(poor)).mean() < score.mean()


def test_an_item_is_scored_independently_of_the_others(pair: tuple[Domain, Evaluator]) -> None:
    """Within 1e-4 of the largest value: float32 sums of another batch size may add up in another order."""
    domain, evaluator = pair
    samples = domain.reference("test")[:SMALL]
    questions: list[Callable[[Samples], Tensor]] = [evaluator.features]
    if evaluator.role == "quality":
        questions.append(evaluator.surprisal)
    for ask in questions:
        together, alone = ask(samples), torch.cat([ask(samples[i : i + 1]) for i in range(8)])
        assert (together[:8] - alone).abs().max() <= 1e-4 * together.abs().max()


# --- metrics and damages ------------------------------------------------------------------------------


def test_metrics_are_described_and_finite(domain: Domain) -> None:
    metrics = domain.metrics()
    names = list(domain.evaluators()) if metrics else []
    evaluators = [domain.evaluator(name) for name in names]
    seen = [
        SampleFeatures(samples, {e.name: features_of(e, samples) for e in evaluators})
        for samples in (domain.reference("ceiling")[:SMALL], domain.reference("test")[:SMALL])
    ]
    for name, metric in metrics.items():
        assert metric.name == name and metric.direction in get_args(Direction) and metric.version >= 1
        assert metric.description and not name.startswith(("quality_", "diversity_"))
        assert metric.compute is None or math.isfinite(metric.compute(*seen))


def test_damages_are_repeatable_and_of_both_kinds(domain: Domain) -> None:
    damages = domain.damages()
    assert {"surface", "variety"} <= {damage.hurts for damage in damages.values()} <= set(get_args(Hurts))
    samples = domain.reference("ceiling")[:SMALL]
    before = items(samples)
    for name, damage in damages.items():
        damaged = damage.apply(samples)
        assert items(samples) == before, f"{name} changes its input"
        assert items(damaged) == items(damage.apply(samples)) != before, name
        assert damage.hurts != "variety" or set(items(damaged)) <= set(before), (
            f"{name} must keep each item whole"
        )
        assert damage.milder in (None, "", *damages), name


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "toy" else pytest.mark.slow) for name in DOMAINS]
)
def test_the_evaluators_see_each_damage_and_only_its_kind(name: str) -> None:
    assert failures(damage_matrix(DOMAINS.load(name)(), 500 if name == "toy" else 2000)) == []


def test_a_damage_that_is_not_seen_fails() -> None:
    rows = damage_matrix(DOMAINS.load("toy")(), 500, ["upper half"])
    blind = dataclasses.replace(
        rows[0], damage=dataclasses.replace(rows[0].damage, mutual_recall=(0.98, 1.02))
    )
    assert "upper half: mutual recall" in failures([blind])[0]


# --- isolation ----------------------------------------------------------------------------------------


def test_bench_names_no_domain() -> None:
    named = re.compile(rf"""["']({"|".join(map(re.escape, DOMAINS))})["']|\b(?:from|import) (domains)\b""")
    found = {
        (path.relative_to(ROOT).as_posix(), match[1] or match[2])
        for path in (ROOT / "bench").rglob("*.py")
        for match in named.finditer(path.read_text(encoding="utf-8"))
    }
    assert found - HOMONYMS == set()


def test_a_plug_in_is_found_through_its_entry_point(toy_env: dict[str, str]) -> None:
    """In a process of its own, whose only link to the toy is the metadata on its path."""
    script = (
        "from bench.registry import DOMAINS; import sys; print(*DOMAINS); assert 'torch' not in "
        "sys.modules; DOMAINS.load('toy')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=toy_env,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "toy" in done.stdout.split()


def test_a_broken_plug_in_spoils_only_itself(tmp_path: Path, toy_env: dict[str, str]) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[gencompress.domains]\nbroken = no_such_module:Domain\n", encoding="utf-8"
    )
    script = f"""
import sys; sys.path.append({str(tmp_path)!r})
from bench.errors import BadInput
from bench.registry import DOMAINS
assert "broken" in DOMAINS and DOMAINS.load("toy")
try: DOMAINS.load("broken")
except BadInput as error: print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=toy_env,
        encoding="utf-8",
    )
    assert "broken" in done.stdout and "no_such_module" in done.stdout, done.stderr


def test_the_documentation_lists_the_toy_as_it_is() -> None:
    file = (ROOT / "examples/toy-domain/toy_domain.py").read_text(encoding="utf-8")
    assert len(file.splitlines()) <= 115
    assert f"```python\n{file}```\n" in (ROOT / "docs/adding-a-domain.md").read_text(encoding="utf-8")


def test_the_guides_method_and_metric_run() -> None:
    """Every Python block of the guide is executed; the quantizer compresses, and the metric is a number."""
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/adding-a-domain.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, Any] = {"__name__": "guide"}
    for block in blocks:
        exec(compile(block, "adding-a-domain.md", "exec"), names)
    network = torch.nn.Linear(8, 4)
    for method in (names["BFloat"](), names["PowersOfTwo"]()):
        made = method(original(network), Context())
        assert "weight" in made.touched
        error = (made.tensors["weight"].dequantize() - network.weight).abs().max()
        assert 0 < error < network.weight.abs().max() / 2
    assert names["spread"](SampleFeatures(np.ones((3, 2)) * [1, 2], {}), SampleFeatures(np.eye(3), {})) > 0
