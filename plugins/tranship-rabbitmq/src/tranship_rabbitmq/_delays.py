"""The delay topology: queues for what is not due yet, each holding what passes for its share of the delay.

The delay is a number of ticks, written in binary into the routing key. Level *k* has an exchange: where bit *k* is
set the message goes to the level's queue, which lets go of it after 2^k ticks, else straight to the next level down.
All messages of one queue wait equally long, so none waits behind another. The last exchange routes to the task's own
queue, whose arguments stay untouched. The queues are replicated ones that let go of a message only when the next
has confirmed it: a killed server loses none.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from math import ceil
from typing import Final

from tranship.driver import Outgoing
from tranship_rabbitmq._publisher import Done, Publisher
from tranship_rabbitmq._routes import Routes
from tranship_rabbitmq._tables import DELAYING
from tranship_rabbitmq._topology import Topology

__all__ = ["TICK", "DelayTopology"]

TICK: Final = 0.1
"""Seconds."""
_LEVELS: Final = 28
"""2^28 ticks are 310 days; what is to wait for longer is sent round again by whoever gets it then."""
_LONGEST: Final = 2**_LEVELS - 1
_REST: Final = round(2 * 86_400 / TICK)
"""Ticks that are left for the last round at least: what comes a day early is not taken for a matter of clocks."""
_KEPT: Final = "tranship.delay.kept"
"""An exchange that says by being there that a killed server would find the queues again."""


class DelayTopology:
    """Sends messages into it; builds it when it is first needed. Namespaces share it: it has no names of theirs.

    Args:
        routes: where tasks go when they are due, as it is seen now.
        publisher, topology: of the connection.
    """

    def __init__(self, routes: Routes, publisher: Publisher, topology: Topology) -> None:
        self._routes, self._publisher, self._topology = routes, publisher, topology
        self._building = asyncio.Lock()
        self._bound: set[str] = set()
        self._built = False

    def forget(self) -> None:
        """A part of it has gone: build it again."""
        self._built = False

    async def prepare(self, message: Outgoing) -> None:
        """Have everything that ``message`` needs on its way.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        async with self._building:
            if not self._built:
                self._bound.clear()
                await self._build_all()
                self._built = True
            await self._bind(message)

    def post(self, message: Outgoing, done: Done) -> None:
        """Publish ``message``, for which :meth:`prepare` has returned.

        Raises:
            BrokerUnreachable, EncodeError, MessageTooLarge: nothing was written.
        """
        name, number = self._routes.place(message.slot)
        ticks = _ticks(message)
        bits = ".".join(f"{ticks:0{_LEVELS}b}")
        exchange = _name(ticks.bit_length() - 1)
        self._publisher.post(message, f"{bits}.{_hash(name)}", number, done, exchange=exchange)

    async def _build_all(self) -> None:
        topology = self._topology
        await topology.have_exchange("tranship.due")
        is_kept = await topology.has_exchange(_KEPT) and bool(await topology.counts([_name(_LEVELS - 1)]))
        for level in range(_LEVELS):
            await self._build(level)
        if not is_kept:
            # Only then a message is taken.
            await topology.written_down(_KEPT)

    async def _build(self, level: int) -> None:
        below = _name(level - 1) if level else "tranship.due"
        own = _name(level)
        await self._topology.have_exchange(own)
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": round(2**level * TICK * 1000),
            "x-dead-letter-exchange": below,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        await self._topology.have_own(own, arguments)
        stars = "*." * (_LEVELS - 1 - level)
        call = self._topology.call
        await call(f"binding {own!r}", "queue.bind", 0, own, own, f"{stars}1.#", False, {})
        await call(f"binding {own!r}", "exchange.bind", 0, below, own, f"{stars}0.#", False, {})

    async def _bind(self, message: Outgoing) -> None:
        physical = self._routes.physical(message.slot)
        await self._topology.have(physical)
        name = physical.name
        if name not in self._bound:
            key = f"#.{_hash(name)}"
            await self._topology.call(f"binding {name!r}", "queue.bind", 0, name, "tranship.due", key, False, {})
            self._bound.add(name)


def _name(level: int) -> str:
    return f"{DELAYING}{level}"


def _ticks(message: Outgoing) -> int:
    wait = (message.ready) - time.time()
    ticks = max(1, ceil(wait / TICK))
    return ticks if ticks <= _LONGEST else min(_LONGEST, ticks - _REST)


def _hash(name: str) -> str:
    """One word of a routing key for any name."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]
