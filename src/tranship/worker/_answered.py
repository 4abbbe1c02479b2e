"""Whether a task that comes again has its result already: then it needs not run again."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Final

from tranship.envelope import Envelope, TaskState
from tranship.errors import TranshipError
from tranship.ports import ResultStore, StoredResult

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

    async def find(self, envelope: Envelope) -> StoredResult | None:
        """Return the result that is there already, addressed to who waits: what another run says would be refused
        [redelivered_with_result_not_run].

        It has to be put once more: who stored it may have died before it told them.
        """
        if self._store is None or not envelope.keeps_result:
            return None
        try:
            async with asyncio.timeout(_ASKING):
                (found,) = await self._store.get_many([envelope.id])
        except (TranshipError, TimeoutError) as error:
            # At least once is the promise.
            log.warning("whether task %s has a result is not known, it runs again: %r", envelope.id, error)
            return None
        # A dead letter may have been sent again on purpose.
        if not found.state.terminal or found.state is TaskState.DEAD_LETTERED:
            return None
        return replace(found, reply_to=envelope.reply_to, ttl=envelope.result_ttl)
