"""What follows from the two tables of a domain, and how the contracts are written."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from bench import interfaces
from bench.errors import BadInput
from bench.evaluation.panel import find_evaluator
from bench.interfaces import Domain, Evaluator, EvaluatorEntry, Training, TrainingRecipe
from bench.registry import DOMAINS
from domains.folders import GRID

FILES = sorted(Path(interfaces.__file__).parent.glob("*.py"))
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in FILES)
TREE = ast.parse(SOURCE)
CLASSES = [node for node in TREE.body if isinstance(node, ast.ClassDef)]


class Loaded(Evaluator):
    def __init__(self, name: str, role: Any, device: str) -> None:
        self.name, self.role, self.device = name, role, device  # type: ignore[misc]

    def features(self, samples: object) -> Any: ...


def started(key: str, seed: int, data: str | None, device: str) -> Training:
    return cast(Training, (key, seed, data, device))


def entry(name: str, role: Any, use: Any) -> EvaluatorEntry:
    return EvaluatorEntry(role, use, functools.partial(Loaded, name, role))


class Tables(Domain):
    """Only the two tables."""

    name, description = "tables", ""

    def evaluator_table(self) -> Mapping[str, EvaluatorEntry]:
        return {
            "c": entry("c", "quality", "secondary"),
            "b": entry("b", "quality", "primary"),
            "a": entry("a", "diversity", "primary"),
            "d": entry("d", "quality", "optional"),
            "e": entry("e", "quality", "primary"),
        }

    def training_table(self) -> Mapping[str, TrainingRecipe]:
        return {
            "l": TrainingRecipe("large", functools.partial(started, "l"), published_seeds=(1, 0)),
            "encoder": TrainingRecipe("an evaluator", functools.partial(started, "encoder"), seeded=False),
            "s": TrainingRecipe("small", functools.partial(started, "s"), published_seeds=(0,)),
        }


Tables.__abstractmethods__ = frozenset()


def test_evaluators_follow_from_the_table_in_its_order() -> None:
    domain = Tables()
    assert list(domain.evaluators().items()) == [("b", "quality"), ("a", "diversity"), ("e", "quality")]
    assert domain.second_evaluators() == {"c": "quality"}
    for name in "abcde":
        found = find_evaluator(domain, name, "meta")
        assert isinstance(found, Loaded) and (found.name, found.device) == (name, "meta")
    with pytest.raises(BadInput, match="unknown evaluator 'x'; allowed: a, b, c, d, e"):
        domain.evaluator("x")
    with pytest.raises(BadInput, match="unknown evaluator 'x'; allowed: a, b, c, e"):
        find_evaluator(domain, "x")


def test_trainings_follow_from_the_table_in_its_order() -> None:
    domain = Tables()
    assert list(domain.trainings().items()) == [
        ("l@N", "large, training seed N"),
        ("encoder", "an evaluator"),
        ("s@N", "small, training seed N"),
    ]
    assert domain.grid() == ("l@1", "l@0", "s@0")
    assert cast(Any, domain.train("s@12", "mine", "meta")) == ("s", 12, "mine", "meta")
    assert cast(Any, domain.train("encoder", None, "cpu")) == ("encoder", 0, None, "cpu")


@pytest.mark.parametrize(
    "name", ["s", "s@", "s@x", "s@²", "s@-1", "s@1@2", "s@1234567890", "encoder@0", "encoder@", "x@0", ""]
)
def test_a_model_that_no_recipe_makes_is_named(name: str) -> None:
    with pytest.raises(BadInput, match=f"unknown model to train {name!r}.*allowed: encoder, l@0, s@0"):
        Tables().train(name, None, "cpu")


def test_a_domain_without_recipes_trains_nothing() -> None:
    toy = DOMAINS.load("toy")()
    assert toy.trainings() == {} and toy.grid() == ()
    with pytest.raises(LookupError, match="domain 'toy' cannot train 's@0'"):
        toy.train("s@0", None, "cpu")


@pytest.mark.parametrize("name", ["text", "image_gan", "image_diffusion"])
def test_the_published_seeds_of_our_domains_are_those_of_the_grid(name: str) -> None:
    domain = DOMAINS.load(name)()
    assert sorted(Domain.grid(domain)) == sorted(domain.grid()) == sorted(GRID)


# --- how the contracts are written --------------------------------------------------------------------


def documented(node: ast.FunctionDef) -> bool:
    return ast.get_docstring(node) is not None


@pytest.mark.parametrize("node", CLASSES, ids=lambda node: node.name)
def test_every_member_of_a_contract_is_explained(node: ast.ClassDef) -> None:
    lines = SOURCE.splitlines()
    assert ast.get_docstring(node)
    for member in node.body:
        if isinstance(member, ast.FunctionDef):
            assert documented(member), f"{node.name}.{member.name}"
        elif isinstance(member, ast.AnnAssign) and node.name != "Trainable":  # whose `name` is the domain's
            above, line = lines[member.lineno - 2].strip(), lines[member.lineno - 1]
            assert "  # " in line or above.startswith("# "), f"{node.name}: {line}"


def test_contracts_are_written_in_short_sentences() -> None:
    texts = [
        text
        for node in ast.walk(TREE)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node))
    ]
    sentences = [sentence for text in texts for sentence in re.split(r"(?<=[.])\s|\n\n", text)]
    assert len(sentences) > 150
    assert [sentence for sentence in sentences if len(sentence.split()) > 25] == []
    assert not re.search(r"\bjudge", SOURCE)


def test_the_required_part_of_a_domain_fits_on_one_screen_and_comes_first() -> None:
    first, _, rest = inspect.getsource(Domain).partition("    # The required part ends here.")
    assert len(first.splitlines()) <= 50
    assert (
        set(re.findall(r"@abstractmethod\n    def (\w+)", first)) == Domain.__abstractmethods__
        and "abstractmethod\n" not in rest
    )


def test_mix_ins_require_nothing() -> None:
    mix_ins = [
        kind
        for kind in (*Domain.__bases__, *interfaces.Generator.__bases__)
        if kind.__module__.endswith("_parts")
    ]
    assert len(mix_ins) == 14 and not any(
        getattr(kind, "__abstractmethods__", None) or dataclasses.is_dataclass(kind) for kind in mix_ins
    )
