"""What the domains of strings share: samples in files, twins as plain text, models by a tokenizer.

`StringDomain` and `StringGenerator` are what `domains.text` and `domains.molecules` begin with. This module
loads no torch: listing models stays instant.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from bench.errors import BadInput, unknown
from bench.interfaces import Domain, ModelSpec, Training, TrainingRecipe, Wrap
from bench.util.cache import in_order_of_content
from domains.folders import PUBLISHED_SEEDS, check_trained_on, embedded, grid_of, own_spec
from domains.language.generator import LanguageGenerator

if TYPE_CHECKING:
    from torch.nn import Module

    from domains.language.opening import Opened
    from domains.language.string_training import StringTraining

LONGEST = 4096  # characters of a text that count; 256 tokens of our longest token have 3,328


def beginnings(texts: Iterable[str], source: object) -> list[str]:
    """Texts cut after `LONGEST` characters, so that memory is bounded whatever they are; a note says how many
    were cut.
    """
    from bench.util.progress import note

    whole, cut = 0, []
    for text in texts:
        cut.append(text[:LONGEST])
        whole += len(text) <= LONGEST
    if whole < len(cut):
        note(
            f"{len(cut) - whole} of {len(cut)} texts of {str(source)!r} are longer than {LONGEST} "
            f"characters; only their beginnings count"
        )
    return cut


def rules_of(tokenizer: Any) -> list[Any]:
    """What a tokenizer's texts depend on beside its vocabulary: merges, decoder, special tokens."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = {} if backend is None else json.loads(backend.to_str())
    for name in ("padding", "truncation"):  # of the last call
        rules.pop(name, None)
    return [
        rules,
        sorted(tokenizer.all_special_ids),
        getattr(tokenizer, "clean_up_tokenization_spaces", None),
    ]


class StringGenerator(LanguageGenerator):
    """A causal language model with its tokenizer, which turns tokens into a string."""

    recipes: ClassVar[str]  # as of `StringDomain`
    weights: ClassVar[Path]  # as of `StringDomain`

    def __init__(self, spec: ModelSpec, opened: Opened, device: str) -> None:
        super().__init__(opened, device)
        self.name, self.folder = spec.name, Path(spec.source)

    def identity(self) -> str:
        """Of configuration and tokenizer: networks of equal tensors may still write different texts."""
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        return self.identity_with(vocabulary, self.start, self.end, *self._other_rules)

    @cached_property
    def _other_rules(self) -> list[Any]:
        """The rules of the tokenizer; none where they are those of all models that ship."""
        from domains.language.opening import load_tokenizer

        if self.folder.parent == self.weights:
            return []
        ours = load_tokenizer(ModelSpec("s@0", str(self.weights / "s@0")))
        rules = rules_of(self.tokenizer)
        return [] if rules == rules_of(ours) else rules

    def sample(self, network: Module, n: int, seed: int) -> list[str]:
        return [text[:LONGEST] for text in self.decode(self.write(network, n, seed))]

    def decode(self, tokens: Sequence[Sequence[int]]) -> list[str]:
        return list(self.tokenizer.batch_decode(tokens, skip_special_tokens=True))

    def training(
        self,
        network: Module,
        seed: int,
        wrap: Wrap | None = None,
        *,
        scratch: bool = False,
        teacher: Module | None = None,
    ) -> Training:
        if not (self.folder / "recipe.json").is_file():
            raise LookupError(f"the recipe trains this domain's own networks, and {self.name!r} is another")
        check_trained_on(self.folder)
        kind: type[StringTraining] = import_module(self.recipes).TRAINING
        return kind(network, self.tokenizer, kind.texts(), seed, wrap, teacher)


class StringDomain(Domain):
    """A domain whose samples are strings. A file of samples has `{"text": "..."}` a line."""

    weights: ClassVar[Path]  # the folder of the embedded models
    published: ClassVar[Mapping[str, Sequence[int]]] = PUBLISHED_SEEDS  # size -> training seeds
    recipes: ClassVar[str]  # the module with TRAINING, a `StringTraining`, and JUDGES, a table of `JudgePlan`
    # evaluators that can be trained, with a line about each
    companions: ClassVar[Mapping[str, str]] = {
        "judge": "the evaluator of quality",
        "conv_judge": "the secondary evaluator of quality",
    }
    splits: ClassVar[Sequence[str]]  # of the real samples that ship

    def shipped(self, split: str) -> list[str]:
        """The real samples of one split, one of `splits`."""
        raise NotImplementedError

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        return embedded(self.weights)

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
            return own_spec(model, folder)
        if exists or "@" in model or model.count("/") != 1 or model.startswith((".", "/", "~")):
            reason = "it is a folder without config.json" if exists else "it is neither a folder nor a hub id"
            raise BadInput(
                f"{unknown('model', model, self.models)}, or the folder of a causal language model ({reason})"
            )
        return ModelSpec(model, model)

    def training_table(self) -> Mapping[str, TrainingRecipe]:
        from domains.language.network import SIZES

        generators = {
            size: TrainingRecipe(
                f"the generator of size {size}",
                partial(self._start_generator, size),
                tuple(self.published.get(size, ())),
            )
            for size in SIZES
        }
        companions = {
            name: TrainingRecipe(line, partial(self._start_judge, name), seeded=False)
            for name, line in self.companions.items()
        }
        return {**generators, **companions}

    def _start_generator(self, size: str, seed: int, data: str | None, device: str) -> Training:
        kind: type[StringTraining] = import_module(self.recipes).TRAINING
        return kind.start(size, seed, own_or(kind.texts, data), device)

    def _start_judge(self, name: str, seed: int, data: str | None, device: str) -> Training:
        from domains.language.string_training import judge_training

        recipes = import_module(self.recipes)
        texts = own_or(recipes.TRAINING.texts, data)
        return judge_training(recipes.JUDGES[name], texts, recipes.TRAINING.held_out(), device)

    def grid(self) -> Sequence[str]:
        return grid_of(self.published)

    def reference(self, split: str = "test", source: str | None = None) -> list[str]:
        """Of a user's own texts without repeats, in an order that says nothing of their file, the second half
        serves as the ceiling.
        """
        if split not in self.splits:
            raise unknown("split", split, self.splits)
        if source is None:
            return self.shipped(split)
        from bench.data import load_rows, text_column

        texts = in_order_of_content(beginnings(text_column(load_rows(source), source), source))
        half = len(texts) // 2
        return texts[half:] if split == "ceiling" else texts[:half]

    def is_training_sample(self, samples: Sequence[str]) -> list[bool]:
        known = set(self.shipped("train"))
        return [sample in known for sample in samples]

    def read_samples(self, path: Path) -> list[str]:
        """Only the beginning of a text counts (`beginnings`)."""
        from bench.data import json_strings, text_lines

        return beginnings(json_strings(text_lines(path, "samples"), "text", path), path)

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


def own_or(shipped: Callable[[], list[str]], data: str | None) -> list[str]:
    """The texts to train on: a user's own, or the training part."""
    from bench.data import load_rows, text_column

    return shipped() if data is None else beginnings(text_column(load_rows(data), data), data)
