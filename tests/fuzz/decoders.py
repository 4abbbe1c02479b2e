"""Every decoder of the core and of the installed plugins: what it is fed, and which errors it documents."""

from __future__ import annotations

import bz2
import dataclasses
import importlib.util
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from hostile import (
    BODIES,
    DOCUMENTS,
    EDITS,
    NAMES,
    NUMBERS,
    TEXTS,
    Make,
    among,
    as_json,
    as_msgpack,
    changed,
    dicts,
    documents,
    either,
    maps,
    mutants,
    noise,
    tuples,
    values,
)

from tranship import codec
from tranship.envelope import DeadLetter, Priority, TaskState
from tranship.errors import ConfigurationError, InvalidOptionError, InvalidURLError, MalformedMessage
from tranship.protocol import (
    Decoder,
    RawMessage,
    TakesLong,
    decode,
    decode_result,
    pass_on,
    restarted,
    result_state,
)
from tranship.protocol.broadcast import read_broadcast
from tranship.retry import RetryPolicy
from tranship.settings import BrokerURL, CommonOptions, Settings, redact

PLACE: dict[str, Any] = {"queue": "q", "priority": Priority.NORMAL}


@dataclasses.dataclass(frozen=True)
class Target:
    """One decoder."""

    name: str
    inputs: Make
    decode: Callable[[Any], object]
    errors: tuple[type[Exception], ...]
    """What it may raise; anything else is a bug, and so is a second without an answer."""


# --- the core -------------------------------------------------------------------------------------

# Mostly what leads further in.
content_types = among([*[None, codec.JSON, codec.JSON, codec.MSGPACK] * 20, "application/x-python-serialize", *TEXTS])
encodings = among([*[None, "utf-8", "utf-8", "binary"] * 20, "utf-16", "latin-1", *TEXTS])
GOOD = [{}, *({"task": "t", "id": "i", "compression": one} for one in (*[None] * 60, *TEXTS))]
PACKERS = [zlib.compress, bz2.compress, lzma.compress]
PACKED = [pack(body) for body in [*DOCUMENTS[::40], *BODIES] for pack in PACKERS]
"""Made once: packing costs more than all that is tested."""


MIMES = ["application/x-gzip", "application/x-bz2", "application/x-lzma"]
few = dicts(NAMES, values, 2)


def headers(random: Random) -> dict[str, Any]:
    """Those of a task, some of them odd."""
    return {**(few(random) if random.random() < 0.6 else {}), **random.choice(GOOD)}


def edited(random: Random, data: bytes) -> bytes:
    """Damaged, now and then."""
    return changed(data, random.choice(EDITS)) if random.random() < 0.3 else data


def raws(random: Random) -> RawMessage:
    """A message as a driver hands it on: most are a task, with odd values and a little damage."""
    kind, head = content_types(random), headers(random)
    body: Any = [[values(random)], few(random), few(random)] if random.random() < 0.8 else values(random)
    data = as_msgpack(body) if kind == codec.MSGPACK else as_json(body)
    if random.random() < 0.1:
        data, head["compression"] = random.choice(PACKED), random.choice(MIMES)
    head_sent: Any = edited(random, as_json(head)) if random.random() < 0.5 else head
    properties = few(random) if random.random() < 0.5 else {}
    return RawMessage(head_sent, edited(random, data), kind, encodings(random), properties)


def results(random: Random) -> bytes:
    """A result document, ours or Celery's, with odd values and a little damage."""
    state = random.choice(["SUCCESS", "FAILURE", "RETRY", "REVOKED", "STARTED", "PENDING", "OWN", random.choice(TEXTS)])
    document = {"status": state, "result": values(random), "task_id": "i", **few(random)}
    if random.random() < 0.5:
        document["tranship"] = {"state": state, "error": few(random), **few(random)}
    if random.random() < 0.5:
        document["result"] = {"exc_type": "E", "exc_message": values(random), "exc_module": "m", **few(random)}
    return edited(random, random.choice([as_json, as_msgpack])(document))


def orders(random: Random) -> bytes:
    """The body of a broadcast."""
    order = {
        "method": random.choice(["ping", "revoke", "hello"]),
        "arguments": {"task_id": values(random)},
        **few(random),
    }
    return edited(random, random.choice([as_json, as_json, as_msgpack])(order))


def _decoded(raw: RawMessage) -> object:
    return decode(raw, **PLACE, max_size=100_000)


def _remembered(raw: RawMessage) -> object:
    decoder = Decoder(100_000)
    for _ in range(2):
        try:
            decoder.decode(raw, **PLACE)
        except TakesLong:
            decoder.decode_large(raw, **PLACE)
    return None


