"""Ordinary mistakes of a plug-in's author: each is one line that names the plug-in, and none is accepted."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.cli.main import main
from bench.errors import BadInput, BrokenPlugIn
from bench.evaluation.panel import Panel, find_evaluator
from bench.interfaces import (
    Compressed,
    Context,
    Damage,
    EvaluatorEntry,
    Generator,
    Method,
    Metric,
    ModelSpec,
)
from bench.methods.notation import parse
from bench.registry import DOMAINS, METHODS, open_all, open_domain
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.runner.sweep import attempt
from bench.util.cache import Cache

N = 60
Toy: Any = DOMAINS.load("toy")
toy: Any = sys.modules[Toy.__module__]
SPEC = ModelSpec("own", "nowhere", parameters=6)


class Points(Generator):
    """Points of the plane, moved by one linear layer that changes nothing."""

    def __init__(self) -> None:
        self.network = self.rebuild(())

    def rebuild(self, structure: Any) -> torch.nn.Module:
        layer = torch.nn.Linear(2, 2)
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
        return layer

    def sample(self, network: Any, n: int, seed: int) -> Any:
        points = torch.from_numpy(toy.real_points(n, 100 + seed))
        return network(points).detach().numpy()


class Own(Toy):  # type: ignore[misc]
    """The toy domain with a model that needs no training."""

    models: Mapping[str, ModelSpec] = {"own": SPEC}
    generator: type[Generator] = Points

    def open(self, spec: ModelSpec, device: str = "cpu", settings: Any = None) -> Generator:
        return self.generator()


def with_evaluator(**members: Any) -> Own:
    """The domain whose evaluator of quality has other members."""
    kind = type("Changed", (toy.Position,), members)
    table = {
        "position": EvaluatorEntry("quality", "primary", kind),
        "direction": EvaluatorEntry("diversity", "primary", toy.Direction),
    }
    return type("OwnChanged", (Own,), {"evaluator_table": lambda self: table})()


def features(change: Callable[[Tensor], Any]) -> dict[str, Any]:
    """An evaluator's member that gives other features."""
    return {
        "features": lambda self, samples: change(torch.from_numpy(np.array(samples, "f4"))),
        "surprisal": lambda self, samples: torch.zeros(len(samples)),
    }


def forgets(self: Any, samples: Any) -> Any:
    return {}["weights"]


def with_nan(values: Tensor) -> Tensor:
    values[:3] = torch.nan
    return values


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no surprisal": (
        {"surprisal": toy.Evaluator.surprisal},
        r"the role 'quality' needs the member surprisal\(samples\)",
    ),
    "KeyError": ({"features": forgets}, r"KeyError: 'weights' \(test_author_mistakes.py, line \d+\)"),
    "numpy": (features(Tensor.numpy), r"features of type numpy.ndarray; allowed: a float32 tensor \[60, d\]"),
    "float64": (features(Tensor.double), r"features of type float64 \[60, 2\]; allowed: a float32 tensor"),
    "fewer rows": (features(lambda values: values[1:]), r"features of type float32 \[59, 2\]; allowed"),
    "one number": (features(lambda values: values[:, 0]), r"features of type float32 \[60\]; allowed"),
    "NaN": (features(with_nan), "features not finite for 3 of 60 real samples"),
    "None": ({"surprisal": lambda self, samples: None}, r"surprisal of type builtins.NoneType; allowed"),
    "other name": ({"name": "place"}, "its name is 'place'; the domain's table says 'position'"),
    "other role": ({"role": "diversity"}, "its role is 'diversity'; the domain's table says 'quality'"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_an_evaluator_names_it(name: str) -> None:
    members, said = MISTAKES[name]
    with pytest.raises(BrokenPlugIn, match=f"^evaluator 'position' of domain 'toy': {said}") as found:
        _ = Panel(with_evaluator(**members), N, cache=Cache(use=False)).real
    assert "\n" not in str(found.value)


def test_a_role_without_an_evaluator_is_named() -> None:
    domain = with_evaluator()
    domain.evaluator_table = lambda: {"position": EvaluatorEntry("quality", "primary", toy.Position)}
    with pytest.raises(BrokenPlugIn, match="domain 'toy' has no primary evaluator of the role 'diversity'"):
        Panel(domain, N)
    with pytest.raises(BrokenPlugIn, match="evaluator 'broken' of domain 'toy': KeyError: 'weights'"):
        domain.optional_evaluator = forgets
        find_evaluator(domain, "broken")


def test_what_is_declared_wrongly_is_refused_there() -> None:
    def spread(*some: Any) -> float:
        return 0.0

    with pytest.raises(
        BadInput, match="direction 'up' of metric 'spread' is unknown; allowed: higher, lower"
    ):
        Metric("spread", "", "up", compute=spread)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="name 'quality_spread' of a metric is not possible"):
        Metric("quality_spread", "", "none")
    with pytest.raises(BadInput, match="role 'both' of an evaluator is unknown; allowed: quality, diversity"):
        EvaluatorEntry("both", "primary", toy.Position)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="use 'first' of an evaluator is unknown; allowed: primary"):
        EvaluatorEntry("quality", "first", toy.Position)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="hurts 'all' of a damage is unknown; allowed: nothing, surface"):
        Damage("all", spread)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"a": Metric("b", "", "none")}, "metric 'a' of domain 'toy' calls itself 'b'"),
        (
            {"intact": Metric("intact", "", "none")},
            "metric 'intact' of domain 'toy' has the name of a shared",
        ),
        (
            {"a": Metric("a", "", "none", compute=lambda *some: {}["b"])},
            "metric 'a' of domain 'toy': KeyError",
        ),
        ({"a": Metric("a", "", "none", compute=lambda *some: None)}, "metric 'a' of domain 'toy': TypeErr"),  # type: ignore[arg-type, return-value]
    ],
)
def test_a_mistake_in_a_metric_names_it(metrics: Mapping[str, Metric], said: str) -> None:
    domain = Own()
    domain.metrics = lambda: metrics
    with pytest.raises(BrokenPlugIn, match=said):
        Panel(domain, N, cache=Cache(use=False)).ceiling()


