"""The same contract for every registered method, on one small network with all kinds of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_network import SmallTraining
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from bench.artifact.format import decode, encode, fill, tensors_digest
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Context, Generator, StoredTensor, StructureEdit, Training, Wrap
from bench.layers import tensors_of, weights_of
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.registry import METHODS

QUANTIZERS = [name for name in METHODS if METHODS.load(name).quantizes]
CHANGE_WEIGHTS = [name for name in METHODS if name not in ("none", "recalibrate")]
# canonical texts are `ecsq:bits=2`, `2:4` and `qat:grid=int4`
PLAIN_NAMES = [name for name in METHODS if name not in ("ecsq", "nm", "qat")]
every_method = pytest.mark.parametrize("method", METHODS)


class Small(nn.Module):
    """Linear, Conv1D, Embedding, convolutions both ways and in groups, tied weights, norms, biases,
    buffers of floats and integers.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Embedding(96, 32)
            self.norm = nn.LayerNorm(32)
            self.expand = Conv1D(64, 32)  # [32, 64]: output channels are axis 1
            self.batch_norm = nn.BatchNorm1d(64)
            self.up = nn.ConvTranspose2d(64, 24, 4, stride=2)  # [64, 24, 4, 4]: output channels are axis 1
            # [24, 8, 3, 3]: a channel of each group shares a scale
            self.up_groups = nn.ConvTranspose2d(24, 16, 3, groups=2)
            self.batch_norm_2d = nn.BatchNorm2d(16)
            self.down = nn.Conv2d(16, 32, 3, groups=2)  # [32, 8, 3, 3]
            self.flat = nn.Conv1d(32, 64, 3)
            self.contract = nn.Linear(64, 32)
            self.head = nn.Linear(32, 96, bias=False)
            self.head.weight = self.embed.weight
            for parameter in self.parameters():
                nn.init.normal_(parameter)

    def forward(self, tokens: Tensor) -> Tensor:
        """[b] -> [b, 96]"""
        x = self.batch_norm(self.expand(self.norm(self.embed(tokens))))
        x = self.down(self.batch_norm_2d(self.up_groups(self.up(x[:, :, None, None]))))
        return self.head(self.contract(self.flat(x.flatten(2)).mean(2)))


class SmallGenerator(Generator):
    """Only what methods ask of a generator."""

    def __init__(self, network: Small) -> None:
        self.network = network

    def rebuild(self, structure: Sequence[StructureEdit]) -> nn.Module:
        return Small(seed=1)

    def sample(self, network: nn.Module, n: int, seed: int) -> Tensor:
        with torch.no_grad():
            return network.eval()(torch.arange(n))

    def calibration(self, seed: int) -> Iterator[tuple[tuple[Tensor], dict[str, Tensor]]]:
        yield from (((torch.arange(start, start + 32),), {}) for start in (0, 32, 64))

    def training(
        self, network: nn.Module, seed: int, wrap: Wrap | None = None, **options: object
    ) -> Training:
        return SmallTraining(network, seed, wrap, tokens=96)


@pytest.fixture
def network() -> Small:
    return Small()


def apply(method: str, network: nn.Module, kept: Mapping[str, str] | None = None) -> Compressed:
    return parse(method)(
        original(network),
        Context(SmallGenerator(network) if isinstance(network, Small) else None, excluded=kept or {}),
    )


