"""Waiting within a move: for a broker that is away, but not for ever, and not when it is asked to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from tranship.errors import BrokerUnreachable, TranshipError

__all__ = ["GaveUp", "Patience", "Stop", "Stopped"]

T = TypeVar("T")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
GRACE: Final = 5.0
"""Seconds that what is under way gets to be answered once a move was asked to stop."""


class Stopped(Exception):
    """The move was asked to stop."""


class GaveUp(Exception):
    """The move cannot go on."""

    def __init__(self, error: TranshipError) -> None:
        super().__init__(str(error))
        self.error = error


class Stop:
    """The wish to end a move; :meth:`request` may be called from any thread and from signal handlers."""

    def __init__(self) -> None:
        self.requested = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._event = asyncio.Event()

    def bind(self) -> None:
        """Say on which loop the move runs: the running one."""
        self._loop = asyncio.get_running_loop()
        if self.requested:
            self._event.set()

    def request(self) -> None:
        """End the move as soon as what is under way has been answered. Idempotent."""
        self.requested = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until it is requested."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass

    async def wait_for(self, call: asyncio.Future[Any], seconds: float) -> None:
        """Wait so long for ``call`` to be done, and no more than a grace period from the request on."""
        asked = asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({call, asked}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not call.done() and asked.done():
                await asyncio.wait({call}, timeout=min(seconds, GRACE))
        finally:
            asked.cancel()


class Patience:
    """How long one broker may be away.

    Args:
        place: which broker, for people.
        seconds: without any progress, until the move gives up.
        stop: of the move.
        say: told what is waited for, and an empty text when that is over.
    """

    def __init__(self, place: str, seconds: float, stop: Stop, say: Callable[[str], None]) -> None:
        self._place = place
        self._seconds = seconds
        self._stop = stop
        self._say = say
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    @property
    def left(self) -> float:
        """Seconds until it gives up."""
        waited = 0.0 if self._since is None else asyncio.get_running_loop().time() - self._since
        return max(0.0, self._seconds - waited)

    def progress(self) -> None:
        """The broker has done something."""
        if self._since is not None:
            self._since = None
            self._pause = FIRST_PAUSE
            self._say("")

    def waiting(self, why: str) -> None:
        """Nothing is heard of it from now on."""
        if self._since is None:
            self._since = asyncio.get_running_loop().time()
            self._say(f"{self._place} is away, waiting up to {self._seconds:g} s: {why}")

    async def insist(self, attempt: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Try until the broker answers.

        Raises:
            GaveUp: it was away for too long, or refuses us.
            Stopped: the move was asked to stop while it was away.
        """
        while True:
            try:
                answer = await attempt()
            except TranshipError as error:
                if not error.retryable:
                    raise GaveUp(error) from error
                await self.outlast(error)
            else:
                self.progress()
                return answer

    async def outlast(self, error: TranshipError) -> None:
        """Wait a little before the next attempt.

        Raises:
            Stopped: the move was asked to stop.
            GaveUp: there was no progress for too long.
        """
        self.waiting(str(error))
        if self._stop.requested:
            raise Stopped
        if self.left < self._pause:
            raise self.gave_up(error)
        await self._stop.pause(self._pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)

    def gave_up(self, cause: TranshipError | None = None) -> GaveUp:
        """The error for a broker that was away for too long."""
        why = f": {cause}" if cause is not None else ""
        error = BrokerUnreachable(f"{self._place} was away for {self._seconds:g} s{why}")
        error.__cause__ = cause
        return GaveUp(error)
