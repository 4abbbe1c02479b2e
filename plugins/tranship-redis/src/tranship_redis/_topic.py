"""Live signals: a channel for each name; the channel of a result is Celery's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ResponseError

from tranship.driver import Heard, Subscriptions
from tranship.envelope import TaskState
from tranship.errors import TranshipError
from tranship_redis._channel import Channel
from tranship_redis._errors import error_of
from tranship_redis._keys import PIDBOX, Keys, is_result
from tranship_redis._pack import pack
from tranship_redis._table import RedisTable, result_value
from tranship_redis._wire import Reply

__all__ = ["RedisTopic"]

log = logging.getLogger("tranship.redis")

BATCH: Final = 500
"""Channels per command."""
LATER: Final = 0.02
"""Seconds until names are subscribed to, or given up, if nothing that is sent meanwhile takes them along. Who waits
until they are subscribed to has that done at once."""
POLL: Final = 0.25
"""Seconds between two reads of results that this user may not be told of, at first."""
LONGEST_POLL: Final = 2.0
"""The same when nothing new has been asked for meanwhile: many of them may never come."""
_TERMINAL: Final = tuple(b"%b\n" % state.value.encode() for state in TaskState if state.terminal)


class RedisTopic:
    """See :class:`tranship.driver.Topic`.

    Of a result, everybody hears the value of its row, and only when it is terminal.

    Args:
        main: publishes.
        pubsub: subscribes: over RESP3 the same, so that what is subscribed to travels ahead of what is said next.
        keys: of the namespace.
        table: where results are read that this user may not hear of.

    Attributes:
        refused: names that the server does not let us hear, and why; without results.
    """

    pushes_alone = True

    def __init__(self, main: Channel, pubsub: Channel, keys: Keys, table: RedisTable) -> None:
        self._main, self._pubsub, self._keys, self._table = main, pubsub, keys, table
        self.refused: dict[str, TranshipError] = {}
        self._subscriptions = Subscriptions()
        # Dicts for their order.
        self._fresh: dict[str, None] = {}
        self._stale: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._unconfirmed = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._polled: dict[str, None] = {}
        self._more = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None

    async def publish(self, items: Sequence[tuple[str, bytes]]) -> None:
        """Publish each."""
        await self._main.call_all([(b"PUBLISH", self._keys.channel(name), value) for name, value in items])

    def subscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Subscribe with what is said next, or soon."""
        for name in self._subscriptions.add(names, heard):
            if name in self._stale:
                del self._stale[name]
            else:
                self._fresh[name] = None
        if self._fresh:
            self._pubsub.precede(self._flush)
            self._schedule()

    def unsubscribe(self, names: Sequence[str], heard: Heard) -> None:
        """Unsubscribe with what is said later."""
        for name in self._subscriptions.remove(names, heard):
            if name in self._fresh:
                del self._fresh[name]
            else:
                self._stale[name] = None
            if self.refused:
                self.refused.pop(name, None)
            if self._polled:
                self._polled.pop(name, None)
        self._schedule()

    async def active(self) -> None:
        """Wait until the server knows of every subscription."""
        self._flush()
        if self._unconfirmed:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        for name, error in self.refused.items():
            if name != PIDBOX:
                raise error

    def close(self) -> None:
        """Leave nothing in the loop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._poller is not None:
            self._poller.cancel()

    # Subscribing.

    def _schedule(self) -> None:
        # One timer at a time, and none per name: what it finds may have gone long ago.
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LATER, self._due)

    def _due(self) -> None:
        self._timer = None
        self._flush()

    def _flush(self) -> None:
        """Post what has changed."""
        if self._fresh:
            fresh, self._fresh = self._fresh, {}
            results = [name for name in fresh if name.startswith("r/")]
            self._post(b"SUBSCRIBE", results)
            if len(results) < len(fresh):
                # Apart: of names that are subscribed to together all are refused for the sake of one.
                for name in fresh:
                    if not is_result(name):
                        self._post(b"SUBSCRIBE", [name])
        if self._stale:
            stale, self._stale = list(self._stale), {}
            self._post(b"UNSUBSCRIBE", stale)

    def _post(self, command: bytes, names: Sequence[str]) -> None:
        for start in range(0, len(names), BATCH):
            part = names[start : start + BATCH]
            data = pack(command, *map(self._keys.channel, part))
            try:
                self._pubsub.post(data, partial(self._confirmed, part), pushes=len(part))
            except TranshipError:
                return  # The connection has gone: over the next one the kit begins anew.
            self._unconfirmed += 1

    def _confirmed(self, names: Sequence[str], reply: Reply) -> None:
        if isinstance(reply, ResponseError):
            self._was_refused(names, reply)
        self._unconfirmed -= 1
        if not self._unconfirmed:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _was_refused(self, names: Sequence[str], reply: ResponseError) -> None:
        if not is_result(names[0]):
            self.refused[names[0]] = error_of(reply, doing=f"subscribing to {self._keys.channel(names[0])!r}")
            return
        if self._poller is None:
            log.error("results are polled, which is slow: %s", error_of(reply, doing="subscribing to results"))
            self._poller = asyncio.get_running_loop().create_task(self._poll())
        self._polled.update(dict.fromkeys(names))
        self._more.set()

    # Hearing.

    def heard(self, frame: Sequence[Any]) -> None:
        """Tell what the server has pushed."""
        name, value = self._keys.name(frame[1]), frame[2]
        if name is None:
            return
        if name.startswith("r/"):
            value = result_value(name[2:], value)
            if not value.startswith(_TERMINAL):
                return
        self._subscriptions.tell(name, value)

    async def _poll(self) -> None:
        """Read, again and again, what nothing can be heard of."""
        pause = POLL
        while True:
            self._more.clear()
            # What cannot be read now is read the next time.
            with contextlib.suppress(TranshipError):
                for row in await self._table.get(list(self._polled)):
                    if row is not None and row.key in self._polled and row.value.startswith(_TERMINAL):
                        self._subscriptions.tell(row.key, row.value)
            await asyncio.sleep(POLL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._more.wait(), pause - POLL if self._polled else None)
            pause = POLL if self._more.is_set() else min(2 * pause, LONGEST_POLL)
