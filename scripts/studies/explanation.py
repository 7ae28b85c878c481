"""Why do the networks lose so differently? Measures what may explain it, and tests one explanation.

    python -m scripts.studies.explanation errors        # of weights, layers and outputs, rung by rung
    python -m scripts.studies.explanation growth        # of a compressed sampler's path, call by call
    python -m scripts.studies.explanation experiments   # fewer calls, one half of the calls, noise as large

`python -m scripts.studies.explanation_tables` writes the tables of docs/explanation.md.
`errors` takes about ten minutes on one core, `growth` five and `experiments` fifteen. `explanation.json`
holds what is done, so that a stopped run continues.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.artifact.format import fill
from bench.interfaces import Context, Samples
from bench.layers import COVERED, weights_of
from bench.methods.batch_norm import layers_with_statistics, reestimate
from bench.methods.notation import LADDER, ladder, parse
from bench.methods.plain import original
from bench.metrics.anatomy import excess_kurtosis, weight_kurtosis
from bench.registry import open_domain
from bench.runner.evaluation import Evaluation
from bench.runner.session import ModelSession
from bench.stats.ladder import ROLES
from bench.util.files import write_atomically
from domains.image_tokens.adapter import TokensGenerator
from domains.language.generator import LanguageGenerator
from domains.language.likelihood import log_probabilities
from domains.language.training import SequenceTraining
from scripts.studies.training_time import S, kept_of

FILE = Path(__file__).with_suffix(".json")
DOMAINS = ("image_gan", "image_diffusion", "image_tokens", "text", "molecules")
SAMPLES = 2000  # of an experiment, as of the published records
FOLLOWED = 1000  # sequences whose next tokens are compared
BATCHES, ITEMS = 20, 16  # of calibration: at most so many, cut to so many items
PATHS = 50  # pictures whose paths are followed
LAYERED = "int4"  # the rung whose layers are shown one by one
TESTED, DIFFUSION = "s@0", "image_diffusion"
GRIDS = ("int5", "int4")
SEQUENCES = ("text", "image_tokens", "molecules")
EARLY, LATE = slice(0, 8), slice(12, 20)  # positions of tokens in their sequence
STEPS = (10, 5, 20)  # of the sampler, which calls the network 2 n - 1 times in n steps
HALVES = ("first", "last")  # of the calls
NOISED = (("image_gan", "int2"), *((domain, "int4") for domain in (DIFFUSION, *SEQUENCES)))
PARTS = ("all weights", "the embedding", "the rest")  # of a network
CELLS = (  # (domain, model, grid), of which a part is compressed
    *itertools.product(SEQUENCES, (TESTED,), ("int4", "int3")),
    *(("molecules", model, "int3") for model in ("s@1", "s@2")),  # training seeds differ most there
)
WITHOUT_UNUSED = ("image_tokens",)  # training saw all of its tokens
TOKENS, DECODED = "image_tokens", ("int6", "int5", "int4", "int3")  # grids that compress its decoder, too
UNLIKELY, WRITTEN = -1e4, 200
FORBIDDEN = "all weights, unused tokens forbidden"
Found = dict[str, Any]
Errors = Mapping[str, float]


# --------------------------------------------------------------------------------------- errors, rung by rung


def errors(found: Found) -> Iterator[None]:
    """Add the tails of the weights, and the errors of each rung on calibration inputs: of size s. Then those
    of each layer at one rung: of the tested models.
    """
    for domain in map(open_domain, DOMAINS):
        for spec in [m for m in domain.models.values() if m.name.startswith("s@")]:
            lines = found.setdefault("errors", {}).setdefault(f"{domain.name} {spec.name}", {})
            session = ModelSession(domain, spec, SAMPLES)
            tails = found.setdefault("weights", {})
            if f"{domain.name} {spec.name}" not in tails:
                tails[f"{domain.name} {spec.name}"] = tails_of(session.generator.network)
                yield
            for rung in (rung for rung in LADDER if rung not in lines):
                lines[rung] = errors_of(session, rung)
                yield
    by_layer = found.setdefault("layers", {})
    for name in (name for name in DOMAINS if name not in by_layer):
        session = tested_session(name)
        heard, _ = listened(session, compressed(session, LAYERED))
        by_layer[name] = {path: share.value for path, share in heard.outputs.items()}
        yield


def tails_of(network: nn.Module) -> dict[str, float]:
    """The excess kurtosis of the weights within their channels: of all, of the embedding and of the rest.

    `largest coordinate`: the root mean square over all tokens of the embedding's largest coordinate, as a
    multiple of its median coordinate's.
    """
    weights = {
        name: (network.get_parameter(name).detach(), weight.layout())
        for name, weight in weights_of(network).items()
    }
    found = {}
    for part in PARTS:
        tail = weight_kurtosis({name: weights[name] for name in weights_in(part, network)})
        if tail is not None:
            found[part] = tail
    for name in embeddings_of(network):
        sizes = weights[name][0].square().mean(0).sqrt()
        found["largest coordinate"] = float(sizes.max() / sizes.median())
    return found


def weights_in(part: str, network: nn.Module) -> list[str]:
    """Names of the weights of one of `PARTS`."""
    every, inside = list(weights_of(network)), embeddings_of(network)
    return [name for name in every if part == PARTS[0] or (name in inside) == (part == PARTS[1])]


def embeddings_of(network: nn.Module) -> set[str]:
    """Names of the weights that turn tokens into states, and here also states into logits."""
    return {f"{path}.weight" for path, layer in network.named_modules() if isinstance(layer, nn.Embedding)}


def errors_of(session: ModelSession, rung: str) -> Errors:
    """What one rung does to one model.

    weights, layers, output: mean squared errors as shares of the variance of what is disturbed; of all
    weights, of each layer's output at the inputs that it has in the uncompressed network (the median of the
    layers), and of the network's output in one call. kurtosis: excess kurtosis of the layers' inputs (the
    median of the layers).
    """
    original, changed = session.generator.network, compressed(session, rung)
    heard, output = listened(session, changed)
    weights = Share()
    for name in weights_of(original):
        weights.add(changed.get_parameter(name).detach(), original.get_parameter(name).detach())
    return {
        "weights": weights.value,
        "layers": median(share.value for share in heard.outputs.values()),
        "output": output.value,
        "kurtosis": median(fmean(values) for values in heard.tails.values()),
    }


def listened(session: ModelSession, changed: nn.Module) -> tuple[Heard, Share]:
    """What each layer and the whole network do to calibration inputs, beside the uncompressed ones."""
    original = session.generator.network
    heard = Heard(original, changed)
    output = Share()
    words = session.domain.kind_of_network == "transformer"
    with torch.no_grad():
        for batch in itertools.islice(session.generator.calibration(0), BATCHES):
            args, kwargs = [cut(a) for a in batch[0]], {name: cut(a) for name, a in batch[1].items()}
            before = tensor_of(original(*args, **kwargs), words)
            heard.listening = False
            output.add(tensor_of(changed(*args, **kwargs), words), before)
            heard.listening = True
    heard.close()
    return heard, output


def cut(argument: Any) -> Any:
    """The first items of a batch; a time or a switch stays as it is."""
    return argument[:ITEMS] if isinstance(argument, Tensor) and argument.ndim > 1 else argument


def compressed(session: ModelSession, rung: str) -> nn.Module:
    """The network of a rung; running statistics are estimated again where it has any."""
    method = dict(zip(LADDER, ladder(session.has_statistics)))[rung]
    return session.compressed(parse(method), 0)


def tensor_of(output: Any, words: bool) -> Tensor:
    """What a network returns. A constant that is added to all logits changes no probability."""
    made = output if isinstance(output, Tensor) else output[0]
    return made - made.mean(-1, keepdim=True) if words else made


class Share:
    """A mean squared error as a share of the variance of what is disturbed."""

    def __init__(self) -> None:
        self.error = self.variance = 0.0

    def add(self, changed: Tensor, original: Tensor) -> None:
        self.error += float((changed - original).double().square().sum())
        self.variance += float((original - original.mean()).double().square().sum())

    @property
    def value(self) -> float:
        return self.error / self.variance


class Heard:
    """Listens to the covered layers of a network while it computes, and asks the changed ones the same."""

    def __init__(self, original: nn.Module, changed: nn.Module) -> None:
        self.listening = True
        self.outputs: dict[str, Share] = {}
        self.tails: dict[str, list[float]] = {}
        self.handles = [
            layer.register_forward_hook(self.hook(path, changed.get_submodule(path)))
            for path, layer in original.named_modules()
            if type(layer).__name__ in COVERED
        ]

    def hook(self, path: str, other: nn.Module) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def note(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if not self.listening:
                return
            self.outputs.setdefault(path, Share()).add(other(*args), output)
            if args[0].is_floating_point() and (tail := excess_kurtosis(args[0].flatten()[None])) is not None:
                self.tails.setdefault(path, []).append(tail)

        return note

    def close(self) -> None:
        for handle in self.handles:
            handle.remove()


# -------------------------------------------------------------------------------------- growth over the calls


def growth(found: Found) -> Iterator[None]:
    """Add the error of the diffusion model's pictures after each call, from the same start noise: where all
    calls are compressed, and where one call is. Then those of transformers over their tokens.
    """
    lines, alone = found.setdefault("growth", {}), found.setdefault("single calls", {})
    for grid in GRIDS:
        session = tested_session(DIFFUSION)
        network, changed = session.generator.network, compressed(session, grid)
        calls = session.generator.settings()["network_calls"]
        before = path_of(session, network)
        if grid not in lines:
            lines[grid] = growth_of(before, path_of(session, changed))
            yield
        for call in range(1, calls + 1):
            if f"{grid} {call}" not in alone:
                turns = Turns(network, changed, calls, {call - 1})
                alone[f"{grid} {call}"] = growth_of(before, path_of(session, turns))
                yield
    lines = found.setdefault("tokens", {})
    trained = [domain for domain in SEQUENCES if TESTED in open_domain(domain).models]
    for domain, grid in itertools.product(trained, GRIDS):
        if f"{domain} {grid}" not in lines:
            lines[f"{domain} {grid}"] = over_tokens(tested_session(domain), grid)
            yield


def over_tokens(session: ModelSession, grid: str) -> Found:
    """KL(uncompressed || compressed) of the next token, early and late: after what the uncompressed network
    wrote, and after what the compressed one wrote from the same noise. In nats a token.

    The first is the error of one call. The second adds the effect of earlier wrong tokens. Only items count
    that reach the last of these positions in both.
    """
    generator = cast(LanguageGenerator, session.generator)
    pair = generator.network, compressed(session, grid)
    written = [generator.write(network, FOLLOWED, 0) for network in pair]
    long = [i for i in range(FOLLOWED) if min(len(rows[i]) for rows in written) >= LATE.stop]
    found: Found = {"items": len(long)}
    for author, rows in zip(("uncompressed", "compressed"), written):
        kl = divergences(*pair, [[generator.start, *rows[i][: LATE.stop]] for i in long])
        found[author] = [float(kl[part].mean()) for part in (EARLY, LATE)]
    return found


@torch.inference_mode()
def divergences(base: nn.Module, changed: nn.Module, rows: Sequence[Sequence[int]]) -> Tensor:
    """The mean KL divergence at each of t positions; the rows are as long, and begin with the start."""
    sums: list[Tensor] = []
    for start in range(0, len(rows), ITEMS):
        inputs = torch.tensor(rows[start : start + ITEMS])[:, :-1]
        before, now = (log_probabilities(network, inputs) for network in (base, changed))
        sums.append((before.exp() * (before - now)).sum(-1).double().sum(0))
    return torch.stack(sums).sum(0) / len(rows)


def path_of(session: ModelSession, network: nn.Module) -> list[Tensor]:
    """What the network is given at each call, and the finished pictures."""
    given: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _, args: given.append(args[0].clone()))
    try:
        pictures = session.generator.sample(network, PATHS, 0)
    finally:
        handle.remove()
    return [*given[1:], torch.from_numpy(pictures).float()]


def growth_of(before: Sequence[Tensor], now: Sequence[Tensor]) -> list[float]:
    """The error after each call: of two paths from the same noise."""
    shares = [Share() for _ in before]
    for share, plain, changed in zip(shares, before, now, strict=True):
        share.add(changed, plain)
    return [share.value for share in shares]


# ------------------------------------------------------------------------------------------------ experiments


def experiments(found: Found) -> Iterator[None]:
    """Add retentions of the diffusion model with fewer calls, or compressed in a part of them; of networks
    with noise in place of rounding; and of transformers of which a part is compressed.
    """
    lines = found.setdefault("experiments", {})
    for key, measure in planned().items():
        if key not in lines:
            lines[key] = measure()
            yield


def planned() -> dict[str, Callable[[], Found]]:
    """Each experiment by its key."""
    plan: dict[str, Callable[[], Found]] = {}
    for steps, grid in itertools.product(STEPS, GRIDS):
        plan[f"steps {steps} {grid}"] = partial(fewer_calls, steps, grid)
    for part, grid in itertools.product(HALVES, GRIDS):
        plan[f"{part} half {grid}"] = partial(half_of_the_calls, part, grid)
    for domain, grid in NOISED:
        plan[f"noise {domain} {grid}"] = partial(with_noise, domain, grid)
    rounded = [(domain, TESTED, grid) for domain, grid in NOISED]
    for cell, part in (*itertools.product(CELLS, PARTS), *((cell, PARTS[0]) for cell in rounded)):
        plan[" ".join((part, *cell))] = partial(part_of_the_weights, *cell, part)
    for cell in CELLS:
        if cell[1] == TESTED and cell[0] not in WITHOUT_UNUSED:
            plan[" ".join((FORBIDDEN, *cell))] = partial(unused_forbidden, *cell)
    for model, grid in itertools.product(S, DECODED):
        plan[f"decoder {model} {grid}"] = partial(decoder_too, model, grid)
    return plan


def kept_by_both(samples: Samples, evaluation: Evaluation) -> Found:
    """Retention of quality and of diversity of samples of seed 0, by the primary and by the `secondary`
    evaluators.
    """
    blocks = evaluation.secondary_blocks(samples, 0).values()
    second = {block.role: block.metrics.get("retention") for block in blocks if block.role in ROLES}
    return {**kept_of(samples, evaluation), "secondary": second}


def fewer_calls(steps: int, grid: str) -> Found:
    """Retention against the uncompressed network with equally few calls."""
    session = tested_session(DIFFUSION)
    session.generator = session.domain.open(session.spec, "cpu", {"steps": steps})
    evaluation = Evaluation(session)
    before = evaluation.panel.metrics_of(*evaluation.baseline(0))
    kept = kept_by_both(session.sample(compressed(session, grid), 0).samples, evaluation)
    return {**kept, "valid": before["quality_valid"], "recall": before["diversity_mutual_recall"]}


def half_of_the_calls(part: str, grid: str) -> Found:
    """Retention where the compressed network makes the first or the last half of the calls."""
    session = tested_session(DIFFUSION)
    calls = session.generator.settings()["network_calls"]
    half = range(calls // 2, calls) if part == "last" else range(calls // 2)
    turns = Turns(session.generator.network, compressed(session, grid), calls, half)
    return kept_by_both(session.generator.sample(turns, SAMPLES, 0), Evaluation(session))


class Turns(nn.Module):
    """Calls another network in some of a path's `calls`, which are counted from 0."""

    def __init__(self, usual: nn.Module, other: nn.Module, calls: int, of_other: Container[int]) -> None:
        super().__init__()
        self.usual, self.other, self.calls, self.of_other, self.done = usual, other, calls, of_other, 0
        self.config = usual.config

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        network = self.other if self.done % self.calls in self.of_other else self.usual
        self.done += 1
        return network(*args, **kwargs)


