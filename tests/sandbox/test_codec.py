import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seccoderx_lite.sandbox.jail.codec import MAX_DEPTH, CodecError, decode, encode

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**300), 2**300)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
)
HASHABLE = st.recursive(
    SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner), max_leaves=5
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(HASHABLE, inner) | st.sets(HASHABLE)
    ),
    max_leaves=20,
)


def is_identical(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_identical, one, other))
    if isinstance(one, dict):
        return is_identical(list(one.items()), list(other.items()))
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


@given(VALUES)
def test_every_plain_value_survives_unchanged(value: Any) -> None:
    assert is_identical(decode(encode(value)), value)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_value_or_a_codec_error(data: bytes) -> None:
    try:
        decoded = decode(data)
    except CodecError:
        return
    assert is_identical(decode(encode(decoded)), decoded)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("ifsbBtSFdpx"), inner),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_plain_data_or_a_codec_error(value: Any) -> None:
    try:
        decoded = decode(json.dumps(value).encode())
    except CodecError:
        return
    assert type(decoded).__module__ in ("builtins", "pathlib")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[",
        b"nan",
        b"NaN",
        b"Infinity",
        b"1" * 100,
        b'{"i":"zz"}',
        b'{"i":5}',
        b'{"f":"1"}',
        b'{"x":1}',
        b"{}",
        b'{"t":1,"S":2}',
        b'{"S":[[]]}',
        b'{"d":[1]}',
        b'{"b":"0"}',
        b'{"s":"ff"}',
        b'{"p":1}',
        b"[" * 5000 + b"]" * 5000,
        b'{"t":"ab"}',
        b'{"i":"' + b"1" * 70000 + b'"}',
        b"\xff",
        b'{"d":[{"t":[[],1]}]}',
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


def test_values_that_are_not_plain_are_refused_by_name() -> None:
    with pytest.raises(CodecError, match="object"):
        encode([object()])
    with pytest.raises(CodecError, match="function"):
        encode(is_identical)


def test_depth_is_bounded_both_ways() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH + 5):
        value = [value]
    with pytest.raises(CodecError, match="deep"):
        encode(value)
