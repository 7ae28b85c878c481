"""Parses and writes methods as text: `int8`, `magnitude:sparsity=0.5+int4`.

`+` composes from left to right.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from bench.errors import BadInput, blamed, unknown
from bench.interfaces import Compressed, Context, Method
from bench.registry import METHODS

# The primary ladder, the same in every domain, mildest first.
LADDER = ("int8", "int6", "int5", "int4", "int3", "int2", "ternary", "binary")
GROUPS = {"ladder": LADDER}
_RECALIBRATED = "+recalibrate"
_DURING = "qat:grid="  # all other options at their defaults
CONTROL = "finetune"  # the same steps of training, without compression
TRAINED = ("qat", "parq", "prune_train", CONTROL)
PATTERN = re.compile(r"(\d{1,4}):(\d{1,4})(?:,|$)")  # 2:4 is short for nm:n=2,m=4


def is_recalibrated(method: str) -> bool:
    """Whether a canonical text ends with recalibration. Reads the text alone, without loading the methods."""
    return method.endswith(_RECALIBRATED)


def without_recalibration(method: str) -> str:
    """The text without recalibration: `int4` for `int4+recalibrate`. Other texts do not change."""
    return method.removesuffix(_RECALIBRATED)


def ladder(recalibrated: bool) -> tuple[str, ...]:
    """The texts of the primary ladder, mildest first: `int8`, ... or `int8+recalibrate`, ..."""
    return tuple(rung + _RECALIBRATED for rung in LADDER) if recalibrated else LADDER


def rung_of(method: str) -> str | None:
    """The rung of the ladder that a method belongs to, with or without recalibration; None for other
    methods.
    """
    rung = without_recalibration(method)
    return rung if rung in LADDER else None


def primary_rung(method: str, recalibrated: bool) -> str | None:
    """The rung of the ladder by which a model is scored.

    That ladder is the recalibrated one where the model has running statistics, else the plain one.
    """
    rung = rung_of(method)
    return rung if rung is not None and is_recalibrated(method) == recalibrated else None


def during(rung: str) -> str:
    """The method that trains with the grid of a rung: `qat:grid=int3` for `int3`."""
    return _DURING + rung


def rung_trained(method: str) -> str | None:
    """The rung whose grid a method trains with: `int3` of `qat:grid=int3`.

    None for other methods, and where another option is given.
    """
    rung = method.removeprefix(_DURING)
    return rung if method.startswith(_DURING) and rung in LADDER else None


def is_trained(method: str) -> bool:
    """Whether any link of a canonical text is a training-time method. Reads the text alone."""
    return any(link.partition(":")[0] in TRAINED for link in method.split("+"))


def without_seed(method: str) -> str:
    """The canonical text without its seeds: `qat:grid=ternary` for `qat:grid=ternary,seed=1`."""
    return re.sub(r",seed=\d+|:seed=\d+(?=\+|$)", "", re.sub(r":seed=\d+,", ":", method))


def with_seed(method: str, seed: int) -> str:
    """The canonical text of a training-time method with this seed."""
    return parse(f"{method}{',' if ':' in method else ':'}seed={seed}").text


@dataclass(frozen=True)
class Chain(Method):
    """Methods applied one after another. A single method is a chain with one link."""

    links: tuple[Method, ...]

    name = "chain"
    description = "methods joined by +"

    def __call__(self, compressed: Compressed, context: Context) -> Compressed:
        for link in self.links:
            compressed = link(compressed, context)
        return compressed

    @property
    def text(self) -> str:
        """The shortest canonical text.

        It omits settings at their defaults, except those that are always shown (`shown`).
        """
        return "+".join(link.text for link in self.links)

    @property
    def versions(self) -> dict[str, int]:
        """Link -> its version."""
        return {link.name: link.version for link in self.links}


def parse(text: str) -> Chain:
    """Parse the text of a method. Raises `BadInput` that names the bad value and the allowed ones."""
    links = tuple(_parse_link(part.strip()) for part in text.split("+"))
    if sum(link.quantizes for link in links) > 1:
        names = " and ".join(link.name for link in links if link.quantizes)
        raise BadInput(f"{text!r} quantizes twice ({names}): give at most one quantizer")
    for i, link in enumerate(links):
        if (link.rewrites or link.trains) and any(before.quantizes for before in links[:i]):
            raise BadInput(f"{text!r}: {link.name!r} has to come before a quantizer")
    if any(link.name == "recalibrate" for link in links[:-1]):
        raise BadInput(
            f"{text!r}: 'recalibrate' has to come last, since statistics must fit the final weights"
        )
    if len(links) > 1:
        links = tuple(link for link in links if link.name != "none") or links[:1]
    return Chain(links)


def expand(texts: list[str] | tuple[str, ...], recalibrate: bool = False) -> list[str]:
    """Canonical texts without repeats. A group such as `ladder` becomes its members.

    In a network with running statistics, the group means the recalibrated members: `int8+recalibrate`. A
    method that is named alone, such as `int8`, does not change.
    """
    members: list[str] = []
    for text in texts:
        members += ladder(recalibrate) if text.strip() in GROUPS else [text]
    return list(dict.fromkeys(parse(member).text for member in members))


def _parse_link(text: str) -> Method:
    if pattern := PATTERN.match(text):
        text = f"nm:n={pattern[1]},m={pattern[2]},{text[pattern.end() :]}"
    name, _, settings = text.partition(":")
    if name in GROUPS:
        raise BadInput(
            f"{name!r} is a group of methods ({', '.join(GROUPS[name])}): give it alone, or name one of them"
        )
    if name not in METHODS:
        raise unknown("method", name, [*METHODS, *GROUPS])
    kind = METHODS.load(name)
    fields = _settings_of(name, kind)
    values: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        key, equals, value = setting.partition("=")
        if not equals and key in fields and fields[key].default is False:
            equals, value = "=", "true"  # a flag needs no value
        if key not in fields:
            raise unknown(f"setting of {name!r}", key, fields)
        if not equals:
            raise BadInput(f"setting {key!r} of {name!r} needs a value: {key}=...")
        if key in values:
            raise BadInput(f"setting {key!r} of {name!r} is given twice: give it once")
        values[key] = _value(name, key, value, fields[key].default)
    with blamed(f"method {name!r}"):
        method: Method = kind(**values)
    return method


def _settings_of(name: str, kind: type[Method]) -> dict[str, dataclasses.Field[Any]]:
    """The settings of a method. Raises `BadInput` where its author forgot what makes them readable."""
    if not dataclasses.is_dataclass(kind):
        raise BadInput(f"method {name!r} is no dataclass: write @dataclass(frozen=True) above its class")
    fields = {own.name: own for own in dataclasses.fields(kind)}
    if lacking := [key for key, own in fields.items() if own.default is dataclasses.MISSING]:
        raise BadInput(f"setting {lacking[0]!r} of method {name!r} has no default: give it one")
    return fields


def _value(method: str, key: str, text: str, default: Any) -> Any:
    """Parse a setting as the type of its default."""
    kind = type(default)
    if kind is bool:
        if text not in ("true", "false", "1", "0"):
            raise BadInput(f"{key}={text!r} of {method!r} is not one of: true, false")
        return text in ("true", "1")
    try:
        return kind(text)
    except ValueError:
        raise BadInput(
            f"{key}={text!r} of {method!r} is not a valid {kind.__name__}, such as {default}"
        ) from None
