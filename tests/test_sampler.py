"""Common random numbers: the noise depends on (seed, item, position, token) alone, and the samples follow
the model.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from bench.errors import Diverged
from domains.language.sampler import (
    ACCELERATOR_BATCH,
    SamplerSettings,
    accelerator_batch,
    gumbel,
    sample_tokens,
    warp,
)

START, END, VOCABULARY = 0, 1, 50


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """A small random Llama whose logits are spread enough to be interesting."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(10)
    return model


def settings(batch: int = 64, **changes: float) -> SamplerSettings:
    return SamplerSettings(START, END, max_tokens=40, batch=batch, **changes)  # type: ignore[arg-type]


def test_noise_is_bit_identical_whatever_the_batch() -> None:
    items = torch.arange(100)
    whole = gumbel(7, items, 3, 1024)
    assert torch.equal(whole[41:42], gumbel(7, items[41:42], 3, 1024))
    assert torch.equal(whole[[5, 80, 3]], gumbel(7, torch.tensor([5, 80, 3]), 3, 1024))
    assert torch.equal(whole[:, :1000], gumbel(7, items, 3, 1000))


def test_noise_differs_by_seed_item_position_and_token() -> None:
    base = gumbel(0, torch.tensor([0]), 0, 512)
    for other in (
        gumbel(1, torch.tensor([0]), 0, 512),
        gumbel(0, torch.tensor([1]), 0, 512),
        gumbel(0, torch.tensor([0]), 1, 512),
    ):
        assert not (base == other).any()
        assert abs(torch.corrcoef(torch.cat([base, other]))[0, 1]) < 4 / math.sqrt(512)
    assert len(base.unique()) == 512


def test_noise_is_gumbel() -> None:
    """Kolmogorov-Smirnov distance to exp(-exp(-x)); 1.95 / sqrt(n) is the 0.1 % point."""
    noise = gumbel(3, torch.arange(200), 5, 1000).flatten().double().sort().values
    expected = (-(-noise).exp()).exp()
    steps = torch.arange(1, len(noise) + 1) / len(noise)
    assert (steps - expected).abs().max() < 1.95 / math.sqrt(len(noise))
    assert noise.isfinite().all()


def test_argmax_of_perturbed_logits_samples_the_softmax() -> None:
    """Shares of 40,000 draws lie within 4 standard errors of their probabilities."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    draws = (logits + gumbel(11, torch.arange(40_000), 0, 4)).argmax(1)
    shares, p = torch.bincount(draws, minlength=4) / 40_000, logits.softmax(0)
    assert ((shares - p).abs() < 4 * (p * (1 - p) / 40_000).sqrt()).all()


def test_prefix_property_and_order(network: torch.nn.Module) -> None:
    many = dict(sample_tokens(network, range(30), 0, settings()))
    few = dict(sample_tokens(network, range(10), 0, settings()))
    assert all(few[i] == many[i] for i in range(10))
    assert len({tuple(row) for row in many.values()}) > 20
    assert any(len(row) < 40 for row in many.values()), "no early stop: the test would not test compaction"


def test_batches_of_1_and_64_agree_except_at_ties(network: torch.nn.Module) -> None:
    """They may part only where the two best perturbed logits lie within 1e-4 of each other."""
    margins: dict[tuple[int, int], float] = {}

    def trace(items: torch.Tensor, position: int, perturbed: torch.Tensor) -> None:
        best = perturbed.topk(2, dim=1).values
        margins.update(
            {(item, position): gap for item, gap in zip(items.tolist(), (best[:, 0] - best[:, 1]).tolist())}
        )

    alone = dict(sample_tokens(network, range(64), 5, settings(batch=1)))
    together = dict(sample_tokens(network, range(64), 5, settings(batch=64), trace))
    for item in range(64):
        if alone[item] != together[item]:
            parted = next(
                i for i, (a, b) in enumerate(zip([*alone[item], END], [*together[item], END])) if a != b
            )
            assert margins[item, parted] < 1e-4
    assert sum(alone[i] == together[i] for i in range(64)) >= 62


def test_another_seed_gives_other_samples(network: torch.nn.Module) -> None:
    a, b = (dict(sample_tokens(network, range(20), seed, settings())) for seed in (0, 1))
    assert all(a[i] != b[i] for i in range(20) if a[i] or b[i])


def test_agrees_with_transformers_own_generate(network: torch.nn.Module) -> None:
    """The same noise through `generate`, which has no early compaction and its own cache handling."""
    from transformers import LogitsProcessor, LogitsProcessorList

    class Noise(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            return scores + gumbel(9, torch.arange(len(scores)), input_ids.shape[1] - 1, scores.shape[1])

    found = network.generate(  # type: ignore[operator]
        torch.full((16, 1), START),
        do_sample=False,
        max_new_tokens=40,
        eos_token_id=END,
        pad_token_id=END,
        logits_processor=LogitsProcessorList([Noise()]),
    )
    ours = dict(sample_tokens(network, range(16), 9, settings()))
    for item, row in enumerate(found[:, 1:].tolist()):
        assert ours[item] == (row[: row.index(END)] if END in row else row)


def test_nucleus_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    for nucleus, kept in ((0.4, 1), (0.5, 1), (0.6, 2), (0.9, 3), (1.0, 4)):
        assert warp(logits, settings(nucleus=nucleus)).isfinite().sum() == kept
    shuffled = logits[:, [2, 0, 3, 1]]
    assert warp(shuffled, settings(nucleus=0.6)).isfinite().tolist() == [[False, True, False, True]]


def test_temperature_sharpens(network: torch.nn.Module) -> None:
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(warp(logits, settings(temperature=0.5)), logits * 2)


def test_a_network_that_is_not_finite_has_diverged(network: torch.nn.Module) -> None:
    import copy

    broken = copy.deepcopy(network)
    with torch.no_grad():
        broken.lm_head.weight[3] = torch.nan
    with pytest.raises(Diverged, match="not finite"):
        list(sample_tokens(broken, range(4), 0, settings()))


def test_longer_texts_are_cut_at_the_maximum(network: torch.nn.Module) -> None:
    rows = dict(sample_tokens(network, range(20), 0, SamplerSettings(START, None, max_tokens=7)))
    assert {len(row) for row in rows.values()} == {7}
    assert all(a <= b for a, b in pairwise(sorted(rows)))


def test_an_accelerator_writes_as_many_texts_together_as_its_memory_holds(network: torch.nn.Module) -> None:
    bytes_per_text = 2 * 2 * 32 * 40 * 4  # keys and values, layers, width, tokens, float32
    assert accelerator_batch(network, settings(), 2**40) == ACCELERATOR_BATCH
    assert accelerator_batch(network, settings(), 4 * 1000 * bytes_per_text) == 1000
    longer = accelerator_batch(network, settings(), 4 * 1000 * bytes_per_text, longest_prompt=40)
    assert longer == 500, "a prompt is remembered, too"
    assert accelerator_batch(network, settings(), 0) == 64, "never fewer than on a CPU"
    assert accelerator_batch(torch.nn.Linear(2, 2), settings(), 2**40) == 64, "a network that tells no sizes"
    assert accelerator_batch(network, settings(cached=False), 2**40) == 64
