"""What everybody has to know, and who comes later, too: one stream that each backend reads from its beginning.

It holds the names of queues, and cancels. A stream keeps what was read; every reader follows it by itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Final

from tranship import codec
from tranship.errors import TranshipError
from tranship_rabbitmq._announcing import Announcements
from tranship_rabbitmq._publisher import Publisher
from tranship_rabbitmq._streams import Entry, read
from tranship_rabbitmq._supervisor import Supervisor
from tranship_rabbitmq._topology import WRITTEN_DOWN, Topology
from tranship_rabbitmq.amqp.channel import Channel
from tranship_rabbitmq.amqp.content import Properties
from tranship_rabbitmq.amqp.ends import Ended

__all__ = ["MAX_AGE", "Journal"]

log = logging.getLogger("tranship.rabbitmq")

MAX_AGE: Final = "30D"
"""What is older may be dropped; names are entered again by whoever uses them."""
_SEGMENT: Final = 1_000_000
"""Bytes: only whole segments are dropped."""


class Journal:
    """One follower of one stream.

    Args:
        name: of the stream.
        consuming: the connection to read on.
        publisher: writes.
        topology: declares.
    """

    def __init__(self, name: str, consuming: Supervisor, publisher: Publisher, topology: Topology) -> None:
        self._name = name
        self._consuming = consuming
        self._publisher = publisher
        self._topology = topology
        self._channel: Channel | None = None
        self._wanted = False
        self._following_again: asyncio.Task[None] | None = None
        self._following = asyncio.Lock()
        self._listeners: list[Callable[[Entry], None]] = []
        self._from_the_first = False
        """Whether somebody listens who has not heard what was read before."""
        self._marks: dict[str, asyncio.Future[None]] = {}
        self.announcements = Announcements(self.write)
        """Of the queues that this backend uses, for inspectors."""
        self.queues: set[str] = set()
        """Every queue that was entered, once :meth:`sync` has returned."""

    def listen(self, listener: Callable[[Entry], None]) -> Callable[[], None]:
        """Call ``listener`` with every entry from the first on, which the next :meth:`sync` sees to, and with all of
        them again after a lost connection; return what ends that.
        """
        self._listeners.append(listener)
        self._from_the_first = True
        return lambda: self._listeners.remove(listener)

    async def write(self, entries: Sequence[Entry]) -> None:
        """Enter ``entries``; returns once they are stored.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
            EncodeError: an entry cannot be written.
        """
        await self._declare()
        bodies = [codec.dumps(entry, name="entry") for entry in entries]
        properties = Properties(content_type=codec.JSON, delivery_mode=2)
        await asyncio.gather(*(self._publisher.publish(properties, body, routing_key=self._name) for body in bodies))

    async def kept(self, *, until: float) -> None:
        """Return once what was entered outlives a server that is killed now, or is over before one would be back.

        Args:
            until: when it is over, in epoch seconds.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        if until > time.time() + WRITTEN_DOWN:
            await self._topology.streams_kept()

    async def sync(self) -> None:
        """Return once everything that had been entered by now has been read.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        await self._follow()
        await self.announcements.answered()
        mark = uuid.uuid4().hex
        seen = self._marks[mark] = asyncio.get_running_loop().create_future()
        try:
            await self.write([{"mark": mark}])
            await self._consuming.bounded(seen, doing=f"reading {self._name!r}")
        finally:
            del self._marks[mark]

    async def again(self) -> None:
        """The connection is back: read again, if anybody wants it.

        Raises:
            TranshipError: it could not be.
        """
        if self._wanted:
            await self._follow()

    async def aclose(self) -> None:
        """Follow no more."""
        self._wanted = False
        await self.announcements.aclose()
        if self._following_again is not None:
            self._following_again.cancel()
            await asyncio.wait({self._following_again})

    async def _declare(self) -> None:
        arguments = {"x-queue-type": "stream", "x-max-age": MAX_AGE, "x-stream-max-segment-size-bytes": _SEGMENT}
        await self._topology.have_stream(self._name, arguments)

    async def _follow(self) -> None:
        self._wanted = True
        async with self._following:
            old, afresh = self._channel, self._from_the_first
            if old is not None and old.ended is None and not afresh:
                return
            self._from_the_first = False
            try:
                await self._declare()
                self._channel = await read(self._consuming, self._name, "first", self._heard, self._cancelled)
                if old is not None and old.ended is None:
                    await self._leave(old)
            except BaseException:
                self._from_the_first |= afresh
                raise

    async def _leave(self, channel: Channel) -> None:
        """Read no more on ``channel``: everything comes from the first on over another one."""
        channel.consumers.clear()
        channel.on_cancelled = lambda _tag: None
        await self._consuming.bounded(channel.close(), doing=f"reading {self._name!r}")

    def _cancelled(self, channel: Channel) -> None:
        """The stream has been deleted."""
        log.warning("the stream %r has been deleted: cancels before now are forgotten", self._name)
        self._topology.forget(self._name)
        channel.end(Ended("its stream was deleted"))
        if self._wanted:
            self.announcements.repeat()
            self._following_again = asyncio.get_running_loop().create_task(self._mend())

    async def _mend(self) -> None:
        try:
            await self._follow()
        except TranshipError as error:
            log.warning("cancels are not heard until the connection is made anew: %s", error)

    def _heard(self, entry: Entry) -> None:
        if isinstance(queue := entry.get("queue"), str):
            self.queues.add(queue)
        elif isinstance(mark := entry.get("mark"), str):
            seen = self._marks.get(mark)
            if seen is not None and not seen.done():
                seen.set_result(None)
        else:
            self._tell(entry)

    def _tell(self, entry: Entry) -> None:
        for listener in self._listeners:
            try:
                listener(entry)
            except TranshipError:
                log.exception("a listener of %r failed", self._name)
