"""A consumer that brings nothing although there is something: its broker's count against its silence."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from tranship.errors import TranshipError

__all__ = ["Starvation"]

log = logging.getLogger("tranship.worker")

LOOKS: Final = 3
"""Looks in a row, an empty receive before each, that make a consumer a dead one: a single one may just have missed what
others took."""
TIMEOUT: Final = 2.0
"""Seconds one look may take; what cannot be counted says nothing."""


class Starvation:
    """Notices that a consumer is not given what is ready.

    Args:
        count: says how many messages of its queues are ready.
        patience: seconds without a delivery after which it is asked; a broker whose queues are empty is asked no
            more often than that.
    """

    def __init__(self, count: Callable[[], Awaitable[int]], patience: float) -> None:
        self._count = count
        self._patience = patience
        self._looks = 0
        self.fed()

    def fed(self) -> None:
        """Something came, or nothing was asked for: the consumer is not to blame for anything before now."""
        self.since = time.monotonic()
        self._asked = self.since
        self._looks = 0

    async def ready(self) -> int:
        """To be asked after each receive that brought nothing.

        Returns:
            How many messages wait for a consumer that must be taken for dead; 0: it need not.
        """
        if not self._looks and time.monotonic() - self._asked < self._patience:
            return 0
        self._asked = time.monotonic()
        count = await self._look()
        self._looks = self._looks + 1 if count else 0
        return count if self._looks >= LOOKS else 0

    async def _look(self) -> int:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await self._count()
        except (TranshipError, TimeoutError) as error:
            log.debug("how much is ready cannot be said: %s", error or "no answer in time")
            return 0
        except Exception:
            # A driver's bug must not end the receiving.
            log.exception("the backend's inspector failed in an unexpected way")
            return 0
