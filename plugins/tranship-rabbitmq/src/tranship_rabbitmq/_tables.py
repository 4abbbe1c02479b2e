"""Header maps (JSON) to tables (AMQP) and back, by filling templates where only the task's id differs."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tranship import codec
from tranship.driver import headers_bytes
from tranship.errors import EncodeError
from tranship.protocol import Message, RawMessage, whole_of
from tranship_rabbitmq.amqp.table import TableError, decode_table, encode_table

__all__ = ["DELAYING", "DELIVERIES", "Read", "Tables", "ours"]

DELIVERIES: Final = "tranship-deliveries"
"""Header of a copy: how often the message was delivered before; classic queues do not count."""
DELAYING: Final = "tranship.delay."
"""Begins the names of the queues that hold what is not due."""
_UNREADABLE: Final = "tranship-unreadable"
_COUNT: Final = "x-delivery-count"
"""Header of the server's: how often a quorum queue has had the message back."""
_MOST: Final = 2**31 - 1
"""No message was delivered more often; a larger number is somebody's joke, and one more would not fit into a table."""
_KEPT: Final = 512
_ID: Final = re.compile(r"[0-9A-Za-z_.:-]{36}")
"""Ids that are recognised: those of tranship and of Celery, with nothing in them that JSON would escape."""
_DEATH: Final = "x-death"
_SERVERS: Final = frozenset({_DEATH, _COUNT, "x-acquired-count", "CC", "BCC", DELIVERIES})
_DEATHS: Final = ("x-first-death-", "x-last-death-")


@dataclass(frozen=True, slots=True)
class Read:
    """The headers of a message that came."""

    headers: bytes | Mapping[str, Any]
    """As the core wants them: without what is the server's own, or the driver's."""
    deliveries: int
    """How often it was delivered before, as far as its headers say."""
    scheduled: bool = False
    """Whether it comes from the delay topology."""


class Tables:
    """Converts headers; remembers those that differ in the task's id alone."""

    def __init__(self) -> None:
        self._written: dict[bytes, list[bytes]] = {}
        self._read: dict[bytes, tuple[list[bytes], int, bool]] = {}

    def of(self, message: Message | RawMessage, task_id: str) -> bytes:
        """Return the table for the header map of a message. What has been on the server before, as a dead letter for
        example, goes without what AMQP cannot carry.

        Raises:
            TableError: AMQP cannot carry what a client submits.
        """
        headers = headers_bytes(message)
        try:
            return self.table(headers, task_id)
        except TableError:
            if isinstance(message, Message):
                raise
            return _what_can_be(headers)

    def table(self, headers: bytes, task_id: str) -> bytes:
        """Return the table for a header map.

        Raises:
            TableError: AMQP cannot carry it.
        """
        if not _ID.fullmatch(task_id):
            return _table(headers)
        own = task_id.encode()
        key = headers.replace(own, b"\0")
        parts = self._written.get(key)
        if parts is not None:
            return own.join(parts)
        table = _table(headers)
        parts = table.split(own)
        if len(parts) == headers.count(own) + 1:
            _keep(self._written, key, parts)
        return table

    def read(self, table: bytes | None, task_id: str | None) -> Read:
        """Return the header map in a table, whoever wrote it; what cannot be read is the core's to say.

        Args:
            table: the headers of a message; None: it has none.
            task_id: its correlation id, which is the task's id in messages of tranship and of Celery.
        """
        if table is None:
            return Read({}, 0)
        if task_id is None or not _ID.fullmatch(task_id):
            return _read(table)
        own = task_id.encode()
        key = table.replace(own, b"\0")
        known = self._read.get(key)
        if known is not None:
            return Read(own.join(known[0]), known[1], known[2])
        read = _read(table)
        if isinstance(read.headers, bytes):
            parts = read.headers.split(own)
            if len(parts) == table.count(own) + 1:
                _keep(self._read, key, (parts, read.deliveries, read.scheduled))
        return read


def ours(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return headers without those that the server has added, or this driver."""
    return {name: value for name, value in headers.items() if name not in _SERVERS and not name.startswith(_DEATHS)}


def _table(headers: bytes) -> bytes:
    """Return a header map as a table. What is no map travels as text under one name, for whoever looks at it."""
    try:
        values = json.loads(headers)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        values = {_UNREADABLE: headers.decode(errors="backslashreplace")}
    return encode_table(values)


def _what_can_be(headers: bytes) -> bytes:
    """Return a table of those headers that AMQP can carry."""
    carried = {}
    for name, value in json.loads(headers).items():
        with contextlib.suppress(TableError):
            encode_table({name: value})
            carried[name] = value
    return encode_table(carried)


def _read(table: bytes) -> Read:
    try:
        values, _ = decode_table(table)
    except TableError:
        # No header map at all: the core names it in its own words.
        return Read(b"\xff" + table[:64], 0)
    # A copy in a quorum queue has both: what the server counts begins anew with it.
    count = sum(whole_of(values.get(name), most=_MOST) or 0 for name in (DELIVERIES, _COUNT))
    scheduled = _is_scheduled(values.get(_DEATH))
    values = ours(values)
    try:
        return Read(codec.dumps(_plain(values), name="headers"), count, scheduled)
    except EncodeError:
        return Read(values, count, scheduled)


def _is_scheduled(deaths: Any) -> bool:
    """Whether the server has moved a message out of a queue of the delay topology; its latest stop comes first."""
    latest = deaths[0] if isinstance(deaths, list) and deaths else None
    queue = latest.get("queue") if isinstance(latest, dict) else None
    return isinstance(queue, str) and queue.startswith(DELAYING)


def _plain(value: Any) -> Any:
    """Return ``value`` with bytes as text: JSON has no others."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _keep(known: dict[bytes, Any], key: bytes, value: Any) -> None:
    if len(known) >= _KEPT:
        known.clear()
    known[key] = value
