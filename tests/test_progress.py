"""bench.util.progress and the sampler's call: one bar at a time, and no deprecated argument."""

from __future__ import annotations

import warnings

import pytest
import torch

from bench.util.progress import Bar
from domains.language.sampler import SamplerSettings, cache_argument, sample_tokens


def test_an_inner_bar_writes_on_the_outer_bars_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("cells", 2) as outer:
        with Bar("sampling", 10) as inner:
            assert inner.inner.disable and not outer.inner.disable
            inner.update(4)
            assert outer.inner.postfix == "sampling 4/10"
        assert outer.inner.postfix == ""
        outer.update()
    assert "sampling:" not in capsys.readouterr().err  # no line of its own
    with Bar("sampling", 10) as alone:
        assert not alone.inner.disable


def test_a_bar_that_an_error_ended_is_no_longer_the_outer_one() -> None:
    with pytest.raises(KeyError), Bar("cells", 2):
        raise KeyError
    assert Bar.visible is None


class Old(torch.nn.Module):
    def forward(
        self, input_ids: torch.Tensor, past_key_values: object = None, use_cache: bool = False
    ) -> None: ...


class New(torch.nn.Module):
    def forward(self, input_ids: torch.Tensor, cache: object = None, use_cache: bool = False) -> None: ...


def test_the_cache_goes_by_the_name_that_the_network_knows() -> None:
    assert cache_argument(Old()) == "past_key_values" and cache_argument(New()) == "cache"


def test_sampling_warns_of_nothing() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes)).eval()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("error")
        assert (
            len(list(sample_tokens(network, range(3), 0, SamplerSettings(start=1, end=2, max_tokens=4)))) == 3
        )
