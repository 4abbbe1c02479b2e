"""Messages to envelopes: everything a peer may send is read, everything else is malformed and says why."""

import bz2
import json
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from protocol_strategies import JSON

from tranship import codec
from tranship.envelope import Envelope, Priority, TaskState
from tranship.errors import MalformedMessage
from tranship.protocol import Encoder, RawMessage, canvas, decode, decode_result, encode_result
from tranship.retry import RetryPolicy

MINIMAL: Mapping[str, Any] = {"task": "m.t", "id": "i-1"}
BODY = [[2, 3], {"k": 1}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def received(headers: Any = MINIMAL, body: Any = BODY, **more: Any) -> Envelope:
    data = body if isinstance(body, bytes | str) else json.dumps(body).encode()
    raw = RawMessage(headers, data, **{"content_type": codec.JSON, "content_encoding": "utf-8"} | more)
    return decode(raw, queue="q", priority=Priority.LOW)


def with_header(name: str, value: Any) -> Envelope:
    return received({**MINIMAL, name: value})


def test_the_least_a_message_may_be() -> None:
    assert received() == Envelope(id="i-1", task="m.t", args=[2, 3], kwargs={"k": 1}, queue="q", priority=Priority.LOW)


def test_headers_as_bytes_or_as_a_map() -> None:
    assert received(json.dumps(dict(MINIMAL)).encode()) == received(MINIMAL)


@pytest.mark.parametrize("embed", [None, {}, {"chord": None}, {"callbacks": []}])
def test_an_embed_with_nothing_in_it(embed: Any) -> None:
    envelope = received(body=[[], {}, embed])
    assert canvas(envelope) == {}
    assert envelope.headers == {}


def test_a_body_as_text_without_a_content_type() -> None:
    assert received(body=json.dumps(BODY), content_type=None, content_encoding=None).args == [2, 3]


def test_msgpack_by_its_content_type() -> None:
    body = codec.dumps([[b"\xff"], {}, None], codec.MSGPACK)
    envelope = received(body=body, content_type=codec.MSGPACK, content_encoding="binary")
    assert (envelope.args, envelope.content_type) == ([b"\xff"], codec.MSGPACK)


@pytest.mark.parametrize("mime", ["application/x-gzip", "application/x-bz2", "application/x-lzma"])
def test_compressed_bodies(mime: str) -> None:
    body = codec.compress(json.dumps(BODY).encode(), mime)
    assert received({**MINIMAL, "compression": mime}, body) == received()


@pytest.mark.parametrize(
    ("value", "epoch"),
    [
        (None, None),
        ("1970-01-01T00:01:00+00:00", 60.0),
        ("1970-01-01T00:01:00Z", 60.0),
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01T02:01:00+02:00", 60.0),
        ("1970-01-02", 86400.0),
        (datetime(1970, 1, 1, 0, 1, tzinfo=UTC), 60.0),
        (datetime(1970, 1, 1, 0, 1), 60.0),  # noqa: DTZ001 - an AMQP timestamp
    ],
)
def test_dates(value: Any, epoch: float | None) -> None:
    assert with_header("eta", value).not_before == epoch
    assert with_header("expires", value).deadline == epoch


@pytest.mark.parametrize("value", [None, [], [None, None], [0, 0], [None]])
def test_no_time_limits(value: Any) -> None:
    envelope = with_header("timelimit", value)
    assert (envelope.run_timeout, envelope.headers) == (None, {})


def test_our_own_word_comes_first() -> None:
    headers = {
        **MINIMAL,
        "expires": "2031-02-03T04:05:06+00:00",
        "tranship-deadline": 5.5,
        "eta": "2031-02-03T04:05:06+00:00",
        "tranship-not-before": 4.5,
        "tranship-priority": "high",
        "tranship-retry": RetryPolicy(max_attempts=4).to_dict(),
    }
    envelope = received(headers)
    assert (envelope.deadline, envelope.not_before, envelope.priority) == (5.5, 4.5, Priority.HIGH)
    assert envelope.retry == RetryPolicy(max_attempts=4)


def test_reply_to_comes_from_the_properties() -> None:
    assert received(properties={"reply_to": "here"}).reply_to == "here"
    assert received(properties={"reply_to": 5}).reply_to is None
    assert received(properties=None).reply_to is None


# --- protocol 1 -----------------------------------------------------------------------------------


def test_protocol_1() -> None:
    body = {
        "task": "m.t",
        "id": "i-1",
        "args": [1],
        "kwargs": {"a": 2},
        "taskset": "g-1",
        "group_index": 3,
        "retries": 2,
        "eta": "1970-01-01T00:01:00",
        "expires": None,
        "utc": True,
        "callbacks": [{"task": "then"}],
        "chord": None,
        "timelimit": [9, 8],
    }
    for headers in ({}, None, b"{}", {"x-tenant": "t"}):
        envelope = received(headers, body)
        assert (envelope.id, envelope.task, envelope.args, envelope.kwargs) == ("i-1", "m.t", [1], {"a": 2})
        assert (envelope.group_id, envelope.attempt, envelope.not_before, envelope.run_timeout) == ("g-1", 2, 60.0, 9)
        assert canvas(envelope) == {"callbacks": [{"task": "then"}]}
    assert envelope.headers["x-tenant"] == "t"
    assert received({}, {"task": "m.t", "id": "i"}).args == []


# --- malformed ------------------------------------------------------------------------------------

BAD_HEADERS = [
    ("id", None, "'id' is null; expected a text of 1 to 1024"),
    ("id", 7, "'id' is a number; expected a text"),
    ("id", b"x", "'id' is of type bytes; expected a text"),
    ("id", "", "'id' is an empty text"),
    ("id", "\ud800", "without lone surrogates"),
    ("id", "x" * 1025, "1 to 1024"),
    ("task", ["t"], "'task' is a list of 1; expected a text"),
    ("eta", 1760000000, "'eta' is a number; expected an ISO 8601 date"),
    ("eta", "tomorrow", "'eta' is the text 'tomorrow'; expected an ISO 8601 date"),
    ("eta", "", "'eta' is an empty text"),
    ("expires", 5.5, "'expires' is a number"),
    ("expires", True, "'expires' is a boolean"),
    ("retries", "2", "'retries' is the text '2'; expected a whole number"),
    ("retries", -1, "'retries' is a number"),
    ("retries", True, "'retries' is a boolean"),
    ("retries", 10**30, "'retries' is a number"),
    ("timelimit", 30, r"'timelimit' is a number; expected \[hard, soft\]"),
    ("timelimit", [1, 2, 3], "'timelimit' is a list of 3"),
    ("timelimit", ["1", None], "each at least 0 or null"),
    ("timelimit", [-1, None], "each at least 0 or null"),
    ("timelimit", [float("nan"), None], "each at least 0 or null"),
    ("timelimit", [10**400, None], "each at least 0 or null"),
    ("group", 5, "'group' is a number; expected a text, or null"),
    ("root_id", {}, "'root_id' is a map"),
    ("parent_id", [], "'parent_id' is a list of 0"),
    ("ignore_result", "yes", "'ignore_result' is the text 'yes'; expected true, false or null"),
    ("compression", 5, "'compression' is a number"),
    ("compression", "rar", "compression 'rar' is unknown"),
    ("compression", "application/x-gzip", "damaged"),
    ("tranship-deadline", "soon", "'tranship-deadline' is the text 'soon'; expected epoch seconds"),
    ("tranship-deadline", 1e20, "within the years 1 to 9999"),
    ("tranship-not-before", float("inf"), "within the years 1 to 9999"),
    ("tranship-cancel-key", 5, "'tranship-cancel-key' is a number"),
    ("tranship-persistent-output", 1, "'tranship-persistent-output' is a number"),
    ("tranship-dedup-window", -1, "seconds of at least 0"),
    ("tranship-result-ttl", "1", "seconds of at least 0"),
    ("tranship-retry", 5, "'tranship-retry' is a number; expected a retry policy"),
    ("tranship-retry", {"max_attempts": 0}, "expected a retry policy .max_attempts is 0"),
    ("tranship-priority", "urgent", "one of high, normal, low, very_low"),
    ("tranship-wire", {}, "reserved"),
]


@pytest.mark.parametrize(("name", "value", "message"), BAD_HEADERS)
def test_a_header_with_a_wrong_value_is_malformed(name: str, value: Any, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message) as caught:
        with_header(name, value)
    assert caught.value.task_id == (None if name == "id" else "i-1")


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (None, "'task' is missing"),
        ({}, "'task' is missing"),
        ({"id": "i"}, "'task' is missing"),
        ({"task": "t"}, "'id' is missing"),
        (b"", "message headers: the data is not JSON"),
        (b"[1]", "message headers are a list of 1; expected a map"),
        (b"\xff", "message headers: the data is not UTF-8"),
        (5, "message headers are a number"),
        ({5: 1, **MINIMAL}, "a map with text keys"),
        (b'{"a":' * 5000, "message headers: the data is nested too deeply|not JSON"),
    ],
)
def test_headers_that_are_none_are_malformed(headers: Any, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message):
        received(headers)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "message body: the data is not JSON"),
        (b"not json", "message body: the data is not JSON"),
        (b"\xff\xfe", "message body: the data is not UTF-8"),
        ([], "message body is a list of 0; expected the list .args, kwargs, embed."),
        ([[], {}], "message body is a list of 2"),
        ([[], {}, {}, {}], "message body is a list of 4"),
        ({}, "message body is a map"),
        ("[[], {}, 5]", "message embed are a number; expected a map"),
        ([None, {}, {}], "message args are null; expected a list"),
        ([{}, {}, {}], "message args are a map"),
        ([[], [], {}], "message kwargs are a list of 0; expected a map"),
        ([[], None, {}], "message kwargs are null"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'[[{"__type__": "x", "__value__": 1}], {}, {}]', "extended type"),
    ],
)
def test_a_body_that_is_none_is_malformed(body: Any, message: str) -> None:
    with pytest.raises(MalformedMessage, match=message) as caught:
        received(body=body)
    assert caught.value.task_id == "i-1"


