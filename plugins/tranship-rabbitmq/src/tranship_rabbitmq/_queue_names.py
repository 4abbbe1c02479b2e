"""The names of all queues that anybody uses, which RabbitMQ tells nobody over AMQP: a log of our own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from tranship.errors import TranshipError
from tranship_rabbitmq._log import FIRST, RabbitLog

__all__ = ["QueueNames"]

log = logging.getLogger("tranship.rabbitmq")

_LOG: Final = "queues"
_PATIENCE: Final = 2.0
"""Seconds for one attempt, and for whoever waits for it."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class QueueNames:
    """The names that one backend uses, each entered once, and those that others have entered.

    A server that has just started may be unable to store them for a minute: they are tried again as long as the
    backend is open, and nobody waits for the second attempt.

    Attributes:
        log: where they are, over the connection that was made last.
    """

    log: RabbitLog

    def __init__(self) -> None:
        self._entered: set[str] = set()
        self._left: set[str] = set()
        self._entering: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        """Set: nothing is left, or the latest attempt failed, or has taken too long."""
        self._answered.set()
        self._known: set[str] = set()
        self._offset: Any = FIRST
        self._reading = asyncio.Lock()

    def add(self, queue: str) -> None:
        """Enter a name, if that has not been done."""
        if queue not in self._entered:
            self._left.add(queue)
            if self._entering is None or self._entering.done():
                self._answered.clear()
                self._entering = asyncio.get_running_loop().create_task(self._enter())

    async def enter(self, queues: Iterable[str]) -> None:
        """Enter names; return as :meth:`answered` does."""
        for queue in queues:
            self.add(queue)
        await self.answered()

    async def answered(self) -> None:
        """Return once every name has been entered, or an attempt has failed; after two seconds at the latest."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._answered.wait()
        except TimeoutError:
            # Nobody waits for this attempt once more.
            self._answered.set()

    async def known(self) -> Sequence[str]:
        """Return every name that anybody has entered, reading what is new.

        Raises:
            BrokerUnreachable, BrokerRefused, StorageFull, SubmitUnknown.
        """
        await self.answered()
        async with self._reading:
            entries, end = await self.log.read_from(_LOG, self._offset)
            if self._offset != FIRST and end <= self._offset:
                # It was deleted, and is another one now.
                entries, end = await self.log.read_from(_LOG, FIRST)
            self._offset = end
            self._known.update(entry.decode(errors="replace") for entry in entries)
        return sorted(self._known)

    async def aclose(self) -> None:
        """Let an attempt that is under way end, then enter no more."""
        try:
            await self.answered()
        finally:
            if self._entering is not None:
                self._entering.cancel()
                await asyncio.wait({self._entering})
        if self._left:
            log.warning("closed before these queues were listed: %s", ", ".join(sorted(self._left)))

    async def _enter(self) -> None:
        pause, tell = _FIRST_PAUSE, log.warning
        while self._left:
            names = sorted(self._left)
            try:
                async with asyncio.timeout(_PATIENCE):
                    await self.log.append(_LOG, [name.encode() for name in names])
            except (TranshipError, TimeoutError) as error:
                self._answered.set()
                tell("not listed yet: queue %s: %s", ", ".join(names), str(error) or "the server takes its time")
                if isinstance(error, TranshipError) and not error.retryable:
                    # What is refused is not repeated by itself: the next name tries them all again.
                    return
                tell = log.debug
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                self._entered.update(names)
                self._left.difference_update(names)
        self._answered.set()
