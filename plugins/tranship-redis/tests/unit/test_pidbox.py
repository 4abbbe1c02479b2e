"""Celery's broadcasts: read as its workers read them, written as its clients write them, and garbage harms nobody."""

from __future__ import annotations

import base64
import contextlib
import json
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tranship.errors import MalformedMessage
from tranship.mailbox import node_name
from tranship_redis._pidbox import Broadcast, ReplyTo, broadcast_of, reply_message, revoke_message

GOLDEN = Path(__file__).parent / "control_vectors"
INDEX: dict[str, dict[str, Any]] = json.loads((GOLDEN / "index.json").read_text("utf-8"))["files"]
BROADCASTS = sorted(name for name, about in INDEX.items() if "celery.pidbox" in about.get("channel", ""))


def body_of(message: bytes) -> Any:
    outer = json.loads(message)
    return json.loads(base64.b64decode(outer["body"]))


def broadcast(**fields: Any) -> bytes:
    body = {"method": "ping", "arguments": {}, "destination": None, "pattern": None, "matcher": None, **fields}
    return wrapped(json.dumps(body))


def wrapped(body: str | bytes, content_type: str = "application/json", **outer: Any) -> bytes:
    data = body if isinstance(body, bytes) else body.encode()
    message = {
        "body": base64.b64encode(data).decode(),
        "content-type": content_type,
        "headers": {"clock": 7, "expires": 0},
        "properties": {"body_encoding": "base64"},
    }
    return json.dumps({**message, **outer}).encode()


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BROADCASTS)
def test_golden_broadcasts_are_read(name: str) -> None:
    expected = INDEX[name]["expect"]["body"]
    found = broadcast_of((GOLDEN / name).read_bytes())
    assert found.method == expected["method"]
    assert found.arguments == expected["arguments"]
    assert list(found.destination) == (expected["destination"] or [])
    assert (found.pattern, found.matcher, found.ours) == (None, None, False)
    assert found.clock > 0
    to = expected.get("reply_to")
    assert found.reply_to == (ReplyTo(to["exchange"], to["routing_key"], expected["ticket"]) if to else None)


def test_there_are_golden_broadcasts() -> None:
    assert len(BROADCASTS) >= 8


def test_a_broadcast_in_msgpack_is_answered_in_msgpack() -> None:
    to = {"exchange": "reply.celery.pidbox", "routing_key": "oid"}
    body = msgpack.packb({"method": "ping", "arguments": {}, "ticket": "t", "reply_to": to})
    asked = broadcast_of(wrapped(body, "application/x-msgpack"))
    answer = json.loads(reply_message("w@h", {"ok": "pong"}, asked, clock=3))
    assert (answer["content-type"], answer["content-encoding"]) == ("application/x-msgpack", "binary")
    assert msgpack.unpackb(base64.b64decode(answer["body"])) == {"w@h": {"ok": "pong"}}


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({}, True),
        ({"destination": []}, True),
        ({"destination": ["w1@host"]}, True),
        ({"destination": ["w2@host"]}, False),
        ({"destination": ["w2@host"], "pattern": "w1*", "matcher": "glob"}, False),
        ({"pattern": "w1@*", "matcher": "glob"}, True),
        ({"pattern": "w2@*", "matcher": "glob"}, False),
        ({"pattern": r"w1@host", "matcher": "pcre"}, False),
        ({"pattern": "w1@*", "matcher": "soundex"}, False),
        ({"pattern": "w2@*"}, True),
    ],
)
def test_whom_it_is_for(fields: dict[str, Any], meant: bool) -> None:
    assert broadcast_of(broadcast(**fields)).is_for("w1@host") is meant


