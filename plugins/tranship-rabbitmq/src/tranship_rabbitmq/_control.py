"""The control channel: cancels that outlive everybody, live commands, heartbeats; Celery's workers hear of cancels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from tranship import codec
from tranship.errors import InvalidOptionError
from tranship.guards import one_listener
from tranship.ports import CancelReport, Command, Heartbeat, SignalSink, Tombstone
from tranship_rabbitmq._context import Context
from tranship_rabbitmq._feed import Feed, signals_exchange
from tranship_rabbitmq._heartbeats import Heartbeats
from tranship_rabbitmq._mailbox import broadcast_revoke
from tranship_rabbitmq.amqp.content import Properties

__all__ = ["RabbitControl"]

log = logging.getLogger("tranship.rabbitmq")

_CHUNK: Final = 1000
"""Tombstones per entry of the journal, and ids per broadcast."""


class RabbitControl:
    """See :class:`tranship.ports.ControlChannel`.

    A cancel by id is told to Celery's workers as a plain revoke, unless the option ``celery`` is ``off``: they do
    not start the task any more, and what runs there already runs on.
    """

    def __init__(self, ctx: Context, heartbeats: Heartbeats) -> None:
        self._ctx = ctx
        self._heartbeats = heartbeats
        self._feed: Feed | None = None

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Replay live tombstones, then follow."""
        self._ctx.check()
        one_listener(self._feed)
        feed = self._feed = Feed(self._ctx, sink, worker, self._keep)
        try:
            await self._ctx.consuming.open()
            await feed.start()
        except BaseException:
            await feed.aclose()
            self._feed = None
            raise

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones, and tell listeners. What is queued stays there, and is dropped by who takes it.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
            InvalidOptionError: a tombstone that cannot be stored; nothing was done.
        """
        self._ctx.check()
        await self._keep(tombstones)
        ids = [one.value for one in tombstones if one.kind == "id"]
        if ids and self._ctx.options.celery == "on":
            for start in range(0, len(ids), _CHUNK):
                await broadcast_revoke(self._ctx, ids[start : start + _CHUNK])
        # Last: everybody has heard of it by now.
        await self._ctx.journal.kept(until=max((one.expires for one in tombstones), default=0.0))
        return CancelReport()

    async def send(self, command: Command) -> None:
        """Tell listeners.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
            EncodeError: an argument cannot be written.
        """
        self._ctx.check()
        destination = None if command.destination is None else list(command.destination)
        body = {"name": command.name, "arguments": dict(command.arguments), "destination": destination}
        exchange = await signals_exchange(self._ctx)
        properties = Properties(content_type=codec.JSON, delivery_mode=1)
        data = codec.dumps(body, name="command")
        await self._ctx.side_publisher.publish(properties, data, routing_key="", exchange=exchange, mandatory=False)

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make a worker known.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        self._ctx.check()
        await self._heartbeats.write(heartbeat)

    async def again(self) -> None:
        """The connection is back: follow again.

        Raises:
            TranshipError: it could not be.
        """
        if self._feed is not None:
            await self._feed.again()

    async def aclose(self) -> None:
        """End the feed."""
        if self._feed is not None:
            await self._feed.aclose()

    async def _keep(self, tombstones: Sequence[Tombstone]) -> None:
        entries = [_entry(tombstones[start : start + _CHUNK]) for start in range(0, len(tombstones), _CHUNK)]
        await self._ctx.journal.write(entries)


def _entry(tombstones: Sequence[Tombstone]) -> dict[str, Any]:
    for one in tombstones:
        if one.kind not in ("id", "key"):
            raise InvalidOptionError(f"tombstone kind {one.kind!r} is unknown; use 'id' or 'key'", option="kind")
    return {"tombstones": [[one.kind, one.value, one.expires, one.running] for one in tombstones]}
