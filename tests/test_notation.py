"""bench.methods.notation: text to method and back, and what it says about bad text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import BadInput
from bench.methods.notation import LADDER, expand, parse
from bench.methods.prune import Magnitude
from bench.methods.quantize import Int8


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("int8", "int8"),
        (" int8 ", "int8"),
        ("int8:", "int8"),
        ("magnitude", "magnitude"),
        ("magnitude:sparsity=0.5", "magnitude"),  # the default
        ("magnitude:sparsity=.9", "magnitude:sparsity=0.9"),
        ("magnitude:sparsity=0.5+int8", "magnitude+int8"),
        ("magnitude:sparsity=0.75 + int8", "magnitude:sparsity=0.75+int8"),
        ("permute:seed=0", "permute"),
        ("permute:seed=03", "permute:seed=3"),
        ("none", "none"),
        ("none+int8", "int8"),
        ("int8+none", "int8"),
        ("none+none", "none"),
    ],
)
def test_canonical_text(text: str, canonical: str):
    assert parse(text).text == canonical
    assert parse(canonical).text == canonical


def test_links_and_settings():
    assert parse("magnitude:sparsity=0.75+int8").links == (Magnitude(0.75), Int8())
    assert parse("magnitude+int8").versions == {"magnitude": Magnitude.version, "int8": Int8.version}


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.floats(0, 1, exclude_max=True))
def test_two_settings_never_share_a_text(sparsity: float):
    method = parse(f"magnitude:sparsity={sparsity!r}")
    assert parse(method.text).links == method.links == (Magnitude(sparsity),)


def test_groups_become_their_members_once_each():
    assert expand(["ladder"]) == list(LADDER) == ["int8", "int6", "int5", "int4", "int3", "int2", "ternary", "binary"]
    assert expand(["int4", " ladder ", "magnitude:sparsity=0.5", "magnitude"]) == ["int4", *(m for m in LADDER if m != "int4"), "magnitude"]
    assert expand([]) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("int99", "unknown method 'int99'"),
        ("ternery", "unknown method 'ternery' (did you mean 'ternary'?); allowed: "),
        ("", "unknown method ''"),
        ("int8+", "unknown method ''"),
        ("int8++int4", "unknown method ''"),
        ("INT8", "unknown method 'INT8'"),
        ("ladder", "'ladder' stands for several methods"),
        ("magnitude+ladder", "'ladder' stands for several methods"),
        ("magnitude:sparsty=0.5", "unknown setting of 'magnitude' 'sparsty' (did you mean 'sparsity'?); allowed: sparsity"),
        ("int8:group=32", "unknown setting of 'int8' 'group'; allowed: none"),
        ("magnitude:sparsity", "setting 'sparsity' of 'magnitude' needs a value"),
        ("magnitude:sparsity=", "sparsity='' of 'magnitude' is not a valid float, such as 0.5"),
        ("magnitude:sparsity=half", "sparsity='half' of 'magnitude' is not a valid float, such as 0.5"),
        ("magnitude:sparsity=0.3,sparsity=0.4", "setting 'sparsity' of 'magnitude' is given twice"),
        ("permute:seed=1.5", "seed='1.5' of 'permute' is not a valid int, such as 0"),
        ("int8+int4", "'int8+int4' quantizes twice (int8 and int4)"),
    ],
)
def test_bad_text_is_named_in_one_line(text: str, message: str):
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.text(st.sampled_from("int8magnitude:=+,. 0.5sparsity\n\0ü"), max_size=30))
def test_no_text_raises_anything_else(text: str):
    try:
        parse(text)
    except BadInput:
        pass