@pytest.mark.parametrize(
    "reply_to",
    [
        "x",
        {"exchange": "default", "routing_key": "oid"},
        {"exchange": "", "routing_key": "oid"},
        {"exchange": "reply.celery.pidbox", "routing_key": ""},
        {"exchange": "reply.celery.pidbox", "routing_key": 3},
        {"exchange": "x.reply.celery.pidbox.x", "routing_key": "oid"},
    ],
)
def test_nobody_has_us_write_where_he_likes(reply_to: Any) -> None:
    assert broadcast_of(broadcast(reply_to=reply_to, ticket="t")).reply_to is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"{}",
        b'{"body": 3}',
        b'{"body": "e30=", "headers": [1], "properties": {"body_encoding": "base64"}}',
        wrapped("[]"),
        wrapped("{}"),
        wrapped('{"method": 3}'),
        wrapped('{"method": "ping", "arguments": [1]}'),
        wrapped('{"method": "ping", "destination": "w1@host"}'),
        wrapped('{"method": "ping", "destination": [1]}'),
        wrapped("{}", "application/x-python-serialize"),
        wrapped(b"\xc1", "application/x-msgpack"),
        wrapped("{}", headers={"compression": "application/x-gzip"}),
        wrapped("{}", headers={"compression": "nothing"}),
        wrapped("{}", properties=7),
        b'{"body": "=", "properties": {"body_encoding": "base64"}}',
        b'{"body": "\\ud800", "properties": {}}',
    ],
)
def test_garbage_is_malformed_and_nothing_else(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        broadcast_of(payload)


@given(st.binary() | st.text().map(str.encode) | st.binary().map(wrapped))
def test_whatever_comes_is_read_or_malformed(payload: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert isinstance(broadcast_of(payload), Broadcast)


@pytest.mark.parametrize("clock", [-1, 2**70, "9", True, None, 1.5])
def test_a_clock_that_is_none_counts_as_zero(clock: Any) -> None:
    assert broadcast_of(wrapped('{"method": "ping"}', headers={"clock": clock})).clock == 0


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("control-redis-revoke.json", ["00000000-0000-4000-8000-000000000400"]),
        (
            "control-redis-revoke-many.json",
            ["00000000-0000-4000-8000-000000000400", "00000000-0000-4000-8000-000000000401"],
        ),
    ],
)
def test_a_revoke_is_celerys_own(name: str, ids: list[str]) -> None:
    golden = (GOLDEN / name).read_bytes()
    written = revoke_message(ids, clock=json.loads(golden)["headers"]["clock"])
    ours, theirs = json.loads(written), json.loads(golden)
    assert list(body_of(written).items()) == list(body_of(golden).items()), "the same members in the same order"
    for outer in (ours, theirs):
        outer["body"] = outer["headers"]["expires"] = outer["properties"]["delivery_tag"] = None
    assert ours["headers"].pop("tranship-signal") is True
    assert json.dumps(ours) == json.dumps(theirs)
    assert broadcast_of(written).ours


def test_a_reply_is_celerys_own() -> None:
    golden = json.loads((GOLDEN / "control-redis-ping-reply.json").read_bytes())
    to = ReplyTo("reply.celery.pidbox", golden["properties"]["delivery_info"]["routing_key"], "t-1")
    asked = Broadcast("ping", {}, (), None, None, to, "application/json", 0, ours=False)
    ours = json.loads(reply_message("w1@host", {"ok": "pong"}, asked, clock=22))
    assert json.loads(base64.b64decode(ours["body"])) == {"w1@host": {"ok": "pong"}}
    for outer in (ours, golden):
        outer["body"] = outer["properties"]["delivery_tag"] = None
    assert json.dumps(ours) == json.dumps(golden)


def test_tags_are_fresh() -> None:
    tags = {json.loads(revoke_message(["a"], clock=1))["properties"]["delivery_tag"] for _ in range(3)}
    assert len(tags) == 3


def test_node_names_have_a_host() -> None:
    assert node_name("w1@host") == "w1@host"
    name, at, host = node_name("w1").partition("@")
    assert (name, at) == ("w1", "@")
    assert host