def dense(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    return {name: stored.dequantize() for name, stored in tensors.items()}


def assert_equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype, name


@every_method
def test_the_input_stays_untouched(method: str, network: Small) -> None:
    before = original(network)
    tensors, values, digest = (
        dict(before.tensors),
        {n: t.clone() for n, t in dense(before.tensors).items()},
        tensors_digest(network),
    )
    parse(method)(before, Context(SmallGenerator(network)))
    assert tensors_digest(network) == digest
    assert dict(before.tensors) == tensors
    assert_equal(dense(before.tensors), values)


@every_method
def test_the_output_is_deterministic(method: str, network: Small) -> None:
    global_state = torch.random.get_rng_state()
    assert encode(apply(method, network), method) == encode(apply(method, Small()), method)
    assert torch.equal(torch.random.get_rng_state(), global_state)


@every_method
def test_every_tensor_is_stored(method: str, network: Small) -> None:
    compressed = apply(method, network)
    assert {n: s.shape for n, s in compressed.tensors.items()} == {
        n: tuple(t.shape) for n, t in tensors_of(network).items()
    }
    assert not compressed.touched - compressed.tensors.keys()
    assert all(stored.dequantize().isfinite().all() for stored in compressed.tensors.values())


@every_method
def test_the_artifact_gives_exactly_the_dequantized_tensors(method: str, network: Small) -> None:
    compressed = apply(method, network)
    text, structure, tensors = decode(encode(compressed, method))
    assert text == method and tuple(structure) == compressed.structure
    assert_equal(dense(tensors), dense(compressed.tensors))


@every_method
def test_the_rebuilt_network_computes_with_them_and_is_tied(method: str, network: Small) -> None:
    compressed, rebuilt = apply(method, network), Small(seed=1)
    fill(rebuilt, decode(encode(compressed, method))[2])
    assert_equal(tensors_of(rebuilt), dense(compressed.tensors))
    assert rebuilt.head.weight is rebuilt.embed.weight
    assert "embed.weight" in compressed.tensors and "head.weight" not in compressed.tensors


@every_method
def test_the_file_is_no_larger_than_that_of_none(method: str, network: Small) -> None:
    """Under the same name in the header, which counts too; what each tensor lost is said there in a byte."""
    tensors = len(original(network).tensors)
    assert len(encode(apply(method, network), "")) <= len(encode(original(network), "")) + tensors


@pytest.mark.parametrize("method", QUANTIZERS)
def test_quantizers_touch_every_weight_and_are_smaller_than_fp16(method: str, network: Small) -> None:
    compressed = apply(method, network)
    assert {name for name, stored in compressed.tensors.items() if stored.quantized} == set(
        weights_of(network)
    )
    assert len(encode(compressed, method)) < len(encode(apply("fp16", network), "fp16"))


@pytest.mark.parametrize("method", [*QUANTIZERS, "fp16"])
def test_pruned_zeros_stay_zeros(method: str, network: Small) -> None:
    pruned = apply("magnitude:sparsity=0.5", network)
    compressed = apply(f"magnitude:sparsity=0.5+{method}", network)
    tensors = decode(encode(compressed, method))[2]
    for name in weights_of(network):
        zero = pruned.tensors[name].dequantize() == 0
        assert zero.double().mean() == pytest.approx(0.5, abs=1e-3)
        assert not tensors[name].dequantize()[zero].any(), name


@pytest.mark.parametrize("method", CHANGE_WEIGHTS)
def test_kept_tensors_stay_as_they_are_and_are_recorded(method: str, network: Small) -> None:
    kept = {"contract.weight": "it is the last one"}
    compressed, free = apply(method, network, kept), apply(method, network)
    assert compressed.tensors["contract.weight"].dequantize().equal(network.contract.weight)
    assert "contract.weight" in free.touched and "contract.weight" not in compressed.touched
    assert compressed.untouched == kept
    assert not free.untouched


@pytest.mark.parametrize("method", ["none", *(m for m in CHANGE_WEIGHTS if not METHODS.load(m).trains)])
def test_what_no_method_covers_is_named(method: str) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 4))
    compressed = apply(method, network)
    assert compressed.untouched == {"1.weight": "layers of type Bilinear are not covered"}
    assert "1.weight" in compressed.tensors


def test_quantizers_use_the_axis_of_the_output_channels(network: Small) -> None:
    tensors = apply("int4", network).tensors
    assert {
        name: (tensors[name].layout.axis, tensors[name].scales.shape[1]) for name in weights_of(network)
    } == {  # type: ignore[union-attr]
        "embed.weight": (0, 96),
        "expand.weight": (1, 64),
        "up.weight": (1, 24),
        "up_groups.weight": (1, 8),
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
