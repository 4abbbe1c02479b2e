"""Messages as elements of Celery's lists: built from parts that are known, read without believing anything.

An element is one JSON object; kombu's own elements differ in white space only::

    {"body": "<base64>", "content-encoding": "utf-8", "content-type": "application/json", "headers": {...},
     "properties": {"correlation_id": "<task id>", "reply_to": ..., "delivery_mode": 2,
                    "delivery_info": {"exchange": "", "routing_key": "<queue>"}, "priority": 3,
                    "body_encoding": "base64", "delivery_tag": "<unique>", "timestamp": 1790000000.123}}

A Celery worker dies of an element that lacks the tag or the delivery info, so nothing is ever left out.
``timestamp`` is ours: when the message was handed over, in epoch seconds.
"""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from tranship import codec
from tranship.checks import invalid
from tranship.driver import Facts, Outgoing
from tranship.envelope import Priority
from tranship.errors import EncodeError, MalformedMessage
from tranship.protocol import Message, RawMessage, decode
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._pack import bulk

__all__ = ["Elements", "Slot", "Tags", "end_of", "lacking", "quoted", "read", "read_quarantined"]

_SLOTS: Final = 1024
_BODY: Final = b'{"body":"'
_SPACED_BODY: Final = b'{"body": "'
_HEADERS: Final = b',"headers":'
_PROPERTIES: Final = b',"properties":'
_OURS: Final = _PROPERTIES + b'{"correlation_id":'


class Tags:
    """Delivery tags. They must be unique among all messages of a Redis database: two live messages with one tag
    overwrite each other in Celery's ``unacked``.
    """

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(12).encode()
        self._numbers = itertools.count(1)

    def next(self) -> bytes:
        """Return a fresh tag, ASCII without anything that JSON would escape."""
        return b"%b-%d" % (self._prefix, next(self._numbers))


class Slot:
    """What the elements of one kind have in common: where they go, and the constant parts of their text."""

    __slots__ = ("after", "before", "framed_list", "list", "queue", "size", "step")

    def __init__(self, facts: Facts, content: tuple[str, str], step: int, key: bytes) -> None:
        self.queue = facts.queue
        self.step = step
        self.list = key
        """The key of the list."""
        self.framed_list = bulk(key)
        """The same as a string of a command."""
        self.before = b'","content-encoding":%b,"content-type":%b,"headers":' % (quoted(content[1]), quoted(content[0]))
        self.after = (
            b',"reply_to":%b,"delivery_mode":2,"delivery_info":{"exchange":"","routing_key":%b},'
            b'"priority":%d,"body_encoding":"base64","delivery_tag":"'
        ) % (quoted(facts.reply_to), quoted(facts.queue), step)
        self.size = len(_BODY) + len(self.before) + len(_OURS) + len(self.after)
        """Bytes of the constant parts of :meth:`Elements.framed`."""


