"""The text domain: verses written by a causal language model, token by token."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import BadInput, unknown
from bench.interfaces import (
    ConditionKind,
    Conditions,
    Damage,
    Domain,
    Evaluator,
    EvaluatorEntry,
    Generator,
    Metric,
    ModelSpec,
    SampleFeatures,
    Task,
    Training,
    TrainingRecipe,
    Wrap,
)
from domains.folders import GRID, PUBLISHED_SEEDS, embedded, spec_of
from domains.language.generator import LanguageGenerator
from domains.on_demand import OnDemand

if TYPE_CHECKING:
    import numpy as np
    from torch.nn import Module

    from domains.text.evaluators import Judge

WEIGHTS = Path(__file__).parent / "weights"
EVALUATORS = {
    "judge": EvaluatorEntry("quality", "primary", OnDemand("domains.text.evaluators:Judge")),
    "wordllama": EvaluatorEntry("diversity", "primary", OnDemand("domains.text.evaluators:Words")),
    "conv_judge": EvaluatorEntry("quality", "secondary", OnDemand("domains.text.evaluators:ConvJudge")),
    "topics": EvaluatorEntry("diversity", "secondary", OnDemand("domains.text.topics:Topics")),
}


class TextDomain(Domain):
    name = "text"
    description = "verses of the King James Bible from a small causal transformer"
    version = 1

    # ------------------------------------------------------------------------------------------------- models

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        return embedded(WEIGHTS)

    def locate(self, model: str) -> ModelSpec:
        """An embedded model, a folder that `AutoModelForCausalLM` reads, or a hub id (`owner/name`)."""
        if model in self.models:
            return self.models[model]
        folder = Path(model)
        try:
            exists, has_config = folder.exists(), (folder / "config.json").is_file()
        except OSError:  # a name that is too long for a file
            exists = has_config = False
        if has_config:
            return spec_of(model, folder)
        if exists or "@" in model or model.count("/") != 1 or model.startswith((".", "/", "~")):
            reason = "it is a folder without config.json" if exists else "it is neither a folder nor a hub id"
            raise BadInput(
                f"{unknown('model', model, self.models)}, or the folder of a causal language model ({reason})"
            )
        return ModelSpec(model, model)

    def open(
        self, spec: ModelSpec, device: str = "cpu", settings: Mapping[str, Any] | None = None
    ) -> Generator:
        return TextGenerator(spec, device, settings or {})

    condition_kinds: ClassVar[Sequence[ConditionKind]] = ("prompts",)

    def open_conditional(self, spec: ModelSpec, conditions: Conditions, device: str = "cpu") -> Generator:
        """Continues prompts: item i begins with prompt i mod their number."""
        return TextGenerator(spec, device, {}, conditions)

    def training_table(self) -> Mapping[str, TrainingRecipe]:
        from domains.language.network import SIZES

        generators = {
            size: TrainingRecipe(
                f"the generator of size {size}",
                functools.partial(start_generator, size),
                PUBLISHED_SEEDS[size],
            )
            for size in SIZES
        }
        return {**generators, **COMPANIONS}

    def grid(self) -> Sequence[str]:
        return GRID

    # ------------------------------------------------------------------------------------ data and evaluators

    def reference(self, split: str = "test", source: str | None = None) -> list[str]:
        from domains.text.data import PARTS, beginnings, verses

        if split not in PARTS:
            raise unknown("split", split, PARTS)
        if source is None:
            return verses(split)
        from bench.data import load_rows, text_column

        texts = list(dict.fromkeys(beginnings(text_column(load_rows(source), source), source)))
        half = len(texts) // 2  # the second half serves as the ceiling
        return texts[half:] if split == "ceiling" else texts[:half]

    def is_training_sample(self, samples: Sequence[str]) -> list[bool]:
        from domains.text.data import verses

        known = set(verses("train"))
        return [sample in known for sample in samples]

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

    # -------------------------------------------------------------------------------------------------- files

    def read_samples(self, path: Path) -> list[str]:
        """`{"text": "..."}` a line. Only the beginning of a text counts (`domains.text.data.beginnings`)."""
        from domains.text.data import beginnings

        try:
            lines = path.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(
                f"cannot read samples from {str(path)!r}: "
                f"{getattr(error, 'strerror', None) or 'it is not UTF-8 text'}"
            ) from None
        texts = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                text = json.loads(line)["text"]
                text.encode()  # a lone surrogate is no text
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                text = None
            if not isinstance(text, str):
                raise BadInput(f'{str(path)!r} line {number} is not {{"text": "..."}}: {line[:60]!r}')
            texts.append(text)
        return beginnings(texts, path)

    def write_samples(self, samples: Sequence[str], path: Path) -> Path:
        from bench.util.files import write_atomically

        target = path.with_name(path.name + ".jsonl")
        write_atomically(target, "".join(json.dumps({"text": text}) + "\n" for text in samples))
        return target

    def show(self, columns: Mapping[str, Sequence[str]], path: Path) -> Path:
        """Twins under each other, as plain text."""
        from bench.util.files import write_atomically

        def visible(text: str) -> str:
            return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)

        width = max(map(len, columns))
        blocks = [
            "\n".join(f"{title:>{width}} | {visible(text)}" for title, text in zip(columns, twins))
            for twins in zip(*columns.values())
        ]
        target = path.with_name(path.name + ".txt")
        write_atomically(target, "\n\n".join(blocks) + "\n")
        return target


# --------------------------------------------------------------------------------------------------- training


def training_texts(data: str | None) -> list[str]:
    """The training part, or a user's own texts."""
    from bench.data import load_rows, text_column
    from domains.text.data import verses

    return verses("train") if data is None else text_column(load_rows(data), data)


