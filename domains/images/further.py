"""`--evaluator`: more evaluators of pictures, whose weights are not shipped: Inception, or any image model of
transformers.

Both look at the picture in colour and at their own size; features are standardized, in 64 principal
components fitted on the validation part, or on real pictures of the user's.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.errors import BadInput, in_a_line
from bench.interfaces import Evaluator
from bench.util.cache import Latest, content_digest
from domains.folders import check_whole
from domains.images.evaluators import Pictures, ProbabilisticPCA

BATCH = 50


class Further(Evaluator):
    """Surprisal: negative log-likelihood in nats under probabilistic PCA of the features, residual
    included.
    """

    role = "quality"
    version = 1

    def __init__(self, name: str, device: str, fitted_on: np.ndarray | None = None) -> None:
        self.name, self.device, self.fitted_on = name, device, fitted_on  # type: ignore[misc]
        self._components: ProbabilisticPCA | None = None
        self._latest: Latest[Tensor] = Latest()

    @abstractmethod
    def see(self, images: Tensor) -> Tensor:
        """uint8 [b, 3, h, w] -> [b, d]"""

    def features(self, samples: Pictures) -> Tensor:
        return self.components.features(self.read(samples))

    def surprisal(self, samples: Pictures) -> Tensor:
        return self.components.surprisal(self.read(samples))

    @property
    def components(self) -> ProbabilisticPCA:
        if self._components is None:
            from domains.images.data import part

            real = part("validation").pixels if self.fitted_on is None else self.fitted_on
            self._components = ProbabilisticPCA.fit(self._read(real))
        return self._components

    def weights_identity(self) -> str:
        """A hash of the network, where one class serves several."""
        return ""

    def identity(self) -> str:
        """Of the network, and of the user's pictures that the components were fitted on."""
        if self.fitted_on is None:
            return self.weights_identity()
        fitted = content_digest(self.fitted_on)
        return hashlib.sha256(f"{self.weights_identity()} {fitted}".encode()).hexdigest()

    def read(self, samples: Pictures) -> Tensor:
        """[n, d]."""
        return self._latest.of(samples, lambda: self._read(np.ascontiguousarray(samples)))

    @torch.inference_mode()
    def _read(self, pixels: np.ndarray) -> Tensor:
        from bench.util.progress import Bar

        rows = []
        with Bar(f"score with {Path(self.name).name}", len(pixels)) as bar:
            for images in torch.from_numpy(np.ascontiguousarray(pixels)).split(BATCH):
                rows.append(self.see(images.expand(-1, 3, -1, -1).to(self.device)).float().cpu())
                bar.update(len(images))
        return torch.cat(rows)


class Inception(Further):
    """The 2,048 pooled features of torch-fidelity's Inception, whose weights it downloads: the space of
    the FID.
    """

    def __init__(self, device: str = "cpu", fitted_on: np.ndarray | None = None) -> None:
        from domains.images.inception import load_inception

        super().__init__("inception", device, fitted_on)
        self.network = load_inception().to(device)

    def see(self, images: Tensor) -> Tensor:
        return self.network(images)[0]


class Vision(Further):
    """An image model of transformers, from a folder or the hub: DINOv2, as Stein et al. 2023
    (arXiv:2306.04675) advise, CLIP, a ViT.
    """

    def __init__(self, source: str, device: str = "cpu", fitted_on: np.ndarray | None = None) -> None:
        from transformers import AutoConfig, AutoModel

        from bench.artifact.format import tensors_digest

        super().__init__(source, device, fitted_on)
        try:
            config = AutoConfig.from_pretrained(source, trust_remote_code=False)
            config = getattr(config, "vision_config", config)
            with torch.random.fork_rng(devices=[]):
                # of a pooler that the file lacks: the digest holds it
                torch.default_generator.manual_seed(0)
                loaded: Any = AutoModel.from_pretrained(
                    source,
                    config=config,
                    dtype="float32",
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
            network, info = loaded
            told = {
                key: value
                for key, value in config.to_dict().items()
                if key not in ("_name_or_path", "transformers_version")
            }
        except Exception as error:  # of many types, by what the configuration says
            reason = in_a_line(error)
            raise BadInput(f"cannot open {source!r} as an image model: {reason}") from None
        if getattr(network, "main_input_name", "") != "pixel_values":
            raise BadInput(
                f"{source!r} is no image model: it takes "
                f"{getattr(network, 'main_input_name', 'something else')!r}"
            )
        check_whole([name for name in info["missing_keys"] if "pooler" not in name.split(".")], source)
        # a classifier's file has no pooler: its weights would be random
        self.pools = not info["missing_keys"]
        self.network, self.size = network.to(device).eval(), side_of(config, source)
        self.channels = getattr(config, "num_channels", 3)
        self._check_repeats()
        self._identity = hashlib.sha256(
            f"{tensors_digest(network)} {json.dumps(told, sort_keys=True, default=str)}".encode()
        ).hexdigest()

    @torch.inference_mode()
    def _check_repeats(self) -> None:
        """Raises `BadInput` for a network that cannot look at a picture, or does not see the same twice."""
        picture = torch.arange(3 * 32 * 32, dtype=torch.uint8).reshape(1, 3, 32, 32).to(self.device)
        try:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(0)
                first, second = self.see(picture), self.see(picture)
        except Exception as error:  # whatever the model's own code raises
            raise BadInput(f"{self.name!r} cannot look at pictures: {in_a_line(error)}") from None
        if not torch.equal(first, second):
            raise BadInput(
                f"{self.name!r} sees the same picture differently each time: it draws noise or masks"
            )

    def weights_identity(self) -> str:
        return self._identity

    def see(self, images: Tensor) -> Tensor:
        enlarged = F.interpolate(
            images.float() / 127.5 - 1, size=(self.size, self.size), mode="bilinear", antialias=True
        )
        seen = self.network(pixel_values=enlarged[:, : self.channels])
        pooled = getattr(seen, "pooler_output", None) if self.pools else None
        return (
            pooled.flatten(1)
            if pooled is not None
            else seen.last_hidden_state.flatten(2).mean(1 if seen.last_hidden_state.ndim == 3 else 2)
        )


def side_of(config: Any, source: str) -> int:
    """The side of the pictures that a model looks at. Raises `BadInput` where they are not square."""
    size = getattr(config, "image_size", 224)
    sides = list(size) if isinstance(size, (list, tuple)) else [size]
    if len(set(sides)) != 1 or type(sides[0]) is not int or sides[0] < 1:
        raise BadInput(f"the image model {source!r} has image_size={size!r}; allowed: one side in pixels")
    return int(sides[0])
