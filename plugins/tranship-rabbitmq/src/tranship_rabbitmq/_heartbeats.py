"""Who works: heartbeats in a stream that forgets soon, of which the last minute is read."""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from tranship import codec
from tranship.ports import Heartbeat, heartbeat_data, heartbeat_of
from tranship_rabbitmq._publisher import Publisher
from tranship_rabbitmq._streams import Entry, read
from tranship_rabbitmq._supervisor import Supervisor
from tranship_rabbitmq._topology import Topology
from tranship_rabbitmq.amqp.content import Properties

__all__ = ["Heartbeats"]

_MEMORY: Final = 60.0
"""Seconds after which a worker without a heartbeat is forgotten."""
_ARGUMENTS: Final = {"x-queue-type": "stream", "x-max-age": "1h", "x-stream-max-segment-size-bytes": 500_000}


class Heartbeats:
    """Writes and reads heartbeats.

    Args:
        name: of the stream.
        consuming: the connection to read on.
        publisher: writes.
        topology: declares.
    """

    def __init__(self, name: str, consuming: Supervisor, publisher: Publisher, topology: Topology) -> None:
        self._name = name
        self._consuming = consuming
        self._publisher = publisher
        self._topology = topology

    async def write(self, heartbeat: Heartbeat) -> None:
        """Make a worker known.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        await self._publish({"beat": heartbeat_data(heartbeat)})

    async def read(self) -> list[Heartbeat]:
        """Return the latest beat of every worker of the last minute, by name.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        await self._topology.have_stream(self._name, _ARGUMENTS)
        await self._consuming.open()
        since = time.time() - _MEMORY
        latest: dict[str, Heartbeat] = {}
        for entry in await self._entries(since):
            beat = heartbeat_of(entry.get("beat"))
            if beat is not None and beat.at >= since - _MEMORY:
                latest[beat.worker] = beat
        return sorted((beat for beat in latest.values() if not beat.stopping), key=lambda beat: beat.worker)

    async def _publish(self, entry: dict[str, Any]) -> None:
        await self._topology.have_stream(self._name, _ARGUMENTS)
        properties = Properties(content_type=codec.JSON, delivery_mode=2)
        await self._publisher.publish(properties, codec.dumps(entry, name="entry"), routing_key=self._name)

    async def _entries(self, since: float) -> list[Entry]:
        """Read from ``since`` to a mark of our own."""
        mark, found = uuid.uuid4().hex, list[Entry]()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def heard(entry: Entry) -> None:
            found.append(entry)
            if entry.get("mark") == mark and not done.done():
                done.set_result(None)

        channel = await read(self._consuming, self._name, datetime.fromtimestamp(since, UTC), heard)
        try:
            await self._publish({"mark": mark})
            await self._consuming.bounded(done, doing="reading heartbeats")
        finally:
            await self._consuming.bounded(channel.close(), doing="reading heartbeats")
        return found
