"""What an operator sees and does: queues, workers, dead letters. What the driver cannot serve is refused here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from tranship.driver._answers import listed
from tranship.driver._dead import DeadLetters, Letters
from tranship.driver._dead_queues import DeadQueues, folded
from tranship.driver._dedup import Dedup
from tranship.driver._delay import Delays
from tranship.driver._nouns import Outgoing
from tranship.driver._outcomes import Outcomes
from tranship.driver._packing import headers_bytes
from tranship.driver._queue import Counting, CountingSome, Shared, traits_of
from tranship.driver._removal import Removal
from tranship.driver._rows import Rows
from tranship.driver._signal_store import SignalStore
from tranship.driver._supervisor import Supervisor
from tranship.envelope import DeadLetter
from tranship.errors import TranshipError, UnsupportedError
from tranship.ports import Heartbeat, QueuedTask, QueueInfo
from tranship.protocol import Message, restarted

__all__ = ["DriverInspector"]


class DriverInspector:
    """The inspector; see :class:`tranship.ports.Inspector`.

    Args:
        supervisor: of the backend.
        rows: the table.
        store: returns where heartbeats are kept.
        outcomes, delays, dedup, removal: of the backend.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        rows: Rows,
        store: Callable[[], SignalStore],
        *,
        outcomes: Outcomes,
        delays: Delays,
        dedup: Dedup,
        removal: Removal,
    ) -> None:
        self._supervisor, self._store = supervisor, store
        self._outcomes, self._delays, self._dedup, self._removal = outcomes, delays, dedup, removal
        self._dead_rows, self._dead_queues = DeadLetters(rows), DeadQueues(supervisor)

    @property
    def peek_disturbs(self) -> bool:
        """Whether looking at dead letters takes them, and gives them back."""
        return self._letters is self._dead_queues

    @property
    def _letters(self) -> Letters:
        """The dead letters; where there is a table, in it."""
        return self._dead_rows if self._supervisor.current.table is not None else self._dead_queues

    # Queues and workers.

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what is in each queue."""
        return await self._supervisor.together(self._queues())

    async def ready(self, queues: Collection[str]) -> int:
        """Count what could be taken from ``queues`` now."""
        queue = self._supervisor.current.queue
        if isinstance(queue, CountingSome):
            return await self._supervisor.call("ready", lambda _: queue.ready(queues))
        infos = await self._supervisor.together(self._counted())
        return sum(sum(info.ready.values()) for info in infos if info.name in queues)

    async def may_be_read(self, queue: str) -> bool:
        """Whether anybody may read ``queue`` who sends no heartbeats."""
        shared = self._supervisor.current.queue
        if not isinstance(shared, Shared):
            return False
        return await self._supervisor.call("may_be_read", lambda _: shared.may_be_read(queue))

    async def _counted(self) -> Sequence[QueueInfo]:
        queue = self._supervisor.current.queue
        if not isinstance(queue, Counting):
            raise UnsupportedError(f"{self._supervisor.name} cannot say what is in its queues")
        found = await self._supervisor.run("queues", lambda _: queue.queues())
        return listed(self._supervisor.name, "queues", found, QueueInfo)

    async def _queues(self) -> list[QueueInfo]:
        counted = await self._counted()
        connection = self._supervisor.current
        if connection.table is None:
            return folded(counted)
        infos = {info.name: info for info in counted}
        dead = Counter([letter.queue async for letter in self._dead_rows.each()])
        keeps = not traits_of(connection.queue).delays
        delayed = Counter([one.facts.queue async for one in self._delays.waiting()] if keeps else ())
        for name in dead.keys() | delayed.keys() | infos.keys():
            info = infos.get(name) or QueueInfo(name=name, ready={}, delayed=0, in_flight=0, oldest_age=0.0)
            infos[name] = replace(info, dead=dead[name], delayed=delayed[name] if keeps else info.delayed)
        return [infos[name] for name in sorted(infos)]

    async def waiting(self, queue: str, *, limit: int = 100) -> Sequence[QueuedTask]:
        """List what waits in a queue."""
        return await self._supervisor.together(self._removal.waiting(queue, limit))

    async def purge(self, queue: str, ids: Sequence[str] | None = None) -> Sequence[str]:
        """Remove what waits in a queue."""
        return await self._supervisor.together(self._removal.purge(queue, None if ids is None else set(ids)))

    async def workers(self) -> Sequence[Heartbeat]:
        """List who has said something in the last minute."""
        beats = await self._supervisor.together(self._store().beats())
        return sorted(beats, key=lambda beat: beat.worker)

    # Dead letters.

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """List dead letters, oldest first."""
        return await self._supervisor.together(self._letters.page(queue, limit, after))

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Show dead letters."""
        return await self._supervisor.together(self._letters.named(ids))

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again, as if they were new."""
        return await self._supervisor.together(self._letters.replay(ids, self._send_again))

    async def _send_again(self, message: Outgoing, letter: DeadLetter) -> None:
        """Send a message as if it were new: with neither result nor attempts nor a known id."""
        raw = replace(message.message, headers=restarted(headers_bytes(message.message)))
        fresh = Outgoing(message.facts._replace(attempt=0), raw, mark=letter.id)
        keeps_rows = self._supervisor.current.table is not None
        if keeps_rows or not self._outcomes.are_rows:
            await self._outcomes.forget([fresh.id])
        if keeps_rows:
            await self._dedup.forget(fresh.id)
        (answer,) = await self._supervisor.answers("send", lambda c: c.queue.send([fresh]), 1)
        if isinstance(answer, TranshipError):
            raise answer

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters."""
        return await self._supervisor.together(self._letters.purge(ids, queue))

    async def dead_add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep dead letters of another broker."""
        await self._supervisor.together(self._letters.add(letters, messages))
