"""Elements: what Celery needs is there, what was put in comes out, and nothing that is read can raise."""

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tranship.codec import JSON, MSGPACK
from tranship.driver import Outgoing
from tranship.envelope import Envelope, Priority
from tranship.errors import MalformedMessage
from tranship.protocol import Encoder, Message, RawMessage, decode
from tranship_redis._element import Elements, Tags, end_of, read
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._pack import bulk

GOLDEN = Path(__file__).parents[4] / "tests" / "golden" / "vectors"
INDEX: dict[str, dict[str, Any]] = json.loads((GOLDEN / "index.json").read_text("utf-8"))["files"]
MESSAGES = [name for name, about in INDEX.items() if about["kind"] == "message"]
PLACE = {"queue": "peers", "priority": Priority.HIGH}
KEYS = Keys("", 0)
CELERY_PROPERTIES = ["correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority", "body_encoding"]


def elements(normal_step: int = 3) -> Elements:
    return Elements(KEYS, Levels(KEYS, normal_step))


def element(message: Message) -> bytes:
    return elements().build(Outgoing.of(message), tag=b"tag-1", timestamp=b"1790000000.123")


def message(**fields: Any) -> Message:
    return Encoder("gen1@host").encode(Envelope(**{"id": "id-1", "task": "peers.add", "queue": "peers", **fields}))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
nasty = st.sampled_from(
    [
        '{"a":1,"properties":{"correlation_id":"x","timestamp":1}}',
        '{"headers":{"properties":{}},"x":",\\"properties\\":{\\"correlation_id\\":"}',
        '{"a":"\\",\\"headers\\":"}',
        "{}",
    ]
)
header_bytes = (nasty | st.dictionaries(texts, values, max_size=5).map(json.dumps)).map(str.encode)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    envelope = Envelope(
        id=draw(texts),
        task="t",
        queue=draw(texts).replace("\0", ""),
        priority=draw(st.sampled_from(Priority)),
        reply_to=draw(st.none() | texts),
    )
    return Message(envelope, draw(header_bytes), draw(st.binary(max_size=200)), draw(texts), draw(texts))


class TestBuild:
    @pytest.mark.parametrize("name", MESSAGES)
    def test_equals_celerys_element_but_for_what_is_ours(self, name: str) -> None:
        told = json.loads((GOLDEN / name).read_bytes())
        raw = read((GOLDEN / name).read_bytes())
        envelope = Envelope(
            id=told["properties"]["correlation_id"],
            task="t",
            queue=told["properties"]["delivery_info"]["routing_key"],
            priority=Levels(KEYS).priority(told["properties"]["priority"]),
            reply_to=told["properties"]["reply_to"],
        )
        sent = Message(envelope, json.dumps(told["headers"]).encode(), raw.body, raw.content_type, raw.content_encoding)
        got = json.loads(element(sent))
        assert list(got) == list(told)
        assert list(got["properties"]) == [*CELERY_PROPERTIES, "delivery_tag", "timestamp"]
        assert got["properties"].pop("delivery_tag") == "tag-1"
        assert got["properties"].pop("timestamp") == 1790000000.123
        del told["properties"]["delivery_tag"]
        told["properties"].pop("expiration", None)  # means something over AMQP only
        if name in ("redis-json-priority5.json", "redis-msgpack-priority5.json"):
            told["properties"]["priority"] = 3  # ours are the steps themselves
        assert got == told

    def test_goes_to_the_list_of_its_step(self) -> None:
        for priority, step, key in (
            (Priority.HIGH, 0, b"peers"),
            (Priority.NORMAL, 3, b"peers\x06\x163"),
            (Priority.VERY_LOW, 9, b"peers\x06\x169"),
        ):
            sent = message(priority=priority)
            assert elements().slot(Outgoing.of(sent))[0].list == key
            assert json.loads(element(sent))["properties"]["priority"] == step
        assert elements(normal_step=0).slot(Outgoing.of(message()))[0].list == b"peers"

    def test_slots_are_shared_and_bounded(self) -> None:
        made = elements()
        assert made.slot(Outgoing.of(message(id="1")))[0] is made.slot(Outgoing.of(message(id="2")))[0]
        for number in range(3000):
            made.slot(Outgoing.of(message(queue=f"q-{number}")))
        assert len(made._slots) <= 1024

    def test_a_lone_surrogate_is_escaped(self) -> None:
        sent = message(reply_to="\ud800")
        assert json.loads(element(sent))["properties"]["reply_to"] == "\ud800"

    def test_a_queue_that_is_no_text_is_an_error_of_that_message(self) -> None:
        with pytest.raises(UnicodeEncodeError):
            element(message(queue="\ud800"))

    @given(messages())
    @settings(max_examples=100, deadline=None)
    def test_framed_it_says_its_own_length(self, sent: Message) -> None:
        made = elements()
        slot, source, _ = made.slot(Outgoing.of(sent))
        framed = made.framed(slot, source, sent.envelope.id, b"tag-1", end_of(b"1790000000.123"))
        assert framed == bulk(element(sent))

    def test_only_what_needs_no_more_than_a_place_is_known_by_its_like(self) -> None:
        made, like = elements(), object()
        plain, later, unique = message(), message(not_before=9e9), message(dedup_key="k")
        for sent in (later, unique):
            sent.like = object()
            assert made.slot(Outgoing.of(sent))
            assert made.known(sent) is None
        plain.like = like
        assert made.known(plain) is None
        assert made.slot(Outgoing.of(plain))[0] is made.known(plain)
        assert made.known(message()) is None

    def test_tags_are_unique(self) -> None:
        tags = [Tags(), Tags()]
        made = [tag.next() for tag in tags for _ in range(1000)]
        assert len(set(made)) == 2000
        assert all(json.loads(b'"%b"' % tag) == tag.decode() for tag in made)