def with_noise(domain: str, grid: str) -> Found:
    """Retention with Gaussian noise of the same mean square as a grid's errors in each output channel."""
    session = tested_session(domain)
    network = compressed(session, grid)
    drown(network, session.generator.network)
    if layers_with_statistics(network):
        reestimate(network, session.generator.calibration(0))
    return kept_by_both(session.sample(network, 0).samples, Evaluation(session))


def part_of_the_weights(domain: str, model: str, grid: str, part: str) -> Found:
    """Retention where a grid compresses all weights, the embedding alone, or all other weights alone."""
    session = tested_session(domain, model)
    network = compressed(session, grid)
    restore_all_but(part, network, session.generator.network)
    return kept_by_both(session.sample(network, 0).samples, Evaluation(session))


def decoder_too(model: str, grid: str) -> Found:
    """Retention of the pictures' transformer where the decoder of its codes is compressed, too."""
    session = tested_session(TOKENS, model)
    evaluation, generator = Evaluation(session), cast(TokensGenerator, session.generator)
    # all evaluators see the baseline first, which the uncompressed decoder draws
    kept_by_both(session.sample(generator.network, 0).samples, evaluation)
    decoder = generator.codec.network.decoder
    fill(decoder, parse(grid)(original(decoder), Context()).tensors)
    return kept_by_both(generator.sample(compressed(session, grid), session.n, 0), evaluation)


