"""`fid`, `kid` and `is` as others publish them: torch-fidelity with its own Inception network, whose
weights it downloads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.errors import BadInput, in_a_line
from bench.interfaces import SampleFeatures
from bench.util.cache import Latest


def load_inception() -> Any:
    """torch-fidelity's network; fetches its weights, or says in one line why not."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        return FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    except Exception as error:
        reason = in_a_line(error)
        raise BadInput(
            f"fid, kid and is need the weights of torch-fidelity's Inception, which cannot be had: {reason}"
        ) from None


class Coloured(torch.utils.data.Dataset[Tensor]):
    """Grey pictures as torch-fidelity wants them: uint8 [3, h, w]."""

    def __init__(self, observed: SampleFeatures) -> None:
        self.pixels = torch.from_numpy(np.ascontiguousarray(observed.samples))

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, row: int) -> Tensor:
        return self.pixels[row].expand(3, -1, -1)


def inception_metrics(generated: SampleFeatures, real: SampleFeatures, device: str) -> Mapping[str, float]:
    """All three at once; the last pair's are kept, since they are asked for one by one."""
    return _latest.of([generated.samples, real.samples], lambda: _inception_metrics(generated, real, device))


_latest: Latest[dict[str, float]] = Latest()


def _inception_metrics(generated: SampleFeatures, real: SampleFeatures, device: str) -> dict[str, float]:
    from torch_fidelity import calculate_metrics

    return calculate_metrics(
        input1=Coloured(generated),
        input2=Coloured(real),
        fid=True,
        kid=True,
        isc=True,
        kid_subset_size=min(1000, len(generated.samples), len(real.samples)),
        cuda=device != "cpu",
        verbose=False,
        save_cpu_ram=True,
    )