class TestRead:
    @given(messages())
    @settings(max_examples=400, deadline=None)
    def test_gives_back_what_was_built(self, sent: Message) -> None:
        raw = read(element(sent))
        assert raw.headers == sent.headers
        assert raw.body == sent.body
        assert (raw.content_type, raw.content_encoding) == (sent.content_type, sent.content_encoding)
        assert raw.properties["reply_to"] == sent.envelope.reply_to
        assert raw.properties["correlation_id"] == sent.envelope.id

    @given(messages(), st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : ")]), st.booleans(), st.randoms())
    @settings(max_examples=400, deadline=None)
    def test_means_the_same_however_it_is_written(
        self, sent: Message, separators: tuple[str, str], ascii_only: bool, random: Any
    ) -> None:
        fields = json.loads(element(sent))
        names = list(fields)
        if random.random() < 0.5:
            random.shuffle(names)
        foreign = json.dumps({name: fields[name] for name in names}, ensure_ascii=ascii_only, separators=separators)
        raw = read(foreign.encode())
        headers = json.loads(raw.headers) if isinstance(raw.headers, bytes) else raw.headers
        assert headers == json.loads(sent.headers)
        assert raw.body == sent.body
        assert (raw.content_type, raw.content_encoding) == (sent.content_type, sent.content_encoding)
        assert raw.properties["reply_to"] == sent.envelope.reply_to

    @given(st.binary(max_size=300))
    @settings(max_examples=300, deadline=None)
    def test_never_raises(self, garbage: bytes) -> None:
        assert_harmless(garbage)

    @given(messages(), st.data())
    @settings(max_examples=400, deadline=None)
    def test_never_raises_for_damaged_elements(self, sent: Message, data: st.DataObject) -> None:
        whole = bytearray(element(sent))
        start = data.draw(st.integers(0, len(whole)))
        stop = data.draw(st.integers(start, min(len(whole), start + 20)))
        whole[start:stop] = data.draw(st.binary(max_size=6))
        assert_harmless(bytes(whole))

    @given(values)
    @settings(max_examples=300, deadline=None)
    def test_never_raises_for_other_json(self, value: Any) -> None:
        assert_harmless(json.dumps(value).encode())
        assert_harmless(json.dumps({"body": value, "headers": value, "properties": {"body_encoding": value}}).encode())
        assert_harmless(json.dumps({"body": "e30=", "content-type": value, "properties": value}).encode())

    @pytest.mark.parametrize("name", MESSAGES)
    def test_celerys_elements(self, name: str) -> None:
        whole = (GOLDEN / name).read_bytes()
        told, raw = json.loads(whole), read(whole)
        assert raw.headers == told["headers"]
        assert raw.body == base64.b64decode(told["body"])
        assert raw.content_type == told["content-type"]
        assert raw.properties == told["properties"]
        expect = INDEX[name]["expect"]
        assert decode(raw, **PLACE).id == expect.get("body", expect)["id"]

    def test_a_text_body(self) -> None:
        whole = json.dumps({"body": '[[1], {}, "\u00e9"]', "headers": {}, "properties": {}}).encode()
        assert read(whole).body == '[[1], {}, "\u00e9"]'.encode()

    def test_no_headers_at_all(self) -> None:
        assert read(b'{"body": "", "headers": null, "properties": {"body_encoding": "base64"}}').headers == {}
        assert read(b'{"body": ""}').headers == {}

    def test_a_body_that_is_not_base64_is_left_to_the_decoder(self) -> None:
        raw = read(b'{"body": "abc", "headers": {"task": "t", "id": "1"}, "properties": {"body_encoding": "base64"}}')
        assert raw.body == b"abc"
        with pytest.raises(MalformedMessage):
            decode(raw, **PLACE)

    def test_a_member_between_headers_and_properties_is_no_header(self) -> None:
        whole = element(message()).replace(b',"properties"', b',"extra":{"x":1}, "properties"', 1)
        raw = read(whole)
        headers = json.loads(raw.headers) if isinstance(raw.headers, bytes) else raw.headers
        assert headers == json.loads(message().headers)

    @pytest.mark.parametrize("garbage", [b"", b"\xff\xfe", b"null", b"[1, 2]", b'"text"', b'{"body"', b"[" * 100_000])
    def test_what_is_no_element_is_malformed(self, garbage: bytes) -> None:
        raw = read(garbage)
        assert (raw.headers, raw.body) == (garbage, b"")
        with pytest.raises(MalformedMessage):
            decode(raw, **PLACE)

    @pytest.mark.parametrize("content_type", [JSON, MSGPACK])
    def test_decodes_to_the_envelope(self, content_type: str) -> None:
        sent = message(args=(1, "\u00e9"), kwargs={"a": None}, content_type=content_type, priority=Priority.LOW)
        got = decode(read(element(sent)), queue="peers", priority=Priority.LOW)
        assert (got.id, got.task, list(got.args), got.kwargs) == ("id-1", "peers.add", [1, "\u00e9"], {"a": None})


def assert_harmless(whole: bytes) -> None:
    raw = read(whole)
    assert isinstance(raw, RawMessage)
    assert isinstance(raw.body, bytes)
    with contextlib.suppress(MalformedMessage):
        decode(raw, **PLACE)
