"""How much error feedback can spare each network's layers: `python -m scripts.studies.feedback_gain [MODEL]`.

Rounding errors of size e, column by column, cost a layer's output e^2 times the mean diagonal of H, the
second moments of its inputs. If later columns make good what they can, column j costs e^2 d_j instead, where
d_j is what the later inputs do not foretell of input j. The gain is the ratio of the two means, in decibels.
6.02 dB are one bit a weight.
"""

from __future__ import annotations

import math
import sys

from torch import Tensor

from bench.interfaces import Context
from bench.layers import weights_of
from bench.methods.calibration import calibration_of, row_length
from bench.methods.error_feedback import inverse_factor
from bench.methods.plain import original
from bench.registry import open_domain


def gain(moments: Tensor) -> float:
    """The gain in dB of one layer: moments float64 [groups, n, n]."""
    left = 1 / inverse_factor(moments).diagonal(dim1=1, dim2=2).square()
    return 10 * math.log10(float(moments.diagonal(dim1=1, dim2=2).mean() / left.mean()))


def gains(domain: str, model: str) -> dict[str, tuple[int, float]]:
    """Name of a weight whose inputs are known -> (its weights, the gain in dB)."""
    opened = open_domain(domain)
    generator = opened.open(opened.locate(model))
    compressed = original(generator.network)
    calibration = calibration_of(compressed, Context(generator=generator))
    lengths = {
        name: row_length(compressed.tensors[name], weight)
        for name, weight in weights_of(generator.network).items()
        if calibration.layers(name)
    }
    return {
        name: (math.prod(compressed.tensors[name].shape), gain(own))
        for name, own in calibration.moments(lengths).items()
    }


def main() -> None:
    model = sys.argv[1] if len(sys.argv) > 1 else "s@0"
    for domain in ("image_gan", "image_diffusion", "text"):
        found = gains(domain, model)
        total = sum(count for count, _ in found.values())
        mean = sum(count * own for count, own in found.values()) / total
        print(f"{domain} {model}: {mean:.1f} dB, weighted by size, over {len(found)} weights")
        for name, (count, own) in sorted(found.items(), key=lambda item: -item[1][0])[:6]:
            print(f"  {name}: {own:.1f} dB of {count:,} weights")


if __name__ == "__main__":
    main()
