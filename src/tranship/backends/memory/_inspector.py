"""The inspector."""

from __future__ import annotations

from collections.abc import Sequence

from tranship.backends.memory._ports import Gate
from tranship.envelope import DeadLetter
from tranship.ports import Heartbeat, QueueInfo
from tranship.protocol import Message

__all__ = ["MemoryInspector"]


class MemoryInspector:
    """Looks without disturbing."""

    peek_disturbs: bool = False

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def queues(self) -> Sequence[QueueInfo]:
        """Every queue with something in it, by name."""
        with self._gate.enter() as space:
            return space.infos()

    async def workers(self) -> Sequence[Heartbeat]:
        """The latest beat of every worker heard of in the last minute, by name."""
        with self._gate.enter() as space:
            return space.signals.workers()

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """Dead letters, oldest first."""
        with self._gate.enter() as space:
            return space.dead.page(queue, limit, after)

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """The dead letters of these ids, their own or their tasks'."""
        with self._gate.enter() as space:
            return [letter for letter, _ in space.dead.find(ids)]

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again; return the ids that were found."""
        with self._gate.enter() as space:
            return space.replay(ids)

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters by id, of a queue, or all; return how many."""
        with self._gate.enter() as space:
            return space.dead.purge(ids, queue)

    async def dead_add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep dead letters of another broker."""
        with self._gate.enter() as space:
            for letter, message in zip(letters, messages, strict=True):
                space.adopt(letter, message)
