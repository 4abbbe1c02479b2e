"""Fetching exactly what is asked for, in strict order, in as few round trips as it takes.

``basic.get`` says how many messages are ready behind the one it brings. With that, one round trip asks each level
from the top, as deep as it is known to be, and stops at the level that is sure to have the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from tranship_rabbitmq._names import Physical
from tranship_rabbitmq._prefetch import PrefetchBuffer
from tranship_rabbitmq.amqp.channel import Arrived, Channel, Reply
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["Fetcher"]

Admit = Callable[[Physical, Arrived], None]


class Fetcher:
    """Fetches into a prefetch buffer.

    Args:
        buffer: what is there already counts.
        admit: called with what was fetched; it comes to the buffer, or is kept apart.
        enough: whether something has come that has to be dealt with before any more is fetched.
    """

    def __init__(self, buffer: PrefetchBuffer, admit: Admit, enough: Callable[[], bool] = lambda: False) -> None:
        self._buffer = buffer
        self._admit = admit
        self._enough = enough
        self._depths: dict[str, int] = {}
        """How many are ready in each queue, as far as was last heard."""

    def deepen(self, name: str, count: int) -> None:
        """So many more are ready in a queue."""
        self._depths[name] = self._depths.get(name, 0) + count

    def forget(self) -> None:
        """Nothing is known any more."""
        self._depths.clear()

    async def fetch(self, channel: Channel, want: int, skip: Collection[str]) -> None:
        """Have the first ``want`` messages in the buffer, or all there are; or something to be dealt with first.

        Raises:
            Ended: the channel has, with everything that was fetched on it.
        """
        asked: set[str] = set()
        while not self._enough() and (plan := self._plan(want, skip, asked)):
            asked.update(physical.name for physical, _ in plan)
            await self._ask(channel, plan)

    def _plan(self, want: int, skip: Collection[str], asked: Collection[str]) -> list[tuple[Physical, int]]:
        """Which queues to ask how often: the first level that is known to have any, and those above it to be sure.

        Where none is known to have any, one level after the other: what is fetched from a level too far down
        would be held here while somebody else is idle.
        """
        plan: list[tuple[Physical, int]] = []
        first: list[tuple[Physical, int]] = []
        for queues in self._buffer.levels(skip):
            held = sum(self._buffer.held(one.name) for one in queues)
            rich = [one for one in queues if self._depths.get(one.name)]
            if held >= want:
                return plan
            plan += [(one, 1) for one in queues if one not in rich and one.name not in asked]
            first = first or list(plan)
            want -= held
            if rich:
                return plan + self._shares(want, rich)
            if held and plan:
                return plan
        return first

    def _shares(self, want: int, rich: Sequence[Physical]) -> list[tuple[Physical, int]]:
        """Ask each of ``rich`` for its part, as far as it has any."""
        shares = []
        for place, one in enumerate(rich):
            share = min(-(-want // (len(rich) - place)), self._depths[one.name])
            want -= share
            shares.append((one, share))
        return [(one, share) for one, share in shares if share]

    async def _ask(self, channel: Channel, plan: Sequence[tuple[Physical, int]]) -> None:
        left = sum(times for _, times in plan)
        done: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()

        def answered(physical: Physical, reply: Reply | Ended) -> None:
            nonlocal left
            left -= 1
            if isinstance(reply, Arrived):
                self._depths[physical.name] = reply.left
                self._admit(physical, reply)
            else:
                self._depths[physical.name] = 0
            if not done.done() and (not left or isinstance(reply, Ended)):
                done.set_result(reply if isinstance(reply, Ended) else None)

        for physical in _each(plan):
            channel.post(partial(answered, physical), "basic.get", 0, physical.name, False)
        why = await done
        if why is not None:
            raise type(why)(why.text, why.code)


def _each(plan: Iterable[tuple[Physical, int]]) -> Iterable[Physical]:
    return (physical for physical, times in plan for _ in range(times))
