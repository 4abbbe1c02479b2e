"""Where a task of a level goes, when others than tranship's workers may be the ones who read its queue."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from tranship.driver import Slot
from tranship.envelope import Priority
from tranship_rabbitmq._names import Physical

if TYPE_CHECKING:
    from tranship_rabbitmq._context import Context
    from tranship_rabbitmq._topology import Topology

__all__ = ["Routes"]

log = logging.getLogger("tranship.rabbitmq")

BELIEVED: Final = 10.0
"""Seconds that what was seen is believed."""
_LOOKS: Final = 3
_PAUSE: Final = 0.02
"""Looks, and seconds between them: a worker of ours that is just turning to a task consumes from nothing."""


class Routes:
    """Finds the queue on the server for each level of a queue, over one connection.

    Workers of ours read all levels. Celery's read the plain queue alone, unless they are told to: what is sent to
    another one would wait for ever. So before a task of another level than *normal* is sent, who reads is looked at.
    With the option ``max_priority`` all levels are in the one queue, and there is nothing to look at.

    Args:
        ctx: of the backend.
        topology: looks, and declares.
    """

    def __init__(self, ctx: Context, topology: Topology) -> None:
        self._ctx, self._names, self._topology = ctx, ctx.names, topology
        self._found: dict[Slot, tuple[str, int, float]] = {}
        """Queue on the server, number there, and until when that is believed."""

    def ready(self, slot: Slot) -> bool:
        """Whether a task can be sent without looking, or declaring anything."""
        if self._is_plain(slot):
            return self._topology.knows(self._names.place(*slot)[0])
        found = self._found.get(slot)
        return found is not None and found[2] > _now() and self._topology.knows(found[0])

    def place(self, slot: Slot) -> tuple[str, int]:
        """Return the queue on the server, and the number there; :meth:`find` has been called."""
        found = None if self._is_plain(slot) else self._found.get(slot)
        return self._names.place(*slot) if found is None else found[:2]

    def physical(self, slot: Slot) -> Physical:
        """Return the same queue, as what is declared."""
        name, _ = self.place(slot)
        level = slot[1] if name == self._names.place(*slot)[0] else Priority.NORMAL
        return Physical(name, slot[0], level)

    async def find(self, slot: Slot) -> None:
        """Look where tasks of this queue and level have to go.

        Raises:
            BrokerRefused, BrokerUnreachable.
        """
        if self._is_plain(slot):
            return
        found = self._found.get(slot)
        if found is None or found[2] <= _now():
            self._found[slot] = (*await self._look(slot), _now() + BELIEVED)

    def forget(self, slot: Slot) -> None:
        """The queue has gone."""
        self._topology.forget(self.place(slot)[0])
        self._found.pop(slot, None)

    def _is_plain(self, slot: Slot) -> bool:
        return slot[1] is Priority.NORMAL or self._names.shared

    async def _look(self, slot: Slot) -> tuple[str, int]:
        own, (plain, _) = self._names.place(*slot), self._names.place(slot[0], Priority.NORMAL)
        there = await self._topology.look(plain)
        if there is None:
            return own
        await self._topology.have(Physical(plain, slot[0], Priority.NORMAL))
        if top := self._ctx.tops.get(plain):
            # As what a Celery producer says nothing of, normal has 0 there, and nothing is below that.
            return plain, top if slot[1] is Priority.HIGH else 0
        return own if await self._is_read(own[0], plain) else self._instead(own[0], plain)

    async def _is_read(self, own: str, plain: str) -> bool:
        """Whether whoever reads the queue reads this level of it, as far as one can see."""
        for attempt in range(_LOOKS):
            if attempt:
                await asyncio.sleep(_PAUSE)
            level, queue = await self._topology.look(own), await self._topology.look(plain)
            if level is not None and level.consumers:
                return True
            if queue is None or not queue.consumers:
                # Nobody is there, or everybody is busy. Celery has an exchange of the queue's name; workers of ours
                # declare all levels.
                return level is not None or not await self._topology.has_exchange(plain)
        return False

    def _instead(self, own: str, plain: str) -> tuple[str, int]:
        if own not in self._ctx.told:
            self._ctx.told.add(own)
            log.warning(
                "queue %r is read by others than tranship's workers, and nobody reads %r: what is meant for that goes "
                "to %r as well, with no precedence. Have a worker read it (celery worker -Q %s,%s), or have one queue "
                "with priorities: task_queue_max_priority at Celery, and max_priority in the URL",
                plain,
                own,
                plain,
                plain,
                own,
            )
        return plain, 0


def _now() -> float:
    return asyncio.get_running_loop().time()
