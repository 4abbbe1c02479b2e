"""Starting while the broker is away: with the patience of a worker that is at work."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from tranship.errors import BrokerError
from tranship.pauses import Pauses

__all__ = ["begin"]

log = logging.getLogger("tranship.worker")

REMINDER: Final = 60.0
"""Seconds after which the log says again that the broker is waited for."""
CLOSING: Final = 10.0
"""Seconds that an attempt which is given up may take to close what it has opened."""

T = TypeVar("T")
Attempt = Callable[[contextlib.AsyncExitStack], Awaitable[T]]


async def begin(
    attempt: Attempt[T],
    stack: contextlib.AsyncExitStack,
    *,
    patience: float,
    stop: asyncio.Event,
    failed: Callable[[BrokerError], None],
) -> T | None:
    """Return what ``attempt`` returns, once the broker can be reached; None: ``stop`` was set before.

    Args:
        attempt: opens everything; what it puts on the stack it is given is closed when it fails.
        stack: gets that when it has worked.
        patience: seconds for which a broker that cannot be reached is waited for, from the first attempt that fails.
        stop: ends the waiting, and an attempt that is under way.
        failed: is told why the broker is waited for.

    Raises:
        What ``attempt`` raises: at once what waiting does not mend (a password, a scheme), the rest after ``patience``.
    """
    return await _unless(stop, _patiently(attempt, stack, patience, failed))


async def _patiently(
    attempt: Attempt[T], stack: contextlib.AsyncExitStack, patience: float, failed: Callable[[BrokerError], None]
) -> T:
    loop = asyncio.get_running_loop()
    # The first attempt imports the driver: the time begins when it has failed.
    since: float | None = None
    pauses, said = Pauses(), float("-inf")
    while True:
        try:
            made = await _once(attempt, stack)
        except BrokerError as error:
            now = loop.time()
            since = now if since is None else since
            left = since + patience - now
            if not error.retryable or left <= 0:
                raise
            failed(error)
            if now - said >= REMINDER:
                _say(error, now - since, patience)
                said = now
        else:
            if since is not None:
                log.info("the broker is there after %.1f s", loop.time() - since)
            return made
        await asyncio.sleep(min(pauses.next(), left))


async def _once(attempt: Attempt[T], stack: contextlib.AsyncExitStack) -> T:
    async with contextlib.AsyncExitStack() as opened:
        made = await attempt(opened)
        stack.push_async_exit(opened.pop_all())
    return made


def _say(error: BrokerError, waited: float, patience: float) -> None:
    limit = "as long as it takes" if patience == float("inf") else f"{patience - waited:.0f} s more"
    log.warning("waiting for the broker since %.0f s, for %s (wait_for_broker says how long): %s", waited, limit, error)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Do ``work``; once ``stop`` is set give it up and return None."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working}, timeout=CLOSING)
    return working.result() if working.done() and not working.cancelled() else None