class Elements:
    """Makes elements; remembers the parts that messages of one kind share. One per backend."""

    def __init__(self, keys: Keys, levels: Levels) -> None:
        self._keys = keys
        self._levels = levels
        self._slots: dict[tuple[str, Priority, str, str, str | None], Slot] = {}
        self._likes: dict[object, Slot] = {}

    def known(self, source: Message | RawMessage) -> Slot | None:
        """Return the slot of a message whose like has been here, and which needs nothing but a place in its list."""
        return self._likes.get(source.like) if isinstance(source, Message) else None

    def slot(self, message: Outgoing) -> tuple[Slot, Message | RawMessage, str]:
        """Return where ``message`` goes and what its element shares with its like; what to write into it; and its id.

        Raises:
            InvalidOptionError: no worker could serve a queue of this name.
            MalformedMessage: it is not a complete message, and a Celery worker that takes one dies.
        """
        facts, source = message.facts, message.source
        if not isinstance(source, Message):
            source, facts = _complete(source, facts)
        content = str(source.content_type), str(source.content_encoding)
        key = (facts.queue, facts.level, *content, facts.reply_to)
        slot = self._slots.get(key) or self._keep(key, facts, content)
        if isinstance(source, Message) and source.like is not None:
            envelope = source.envelope
            if envelope.not_before is None and envelope.dedup_key is None:
                if len(self._likes) >= _SLOTS:
                    self._likes.clear()
                self._likes[source.like] = slot
        return slot, source, facts.id

    def build(self, message: Outgoing, *, tag: bytes, timestamp: bytes) -> bytes:
        """Return the element for ``message``.

        Args:
            message: what to send.
            tag: the delivery tag, from :class:`Tags`.
            timestamp: epoch seconds as a JSON number.
        """
        framed = self.framed(*self.slot(message), tag, end_of(timestamp))
        return framed[framed.index(b"\n") + 1 : -2]

    @staticmethod
    def framed(slot: Slot, source: Message | RawMessage, task_id: str, tag: bytes, end: bytes) -> bytes:
        """Return an element as one string of a command, in one step.

        Args:
            slot: the message's.
            source: what to write, as :meth:`slot` returns it.
            task_id: the task's id.
            tag: the delivery tag, from :class:`Tags`.
            end: what :func:`end_of` returns for the time of handing over.
        """
        body, headers = b2a_base64(source.body, newline=False), source.headers
        assert type(headers) is bytes
        quoted_id = quoted(task_id)
        size = slot.size + len(body) + len(headers) + len(quoted_id) + len(tag) + len(end) - 2
        # No more than ten parts: they are joined without a place of their own.
        head = b"$%d\r\n%b" % (size, _BODY)
        return b"".join((head, body, slot.before, headers, _OURS, quoted_id, slot.after, tag, end))

    def _keep(self, key: tuple[str, Priority, str, str, str | None], facts: Facts, content: tuple[str, str]) -> Slot:
        if "\0" in facts.queue:
            # No worker could serve it: a claim's token ends the name of the list there.
            raise invalid("queue", facts.queue, "a name without zero characters")
        step = self._levels.step(facts.level)
        if len(self._slots) >= _SLOTS:
            self._slots.clear()
        slot = self._slots[key] = Slot(facts, content, step, self._keys.list(facts.queue, step))
        return slot


def _complete(raw: RawMessage, facts: Facts) -> tuple[RawMessage, Facts]:
    """Return a message that anybody may have written, written anew: what was verified is what is sent. And its facts,
    of which the body may know what the headers do not say.

    Raises:
        MalformedMessage: it is not a complete message.
    """
    envelope = decode(raw, queue=facts.queue, priority=facts.level)
    content_type = raw.content_type or codec.JSON
    encoding = raw.content_encoding or codec.content_encoding_of(codec.content_type_of(content_type))
    # Celery marks what it restores, and a message that starts over has never been delivered.
    found = raw.headers if isinstance(raw.headers, Mapping) else codec.loads(raw.headers, codec.JSON)
    headers = {name: value for name, value in (found or {}).items() if name != "redelivered"}
    facts = facts._replace(id=envelope.id, reply_to=envelope.reply_to)
    return RawMessage(codec.dumps(headers), raw.body, content_type, encoding), facts


def end_of(timestamp: bytes) -> bytes:
    """Return how elements handed over at ``timestamp`` end, as strings of a command."""
    return b'","timestamp":%b}}\r\n' % timestamp


def quoted(text: str | None) -> bytes:
    """Return ``text`` as JSON."""
    try:
        return orjson.dumps(text)
    except TypeError:  # a lone surrogate, which only an escape can carry
        return json.dumps(text).encode("ascii")


def read(element: bytes) -> RawMessage:
    """Return the message in ``element``, whoever wrote it. Never raises: what is wrong is said by the core's decoder.

    Headers of our own elements stay bytes; the decoder remembers those. An element that is no JSON object becomes
    a message whose headers are the element.
    """
    return _read_ours(element) or _read_any(element)


