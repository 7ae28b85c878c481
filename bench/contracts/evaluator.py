"""The contracts of each evaluator of a domain, asked about real samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.contracts.contract import Broken, require
from bench.contracts.samples import SMALL
from bench.interfaces import Domain, Evaluator, Samples


@dataclass(frozen=True)
class Loaded:
    """An evaluator that is loaded, with its name in the domain's table."""

    domain: Domain
    name: str
    evaluator: Evaluator

    @property
    def samples(self) -> Samples:
        """The real samples that it is asked about."""
        return self.domain.reference("test")[:SMALL]


def its_name_and_role_are_those_of_the_table(loaded: Loaded) -> None:
    """The table and the class say the same."""
    evaluator = loaded.evaluator
    require(
        isinstance(evaluator, Evaluator),
        f"its `load` gave {type(evaluator).__name__}",
        "return a subclass of bench.interfaces.Evaluator",
    )
    role = {**loaded.domain.evaluators(), **loaded.domain.second_evaluators()}[loaded.name]
    found = getattr(evaluator, "name", None), getattr(evaluator, "role", None)
    require(
        found == (loaded.name, role),
        f"its class says name {found[0]!r} and role {found[1]!r}, its table {loaded.name!r} and {role!r}",
        "write the same in both",
    )


def its_features_are_float32_n_by_d(loaded: Loaded) -> None:
    """[n, d], finite, the same when asked again."""
    _check_answer("features", loaded.evaluator.features, loaded.samples, dimensions=2)


def its_surprisal_is_float32_for_each_sample(loaded: Loaded) -> None:
    """[n], finite, the same when asked again; for the role `quality`."""
    if loaded.evaluator.role == "quality":
        _check_answer("surprisal", _surprisal(loaded), loaded.samples, dimensions=1)


def a_sample_is_scored_independently_of_the_others(loaded: Loaded) -> None:
    """Within 1e-4 of the largest value: float32 sums of another batch size may add up in another order."""
    questions: dict[str, Callable[[Samples], Tensor]] = {"features": loaded.evaluator.features}
    if loaded.evaluator.role == "quality":
        questions["surprisal"] = _surprisal(loaded)
    samples = loaded.samples
    for name, ask in questions.items():
        together, alone = ask(samples), torch.cat([ask(samples[i : i + 1]) for i in range(8)])
        require(
            (together[:8] - alone).abs().max() <= 1e-4 * together.abs().max(),
            f"the {name} of a sample depend on the other samples of the call",
            "compute each row from its sample alone: no batch norm, no mean over samples",
        )


CONTRACTS = (
    its_name_and_role_are_those_of_the_table,
    its_features_are_float32_n_by_d,
    its_surprisal_is_float32_for_each_sample,
    a_sample_is_scored_independently_of_the_others,
)


def _surprisal(loaded: Loaded) -> Callable[[Samples], Tensor]:
    """Its `surprisal`. Raises `Broken` where it has none."""

    def ask(samples: Samples) -> Tensor:
        try:
            return loaded.evaluator.surprisal(samples)
        except LookupError as error:
            if type(error) is not LookupError:  # a KeyError of its own code
                raise
            raise Broken("it has no surprisal", "an evaluator of quality has to define `surprisal`") from None

    return ask


def _check_answer(name: str, ask: Callable[[Samples], Tensor], samples: Samples, dimensions: int) -> None:
    answer, again = ask(samples), ask(samples)
    shape = "[n, d]" if dimensions == 2 else "[n]"
    require(
        isinstance(answer, Tensor), f"its {name} is {type(answer).__name__}", "return a torch tensor, float32"
    )
    require(answer.dtype == torch.float32, f"its {name} is {answer.dtype}", "return float32: add `.float()`")
    require(
        answer.ndim == dimensions and len(answer) == len(samples),
        f"its {name} has shape {list(answer.shape)} for {len(samples)} samples",
        f"return {shape}",
    )
    require(
        answer.isfinite().all(),
        f"its {name} of real samples holds NaN or infinity",
        "make it finite for them",
    )
    require(torch.equal(answer, again), f"its {name} differs between two calls", "evaluate without dropout")
