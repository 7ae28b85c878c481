"""Known damages to real molecules, most of them what compression does; strengths fixed before anyone looked.

The evaluators must see each, and only its kind.
"""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from bench.interfaces import Damage
from domains.molecules.chemistry import scaffolds

Strings = Sequence[str]

ATOMS = ("C", "N", "O", "S", "F", "c", "n", "o", "s")
ATOM = re.compile(r"Cl|Br|\[[^]]*\]|[CNOSFcnos]")
RING_DIGIT = re.compile(r"(?<=[A-Za-z\]\d])\d")
BRACKET = re.compile(r"[()]")


def drop_one(strings: Strings, pattern: re.Pattern[str]) -> list[str]:
    """Each string without one of the places where the pattern matches; unchanged where there is none."""
    noise = random.Random(1)
    found = []
    for string in strings:
        places = [match.span() for match in pattern.finditer(string)]
        start, end = noise.choice(places) if places else (0, 0)
        found.append(string[:start] + string[end:])
    return found


def replace_atoms(strings: Strings, share: float) -> list[str]:
    """Each atom, with probability `share`, becomes another one, drawn uniformly from nine kinds."""
    noise = random.Random(2)

    def other(match: re.Match[str]) -> str:
        if noise.random() >= share:
            return match[0]
        return noise.choice([atom for atom in ATOMS if atom != match[0]])

    return [ATOM.sub(other, string) for string in strings]


def shuffle_characters(strings: Strings, share: float = 1.0) -> list[str]:
    """The characters of the first `share` of the strings in random order."""
    noise, until = random.Random(3), round(share * len(strings))
    return [
        "".join(noise.sample(string, len(string))) if i < until else string
        for i, string in enumerate(strings)
    ]


def uniform_characters(strings: Strings) -> list[str]:
    """As many characters, all drawn uniformly from those that molecules have."""
    noise, known = random.Random(4), sorted(set("".join(strings)))
    return ["".join(noise.choice(known) for _ in string) for string in strings]


def half_repeated(strings: Strings) -> list[str]:
    """The second half replaced by the first half again."""
    half = len(strings) // 2
    return [*strings[: len(strings) - half], *strings[:half]]


def ten_copies(strings: Strings) -> list[str]:
    """A tenth of the molecules, ten times each."""
    return [strings[i % (len(strings) // 10)] for i in range(len(strings))]


def one_scaffold_only(strings: Strings) -> list[str]:
    """The molecules of the most frequent scaffold: in this data, those whose only ring is benzene.

    There are none where no string has a ring.
    """
    kinds = scaffolds(tuple(strings))
    (most, _), *_ = Counter(kind for kind in kinds if kind).most_common(1) or [("", 0)]
    return [string for string, kind in zip(strings, kinds) if kind and kind == most]


def of_network(strings: Strings, method: str) -> list[str]:
    """As many samples of the compressed generator `xs@0`. They depend on the number of strings alone."""
    from bench.artifact.format import fill
    from bench.artifact.structure import rebuilt
    from bench.interfaces import Context
    from bench.methods.notation import parse
    from bench.methods.plain import original
    from domains.molecules.adapter import MoleculesDomain

    domain = MoleculesDomain()
    generator = domain.open(domain.models["xs@0"])
    compressed = parse(method)(original(generator.network), Context(generator))
    network = rebuilt(generator, compressed.structure)
    fill(network, compressed.tensors)
    return list(generator.sample(network.eval(), len(strings), 0))


def _with(function: Callable[..., list[str]], **settings: object) -> Callable[[Strings], list[str]]:
    return functools.partial(function, **settings)


DAMAGES: Mapping[str, Damage] = {
    "one ring digit dropped": Damage(
        "surface", _with(drop_one, pattern=RING_DIGIT), valid=(0, 0.15), mutual_recall=(0.8, 9)
    ),
    "one bracket dropped": Damage(
        "surface", _with(drop_one, pattern=BRACKET), valid=(0, 0.15), mutual_recall=(0.8, 9)
    ),
    "atoms replaced 5 %": Damage(
        "surface", _with(replace_atoms, share=0.05), mutual_recall=(0.8, 9), milder=""
    ),
    "atoms replaced 10 %": Damage("surface", _with(replace_atoms, share=0.1), milder="atoms replaced 5 %"),
    "atoms replaced 20 %": Damage("surface", _with(replace_atoms, share=0.2), milder="atoms replaced 10 %"),
    "characters shuffled": Damage("both", shuffle_characters, valid=(0, 0.05)),
    "half of the molecules shuffled": Damage(
        "both", _with(shuffle_characters, share=0.5), valid=(0.45, 0.55)
    ),
    "half repeated": Damage("variety", half_repeated, mutual_recall=(0, 0.8)),
    "ten copies of a tenth": Damage("variety", ten_copies, mutual_recall=(0, 0.02)),
    "one scaffold only": Damage("variety", one_scaffold_only, mutual_recall=(0, 0.8)),
    "samples of an int3 network": Damage("both", _with(of_network, method="int3"), milder=""),
    "samples of an int2 network": Damage("both", _with(of_network, method="int2"), valid=(0, 0.05)),
    "characters drawn uniformly": Damage(
        "both", uniform_characters, valid=(0, 0.05), mutual_recall=(0, 0.15)
    ),
}