def test_content_that_is_not_trusted_is_malformed() -> None:
    for content_type in ("application/x-python-serialize", "application/data", "yaml"):
        with pytest.raises(MalformedMessage, match=f"message body: content type '{content_type}' is not trusted"):
            received(content_type=content_type)
    with pytest.raises(MalformedMessage, match="content encoding"):
        received(content_encoding="rot13")


def test_kwargs_of_msgpack_need_text_keys() -> None:
    body = codec.dumps([[], {b"k": 1}, None], codec.MSGPACK)
    with pytest.raises(MalformedMessage, match="kwargs are a map; expected a map with text keys"):
        received(body=body, content_type=codec.MSGPACK)


def test_absurd_sizes_are_malformed() -> None:
    big = RawMessage(dict(MINIMAL), b" " * 1001, codec.JSON)
    with pytest.raises(MalformedMessage, match="1001 bytes; expected at most 1000"):
        decode(big, queue="q", priority=Priority.LOW, max_size=1000)
    bomb = RawMessage({**MINIMAL, "compression": "application/x-bz2"}, bz2.compress(b" " * 10**6), codec.JSON)
    with pytest.raises(MalformedMessage, match="more than 1000 bytes"):
        decode(bomb, queue="q", priority=Priority.LOW, max_size=1000)


