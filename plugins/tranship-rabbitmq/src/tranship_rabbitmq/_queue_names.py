"""The names of all queues that anybody uses, which RabbitMQ tells nobody over AMQP: a log of our own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tranship.errors import BrokerUnreachable, TranshipError
from tranship_rabbitmq._log import FIRST, RabbitLog

__all__ = ["QueueNames"]

log = logging.getLogger("tranship.rabbitmq")

LOG: Final = "queues"
PATIENCE: Final = 2.0
"""Seconds for one attempt, and for whoever waits for it."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0


class QueueNames:
    """The names that one backend uses, each entered once, and those that others have entered.

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
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        await self.enter(())
        if self._log is None:
            raise BrokerUnreachable("the connection was lost")
        async with self._reading:
            entries, end = await self._log.read_from(LOG, self._offset)
            if self._offset != FIRST and end <= self._offset:
                # It was deleted, and is another one now.
                entries, end = await self._log.read_from(LOG, FIRST)
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
                        await entries.append(LOG, [name.encode() for name in names])
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
