"""A whole domain in one file: points of the plane, and a small network that makes more of them."""

import numpy as np
import torch
from torch.nn import Linear, ReLU, Sequential, functional

from bench.errors import BadInput, Diverged
from bench.interfaces import Damage, Domain, Evaluator, EvaluatorEntry, Generator, ModelSpec

SPREAD = 0.2
SPLITS = {"test": 0, "validation": 1, "ceiling": 2}  # seeds of the real points, which need no file
CENTRES = 2 * np.array([(np.cos(a), np.sin(a)) for a in np.arange(8) * np.pi / 4])  # [8, 2]


def real_points(n, seed):
    noise = np.random.default_rng(seed)
    points = CENTRES[noise.integers(8, size=n)] + SPREAD * noise.standard_normal((n, 2))
    return points.astype("f4")  # [n, 2]


class ToyGenerator(Generator):
    @torch.random.fork_rng(devices=[])  # leaves the global seed as it was
    def __init__(self, spec, device="cpu", settings=None):  # a real one reads `spec.source`; this one trains
        torch.manual_seed(spec.train_seed)
        self.device = device
        self.network = self.rebuild()  # the module that is compressed
        optimizer = torch.optim.Adam(self.network.parameters(), lr=0.003)
        for step in range(1000):  # down the sliced Wasserstein distance, along 16 directions
            made = self.network(torch.randn(500, 2).to(device)).cpu()
            real = torch.from_numpy(real_points(500, 1000 + step))
            directions = functional.normalize(torch.randn(2, 16), dim=0)
            gaps = (made @ directions).sort(0).values - (real @ directions).sort(0).values
            optimizer.zero_grad()
            gaps.square().mean().backward()
            optimizer.step()

    def rebuild(self, structure=()):  # an empty network; the artifact's tensors are loaded into it
        return Sequential(Linear(2, 48), ReLU(), Linear(48, 48), ReLU(), Linear(48, 2)).to(self.device)

    def sample(self, network, n, seed):  # twins: item i has the same noise, whatever n is
        noise = torch.from_numpy(np.random.default_rng(seed).standard_normal((n, 2)).astype("f4"))
        points = network(noise.to(self.device)).detach().cpu()
        if not points.isfinite().all():
            raise Diverged("points are not finite")
        return points.numpy()


class ToyEvaluator(Evaluator):
    def __init__(self, device="cpu"):  # a real one loads its weights to `device`; these two have none
        self.device = device


class Position(ToyEvaluator):  # could this sample be real? Features that see every damage
    name, role = "position", "quality"

    def features(self, samples):  # [n, d], each row from its sample alone
        return torch.from_numpy(np.array(samples, "f4"))

    def surprisal(self, samples):  # [n] nats, high = unlike the real ones; up to a constant
        offsets = self.features(samples).double()[:, None] - torch.from_numpy(CENTRES)  # [n, 8, 2]
        squared = offsets.square().sum(2)  # [n, 8]
        return -torch.logsumexp(-squared / (2 * SPREAD**2), 1).float()


class Direction(ToyEvaluator):  # what is it a sample of? Features that do not see how well it is made
    name, role = "direction", "diversity"

    def features(self, samples):
        return functional.normalize(torch.from_numpy(np.array(samples, "f4")))


def push_along_the_ray(points):  # away from the origin or towards it: another quality, the same direction
    factors = np.random.default_rng(0).normal(1, 0.3, (len(points), 1)).clip(0.1)
    return points * factors.astype("f4")


def upper_half(points):  # fewer kinds of points, each one whole
    return points[points[:, 1] > 0]


class ToyDomain(Domain):
    name, description = "toy", "points of the plane, from eight Gaussians on a ring"
    models = {"s@0": ModelSpec("s@0", "trained when opened", "Apache-2.0", parameters=2594, train_seed=0)}

    def open(self, spec, device="cpu", settings=None):
        return ToyGenerator(spec, device, settings)

    def evaluator_table(self):  # the first primary evaluator of each role counts; `load` gets a device
        return {
            "position": EvaluatorEntry("quality", "primary", load=Position),
            "direction": EvaluatorEntry("diversity", "primary", load=Direction),
        }

    def reference(self, split="test", source=None):  # needs no generator; `source` is a file of the user's
        if source is None:
            return real_points(2000, SPLITS[split])
        return np.unique(self.read_samples(source), axis=0)[SPLITS[split] :: 3]

    def damages(self):  # what each one lowers; the bounds are shares of what undamaged samples score
        pushed = Damage("surface", push_along_the_ray, valid=(0, 0.7), mutual_recall=(0.98, 1.02))
        return {
            "pushed along the ray": pushed,
            "upper half": Damage("variety", upper_half, mutual_recall=(0, 0.7)),
        }

    def read_samples(self, path):
        try:
            return np.load(path, allow_pickle=False).astype("f4").reshape(-1, 2)
        except (OSError, ValueError, EOFError) as error:
            raise BadInput(f"cannot read points from {str(path)!r}: {error}") from None

    def write_samples(self, samples, path):  # `path` has no suffix yet -> the path written
        target = path.with_name(path.name + ".npy")
        np.save(target, samples)
        return target