def unused_forbidden(domain: str, model: str, grid: str) -> Found:
    """Retention where the sampler never draws a token that training never saw.

    leak: the probability of all such tokens in one call, where they are not forbidden.
    """
    session = tested_session(domain, model)
    network, unused = compressed(session, grid), unused_tokens(session)
    found = {"unused": len(unused), "leak": mass_on(unused, network, session)}
    network.register_forward_hook(partial(forbid, unused))
    samples = session.generator.sample(network, SAMPLES, 0)  # not from the cache
    kept = kept_by_both(samples, Evaluation(session))
    return {**kept, **found}


def unused_tokens(session: ModelSession) -> list[int]:
    """Tokens that no sequence of the training part has."""
    training = cast(SequenceTraining, session.domain.train(TESTED, None, "cpu"))
    used = set(itertools.chain.from_iterable(training.tokens))
    return sorted({*range(cast(Any, session.generator.network).config.vocab_size)} - used)


def forbid(tokens: Sequence[int], _: nn.Module, __: tuple[Any, ...], output: Any) -> None:
    """A forward hook: the logits of some tokens become so small that they are never drawn."""
    output.logits[..., tokens] = UNLIKELY


@torch.inference_mode()
def mass_on(tokens: Sequence[int], network: nn.Module, session: ModelSession) -> float:
    """Their mean probability after what the uncompressed network wrote."""
    generator = cast(LanguageGenerator, session.generator)
    masses: list[float] = []
    for row in generator.write(generator.network, WRITTEN, 0):
        probabilities = log_probabilities(network, torch.tensor([[generator.start, *row]])).exp()
        masses += probabilities[0][:, tokens].sum(-1).tolist()
    return fmean(masses)


