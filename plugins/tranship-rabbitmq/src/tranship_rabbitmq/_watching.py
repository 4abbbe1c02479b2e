"""Waiting without asking: one standing consumer per queue, so that the server wakes us."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

from tranship_rabbitmq._link import Link
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq.amqp.channel import Arrived, Channel, Reply
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["Watch"]

_TELLS: Final = (4, 0)
"""The first version that tells the consumers of every quorum queue when it has been deleted."""
_TELL: Final = ("basic.qos", 0, 65535, True)
"""Has older ones tell them.

A channel that hears of the deletion consumes again from a queue of that name, then forgets that queue: if somebody has
declared a new one meanwhile, the server pushes to a consumer that nobody hears, and the client is told nothing. A
channel with a limit for all of its consumers together cannot consume from a quorum queue, so that it gives up at once.
The limit is none, and is lifted by any ``basic.qos`` of the other kind, as each :meth:`Watch.start` begins with one.
"""


class Watch:
    """Standing consumers on one channel. Each holds a window of unsettled messages.

    Args:
        link: the connection.
        quorum: whether the queues are quorum queues.
        came: called with what was pushed.
        gone: called with a queue that has been deleted.
    """

    def __init__(
        self,
        link: Link,
        came: Callable[[Physical, Arrived], None],
        gone: Callable[[Physical], None],
        *,
        quorum: bool = False,
    ) -> None:
        self._link = link
        self._came = came
        self._gone = gone
        self._quorum = quorum
        self._numbers = itertools.count(1)
        self._watched: dict[str, Physical] = {}
        self._open: dict[str, int] = {}
        """Unsettled messages by consumer tag, also of consumers that have been cancelled."""
        self._window = 0
        self._quiet: list[str] = []
        """Consumers whose cancel has been answered. What was on its way to them comes after that."""

    def covers(self, physicals: Sequence[Physical]) -> bool:
        """Whether whatever comes to any of ``physicals``, and to no others, is pushed at once."""
        if {one.name for one in physicals} != {one.name for one in self._watched.values()}:
            return False
        return all(self._open.get(tag, 0) < self._window for tag in self._watched)

    async def start(self, channel: Channel, physicals: Collection[Physical], window: int) -> None:
        """Be woken by ``physicals``, each with a fresh window.

        Raises:
            Ended: the channel has.
            BrokerUnreachable: the connection has.
        """
        quiet, self._quiet = self._quiet, []
        self.stop(channel)
        number = next(self._numbers)
        fresh = {f"tranship.{number}.{place}": one for place, one in enumerate(physicals)}
        channel.on_cancelled = self._cancelled
        calls: list[tuple[Any, ...]] = [("basic.qos", 0, window, False)]
        for tag, one in fresh.items():
            channel.consumers[tag] = partial(self._pushed, one)
            calls.append(("basic.consume", 0, one.name, tag, False, False, False, False, {}))
        self._watched, self._window = fresh, window
        if self._quorum and self._link.version < _TELLS:
            calls.append(_TELL)
        await self._link.bounded(asyncio.gather(*(channel.call(*call) for call in calls)), doing="waiting for messages")
        # This was asked after their cancels had been answered: nothing is on its way to them any more.
        for tag in quiet:
            channel.consumers.pop(tag, None)

    def stop(self, channel: Channel) -> None:
        """Be woken no more; what is on its way still comes."""
        for tag in self._watched:
            channel.post(partial(self._stopped, tag), "basic.cancel", tag, False)
        self._watched = {}

    def lost(self) -> None:
        """The channel has ended."""
        self._watched = {}
        self._open.clear()
        self._quiet.clear()

    def settled(self, arrived: Arrived) -> None:
        """A message that was pushed has been settled."""
        left = self._open.get(arrived.consumer, 0) - 1
        if left > 0:
            self._open[arrived.consumer] = left
        else:
            self._open.pop(arrived.consumer, None)

    def _pushed(self, physical: Physical, arrived: Arrived) -> None:
        self._open[arrived.consumer] = self._open.get(arrived.consumer, 0) + 1
        self._came(physical, arrived)

    def _stopped(self, tag: str, _reply: Reply | Ended) -> None:
        self._quiet.append(tag)

    def _cancelled(self, tag: str) -> None:
        physical = self._watched.pop(tag, None)
        if physical is not None:
            self._gone(physical)