def _listed(raw: RawMessage) -> object:
    """What the command line prints of a message, which no stranger ends."""
    from tranship.cli import _output, dead
    from tranship.operations import DeadLetterReport
    from tranship.operations._dead import _decoded as shown

    head: Any = raw.headers if isinstance(raw.headers, dict) else {}
    letter = DeadLetter(
        id="1", task_id=None, task=str(head.get("task")), queue="q", priority=Priority.LOW, reason="r", detail="d",
        deliveries=1, died_at=1.0, headers=head, body=raw.body, content_type=str(raw.content_type),
    )  # fmt: skip
    envelope, problem = shown(letter)
    report = DeadLetterReport(letter=letter, envelope=envelope, problem=problem, result=None)
    text = _output._json(dead._report_data(report))
    text.encode()
    json.loads(text)
    return _output.literal(envelope)


def _results(document: bytes) -> object:
    assert isinstance(result_state(document, task_id="i"), TaskState)
    found = decode_result(document, task_id="i")
    if found.state is not TaskState.SUCCESS:
        str(found.exception())
    return found


broadcasts = tuples(few, orders, content_types, encodings)


def _broadcast(given: Any) -> object:
    found = read_broadcast(*given)
    return found.is_for("w@h"), found.refusal


def _retry(given: Any) -> object:
    policy = RetryPolicy.from_dict(given)
    return RetryPolicy.from_dict(policy.to_dict())


URLS = [
    *("redis://user:pass@host:6379/0?namespace=a&lease=30", "amqps://a:1,b:2//vhost?heartbeat=5", "nats://token@h"),
    *("sqlite:///a.db?durability=process", "memory://a", "failover://?1=redis://a&2=redis://b", '["redis://a"]'),
    *("redis://a redis://b", '{"brokers": [{"url": "redis://a", "weight": 2}], "mode": "ROUND_ROBIN"}', "redis://[::1]"),
]  # fmt: skip
_url_bytes = mutants([url.encode() for url in URLS])


def urls(random: Random) -> str:
    return str(_url_bytes(random).decode("utf-8", "surrogateescape"))


OPTIONS = ["namespace", "lease", "result_ttl", "max_message_size", "dedup_window", "x", "db", "heartbeat"]
options = dicts(OPTIONS, among([*TEXTS, *map(str, NUMBERS), "30", "true", "none"]))


def _url(text: str) -> object:
    redact(text)
    url = BrokerURL.parse(text)
    assert BrokerURL.parse(url.reveal()) == url
    return str(url), repr(url)


def _options_of(given: Any) -> object:
    kind, chosen = given
    return repr(BrokerURL("x", options=chosen).options_as(kind))


def _just(value: Any) -> Make:
    return among([value])


def core() -> Iterator[Target]:
    malformed = (MalformedMessage,)
    yield Target("message", raws, _decoded, malformed)
    yield Target("message, remembering", raws, _remembered, malformed)
    yield Target("message, printed", raws, _listed, ())
    yield Target("message, passed on", raws, lambda raw: pass_on(raw, **PLACE), malformed)
    yield Target("headers, restarted", documents(json_only=True), restarted, ())
    yield Target("result document", either(results, documents()), _results, malformed)
    yield Target("broadcast", broadcasts, _broadcast, malformed)
    yield Target(
        "serialised",
        tuples(either(results, documents()), content_types, encodings),
        lambda given: codec.loads(*given),
        malformed,
    )

    yield Target(
        "packed",
        tuples(mutants(PACKED), among([*MIMES, *MIMES, "application/zstd", "x"])),
        lambda given: codec.decompress(*given, limit=10_000),
        malformed,
    )
    yield Target("retry policy", either(values, maps), _retry, (InvalidOptionError,))
    yield Target("URL", urls, _url, (InvalidURLError,))
    yield Target("options", tuples(_just(CommonOptions), options), _options_of, (ConfigurationError,))
    variables = ["TRANSHIP_BROKER_URL", "TRANSHIP_RESULT_URL", "TRANSHIP_MAX_DELIVERIES", "TRANSHIP_WATCHDOG"]
    chosen = dicts(variables, either(urls, among(TEXTS)))

    def environ(random: Random) -> dict[str, str]:
        return {**chosen(random), "HOME": "/nowhere"}

    yield Target("environment", environ, lambda given: Settings.load(given).rows(), (ConfigurationError,))


# --- the driver kit --------------------------------------------------------------------------------


def kit() -> Iterator[Target]:
    from tranship.driver import Facts, facts_read, pack, unpack
    from tranship.driver._signals import command_of, heartbeat_read, tombstone_of

    packed = pack(Facts("i", "q", Priority.NORMAL, "t"), RawMessage(b'{"task":"t"}', b"[[],{},{}]", codec.JSON))

    def signals(data: bytes) -> object:
        return tombstone_of(data), command_of(data), heartbeat_read(data)

    yield Target("driver: signals", documents(json_only=True), signals, ())
    yield Target("driver: message", either(mutants([packed]), noise), unpack, (ValueError,))
    yield Target("driver: facts", raws, lambda raw: facts_read(raw, "q", Priority.NORMAL), ())


