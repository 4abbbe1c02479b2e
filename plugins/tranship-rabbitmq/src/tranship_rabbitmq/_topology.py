"""Declaring: queues exist before anything is sent to them, as Celery would have made them, and are never changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from tranship.errors import BrokerRefused, BrokerUnreachable, TranshipError
from tranship_rabbitmq._errors import error_of, is_down, is_missing, mismatch, priorities, retryable
from tranship_rabbitmq._link import Link
from tranship_rabbitmq._names import Physical
from tranship_rabbitmq.amqp.channel import Channel, Reply
from tranship_rabbitmq.amqp.ends import ChannelEnded
from tranship_rabbitmq.amqp.methods import Method

if TYPE_CHECKING:
    from tranship_rabbitmq._context import Context

__all__ = ["WRITTEN_DOWN", "Topology", "when_there"]

T = TypeVar("T")
log = logging.getLogger("tranship.rabbitmq")

_DECISIVE: Final = {"x-queue-type": "queue_type", "x-max-priority": "max_priority"}
"""Arguments that a URL option stands for. Others are the operator's business."""
_LOCKED: Final = 405
_AWAY: Final = 0.1
"""Seconds between two looks at a queue whose node is not there yet."""
_LOOK: Final = 0.02
"""Seconds between two looks at a lock that somebody else has for some milliseconds."""
_STREAMS_KEPT: Final = "tranship.streams.kept"
"""An exchange that says by being there that a killed server would find its streams again."""
WRITTEN_DOWN: Final = 1.5
"""Seconds until a server has written down where a stream or a replicated queue is that it has just made."""
_LIMITS: Final = (4, 0)
"""The first version with a limit on deliveries that nobody has asked for."""
_FLAGS: Final = frozenset({"durable", "auto_delete", "exclusive"})


class Seen(NamedTuple):
    """What a queue says of itself."""

    ready: int
    """Messages that nobody has."""
    consumers: int


