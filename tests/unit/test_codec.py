"""The codec: everything that is data comes back as it was, nothing else gets in, no bytes can do harm."""

from __future__ import annotations

import contextlib
import enum
import math
import uuid
from collections import OrderedDict, namedtuple
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from statekit.errors import CorruptValue, NonPrimitiveValue
from statekit.store.codec import DEEPEST, LARGEST, decode, encode

offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**400), 2**400)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.datetimes(timezones=st.none() | offsets)
    | st.dates()
)
keys = st.text(max_size=4) | st.sampled_from(["~", "~b", "~t", "~o", "~dt", "~d", "~f"])
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@settings(max_examples=300, deadline=None)
@given(values)
def test_what_goes_in_comes_out(value: Any) -> None:
    raw = encode(value)
    found = decode(raw)
    assert same(found, value)
    assert encode(found) == raw


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_corrupt(raw: bytes) -> None:
    with contextlib.suppress(CorruptValue):
        decode(raw)


@settings(max_examples=300, deadline=None)
@given(values, st.data())
def test_damaged_bytes_are_a_value_or_corrupt(value: Any, data: st.DataObject) -> None:
    raw = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(raw) - 1))
        raw[where : where + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
        if not raw:
            break
    with contextlib.suppress(CorruptValue):
        decode(bytes(raw))


@pytest.mark.parametrize(
    ("value", "raw"),
    [
        (None, b"null"),
        (True, b"true"),
        (42, b"42"),
        (0.1, b"0.1"),
        (-0.0, b"-0.0"),
        (1e300, b"1e+300"),
        ("grüße", '"grüße"'.encode()),
        ("\ud800", b'"\xed\xa0\x80"'),
        ('"\\\n\0', b'"\\"\\\\\\n\\u0000"'),
        (b"\x00\xff", b'{"~b":"AP8="}'),
        ((), b'{"~t":[]}'),
        ((1, [2]), b'{"~t":[1,[2]]}'),
        (math.inf, b'{"~f":"inf"}'),
        (-math.inf, b'{"~f":"-inf"}'),
        (datetime(2026, 1, 2, 3, 4, 5, 6), b'{"~dt":"2026-01-02T03:04:05.000006"}'),  # noqa: DTZ001 - naive is data
        (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))), b'{"~dt":"2026-01-02T00:00:00+02:00"}'),
        (date(2026, 1, 2), b'{"~d":"2026-01-02"}'),
        ({}, b"{}"),
        ({"a": 1, "b": (2,)}, b'{"a":1,"b":{"~t":[2]}}'),
        ({"~b": "x"}, b'{"~o":{"~b":"x"}}'),
        ({"~b": "x", "c": 1}, b'{"~b":"x","c":1}'),
    ],
)
def test_the_bytes_are_frozen(value: Any, raw: bytes) -> None:
    assert encode(value) == raw
    assert same(decode(raw), value)


def test_nan_comes_back() -> None:
    assert math.isnan(decode(encode(math.nan)))


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Markup("<b>"), "<b>"),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (namedtuple("Point", "x y")(1, 2), (1, 2)),  # noqa: PYI024 - any named tuple will do
        (OrderedDict(a=1), {"a": 1}),
    ],
)
def test_a_subclass_is_written_as_the_type_it_extends(value: Any, plain: Any) -> None:
    assert same(decode(encode(value)), plain)


class Row:
    pk = 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "value is of type object"),
        ({1, 2}, "sorted"),
        (bytearray(b"x"), r"bytes\(value\)"),
        (uuid.UUID(int=1), r"UUID.*str\(value\)"),
        (Decimal(1), r"decimal.Decimal.*str\(value\)"),
        (Row(), r"value\.pk.*hydrate"),
        (print, "builtin_function"),
        (1j, "complex"),
        ({1: 2}, "keys are text"),
        ([{"a": (0, {b"x": 1})}], r"value\[0\]\['a'\]\[1\] has the key b'x'"),
        (2**5000, "5001 bits"),
    ],
)
def test_what_is_not_data_is_refused_with_the_cure(value: Any, says: str) -> None:
    with pytest.raises(NonPrimitiveValue, match=says):
        encode(value)


def test_depth_is_bounded() -> None:
    deep: Any = 1
    for _ in range(DEEPEST - 1):
        deep = [deep]
    assert decode(encode(deep)) == deep
    with pytest.raises(NonPrimitiveValue, match="deeper"):
        encode([deep])
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(NonPrimitiveValue, match="contains itself"):
        encode(loop)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\x80\x04K\x01.",
        b"[" * 100_000,
        b"[" * 40 + b"]" * 40,
        b"NaN",
        b"Infinity",
        b"9" * 5000,
        b'{"~b":"!"}',
        b'{"~b":1}',
        b'{"~t":{}}',
        b'{"~o":[]}',
        b'{"~dt":"yesterday"}',
        b'{"~f":"1.5"}',
        b'{"~unknown":1}',
        b'"' + b"x" * LARGEST + b'"',
    ],
)
def test_bytes_that_nobody_wrote_are_corrupt(raw: bytes) -> None:
    with pytest.raises(CorruptValue) as caught:
        decode(raw)
    assert len(str(caught.value)) < 200
