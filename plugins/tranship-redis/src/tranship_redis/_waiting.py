"""What waits in a queue: looked at, and removed one by one or all."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from tranship.driver import Facts, cancelled_result, facts_read, queued_task
from tranship.envelope import Priority
from tranship.ports import QueuedTask
from tranship.protocol import PURGED
from tranship_redis._context import Context
from tranship_redis._element import read
from tranship_redis._scripts import Script

__all__ = ["Waiting"]

_PURGE: Final = Script("purge")
PAGE: Final = 200
"""Elements that are read at once, and removed in one step of the server's."""

Found = tuple[bytes, Facts]
"""An element of a list, or a delayed task's id; and what it says."""


class Waiting:
    """Of one backend.

    Args:
        context: of the backend.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def look(self, queue: str, limit: int) -> list[QueuedTask]:
        """Return what waits, as it would be taken, then what is delayed."""
        found: list[QueuedTask] = []
        for key, _, level in self._context.levels.lists([queue]):
            if left := limit - len(found):
                elements = await self._context.main.call("LRANGE", key, -left, -1)
                found += [queued_task(_facts(one, queue, level), "ready") for one in reversed(elements)]
        if left := limit - len(found):
            found += [queued_task(facts, "delayed") for _, facts in await self._delayed(queue, left)]
        return found

    async def purge(self, queue: str, ids: Collection[str] | None) -> list[str]:
        """Remove what waits; return the ids of what is gone."""
        removed: list[str] = []
        for key, _, level in self._context.levels.lists([queue]):
            removed += await (self._all(key, queue, level) if ids is None else self._some(key, queue, level, ids))
        return removed + await self._purge_delayed(queue, ids)

    async def _all(self, key: bytes, queue: str, level: Priority) -> list[str]:
        """Remove what is served next, until nothing is left, or others take it all."""
        removed: list[str] = []
        while elements := await self._context.main.call("LRANGE", key, -PAGE, -1):
            gone = await self._remove(queue, key, [(one, _facts(one, queue, level)) for one in reversed(elements)])
            if not gone:
                break
            removed += gone
        return removed

    async def _some(self, key: bytes, queue: str, level: Priority, ids: Collection[str]) -> list[str]:
        """Look through the list, the newest first: what comes meanwhile moves others on, so that none is missed."""
        removed: list[str] = []
        at = 0
        while elements := await self._context.main.call("LRANGE", key, at, at + PAGE - 1):
            found = [(one, _facts(one, queue, level)) for one in elements]
            gone = await self._remove(queue, key, [one for one in found if one[1].id in ids])
            removed += gone
            at += PAGE - len(gone)
        return removed

    async def _purge_delayed(self, queue: str, ids: Collection[str] | None) -> list[str]:
        (key, *_), *_ = self._context.levels.lists([queue])
        if ids is not None:
            wanted = [one.encode(errors="surrogatepass") for one in ids]
            return await self._remove(queue, key, (), await self._delayed(queue, PAGE, wanted))
        removed: list[str] = []
        while gone := await self._remove(queue, key, (), await self._delayed(queue, PAGE)):
            removed += gone
        return removed

    async def _delayed(self, queue: str, limit: int, ids: Sequence[bytes] | None = None) -> list[Found]:
        keys, call = self._context.keys, self._context.main.call
        if ids is None:
            ids = await call("ZRANGE", keys.delayed(queue), 0, limit - 1)
        if not ids:
            return []
        messages = await call("HMGET", keys.delayed_messages(queue), *ids)
        pairs = zip(ids, messages, strict=True)
        return [(one, _delayed_facts(message, queue, self._context)) for one, message in pairs if message is not None]

    async def _remove(
        self, queue: str, key: bytes, elements: Sequence[Found], delayed: Sequence[Found] = ()
    ) -> list[str]:
        if not elements and not delayed:
            return []
        keys = self._context.keys
        answers = await self._context.main.run(
            _PURGE,
            [key, keys.delayed(queue), keys.delayed_messages(queue), keys.delayed_queues],
            [len(elements), *(one for one, _ in (*elements, *delayed))],
        )
        gone = [facts for (_, facts), answer in zip((*elements, *delayed), answers, strict=True) if answer]
        kind = self._context.options.result_type
        told = [made for one in gone if (made := cancelled_result(one, PURGED, content_type=kind)) is not None]
        if told:
            await self._context.kit.results.put(told)
        return [one.id for one in gone]


def _facts(element: bytes, queue: str, level: Priority) -> Facts:
    return facts_read(read(element), queue, level)


def _delayed_facts(message: bytes, queue: str, context: Context) -> Facts:
    """Of what is written as its step, one digit, and its element."""
    step = message[:1]
    return _facts(message[1:], queue, context.levels.priority(int(step) if step.isdigit() else 0))