class Topology:
    """Declares over one connection, and remembers what it has declared.

    Args:
        link: the connection for publishing.
        ctx: of the backend.
        beside: makes another connection to the same servers.
    """

    def __init__(self, link: Link, ctx: Context, beside: Callable[[], Link]) -> None:
        self._link, self._ctx, self._beside = link, ctx, beside
        self._options, self._names = ctx.options, ctx.names
        self._known: set[str] = set()
        self._lock = asyncio.Lock()
        self._creating = asyncio.Lock()
        self._channel: Channel | None = None

    def knows(self, name: str) -> bool:
        """Whether the queue has been declared over this connection."""
        return name in self._known

    def forget(self, name: str) -> None:
        """The queue has gone."""
        self._known.discard(name)

    async def queues(self, queues: Iterable[str]) -> None:
        """Have every level of ``queues``.

        Raises:
            BrokerUnreachable, BrokerRefused: as :meth:`have`.
        """
        for physical in self._names.physical(queues):
            await self.have(physical)

    async def have(self, physical: Physical) -> None:
        """Have one queue for tasks.

        Raises:
            BrokerRefused: it is there, and another kind of queue; or we may not.
            BrokerUnreachable: no connection.
        """
        if not self.knows(physical.name):
            await self._declare(physical.name, self._arguments(physical))

    async def have_own(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Have a queue of ours, with these arguments.

        Raises:
            BrokerRefused, BrokerUnreachable.
        """
        if not self.knows(name):
            await self._declare(name, arguments)

    async def have_stream(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Have a stream, that is ready to be written to.

        A server of version 3.10 loses the connection of whoever writes to a stream that somebody else is just
        creating. So it is created under a lock: a queue that only one connection at a time can have. A server that
        cannot create one at the moment ends the connection that asks for it: it is created over another one.

        Raises:
            BrokerRefused, BrokerUnreachable.
        """
        async with self._creating:
            while not self.knows(name):
                await self._under_lock(f"{name}.lock", name, arguments)

    async def streams_kept(self) -> None:
        """Return once a killed server would find its streams again; there is one.

        RabbitMQ keeps a list of them, safely; but where that list is, it writes down about a second after the first
        stream of all was made.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        if self._ctx.streams_kept:
            return
        async with self._creating:
            if not self._ctx.streams_kept and not await self.has_exchange(_STREAMS_KEPT):
                # Who may not make the mark waits the next time again.
                with contextlib.suppress(BrokerRefused):
                    await self.written_down(_STREAMS_KEPT)
            self._ctx.streams_kept = True

    async def written_down(self, mark: str) -> None:
        """Return once a killed server would find again what was made before; the exchange ``mark`` then says so.

        RabbitMQ writes down where replicated queues and its list of streams are when nothing about them has changed for
        half a second, looked at every half a second, and says nothing then. Killed before, it never finds them
        again. So it is waited for, once in the life of a virtual host: by whoever finds no mark.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        await asyncio.sleep(WRITTEN_DOWN)
        await self.have_exchange(mark)

    async def have_exchange(self, name: str) -> None:
        """Have an exchange that routes by patterns.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        declaration: tuple[Any, ...] = (0, name, "topic", False, True, False, False, False, {})
        await self.call(f"declaring exchange {name!r}", "exchange.declare", *declaration)

    async def _under_lock(self, lock: str, name: str, arguments: Mapping[str, Any]) -> None:
        try:
            async with self._lock:
                # Exclusive and auto-deleted: gone with its owner, whatever happens.
                await self._call(f"locking {name!r}", "queue.declare", 0, lock, False, False, True, True, False, {})
        except ChannelEnded as why:
            if why.code != _LOCKED:
                raise error_of(why, doing=f"locking {name!r}") from why
            await asyncio.sleep(_LOOK)
            return
        try:
            if not await when_there(lambda: self._has_queue(name), seconds=self._link.command_timeout):
                await self._create_beside(name, arguments)
            await self._declare(name, arguments)
        finally:
            # An error here means that the connection has gone, and the lock with it. It must not hide a cancel.
            with contextlib.suppress(TranshipError):
                await self.call(f"unlocking {name!r}", "queue.delete", 0, lock, False, False, False)

    async def _create_beside(self, name: str, arguments: Mapping[str, Any]) -> None:
        link = self._beside()
        try:
            await link.open()
            await Topology(link, self._ctx, self._beside).have_own(name, arguments)
        finally:
            await link.aclose()

    async def counts(self, names: Iterable[str]) -> dict[str, int]:
        """Return how many messages are ready in each queue that there is.

        Raises:
            BrokerRefused, BrokerUnreachable.
        """
        async with self._lock:
            seen = {name: await self._look(name) for name in names}
        return {name: there.ready for name, there in seen.items() if there is not None}

    async def look(self, name: str) -> Seen | None:
        """Return what can be seen of a queue; None: there is none.

        Raises:
            BrokerRefused, BrokerUnreachable.
        """
        async with self._lock:
            return await self._look(name)

    async def _look(self, name: str) -> Seen | None:
        try:
            reply = await self._call(f"looking at {name!r}", *_declaration(name, {}, passive=True))
        except ChannelEnded as why:
            if not is_missing(why):
                raise error_of(why, doing=f"looking at {name!r}") from why
            return None
        assert isinstance(reply, Method)
        return Seen(*reply.arguments[1:3])

    async def has_exchange(self, name: str) -> bool:
        """Say whether there is an exchange of that name.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        declaration: tuple[Any, ...] = (0, name, "topic", True, True, False, False, False, {})
        return await self._has(f"looking for exchange {name!r}", "exchange.declare", *declaration)

    async def _has_queue(self, name: str) -> bool:
        return await self._has(f"looking for {name!r}", *_declaration(name, {}, passive=True))

    async def _has(self, doing: str, name: str, *arguments: Any) -> bool:
        async with self._lock:
            try:
                await self._call(doing, name, *arguments)
            except ChannelEnded as why:
                if not is_missing(why):
                    raise error_of(why, doing=doing) from why
                return False
        return True

    async def call(self, doing: str, name: str, *arguments: Any) -> Reply:
        """Declare, bind or delete anything else.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        async with self._lock:
            try:
                return await self._call(doing, name, *arguments)
            except ChannelEnded as why:
                raise error_of(why, doing=doing) from why

    async def _declare(self, name: str, arguments: Mapping[str, Any]) -> None:
        await when_there(lambda: self._declare_once(name, arguments), seconds=self._link.command_timeout)

    async def _declare_once(self, name: str, arguments: Mapping[str, Any]) -> None:
        async with self._lock:
            if name in self._known:
                return
            try:
                await self._call(f"declaring {name!r}", *_declaration(name, arguments))
            except ChannelEnded as why:
                await self._instead(name, arguments, why)
            self._known.add(name)
            self._ctx.worked.add(name)

    async def _instead(self, name: str, arguments: Mapping[str, Any], why: ChannelEnded) -> None:
        """It could not be declared: it may be there all the same."""
        found = mismatch(why)
        if found is not None:
            self._compare(name, arguments, *found, why)
        elif why.code == 403:
            # Who may not make queues may still use those that are there.
            await self._exists(name, why)
        else:
            raise error_of(why, doing=f"declaring {name!r}") from why

    async def _exists(self, name: str, refused: ChannelEnded) -> None:
        try:
            await self._call(f"looking for {name!r}", *_declaration(name, {}, passive=True))
        except ChannelEnded as why:
            error = error_of(refused, doing=f"declaring {name!r}, which does not exist yet")
            raise (retryable(error) if name in self._ctx.worked else error) from why

    def _compare(self, name: str, arguments: Mapping[str, Any], argument: str, words: str, why: ChannelEnded) -> None:
        if argument in _DECISIVE and (argument != "x-max-priority" or argument in arguments):
            option = _DECISIVE[argument]
            raise BrokerRefused(
                f"queue {name!r} exists with another {argument}: received {words}. Make the URL's option {option} "
                "say what the queue is, or use another queue; what exists is never changed"
            ) from why
        if argument in _FLAGS or name.startswith(self._names.own("")):
            raise BrokerRefused(
                f"queue {name!r} exists with another {argument!r}: received {words}. Delete it once it is empty, or "
                "use another queue; what exists is never changed"
            ) from why
        if argument == "x-max-priority" and (top := priorities(words)):
            self._ctx.tops[name] = top
        if name not in self._ctx.odd:
            self._ctx.odd[name] = f"{argument}: received {words}"
            log.info("queue %r is used as it is, with arguments of its own (%s)", name, self._ctx.odd[name])

    def _arguments(self, physical: Physical) -> dict[str, Any]:
        if physical.dead:
            return {}
        if self._options.queue_type == "quorum":
            # From 4.0 on, the server drops what was delivered 20 times; how often is too often, the worker says.
            unlimited = {"x-delivery-limit": -1} if self._link.version >= _LIMITS else {}
            return {"x-queue-type": "quorum", **unlimited}
        return {"x-max-priority": self._options.max_priority} if self._options.max_priority else {}

    async def _call(self, doing: str, name: str, *arguments: Any) -> Reply:
        if self._channel is None or self._channel.ended is not None:
            self._channel = await self._link.channel()
        return await self._link.call(self._channel, doing, name, *arguments)


async def when_there(attempt: Callable[[], Awaitable[T]], *, seconds: float) -> T:
    """Return what ``attempt`` returns; a server that has just started gets ``seconds`` to find its queues again.

    Raises:
        BrokerUnreachable: it has not found them; and whatever else ``attempt`` raises.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            return await attempt()
        except BrokerUnreachable as error:
            if not is_down(error) or loop.time() > until:
                raise
        await asyncio.sleep(_AWAY)


def _declaration(name: str, arguments: Mapping[str, Any], *, passive: bool = False) -> tuple[Any, ...]:
    # Durable; neither exclusive nor auto-deleted: as Celery declares.
    return ("queue.declare", 0, name, passive, True, False, False, False, arguments)
