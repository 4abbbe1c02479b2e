"""What is written of a pydantic model is what the same model reads, whatever of pydantic's features it uses."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
from collections import deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pydantic
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    AnyUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    Tag,
    computed_field,
    field_serializer,
    model_serializer,
    model_validator,
)

from tranship import Client, Worker, codec, named, task
from tranship.errors import EncodeError, InvalidArgumentsError
from tranship.testing.background import BackgroundWorker

T = TypeVar("T")
TYPES = [codec.JSON, codec.MSGPACK]


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Plain(BaseModel):
    text: str
    number: int = 0
    share: float | None = None


class Leaves(BaseModel):
    moment: datetime
    day: date
    clock: time
    span: timedelta
    price: Decimal
    key: UUID
    raw: bytes
    color: Color
    level: Level
    address: IPv4Address
    path: Path
    url: AnyUrl
    many: set[int]
    fixed: frozenset[str]
    pair: tuple[int, str]
    queue: deque[timedelta]
    by_day: dict[date, int]
    by_number: dict[int, timedelta]


class StrictLeaves(BaseModel):
    model_config = ConfigDict(strict=True)
    moment: datetime
    day: date
    span: timedelta
    price: Decimal
    key: UUID
    color: Color
    many: set[int]
    pair: tuple[int, str]


class Configured(BaseModel):
    model_config = ConfigDict(ser_json_timedelta="float", ser_json_bytes="base64", val_json_bytes="base64")
    span: timedelta
    raw: bytes


class Aliases(BaseModel):
    both: int = Field(alias="BOTH")
    reads: int = Field(validation_alias="in")
    writes: int = Field(default=0, serialization_alias="out")
    differs: int = Field(default=0, validation_alias="in2", serialization_alias="out2")
    chosen: int = Field(validation_alias=AliasChoices("one", "two"))
    deep: int = Field(validation_alias=AliasPath("deep", "er"))


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True, alias_generator=str.upper)
    first: int
    second: date


class Secrets(BaseModel):
    key: SecretStr
    raw: SecretBytes
    day: Secret[date]
    several: list[SecretStr]
    mapped: dict[str, SecretStr | int]
    at: Path = Path("/")


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int = 1

    @computed_field
    def b(self) -> int:
        return self.a + 1


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")
    a: int
    _seen: int = PrivateAttr(default=0)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = Field(default="dog", alias="Kind")
    barks: timedelta = timedelta(0)


class Bird(BaseModel):
    kind: Literal["bird"] = "bird"
    span: Decimal = Decimal(1)


class Box(BaseModel, Generic[T]):
    content: T
    spare: list[T] = []


class Days(RootModel[dict[str, date]]): ...


class Serialized(BaseModel):
    hexed: Annotated[
        int, PlainSerializer(hex, return_type=str), BeforeValidator(lambda v: int(v, 16) if isinstance(v, str) else v)
    ]
    at: datetime

    @field_serializer("at", when_used="json")
    def _epoch(self, at: datetime) -> float:
        return at.timestamp()


class AsText(BaseModel):
    x: int
    y: int

    @model_serializer
    def _text(self) -> str:
        return f"{self.x},{self.y}"

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return dict(zip("xy", value.split(","), strict=True)) if isinstance(value, str) else value


class Nested(BaseModel):
    payload: Json[list[int]]
    either: date | str
    anything: Any
    choice: SecretStr | Plain | None


@dataclasses.dataclass
class Stock:
    """Of the standard library, with models inside."""

    secret: SecretStr
    alias: ByName
    strict: StrictLeaves
    days: list[date]


@pydantic.dataclasses.dataclass
class Crate:
    number: Annotated[int, Field(alias="no")]
    span: timedelta
    key: SecretStr


class Hen(BaseModel):
    kind: Literal["hen"] = Field(default="hen", alias="Kind")


BY_ALIAS = Annotated[Hen | Dog, Field(discriminator="kind")]
Pet = Annotated[Cat | Bird, Field(discriminator="kind")]
Tagged = Annotated[
    Annotated[Cat, Tag("cat")] | Annotated[Bird, Tag("bird")],
    Discriminator(lambda v: v["kind"] if isinstance(v, dict) else v.kind),
]

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ints = st.integers(-(2**63), 2**64 - 1)
moments = st.datetimes(timezones=st.just(UTC))
spans = st.timedeltas(timedelta(days=-400), timedelta(days=400))
decimals = st.decimals(allow_nan=False, allow_infinity=False)
secrets = words.map(SecretStr)
plains = st.builds(Plain, text=words, number=ints, share=st.none() | st.floats(allow_nan=False))
strict = st.builds(
    StrictLeaves,
    moment=moments,
    day=st.dates(),
    span=spans,
    price=decimals,
    key=st.uuids(),
    color=st.sampled_from(Color),
    many=st.sets(st.integers(0, 9)),
    pair=st.tuples(st.integers(0, 9), words),
)
leaves = st.builds(
    Leaves,
    moment=moments,
    day=st.dates(),
    clock=st.times(),
    span=spans,
    price=decimals,
    key=st.uuids(),
    raw=st.binary(max_size=8),
    color=st.sampled_from(Color),
    level=st.sampled_from(Level),
    address=st.ip_addresses(v=4),
    path=st.just(Path("/a/b")),
    url=st.just(AnyUrl("https://example.org/a?b=c")),
    many=st.sets(st.integers(0, 9)),
    fixed=st.frozensets(words, max_size=3),
    pair=st.tuples(st.integers(0, 9), words),
    queue=st.builds(deque, st.lists(spans, max_size=2)),
    by_day=st.dictionaries(st.dates(), st.integers(0, 9), max_size=2),
    by_number=st.dictionaries(st.integers(0, 9), spans, max_size=2),
)
aliases = st.tuples(*[st.integers(0, 99)] * 6).map(
    lambda n: Aliases.model_validate(
        {"BOTH": n[0], "in": n[1], "writes": n[2], "in2": n[3], "two": n[4], "deep": {"er": n[5]}}
    )
)
by_name = st.tuples(st.integers(0, 9), st.dates()).map(
    lambda of: ByName.model_validate({"FIRST": of[0], "SECOND": of[1]})
)
secret = st.builds(
    Secrets,
    key=secrets,
    raw=st.binary(max_size=8).map(SecretBytes),
    day=st.dates().map(Secret[date]),
    several=st.lists(secrets, max_size=2),
    mapped=st.dictionaries(words, secrets | st.integers(0, 9), max_size=2),
)
pets = st.builds(Cat, lives=st.integers(0, 9)) | st.builds(Bird, span=decimals)
dogs = spans.map(lambda span: Dog.model_validate({"barks": span}))
nested = st.builds(
    Nested,
    payload=st.lists(st.integers(0, 9), max_size=2).map(json.dumps),
    either=st.dates() | words,
    anything=st.one_of(st.none(), words, st.dates(), st.uuids(), st.lists(decimals, max_size=2)),
    choice=st.one_of(st.none(), secrets, plains),
)
crates = st.tuples(st.integers(0, 9), spans, secrets).map(lambda of: Crate(no=of[0], span=of[1], key=of[2]))
CASES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Plain, plains),
    (Leaves, leaves),
    (StrictLeaves, strict),
    (Configured, st.builds(Configured, span=spans, raw=st.binary(max_size=8))),
    (Aliases, aliases),
    (ByName, by_name),
    (Secrets, secret),
    (Computed, st.builds(Computed, a=st.integers(0, 9))),
    (Frozen, st.builds(Frozen, a=st.integers(0, 9), b=words)),
    (Pet, pets),
    (Tagged, pets),
    (Cat | Dog, st.builds(Cat) | dogs),
    (BY_ALIAS, dogs),
    (Box[StrictLeaves], strict.flatmap(lambda one: st.just(Box[StrictLeaves](content=one, spare=[one])))),
    (Box[date | SecretStr], (st.dates() | secrets).map(lambda one: Box[date | SecretStr](content=one))),
    (Days, st.dictionaries(words, st.dates(), max_size=2).map(Days)),
    (Serialized, st.builds(Serialized, hexed=st.integers(0, 999), at=moments)),
    (AsText, st.builds(AsText, x=st.integers(0, 9), y=st.integers(0, 9))),
    (Nested, nested),
    (Stock, st.builds(Stock, secret=secrets, alias=by_name, strict=strict, days=st.lists(st.dates(), max_size=2))),
    (Crate, crates),
    (SecretStr, secrets),
    (list[Secrets], st.lists(secret, max_size=2)),
    (dict[str, Aliases | SecretStr | None], st.dictionaries(words, aliases | secrets | st.none(), max_size=2)),
]


def echo_of(annotation: Any) -> Any:
    def echo(value, *rest, extra=None, **others):
        return value

    echo.__annotations__ = dict.fromkeys(("value", "rest", "extra", "others", "return"), annotation)
    return task(name="echo")(echo)


def sent(echo: Any, content_type: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """What a worker makes of the arguments."""
    call = echo.call(*args, **kwargs)
    there = codec.loads(codec.dumps([call.args, call.kwargs], content_type), content_type)
    return echo.coerce(*there)


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(("annotation", "values"), CASES, ids=lambda one: str(getattr(one, "__name__", ""))[:30])
@settings(deadline=None, max_examples=10, phases=[Phase.generate])
@given(data=st.data())
def test_what_is_written_is_read_as_the_same(
    annotation: Any, values: st.SearchStrategy[Any], content_type: str, data: st.DataObject
) -> None:
    value, echo = data.draw(values), echo_of(annotation)
    args, kwargs = sent(echo, content_type, value, value, extra=value, other=value)
    assert args == (value, value)
    assert kwargs == {"extra": value, "other": value}
    assert [type(one) for one in args] == [type(value)] * 2
    if annotation is not BY_ALIAS:  # a discriminator is found by its alias alone: only the annotation tells
        # A result is written without its annotation, by a worker that may have none.
        result = codec.loads(codec.dumps(value, content_type), content_type)
        assert echo.coerce_result(result) == value


class Rounded(BaseModel):
    length: float

    @field_serializer("length")
    def _with_unit(self, length: float) -> str:
        return f"{length} km"


class Hidden(BaseModel):
    name: str
    needed: int = Field(exclude=True)


class Twin(BaseModel):
    lives: int = 9


class Vague(BaseModel):
    pause: timedelta | str


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (
            Rounded,
            Rounded(length=1),
            r"argument 'value' of task echo: length: .*written of a Rounded; nothing was sent",
        ),
        (Hidden, Hidden(name="a", needed=1), r"needed: Field required.*written of a Hidden; nothing was sent"),
        (list[Hidden], [Hidden(name="a", needed=1)], r"argument 'value' of task echo: 0.needed: Field required"),
        (Twin | Cat, Plain(text="x"), "it is a Plain, and is read as a (Twin|Cat)"),
        (Vague, Vague(pause=timedelta(1)), "Vague.pause is a timedelta, and is read as a str"),
        (
            dict[str, Vague],
            {"a": Vague(pause=timedelta(1))},
            r"argument 'value' of task echo: \['a'\].pause is a timedelta, and is read as a str",
        ),
    ],
)
def test_a_model_that_cannot_be_read_back_is_refused_before_it_is_sent(
    annotation: Any, value: Any, message: str
) -> None:
    with Client("memory://refused") as client, pytest.raises(InvalidArgumentsError, match=message):
        client.submit(echo_of(annotation), value)


def test_what_pydantic_cannot_write_is_said_with_its_place() -> None:
    class Opaque: ...

    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: Opaque

    with pytest.raises(EncodeError, match=r"is of type .*Holder"):
        codec.dumps([Holder(thing=Opaque())])


def test_data_in_place_of_a_model_is_the_callers_own() -> None:
    echo = echo_of(Aliases)
    data = {"BOTH": 1, "in": 2, "two": 3, "deep": {"er": 4}}
    assert echo.call(data).args[0] is data
    assert sent(echo, codec.JSON, data)[0][0].chosen == 3


def test_strict_fields_take_what_json_says_and_no_more() -> None:
    echo = echo_of(StrictLeaves)
    good = {"moment": "2026-01-01T00:00:00Z", "day": "2026-01-01", "span": "PT1S", "price": "1.5", "color": "red"}
    good |= {"key": str(UUID(int=1)), "many": [1], "pair": [1, "a"]}
    assert echo.coerce((good,), {})[0][0].day == date(2026, 1, 1)
    with pytest.raises(InvalidArgumentsError, match=r"task echo: many\.0: Input should be a valid integer, got str$"):
        echo.coerce(({**good, "many": ["1"]},), {})


SECRET = "hunter2-4711"


def test_secrets_arrive_and_are_shown_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    model = Secrets(
        key=SECRET, raw=SECRET.encode(), day=Secret[date](date(2026, 1, 1)), several=[SECRET], mapped={"a": SECRET}
    )

    @task(name="open")
    def opened(secrets: Secrets, alone: SecretStr) -> list[str]:
        return [secrets.key.get_secret_value(), secrets.mapped["a"].get_secret_value(), alone.get_secret_value()]

    @task(name="fails")
    def fails(secrets: Secrets) -> None:
        raise ValueError("no")

    shown = [
        repr(opened.call(model, SecretStr(SECRET))),
        repr(opened.envelope((model, SECRET), {"x": SECRET}, now=0.0)),
    ]
    with BackgroundWorker(Worker("memory://secret", tasks=[opened, fails])), Client("memory://secret") as client:
        assert client.submit(opened, model, SecretStr(SECRET)).result(timeout=5) == [SECRET] * 3
        error = client.submit(fails, model).wait(timeout=5).exception()
        bad = client.submit(named("open"), {"key": [SECRET]}, SECRET).wait(timeout=5).exception()
        with pytest.raises(EncodeError) as refused:
            client.submit(named("open"), {SecretStr(SECRET): 1})
    shown += [caplog.text, repr(error), str(error), repr(bad), str(bad), repr(refused.value)]
    assert not [text for text in shown if SECRET in text]
