"""The secondary evaluator of quality: an autoregressive network that predicts each pixel from those above and
to the left of it.

Gated PixelCNN (van den Oord et al. 2016, arXiv:1606.05328), small. Another kind of witness than the first:
not ImageNet's idea of a surface, but a likelihood learned from these pictures. Bare likelihood tells little
(a plain bag is always likelier than a patterned shirt), so what it reports is how far the picture's surprisal
lies from what the network itself expected at each pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.interfaces import Evaluator
from bench.util.cache import Latest
from domains.images.encoder import load
from domains.images.evaluators import GRID, Pictures, ProbabilisticPCA, dithered
from domains.images.training import ImageTraining, Recipe, save_half

WEIGHTS = Path(__file__).parent / "weights" / "pixel_judge"
LEVELS = 32  # grey levels that the network tells apart: the dither blurs finer ones anyway
# of the range; the primary evaluator's .03 would let noise count that no eye sees (docs/training-log.md)
DITHER = 0.05
WIDTH, LAYERS = 24, 6
RECIPE = Recipe(steps=2000, batch=32, learning_rate=3e-3, average=0.998)


class PixelNetwork(nn.Module):
    """Causal convolutions: half a 7x7, then residual layers of half a 3x3 with a gate; a softmax over grey
    levels at each pixel.
    """

    def __init__(self, width: int = WIDTH, layers: int = LAYERS, levels: int = LEVELS) -> None:
        super().__init__()
        self.levels = levels
        self.stem = CausalConv2d(2, width, 3, own=False)
        self.layers = nn.ModuleList(GatedLayer(width, dilation) for dilation in ((1, 2) * layers)[:layers])
        self.head = nn.Conv2d(width, levels, 1)

    def states(self, levels: Tensor) -> Tensor:
        """[b, 1, h, w] grey levels, integers -> what is known of each pixel before it is seen, [b, width,
        h, w].
        """
        grey = levels.float() / (self.levels - 1)
        # the ones tell the picture from its padding
        x = self.stem(torch.cat((grey, torch.ones_like(grey)), dim=1))
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, levels: Tensor) -> Tensor:
        """[b, 1, h, w] -> logits [b, levels, h, w]"""
        return self.head(F.silu(self.states(levels)))


class GatedLayer(nn.Module):
    """x + projection(a * sigmoid(b)), where (a, b) is a causal convolution of x."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = CausalConv2d(width, 2 * width, 1, own=True, dilation=dilation)
        self.project = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(F.silu(x)).chunk(2, dim=1)
        return x + self.project(a * torch.sigmoid(b))


class CausalConv2d(nn.Conv2d):
    """Looks above and to the left, `reach` pixels; at its own place too, where `own` (of states, which
    know only what came before).
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, reach: int, own: bool, dilation: int = 1) -> None:
        super().__init__(inputs, outputs, (reach + 1, 2 * reach + 1), dilation=dilation)
        self.around = dilation * reach
        mask = torch.ones(reach + 1, 2 * reach + 1)
        mask[reach, reach + own :] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (self.around, self.around, self.around, 0))
        return F.conv2d(padded, self.weight * self.mask, self.bias, dilation=self.dilation)


def levels_of(pixels: np.ndarray) -> Tensor:
    """uint8 [n, 1, h, w] -> grey levels of the dithered pictures, int64: what no eye sees must not count."""
    return (dithered(pixels, DITHER) * (LEVELS - 1)).round().clamp(0, LEVELS - 1).long()


class PixelJudge(Evaluator):
    """Features: the network's states, averaged on a 4x4 grid, standardized, 64 principal components.

    Surprisal: by how many standard deviations the picture's log-loss exceeds what the network expected of it:
    the sum over pixels of (-log p - entropy), over the root of the summed variances. Near 0 for what the
    network would draw; high for noise, low for blur.
    """

    name = "pixel_judge"
    role = "quality"
    version = 2  # 1 had the primary evaluator's dither; no published number used it

    def __init__(self, device: str = "cpu", folder: Path = WEIGHTS, fitted: bool = True) -> None:
        with torch.random.fork_rng(devices=[]):
            empty = PixelNetwork()
        self.network: Any = (
            load(empty, folder / "pixel_judge.safetensors").to(device).to(memory_format=torch.channels_last)
        )
        self.device = device
        self.components = ProbabilisticPCA.read(folder / "components.safetensors") if fitted else None
        self._latest: Latest[tuple[Tensor, Tensor]] = Latest()

    def features(self, samples: Pictures) -> Tensor:
        assert self.components is not None
        return self.components.features(self.read(samples)[0])

    def surprisal(self, samples: Pictures) -> Tensor:
        return self.read(samples)[1]

    def read(self, samples: Pictures) -> tuple[Tensor, Tensor]:
        """-> grids [n, 16 * width], surprisal [n]."""
        return self._latest.of(samples, lambda: self._read(np.ascontiguousarray(samples)))

    @torch.inference_mode()
    def _read(self, pixels: np.ndarray, batch: int = 50) -> tuple[Tensor, Tensor]:
        grids, surprisals = [], []
        for start in range(0, len(pixels), batch):
            levels = levels_of(pixels[start : start + batch]).to(self.device)
            states = F.silu(self.network.states(levels))
            grids.append(F.adaptive_avg_pool2d(states, GRID).flatten(1).cpu())
            surprisals.append(excess(self.network.head(states), levels[:, 0]).cpu())
        return torch.cat(grids), torch.cat(surprisals)


def excess(logits: Tensor, levels: Tensor) -> Tensor:
    """Standardized excess log-loss: logits [b, l, h, w], levels [b, h, w] -> [b]."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    loss = -log_p.gather(1, levels[:, None])[:, 0]
    entropy = -(p * log_p).sum(1)
    variance = (p * log_p.square()).sum(1) - entropy.square()
    summed = [x.double().sum((1, 2)) for x in (loss - entropy, variance)]
    return (summed[0] / summed[1].clamp_min(1e-12).sqrt()).float()


class PixelJudgeTraining(ImageTraining):
    """Cross-entropy of the grey level of each pixel, on real pictures with fresh dither."""

    def __init__(
        self,
        pixels: np.ndarray,
        held_out: np.ndarray,
        recipe: Recipe = RECIPE,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PixelNetwork().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        super().__init__({"network": network}, pixels, recipe, seed, device)
        self.held_out = held_out[:1000]
        self.optimizers["adamw"] = (
            torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate),
            recipe.learning_rate,
        )

    def losses(self) -> dict[str, float]:
        levels = levels_of(self.pixels[self.indices()].numpy()).to(self.device)
        loss = F.cross_entropy(self.networks["network"](levels), levels[:, 0])
        return self.descend(loss, clip=1.0)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Nats a pixel on held-out pictures."""
        levels = levels_of(self.held_out).to(self.device)
        network = self.averages["network"]
        losses = [F.cross_entropy(network(some), some[:, 0]).item() * len(some) for some in levels.split(100)]
        return {"nats_per_pixel": sum(losses) / len(levels)}

    def freeze(self, folder: Path) -> None:
        save_half(self, folder, "pixel_judge")
        judge = PixelJudge(folder=folder, fitted=False)
        ProbabilisticPCA.fit(judge.read(self.pixels[:20_000].numpy())[0]).write(
            folder / "components.safetensors"
        )
