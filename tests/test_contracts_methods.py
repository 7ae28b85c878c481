"""The same contract for every registered method, on one small network with all kinds of tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plug_ins import methods, tools
from torch import Tensor, nn

from bench.artifact.format import decode, encode, fill
from bench.contracts.contract import Skipped
from bench.contracts.method import CONTRACTS, apply, changes_weights, dense, made_by, skip_if_missing
from bench.contracts.network import Small, SmallGenerator
from bench.errors import BadInput, Unsupported
from bench.interfaces import Context
from bench.layers import tensors_of, weights_of
from bench.methods.notation import parse
from bench.registry import METHODS

TOOLS = tools()
QUANTIZERS = [name for name in methods(lambda kind: kind.quantizes) if name not in TOOLS]
# canonical texts are `ecsq:bits=2`, `gptq:bits=4`, `lowrank:rank=8`, `2:4` and `qat:grid=int4`
ALWAYS_SHOWN = (
    "ecsq",
    "tcq",
    "ldlq",
    "codebook",
    "lowrank",
    "gptq",
    "adaround",
    "brecq",
    "nm",
    "qat",
    *TOOLS,
)
PLAIN_NAMES = [name for name in METHODS if name not in ALWAYS_SHOWN]
every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture
def network() -> Small:
    return Small()


def assert_equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype, name


@every_method
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.__name__)
def test_a_method_keeps_each_contract(method: str, contract: Callable[[str], None]) -> None:
    try:
        skip_if_missing(method)
        contract(method)
    except Skipped as reason:
        pytest.skip(str(reason))


def test_the_contract_of_kept_tensors_concerns_all_that_change_weights() -> None:
    own = METHODS.keys() - TOOLS
    assert {name for name in own if changes_weights(name)} == own - {"none", "recalibrate"}
    made = [made_by(name) for name in QUANTIZERS]
    assert all("contract.weight" in one.touched and not one.untouched for one in made)


def test_quantizers_use_the_axis_of_the_output_channels(network: Small) -> None:
    tensors = apply("int4", network).tensors
    assert {
        name: (tensors[name].layout.axis, tensors[name].scales.shape[1]) for name in weights_of(network)
    } == {  # type: ignore[union-attr]
        "embed.weight": (0, 96),
        "expand.weight": (1, 64),
        "up.weight": (1, 24),
        "up_groups.weight": (1, 16),
        "down.weight": (0, 32),
        "flat.weight": (0, 64),
        "contract.weight": (0, 32),
    }


@pytest.mark.parametrize("method", ["int8", "int4", "binary", "magnitude"])
def test_the_network_rebuilt_from_the_file_computes_what_the_stored_tensors_say(
    method: str, network: Small
) -> None:
    """Layer by layer types: the same outputs as a network into which the dequantized values were written
    by hand.
    """
    compressed, by_hand, rebuilt = apply(method, network), Small(), Small(seed=1)
    with torch.no_grad():
        for name, target in tensors_of(by_hand).items():
            target.copy_(compressed.tensors[name].dequantize())
    fill(rebuilt, decode(encode(compressed, method))[2])
    outputs = [SmallGenerator(network).sample(n, 96, 0) for n in (by_hand, rebuilt, network)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


# --- recalibration ------------------------------------------------------------------------------------


def test_recalibration_averages_each_batchs_own_statistics(network: Small) -> None:
    found = apply("recalibrate", network).tensors
    seen: list[Tensor] = []
    hook = network.batch_norm.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    network.eval()(torch.arange(96))  # the first norm's input depends on no other norm
    hook.remove()
    batches = seen[0].detach().split(32)
    mean, variance = (
        torch.stack(parts).mean(0) for parts in ([b.mean(0) for b in batches], [b.var(0) for b in batches])
    )
    assert torch.allclose(found["batch_norm.running_mean"].dequantize(), mean, atol=1e-5)
    assert torch.allclose(found["batch_norm.running_var"].dequantize(), variance, rtol=1e-5)


def test_recalibration_follows_the_compressed_weights_and_changes_nothing_else(network: Small) -> None:
    plain, ours = apply("binary", network).tensors, apply("binary+recalibrate", network).tensors
    changed = {name for name in plain if not torch.equal(plain[name].dequantize(), ours[name].dequantize())}
    assert changed == {
        f"{layer}.{part}"
        for layer in ("batch_norm", "batch_norm_2d")
        for part in ("running_mean", "running_var")
    }
    assert (
        plain["batch_norm.running_mean"].values.dtype
        == ours["batch_norm.running_mean"].values.dtype
        == torch.float16
    )  # type: ignore[union-attr]
    assert ours["batch_norm.running_var"].values.dtype == torch.float32  # type: ignore[union-attr]
    sizes = [len(encode(apply(method, network), "")) for method in ("binary", "binary+recalibrate")]
    # fresh means, all zero, take nothing once deflated
    assert sizes[0] == pytest.approx(sizes[1], abs=2 * 80 + 32)


def test_recalibrating_an_intact_network_twice_changes_nothing(network: Small) -> None:
    once = apply("recalibrate", network)
    twice = parse("recalibrate")(once, Context(SmallGenerator(network)))
    assert_equal(dense(once.tensors), dense(twice.tensors))


def test_recalibration_comes_last_and_leaves_kept_statistics_alone(network: Small) -> None:
    with pytest.raises(BadInput, match="'recalibrate' has to come last"):
        parse("recalibrate+int8")
    kept = apply("recalibrate", network, {"batch_norm.running_mean": "it is measured elsewhere"})
    assert torch.equal(kept.tensors["batch_norm.running_mean"].dequantize(), network.batch_norm.running_mean)  # type: ignore[arg-type]
    assert "batch_norm.running_var" in kept.touched and "batch_norm.running_mean" not in kept.touched


def test_a_network_without_running_statistics_cannot_be_recalibrated() -> None:
    with pytest.raises(Unsupported, match="no running statistics"):
        apply("int8+recalibrate", nn.Sequential(nn.Linear(4, 4)))


@pytest.mark.parametrize(
    "text",
    [
        *PLAIN_NAMES,
        "ecsq:bits=2",
        "tcq:bits=1.5",
        "codebook:bits=2,granularity=channel",
        "lowrank:rank=8,bits=8+int4",
        "tcq:bits=2,states=8",
        "2:4",
        "qat:grid=int4",
        "permute:seed=3",
        "magnitude:sparsity=0.75+int4",
        "magnitude+fp16",
    ],
)
def test_canonical_text_is_read_back(text: str) -> None:
    assert parse(text).text == text


@given(st.floats(0, 1, exclude_max=True))
@settings(derandomize=True, deadline=None)
def test_canonical_text_loses_no_digit(sparsity: float) -> None:
    """The text names the cell: two methods must not share it."""
    chain = parse(f"magnitude:sparsity={sparsity!r}")
    assert parse(chain.text) == chain
