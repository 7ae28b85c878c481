"""Tokens a second of the text sampler: ours with and without a KV cache, by batch size, beside
transformers' `generate`.
"""

from __future__ import annotations

import pytest
import torch

from domains.language.sampler import SamplerSettings, gumbel, sample_tokens
from domains.text.adapter import TextDomain

ITEMS = 256


@pytest.fixture(scope="module")
def opened():
    domain = TextDomain()
    return domain.open(domain.models["s@0"])


def tokens_of(rows) -> int:
    return sum(len(row) + 1 for row in rows)


@pytest.mark.parametrize("batch", [1, 16, 64, 256])
def test_with_cache(benchmark, opened, batch: int) -> None:
    items = range(min(ITEMS, 16 * batch))
    settings = SamplerSettings(opened.start, opened.end, max_tokens=256, batch=batch)
    rows = benchmark.pedantic(
        lambda: dict(sample_tokens(opened.network, items, 0, settings)), rounds=2, warmup_rounds=1
    )
    benchmark.extra_info["tokens_per_s"] = tokens_of(rows.values()) / benchmark.stats["min"]


def test_without_cache(benchmark, opened) -> None:
    """The whole prefix read again for every token."""

    @torch.inference_mode()
    def sample(n: int = 64):
        tokens, items = torch.full((n, 1), opened.start), torch.arange(n)
        done = torch.zeros(n, dtype=torch.bool)
        for position in range(256):
            logits = opened.network(input_ids=tokens, use_cache=False).logits[:, -1]
            chosen = (logits + gumbel(0, items, position, logits.shape[1])).argmax(1)
            tokens = torch.cat([tokens, chosen[:, None]], 1)
            done |= chosen == opened.end
            if done.all():
                break
        return [row[1 : row.index(opened.end)] if opened.end in row else row[1:] for row in tokens.tolist()]

    rows = benchmark.pedantic(sample, rounds=1)
    benchmark.extra_info["tokens_per_s"] = tokens_of(rows) / benchmark.stats["min"]


def test_transformers_generate(benchmark, opened) -> None:
    """The same noise through `generate`: the same tokens, and rows that have ended wait for the longest."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class Noise(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores + gumbel(0, torch.arange(len(scores)), input_ids.shape[1] - 1, scores.shape[1])

    def sample():
        return opened.network.generate(
            torch.full((ITEMS, 1), opened.start),
            do_sample=False,
            max_new_tokens=256,
            logits_processor=LogitsProcessorList([Noise()]),
        )

    found = benchmark.pedantic(sample, rounds=2, warmup_rounds=1)
    rows = [row[1 : row.index(opened.end)] if opened.end in row else row[1:] for row in found.tolist()]
    benchmark.extra_info["tokens_per_s"] = tokens_of(rows) / benchmark.stats["min"]
