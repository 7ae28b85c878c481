"""The contracts of `bench/contracts/` for every registered domain, the toy among them, and for each of its
models and evaluators.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plug_ins import members

from bench.artifact.format import tensors_digest
from bench.contracts import domain as of_domain
from bench.contracts import evaluator as of_evaluator
from bench.contracts import generator as of_generator
from bench.contracts import real_samples
from bench.contracts.contract import Skipped
from bench.contracts.evaluator import Loaded
from bench.contracts.generator import Opened
from bench.errors import NeedsReference
from bench.evaluation.damage import damage_matrix, failures
from bench.interfaces import Context, Domain, SampleFeatures
from bench.methods.plain import original
from bench.registry import DOMAINS, open_domain
from domains.folders import card_of

ROOT = Path(__file__).parent.parent
# Words that are also other things than an installed domain: a column, a file format of `datasets`.
HOMONYMS = {
    ("bench/data.py", "text"),
    ("bench/report/site/samples.py", "text"),  # kinds of data
    ("bench/contracts/new.py", "toy"),  # the template
}


@pytest.fixture(scope="session", params=list(DOMAINS))
def domain(request: pytest.FixtureRequest) -> Domain:
    return open_domain(request.param)


def in_a_minute(name: str, model: str) -> bool:
    """Not the larger models, nor those that differ from another one by their training seed alone. Diffusion
    models call their network often, so theirs is the smallest.
    """
    size, at, seed = model.partition("@")
    largest = "xs" if name == "image_diffusion" else "s"
    return not at or (size in ("xs", largest) and seed == "0")


MODELS = [
    pytest.param(pair, marks=() if in_a_minute(*pair) else pytest.mark.slow, id="/".join(pair))
    for pair in members(lambda domain: domain.models)
]


@pytest.fixture(scope="session", params=MODELS)
def opened(request: pytest.FixtureRequest) -> Opened:
    name, model = request.param
    domain = DOMAINS.load(name)()
    return Opened(domain, domain.models[model], domain.open(domain.models[model]))


EVALUATORS = members(lambda domain: [*domain.evaluators(), *domain.second_evaluators()])


@pytest.fixture(scope="session", params=EVALUATORS, ids="/".join)
def loaded(request: pytest.FixtureRequest) -> Loaded:
    name, evaluator = request.param
    domain = DOMAINS.load(name)()
    try:
        return Loaded(domain, evaluator, domain.evaluator(evaluator))
    except NeedsReference as reason:
        pytest.skip(str(reason))


def keep(contract: Callable[..., None], subject: object) -> None:
    """The contract itself raises where it is broken; what cannot be checked here is skipped."""
    try:
        contract(subject)
    except (Skipped, NeedsReference) as reason:
        pytest.skip(str(reason))


def each(contracts: Sequence[Callable[..., None]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("contract", contracts, ids=lambda contract: contract.__name__)


@each([*of_domain.CONTRACTS, *real_samples.CONTRACTS])
def test_a_domain_keeps_each_contract(domain: Domain, contract: Callable[..., None]) -> None:
    keep(contract, domain)


@each(of_generator.CONTRACTS)
def test_a_model_keeps_each_contract(opened: Opened, contract: Callable[..., None]) -> None:
    keep(contract, opened)


def test_a_models_weights_are_those_that_its_card_names(opened: Opened) -> None:
    """Models without a card, such as the toy's, are made in code."""
    if not (known := card_of(Path(opened.spec.source))):
        pytest.skip("has no card")
    assert tensors_digest(opened.generator.network) == known["weights_sha256"]


@each(of_evaluator.CONTRACTS)
def test_an_evaluator_keeps_each_contract(loaded: Loaded, contract: Callable[..., None]) -> None:
    keep(contract, loaded)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "toy" else pytest.mark.slow) for name in DOMAINS]
)
@each(of_domain.LONG_CONTRACTS)
def test_a_domain_keeps_the_long_contracts(name: str, contract: Callable[..., None]) -> None:
    keep(contract, DOMAINS.load(name)())


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


WRECKED = """
class Domain:
    name = "wrecked"
    def __init__(self): raise OSError("no data")
"""


def test_a_plug_in_that_cannot_be_opened_fails_as_its_own_test(
    tmp_path: Path, toy_env: dict[str, str]
) -> None:
    """It stops neither the collection of the contract tests nor those of the other plug-ins."""
    info = tmp_path / "wrecked-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wrecked\nVersion: 1\n", encoding="utf-8")
    points = "[gencompress.domains]\nwrecked = wrecked:Domain\n[gencompress.methods]\ngone = gone:Method\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (tmp_path / "wrecked.py").write_text(WRECKED, encoding="utf-8")
    env = {**toy_env, "PYTHONPATH": f"{tmp_path}:{toy_env['PYTHONPATH']}"}
    files = ["test_contracts_domains.py", "test_contracts_methods.py", "test_damages.py"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-k", "its_name_is_that"]
        + [f"tests/{file}" for file in files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env,
        encoding="utf-8",
    )
    last = done.stdout.splitlines()[-1]
    assert f"{len(DOMAINS)} passed" in last and "1 error" in last, done.stdout
    assert "domain 'wrecked' (wrecked:Domain) cannot be opened: OSError: no data" in done.stdout


@pytest.mark.parametrize(
    ("example", "most"),
    [
        ("toy-domain/toy_domain.py", 115),
        ("bfloat-method/bfloat_method.py", 40),
        ("spread-metric/spread_metric.py", 20),
    ],
)
def test_the_documentation_lists_the_examples_as_they_are(example: str, most: int) -> None:
    file = (ROOT / "examples" / example).read_text(encoding="utf-8")
    assert len(file.splitlines()) <= most
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
    assert names["METRIC"].name == "spread"
    assert names["spread"](SampleFeatures(np.ones((3, 2)) * [1, 2], {}), SampleFeatures(np.eye(3), {})) > 0