def test_a_plug_in_of_another_name_than_its_entry_point_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS._targets, "other", "toy_domain:ToyDomain")
    with pytest.raises(
        BadInput, match=r"domain 'other' .* has the name 'toy'; allowed: that of its entry point"
    ):
        open_domain("other")


# --- methods and domains --------------------------------------------------------------------------------


class NoDataclass(Method):
    """Its author forgot the decorator."""

    name, description = "own", "-"

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        return compressed


@dataclasses.dataclass(frozen=True)
class NoDefault(NoDataclass):
    """Its setting has no default."""

    bits: int


@dataclasses.dataclass(frozen=True)
class NoCall(Method):
    """It cannot be constructed."""

    name, description = "own", "-"


@pytest.mark.parametrize(
    "kind, said",
    [
        (NoDataclass, r"method 'own' is no dataclass: write @dataclass\(frozen=True\) above its class"),
        (NoDefault, "setting 'bits' of method 'own' has no default: give it one"),
        (NoCall, "method 'own': TypeError: .*abstract"),
    ],
)
def test_a_mistake_in_the_class_of_a_method_names_it(
    kind: type, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS._targets, "own", f"{__name__}:{kind.__name__}")
    with pytest.raises((BadInput, BrokenPlugIn), match=said):
        parse("own")


def test_a_domain_cannot_have_the_name_of_a_folder_of_other_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "name", "local")
    monkeypatch.setitem(DOMAINS._targets, "local", DOMAINS["toy"])
    with pytest.raises(BadInput, match=r"domain 'local' .* needs another name: results/local is a folder of"):
        open_domain("local")


def test_a_domain_that_cannot_be_opened_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DOMAINS._targets, "broken", "no_such_module:Domain")
    said: list[str] = []
    assert [domain.name for domain in open_all(["toy", "broken", "toy"], said.append)] == ["toy", "toy"]
    assert len(said) == 1 and "domain 'broken' (no_such_module:Domain) cannot be imported" in said[0]


# --- generators -------------------------------------------------------------------------------------------


def session(generator: type[Generator] = Points, spec: ModelSpec = SPEC) -> ModelSession:
    domain = Own()
    domain.generator = generator
    return ModelSession(domain, spec, N, cache=Cache(use=False))


def failure(generator: type[Generator]) -> str:
    """What the record of the baseline says."""
    evaluation = Evaluation(session(generator))
    made = attempt(evaluation.template, evaluation)
    assert made.status == "failed" and made.reason is not None
    return made.reason


def test_without_a_mistake_the_model_is_measured() -> None:
    evaluation = Evaluation(session())
    assert attempt(evaluation.template, evaluation).status == "ok"


def test_a_mistake_in_a_generator_names_the_model() -> None:
    fewer = type("Fewer", (Points,), {"sample": lambda self, network, n, seed: toy.real_points(n - 1, 0)})
    assert failure(fewer) == "model 'own' of domain 'toy': sample(network, 60, 0) gave 59 items"
    figure = type("Figure", (Points,), {"likelihood": lambda self, network, base: {"bits": 1.0}})
    assert failure(figure) == (
        "model 'own' of domain 'toy' gives bits, which `metrics` of the domain does not declare; "
        "allowed: none"
    )
    broken = type("Broken", (Points,), {"auxiliary_scores": forgets})
    assert failure(broken).startswith("model 'own' of domain 'toy', auxiliary_scores: KeyError: 'weights' (")


def test_a_wrong_number_of_parameters_is_named() -> None:
    with pytest.raises(BrokenPlugIn, match=r"model 'own' of .* says 7 parameters, and its network has 6"):
        _ = session(spec=ModelSpec("own", "nowhere", parameters=7)).generator
    assert session(spec=ModelSpec("own", "nowhere")).generator.network is not None


