"""Recalibration: running statistics that fit the compressed weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bench.errors import Unsupported
from bench.interfaces import Compressed, Context, Method, StoredTensor
from bench.methods.batch_norm import layers_with_statistics, reestimate
from bench.methods.calibration import calibration_of
from bench.methods.plain import half, plain


@dataclass(frozen=True)
class Recalibrate(Method):
    """Re-estimates batch-norm statistics for the compressed weights, since the original statistics no longer
    fit them.

    Exact averages over a fixed number of batches replace the running means and variances. The batches are the
    generator's own inputs (latents) and never real data. In a generative adversarial network this decides
    whether low bits still give recognisable pictures.
    """

    name = "recalibrate"
    description = "running statistics estimated again on the generator's own inputs"

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        if context.generator is None or not layers_with_statistics(compressed.network):
            raise Unsupported("the network has no running statistics to recalibrate")
        calibration = calibration_of(compressed, context)
        network = calibration.network
        reestimate(network, calibration.batches)
        changed: dict[str, StoredTensor] = {}
        for path, layer in layers_with_statistics(network).items():
            for part in ("running_mean", "running_var"):
                name = f"{path}.{part}" if path else part
                if name in context.excluded:
                    continue
                fresh = plain(getattr(layer, part).detach())
                was_half = (old := compressed.tensors[name].values) is not None and old.dtype == torch.float16
                changed[name] = half(fresh) if was_half else fresh
        return compressed.replace(changed)
