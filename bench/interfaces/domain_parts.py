"""Optional parts of a domain: mix-in classes whose members all have defaults."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bench.errors import BadInput, unknown
from bench.interfaces.evaluator import Evaluator, Task
from bench.interfaces.generator import Generator
from bench.interfaces.metric import Metric
from bench.interfaces.models import ConditionKind, Conditions, ModelSpec
from bench.interfaces.shared import Samples
from bench.interfaces.training import Training, TrainingRecipe

if TYPE_CHECKING:
    import numpy as np


class Trainable:
    """For domains whose models `bench train` can make.

    One table is enough; the other members follow from it.
    """

    name: ClassVar[str]

    def training_table(self) -> Mapping[str, TrainingRecipe]:
        """Size or name -> its recipe, in the order of `bench list`.

        The key `s` makes the models `s@0`, `s@1` and so on. A recipe with `seeded=False` makes one model,
        named by its key.
        """
        return {}

    def trainings(self) -> Mapping[str, str]:
        """What `bench train` can make: name -> one line. `N` stands for the training seed: `s@N`."""
        return {
            f"{key}@N" if recipe.seeded else key: f"{recipe.description}, training seed N"
            if recipe.seeded
            else recipe.description
            for key, recipe in self.training_table().items()
        }

    def grid(self) -> Sequence[str]:
        """The models of the published comparison, in the order of training: what `train` without --model
        makes.

        By default the published seeds of each recipe, in the order of the table. Override it for another
        order.
        """
        return tuple(
            f"{key}@{seed}"
            for key, recipe in self.training_table().items()
            for seed in recipe.published_seeds
        )

    def train(self, name: str, data: str | None, device: str) -> Training:
        """The training that makes the model `name` (for example `s@0`) from scratch.

        data: a file, folder or hub id to train on; None: the domain's own training part. Raises
        `bench.errors.BadInput` for a name that no recipe makes, `LookupError` where the domain has no
        recipes.
        """
        table = self.training_table()
        if not table:
            raise LookupError(f"domain {self.name!r} cannot train {name!r}")
        key, at, seed = name.partition("@")
        recipe = table.get(key)
        # what every random generator takes
        if recipe is not None and recipe.seeded and re.fullmatch("[0-9]{1,9}", seed):
            return recipe.start(int(seed), data, device)
        if recipe is not None and not recipe.seeded and not at:
            return recipe.start(0, data, device)
        raise unknown(
            "model to train", name, [f"{key}@0" if recipe.seeded else key for key, recipe in table.items()]
        )


class DescribesSamples:
    """For domains that can say more of a sample than its scores, in `bench describe` and in files of
    twins.
    """

    def traits(self, samples: Samples) -> Mapping[str, np.ndarray]:
        """What each sample is like: name of the trait -> a finite number or a label for each sample, [n].

        A sample's traits depend on that sample alone. `surprisal` and `rarity` exist in every domain.
        Example: `{"length": np.array([4, 17])}`.
        """
        return {}

    def is_training_sample(self, samples: Samples) -> list[bool] | None:
        """[n]: whether the training part holds the sample exactly; None where it is not known."""
        return None

    def show(self, columns: Mapping[str, Samples], path: Path) -> Path | None:
        """Write twins side by side (column title -> samples) for a person to look at -> the path written.

        `path` has no suffix yet. None: the domain cannot show samples.
        """
        return None


class HasMetrics:
    """For domains with metrics of their own, beside those that all domains share."""

    def metrics(self) -> Mapping[str, Metric]:
        """The domain's own metrics, by name. No name begins with `quality_` or `diversity_`."""
        return {}

    def optional_metric(self, name: str, device: str = "cpu") -> Metric | None:
        """A metric that is computed only where the user names it, since its weights are not shipped; None:
        unknown here.

        Raises `bench.errors.BadInput` when the name is known and its weights are missing.
        """
        return None


class HasTask:
    """For domains that can say how useful samples are."""

    def task(self, device: str = "cpu") -> Task | None:
        """The task that samples are good for; None: the domain has none."""
        return None


class HasOptionalEvaluators:
    """For domains that can use evaluators with open-ended names: folders and hub ids of the user's."""

    def optional_evaluator(self, name: str, device: str = "cpu") -> Evaluator | None:
        """The evaluator of this name, which the table does not list; None: unknown here.

        Raises `bench.errors.BadInput` when the name is known and its weights are missing.
        """
        return None


class HasKinds:
    """For domains to be contrasted with others that share their data or their network, and not both."""

    kind_of_data: ClassVar[str] = ""  # `images`; an equal word means the same real samples and evaluators
    kind_of_network: ClassVar[str] = ""  # `transformer`; an equal word means the same architecture and recipe


class TakesConditions:
    """For domains with conditional models: `--prompts` and `--labels`."""

    name: ClassVar[str]  # the domain's
    condition_kinds: ClassVar[Sequence[ConditionKind]] = ()  # what `open_conditional` takes

    def open_conditional(self, spec: ModelSpec, conditions: Conditions, device: str = "cpu") -> Generator:
        """Load a model that makes item i of condition i mod their number.

        Conditions are no part of `Generator.settings`: the benchmark adds them to the cell. Raises
        `bench.errors.BadInput` for a model that takes none, and for a condition that it does not know.
        """
        raise BadInput(f"domain {self.name!r} opens no model with {conditions.kind}")

    def check_takes(self, conditions: Conditions) -> None:
        """Raises `bench.errors.BadInput` for conditions of a kind that the domain does not take."""
        if conditions.kind not in self.condition_kinds:
            allowed = ", ".join(f"--{kind}" for kind in self.condition_kinds) or "no conditions"
            raise BadInput(f"domain {self.name!r} takes no --{conditions.kind}; it takes {allowed}")
