"""The molecules domain: SMILES strings written by the text domain's transformer, token by token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.interfaces import (
    Damage,
    EvaluatorEntry,
    Generator,
    Metric,
    ModelSpec,
    Task,
)
from domains.folders import PUBLISHED_SEEDS
from domains.language.strings import StringDomain, StringGenerator
from domains.molecules.chemistry import HINT, need_the_extra
from domains.molecules.chemistry import missing as missing_packages
from domains.molecules.data import PARTS, molecules
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
RECIPES = "domains.molecules.recipes"
WEIGHTS = Path(__file__).parent / "weights"
DESCRIPTION = "drug-like molecules of MOSES as SMILES strings, from a small causal transformer"


class MoleculesDomain(StringDomain):
    name = "molecules"
    description = DESCRIPTION + (f" (needs {HINT})" if missing_packages() else "")
    version = 1
    kind_of_data, kind_of_network = "molecules", "transformer"
    weights = WEIGHTS
    published = {size: seeds for size, seeds in PUBLISHED_SEEDS.items() if size != "m"}
    recipes = RECIPES
    splits = tuple(PARTS)  # `scaffold_test`: molecules of scaffolds that no training molecule has

    @classmethod
    def missing(cls) -> str | None:
        """RDKit or ChemNet, with the command that installs both; None where they are there."""
        return f"needs {HINT}" if missing_packages() else None

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        need_the_extra()
        return MoleculeGenerator(spec, device, settings or {})

    def shipped(self, split: str) -> list[str]:
        return molecules(split)

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

    recipes, weights = RECIPES, WEIGHTS

    def __init__(self, spec: ModelSpec, device: str, settings: Mapping[str, Any]) -> None:
        from domains.language.opening import open_model

        super().__init__(spec, open_model(spec, device, settings), device)

    def likelihood(self, network: Module, base: Module | None = None) -> dict[str, float]:
        return self.likelihood_of(network, base, molecules("test"))
