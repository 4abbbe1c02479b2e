"""JSON: what orjson and kombu disagree about is written as kombu does."""

import enum
import json
import math
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from tranship import codec
from tranship.codec import JSON
from tranship.errors import EncodeError, InvalidOptionError, MalformedMessage

MOMENT = datetime(2031, 2, 3, 4, 5, 6, 789000, UTC)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Point(NamedTuple):
    x: int
    y: int


class Ratio(float):
    pass


class Key(str):
    __slots__ = ()


@dataclass
class Box:
    id: UUID
    width: float


class Model(BaseModel):
    at: datetime
    tags: set[str] = {"a"}


def tagged(kind: str, value: Any) -> dict[str, Any]:
    return {"__type__": kind, "__value__": value}


def written(value: Any) -> Any:
    return json.loads(codec.dumps(value))


def read(text: str) -> Any:
    return codec.loads(text.encode(), JSON)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# --- pitfalls of orjson ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, Ratio("nan")])
def test_a_float_that_is_no_number_is_not_written_as_null(value: float) -> None:
    text = codec.dumps({"deep": [value, None]})
    assert text in (b'{"deep":[NaN,null]}', b'{"deep":[Infinity,null]}', b'{"deep":[-Infinity,null]}')
    back = codec.loads(text, JSON)["deep"][0]
    assert back == value or math.isnan(back)


@pytest.mark.parametrize(
    "wrap", [list, tuple, lambda v: MappingProxyType({"a": v[0]}), lambda v: Box(UUID(int=1), v[0])]
)
def test_such_a_float_is_found_inside_anything(wrap: Any) -> None:
    assert b"NaN" in codec.dumps(wrap([math.nan]))


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, 2**100, -(2**63) - 1, -9999999999999999999])
def test_large_integers_are_exact(number: int) -> None:
    assert codec.dumps([number]) == f"[{number}]".encode()
    assert codec.loads(codec.dumps({"n": number}), JSON) == {"n": number}


def test_an_integer_beyond_all_measure_is_refused() -> None:
    with pytest.raises(EncodeError, match=r"value\[0\] is an int that is too large"):
        codec.dumps([10**5000])
    with pytest.raises(MalformedMessage):
        codec.loads(b"9" * 5000, JSON)


def test_lone_surrogates_are_escaped_and_come_back() -> None:
    assert codec.dumps(["\ud800"]) == b'["\\ud800"]'
    assert read('["\\ud800"]') == ["\ud800"]


def test_keys_that_are_no_text_become_text() -> None:
    assert written({2: 1, None: 3, True: 4, 1.5: 5}) == json.loads(json.dumps({2: 1, None: 3, True: 4, 1.5: 5}))
    assert written({Word.YES: 1, Key("k"): 2}) == {"yes": 1, "k": 2}


EXTENDED = [
    (MOMENT, tagged("datetime", "2031-02-03T04:05:06.789000+00:00")),
    (datetime(2031, 2, 3, tzinfo=timezone(timedelta(hours=2))), tagged("datetime", "2031-02-03T00:00:00+02:00")),
    (datetime(2031, 2, 3), tagged("datetime", "2031-02-03T00:00:00")),  # noqa: DTZ001
    (date(2031, 2, 3), tagged("date", "2031-02-03")),
    (time(4, 5), tagged("time", "04:05:00")),
    (Decimal("1.10"), tagged("decimal", "1.10")),
    (UUID(int=7), tagged("uuid", {"hex": "0" * 31 + "7"})),
    (b"h\xc3\xa9", tagged("bytes", "hé")),
    (b"\xff", tagged("base64", "/w==")),
]


@pytest.mark.parametrize(("value", "form"), EXTENDED)
def test_extended_types_are_kombus_both_ways(value: Any, form: dict[str, Any]) -> None:
    assert written({"a": [value]}) == {"a": [form]}
    assert codec.loads(codec.dumps({"a": [value]}), JSON) == {"a": [value]}