@torch.no_grad()
def restore_all_but(part: str, network: nn.Module, before: nn.Module) -> None:
    """Give the other weights of `network` the values that they had before."""
    for name in weights_of(before).keys() - weights_in(part, before):
        network.get_parameter(name).copy_(before.get_parameter(name))


@torch.no_grad()
def drown(network: nn.Module, before: nn.Module) -> None:
    """Give each weight of `network` its value of before, with noise as large as its channel's errors."""
    noise = torch.Generator().manual_seed(0)
    for name, weight in weights_of(before).items():
        layout, value = weight.layout(), before.get_parameter(name).detach()
        changed = network.get_parameter(name)
        error = layout.rows(changed - value)
        drawn = torch.randn(error.shape, generator=noise) * error.square().mean(1, keepdim=True).sqrt()
        changed.copy_(value + layout.restore(drawn, tuple(value.shape)))


def tested_session(domain: str, model: str = TESTED) -> ModelSession:
    opened = open_domain(domain)
    return ModelSession(opened, opened.locate(model), SAMPLES)


MEASURED: Mapping[str, Callable[[Found], Iterator[None]]] = {
    "errors": errors,
    "growth": growth,
    "experiments": experiments,
}


def main(action: str = "") -> None:
    found: Found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    if action not in MEASURED:
        sys.exit(f"usage: {'|'.join(MEASURED)}")
    for _ in MEASURED[action](found):
        write_atomically(FILE, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
