"""A causal transformer as a generator: it samples token by token, and is judged by its likelihood, too."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from bench.errors import BadInput
from bench.interfaces import Exportable, Generator, Samples, StructureEdit

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from domains.language.opening import Opened

CALIBRATION_START = 2**40  # the first item of calibration: far beyond those of samples
CALIBRATION_TEXTS, CALIBRATION_BATCH = 256, 32
# of a configuration; networks that differ in these alone are the same
NO_PART_OF_IDENTITY = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


class LanguageGenerator(Generator):
    """What the domains of sequences share. A domain says what its tokens mean: `sample`, `training`."""

    given: Callable[[int], Sequence[int]] | None = None  # item -> the tokens of its prompt

    def __init__(self, opened: Opened, device: str) -> None:
        from domains.language.opening import positions

        self.device, self.network, self.tokenizer = device, opened.network, opened.tokenizer
        self.start, self.end, self.cached = opened.start, opened.end, opened.cached
        self._settings = opened.settings
        self.positions = positions(self.network)
        self.batch: int | None = None  # of the sampler; None: its own

    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    def identity_with(self, *others: object) -> str:
        """Of the configuration, and of what else says which samples a network of these tensors makes."""
        config = cast(Any, self.network).config.to_dict()
        known = {name: value for name, value in config.items() if name not in NO_PART_OF_IDENTITY}
        content = json.dumps([known, *others], sort_keys=True, default=str)
        return hashlib.sha256(content.encode()).hexdigest()

    def rebuild(self, structure: Sequence[StructureEdit]) -> Module:
        import torch
        from transformers import AutoModelForCausalLM

        if structure:
            raise BadInput(f"this domain cannot rebuild a network with edits of kind {structure[0].kind!r}")
        with torch.random.fork_rng(devices=[]):  # the fresh weights are thrown away
            network = AutoModelForCausalLM.from_config(self.network.config, trust_remote_code=False)
        return network.float().to(self.device).eval()

    def write(
        self,
        network: Module,
        n: int,
        seed: int,
        prompt: Callable[[int], Sequence[int]] | None = None,
    ) -> list[list[int]]:
        """n sequences of tokens, without start and end."""
        from bench.util.progress import Bar

        tokens: list[list[int]] = [[] for _ in range(n)]
        with Bar("sampling", n) as bar:
            for item, written in self._written(network, range(n), seed, prompt):
                tokens[item] = written
                bar.update()
        return tokens

    def _written(
        self, network: Module, items: range, seed: int, prompt: Callable[[int], Sequence[int]] | None
    ) -> Iterator[tuple[int, list[int]]]:
        import torch

        from domains.language.sampler import SamplerSettings, accelerator_batch, sample_tokens

        settings = SamplerSettings(
            self.start, self.end, cached=self.cached, positions=self.positions, **self._settings
        )
        if self.batch is not None:
            settings = dataclasses.replace(settings, batch=self.batch)
        elif self.device == "cuda":
            longest = 0 if prompt is None else max((len(prompt(item)) for item in items), default=0)
            batch = accelerator_batch(network, settings, torch.cuda.mem_get_info()[0], longest)
            settings = dataclasses.replace(settings, batch=batch)
        return sample_tokens(network, items, seed, settings, prompt=prompt)

    def calibration(self, seed: int) -> Iterator[tuple[tuple[()], Mapping[str, Any]]]:
        """Texts that the uncompressed network writes, other ones than any sample. Real texts are not used.

        A batch holds texts of similar length, cut to its shortest: no padding.
        """
        import torch

        items = range(CALIBRATION_START, CALIBRATION_START + CALIBRATION_TEXTS)
        written = self._written(self.network, items, seed, self.given)
        rows = sorted(([self.start, *tokens] for _, tokens in written), key=len)
        for first in range(0, CALIBRATION_TEXTS, CALIBRATION_BATCH):
            batch = rows[first : first + CALIBRATION_BATCH]
            tokens = torch.tensor([row[: len(batch[0])] for row in batch], device=self.device)
            yield (), {"input_ids": tokens[:, : self.positions], "use_cache": False}

    def exportable(self, network: Module) -> Exportable:
        """One call is one decoding step. The sampler and its cache stay in PyTorch."""
        from domains.language import exported

        if not self.cached:
            raise LookupError("its cached steps differ from a pass over the whole text")
        shape = exported.cache_shape(network)
        step = exported.DecodeStep(network).eval()

        def sample(call: Callable[..., tuple[Tensor, ...]], n: int, seed: int, batch: int) -> Samples:
            drawn = copy.copy(self)
            drawn.batch = batch
            return drawn.sample(exported.Steps(call, shape), n, seed)

        def calibration(seed: int) -> Iterator[tuple[Tensor, ...]]:
            texts = (call["input_ids"] for _, call in self.calibration(seed))
            return exported.calls_of(step, shape, texts)

        longest = {"batch": exported.LARGEST_BATCH, "time": exported.most_places(self.positions)}
        return Exportable(
            step,
            exported.example(shape),
            exported.AXES,
            longest,
            sample,
            calibration,
            frozenset({"batch", "time"}),
        )

    def likelihood_of(self, network: Module, base: Module | None, texts: Sequence[str]) -> dict[str, float]:
        """Bits a byte and others (`domains.language.likelihood`) of held-out texts."""
        from domains.language.likelihood import likelihood

        ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        rows = [[self.start, *row, *([] if self.end is None else [self.end])] for row in ids]
        length = sum(len(text.encode()) for text in texts)
        return likelihood(network, base, rows, length, self.device, context=self.positions)
