"""The name of a worker: taken before it works, kept while it does, free when it has stopped.

Whoever has it says so every few seconds. A name that somebody has is therefore waited for: he says it again, soon, for
he is asked to, and the one who waits is refused; or he has died, and it is free before long.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from tranship.errors import TranshipError, WorkerNameTaken
from tranship.ports import Command, NameHolder, NameKeeper, Signal
from tranship.timers import next_round

__all__ = ["KEPT", "WANTED", "WorkerName", "holder"]

log = logging.getLogger("tranship.worker")

KEPT: Final = 15.0
"""Seconds for which a name is kept for a worker that says nothing any more."""
EVERY: Final = 5.0
"""Seconds after which a worker says again that it keeps its name."""
WANTED: Final = "name-wanted"
"""The command by which a worker asks the holder of its name to say that it is there."""
LOOK: Final = 0.2
"""Seconds between two looks at a name that somebody has."""
GRACE: Final = 5.0
"""Seconds beyond ``KEPT`` after which a name that is neither renewed nor free is taken for one that is kept."""
FREEING: Final = 2.0
"""Seconds that giving it up may take."""


def holder(name: str, instance: str, family: str) -> NameHolder:
    """Return this process as the holder of a name; ``family`` as in :class:`~tranship.ports.NameHolder`."""
    now = time.time()
    return NameHolder(
        name=name, instance=instance, family=family, host=socket.gethostname(), pid=os.getpid(), since=now, at=now
    )


class WorkerName:
    """Of one worker, at a broker that keeps names. On the I/O loop.

    Args:
        keeper: the broker's.
        holder: the worker.
    """

    def __init__(self, keeper: NameKeeper, holder: NameHolder) -> None:
        self._keeper = keeper
        self._holder = holder
        self._asked = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._is_over = False
        self._lost = False

    async def take(self) -> None:
        """Have the name; wait whether another one that has it still lives.

        Raises:
            WorkerNameTaken: it does.
            BrokerError: the broker does not answer, or refuses.
        """
        first = await self._say()
        if first is None:
            return
        log.warning(
            "the name %r is that of a worker %s; it is free within %g s if that one has died",
            self._holder.name,
            _where(first),
            KEPT,
        )
        loop = asyncio.get_running_loop()
        until = loop.time() + KEPT + GRACE
        while loop.time() < until:
            await self._ask(first)
            await asyncio.sleep(LOOK)
            other = await self._say()
            if other is None:
                log.info("the name %r is free: the worker that had it is gone", self._holder.name)
                return
            if other != first:
                raise _taken(other)
        raise _taken(first)

    def keep(self) -> None:
        """From now on go on saying that the name is this worker's."""
        self._keeping = asyncio.create_task(self._keep())

    def hurry(self) -> None:
        """Say it again now: the broker is there again, or has forgotten it."""
        self._asked.set()

    def heard(self, signals: Sequence[Signal]) -> None:
        """Take in what the control channel brings: another worker may want the name."""
        if any(isinstance(one, Command) and one.name == WANTED for one in signals):
            self._asked.set()

    async def free(self) -> None:
        """Give the name up, so that the next worker of that name does not have to wait."""
        self._is_over = True
        self._asked.set()
        try:
            async with asyncio.timeout(FREEING):
                if self._keeping is not None:
                    # What is being said may arrive later than what is said now.
                    await self._keeping
                await self._keeper.free_name(self._holder)
        except (TranshipError, TimeoutError) as error:
            log.debug("the name %r is free in %g s only: %r", self._holder.name, KEPT, error)

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_round(asyncio.get_running_loop().time(), EVERY)):
                    await self._asked.wait()
            if self._is_over:
                return
            self._asked.clear()
            await self._renew()

    async def _renew(self) -> None:
        try:
            self._note(await self._say())
        except TranshipError as error:
            log.debug("the name %r was not renewed: %s; trying again", self._holder.name, error)
        except Exception:
            # A driver's bug: the worker works under a name that another one may take.
            log.exception("the backend's take_name failed in an unexpected way")

    async def _say(self) -> NameHolder | None:
        """Take the name or keep it; return who has it, if that is somebody else."""
        return await self._keeper.take_name(replace(self._holder, at=time.time()), KEPT)

    async def _ask(self, other: NameHolder) -> None:
        """Ask whoever has it to say so now; if that cannot be told, he says it by himself."""
        arguments = {"instance": other.instance, "host": self._holder.host, "pid": self._holder.pid}
        with suppress(TranshipError):
            await self._keeper.send(Command(name=WANTED, arguments=arguments, destination=[self._holder.name]))

    def _note(self, other: NameHolder | None) -> None:
        if other is not None and not self._lost:
            log.error(
                "the name %r was taken by a worker %s while this one could not be heard. Both work on; commands for "
                "one go to both, and `tranship workers` shows one of them. Stop one of them",
                self._holder.name,
                _where(other),
            )
        elif other is None and self._lost:
            log.info("the name %r is this worker's again", self._holder.name)
        self._lost = other is not None


def _where(other: NameHolder) -> str:
    if not other.host:
        return "that does not say where it is"
    since = datetime.fromtimestamp(other.since, UTC).isoformat(timespec="seconds")
    return f"on {other.host}, process {other.pid}, since {since}"


def _taken(other: NameHolder) -> WorkerNameTaken:
    return WorkerNameTaken(
        f"a worker named {other.name!r} is at work already, {_where(other)}. Give each worker a name of its own "
        "(name=, --name), or none; if this one is to take its place, stop that one first",
        name=other.name,
        host=other.host,
        pid=other.pid,
        since=other.since,
    )
