"""The contracts of a method, on one small network with all kinds of layers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.artifact.format import decode, encode, fill, tensors_digest
from bench.artifact.structure import rebuilt
from bench.contracts.contract import Skipped, require
from bench.contracts.network import Small, SmallGenerator
from bench.errors import BadInput, Unsupported
from bench.interfaces import Compressed, Context, Method, StoredTensor
from bench.layers import tensors_of, weights_of
from bench.methods.notation import parse
from bench.methods.plain import original
from bench.registry import METHODS

KEPT = {"contract.weight": "it is the last one"}
PASS_MASKS = "set `mask=` of each StoredTensor to that of the tensor it replaces"


def skip_if_missing(name: str) -> None:
    """Raises `Skipped` where a package that the method needs is not installed."""
    kind = METHODS.load(name)
    if isinstance(kind, type) and issubclass(kind, Method) and (reason := kind.missing()):
        raise Skipped(f"it {reason}")


def apply(text: str, network: nn.Module, kept: Mapping[str, str] | None = None) -> Compressed:
    """What a method makes of a network, where `kept` tensors have to stay as they are."""
    generator = SmallGenerator(network) if isinstance(network, Small) else None
    return parse(text)(original(network), Context(generator, excluded=kept or {}))


@functools.cache
def made_by(name: str) -> Compressed:
    """What a method makes of the small network; made once, since no contract changes it."""
    return apply(name, Small())


def dense(tensors: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
    """The values of stored tensors."""
    return {name: stored.dequantize() for name, stored in tensors.items()}


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that differ in value, type or presence."""
    both = [n for n in a if n in b and torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype]
    return sorted((a.keys() | b.keys()) - set(both))


def of_structure(made: Compressed) -> Any:
    """A small network of another seed, with the structure that a method made."""
    return rebuilt(SmallGenerator(Small()), made.structure)


def changes_weights(name: str) -> bool:
    """Whether a method stores any weight in another way."""
    made = made_by(name)
    return bool(made.touched & weights_of(made.network).keys())


def it_is_a_frozen_dataclass_named_like_its_entry_point(name: str) -> None:
    """Its fields are its settings, and its canonical text is read back."""
    kind = METHODS.load(name)
    require(
        isinstance(kind, type) and issubclass(kind, Method),
        f"{METHODS[name]} is no Method",
        "register a subclass of bench.interfaces.Method",
    )
    require(
        dataclasses.is_dataclass(kind) and getattr(kind, "__dataclass_params__").frozen,  # noqa: B009
        "it is no frozen dataclass",
        "write @dataclass(frozen=True) above the class",
    )
    require(
        all(field.default is not dataclasses.MISSING for field in dataclasses.fields(kind)),
        "a setting has no default",
        "give each field a default",
    )
    found = getattr(kind, "name", None)
    require(found == name, f"the class says name {found!r}", f"write {name!r}, as the entry point does")
    said = getattr(kind, "description", None)
    require(isinstance(said, str) and said and "\n" not in said, "it has no description", "write one line")
    text = parse(name).text
    require(parse(text).text == text, f"its text {text!r} is not read back", "leave `Method.text` as it is")


def its_input_stays_untouched(name: str) -> None:
    """The network and the stored tensors that it is given."""
    network = Small()
    before, digest = original(network), tensors_digest(network)
    tensors = dict(before.tensors)
    values = {n: t.clone() for n, t in dense(before.tensors).items()}
    parse(name)(before, Context(SmallGenerator(network)))
    require(
        tensors_digest(network) == digest and not differing(dense(before.tensors), values),
        "it writes to the tensors that it is given",
        "clone a tensor before you change it in place",
    )
    require(dict(before.tensors) == tensors, "it changes its input", "return `compressed.replace(...)`")


def its_output_is_deterministic(name: str) -> None:
    """The same file twice; the global seed stays as it is."""
    state = torch.random.get_rng_state()
    first, again = encode(made_by(name), name), encode(apply(name, Small()), name)
    require(first == again, "two calls give different files", "seed what it draws from `context.seed`")
    require(
        torch.equal(torch.random.get_rng_state(), state),
        "it changes torch's global random state",
        "pass a torch.Generator, or draw within torch.random.fork_rng()",
    )


def every_tensor_is_stored(name: str) -> None:
    """Under its name and in its shape, with finite values."""
    made = made_by(name)
    shapes = {n: tuple(t.shape) for n, t in tensors_of(of_structure(made)).items()}
    wrong = sorted(
        n
        for n in shapes.keys() | made.tensors.keys()
        if made.tensors.get(n, StoredTensor(())).shape != shapes.get(n)
    )
    require(not wrong, f"{', '.join(wrong[:3])} are missing or of another shape", "store every tensor whole")
    require(
        made.touched <= made.tensors.keys(), "`touched` names tensors that are not there", "use `replace`"
    )
    bad = [n for n, stored in made.tensors.items() if not stored.dequantize().isfinite().all()]
    require(not bad, f"{', '.join(bad[:3])} hold NaN or infinity", "guard divisions by a scale of zero")


