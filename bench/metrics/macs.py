"""Counts the multiply-accumulates (MACs) of sampling, from the shapes of the operators that ran.

It measures no time.

- A layer of weight W [out, in] has out * in MACs a position.
- A convolution has its weight's elements a position of the output (transposed: of the input). Taps that fall
  into the padding count, too.
- Attention of s queries to t keys has 2 * s * t * width, whatever the mask hides. It belongs to no weight.

The formulas are PyTorch's own (`torch.utils.flop_counter`; 2 FLOPs are 1 MAC). Sums, norms and activations
cost nothing there. An operator belongs to the weight whose memory it reads, and not to the module that called
it. This separates a tied head from the lookup of the embedding, which is free. It also separates the
projections of an attention layer from its products of two activations.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from bench.interfaces import Generator
from bench.layers import tensors_of, weights_of

# Whole layers as one operator, for which PyTorch has no formula. Their first argument is the input [.., ..,
# width], packed: [.., width].
RECURRENT = tuple(getattr(torch.ops.aten, name) for name in ("mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn"))
ATTENTION = tuple(
    getattr(torch.ops.aten, name)
    for name in ("_native_multi_head_attention", "_transformer_encoder_layer_fwd")
)
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
# PyTorch 2.15 is the first to have a formula for it
FUSED_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates a sample."""

    # with each compressible tensor, as `bench.layers.weights_of` names it; 0 where it is only looked up
    by_weight: Mapping[str, float]
    other: float  # of two activations, and with weights that no method covers

    @property
    def total(self) -> float:
        """All multiply-accumulates of a sample."""
        return sum(self.by_weight.values()) + self.other


def count_macs(generator: Generator, network: Module, n: int = 100, seed: int = 0) -> Macs:
    """Draw `n` samples and divide the cost of all steps and tokens among them.

    Work counts even where its result is discarded. Rows of a text batch that have ended are computed until
    the batch is compacted. A batch that a generator fills up to a fixed size costs as much as a full one, so
    `n` should be a multiple of that size. 100 is one for the embedded models. Raises `bench.errors.Diverged`
    as `Generator.sample` does.
    """
    with _Counter(network) as counter:
        generator.sample(network, n, seed)
    return Macs({name: macs / n for name, macs in counter.by_weight.items()}, counter.other / n)


def attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """FLOPs of queries times keys plus weights times values, for [b, heads, s, d], [b, heads, t, d], [b,
    heads, t, e].
    """
    return 2 * math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


class _Counter(TorchDispatchMode):
    """Observes all operators that run under it, in inference mode too, and counts their MACs.

    It does not change networks.
    """

    def __init__(self, network: Module) -> None:
        super().__init__()
        tensors = tensors_of(network)
        self.sizes = {name: tensors[name].numel() for name in weights_of(network)}
        self.spans = sorted(
            (start := tensors[name].data_ptr(), start + tensors[name].nbytes, name) for name in self.sizes
        )
        self.by_weight, self.other = dict.fromkeys(self.sizes, 0.0), 0.0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False.

        Skipping PyTorch's compiler would import it first, and that takes longer than the count.
        """
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs, packet = kwargs or {}, func.overloadpacket
        formula = flop_registry.get(packet) or (attention_flops if packet is FUSED_ATTENTION else None)
        if formula is None and torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), COMPOSITE):
            # made of other operators, which come here in turn. Not `func.decompose`: that may take another
            # implementation
            with self:
                return func._op_dk(COMPOSITE, *args, **kwargs)
        out = func(*args, **kwargs)
        # the last weight is the factor: one before it is added (addmm), or looked up in a slice
        if formula is not None:
            self._book(self._weights(args)[-1:], formula(*args, **kwargs, out_val=out) / 2)
        elif packet in RECURRENT or packet in ATTENTION:
            self._book_layer(args, packet in ATTENTION)
        return out

    def _weights(self, args: Sequence[Any]) -> list[str]:
        """The covered weights among an operator's arguments, whole or in part, transposed or not.

        Each appears once.
        """
        found: dict[str, None] = {}
        for tensor in (
            item
            for arg in args
            for item in (arg if isinstance(arg, (list, tuple)) else (arg,))
            if isinstance(item, Tensor)
        ):
            at = bisect_right(self.spans, (tensor.data_ptr(), math.inf, "")) - 1
            if at >= 0 and tensor.data_ptr() < self.spans[at][1]:
                found[self.spans[at][2]] = None
        return list(found)

    def _book(self, weights: Sequence[str], macs: float) -> None:
        for name in weights:
            self.by_weight[name] += macs
        if not weights:
            self.other += macs

    def _book_layer(self, args: Sequence[Any], attends: bool) -> None:
        """Count a whole layer: each weight is used once at every position, which is a time step or a
        token.
        """
        shape = args[0].shape
        for name in self._weights(args):
            self._book([name], self.sizes[name] * math.prod(shape[:-1]))
        if attends:  # to itself: PyTorch takes this operator only for self-attention
            self._book([], 2 * math.prod(shape) * shape[1])
