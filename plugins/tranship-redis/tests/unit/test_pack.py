"""Commands as bytes, against the parser that everybody uses."""

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship_redis._pack import bulk, pack


def parsed(data: bytes) -> object:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


@given(st.lists(st.binary(), min_size=1))
def test_bytes_come_out_as_they_went_in(parts: list[bytes]) -> None:
    assert parsed(pack(*parts)) == parts
    assert parsed(b"*%d\r\n" % len(parts) + b"".join(map(bulk, parts))) == parts


def test_texts_and_numbers() -> None:
    assert parsed(pack("SET", "schlüssel", 12, 0.1, -3)) == [b"SET", "schlüssel".encode(), b"12", b"0.1", b"-3"]


def test_a_score_keeps_every_digit() -> None:
    score = 1790000000.1234567
    (_, written) = parsed(pack("X", score))  # type: ignore[misc]

    assert float(written) == score


@pytest.mark.parametrize("part", [None, True, [b"x"]])
def test_anything_else_is_refused(part: object) -> None:
    with pytest.raises(TypeError, match="str, int, float or bytes"):
        pack(b"SET", part)  # type: ignore[arg-type]


def test_subclasses_of_the_types_are_taken() -> None:
    class Text(str):
        __slots__ = ()

    class Data(bytes):
        __slots__ = ()

    assert parsed(pack(Text("a"), Data(b"b"))) == [b"a", b"b"]