def its_file_gives_exactly_its_tensors(name: str) -> None:
    """Also in the rebuilt network, where tied tensors are tied."""
    made = made_by(name)
    network = of_structure(made)
    text, structure, tensors = decode(encode(made, name))
    require(
        text == name
        and tuple(structure) == made.structure
        and not differing(dense(tensors), dense(made.tensors)),
        "the file gives other values than its stored tensors",
        "keep indices within the code book, values in float16 or float32, scales in float16",
    )
    fill(network, tensors)
    require(
        not differing(tensors_of(network), dense(made.tensors))
        and network.head.weight is network.embed.weight,
        "the rebuilt network has other tensors",
        "store tied tensors once, under their first name",
    )


def its_file_is_no_larger_than_that_of_none(name: str) -> None:
    """Under the same name in the header, which counts too; what each tensor lost is said there in a byte."""
    plain = original(Small())
    most = len(encode(plain, "")) + len(plain.tensors)
    found = len(encode(made_by(name), ""))
    require(found <= most, f"its file has {found:,} bytes, and none's {most:,}", "store float32 or less")


def a_quantizer_is_smaller_than_fp16(name: str) -> None:
    """It quantizes every weight."""
    if not METHODS.load(name).quantizes:
        return
    made = made_by(name)
    quantized = {n for n, stored in made.tensors.items() if stored.quantized}
    plain = sorted(weights_of(made.network).keys() - quantized - made.untouched.keys())
    require(
        not plain,
        f"it leaves {', '.join(plain)} unquantized",
        "quantize all of `weights_of`, or pass the others with a reason to `replace`",
    )
    found, most = len(encode(made, name)), len(encode(made_by("fp16"), "fp16"))
    require(found < most, f"its file has {found:,} bytes, and fp16's {most:,}", "use fewer levels or scales")


def pruned_zeros_stay_zeros(name: str) -> None:
    """A chain such as `magnitude:sparsity=0.5+method` keeps its zeros."""
    if name == "permute":
        raise Skipped("it moves them on purpose")
    network = Small()
    pruned = made_by("magnitude:sparsity=0.5")
    chain = _chain(f"magnitude:sparsity=0.5+{name}")
    made = decode(encode(apply(chain, network), chain))[2]
    lost = []
    for weight in weights_of(network):
        zero, value = pruned.tensors[weight].dequantize() == 0, made[weight].dequantize()
        # of a tensor with fewer channels: they are among the zeros of the channels that stay
        came_back = value[zero].any() if value.shape == zero.shape else value.all()
        if came_back:
            lost.append(weight)
    require(not lost, f"pruned zeros of {', '.join(lost[:3])} come back", PASS_MASKS)


def quantized_tensors_stay_quantized(name: str) -> None:
    """A chain such as `int4+method` keeps the indices."""
    if METHODS.load(name).quantizes:
        return
    network = Small()
    made = apply(_chain(f"int4+{name}"), network)
    lost = [n for n in weights_of(network) if not made.tensors[n].quantized]
    require(not lost, f"it stores the quantized {', '.join(lost[:3])} as floats", "skip what is `quantized`")


def kept_tensors_stay_as_they_are_and_are_recorded(name: str) -> None:
    """Those that `context.excluded` names, with its reason."""
    if not changes_weights(name):
        return
    network = Small()
    made = _apply_if_possible(name, network, KEPT)
    (weight,) = KEPT
    require(
        torch.equal(made.tensors[weight].dequantize(), network.contract.weight)
        and weight not in made.touched,
        f"it changes {weight}, which `context.excluded` names",
        "leave out the names in `context.excluded`",
    )
    require(
        made.untouched == {**made_by(name).untouched, **KEPT},
        f"`untouched` is {dict(made.untouched)}",
        "pass the excluded weights with their reasons to `replace`",
    )


def what_it_does_not_cover_is_named(name: str) -> None:
    """Layers of an unknown type stay in `untouched`, with the reason."""
    kind = METHODS.load(name)
    if kind.trains or kind.calibrates or name == "recalibrate":
        raise Skipped("it needs a generator")
    made = _apply_if_possible(name, nn.Sequential(nn.Linear(64, 4), nn.Bilinear(4, 4, 4)))
    require(
        made.untouched == {"1.weight": "layers of type Bilinear are not covered"}
        and "1.weight" in made.tensors,
        f"of a layer that is not covered, `untouched` says {dict(made.untouched)}",
        "take the names from `weights_of`, and return `compressed.replace(...)`",
    )


CONTRACTS = (
    it_is_a_frozen_dataclass_named_like_its_entry_point,
    its_input_stays_untouched,
    its_output_is_deterministic,
    every_tensor_is_stored,
    its_file_gives_exactly_its_tensors,
    its_file_is_no_larger_than_that_of_none,
    a_quantizer_is_smaller_than_fp16,
    pruned_zeros_stay_zeros,
    quantized_tensors_stay_quantized,
    kept_tensors_stay_as_they_are_and_are_recorded,
    what_it_does_not_cover_is_named,
)


def _apply_if_possible(name: str, network: nn.Module, kept: Mapping[str, str] | None = None) -> Compressed:
    """As `apply`. Raises `Skipped` where the method has nothing to do here, and says so."""
    try:
        return apply(name, network, kept)
    except Unsupported as error:
        raise Skipped(str(error)) from None


def _chain(text: str) -> str:
    """The canonical text of a chain. Raises `Skipped` where the grammar forbids it."""
    try:
        return parse(text).text
    except BadInput as error:
        raise Skipped(str(error)) from None
