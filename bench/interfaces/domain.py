"""The contract of a domain: a kind of data, with its models, real samples and evaluators."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bench.errors import unknown
from bench.interfaces.domain_parts import (
    DescribesSamples,
    HasKinds,
    HasMetrics,
    HasOptionalEvaluators,
    HasTask,
    TakesConditions,
    Trainable,
)
from bench.interfaces.evaluator import Damage, Evaluator, EvaluatorEntry, Use
from bench.interfaces.generator import Generator
from bench.interfaces.models import TRAINED, ModelSpec
from bench.interfaces.shared import Samples


class Domain(
    Trainable, DescribesSamples, HasMetrics, HasTask, HasOptionalEvaluators, HasKinds, TakesConditions, ABC
):
    """A kind of data: its models, real samples and evaluators. Constructing one loads no model."""

    name: ClassVar[str]  # as in the entry point that names the class
    description: ClassVar[str]  # one line for `bench list`
    version: ClassVar[int] = 1  # raise it when numbers change: older records no longer count as finished

    @property
    @abstractmethod
    def models(self) -> Mapping[str, ModelSpec]:
        """Name -> model that ships with the domain; the first is the default. A class attribute will do."""

    @abstractmethod
    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        """Load a model to `device`. `settings` replace the sampler's, for example `{"temperature": 0.9}`.

        Raises `bench.errors.BadInput` for a model that cannot be opened and for a wrong setting.
        """

    @abstractmethod
    def evaluator_table(self) -> Mapping[str, EvaluatorEntry]:
        """Name -> evaluator, in order: the first primary evaluator of each role is the one that counts.

        Example: `{"position": EvaluatorEntry("quality", "primary", Position), ...}`, with `Position(device)`.
        """

    @abstractmethod
    def reference(self, split: str = "test", source: str | None = None) -> Samples:
        """All real samples of a split: `test`, `validation` or `ceiling`. No two samples are equal.

        source: take them from this file, folder or hub id of the user's instead (`bench.data.load_rows`).
        Raises `bench.errors.BadInput` for an unknown split and an unreadable source.
        """

    @abstractmethod
    def damages(self) -> Mapping[str, Damage]:
        """Name -> a known damage, to check the evaluators: at least one of `surface`, one of `variety`."""

    @abstractmethod
    def read_samples(self, path: Path) -> Samples:
        """Samples from a file. Raises `bench.errors.BadInput` when it holds none of this domain."""

    @abstractmethod
    def write_samples(self, samples: Samples, path: Path) -> Path:
        """Write what `read_samples` reads back. `path` has no suffix yet -> the path written."""

    # The required part ends here. What follows has a default, or follows from the table of evaluators.

    @classmethod
    def missing(cls) -> str | None:
        """Which package the domain needs and does not find, with the command that installs it; None: none.

        `run --domain all` leaves such a domain out.
        """
        return None

    def locate(self, model: str) -> ModelSpec:
        """The spec of a model's name, or of a folder that `bench train` wrote.

        Override it to accept other folders and hub ids, too. Raises `bench.errors.BadInput` when the name
        leads to no model.
        """
        if model in self.models:
            return self.models[model]
        if model and (Path(model) / TRAINED).is_file():
            return ModelSpec(model, model)
        raise unknown("model", model, self.models)

    def with_reference(self, source: str | None) -> Domain:
        """The domain for real samples of the user's: a file, folder or hub id. By default itself.

        Override it where evaluators are fitted on them. Their `identity` must then tell these samples apart.
        A domain that ships no real samples raises `bench.errors.NeedsReference` in `reference` without it.
        """
        return self

    def evaluators(self) -> Mapping[str, str]:
        """The primary evaluators, in the order of the table: name -> role. They score every cell."""
        return {name: entry.role for name, entry in self.evaluator_table().items() if entry.use == "primary"}

    def second_evaluators(self) -> Mapping[str, str]:
        """The secondary evaluators, in the order of the table: name -> role. They check the primary ones.

        They are in no cell's name, so one may be added when there are records (`bench evaluate`).
        """
        if type(self).evaluator_table is _table_of_old_members:  # which reads this member
            return {}
        return {
            name: entry.role for name, entry in self.evaluator_table().items() if entry.use == "secondary"
        }

    def evaluator(self, name: str, device: str = "cpu") -> Evaluator:
        """Load an evaluator of the table. Raises `bench.errors.BadInput` for a name that it does not list."""
        table = self.evaluator_table()
        if name not in table:
            raise unknown("evaluator", name, table)
        return table[name].load(device)

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Domains of the old contract keep working: they have no table, and define `evaluators` and
        `evaluator` themselves.
        """
        super().__init_subclass__(**keywords)
        lacks_table = getattr(cls.evaluator_table, "__isabstractmethod__", False)
        if lacks_table and cls.evaluators is not Domain.evaluators and cls.evaluator is not Domain.evaluator:
            cls.evaluator_table = _table_of_old_members  # type: ignore[assignment,method-assign]


def _table_of_old_members(domain: Domain) -> dict[str, EvaluatorEntry]:
    """The table of a domain that defines `evaluators`, `second_evaluators` and `evaluator` itself."""
    uses: dict[Use, Mapping[str, Any]] = {
        "primary": domain.evaluators(),
        "secondary": domain.second_evaluators(),
    }
    return {
        name: EvaluatorEntry(role, use, functools.partial(domain.evaluator, name))
        for use, roles in uses.items()
        for name, role in roles.items()
    }
