"""Whether anybody reads the queue that a task is submitted to by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tranship.errors import QueueUnread, UnsupportedError
from tranship.task import TaskCall

if TYPE_CHECKING:
    from tranship.client._link import ClientLink
    from tranship.ports import Backend

__all__ = ["Readers", "check_read"]

BELIEVED: Final = 30.0
"""Seconds that a queue which is read is believed to be."""


class Readers:
    """Knows which queues are read, at one broker. A queue that is not is looked at each time: a worker may come.

    Args:
        backend: the broker.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._read: dict[str, float] = {}

    async def read(self, queue: str) -> bool:
        """Whether a worker reads ``queue``, as far as can be known: True where that cannot be ruled out.

        Raises:
            BrokerUnreachable: it does not answer.
        """
        now = asyncio.get_running_loop().time()
        if self._read.get(queue, 0.0) > now:
            return True
        found = await self._look(queue)
        if found:
            self._read[queue] = now + BELIEVED
        return found

    async def _look(self, queue: str) -> bool:
        try:
            inspector = self._backend.inspector()
            if any(queue in beat.queues for beat in await inspector.workers()):
                return True
        except UnsupportedError:
            # Workers do not say that they are there.
            return True
        # Loaded where it is asked: a client that is only made costs little.
        from tranship.ports import ReaderInspector

        return isinstance(inspector, ReaderInspector) and await inspector.may_be_read(queue)


async def check_read(link: ClientLink, calls: Sequence[TaskCall[Any]]) -> None:
    """Refuse tasks that are submitted by name to a queue that nobody reads; on the link's loop.

    Raises:
        QueueUnread: one of them; nothing was sent.
    """
    by_queue = {
        call.task.options_set.queue: call.task.name
        for call in calls
        if isinstance(call, TaskCall) and call.task.function is None
    }
    for queue, name in by_queue.items():
        if not await link.readers.read(queue):
            raise QueueUnread(
                f"task {name!r} was not submitted: no worker that is known reads queue {queue!r}. Start one, name the "
                f"task's queue (named({name!r}, queue=...), or the setting task_routes), or say unread_queues='accept' "
                "to have it wait for one",
                queue=queue,
            )
