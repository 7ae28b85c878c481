"""Describes a network by a few numbers that may explain how well it can be compressed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.interfaces import Layout, ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

# by class name: `LlamaRMSNorm` needs no import here
NORMALISATION = re.compile(r"(Batch|Group|Layer|Instance|RMS)Norm(\dd)?$")


@dataclass(frozen=True)
class Anatomy:
    """Covariates of a model. None means that the value is unknown or that the network has no such layer."""

    parameters: int  # tied ones once
    samples_seen: int | None  # in training, repeats counted
    samples_per_parameter: float | None
    weight_kurtosis: float | None  # excess, of the compressible weights; 0 = Gaussian, above = heavy tails
    normalisation: dict[str, int]  # type of layer -> how many
    untouched_share: float  # of the parameters, those in tensors that no method compresses


def anatomy(network: nn.Module, spec: ModelSpec) -> Anatomy:
    """The covariates of a network that `spec` describes."""
    from bench.layers import weights_of

    parameters = {name: p.detach() for name, p in network.named_parameters()}
    total = sum(p.numel() for p in parameters.values())
    weights = {
        name: (parameters[name], weight.layout())
        for name, weight in weights_of(network).items()
        if name not in spec.excluded
    }
    return Anatomy(
        parameters=total,
        samples_seen=spec.samples_seen,
        samples_per_parameter=spec.samples_seen / total if spec.samples_seen is not None else None,
        weight_kurtosis=weight_kurtosis(weights),
        normalisation=normalisation_of(network),
        untouched_share=1 - sum(tensor.numel() for tensor, _ in weights.values()) / total,
    )


def normalisation_of(network: nn.Module) -> dict[str, int]:
    """Normalisation layers by class name, in alphabetical order."""
    names = [type(module).__name__ for module in network.modules()]
    return dict(sorted(Counter(name for name in names if NORMALISATION.search(name)).items()))


def weight_kurtosis(weights: Mapping[str, tuple[Tensor, Layout]]) -> float | None:
    """The mean excess kurtosis of tensors, given with the layout of their output channels.

    It weights each by its size.

    None where no tensor has a channel that varies.
    """
    known = [
        (kurtosis, tensor.numel())
        for tensor, layout in weights.values()
        if (kurtosis := excess_kurtosis(tensor, layout)) is not None
    ]
    return (
        sum(kurtosis * count for kurtosis, count in known) / sum(count for _, count in known)
        if known
        else None
    )


def excess_kurtosis(tensor: Tensor, layout: Layout | None = None) -> float | None:
    """E[z⁴] - 3 over all weights z of a tensor.

    Each output channel is first standardised by its own mean and deviation.

    It is 0 for a Gaussian, -1.2 for a uniform and 3 for a Laplace distribution. Heavy tails cost most in a
    quantizer with one scale a channel. A channel of n Gaussian weights has -6 / (n + 1) on average and not 0,
    because its own mean and deviation fit it. This biases short channels. Channels whose weights are all
    equal are left out. None where no channel remains.
    """
    rows = (layout or Layout()).rows(tensor.double())  # [channels, n]
    rows = rows[rows.amax(1) > rows.amin(1)]
    if not len(rows):
        return None
    centred = rows - rows.mean(1, keepdim=True)
    z = centred / centred.square().mean(1, keepdim=True).sqrt()
    return float((z**4).mean()) - 3