# --- the plugins ----------------------------------------------------------------------------------


def redis() -> Iterator[Target]:
    from tranship_redis import _element, _options, _pidbox

    elements = either(documents(json_only=True), lambda random: _as_element(raws(random)))

    def said(random: Random) -> bytes:
        return edited(random, _as_element(RawMessage(few(random), orders(random), codec.JSON, "utf-8", {})))

    yield Target("redis: element", elements, lambda data: _decoded(_element.read(data)), (MalformedMessage,))
    yield Target(
        "redis: quarantined", elements, lambda data: _decoded(_element.read_quarantined(data)), (MalformedMessage,)
    )
    yield Target("redis: broadcast", either(elements, said), _pidbox.broadcast_of, (MalformedMessage,))
    yield Target("redis: options", tuples(_just(_options.RedisOptions), options), _options_of, (ConfigurationError,))


def _as_element(raw: RawMessage) -> bytes:
    import base64

    head = raw.headers if isinstance(raw.headers, dict) else {}
    return as_json(
        {
            "body": base64.b64encode(raw.body).decode(),
            "content-encoding": raw.content_encoding,
            "content-type": raw.content_type,
            "headers": head,
            "properties": {"body_encoding": "base64", "delivery_tag": "t", **raw.properties},
        }
    )


def rabbitmq() -> Iterator[Target]:
    import struct

    from tranship_rabbitmq import _options, _tables
    from tranship_rabbitmq.amqp import content, methods, table

    def packed(value: Any) -> bytes:
        try:
            return table.encode_table(value if isinstance(value, dict) else {"x": value})
        except table.TableError:
            return b"\0\0\0\x04\x01aS\xff"

    seeds = [packed(json.loads(as_json({"a": 1, "task": "t", "id": "i", "n": [1, {"x": 1.5}], "eta": None})))]
    tables = either(lambda random: packed(maps(random)), mutants(seeds), noise)
    known = _tables.Tables()

    def read(given: Any) -> object:
        data, task_id = given
        return _decoded(RawMessage(known.read(data, task_id).headers, b"[[],{},{}]", codec.JSON))

    ids = among([None, "i", "t", "0" * 36, "\ud800"])
    yield Target("rabbitmq: table", tuples(tables, ids), read, (MalformedMessage,))
    # What the connection turns into its end.
    unreadable = (table.TableError, struct.error, IndexError)
    frames = either(tables, mutants([b"\0<\0\0" + b"\0" * 8 + b"\xf8\0" + seeds[0] + b"\x02\0\x01a"]))
    yield Target("rabbitmq: properties", frames, lambda data: content.properties_of(data).headers, unreadable)
    deliver = [b"\0<\0<\x01c" + b"\0" * 8 + b"\0\x01e\x01r", b"\0\x0a\0\x32\0\x01\x02ok\0\0\0\0"]
    yield Target("rabbitmq: method", either(mutants(deliver), frames), methods.unpack, unreadable)
    yield Target(
        "rabbitmq: options", tuples(_just(_options.RabbitOptions), options), _options_of, (ConfigurationError,)
    )


def nats() -> Iterator[Target]:
    from tranship_nats import _delivery, _message, _naming, _options

    raw = RawMessage(b'{"task":"t","id":"i"}', b"[[],{},{}]", codec.JSON, "utf-8", {})
    block, _ = _message.block_of(raw, b"id")
    lines = dicts([b"Tried-Before", b"Task-Headers-Size", b"Status", b"x"], noise)
    known = mutants([block, _message.block([(b"Tried-Before", b"9" * 5000)])])
    blocks = either(known, lambda random: _message.block(lines(random).items()), among([None]))

    def read(given: Any) -> object:
        found, data = given
        _message.tried(found)
        _message.status_of(found)
        _message.from_schedule(found)
        _message.copied(found, msg_id=b"%", tried=1)
        return _decoded(_message.raw_of(found, data))

    yield Target("nats: message", tuples(blocks, documents()), read, (MalformedMessage,))
    subjects = mutants([b"$JS.ACK.s.c.1.2.3.4.5", b"$JS.ACK.d.a.s.c.1.2.3.4.5.x"])
    yield Target("nats: acknowledgement", subjects, _delivery.told_by, ())
    yield Target("nats: name", either(among(TEXTS), urls), _naming.untoken, ())
    yield Target("nats: options", tuples(_just(_options.NatsOptions), options), _options_of, (ConfigurationError,))


def targets() -> list[Target]:
    """Every decoder there is here."""
    found = [*core(), *kit()]
    for package, make in (("tranship_redis", redis), ("tranship_rabbitmq", rabbitmq), ("tranship_nats", nats)):
        if importlib.util.find_spec(package):
            found += make()
    return found
