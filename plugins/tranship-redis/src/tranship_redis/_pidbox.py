"""Celery's remote control: what is broadcast to workers, what they answer into lists, and what they tell by themselves.

A broadcast is a message like a task's, published on one channel: its body says which method, with which
arguments, for whom, and where an answer goes.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from heapq import nlargest
from operator import attrgetter
from typing import Any, Final
from uuid import uuid4

from tranship import codec
from tranship.errors import EncodeError, MalformedMessage
from tranship.mailbox import TOLD, LogicalClock, Mailbox
from tranship.ports import Panel, Tombstone
from tranship.protocol.broadcast import Broadcast, ReplyTo, read_broadcast, revoke_broadcast
from tranship.protocol.events import EXCHANGE, EventMessage
from tranship_redis._context import Context
from tranship_redis._keys import PIDBOX, SEPARATOR
from tranship_redis._scripts import Script

__all__ = ["Broadcast", "Pidbox", "ReplyTo", "broadcast_of", "event_message", "reply_message", "revoke_message"]

_TRANSIENT: Final = 1
_PERSISTENT: Final = 2
_UNFETCHED: Final = 60
"""Seconds after which answers that nobody fetched are forgotten."""
_REPLY: Final = Script("pidbox_reply")


class Pidbox(Mailbox):
    """See :class:`tranship.mailbox.Mailbox`.

    Args:
        context: of the backend.
        worker, hear, keep, panel, clock: as there.
    """

    def __init__(
        self,
        context: Context,
        worker: str,
        *,
        hear: Callable[[Sequence[Tombstone]], None],
        keep: Callable[[Sequence[Tombstone]], Awaitable[object]],
        panel: Panel | None = None,
        clock: LogicalClock | None = None,
    ) -> None:
        super().__init__(worker, hear=hear, keep=keep, panel=panel, clock=clock)
        self._context = context

    def heard(self, _name: str, payload: bytes) -> None:
        """Take in what came on the channel, whatever it is."""
        self.take(partial(broadcast_of, payload), len(payload))

    async def known(self) -> list[str]:
        """The ids that are cancelled."""
        cancelled = [one for one in await self._context.kit.control.kept() if one.kind == "id"]
        return [one.value for one in nlargest(TOLD, cancelled, key=attrgetter("expires"))]

    async def reply(self, asked: Broadcast, answer: Any, clock: int) -> None:
        """Push the answer to the asker's list."""
        to = asked.reply_to
        assert to is not None
        message = reply_message(self.node, answer, asked, clock=clock)
        # The binding is the asker's: what it writes is how it waits, and gone when it has gone.
        binding = SEPARATOR.join((to.routing_key.encode(), b"", to.queue.encode()))
        keys = self._context.keys
        await self._context.main.run(
            _REPLY, [keys.binding(to.exchange), keys.list(to.queue, 0)], [binding, message, _UNFETCHED]
        )


def broadcast_of(payload: bytes) -> Broadcast:
    """Return the broadcast in ``payload``, as it came from the channel.

    Raises:
        MalformedMessage: it is none. Nothing else, whatever the bytes.
    """
    message = _map(codec.loads(payload, codec.JSON), "broadcast")
    headers = _map(message.get("headers") or {}, "broadcast's headers")
    body = _body(message)
    return read_broadcast(headers, body, message.get("content-type"), message.get("content-encoding"))


def revoke_message(ids: Sequence[str], *, clock: int) -> bytes:
    """Return the broadcast with which Celery's own ``app.control.revoke(ids)`` tells its workers.

    Workers drop the tasks instead of starting them; what runs already is left alone.

    Raises:
        EncodeError: an id is no text that JSON can carry.
    """
    headers, body = revoke_broadcast(ids, clock=clock)
    return _message(body, codec.JSON, headers, _properties(_PERSISTENT, PIDBOX, ""))


def event_message(node: str, message: EventMessage) -> bytes:
    """Return the message with which ``node`` tells of something.

    Raises:
        EncodeError: it cannot be written.
    """
    properties = _properties(_TRANSIENT, EXCHANGE, message.routing_key)
    return _message(message.body, codec.JSON, {"hostname": node}, properties)


def reply_message(node: str, answer: Any, asked: Broadcast, *, clock: int) -> bytes:
    """Return the list element with which ``node`` answers ``asked``.

    Raises:
        EncodeError: the answer cannot be written.
    """
    assert asked.reply_to is not None
    to = asked.reply_to
    headers = {"ticket": to.ticket, "clock": clock}
    properties = _properties(_TRANSIENT, to.exchange, to.routing_key)
    return _message({node: answer}, asked.content_type, headers, properties)


def _message(body: Any, content_type: str, headers: dict[str, Any], properties: dict[str, Any]) -> bytes:
    text = base64.b64encode(codec.dumps(body, content_type, name="body")).decode()
    message = {
        "body": text,
        "content-encoding": codec.content_encoding_of(content_type),
        "content-type": content_type,
        "headers": headers,
        "properties": properties,
    }
    try:
        return json.dumps(message).encode()
    except (TypeError, ValueError) as error:
        raise EncodeError(f"a broadcast cannot be written: {error}") from error


def _properties(delivery_mode: int, exchange: str, routing_key: str) -> dict[str, Any]:
    return {
        "delivery_mode": delivery_mode,
        "delivery_info": {"exchange": exchange, "routing_key": routing_key},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }


def _body(message: Mapping[str, Any]) -> bytes:
    found = message.get("body")
    if not isinstance(found, str):
        raise MalformedMessage(f"broadcast's body is {type(found).__name__}; expected text")
    properties = _map(message.get("properties") or {}, "broadcast's properties")
    data = found.encode(errors="surrogatepass")
    return _unpacked(data) if properties.get("body_encoding") == "base64" else data


def _unpacked(data: bytes) -> bytes:
    try:
        return base64.b64decode(data)
    except (binascii.Error, ValueError) as error:
        raise MalformedMessage("broadcast's body is no base64") from error


def _map(found: Any, part: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise MalformedMessage(f"{part} is {type(found).__name__}; expected a map")
    return found
