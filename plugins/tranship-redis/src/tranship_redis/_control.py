"""The control channel: the kit's, and beside it what Celery's workers and other programs hear of cancels."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, Final

from tranship.errors import BrokerRefused, InvalidOptionError, TranshipError
from tranship.guards import one_listener
from tranship.mailbox import PeerTalk, node_name
from tranship.ports import ONLOOKER, CancelReport, SignalSink, Tombstone
from tranship.protocol.events import EventMessage
from tranship_redis._context import Context
from tranship_redis._keys import PIDBOX, SEPARATOR
from tranship_redis._pidbox import Pidbox, event_message, revoke_message
from tranship_redis._topic import RedisTopic

__all__ = ["RedisControl"]

log = logging.getLogger("tranship.redis")

PART: Final = 250
"""Ids per broadcast: some milliseconds of this loop."""
PORTION: Final = 500
"""Signals a sink takes at once while others wait for the loop."""


class RedisControl(PeerTalk):
    """See :class:`tranship.ports.ControlChannel` and :class:`tranship.ports.NameKeeper`.

    A cancel by id is told to Celery's workers as a plain revoke, unless the option ``celery`` is ``off``: they do
    not start the task any more, and what runs there already runs on. What Celery's clients revoke is heard as a
    tombstone (of queued tasks only, unless it says ``terminate``), and kept like one of ours. It answers
    :class:`~tranship.ports.CancelMarks` and :class:`~tranship.ports.PeerControl`, too.

    Args:
        context: of the backend.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(speaks=context.options.celery_queues.mode != "off")
        self._context, self._kits = context, context.kit.control
        self._sink: SignalSink | None = None
        self._pidbox: Pidbox | None = None
        self.send, self.beat = self._kits.send, self._kits.beat
        self.take_name, self.free_name = self._kits.take_name, self._kits.free_name
        context.kit.on_restored(self._follow_again)

    async def aclose(self) -> None:
        """Hear nothing of Celery's any more."""
        self._sink = None
        if self._pidbox is not None:
            self._pidbox.close()

    # Hearing.

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Replay live tombstones, then follow."""
        self._context.check()
        one_listener(self._sink)
        self._sink = sink
        try:
            if self._speaks_celery and worker != ONLOOKER:
                self._context.node = node_name(worker)
                self._pidbox = Pidbox(
                    self._context,
                    worker,
                    hear=self._hear,
                    keep=self._kits.keep,
                    panel=self._panel,
                    clock=self._clock,
                )
                # First: what Celery's clients revoke before that is in the replay.
                await self._follow(self._pidbox)
            await self._kits.listen(sink, worker=worker)
        except BaseException:
            await self.aclose()
            raise

    def _hear(self, signals: Sequence[Tombstone]) -> None:
        if self._sink is not None and signals:
            self._sink(signals[:PORTION])
            if len(signals) > PORTION:
                asyncio.get_running_loop().call_soon(self._hear, signals[PORTION:])

    async def _follow(self, pidbox: Pidbox) -> None:
        """Subscribe to Celery's remote control.

        Raises:
            BrokerRefused: this user may not, and the URL says that Celery has to be heard.
        """

        async def follow(connection: Any) -> TranshipError | None:
            topic: RedisTopic = connection.topic
            topic.subscribe([PIDBOX], pidbox.heard)
            await topic.active()
            return topic.refused.get(PIDBOX)

        refused = await self._context.kit.run("active", follow)
        if refused is not None and self._context.options.celery_queues.mode != "auto":
            raise refused
        if refused is not None:
            log.warning("Celery's remote control is not followed: %s", refused)

    async def _follow_again(self) -> None:
        if self._sink is not None and self._pidbox is not None:
            await self._follow(self._pidbox)

    # Celery's programs.

    async def tell(self, node: str, messages: Sequence[EventMessage]) -> None:
        """Publish what has happened.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        self._context.check()
        for message in messages:
            channel = self._context.keys.events + message.routing_key.encode()
            await self._context.main.call("PUBLISH", channel, event_message(node, message))

    # Cancelling.

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones, tell listeners, Celery's too, and remove what is not due yet.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
            InvalidOptionError: a name that Celery's workers could not read; nothing was done.
        """
        _check(tombstones)
        report = await self._kits.cancel(tombstones)
        ids = [one.value for one in tombstones if one.kind == "id"]
        await self._revoke(ids)
        for one in tombstones:
            if one.kind == "key" and self._context.options.cancel_template:
                await self._set_mark(one)
        return report

    async def _revoke(self, ids: Sequence[str]) -> None:
        """Tell Celery's workers."""
        if not self._speaks_celery:
            return
        for start in range(0, len(ids), PART):
            # Celery's clock only orders events; a command from outside never advances it.
            message = revoke_message(ids[start : start + PART], clock=0)
            # Who may not speak on Celery's channel has no Celery workers either.
            with contextlib.suppress(BrokerRefused):
                await self._context.main.call("PUBLISH", self._context.keys.pidbox, message)

    # Marks: keys that other programs look for, or leave.

    async def marked(self, keys: Sequence[str]) -> Sequence[bool]:
        """Whether the keys of these names are set: by ``cancel_template``, without one the bare cancel keys.

        A name that may be Celery's or ours is no mark.

        Raises:
            BrokerUnreachable, BrokerRefused.
        """
        self._context.check()
        template = self._context.options.cancel_template or "{key}"
        return await asyncio.gather(*(self._is_set(template.replace("{key}", key)) for key in keys))

    async def _is_set(self, name: str) -> bool:
        return not self._is_reserved(name) and bool(await self._context.main.call("EXISTS", name))

    async def _set_mark(self, tombstone: Tombstone) -> None:
        """Set the key that other programs ask for, until the cancel is over; never in the way of a queue."""
        name = self._context.options.cancel_template.replace("{key}", tombstone.value)
        left = math.ceil(tombstone.expires - time.time())
        if self._is_reserved(name):
            log.warning("cancel key %r is not set as a key of its own: the name is taken", tombstone.value[:200])
        elif left > 0:
            keys, call = self._context.keys, self._context.main.call
            queue = name.removeprefix(keys.prefix.decode())
            if not await call("SISMEMBER", keys.queues, queue) and not await call("EXISTS", keys.binding(queue)):
                await call("SET", name, "1", "NX", "EX", left)

    def _is_reserved(self, name: str) -> bool:
        """Whether the name may be one that Celery or we use for something else, and would trip over."""
        prefix = self._context.keys.prefix.decode()
        names = ("unacked", "_kombu.", "celery", "tranship:")
        return SEPARATOR.decode() in name or name.startswith(tuple(prefix + one for one in names))


def _check(tombstones: Sequence[Tombstone]) -> None:
    for one in tombstones:
        try:
            one.value.encode()
        except UnicodeEncodeError:
            raise InvalidOptionError(f"{one.kind} {one.value!r} holds half a character; expected text") from None
