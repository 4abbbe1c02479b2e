"""The inspector: what is in the queues, who works, and the dead letters."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from tranship.envelope import DeadLetter, Priority
from tranship.ports import Heartbeat, QueuedTask, QueueInfo
from tranship.protocol import Message, number_of
from tranship_redis._context import Context
from tranship_redis._deadcount import DeadCounts
from tranship_redis._deadletters import DeadLetters
from tranship_redis._keys import SEPARATOR
from tranship_redis._levels import STEPS
from tranship_redis._scripts import Script
from tranship_redis._waiting import Waiting

__all__ = ["RedisInspector"]

_INSPECT: Final = Script("inspect")
_NOTHING: Final[Sequence[Any]] = (0, 0, 0, 0, 0, b"", b"", b"", b"")
"""What a queue nobody has used since has."""


class RedisInspector:
    """See :class:`tranship.ports.Inspector`.

    Seen are the queues that tranship has used. What a Celery worker holds is not counted as in flight: nothing on
    the server says which queue it is from without being read whole.
    """

    peek_disturbs = False

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting = Waiting(context)
        self._letters = DeadLetters(context)
        self._counts = DeadCounts(context)

    async def queues(self) -> Sequence[QueueInfo]:
        """Count what is where."""
        self._context.check()
        keys = self._context.keys
        looked = self._context.main.run(_INSPECT, [keys.queues, keys.leases], [keys.prefix])
        (now, leases, *rows), dead = await asyncio.gather(looked, self._counts.read())
        held = self._held(leases)
        found = {row[0].decode(errors="replace"): row for row in rows}
        infos = [self._info(name, found.get(name), float(now), held, dead) for name in {*found, *held, *dead}]
        return sorted((info for info in infos if _has_something(info)), key=lambda info: info.name)

    async def waiting(self, queue: str, *, limit: int = 100) -> Sequence[QueuedTask]:
        """List what waits in a queue, Celery's messages too."""
        self._context.check()
        return await self._waiting.look(queue, limit)

    async def purge(self, queue: str, ids: Sequence[str] | None = None) -> Sequence[str]:
        """Remove what waits in a queue."""
        self._context.check()
        return await self._waiting.purge(queue, None if ids is None else set(ids))

    async def workers(self) -> Sequence[Heartbeat]:
        """The latest beats."""
        self._context.check()
        return await self._context.kit.inspector.workers()

    async def dead(self, queue: str | None = None, *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """List dead letters.

        Raises:
            InvalidOptionError: ``after`` is not a dead letter's id.
        """
        self._context.check()
        return await self._letters.page(queue, limit, after)

    async def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Show dead letters; a task's id stands for its latest death."""
        self._context.check()
        return await self._letters.find(ids)

    async def dead_replay(self, ids: Sequence[str]) -> Sequence[str]:
        """Queue dead letters again.

        Raises:
            MalformedMessage: some are not complete messages and stay where they are, because a Celery worker
                that takes one dies; all others of ``ids`` have been queued.
        """
        self._context.check()
        return await self._letters.replay(ids)

    async def dead_purge(self, ids: Sequence[str] | None = None, *, queue: str | None = None) -> int:
        """Delete dead letters."""
        self._context.check()
        return await self._letters.purge(ids, queue)

    async def dead_add(self, letters: Sequence[DeadLetter], messages: Sequence[Message]) -> None:
        """Keep dead letters of another broker."""
        self._context.check()
        await self._letters.add(letters, messages)

    def _held(self, leases: Sequence[Any]) -> Counter[str]:
        prefix = len(self._context.keys.prefix)
        held: Counter[str] = Counter()
        for key, count in zip(leases[::2], leases[1::2], strict=True):
            held[key[prefix:].partition(SEPARATOR)[0].decode(errors="replace")] += count
        return held

    def _info(
        self, name: str, row: Sequence[Any] | None, now: float, held: Counter[str], dead: Counter[str]
    ) -> QueueInfo:
        counts = _NOTHING if row is None else row[1:]
        ready = dict.fromkeys(Priority, 0)
        for step, count in zip(STEPS, counts[:4], strict=True):
            ready[self._context.levels.priority(step)] += count
        delayed, *stamps = counts[4:]
        return QueueInfo(
            name=name,
            ready=ready,
            delayed=delayed,
            in_flight=held[name],
            oldest_age=_age(now, stamps),
            dead=dead[name],
        )


def _age(now: float, stamps: Sequence[bytes]) -> float | None:
    """Return the age of the oldest; None: what is ready was sent by somebody who does not say when."""
    heads = [stamp for stamp in stamps if stamp]
    known = [number for stamp in heads if (number := number_of(stamp)) is not None]
    if not heads:
        return 0.0
    return max(0.0, now - min(known)) if known else None


def _has_something(info: QueueInfo) -> bool:
    return bool(any(info.ready.values()) or info.delayed or info.in_flight or info.dead)
