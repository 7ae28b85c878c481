"""Each broken contract gives its line with what to do: plug-ins that are broken on purpose."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from toy_domain import Direction, Position, ToyDomain, ToyGenerator  # type: ignore[import-not-found]

from bench.cli.main import main
from bench.contracts import domain as of_domain
from bench.contracts import evaluator as of_evaluator
from bench.contracts import generator as of_generator
from bench.contracts import method as of_method
from bench.contracts import metric as of_metric
from bench.contracts import real_samples
from bench.contracts.check import broken, check
from bench.contracts.contract import attempt
from bench.contracts.evaluator import Loaded
from bench.contracts.generator import Opened
from bench.contracts.metric import Named
from bench.errors import BadInput, BrokenPlugIn
from bench.interfaces import EvaluatorEntry, Method, Metric, StoredTensor
from bench.layers import weights_of
from bench.registry import DOMAINS, METHODS, METRICS, Registry

pytestmark = pytest.mark.usefixtures("toy_trains_once")


def lines(contracts: Any, *subject: Any) -> dict[str, str]:
    """Contract -> what is said, of those that are broken."""
    made = [attempt(contract, "", *subject) for contract in contracts]
    return {outcome.contract: outcome.said for outcome in made if outcome.status == "broken"}


def only(found: dict[str, str], contract: str, *words: str) -> None:
    """Exactly this contract is broken, in one line that holds the words."""
    assert list(found) == [contract], found
    assert all(word in found[contract] for word in words), found[contract]
    assert "\n" not in found[contract] and "Traceback" not in found[contract]


# --- models -------------------------------------------------------------------------------------------


class Short(ToyGenerator):
    def sample(self, network: Any, n: int, seed: int) -> Any:
        return super().sample(network, n, seed)[: n - 1 if n > 1 else n]


class Unseeded(ToyGenerator):
    def sample(self, network: Any, n: int, seed: int) -> Any:
        return super().sample(network, n, int(np.random.default_rng().integers(2**30)))


class Batched(ToyGenerator):
    def sample(self, network: Any, n: int, seed: int) -> Any:
        return super().sample(network, n, seed)[::-1].copy()


class Global(ToyGenerator):
    def sample(self, network: Any, n: int, seed: int) -> Any:
        torch.rand(1)
        return super().sample(network, n, seed)


class Writing(ToyGenerator):
    def sample(self, network: Any, n: int, seed: int) -> Any:
        made = super().sample(network, n, seed)
        if network is self.network:
            with torch.no_grad():
                network[0].bias.add_(1e-30).mul_(1.0001)
        return made


class Itself(ToyGenerator):
    def rebuild(self, structure: Any = ()) -> Any:
        return self.network if "network" in vars(self) else super().rebuild(structure)


class Narrow(ToyGenerator):
    def rebuild(self, structure: Any = ()) -> Any:
        return super().rebuild(structure)[:3] if "network" in vars(self) else super().rebuild(structure)


class Tuples(ToyGenerator):
    def settings(self) -> dict[str, Any]:
        return {"scale": {1, 2}}


class Crash(ToyGenerator):
    def sample(self, network: Any, n: int, seed: int) -> Any:
        return {}["noise"]


class Flat(ToyGenerator):
    def sample(self, network: Any, n: int, seed: int) -> Any:
        return super().sample(network, n, seed).astype("f8")[:, None]


def opened(kind: type[ToyGenerator]) -> Opened:
    domain = ToyDomain()
    spec = domain.models["s@0"]
    generator = domain.open(spec)
    generator.__class__ = kind
    patched = type("Patched", (ToyDomain,), {"open": lambda self, spec, *rest: opened(kind).generator})
    return Opened(patched(), spec, generator)


@pytest.mark.parametrize(
    ("kind", "contract", "words"),
    [
        (Unseeded, "the same seed gives twins", ("with the same seed differ", "draw all noise from `seed`")),
        (
            Global,
            "sampling leaves the network and the global seed alone",
            ("random state", "torch.Generator"),
        ),
        (Itself, "the network rebuilt from its file makes the same samples", ("new, empty network",)),
        (Narrow, "the network rebuilt from its file makes the same samples", ("does not fit the network",)),
        (Tuples, "its settings are json", ("is not JSON", "use numbers")),
        (Flat, "its samples have the form of real ones", ("float64 [n, 1, 2]", "gives float32 [n, 2]")),
        (Batched, "noise does not depend on the number of samples", ("the first 8 of 16", "(seed, item)")),
    ],
)
def test_a_broken_model_gets_one_line(kind: Any, contract: str, words: tuple[str, ...]) -> None:
    found = lines(of_generator.CONTRACTS, opened(kind))
    if kind is Unseeded:  # twins are the same contract for another n and for the rebuilt network
        found = {contract: found[contract]}
    only(found, contract, *words)


def test_too_few_samples_and_a_changed_network_are_named() -> None:
    found = lines(of_generator.CONTRACTS, opened(Short))
    assert "returned 7 samples for n=8; return exactly n" in found["it makes as many samples as asked for"]
    found = lines(of_generator.CONTRACTS, opened(Writing))
    assert "`sample` changed the network's tensors" in str(found)


def test_a_wrong_number_of_parameters_is_named_with_the_right_one() -> None:
    one = opened(ToyGenerator)
    wrong = dataclasses.replace(one, spec=dataclasses.replace(one.spec, parameters=7))
    only(lines(of_generator.CONTRACTS, wrong), "its spec counts its parameters", "says 7", "parameters=2594")


def test_an_error_in_the_plug_in_says_its_file_and_line() -> None:
    outcome = attempt(of_generator.the_same_seed_gives_twins, "s@0", opened(Crash))
    assert outcome.said.startswith("KeyError: 'noise'; look at test_check.py, line ")
    assert str(outcome).startswith("broken: s@0: the same seed gives twins: KeyError")


def test_an_error_that_names_its_place_gets_no_second_one() -> None:
    def raises() -> None:
        raise BrokenPlugIn("evaluator 'x' of domain 'y': KeyError: 'a' (y.py, line 3)")

    said = attempt(raises, "y").said
    assert said == "evaluator 'x' of domain 'y': KeyError: 'a' (y.py, line 3); correct the code"


def test_no_line_of_python_itself_is_blamed() -> None:
    said = attempt(json.loads, "y", "not JSON").said
    assert said.startswith("JSONDecodeError: ") and "decoder.py" not in said and "test_check.py" not in said


# --- evaluators ---------------------------------------------------------------------------------------


class Doubles(Position):
    def features(self, samples: Any) -> Any:
        return super().features(samples).double()


class Arrays(Direction):
    def features(self, samples: Any) -> Any:
        return np.array(samples, "f4")


class Centred(Direction):
    def features(self, samples: Any) -> Any:
        return super().features(samples) - super().features(samples).mean(0)


class NoSurprisal(Direction):
    name, role = "position", "quality"


class Infinite(Position):
    def surprisal(self, samples: Any) -> Any:
        return super().surprisal(samples) / 0


class Flat(Position):
    def surprisal(self, samples: Any) -> Any:
        return super().surprisal(samples)[:, None]


class Renamed(Position):
    name = "place"


FLOATS, SURPRISAL = "its features are float32 n by d", "its surprisal is float32 for each sample"
ALONE = "a sample is scored independently of the others"


@pytest.mark.parametrize(
    ("kind", "contract", "words"),
    [
        (Doubles, FLOATS, ("torch.float64", "add `.float()`")),
        (Arrays, FLOATS, ("is ndarray", "return a torch tensor")),
        (NoSurprisal, SURPRISAL, ("it has no surprisal", "has to define `surprisal`")),
        (Infinite, SURPRISAL, ("NaN or infinity",)),
        (Flat, SURPRISAL, ("shape [64, 1] for 64 samples", "return [n]")),
        (Centred, ALONE, ("depend on the other samples", "no mean over samples")),
        (Renamed, "its name and role are those of the table", ("name 'place'", "'position'")),
    ],
)
def test_a_broken_evaluator_gets_its_line(kind: Any, contract: str, words: tuple[str, ...]) -> None:
    name = "direction" if kind in (Arrays, Centred) else "position"
    found = lines(of_evaluator.CONTRACTS, Loaded(ToyDomain(), name, kind()))
    only({key: said for key, said in found.items() if key == contract}, contract, *words)
    assert found.keys() <= {contract, ALONE}


# --- domains ------------------------------------------------------------------------------------------


def overlapping(self: Any, split: str = "test", source: Any = None) -> Any:
    return ToyDomain.reference(self, "test", source)


def unchecked(self: Any, path: Any) -> Any:
    return np.load(path, allow_pickle=False).astype("f4").reshape(-1, 2)


def worse(name: str, damage: Any) -> Callable[[Any], Any]:
    return lambda self: {**ToyDomain.damages(self), name: damage}


def metrics(**changes: Any) -> dict[str, Any]:
    one = Metric("m", "a metric", "none", compute=lambda generated, real: 1.0)
    return {"metrics": lambda self: {"m": dataclasses.replace(one, **changes)}}


PUSHED = ToyDomain().damages()["pushed along the ray"]
METRIC, DAMAGE = "its metrics are described and finite", "damages are repeatable and of both kinds"


@pytest.mark.parametrize(
    ("members", "contract", "words"),
    [
        ({"name": "other"}, "its name is that of its entry point", ("'other'", "same name")),
        ({"models": {}}, "it ships models under their names", ("`models` is empty",)),
        ({"reference": overlapping}, "its splits share no sample", ("share samples", "cut them apart")),
        (
            {"read_samples": unchecked},
            "files that hold no samples are named",
            ("raise bench.errors.BadInput",),
        ),
        (metrics(direction="up"), METRIC, ("direction 'up'", "higher, lower, none")),
        (metrics(name="n"), METRIC, ("says name 'n'",)),
        (metrics(compute=lambda generated, real: float("nan")), METRIC, ("is nan", "finite")),
        (
            {"damages": worse("odd", dataclasses.replace(PUSHED, hurts="variety"))},
            DAMAGE,
            ("'odd' of variety changes items", "keep each item whole"),
        ),
        (
            {"damages": worse("weak", dataclasses.replace(PUSHED, apply=lambda points: points))},
            DAMAGE,
            ("'weak' changes nothing",),
        ),
        (
            {"evaluator_table": lambda self: {"position": EvaluatorEntry("quality", "primary", Position)}},
            "each role has an evaluator",
            ("['quality']", "`diversity`"),
        ),
        (
            {"traits": lambda self, samples: {"length": np.array([1.0])}},
            "traits say one thing of each sample by itself",
            ("'length'", "one number or label for each sample"),
        ),
    ],
)
def test_a_broken_domain_gets_its_line(
    members: dict[str, Any], contract: str, words: tuple[str, ...]
) -> None:
    kind = type("Bad", (ToyDomain,), members)
    found = lines([*of_domain.CONTRACTS, *real_samples.CONTRACTS], kind())
    # a made-up class has no entry point of its own
    if contract != "its name is that of its entry point":
        found.pop("its name is that of its entry point")
    if "reference" in members:
        found = {contract: found[contract]}
    only(found, contract, *words)


def test_undeclared_figures_and_blind_evaluators_are_named() -> None:
    scores = type("Scores", (ToyGenerator,), {"auxiliary_scores": lambda self, samples: {"p_real": 0.5}})
    kind = type("Bad", (ToyDomain,), {"open": lambda self, spec, *rest: opened(scores).generator})
    said = lines([of_domain.its_figures_are_declared], kind())["its figures are declared"]
    assert "`auxiliary_scores` returns p_real" in said and "add a Metric without `compute`" in said
    gentle = dataclasses.replace(PUSHED, valid=(0.9, 1.1))
    kind = type("Bad", (ToyDomain,), {"damages": worse("pushed along the ray", gentle)})
    (said,) = lines([of_domain.its_evaluators_see_each_damage_and_only_its_kind], kind()).values()
    assert said.startswith("pushed along the ray: validity is") and "python -m bench damages" in said


# --- methods and metrics ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halving(Method):
    """Forgets masks, excluded tensors and what is quantized."""

    name, description = "halving", "half of each weight"

    def __call__(self, compressed: Any, context: Any) -> Any:
        names = weights_of(compressed.network)
        dense = {name: compressed.tensors[name].dequantize() for name in names}
        return compressed.replace(
            {n: StoredTensor(tuple(v.shape), values=v / 2 + 1) for n, v in dense.items()}
        )


@dataclass(frozen=True)
class InPlace(Method):
    name, description = "inplace", "zeros"

    def __call__(self, compressed: Any, context: Any) -> Any:
        compressed.tensors["contract.weight"].values.mul_(0.5)
        return compressed


@dataclass
class Thawed(Method):
    share: float
    name, description = "thawed", "not frozen"

    def __call__(self, compressed: Any, context: Any) -> Any:
        return compressed


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Callable[[Registry, str, str], None]:
    """Add an entry point for the time of a test."""

    def add(registry: Registry, name: str, target: str) -> None:
        monkeypatch.setitem(registry._targets, name, f"test_check:{target}")

    return add


def test_a_method_that_forgets_the_rules_gets_a_line_for_each(registered: Any) -> None:
    registered(METHODS, "halving", "Halving")
    found = lines(of_method.CONTRACTS, "halving")
    assert found.keys() == {
        "pruned zeros stay zeros",
        "quantized tensors stay quantized",
        "kept tensors stay as they are and are recorded",
    }
    assert "set `mask=` of each StoredTensor" in found["pruned zeros stay zeros"]
    registered(METHODS, "inplace", "InPlace")
    assert "clone a tensor" in lines(of_method.CONTRACTS, "inplace")["its input stays untouched"]
    registered(METHODS, "thawed", "Thawed")
    said = lines(of_method.CONTRACTS[:1], "thawed").popitem()[1]
    assert said == "it is no frozen dataclass; write @dataclass(frozen=True) above the class"


CONSTANT = Metric("constant", "one", "none", compute=lambda generated, real: 1.0)


def raising(generated: Any, real: Any) -> float:
    raise ValueError("texts only")


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (dataclasses.replace(CONSTANT, compute=raising), ("toy (ValueError: texts only)", "--domain")),
        (dataclasses.replace(CONSTANT, compute=lambda g, r: "1"), ("is '1'", "finite Python float")),
    ],
)
def test_a_broken_metric_gets_its_line(metric: Metric, words: tuple[str, ...]) -> None:
    (said,) = lines(of_metric.CONTRACTS, Named("constant", metric, ("toy",))).values()
    assert all(word in said for word in words)


# --- the command --------------------------------------------------------------------------------------


class Incomplete(ToyDomain):
    evaluator_table = None  # type: ignore[assignment]
    name = "incomplete"

    @property
    def models(self) -> Any:
        raise KeyError("weights")


def test_the_command_lists_what_is_broken_and_fails(registered: Any, capsys: Any) -> None:
    registered(DOMAINS, "incomplete", "Incomplete")
    registered(DOMAINS, "abstract", "Domain")
    registered(DOMAINS, "missing", "NoSuchClass")
    assert main(["check", "incomplete"]) == 1
    out = capsys.readouterr().out
    assert "broken: incomplete: it lists its models: KeyError: 'weights'; look at test_check.py" in out
    assert "broken: incomplete: it lists its evaluators: " in out and "Traceback" not in out
    assert main(["check", "missing"]) == 1
    assert "broken: missing: it can be constructed: " in capsys.readouterr().out
    with pytest.raises(BadInput, match="unknown domain, method or metric 'no'"):
        list(check("no"))


def test_the_command_passes_what_keeps_its_contracts(registered: Any, capsys: Any) -> None:
    registered(METRICS, "constant", "CONSTANT")
    assert main(["check", "constant", "--domain", "toy"]) == 0
    assert capsys.readouterr().out == "constant: 2 kept, 0 broken, 0 skipped\n"
    assert broken("magnitude") == []
    assert main(["check", "constant", "--domain", "nowhere"]) == 2
