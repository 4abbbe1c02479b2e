"""Taking what is not due yet, to move it elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tranship.checks import whole
from tranship.driver._connection import Connection
from tranship.driver._consumer import CLAIMED, DriverConsumer
from tranship.driver._nouns import Stored, Taken
from tranship.driver._queue import Picking, Scanning, traits_of
from tranship.errors import UnsupportedError
from tranship.ports import Received

__all__ = ["EarlyConsumer", "takes_early"]


def takes_early(connection: Connection) -> bool:
    """Whether what is not due yet can be taken over a connection: from the table, or from the queue."""
    queue = connection.queue
    if not traits_of(queue).delays:
        return connection.table is not None
    return isinstance(queue, Scanning) and isinstance(queue, Picking)


class EarlyConsumer(DriverConsumer):
    """A consumer that takes what is not due yet, too; see :class:`tranship.ports.EarlyConsumer`."""

    async def receive_early(self, limit: int) -> Received:
        """Return messages that are not due yet."""
        whole("limit", limit)
        self._check()
        with self._receiver:
            taken = await self._supervisor.together(self._early(limit))
            return Received(self._handed_out(taken))

    async def _early(self, limit: int) -> Sequence[Taken]:
        connection, generation = self._supervisor.current, self._supervisor.generation
        taken = await self._taken_early(connection, limit)
        self._stamp(taken, generation, self._loop.time())
        return taken

    async def _taken_early(self, connection: Connection, limit: int) -> Sequence[Taken]:
        queue = connection.queue
        if not self._traits.delays and connection.table is not None:
            waiting = [one async for one in self._delays.waiting() if one.facts.queue in self._turns.queues]
            claimed = await self._delays.claim(waiting[:limit], self.lease or CLAIMED)
            return [one.taken() for one in claimed]
        if not isinstance(queue, Scanning) or not isinstance(queue, Picking):
            raise UnsupportedError(f"{self._supervisor.name} cannot take messages before they are due")
        found: list[Stored] = []
        for name in self._turns.queues:
            found += await self._supervisor.run("scan", partial(_scan_delayed, queue, name, limit))
        refs = [one.ref for one in found[:limit]]
        return await self._supervisor.run("pick", lambda _: queue.pick(refs))


async def _scan_delayed(queue: Scanning, name: str, limit: int, _connection: Connection) -> Sequence[Stored]:
    return await queue.scan(name, "delayed", limit)
