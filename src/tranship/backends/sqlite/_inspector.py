"""The inspector."""

from __future__ import annotations

from collections.abc import Sequence

from tranship.backends.sqlite._deadletters import ADD, DEAD, GET, PURGE, REPLAY
from tranship.backends.sqlite._hub import Hub
from tranship.backends.sqlite._inspection import QUEUES, WORKERS
from tranship.backends.sqlite._rows import new_task
from tranship.envelope import DeadLetter
from tranship.ports import Heartbeat, QueueInfo
from tranship.protocol import Message

__all__ = ["SqliteInspector"]


class SqliteInspector:
    """See :class:`tranship.ports.Inspector`."""

    peek_disturbs = False

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what is where. Counting grows with the number of tasks (some 0.1 s for a million), and
        this process writes nothing meanwhile.
        """
        self._hub.check()
        return await self._hub.writer.call(QUEUES, None)

    async def workers(self) -> Sequence[Heartbeat]:
        """The latest beats."""
        self._hub.check()
        return await self._hub.writer.call(WORKERS, None)

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """List dead letters."""
        self._hub.check()
        return await self._hub.writer.call(DEAD, (queue, limit, after))

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Show dead letters."""
        self._hub.check()
        return await self._hub.writer.call(GET, ids)

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again."""
        self._hub.check()
        return await self._hub.writer.call(REPLAY, ids, weight=len(ids))

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters."""
        self._hub.check()
        return await self._hub.writer.call(PURGE, (ids, queue))

    async def dead_add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep dead letters of another broker, all of them or none."""
        self._hub.check()
        tasks = [new_task(message, dedup_window=0.0) for message in messages]
        await self._hub.writer.call(ADD, list(zip(letters, tasks, strict=True)), weight=len(letters))
