"""What Celery workers took and were never heard of again, restored as kombu does it, and not sooner.

The smallest visibility timeout on a database wins, so ours has to be at least that of its Celery workers. Our own
claims are renewed in Celery's index, and swept long before; none of them is ever touched here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import secrets
from typing import Any, Final

from tranship.errors import BrokerRefused, TranshipError
from tranship.protocol import number_of
from tranship_redis._channel import Channel
from tranship_redis._keys import Keys
from tranship_redis._levels import STEPS
from tranship_redis._options import RedisOptions
from tranship_redis._scripts import Script

__all__ = ["CeleryEntries"]

log = logging.getLogger("tranship.redis")

MUTEX_EXPIRE: Final = 300_000
"""Milliseconds, kombu's own: the lock of a sweep that died."""
MOST: Final = 1000
"""Entries per sweep."""
_RESTORE: Final = Script("restore")
_UNLOCK: Final = Script("unlock")


class CeleryEntries:
    """Celery's ``unacked``, as far as it is none of ours.

    Args:
        keys: of the namespace.
        link: any.
        options: has the visibility timeout.
    """

    def __init__(self, keys: Keys, link: Channel, options: RedisOptions) -> None:
        self._keys = keys
        self._link = link
        self._timeout = options.visibility_timeout

    async def restore(self) -> int:
        """Restore what has been held for too long; return how many. Nothing where another sweep is at work.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        ceiling = await self._now() - self._timeout
        if not await self._old(ceiling):
            return 0
        token, link, mutex = secrets.token_hex(16), self._link, self._keys.unacked_mutex
        if not await link.call(b"SET", mutex, token, "NX", "PX", MUTEX_EXPIRE):
            return 0
        try:
            ours = await self._ours()
            old = [tag for tag in await self._old(ceiling) if tag not in ours]
            return sum([await self._restore(tag, ceiling) for tag in old])
        finally:
            # A lock that cannot be given back ends by itself.
            with contextlib.suppress(TranshipError):
                await link.run(_UNLOCK, [mutex], [token])

    async def _now(self) -> float:
        seconds, micros = await self._link.call(b"TIME")
        return int(seconds) + int(micros) / 1e6

    async def _old(self, ceiling: float) -> list[bytes]:
        """Tags that were taken before ``ceiling``, by whoever."""
        index = self._keys.unacked_index
        found: list[bytes] = await self._link.call(b"ZRANGEBYSCORE", index, "-inf", ceiling, "LIMIT", 0, MOST)
        # The first one last: it comes out again first.
        return found[::-1]

    async def _ours(self) -> set[bytes]:
        """Tags that a worker of ours holds, or has lost."""
        tokens: list[bytes] = await self._link.call(b"ZRANGE", self._keys.leases, 0, -1)
        return {token.partition(b"\0")[2].rpartition(b"\0")[0] for token in tokens}

    async def _restore(self, tag: bytes, ceiling: float) -> int:
        value = await self._link.call(b"HGET", self._keys.unacked, tag)
        key, element = (b"", b"") if value is None else self._destination(value)
        if value is not None and not element:
            log.debug("left an entry of Celery's to Celery: %r", tag)
            return 0
        names = [self._keys.unacked, self._keys.unacked_index, key]
        try:
            restored: int = await self._link.run(_RESTORE, names, [tag, ceiling, element])
        except BrokerRefused as error:
            # Its list is somebody else's key: the others need not suffer for it.
            log.warning("a message of Celery's cannot be restored: %s", error)
            return 0
        return restored

    def _destination(self, value: bytes) -> tuple[bytes, bytes]:
        """Return list and element for a value of ``unacked``; none for what only Celery can place.

        Through a named exchange messages go where its bindings say. Celery itself uses none by default.
        """
        try:
            message, exchange, queue = json.loads(value)
            if exchange != "" or not isinstance(queue, str) or not isinstance(message, dict):
                return b"", b""
            _mark(message)
            return self._keys.list(queue, _step(message)), json.dumps(message).encode()
        except (ValueError, TypeError, RecursionError):
            return b"", b""


def _mark(message: dict[str, Any]) -> None:
    headers, properties = message.get("headers"), message.get("properties")
    if isinstance(headers, dict) and isinstance(properties, dict):
        headers["redelivered"] = True
        if isinstance(properties.get("delivery_info"), dict):
            properties["delivery_info"]["redelivered"] = True


def _step(message: dict[str, Any]) -> int:
    """The list a message goes back to, by kombu's rule."""
    properties = message.get("properties")
    priority = _priority(properties.get("priority") if isinstance(properties, dict) else None)
    return next(step for step in reversed(STEPS) if step <= priority)


def _priority(value: object) -> int:
    number = number_of(value)
    return 0 if number is None else max(min(int(number), 9), 0)