# --- for all messages -----------------------------------------------------------------------------

NAMES = [
    *("task", "id", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id", "parent_id"),
    *("shadow", "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "compression", "lang", "x"),
    *("tranship-deadline", "tranship-not-before", "tranship-cancel-key", "tranship-persistent-output"),
    *("tranship-dedup-key", "tranship-dedup-window", "tranship-result-ttl", "tranship-retry", "tranship-priority"),
    *("tranship-wire", "tranship-new", "callbacks", "args", "kwargs", "__type__", "__value__"),
]
PLAUSIBLE = (
    st.none()
    | st.sampled_from(["2031-02-03T04:05:06Z", "0001-01-01", "9999-12-31T23:59:59-10:00", "high", "i", "datetime"])
    | st.integers(min_value=0, max_value=9)
    | st.floats(allow_nan=False)
    | st.lists(st.none() | st.integers(min_value=-1, max_value=99), max_size=3)
    | JSON
)
MAPS = st.dictionaries(st.sampled_from(NAMES), PLAUSIBLE, max_size=8)
HEADERS = MAPS | MAPS.map(lambda some: {**some, "task": "t", "id": "i"})
BODIES = JSON | MAPS | st.tuples(st.lists(JSON, max_size=2), MAPS, st.none() | MAPS)
TYPES = st.sampled_from([None, codec.JSON, codec.MSGPACK, "application/data"])
ENCODINGS = st.sampled_from([None, "utf-8", "binary", "utf-16", "x"])


def decode_or_malformed(raw: RawMessage) -> Envelope | None:
    try:
        return decode(raw, queue="q", priority=Priority.NORMAL, max_size=10_000)
    except MalformedMessage:
        return None


@given(st.binary(), st.binary(), TYPES, ENCODINGS)
@example(b"{", zlib.compress(b"{}"), None, None)
def test_arbitrary_bytes_are_decoded_or_malformed(headers: bytes, body: bytes, kind: Any, encoding: Any) -> None:
    decode_or_malformed(RawMessage(headers, body, kind, encoding))
    decode_or_malformed(RawMessage(dict(MINIMAL), body, kind, encoding))
    for mime in ("application/x-gzip", "application/x-lzma"):
        decode_or_malformed(RawMessage({**MINIMAL, "compression": mime}, body, kind, encoding))


@given(HEADERS, BODIES, st.sampled_from([codec.JSON, codec.MSGPACK]))
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
def test_an_arbitrary_message_is_malformed_or_can_be_sent_on(headers: Any, body: Any, kind: str) -> None:
    try:
        data = codec.dumps(body, kind)
    except TypeError:  # a number that msgpack cannot carry
        return
    envelope = decode_or_malformed(RawMessage(headers, data, kind, None))
    if envelope is not None:
        assert decode_or_malformed(Encoder().encode(envelope).raw()) == envelope


DOCUMENTS = st.dictionaries(
    st.sampled_from(["status", "result", "traceback", "date_done", "task_id", "tranship", "retries", "worker"]),
    PLAUSIBLE
    | st.sampled_from(["SUCCESS", "FAILURE", "REVOKED", "STARTED", "RETRY", "PENDING", "PROGRESS"])
    | st.dictionaries(
        st.sampled_from(
            ["state", "attempt", "worker", "error", "finished_at", "exc_type", "exc_message", "exc_module"]
        ),
        PLAUSIBLE | st.sampled_from(list(TaskState)) | st.dictionaries(st.sampled_from(["type", "code"]), PLAUSIBLE),
    ),
)

OURS = st.builds(
    lambda states, inner, rest: {**rest, "status": states[0], "tranship": {**inner, "state": states[1]}},
    st.sampled_from([("FAILURE", "FAILURE"), ("SUCCESS", "SUCCESS"), ("REVOKED", "EXPIRED"), ("STARTED", "STARTED")]),
    st.dictionaries(
        st.sampled_from(["attempt", "worker", "finished_at", "error"]),
        PLAUSIBLE | st.dictionaries(st.sampled_from(["type", "code", "message", "details", "retryable"]), PLAUSIBLE),
    ),
    DOCUMENTS,
)


@given(DOCUMENTS | OURS, st.sampled_from([None, "i"]), st.sampled_from([codec.JSON, codec.MSGPACK]))
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
def test_an_arbitrary_result_is_malformed_or_can_be_written(document: Any, task_id: str | None, kind: str) -> None:
    try:
        data = codec.dumps(document, kind)
    except TypeError:
        return
    try:
        result = decode_result(data, task_id=task_id)
    except MalformedMessage:
        return
    result.success, result.exception()
    assert decode_result(encode_result(result)) == result


@given(st.binary())
def test_an_arbitrary_document_is_read_or_malformed(data: bytes) -> None:
    with suppress(MalformedMessage):
        decode_result(data, task_id="i")
