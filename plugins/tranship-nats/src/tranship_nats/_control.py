"""The control channel: cancels in a bucket, commands on a subject, heartbeats in a bucket that forgets."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from tranship.envelope import ErrorInfo, TaskResult, TaskState
from tranship.guards import one_listener
from tranship.ports import CancelReport, Command, Heartbeat, SignalSink, StoredResult, Tombstone
from tranship.protocol import encode_result
from tranship_nats._context import Context
from tranship_nats._feed import Feed
from tranship_nats._names import token
from tranship_nats._results import NatsResults
from tranship_nats._settling import stored
from tranship_nats._signals import (
    beat_bytes,
    command_bytes,
    key_of,
    tombstone_bytes,
)

__all__ = ["NatsControl"]

log = logging.getLogger("tranship.nats")


class NatsControl:
    """See :class:`tranship.ports.ControlChannel`.

    Args:
        ctx: the backend's.
        results: where removed tasks get their result.
    """

    def __init__(self, ctx: Context, results: NatsResults) -> None:
        self._ctx = ctx
        self._results = results
        self._feed: Feed | None = None

    async def listen(self, sink: SignalSink, *, worker: str) -> None:
        """Replay live tombstones, then follow."""
        self._ctx.check()
        one_listener(self._feed)
        feed = self._feed = Feed(self._ctx, sink, worker)
        try:
            await feed.start()
        except BaseException:
            feed.close()
            self._feed = None
            raise

    async def cancel(self, tombstones: Sequence[Tombstone]) -> CancelReport:
        """Store tombstones, which tells listeners, and remove by id what is not due yet.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
            InvalidOptionError: a tombstone that cannot be stored; nothing was done.
        """
        ctx = self._ctx
        ctx.check()
        asks = [(ctx.names.key("cancels", key_of(one)).encode(), b"", tombstone_bytes(one)) for one in tombstones]
        await ctx.streams.need("cancels")
        for answer in await ctx.api.make_all(asks):
            stored(ctx, "cancels", answer)
        return CancelReport(removed=await self._remove([one.value for one in tombstones if one.kind == "id"]))

    async def send(self, command: Command) -> None:
        """Tell listeners.

        Raises:
            BrokerUnreachable.
            EncodeError: an argument cannot be written.
        """
        self._ctx.check()
        payload = command_bytes(command)
        if not self._ctx.link.up:
            raise self._ctx.link.down()
        self._ctx.link.publish(self._ctx.names.signals.encode(), payload)
        await self._ctx.link.settled()

    async def beat(self, heartbeat: Heartbeat) -> None:
        """Make a worker known."""
        ctx = self._ctx
        ctx.check()
        stream = await ctx.streams.need("workers")
        key = ctx.names.key("workers", token(heartbeat.worker[:200], "worker"))
        if heartbeat.stopping:
            await ctx.api.purge(stream, key)
            return
        (answer,) = await ctx.link.ask_all([(key.encode(), b"", beat_bytes(heartbeat))])
        stored(ctx, "workers", answer)

    def close(self) -> None:
        """End the feed."""
        if self._feed is not None:
            self._feed.close()

    async def _remove(self, ids: Sequence[str]) -> list[str]:
        """Take tasks out of the schedule; return which, their results stored."""
        if not ids:
            return []
        stream = await self._ctx.streams.need("delay")
        removed = [task_id for task_id in ids if await self._unscheduled(stream, task_id)]
        if removed:
            await self._results.put([_cancelled(task_id) for task_id in removed])
        return removed

    async def _unscheduled(self, stream: str, task_id: str) -> bool:
        """Delete a task from the schedule; whether it was there.

        One message at a time: purging a subject makes the server forget what else its consumer has given back
        until later.
        """
        found = False
        async for scheduled in self._ctx.api.walk(stream, self._ctx.names.delayed_of(task_id=task_id)):
            found = await self._ctx.api.delete(stream, scheduled.seq) or found
        return found


def _cancelled(task_id: str) -> StoredResult:
    state = TaskState.CANCELLED
    error = ErrorInfo(
        type="tranship.errors.TaskCancelled", message=f"task {task_id} was cancelled", code="TASK_CANCELLED"
    )
    result = TaskResult(id=task_id, state=state, error=error, finished_at=time.time())
    return StoredResult(id=task_id, state=state, document=encode_result(result))
