"""Who waits for which results: subscriptions to Celery's result channels, one per task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.errors import TranshipError
from tranship.ports import ConnectionEvent
from tranship_redis._errors import error_of
from tranship_redis._keys import Keys
from tranship_redis._link import Link
from tranship_redis._pack import pack
from tranship_redis._wire import Reply

__all__ = ["Subscriptions"]

log = logging.getLogger("tranship.redis")

BATCH: Final = 500
"""Channels per command."""
SOON: Final = 0.002
"""Seconds until new ones are subscribed to, if nothing that is sent meanwhile takes them along."""
LATER: Final = 0.02
"""Seconds until those that are not wanted any more are given up."""

Published = Callable[[str, bytes], None]
Refused = Callable[[Sequence[str]], None]


class Subscriptions:
    """The result channels we are subscribed to; what is added or dropped goes along with what is sent next.

    Args:
        link: carries them: over RESP3 the one that submits, over RESP2 one of their own.
        keys: names the channels.
    """

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._wanted: set[str] = set()
        # Dicts for their order.
        self._fresh: dict[str, None] = {}
        self._stale: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._unconfirmed = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._sink: Published | None = None
        self._refused: Refused | None = None
        self._told = False
        link.on_push(b"message", self._message)
        link.on_up(self._resubscribe)
        link.on_event(self._on_event)

    def __len__(self) -> int:
        """How many results are expected."""
        return len(self._wanted)

    def __iter__(self) -> Iterator[str]:
        """The ids of those tasks."""
        return iter(self._wanted)

    def __contains__(self, task_id: object) -> bool:
        """Whether the task's result is expected."""
        return task_id in self._wanted

    def attach(self, sink: Published, refused: Refused) -> None:
        """Hand the id and the document of each expected result that is published to ``sink``.

        ``refused`` gets the ids of those that never will be, because this user may not listen.
        """
        self._sink = sink
        self._refused = refused

    def add(self, ids: Iterable[str]) -> None:
        """Expect the results of ``ids``: subscribed by :meth:`flush`, or :data:`SOON`."""
        for task_id in ids:
            if task_id not in self._wanted:
                self._wanted.add(task_id)
                if task_id in self._stale:
                    del self._stale[task_id]
                else:
                    self._fresh[task_id] = None
        self._schedule(SOON)

    def drop(self, ids: Iterable[str]) -> None:
        """Expect them no more; unknown ones are ignored."""
        for task_id in ids:
            if task_id in self._wanted:
                self._wanted.discard(task_id)
                if task_id in self._fresh:
                    del self._fresh[task_id]
                else:
                    self._stale[task_id] = None
        self._schedule(LATER)

    def flush(self) -> None:
        """Post what has changed, ahead of what is posted next; nothing while there is no connection."""
        if self._link.up:
            self._post()

    async def confirmed(self) -> None:
        """Wait until the server knows of every subscription: what is published from then on is not missed."""
        self.flush()
        if self._unconfirmed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def clear(self) -> None:
        """Expect nothing any more; the link has been closed."""
        for pending in (self._wanted, self._fresh, self._stale):
            pending.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, seconds: float) -> None:
        # One timer at a time, and none per result: what it finds may have gone long ago.
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() > loop.time() + seconds:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = loop.call_later(seconds, self._scheduled_flush)

    def _scheduled_flush(self) -> None:
        self._timer = None
        self.flush()

    def _post(self) -> None:
        if self._fresh:
            fresh, self._fresh = list(self._fresh), {}
            self._send(b"SUBSCRIBE", fresh)
        if self._stale:
            stale, self._stale = list(self._stale), {}
            self._send(b"UNSUBSCRIBE", stale)

    def _send(self, command: bytes, ids: Sequence[str]) -> None:
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            data = pack(command, *map(self._keys.result, part))
            try:
                self._link.post(data, partial(self._confirmed, part), pushes=len(part))
            except TranshipError:
                return  # the connection has gone: the next one begins anew
            self._unconfirmed += 1

    def _confirmed(self, ids: Sequence[str], reply: Reply) -> None:
        if isinstance(reply, ResponseError):
            self._was_refused(ids, reply)
        self._unconfirmed -= 1
        if not self._unconfirmed:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _was_refused(self, ids: Sequence[str], reply: ResponseError) -> None:
        if not self._told:
            self._told = True
            log.error("results are polled, which is slow: %s", error_of(reply, doing="subscribing to results"))
        if self._refused is not None:
            self._refused(ids)

    async def _resubscribe(self) -> None:
        """Begin anew on a new connection; a hook of the link."""
        self._fresh, self._stale = dict.fromkeys(self._wanted), {}
        self._post()

    def _on_event(self, event: ConnectionEvent, _generation: int) -> None:
        # What changed after our hook, while those of others were running.
        if event is ConnectionEvent.RESTORED:
            self.flush()

    def _message(self, frame: list[Any]) -> None:
        task_id = self._keys.task_id(frame[1])
        if task_id is not None and task_id in self._wanted and self._sink is not None:
            self._sink(task_id, frame[2])
