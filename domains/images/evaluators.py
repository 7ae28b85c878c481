"""The two evaluators of pictures: early ImageNet stages on a grid for quality, a contrastive encoder for
diversity.

Neither shares weights or architecture with the generators. The first sees every damage to a surface; the
second looks through damage at what a picture is of. One space for both questions would confound them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.interfaces import Evaluator
from bench.util.cache import Latest
from domains.images.effnet import FILE, EffnetStages

WEIGHTS = Path(__file__).parent / "weights"
COMPONENTS = 64
DITHER = 0.03  # of the range
GRID = 4
WHITE, LEAST_WHITE = 98, 32  # percentile of a picture that is stretched to white; never from below this level
# pixels: at their own size pictures can be blurred by half a pixel unseen (docs/training-log.md)
ENLARGED = 64

Pictures = Sequence[np.ndarray] | np.ndarray  # uint8 [n, 1, 28, 28]


class Effnet(Evaluator):
    """EfficientNet-lite0's early stages of the picture in twice its size, averaged on a 4x4 grid,
    standardized, 64 principal components.

    Surprisal: negative log-likelihood in nats under probabilistic PCA (Tipping and Bishop 1999), residual
    included. Before it every picture, real or generated, is stretched to full contrast (the network takes
    fragments in the dark for a dark garment), and gets the same faint dither, seeded by its content: what no
    eye sees must not count.
    """

    name = "effnet"
    role = "quality"
    version = 1
    dither = DITHER
    grid = GRID

    def __init__(self, device: str = "cpu", fitted: bool = True) -> None:
        from safetensors.torch import load_file

        self.network = EffnetStages(load_file(FILE)).to(device).eval()
        self.model = ProbabilisticPCA.read(self.components_file()) if fitted else None
        self.device = device
        self._latest: Latest[Tensor] = Latest()

    @classmethod
    def components_file(cls) -> Path:
        return WEIGHTS / "effnet" / f"{cls.name}.safetensors"

    def features(self, samples: Pictures) -> Tensor:
        assert self.model is not None
        return self.model.features(self.grids(samples))

    def surprisal(self, samples: Pictures) -> Tensor:
        assert self.model is not None
        return self.model.surprisal(self.grids(samples))

    def grids(self, samples: Pictures) -> Tensor:
        """[n, 1792]."""
        return self._latest.of(samples, lambda: self._grids(np.ascontiguousarray(samples)))

    def looked_at(self, size: tuple[int, int]) -> tuple[int, int]:
        """The height and width in which the network sees a picture of this height and width."""
        return ENLARGED, ENLARGED

    @torch.inference_mode()
    def _grids(self, pixels: np.ndarray, batch: int = 25) -> Tensor:
        rows = []
        for start in range(0, len(pixels), batch):
            images = dithered(stretched(pixels[start : start + batch]), self.dither).to(self.device)
            images = F.interpolate(
                images, size=self.looked_at((images.shape[-2], images.shape[-1])), mode="bilinear"
            )
            stages = self.network(images.expand(-1, 3, -1, -1) * 2 - 1)
            means = [F.adaptive_avg_pool2d(stage, self.grid).flatten(1) for stage in stages]
            rows.append(torch.cat(means, dim=1).cpu())
        return torch.cat(rows)


class EffnetUndithered(Effnet):
    """The same without the dither, beside it and never the primary one: it takes noise that no eye sees
    for damage.
    """

    name = "effnet_undithered"
    dither = 0.0


class Encoder(Evaluator):
    """A convolutional network for which a picture and its damaged copy are the same, and two pictures are
    not; unit-length output.
    """

    name = "encoder"
    role = "diversity"
    version = 1

    def __init__(self, device: str = "cpu", folder: Path = WEIGHTS / "encoder") -> None:
        from domains.images.encoder import EncoderNetwork, load

        with torch.random.fork_rng(devices=[]):
            empty = EncoderNetwork()
        self.network, self.device = load(empty, folder / "encoder.safetensors").to(device), device

    @torch.inference_mode()
    def features(self, samples: Pictures, batch: int = 250) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(samples))
        return torch.cat(
            [self.network(images.to(self.device).float() / 255).cpu() for images in pixels.split(batch)]
        )


def stretched(pixels: np.ndarray) -> np.ndarray:
    """uint8 [n, 1, h, w] -> uint8: black stays black, the 98th percentile of each picture becomes white."""
    white = np.percentile(pixels.reshape(len(pixels), -1), WHITE, axis=1).clip(LEAST_WHITE, 255)
    return np.rint((pixels * (255 / white)[:, None, None, None]).clip(0, 255)).astype(np.uint8)


def dithered(pixels: np.ndarray, sigma: float = DITHER) -> Tensor:
    """uint8 [n, 1, h, w] -> float in about [0, 1] with Gaussian noise that follows from each picture's
    content.
    """
    noise = torch.empty(pixels.shape)
    for i, picture in enumerate(pixels):
        seed = int.from_bytes(hashlib.blake2b(picture.tobytes(), digest_size=7).digest(), "little")
        noise[i] = torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    return torch.from_numpy(pixels).float() / 255 + sigma * noise


class ProbabilisticPCA:
    """Standardized, then the leading principal components and one variance for all the rest."""

    def __init__(
        self, mean: Tensor, deviation: Tensor, components: Tensor, variances: Tensor, rest: Tensor
    ) -> None:
        self.mean, self.deviation = mean.double(), deviation.double()  # [d]
        # [d, q], [q], []
        self.components, self.variances, self.rest = components.double(), variances.double(), rest.double()

    def features(self, x: Tensor) -> Tensor:
        """[n, d] -> [n, q] float32, in float64 so that a sample's features do not depend on its
        neighbours.
        """
        return (self._standardized(x) @ self.components).float()

    def surprisal(self, x: Tensor) -> Tensor:
        """[n, d] -> [n] nats."""
        z = self._standardized(x)
        inside = z @ self.components
        residual = z.square().sum(1) - inside.square().sum(1)
        left = z.shape[1] - len(self.variances)
        constant = z.shape[1] * math.log(2 * math.pi) + self.variances.log().sum() + left * self.rest.log()
        return (0.5 * (constant + (inside.square() / self.variances).sum(1) + residual / self.rest)).float()

    def _standardized(self, x: Tensor) -> Tensor:
        return (x.double() - self.mean) / self.deviation

    @classmethod
    def fit(cls, x: Tensor, count: int = COMPONENTS) -> ProbabilisticPCA:
        mean, deviation = x.double().mean(0), x.double().std(0).clamp_min(1e-6)
        z = (x.double() - mean) / deviation
        values, vectors = torch.linalg.eigh(z.T @ z / len(z))
        # of few pictures or numbers, the last variances would be near 0, and no rest would be left
        count = min(count, len(x) // 2, x.shape[1] - 1)
        values, vectors = values.flip(0), vectors.flip(1)[:, :count]
        # the sign is arbitrary: fix it
        signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
        return cls(mean, deviation, vectors * signs, values[:count], values[count:].mean())

    @classmethod
    def read(cls, path: Path) -> ProbabilisticPCA:
        from safetensors.torch import load_file

        return cls(**load_file(path))

    def write(self, path: Path) -> None:
        from safetensors.torch import save_file

        tensors = {name: value.float().contiguous() for name, value in vars(self).items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, path)


if __name__ == "__main__":  # after `python -m domains.images.effnet`
    from domains.images.data import training_part

    for kind in (Effnet, EffnetUndithered):
        grids = kind(fitted=False).grids(training_part().pixels[:20_000])
        ProbabilisticPCA.fit(grids).write(kind.components_file())
