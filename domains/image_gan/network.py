"""Generator and discriminator: DCGAN's (Radford et al. 2016, arXiv:1511.06434) for 28x28, in three sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from domains.image_gan.sizes import DISCRIMINATOR_WIDTHS, LATENT, SIZES


class GeneratorNetwork(nn.Module):
    """Latents -> 4x4 -> 7x7 -> 14x14 -> 28x28 by transposed convolutions, each with batch norm and ReLU;
    tanh at the end.
    """

    def __init__(self, latent: int = LATENT, widths: Sequence[int] = SIZES["s"]["widths"]) -> None:
        super().__init__()
        a, b, c, d = widths
        self.latent, self.widths = latent, tuple(widths)
        self.layers = nn.Sequential(
            *up(latent, a, 4, 1, 0),  # [b, a, 4, 4]
            *up(a, b, 3, 2, 1),  # [b, b, 7, 7]
            *up(b, b, 3, 1, 1),
            *up(b, c, 4, 2, 1),  # [b, c, 14, 14]
            *up(c, d, 4, 2, 1),  # [b, d, 28, 28]
            nn.ConvTranspose2d(d, 1, 5, 1, 2),
            nn.Tanh(),
        )
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, latents: Tensor) -> Tensor:
        """[b, latent] -> [b, 1, 28, 28] in [-1, 1]"""
        return self.layers(latents[:, :, None, None])


def up(wide: int, narrow: int, kernel: int, stride: int, padding: int) -> tuple[nn.Module, ...]:
    return (
        nn.ConvTranspose2d(wide, narrow, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(narrow),
        nn.ReLU(),
    )


class DiscriminatorNetwork(nn.Module):
    """Strided convolutions without norms (they do not go with a gradient penalty); the batch's own deviation
    is its last feature map.

    Karras et al. 2018, arXiv:1710.10196, for the latter: a generator that makes the same picture again and
    again is told so.
    """

    def __init__(self, widths: Sequence[int] = DISCRIMINATOR_WIDTHS, group: int = 8) -> None:
        super().__init__()
        a, b, c = widths
        self.widths, self.group = tuple(widths), group
        self.first = nn.Conv2d(1, a, 5, 2, 2)  # 14x14
        self.second = nn.Conv2d(a, b, 4, 2, 1)  # 7x7
        self.third = nn.Conv2d(b, c, 3, 2, 1)  # 4x4
        self.fourth = nn.Conv2d(c + 1, c, 3, 1, 1)
        self.last = nn.Linear(c * 16, 1)

    def forward(self, images: Tensor) -> Tensor:
        """[b, 1, 28, 28] in [-1, 1] -> logits [b]; high = real.

        `b` is a multiple of the group, or smaller.
        """
        x = images
        for layer in (self.first, self.second, self.third):
            x = F.leaky_relu(layer(x), 0.2)
        x = torch.cat((x, self._deviation(x)), dim=1)
        return self.last(F.leaky_relu(self.fourth(x), 0.2).flatten(1))[:, 0]

    def _deviation(self, x: Tensor) -> Tensor:
        """[b, 1, 4, 4]: how much the pictures of each group differ, one number a group."""
        size = min(self.group, len(x))
        groups = x.reshape(-1, size, *x.shape[1:]) if len(x) % size == 0 else x[None]
        spread = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
        return spread.repeat_interleave(groups.shape[1])[:, None, None, None].expand(-1, 1, *x.shape[2:])