def start_generator(size: str, seed: int, data: str | None, device: str) -> Training:
    from domains.text import recipes

    texts = training_texts(data)
    network, tokenizer = recipes.fresh_generator(size, seed, texts)
    return recipes.VerseTraining(network.to(device), tokenizer, texts, seed)


def start_evaluator(name: str, seed: int, data: str | None, device: str) -> Training:
    from domains.text.recipes import judge_training

    return judge_training(training_texts(data), name, device)


COMPANIONS = {
    "judge": TrainingRecipe(
        "the evaluator of quality", functools.partial(start_evaluator, "judge"), seeded=False
    ),
    "conv_judge": TrainingRecipe(
        "the secondary evaluator of quality", functools.partial(start_evaluator, "conv_judge"), seeded=False
    ),
}


# -------------------------------------------------------------------------------------------------- generator


class TextGenerator(LanguageGenerator):
    """A causal language model from `transformers`, with its tokenizer."""

    def __init__(
        self,
        spec: ModelSpec,
        device: str,
        settings: Mapping[str, Any],
        conditions: Conditions | None = None,
    ) -> None:
        from domains.language.opening import embeddings, open_model
        from domains.text.prompts import read_prompts

        super().__init__(open_model(spec, device, settings), device)
        self.prompts = None
        if conditions is not None:
            rows = embeddings(self.network)
            self.prompts = read_prompts(conditions, self.tokenizer, rows, self.positions, spec.name)

    def identity(self) -> str:
        """Of configuration and tokenizer: networks of equal tensors may still write different texts."""
        return self.identity_with(sorted(self.tokenizer.get_vocab().items()), self.start, self.end)

    def sample(self, network: Module, n: int, seed: int) -> list[str]:
        from domains.text.data import LONGEST

        given = None if self.prompts is None else self.prompts.of_item
        texts = self._decode(self.write(network, n, seed, given))
        if self.prompts is not None:  # as the user wrote it, whatever the tokenizer makes of it
            read = self._decode([self.prompts.of_item(item) for item in range(n)])
            begun = zip(self.prompts.texts(n), read, texts)
            texts = [prompt + text[len(known) :] for prompt, known, text in begun]
        return [text[:LONGEST] for text in texts]

    def _decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))

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
        from domains.text.data import verses

        return self.likelihood_of(network, base, verses("test"))

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        from domains.text.data import verses
        from domains.text.recipes import VerseTraining

        return VerseTraining(network, self.tokenizer, verses("train"), seed, wrap, teacher)


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
