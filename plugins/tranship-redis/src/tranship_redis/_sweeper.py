"""Putting back what its holder has lost: our own claims within moments of the end of their lease, Celery's as late as
Celery itself would.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final

from tranship.errors import ClosedError, TranshipError
from tranship.timers import next_round
from tranship_redis._broker import Broker
from tranship_redis._celery_entries import CeleryEntries
from tranship_redis._channel import Channel
from tranship_redis._errors import Lost
from tranship_redis._key_warnings import KeyWarnings
from tranship_redis._scripts import Script

__all__ = ["Sweeper"]

log = logging.getLogger("tranship.redis")

AT_ONCE: Final = 200
"""Ended leases per script call; the server does nothing else meanwhile."""
SHORTEST: Final = 0.01
CELERY: Final = 100.0
"""Seconds between two looks at Celery's entries, as kombu's own."""
_SWEEP: Final = Script("sweep")


class Sweeper:
    """Sweeps for as long as a backend has consumers. Several workers sweep the same: harmless.

    Args:
        broker: what is known beyond the connection.
        channel: the socket that claims go over.
        returned: called when something has been put back, of which the server does not tell us.
    """

    def __init__(self, broker: Broker, channel: Channel, returned: Callable[[], None]) -> None:
        keys, options = broker.keys, broker.options
        self._channel, self._returned = channel, returned
        self._keys = [keys.unacked, keys.unacked_index, keys.leases, keys.deliveries]
        self._lease = options.lease
        self._celery = None if options.celery == "off" else CeleryEntries(keys, channel, options)
        self._celery_pause = min(CELERY, options.visibility_timeout)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._warnings = KeyWarnings(f"{channel.place}: tasks whose lease has ended cannot go back to")

    def start(self) -> None:
        """Begin."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_on(self._sweep, self._lease / 4))]
        if self._celery is not None:
            self._tasks.append(loop.create_task(self._keep_on(self._restore, self._celery_pause)))

    async def aclose(self) -> None:
        """End. Idempotent."""
        self._closed = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep_on(self, work: Callable[[], Awaitable[float]], pause: float) -> None:
        """Do it again and again, after as many seconds as it says; after ``pause`` when it fails."""
        while not self._closed:
            try:
                seconds = await work()
            except ClosedError:
                return
            except Lost:
                seconds = pause
            except TranshipError as error:
                log.log(logging.DEBUG if error.retryable else logging.WARNING, "sweeping failed: %s", error)
                seconds = pause
            except Exception:
                # A worker without a sweeper would never see the tasks of dead workers again.
                log.exception("sweeping failed in an unexpected way")
                seconds = pause
            if not self._closed:  # an error on the way out may have taken the cancellation's place
                await asyncio.sleep(max(seconds, SHORTEST))

    async def _sweep(self) -> float:
        """Put back what has been lost; return seconds until more may be."""
        while True:
            restored, ended, until_next, trouble = await self._channel.run(_SWEEP, self._keys, [AT_ONCE])
            if restored:
                log.info("put back %d tasks whose worker was not heard of for a lease", restored)
                self._returned()
            for key, error in self._warnings.errors(trouble):
                self._warnings.warn(key, error)
            if ended < AT_ONCE:
                break
        # Whoever has a shorter lease than ours may have begun since: never wait for long.
        now = asyncio.get_running_loop().time()
        longest = min(self._lease / 4 * random.uniform(0.8, 1.0), next_round(now) - now)
        return longest if until_next < 0 else min(longest, until_next / 1000 + random.uniform(0.001, 0.005))

    async def _restore(self) -> float:
        assert self._celery is not None
        restored = await self._celery.restore()
        if restored:
            log.info("put back %d tasks of Celery workers that held them for the visibility timeout", restored)
            self._returned()
        return self._celery_pause * random.uniform(0.9, 1.1)
