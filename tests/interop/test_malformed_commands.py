"""What a stranger broadcasts as commands or events harms no worker: it works on, and says so once, in one line."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest

from interop.runs import until
from interop.sites import Site
from interop.tranship_app import TASKS, add
from tranship import mailbox
from tranship.testing.background import BackgroundWorker

pytestmark = pytest.mark.timeout(60)

NODE = "ours@malformed"
JSON, MSGPACK, PICKLE = "application/json", "application/x-msgpack", "application/x-python-serialize"


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def command(**fields: Any) -> bytes:
    """The body of a ``ping``, with other fields."""
    return json.dumps({"method": "ping", "arguments": {}, "destination": [NODE], **fields}).encode()


def asking(exchange: Any, routing_key: Any, **fields: Any) -> bytes:
    return command(reply_to={"exchange": exchange, "routing_key": routing_key}, **{"ticket": "t", **fields})


@dataclass(frozen=True)
class Broken:
    """One message: not one of them is a command that can be done."""

    name: str
    body: bytes
    content_type: Any = JSON
    encoding: Any = "utf-8"
    headers: dict[str, Any] = field(default_factory=dict)
    told: bool = True
    """Whether it is warned of; otherwise it is a command that is answered, or means nobody here."""


BROKEN = [
    Broken("empty", b""),
    Broken("no JSON", b"{nothing"),
    Broken("no text", b"\xff\xfe\x00"),
    Broken("a list", b"[]"),
    Broken("null", b"null"),
    Broken("a number that is none", b"NaN"),
    Broken("no method", b"{}"),
    Broken("method is null", command(method=None)),
    Broken("method is a number", command(method=7)),
    Broken("method is a map", command(method={"$ne": 1})),
    Broken("arguments are a text", command(arguments="x\n2026-12-01 CRITICAL forged")),
    Broken("arguments are a list", command(arguments=[1, 2])),
    Broken("destination is a text", command(destination="everybody")),
    Broken("destination has numbers", command(destination=[NODE, 7])),
    Broken("nested too deep", b'{"method": "ping", "arguments": {"a": ' + deep(100_000).encode() + b"}}"),
    Broken("huge", command(arguments={"a": "x" * 5_000_000})),
    Broken(
        "huge once unpacked", zlib.compress(command(arguments={"a": "x" * 9_000_000})), headers={"compression": "zlib"}
    ),
    Broken("packed in no known way", command(), headers={"compression": "\x1b[31mrar"}),
    Broken("packed, and is not", command(), headers={"compression": "zlib"}),
    Broken("a pickle", pickle.dumps({"method": "shutdown", "arguments": {}}), PICKLE, "binary"),
    Broken("of an unknown type", command(), "text/x-\x1b[2J"),
    Broken("of an unknown encoding", command(), JSON, "klingon\r\nforged"),
    Broken("msgpack with its end missing", msgpack.packb({"method": "ping"})[:-2], MSGPACK, "binary"),
    Broken("a regular expression", command(destination=None, pattern="(((.+)+)+)+!", matcher="pcre")),
    Broken("a pattern of thousands", command(destination=None, pattern="*a" * 5000, matcher="glob")),
    Broken("a matcher of its own", command(destination=None, pattern="*", matcher="eval\x1b]0;forged\x07")),
    # Commands as far as anybody can tell, which mean nobody here or cannot be answered where they say.
    Broken("unknown method", command(method="format\ndisk", arguments={"yes": True}), told=False),
    Broken("a method of thousands", command(method="x" * 100_000), told=False),
    Broken("a method with half a character", command(method="\ud800"), told=False),
    Broken("shutdown of somebody else", command(method="shutdown", destination=["somebody@else"]), told=False),
    Broken("clock is a text", command(), headers={"clock": "late"}, told=False),
    Broken("clock is far ahead", command(), headers={"clock": 2**62}, told=False),
    Broken("reply_to is a text", command(reply_to="me"), told=False),
    Broken("reply_to is a list", command(reply_to=[1]), told=False),
    Broken("reply_to lacks a key", command(reply_to={"exchange": "reply.celery.pidbox"}), told=False),
    Broken("reply_to is a queue of tasks", asking("", "interop"), told=False),
    Broken("reply_to is a set of bindings", asking("celery.pidbox", "interop"), told=False),
    Broken("reply_to nobody", asking("reply.nobody.pidbox", "gone"), told=False),
    Broken("reply_to a long name", asking("reply." + "x" * 5000 + ".pidbox", "k"), told=False),
    Broken("reply_to a long key", asking("reply.celery.pidbox", "k" * 5000), told=False),
    Broken("reply_to half a character", asking("reply.\ud800.pidbox", "\ud800"), told=False),
    Broken("reply_to a NUL", asking("reply.\0.pidbox", "\0"), told=False),
    Broken("ticket is a map", asking("reply.nobody.pidbox", "k", ticket={"a": 1}), told=False),
    Broken("ticket is huge", asking("reply.nobody.pidbox", "k", ticket="t" * 1_000_000), told=False),
    Broken("ticket has half a character", asking("reply.nobody.pidbox", "k", ticket="\ud800"), told=False),
    Broken("wrong arguments", asking("reply.nobody.pidbox", "k", method="rate_limit", arguments={"\n": 1}), told=False),
    Broken("revoke of a map", command(method="revoke", arguments={"task_id": {"a": [1]}}), told=False),
    Broken(
        "revoke of everything", command(method="revoke", arguments={"task_id": ["", None, 7, "\ud800"]}), told=False
    ),
    Broken("hello from nobody", command(method="hello", arguments={"from_node": 7, "revoked": "x" * 9000}), told=False),
    Broken("stamps of a number", command(method="revoke_by_stamped_headers", arguments={"headers": 7}), told=False),
]
"""What is broken within a broadcast, on every broker."""

WRAPPED = [
    b"",
    b"\xff",
    b"[]",
    b"7",
    b"{}",
    b'{"body": 7}',
    b'{"body": "!", "properties": {"body_encoding": "base64"}}',
]
WRAPPED += [b'{"body": "e30=", "headers": []}', b'{"body": "e30=", "properties": 7}', deep(100_000).encode()]
WRAPPED += [b'{"body": "e30=", "content-type": 7, "content-encoding": {}, "headers": {"clock": {}}}', b"x" * 5_000_000]
"""What is broken around it, on Redis."""


class Stranger:
    """Publishes anything, and asks whether the worker lives, over one connection: the answer comes after the rest."""

    def __init__(self, site: Site) -> None:
        from kombu import Connection
        from kombu.pidbox import Mailbox

        self._site = site
        self.connection = Connection(site.url)
        self._channel = self.connection.default_channel
        self._mailbox = Mailbox("celery", type="fanout")(self.connection)

    def publish(self, broken: Broken, exchange: str = "celery.pidbox", routing_key: str = "") -> None:
        if self._site.on_redis:
            database = self._site.url.rpartition("/")[2]
            channel = f"/{database}.{exchange}" + (f"/{routing_key}" if routing_key else "")
            self._site.redis.publish(channel, wrapped(broken))
        else:
            self._publish_over_amqp(broken, exchange, routing_key)

    def _publish_over_amqp(self, broken: Broken, exchange: str, routing_key: str) -> None:
        from amqp import Message

        headers = {name: value for name, value in broken.headers.items() if value is not None}
        message = Message(
            broken.body,
            channel=self._channel,
            content_type=broken.content_type,
            content_encoding=broken.encoding,
            application_headers=headers,
        )
        self._channel.basic_publish(message, exchange=exchange, routing_key=routing_key)

    def publish_raw(self, payload: bytes) -> None:
        self._site.redis.publish(f"/{self._site.url.rpartition('/')[2]}.celery.pidbox", payload)

    def answered(self) -> list[Any]:
        """What the worker answers to a ``ping``."""
        return self._mailbox.multi_call("ping", timeout=10, limit=1)


def wrapped(broken: Broken) -> bytes:
    """As kombu wraps it on Redis."""
    return json.dumps(
        {
            "body": base64.b64encode(broken.body).decode(),
            "content-type": broken.content_type,
            "content-encoding": broken.encoding,
            "headers": broken.headers,
            "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {}},
        }
    ).encode()


@pytest.fixture(scope="module", params=["redis", "rabbitmq-redis"])
def site(request: pytest.FixtureRequest, make_site: Callable[[str], Site]) -> Site:
    return make_site(request.param)


@pytest.fixture(scope="module", autouse=True)
def _worker(site: Site, runs: object) -> Iterator[None]:
    with BackgroundWorker(site.worker(TASKS, name=NODE, max_concurrent_tasks=2)):
        yield


@pytest.fixture(scope="module")
def stranger(site: Site) -> Iterator[Stranger]:
    stranger = Stranger(site)
    with stranger.connection:
        until(stranger.answered, "the worker answers")
        yield stranger


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[logging.LogRecord]]:
    """What tranship has logged so far, except details."""
    caplog.set_level(logging.DEBUG, "tranship")
    return lambda: [one for one in caplog.records if one.name.startswith("tranship") and one.levelno >= logging.INFO]


def one_line(record: logging.LogRecord) -> bool:
    """Whether it is a short line that shows nothing but printable characters."""
    text = record.getMessage()
    return text.isprintable() and len(text) < 2000 and record.exc_info is None


@pytest.mark.parametrize("broken", BROKEN, ids=lambda one: one.name)
def test_a_broken_command(stranger: Stranger, said, monkeypatch: pytest.MonkeyPatch, broken: Broken) -> None:
    monkeypatch.setattr(mailbox, "_QUIET", 0.0)
    stranger.publish(broken)
    assert stranger.answered() == [{NODE: {"ok": "pong"}}]
    warnings = [one for one in said() if one.levelno >= logging.WARNING]
    assert [one.getMessage() for one in warnings if not one_line(one)] == []
    assert len(warnings) == broken.told, [one.getMessage() for one in warnings]
    assert [one for one in said() if not one_line(one)] == []


def test_what_is_broken_around_a_command(site: Site, stranger: Stranger, said, monkeypatch) -> None:
    if not site.on_redis:
        pytest.skip("on RabbitMQ the broker itself refuses what is wrapped wrongly")
    monkeypatch.setattr(mailbox, "_QUIET", 0.0)
    for payload in WRAPPED:
        stranger.publish_raw(payload)
    assert stranger.answered() == [{NODE: {"ok": "pong"}}]
    assert len(said()) == len(WRAPPED)
    assert all(map(one_line, said()))


def test_a_flood_is_told_of_once(site: Site, stranger: Stranger, said) -> None:
    mailbox_warned = re.compile("ignoring|too many")
    for _ in range(3):
        for broken in BROKEN:
            if len(broken.body) < 100_000:
                stranger.publish(broken)
    assert stranger.answered() == [{NODE: {"ok": "pong"}}]
    assert sum(bool(mailbox_warned.match(one.getMessage())) for one in said()) <= 1
    with site.client() as client:
        assert client.submit(add, 1, 2).result(timeout=20) == 3


def test_broken_events_are_nothing_to_a_worker(site: Site, stranger: Stranger, said) -> None:
    """Gossip and heartbeats of Celery's workers travel there; no worker of ours reads any."""
    if not site.on_redis:
        stranger.connection.channel().exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
    for broken in BROKEN:
        for kind in ("worker.heartbeat", "task.multi"):
            stranger.publish(broken, "celeryev", kind)
    assert stranger.answered() == [{NODE: {"ok": "pong"}}]
    assert said() == []
    with site.client() as client:
        assert client.submit(add, 2, 2).result(timeout=20) == 4
