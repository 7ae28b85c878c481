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
        ("int4:granularity=group,group=32", "int4:group=32"),
        ("int4:granularity=channel", "int4"),
        ("int4:asym", "int4:asym"),
        ("int4:asym=true,scale=minmax", "int4:asym,scale=minmax"),
        ("binary:residual=2", "binary:residual=2"),
        ("ecsq", "ecsq:bits=2"),
        ("ecsq:bits=2.0", "ecsq:bits=2"),
        ("ecsq:bits=1.6", "ecsq:bits=1.6"),
        ("2:4", "2:4"),
        ("nm", "2:4"),
        ("nm:n=1,m=4", "1:4"),
        ("3:8,keep=a*|b+int4:group=32", "3:8,keep=a*|b+int4:group=32"),
        ("random:sparsity=0.5,seed=1", "random:seed=1"),
        ("permute:seed=03", "permute:seed=3"),
        ("int4:keep=layers.0", "int4:keep=layers.0"),
        ("int4:keep=*.0", "int4:keep=*.0"),
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
    assert (
        expand(["ladder"])
        == list(LADDER)
        == ["int8", "int6", "int5", "int4", "int3", "int2", "ternary", "binary"]
    )
    assert expand(["int4", " ladder ", "magnitude:sparsity=0.5", "magnitude"]) == [
        "int4",
        *(m for m in LADDER if m != "int4"),
        "magnitude",
    ]
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
        ("ladder", "'ladder' is a group of methods"),
        ("magnitude+ladder", "'ladder' is a group of methods"),
        (
            "magnitude:sparsty=0.5",
            (
                "unknown setting of 'magnitude' 'sparsty' (did you mean 'sparsity'?); allowed: keep, scope, "
                "sparsity"
            ),
        ),
        ("fp16:group=32", "unknown setting of 'fp16' 'group'; allowed: none"),
        ("magnitude:sparsity", "setting 'sparsity' of 'magnitude' needs a value"),
        ("magnitude:sparsity=", "sparsity='' of 'magnitude' is not a valid float, such as 0.5"),
        ("magnitude:sparsity=half", "sparsity='half' of 'magnitude' is not a valid float, such as 0.5"),
        ("magnitude:sparsity=0.3,sparsity=0.4", "setting 'sparsity' of 'magnitude' is given twice"),
        ("4:2", "'4:2' is no pattern"),
        ("0:4", "'0:4' is no pattern"),
        ("2:99", "'2:99' is no pattern"),
        ("2:4:8", "unknown method '2'"),
        ("int4:granularity=rows", "granularity='rows' of 'int4' is not one of: tensor, channel, group"),
        ("int4:granularity=group", "group=0 does not go with granularity=group of 'int4'"),
        ("int4:granularity=tensor,group=8", "group=8 does not go with granularity=tensor of 'int4'"),
        ("int4:group=-1", "group=-1 does not go with"),
        ("int4:scale=best", "scale='best' of 'int4' is not one of: mse, minmax"),
        ("nf4:scale=best", "scale='best' of 'nf4' is not one of: mse, minmax"),
        ("binary:residual=5", "residual=5 of 'binary' is outside of 1 to 4"),
        ("ecsq:bits=0", "bits=0 of 'ecsq' is outside of (0, 8]"),
        ("ecsq:bits=nan", "bits=nan of 'ecsq' is outside of (0, 8]"),
        ("magnitude:scope=world", "scope='world' of 'magnitude' is not one of: layer, global"),
        ("random:seed=-1", "seed=-1 is outside of [0, 2^63)"),
        ("int4:asym=maybe", "asym='maybe' of 'int4' is not one of: true, false"),
        ("int4:scale", "setting 'scale' of 'int4' needs a value"),
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