def test_a_uuid_is_told_apart_from_its_text() -> None:
    task_id = uuid4()
    assert codec.loads(codec.dumps([str(task_id), task_id]), JSON) == [str(task_id), task_id]
    assert codec.loads(codec.dumps({"t": str(task_id)}), JSON) == {"t": str(task_id)}


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Word.YES, "yes"),
        (Point(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (Ratio(1.5), 1.5),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (bytearray(b"x"), tagged("bytes", "x")),
        (Box(UUID(int=7), 2.0), {"id": tagged("uuid", {"hex": "0" * 31 + "7"}), "width": 2.0}),
        (Model(at=MOMENT), {"at": tagged("datetime", "2031-02-03T04:05:06.789000+00:00"), "tags": ["a"]}),
    ],
)
def test_objects_are_written_as_something_simpler(value: Any, form: Any) -> None:
    assert written([value]) == [form]
    # The same with a neighbour that makes the codec look twice, and one that needs the standard library.
    assert written([value, None]) == [form, None]
    assert written([value, 2**70]) == [form, 2**70]


def test_older_and_newer_forms_of_a_uuid_are_read() -> None:
    for version in (4, 7, None):
        assert read(json.dumps([tagged("uuid", {"hex": UUID(int=9).hex, "version": version})])) == [UUID(int=9)]


def test_an_escaped_tag_is_read_as_kombu_does() -> None:
    assert read('{"\\u005f_type__": "decimal", "__value__": "1"}') == Decimal(1)


def test_a_dict_with_exactly_the_two_keys_is_a_known_limit_of_the_format() -> None:
    assert codec.loads(codec.dumps(tagged("decimal", "2")), JSON) == Decimal(2)
    more = {**tagged("decimal", "2"), "more": 1}
    assert codec.loads(codec.dumps(more), JSON) == more


# --- what cannot be written -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (ValueError("x"), "options is of type ValueError, which .* cannot carry; raise an exception, or send its text"),
        ({"a": [1, {2, 3}]}, r"options\['a'\]\[1\] is of type set, which application/json cannot carry"),
        ({"f": object()}, r"options\['f'\] is of type object"),
        ([int], r"options\[0\] is of type type"),
        ({"b": Box(object(), 1.0)}, r"options\['b'\].id is of type object"),  # type: ignore[arg-type]
        ({(1, 2): 3}, r"options has a key of type tuple"),
        ([{"k": {UUID(int=1): 1}}], r"options\[0\]\['k'\] has a key of type UUID"),
        ({1j}, r"options is of type set"),
    ],
)
def test_the_error_names_the_path_and_the_type(value: Any, message: str) -> None:
    with pytest.raises(EncodeError, match=message):
        codec.dumps(value, name="options")


def test_the_error_does_not_show_the_value() -> None:
    with pytest.raises(EncodeError) as caught:
        codec.dumps({"password": {"s3cret"}})
    assert "s3cret" not in str(caught.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match="contains itself"):
        codec.dumps(loop)


@pytest.mark.parametrize("levels", [501, 5_000, 100_000])
def test_deep_nesting_is_refused(levels: int) -> None:
    with pytest.raises(EncodeError, match="nested too deeply"):
        codec.dumps(nested(levels))


@pytest.mark.parametrize("levels", [10, 253, 254, 255, 500])
def test_nesting_that_every_reader_manages_is_written(levels: int) -> None:
    assert codec.loads(codec.dumps(nested(levels)), JSON) == nested(levels)
    # Wide and shallow is not deep.
    assert written([[nested(1)] * 1000, 2**70])[1] == 2**70


