"""The text domain: verses written by a causal language model, token by token."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.interfaces import (
    ConditionKind,
    Conditions,
    Damage,
    Evaluator,
    EvaluatorEntry,
    Generator,
    Metric,
    ModelSpec,
    SampleFeatures,
    Task,
)
from domains.language.strings import LONGEST, StringDomain, StringGenerator
from domains.on_demand import OnDemand
from domains.text.data import PARTS, verses

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

    from domains.text.evaluators import Judge

WEIGHTS = Path(__file__).parent / "weights"
RECIPES = "domains.text.recipes"
EVALUATORS = {
    "judge": EvaluatorEntry("quality", "primary", OnDemand("domains.text.evaluators:Judge")),
    "wordllama": EvaluatorEntry("diversity", "primary", OnDemand("domains.text.evaluators:Words")),
    "conv_judge": EvaluatorEntry("quality", "secondary", OnDemand("domains.text.evaluators:ConvJudge")),
    "topics": EvaluatorEntry("diversity", "secondary", OnDemand("domains.text.topics:Topics")),
}


class TextDomain(StringDomain):
    name = "text"
    description = "verses of the King James Bible from a small causal transformer"
    version = 1
    kind_of_data, kind_of_network = "text", "transformer"

    weights = WEIGHTS
    recipes = RECIPES
    splits = PARTS

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        return TextGenerator(spec, device, settings or {})

    condition_kinds: ClassVar[Sequence[ConditionKind]] = ("prompts",)

    def open_conditional(self, spec: ModelSpec, conditions: Conditions, device: str = "cpu") -> Generator:
        """Continues prompts: item i begins with prompt i mod their number."""
        return TextGenerator(spec, device, {}, conditions)

    # ------------------------------------------------------------------------------------ data and evaluators

    def shipped(self, split: str) -> list[str]:
        return verses(split)

    def traits(self, samples: Sequence[str]) -> dict[str, np.ndarray]:
        """`length`: words between white space."""
        import numpy as np

        return {"length": np.array([len(sample.split()) for sample in samples], int)}

    def evaluator_table(self) -> Mapping[str, EvaluatorEntry]:
        return EVALUATORS

    def optional_evaluator(self, name: str, device: str = "cpu") -> Evaluator | None:
        """Any causal language model, by its folder or hub id."""
        if "/" not in name and not Path(name).is_dir():
            return None
        from domains.text.model_judge import ModelJudge

        # raises BadInput where it cannot be opened
        return ModelJudge(name, TextGenerator(self.locate(name), device, {}), device)

    def task(self, device: str = "cpu") -> Task:
        from domains.text.use import ByteModel

        return ByteModel()

    def damages(self) -> Mapping[str, Damage]:
        from domains.text.damages import DAMAGES

        return DAMAGES

    def metrics(self) -> Mapping[str, Metric]:
        return {metric.name: metric for metric in METRICS}

    def optional_metric(self, name: str, device: str = "cpu") -> Metric | None:
        if name != "mauve":
            return None
        from domains.text.mauve import mauve_metric

        return mauve_metric()


# -------------------------------------------------------------------------------------------------- generator


class TextGenerator(StringGenerator):
    """A causal language model from `transformers`, with its tokenizer."""

    recipes, weights = RECIPES, WEIGHTS

    def __init__(
        self,
        spec: ModelSpec,
        device: str,
        settings: Mapping[str, Any],
        conditions: Conditions | None = None,
    ) -> None:
        from domains.language.opening import embeddings, open_model
        from domains.text.prompts import read_prompts

        super().__init__(spec, open_model(spec, device, settings), device)
        self.prompts = None
        if conditions is not None:
            rows = embeddings(self.network)
            self.prompts = read_prompts(conditions, self.tokenizer, rows, self.positions, spec.name)
            self.given = self.prompts.of_item

    def sample(self, network: Module, n: int, seed: int) -> list[str]:
        texts = self.decode(self.write(network, n, seed, self.given))
        if self.prompts is not None:  # as the user wrote it, whatever the tokenizer makes of it
            read = self.decode([self.prompts.of_item(item) for item in range(n)])
            begun = zip(self.prompts.texts(n), read, texts)
            texts = [prompt + text[len(known) :] for prompt, known, text in begun]
        return [text[:LONGEST] for text in texts]

    @functools.cached_property
    def _judge(self) -> Judge:
        from domains.text.evaluators import Judge

        return Judge(self.device, directions=False)

    def keeps_condition(self, samples: Sequence[str], real: Sequence[str]) -> np.ndarray | None:
        """Whether a continuation is as surprising, given its prompt, as real ones are to the `judge`."""
        from domains.text.prompts import fits

        if self.prompts is None:
            return None
        return fits(self._judge, samples, self.prompts.texts(len(samples)), real)

    def likelihood(self, network: Module, base: Module | None = None) -> dict[str, float]:
        return self.likelihood_of(network, base, verses("test"))


# ---------------------------------------------------------------------------------------------------- metrics


def _judge_nll_gap(generated: SampleFeatures, real: SampleFeatures) -> float:
    surprisals = [seen.by_evaluator["judge"].surprisal for seen in (generated, real)]
    assert surprisals[0] is not None and surprisals[1] is not None
    return (surprisals[0].double().mean() - surprisals[1].double().mean()).item()


def _plain(name: str) -> Any:
    """A metric of bench.metrics.text as a function of what was observed; imported when first computed."""

    def compute(generated: SampleFeatures, real: SampleFeatures) -> float:
        from bench.metrics import text

        function = getattr(text, name)
        return float(
            function(generated.samples, real.samples)
            if name == "length_ratio"
            else function(generated.samples)
        )

    return compute


METRICS = (
    Metric(
        "bits_per_byte",
        "teacher-forced, held-out verses with start and end, own tokenizer",
        "lower",
        "bits",
        headline=True,
    ),
    Metric("perplexity", "per token of its own tokenizer: not comparable between tokenizers", "lower"),
    Metric("kl_to_base", "mean KL(base || compressed) of the next token on held-out verses", "lower", "nats"),
    Metric("flip_rate", "share of held-out positions where the most likely token changed", "lower"),
    Metric(
        "judge_nll_gap",
        "surprisal by evaluator `judge`: generated minus real",
        "none",
        "nats",
        _judge_nll_gap,
    ),
    Metric(
        "distinct_2",
        "distinct bigrams over all bigrams; depends on N",
        "none",
        compute=_plain("distinct_2"),
        headline=True,
    ),
    Metric("self_bleu_4", "BLEU-4 of each sample against all others", "none", compute=_plain("self_bleu_4")),
    Metric(
        "rep_4",
        "share of 4-grams that repeat an earlier one of the same text",
        "none",
        compute=_plain("rep_4"),
    ),
    Metric(
        "length_ratio", "mean words generated over mean words real", "none", compute=_plain("length_ratio")
    ),
)
