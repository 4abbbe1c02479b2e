"""msgpack, with the readings of a Celery peer in mind."""

import enum
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship import codec
from tranship.codec import MSGPACK
from tranship.errors import EncodeError, MalformedMessage


class Colour(enum.Enum):
    RED = "red"


def test_bytes_and_text_stay_apart() -> None:
    assert msgpack.unpackb(codec.dumps({"b": b"\xff", "t": "é"}, MSGPACK)) == {"b": b"\xff", "t": "é"}


def test_extended_types_travel_as_in_json() -> None:
    values = [datetime(2031, 2, 3, tzinfo=UTC), Decimal("1.10"), UUID(int=7)]
    assert codec.loads(codec.dumps(values, MSGPACK), MSGPACK) == values
    assert msgpack.unpackb(codec.dumps(Decimal(1), MSGPACK)) == {"__type__": "decimal", "__value__": "1"}
    assert codec.loads(codec.dumps([Colour.RED, (1,)], MSGPACK), MSGPACK) == ["red", [1]]


def test_a_map_that_only_looks_like_an_extended_type_is_left_alone() -> None:
    value = {"__type__": "ours", "__value__": 1}
    assert codec.loads(msgpack.packb(value), MSGPACK) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {1: 2}}, r"value\['a'\] has a key of type int"),
        ({"a": {None: 2}}, r"value\['a'\] has a key of type NoneType"),
        ([2**64], r"value\[0\] is an int that is too large"),
        (["\ud800"], r"value\[0\] is a str with lone surrogates"),
        ([{1}], r"value\[0\] is of type set, which application/x-msgpack cannot carry"),
    ],
)
def test_what_a_peer_could_not_read_is_not_written(value: Any, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        codec.dumps(value, MSGPACK)


def test_deep_nesting() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(EncodeError):
        codec.dumps(value, MSGPACK)
    with pytest.raises(MalformedMessage):
        codec.loads(b"\x91" * 100_000, MSGPACK)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x92\x01", b"\x01\x01", b"\x81\x01\x01", b"\xa1\xff", b"\xdf\xff\xff\xff\xff", "\ud800"]
)
def test_bad_msgpack_is_malformed(data: bytes | str) -> None:
    with pytest.raises(MalformedMessage, match="not msgpack"):
        codec.loads(data, MSGPACK)


@given(st.binary())
def test_arbitrary_bytes_are_read_or_malformed(data: bytes) -> None:
    with suppress(MalformedMessage):
        codec.loads(data, MSGPACK)


def test_content_encodings() -> None:
    assert codec.content_encoding_of(codec.JSON) == "utf-8"
    assert codec.content_encoding_of(MSGPACK) == "binary"
