"""The molecules domain: SMILES strings written by the text domain's transformer, token by token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import unknown
from bench.interfaces import (
    Damage,
    EvaluatorEntry,
    Generator,
    Metric,
    ModelSpec,
    Task,
    Training,
    Wrap,
)
from domains.folders import PUBLISHED_SEEDS
from domains.language.strings import StringDomain, StringGenerator
from domains.molecules.chemistry import HINT, missing, need_the_extra
from domains.on_demand import OnDemand

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

EVALUATORS = {
    "judge": EvaluatorEntry("quality", "primary", OnDemand("domains.molecules.evaluators:Judge")),
    "chemnet": EvaluatorEntry("diversity", "primary", OnDemand("domains.molecules.evaluators:ChemNet")),
    "conv_judge": EvaluatorEntry("quality", "secondary", OnDemand("domains.molecules.evaluators:ConvJudge")),
    "fingerprints": EvaluatorEntry(
        "diversity", "secondary", OnDemand("domains.molecules.evaluators:Fingerprints")
    ),
}
DESCRIPTION = "drug-like molecules of MOSES as SMILES strings, from a small causal transformer"


class MoleculesDomain(StringDomain):
    name = "molecules"
    description = DESCRIPTION + (f" (needs {HINT})" if missing() else "")
    version = 1
    weights = Path(__file__).parent / "weights"
    published = {size: seeds for size, seeds in PUBLISHED_SEEDS.items() if size != "m"}
    recipes = "domains.molecules.recipes"
    companions: ClassVar[Mapping[str, str]] = {
        "judge": "the evaluator of quality",
        "conv_judge": "the secondary evaluator of quality",
    }

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        need_the_extra()
        return MoleculeGenerator(spec, device, settings or {})

    def reference(self, split: str = "test", source: str | None = None) -> list[str]:
        """Beside the three usual splits `scaffold_test`: molecules of scaffolds that no training molecule
        has.
        """
        from domains.molecules.data import PARTS, molecules

        if split not in PARTS:
            raise unknown("split", split, PARTS)
        return molecules(split) if source is None else self.read_source(source, split)

    def is_training_sample(self, samples: Sequence[str]) -> list[bool]:
        from domains.molecules.data import molecules

        known = set(molecules("train"))
        return [sample in known for sample in samples]

    def evaluator_table(self) -> Mapping[str, EvaluatorEntry]:
        return EVALUATORS

    def traits(self, samples: Sequence[str]) -> dict[str, np.ndarray]:
        """`length` in characters, and `rings`: pairs of ring digits outside of square brackets."""
        import numpy as np

        outside = [re.sub(r"\[[^]]*\]", "", sample) for sample in samples]
        rings = [len(re.findall(r"%\d\d|\d", sample)) // 2 for sample in outside]
        return {"length": np.array([len(sample) for sample in samples], int), "rings": np.array(rings, int)}

    def task(self, device: str = "cpu") -> Task:
        from domains.molecules.use import ByteModel

        return ByteModel()

    def damages(self) -> Mapping[str, Damage]:
        from domains.molecules.damages import DAMAGES

        return DAMAGES

    def metrics(self) -> Mapping[str, Metric]:
        from domains.molecules.metrics import METRICS

        return {metric.name: metric for metric in METRICS}


class MoleculeGenerator(StringGenerator):
    """The text domain's Llama, with a tokenizer of SMILES strings."""

    def __init__(self, spec: ModelSpec, device: str, settings: Mapping[str, Any]) -> None:
        from domains.language.opening import open_model

        super().__init__(open_model(spec, device, settings), device)

    def likelihood(self, network: Module, base: Module | None = None) -> dict[str, float]:
        from domains.molecules.data import molecules

        return self.likelihood_of(network, base, molecules("test"))

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        from domains.molecules.recipes import MoleculeTraining

        return MoleculeTraining(network, self.tokenizer, MoleculeTraining.texts(), seed, wrap, teacher)
