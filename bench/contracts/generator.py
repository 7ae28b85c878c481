"""The contracts of each model that a domain ships: opening, twins, and the network that is rebuilt."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.artifact.format import rebuild, save, tensors_digest
from bench.contracts.contract import Broken, require
from bench.contracts.samples import agree, form
from bench.errors import BadInput
from bench.interfaces import Domain, Generator, ModelSpec
from bench.methods.batch_norm import layers_with_statistics
from bench.methods.plain import original
from bench.util.cache import content_digest

DRAW_ONCE = "draw all noise from `seed` alone, and compute without dropout"


@dataclass(frozen=True)
class Opened:
    """A model that is open, with the domain and the spec that it came from."""

    domain: Domain
    spec: ModelSpec
    generator: Generator

    def sample(self, n: int, seed: int = 0) -> object:
        """Samples of the uncompressed network."""
        return self.generator.sample(self.generator.network, n, seed)


def it_is_a_generator_with_a_network(opened: Opened) -> None:
    """`open` returns a `Generator`, and its network is in evaluation mode."""
    generator = opened.generator
    require(
        isinstance(generator, Generator),
        f"`open` returned {type(generator).__name__}",
        "return a subclass of bench.interfaces.Generator",
    )
    network = getattr(generator, "network", None)
    require(
        isinstance(network, torch.nn.Module),
        f"its `network` is {type(network).__name__}",
        "set `self.network` to the torch module that is compressed",
    )
    require(sum(p.numel() for p in generator.network.parameters()), "its network has no weights", "fill it")


def opening_it_twice_gives_the_same_network(opened: Opened) -> None:
    """The same tensors, settings and identity."""
    first, again = opened.generator, opened.domain.open(opened.spec)
    require(
        tensors_digest(again.network) == tensors_digest(first.network),
        "two openings have different weights",
        "load them from files, or seed their initialization",
    )
    require(
        again.settings() == first.settings() and again.identity() == first.identity(),
        "two openings differ in `settings` or `identity`",
        "make both from the model's files alone",
    )


def its_settings_are_json(opened: Opened) -> None:
    """They are part of a cell's name."""
    settings = opened.generator.settings()
    try:
        same = json.loads(json.dumps(settings)) == settings
    except TypeError as error:
        raise Broken(f"`settings` is not JSON: {error}", "use numbers, texts, lists and dicts") from None
    require(same, "`settings` changes when it is written as JSON", "use lists for tuples, texts for keys")


def its_spec_counts_its_parameters(opened: Opened) -> None:
    """`ModelSpec.parameters` is None or the right number."""
    found = sum(p.numel() for p in opened.generator.network.parameters())
    require(
        opened.spec.parameters in (None, found),
        f"its spec says {opened.spec.parameters} parameters, and its network has {found}",
        f"write parameters={found} in its ModelSpec",
    )


def it_makes_as_many_samples_as_asked_for(opened: Opened) -> None:
    """`sample(network, n, seed)` returns n items."""
    for n in (1, 8):
        found = len(opened.sample(n))  # type: ignore[arg-type]
        require(
            found == n, f"`sample` returned {found} samples for n={n}", "return exactly n, refused ones too"
        )


def its_samples_have_the_form_of_real_ones(opened: Opened) -> None:
    """The same type, and for arrays the same dtype and shape of an item."""
    made, real = (form(samples) for samples in (opened.sample(8), opened.domain.reference("test")[:8]))
    require(
        made == real,
        f"`sample` returned {made}, and `reference` gives {real}",
        "return the same form from `sample`, `reference` and `read_samples`",
    )


def the_same_seed_gives_twins(opened: Opened) -> None:
    """And another seed gives other samples."""
    a, b, other = (content_digest(opened.sample(8, seed)) for seed in (0, 0, 1))
    require(a == b, "two calls of `sample` with the same seed differ", DRAW_ONCE)
    require(a != other, "`sample` gives the same samples for seeds 0 and 1", "use `seed` to draw the noise")


def noise_does_not_depend_on_the_number_of_samples(opened: Opened) -> None:
    """Item i is the same whatever n is."""
    require(
        agree(opened.sample(16)[:8], opened.sample(8)),  # type: ignore[index]
        "the first 8 of 16 samples are not the 8 samples of the same seed",
        "draw with numpy's generators, or for each item from (seed, item); torch.randn(n, d) does not do it",
    )


def sampling_leaves_the_network_and_the_global_seed_alone(opened: Opened) -> None:
    """Nothing else in the process changes."""
    before, state = tensors_digest(opened.generator.network), torch.random.get_rng_state()
    opened.sample(8)
    require(
        tensors_digest(opened.generator.network) == before,
        "`sample` changed the network's tensors",
        "call the network in evaluation mode, and write to none of its buffers",
    )
    require(
        torch.equal(torch.random.get_rng_state(), state),
        "`sample` changed torch's global random state",
        "pass a torch.Generator, or draw within torch.random.fork_rng()",
    )


def the_network_rebuilt_from_its_file_makes_the_same_samples(opened: Opened) -> None:
    """`rebuild` gives an empty network that the artifact's tensors fill exactly."""
    generator = opened.generator
    with tempfile.TemporaryDirectory() as folder:
        save(original(generator.network), "none", Path(folder) / "artifact")
        try:
            network = rebuild(Path(folder) / "artifact", generator)
        except BadInput as error:
            raise Broken(str(error), "`rebuild` has to return a network of the same tensors") from None
    require(
        network is not generator.network, "`rebuild` returned the network itself", "make a new, empty network"
    )
    require(
        tensors_digest(network) == tensors_digest(generator.network),
        "the rebuilt network has other tensors",
        "tie in `rebuild` what is tied in the network, and register what it computes with as buffers",
    )
    require(
        content_digest(generator.sample(network, 8, 0)) == content_digest(opened.sample(8)),
        "the rebuilt network makes other samples",
        "return it in evaluation mode, and keep in tensors all that its outputs depend on",
    )


def running_statistics_have_calibration_batches(opened: Opened) -> None:
    """A network with batch norm is recalibrated in every ladder."""
    if not layers_with_statistics(opened.generator.network):
        return
    try:
        next(iter(opened.generator.calibration(0)))
    except (LookupError, StopIteration):
        raise Broken(
            "the network has running statistics, and `calibration` gives no batch",
            "yield what the network is called with when it samples, as (args, kwargs)",
        ) from None


CONTRACTS = (
    it_is_a_generator_with_a_network,
    opening_it_twice_gives_the_same_network,
    its_settings_are_json,
    its_spec_counts_its_parameters,
    it_makes_as_many_samples_as_asked_for,
    its_samples_have_the_form_of_real_ones,
    the_same_seed_gives_twins,
    noise_does_not_depend_on_the_number_of_samples,
    sampling_leaves_the_network_and_the_global_seed_alone,
    the_network_rebuilt_from_its_file_makes_the_same_samples,
    running_statistics_have_calibration_batches,
)
