"""The generator: a small diffusers U-Net on 2x2 pixel-unshuffled pictures, in three sizes.

A picture [1, 28, 28] becomes [4, 14, 14] (Shi et al. 2016, arXiv:1609.05158): no information is lost and a
convolution costs a quarter. The U-Net (Ronneberger et al. 2015; Ho et al. 2020) has one layer a block and
attention at 7x7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import UNet2DModel
    from torch import Tensor

FOLD = 2
CHANNELS, SIDE = FOLD**2, 28 // FOLD

SIZES: dict[str, dict[str, Any]] = {  # name -> channels of the two resolutions               parameters
    "xs": dict(block_out_channels=(16, 24)),  # 117,932
    "s": dict(block_out_channels=(32, 48)),  # 464,980
    "m": dict(block_out_channels=(64, 104)),  # 2,061,356
}


def unet(size: str, seed: int) -> UNet2DModel:
    """An untrained network, a function of its seed."""
    import torch
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DModel(
            sample_size=SIDE,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            **SIZES[size],
        )


def fold(images: Tensor) -> Tensor:
    """[b, 1, 28, 28] -> [b, 4, 14, 14]"""
    import torch.nn.functional as F

    return F.pixel_unshuffle(images, FOLD)
