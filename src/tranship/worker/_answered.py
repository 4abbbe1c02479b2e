"""Whether a task that comes again has its result already: then it needs not run again."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tranship.envelope import Envelope, TaskState
from tranship.errors import TranshipError
from tranship.ports import ResultStore

__all__ = ["Answered"]

log = logging.getLogger("tranship.worker")

_ASKING: Final = 5.0
"""Seconds that asking may take."""


class Answered:
    """Asks the store of one worker.

    A result is stored before its delivery is settled, where both are not one step. A worker that dies in between, or
    a broker that dies before it has noted the settlement, brings the task again.

    Args:
        store: where results are kept; None: nowhere that could be asked, or it is settled with them in one step.
    """

    def __init__(self, store: ResultStore | None) -> None:
        self._store = store

    async def covers(self, envelope: Envelope) -> bool:
        """Whether what another run says would be refused [redelivered_with_result_not_run]."""
        if self._store is None or not envelope.store_result:
            return False
        try:
            async with asyncio.timeout(_ASKING):
                (found,) = await self._store.get_many([envelope.id])
        except (TranshipError, TimeoutError) as error:
            # At least once is the promise.
            log.warning("whether task %s has a result is not known, it runs again: %r", envelope.id, error)
            return False
        # A dead letter may have been sent again on purpose.
        return found.state.terminal and found.state is not TaskState.DEAD_LETTERED
