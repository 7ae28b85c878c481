"""Re-estimates the running statistics of normalisation layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

Batches = Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]  # what a network is called with


def layers_with_statistics(network: Module) -> dict[str, _BatchNorm]:
    """Path -> layer: the layers that normalise by running means and variances."""
    return {
        path: m
        for path, m in network.named_modules()
        if isinstance(m, _BatchNorm) and m.running_mean is not None
    }


@torch.no_grad()
def reestimate(network: Module, batches: Batches) -> None:
    """Set all running statistics to the plain average over `batches` of each batch's own statistics.

    Only these layers run in training mode, so dropout stays off. Their momentum is unchanged afterwards.
    """
    layers = layers_with_statistics(network).values()
    before = [(layer, layer.momentum, layer.training) for layer in layers]
    was_training = network.training
    network.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # PyTorch's word for the cumulative average
        layer.train()
    for args, kwargs in batches:
        network(*args, **kwargs)
    network.train(was_training)
    for layer, momentum, training in before:
        layer.momentum = momentum
        layer.train(training)