def _read_ours(element: bytes) -> RawMessage | None:
    """Read by cutting: no string in JSON holds an unescaped quote, so the marks cannot be inside of one."""
    place, end = element.rfind(_OURS), element.find(b'"', len(_BODY))
    headers = element.find(_HEADERS, end)
    if not element.startswith(_BODY) or not 0 < end < headers < place or element[-1:] != b"}":
        return None
    content = _content(element[end + 2 : headers])
    try:
        properties = orjson.loads(element[place + len(_PROPERTIES) : -1])
        body = a2b_base64(element[len(_BODY) : end], strict_mode=True)
    except ValueError:
        return None
    if content is None or properties.get("body_encoding") != "base64" or "timestamp" not in properties:
        return None
    return RawMessage(element[headers + len(_HEADERS) : place], body, content[1], content[0], properties)


@lru_cache(maxsize=256)
def _content(members: bytes) -> tuple[str, str] | None:
    """Return content encoding and content type from between body and headers; None: they are not what we write."""
    try:
        values = orjson.loads(b"{%b}" % members)
    except ValueError:
        return None
    encoding, content_type = values.get("content-encoding"), values.get("content-type")
    if len(values) != 2 or not isinstance(encoding, str) or not isinstance(content_type, str):
        return None
    return encoding, content_type


def _read_any(element: bytes) -> RawMessage:
    fields = _fields(element)
    if fields is None:
        return RawMessage(element, b"")
    properties = fields.get("properties")
    if not isinstance(properties, Mapping):
        properties = {}
    headers = fields.get("headers")
    if headers is None:
        headers = {}
    return RawMessage(
        headers if isinstance(headers, Mapping) else _written(headers),
        _body(fields.get("body"), properties.get("body_encoding")),
        _text(fields.get("content-type")),
        _text(fields.get("content-encoding")),
        properties,
    )


def _fields(element: bytes) -> Mapping[str, Any] | None:
    """Return the element's members; its body, which may be long, is cut out first where that is safe."""
    start = len(_SPACED_BODY) if element.startswith(_SPACED_BODY) else len(_BODY)
    end = element.find(b'"', start)
    body = element[start:end]
    if element.startswith((_BODY, _SPACED_BODY)) and end > 0 and body.isascii() and b"\\" not in body:
        fields = _object(_BODY + element[end:])
        if fields is not None and fields.get("body") == "":
            return {**fields, "body": body}
    return _object(element)


def _object(text: bytes) -> Mapping[str, Any] | None:
    try:
        fields = codec.loads(text, codec.JSON)
    except MalformedMessage:
        return None
    return fields if isinstance(fields, Mapping) else None


def _body(body: Any, encoding: Any) -> bytes:
    """Return the body as bytes; one that is not what its encoding says is returned as it stands."""
    if body is None:
        return b""
    if not isinstance(body, str | bytes):
        return _written(body)
    text = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if encoding != "base64":
        return text
    try:
        return base64.b64decode(text)
    except ValueError:
        return text


def _written(value: Any) -> bytes:
    try:
        return codec.dumps(value)
    except EncodeError:
        return b""


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def read_quarantined(element: bytes) -> RawMessage:
    """Return the message in an element that was kept apart.

    One that is complete, and was kept apart for another reason, is a message like any other. An incomplete one
    would kill or stall Celery's workers, and is not run here either: the core is told what is wrong with it.
    """
    message = read(element)
    missing = lacking(element)
    if missing is not None and message.headers is not element:
        message.problem = missing
    return message


def lacking(element: bytes) -> str | None:
    """Return what is missing or unusable, None: nothing is."""
    try:
        whole = json.loads(element)
    except (ValueError, RecursionError):
        return "it is not JSON"
    properties = _map(_map(whole).get("properties"))
    info = _map(properties.get("delivery_info"))
    tag = properties.get("delivery_tag")
    if not isinstance(tag, str | int) or isinstance(tag, bool):
        return "properties.delivery_tag is missing or no text"
    for name in ("exchange", "routing_key"):
        if not isinstance(info.get(name), str):
            return f"properties.delivery_info.{name} is missing or no text"
    return None


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