def test_an_unknown_content_type_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="application/x-python-serialize"):
        codec.dumps(1, "application/x-python-serialize")


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        "[1] x",
        "nul",
        "\ufeff[]",
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        json.dumps(tagged("no such", 1)),
        json.dumps(tagged("datetime", "yesterday")),
        json.dumps(tagged("datetime", 5)),
        json.dumps(tagged("uuid", "x")),
        json.dumps(tagged("uuid", {})),
        json.dumps(tagged("base64", "a")),
        json.dumps(tagged("decimal", "x")),
        json.dumps(tagged("decimal", [1, 2])),
        json.dumps(tagged("bytes", None)),
        json.dumps(tagged("bytes", "\ud800")),
        '{"__type__": {}, "__value__": 1}',
    ],
)
def test_bad_json_is_malformed(text: str) -> None:
    with pytest.raises(MalformedMessage):
        codec.loads(text, JSON)
    with pytest.raises(MalformedMessage):
        codec.loads(text.encode("utf-8", "surrogatepass"), JSON)


@pytest.mark.parametrize("data", [b"\xff\xfe", b'"\xff"', b"\x80"])
def test_undecodable_text_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="not UTF-8"):
        codec.loads(data, JSON)


def test_charsets() -> None:
    for charset in ("utf-8", "UTF8", "binary", None):
        assert codec.loads('"é"'.encode(), JSON, charset) == "é"
    assert codec.loads('"é"'.encode("latin-1"), JSON, "latin-1") == "é"
    assert codec.loads('"é"'.encode("utf-16"), JSON, "utf-16") == "é"
    assert codec.loads('"é"', JSON, "latin-1") == "é"
    for charset in ("rot13", "zlib", "punycode", "no such"):
        with pytest.raises(MalformedMessage, match="content encoding"):
            codec.loads(b"[]", JSON, charset)
    with pytest.raises(MalformedMessage, match="not ascii"):
        codec.loads(b'"\xff"', JSON, "us-ascii")


@pytest.mark.parametrize("content_type", ["application/x-python-serialize", "application/data", "text/plain", ""])
def test_other_content_types_are_not_trusted(content_type: str) -> None:
    with pytest.raises(MalformedMessage, match="not trusted"):
        codec.loads(b"[]", content_type)


@pytest.mark.parametrize("content_type", [None, JSON, "Application/JSON; charset=utf-8"])
def test_json_by_its_names(content_type: str | None) -> None:
    assert codec.loads(b"[1]", content_type) == [1]


# --- for all values -------------------------------------------------------------------------------

ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None))
EXTRA = st.dates() | st.datetimes() | st.times() | st.decimals(allow_nan=False) | st.uuids() | st.binary(max_size=8)
VALUES = st.recursive(
    ATOMS | EXTRA,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
).filter(lambda value: not isinstance(value, dict) or value.keys() != {"__type__", "__value__"})


@given(VALUES)
@example({"a": "\ud800", "b": None})
def test_every_value_comes_back(value: Any) -> None:
    assert codec.loads(codec.dumps(value), JSON) == value


@given(VALUES)
def test_kombu_reads_what_we_write_and_we_read_what_kombu_writes(value: Any) -> None:
    kombu = pytest.importorskip("kombu.utils.json")
    assert kombu.loads(codec.dumps(value)) == value
    assert codec.loads(kombu.dumps(value).encode("utf-8", "surrogatepass"), JSON) == value


@given(st.binary())
def test_arbitrary_bytes_are_read_or_malformed(data: bytes) -> None:
    with suppress(MalformedMessage):
        codec.loads(data, JSON)


@given(
    st.tuples(st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.uuids()),
    st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.floats(), max_size=3),
)
def test_calls_are_written_fast_only_where_it_changes_nothing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    fast = codec.fast_call(args, kwargs)
    if fast is not None:
        assert fast == codec.dumps([args, kwargs])


@pytest.mark.parametrize("odd", [math.nan, 2**70, "\ud800", Level.HIGH, Word.YES, [1], uuid4(), MOMENT])
def test_calls_with_anything_odd_are_left_to_the_long_way(odd: Any) -> None:
    assert codec.fast_call((odd,), {}) is None
    assert codec.fast_call((), {"k": odd}) is None
    assert codec.fast_call([], {}) is None
    assert codec.fast_call(("null", None, 1), {"k": True}) == b'[["null",null,1],{"k":true}]'