# --- on the command line ----------------------------------------------------------------------------------


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The command line sees the toy's model that needs no training."""
    monkeypatch.setattr(Toy, "models", Own.models)
    monkeypatch.setattr(Toy, "open", lambda self, *some, **more: Points())
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_command_line_shows_one_line(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(own / "mine.npy", toy.real_points(N, 7))
    monkeypatch.setattr(toy.Position, "features", forgets)
    for command in (
        ["score", "--domain", "toy", "--samples", str(own / "mine.npy")],
        ["damages", "--domain", "toy", "--samples", str(N)],
        ["run", "--domain", "toy", "--samples", str(N), "--results", str(own / "results")],
    ):
        assert main(command) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert "error: evaluator 'position' of domain 'toy': KeyError: 'weights' (" in error
    assert not [*own.glob("results/**/*.json")]


def test_why_all_cells_diverged_stands_on_the_screen(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {row.tobytes() for seed in (0, 2) for row in toy.real_points(2000, seed)}

    def surprisal(self: Any, samples: Any) -> Tensor:
        return torch.tensor([0.0 if row.tobytes() in known else torch.inf for row in samples])

    monkeypatch.setattr(toy.Position, "surprisal", surprisal)
    run = ["run", "--domain", "toy", "--samples", str(N), "--results", str(own / "results")]
    assert main(run) == 0
    said = "diverged: none seed 0, int8 seed 0: the surprisal of evaluator 'position' is not finite"
    assert said in capsys.readouterr().err


# --- the cache -----------------------------------------------------------------------------------------

EVALUATOR = """
import torch
from bench.interfaces import Evaluator

class Direction(Evaluator):
    name, role = "direction", "diversity"
    def __init__(self, device="cpu"): pass
    def features(self, samples): return torch.full((len(samples), 1), {value}.0)
"""


def seen_by(source: str, folder: Path, name: str) -> float:
    """The feature of a freshly imported evaluator in the toy domain, and in one that is published."""
    (folder / "edited_evaluator.py").write_text(source, encoding="utf-8")
    sys.modules.pop("edited_evaluator", None)
    importlib.invalidate_caches()
    domain = type("Renamed", (Own,), {"name": name})()
    evaluator = importlib.import_module("edited_evaluator").Direction()
    panel = Panel(domain, N, roles={"direction": "diversity"}, opened={"direction": evaluator})
    return float(panel.real.by_evaluator["direction"].features[0, 0])


@pytest.mark.parametrize(("name", "second"), [("toy", 2.0), ("text", 1.0)])
def test_cached_features_are_of_the_source_unless_the_evaluator_is_published(
    name: str, second: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of published evaluators hold no source: they are what they were."""
    monkeypatch.setenv("GENCOMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [seen_by(EVALUATOR.format(value=1), tmp_path, name) for _ in range(2)] == [1.0, 1.0]
    assert seen_by(EVALUATOR.format(value=2), tmp_path, name) == second


GENERATOR = """
import numpy as np
from test_author_mistakes import Points

class Shifted(Points):
    def sample(self, network, n, seed): return np.full((n, 2), {value}.0, np.float32)
"""


def drawn(source: str, folder: Path, name: str) -> float:
    """The first number that a freshly imported generator draws in the toy domain, and in a published one."""
    (folder / "edited_generator.py").write_text(source, encoding="utf-8")
    sys.modules.pop("edited_generator", None)
    importlib.invalidate_caches()
    domain = type("Renamed", (Own,), {"name": name})()
    domain.generator = importlib.import_module("edited_generator").Shifted
    found = ModelSession(domain, SPEC, N)
    return float(found.sample(found.generator.network, 0).samples[0][0])


def test_cached_samples_are_of_the_source_unless_the_generator_is_published(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(own))
    before, after = GENERATOR.format(value=1), GENERATOR.format(value=20)
    assert [drawn(source, own, "toy") for source in (before, before, after)] == [1, 1, 20]
    assert [drawn(source, own, "text") for source in (before, after)] == [1, 1]


def test_fresh_damages_read_no_cached_features(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    features = toy.Direction.features

    def counted(self: Any, samples: Any) -> Tensor:
        asked.append(len(samples))
        return cast(Tensor, features(self, samples))

    monkeypatch.setattr(toy.Direction, "features", counted)
    command = ["damages", "--domain", "toy", "--samples", "300"]
    counts = []
    for options in ([], [], ["--fresh"]):
        asked.clear()
        main([*command, *options])
        counts.append(len(asked))
    assert counts[0] > 0 and counts[1] == 0 and counts[2] > 0


def test_a_model_outside_of_its_size_is_warned_of(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "--domain", "toy", "--method", "none", "--samples", str(N), "--results", str(own / "mine")]
    assert main(run) == 0 and "warning: toy" not in capsys.readouterr().err
    monkeypatch.setattr(Toy, "models", {"s@0": ModelSpec("s@0", "nowhere", parameters=6)})
    said = "s@0 has 6 parameters, and size s means 250,000 to 1,000,000"
    assert main(run) == 0 and f"warning: toy {said}; it takes part" in capsys.readouterr().err
    assert main(["list", "models"]) == 0 and f"(warning: {said})" in capsys.readouterr().out
