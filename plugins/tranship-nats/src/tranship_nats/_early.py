"""Taking what is not due yet: for who carries a backlog elsewhere.

There is no lease on the schedule. What was taken stays there until it is settled, and goes to its queue if it becomes
due before that; settling it then answers LOST.
"""

from __future__ import annotations

from collections.abc import Sequence

from tranship.ports import CountKind, Delivery
from tranship.protocol import whole_of
from tranship_nats._api import Stored
from tranship_nats._context import Context
from tranship_nats._held import Held
from tranship_nats._message import raw_of

__all__ = ["Early"]


class Early:
    """Takes from the schedule, the earliest first.

    Args:
        ctx: the backend's.
        queues: whose tasks.
    """

    def __init__(self, ctx: Context, queues: Sequence[str]) -> None:
        self._ctx = ctx
        self._queues = queues
        self._listed: list[str] = []
        self._out: dict[int, Held] = {}

    async def take(self, limit: int) -> list[Delivery]:
        """Return up to ``limit`` tasks that are not in anybody's hands here."""
        self._out = {seq: held for seq, held in self._out.items() if not held.done}
        if len(self._listed) < limit:
            # What was put back since, or came since, is not in the list.
            await self._list()
        return [self._delivery(one) for one in await self._next(limit)]

    async def _list(self) -> None:
        stream = await self._ctx.streams.need("delay")
        subjects: list[str] = []
        for queue in self._queues:
            subjects += await self._ctx.api.subjects(stream, self._ctx.names.delayed_of(queue=queue))
        self._listed = sorted(subjects, key=_due, reverse=True)

    async def _next(self, limit: int) -> list[Stored]:
        api, stream = self._ctx.api, self._ctx.names.delay
        found: list[Stored] = []
        while self._listed and len(found) < limit:
            part = [self._listed.pop() for _ in range(min(limit - len(found), len(self._listed)))]
            answers = await api.make_all([api.getting(stream, {"last_by_subj": subject}) for subject in part])
            stored = [api.read(answer, stream) for answer in answers]
            found += [one for one in stored if one is not None and one.seq not in self._out]
        return found

    def _delivery(self, stored: Stored) -> Delivery:
        queue, level = self._ctx.names.place_of(stored.subject)
        held = self._out[stored.seq] = Held(b"", stored.seq, stored.block, stored.data, float("inf"))
        raw = raw_of(stored.block, stored.data)
        return Delivery(raw, queue, level, held, 1, CountKind.AT_LEAST, self._ctx.link.generation)


def _due(subject: str) -> int:
    return whole_of(subject.rsplit(".", 1)[1]) or 0
