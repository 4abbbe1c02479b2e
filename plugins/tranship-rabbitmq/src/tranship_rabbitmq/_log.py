"""The log: a stream for each name, which keeps what was read, so that whoever comes later reads all of it. One of them
has the names of all queues.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from tranship.errors import BrokerUnreachable, SubmitUnknown, TranshipError
from tranship_rabbitmq._errors import error_of, retryable
from tranship_rabbitmq._link import Link
from tranship_rabbitmq._names import Names
from tranship_rabbitmq._publisher import Publisher
from tranship_rabbitmq._topology import WRITTEN_DOWN, Topology, when_there
from tranship_rabbitmq.amqp.channel import Arrived, Channel
from tranship_rabbitmq.amqp.content import Properties, properties_of
from tranship_rabbitmq.amqp.ends import Ended, Returned, WireEnded
from tranship_rabbitmq.amqp.table import TableError

__all__ = ["QueueNames", "RabbitLog"]

log = logging.getLogger("tranship.rabbitmq")

FIRST: Final = "first"
"""The offset of a stream's first entry."""
_LONG: Final = {"x-max-age": "30D", "x-stream-max-segment-size-bytes": 1_000_000}
"""What is older may be dropped; only whole segments are."""
_SHORT: Final = {"x-max-age": "1h", "x-stream-max-segment-size-bytes": 500_000}
_WINDOW: Final = 1000
"""Entries on their way: RabbitMQ wants a limit for streams."""
_MARK: Final = "mark"
"""Type of a message that is no entry, but tells its reader how far he has to read."""
QUEUES: Final = "queues"
PATIENCE: Final = 2.0
"""Seconds for one attempt, and for whoever waits for it."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0


class RabbitLog:
    """See :class:`tranship.driver.Log`.

    To read is to follow the stream from an offset on up to a mark of one's own.

    Args:
        names: of streams.
        consuming: the connection to read on.
        publisher: writes.
        topology: declares.
    """

    def __init__(self, names: Names, consuming: Link, publisher: Publisher, topology: Topology) -> None:
        self._names, self._consuming, self._publisher, self._topology = names, consuming, publisher, topology

    async def append(self, name: str, entries: Sequence[bytes]) -> None:
        """Publish entries; returns once they are stored.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        if entries:
            await self._publish(name, [(None, entry) for entry in entries])

    async def read(self, name: str, since: float = 0.0) -> Sequence[bytes]:
        """Follow the stream from its beginning on, or from a moment.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        entries, _ = await self.read_from(name, datetime.fromtimestamp(since, UTC) if since else FIRST)
        return entries

    async def read_from(self, name: str, offset: Any) -> tuple[list[bytes], int]:
        """Return the entries from an offset on, and the offset behind them.

        Args:
            name: of the log.
            offset: as RabbitMQ's ``x-stream-offset``.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        await self._declare(name)
        await self._consuming.open()
        reading, doing = _Reading(), f"reading {self._stream(name)!r}"
        channel = await when_there(lambda: self._follow(reading, name, offset), seconds=self._consuming.command_timeout)
        try:
            await self._publish(name, [(reading.mark, b"")])
            ended = await self._consuming.bounded(reading.done, doing=doing)
        except SubmitUnknown as why:
            # Whoever reads has submitted nothing: a mark that is stored twice is no harm.
            raise BrokerUnreachable(f"{doing}: the connection was lost") from why
        finally:
            channel.on_ended = lambda _why: None
            await self._consuming.bounded(channel.close(), doing=doing)
        if ended is not None:
            self._topology.forget(self._stream(name))
            error = error_of(ended, doing=doing)
            raise retryable(error) if isinstance(ended, WireEnded) else error
        return reading.entries, reading.end

    async def kept(self, *, until: float) -> None:
        """Return once what was appended outlives a server that is killed now, or is over before one would be back.

        Args:
            until: when it is over, in epoch seconds.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        if until > time.time() + WRITTEN_DOWN:
            await self._topology.streams_kept()

    def _stream(self, name: str) -> str:
        return self._names.own(name)

    async def _declare(self, name: str) -> None:
        kept = _SHORT if name == "heartbeats" else _LONG
        await self._topology.have_stream(self._stream(name), {"x-queue-type": "stream", **kept})

    async def _publish(self, name: str, messages: Sequence[tuple[str | None, bytes]]) -> None:
        """Publish entries, or marks of some reader."""
        await self._declare(name)
        stream = self._stream(name)
        entry = Properties(delivery_mode=2, correlation_id=stream)
        try:
            await self._publisher.publish_all(
                [
                    (entry if mark is None else replace(entry, message_id=mark, type=_MARK), body, stream)
                    for mark, body in messages
                ],
                mandatory=True,
            )
        except BrokerUnreachable as error:
            if isinstance(error.__cause__, Returned):
                self._topology.forget(stream)
            raise

    async def _follow(self, reading: _Reading, name: str, offset: Any) -> Channel:
        """Begin to read, and return the channel.

        Raises:
            BrokerRefused, BrokerUnreachable, StorageFull.
        """
        consuming, stream = self._consuming, self._stream(name)
        channel, doing = await consuming.channel(), f"reading {stream!r}"
        channel.consumers["reader"] = lambda arrived: reading.heard(channel, arrived)
        channel.on_cancelled = lambda _tag: reading.ended(Ended("the stream has been deleted"))
        try:
            await consuming.call(channel, doing, "basic.qos", 0, _WINDOW, False)
            consume = (0, stream, "reader", False, False, False, False, {"x-stream-offset": offset})
            await consuming.call(channel, doing, "basic.consume", *consume)
        except Ended as why:
            raise error_of(why, doing=doing) from why
        except BaseException:
            # Nobody will ever close it.
            channel.post(lambda _: None, "channel.close", 200, "", 0, 0)
            raise
        channel.on_ended = reading.ended
        return channel


class _Reading:
    """One pass over a stream."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.entries: list[bytes] = []
        self.end = 0
        self.done: asyncio.Future[Ended | None] = asyncio.get_running_loop().create_future()
        """None: all is read; or why nothing comes any more."""

    def heard(self, channel: Channel, arrived: Arrived) -> None:
        """Take in what the stream has next."""
        if not arrived.tag % (_WINDOW // 4):
            channel.send("basic.ack", arrived.tag, True)
        if self.done.done():
            return
        try:
            properties = properties_of(arrived.header)
            if properties.message_id == self.mark:
                self.end = int(properties.headers()["x-stream-offset"]) + 1
                self.done.set_result(None)
            elif properties.type != _MARK:
                self.entries.append(arrived.body)
        except (TableError, LookupError, ValueError):
            return  # somebody else's

    def ended(self, why: Ended) -> None:
        """Nothing comes any more."""
        if not self.done.done():
            self.done.set_result(why)


class QueueNames:
    """The names of queues that one backend uses, each entered once, and those that others have entered: RabbitMQ tells
    them nobody over AMQP.

    A server that has just started may be unable to store them for a minute: they are tried again as long as the
    backend has a connection, and nobody waits for the second attempt.
    """

    def __init__(self) -> None:
        self._log: RabbitLog | None = None
        self._entered: set[str] = set()
        self._left: set[str] = set()
        self._entering: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        """Set: nothing is left, or the latest attempt failed, or has taken too long."""
        self._answered.set()
        self._known: set[str] = set()
        self._offset: Any = FIRST
        self._reading = asyncio.Lock()

    def use(self, entries: RabbitLog) -> None:
        """From now on they are there, over another connection."""
        self._log = entries
        self._start()

    def leave(self, entries: RabbitLog) -> None:
        """That connection has gone."""
        if self._log is entries:
            self._log = None
            if self._entering is not None:
                self._entering.cancel()

    async def enter(self, queues: Iterable[str]) -> None:
        """Enter names, if that has not been done. Return once they have been entered, or an attempt has failed; after
        two seconds at the latest.
        """
        new = set(queues) - self._entered
        if new:
            self._left |= new
            self._start()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._answered.wait()
        except TimeoutError:
            # Nobody waits for this attempt once more.
            self._answered.set()

    async def known(self) -> Sequence[str]:
        """Return every name that anybody has entered, reading what is new.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull.
        """
        await self.enter(())
        if self._log is None:
            raise BrokerUnreachable("the connection was lost")
        async with self._reading:
            entries, end = await self._log.read_from(QUEUES, self._offset)
            if self._offset != FIRST and end <= self._offset:
                # It was deleted, and is another one now.
                entries, end = await self._log.read_from(QUEUES, FIRST)
            self._offset = end
            self._known.update(entry.decode(errors="replace") for entry in entries)
        return sorted(self._known)

    def _start(self) -> None:
        if self._left and self._log is not None and (self._entering is None or self._entering.done()):
            self._answered.clear()
            self._entering = asyncio.get_running_loop().create_task(self._enter(self._log))

    async def _enter(self, entries: RabbitLog) -> None:
        pause, tell = FIRST_PAUSE, log.warning
        try:
            while self._left:
                names = sorted(self._left)
                try:
                    async with asyncio.timeout(PATIENCE):
                        await entries.append(QUEUES, [name.encode() for name in names])
                except (TranshipError, TimeoutError) as error:
                    self._answered.set()
                    tell("not listed yet: queue %s: %s", ", ".join(names), str(error) or "the server takes its time")
                    if isinstance(error, TranshipError) and not error.retryable:
                        # What is refused is not repeated by itself: the next name tries them all again.
                        return
                    tell = log.debug
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
                else:
                    self._entered.update(names)
                    self._left.difference_update(names)
        finally:
            self._answered.set()
