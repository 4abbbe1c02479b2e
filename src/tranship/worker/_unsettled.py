"""Deliveries that could not be settled: where no lease gives them back, the worker does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from tranship.errors import BrokerUnreachable, ClosedError, TranshipError
from tranship.worker._record import Run

__all__ = ["Unsettled"]

log = logging.getLogger("tranship.worker")

LONGEST_PAUSE: Final = 30.0
"""Seconds after which what was delivered often is given back: as long as a lease, where there are leases."""


class Unsettled:
    """Gives deliveries back, a while after their settlement failed for good.

    A lease ends by itself once it is not renewed. Where it is the connection, a message would stay with this worker for
    as long as that lives. What failed may fail again: the pause doubles with each delivery.

    Args:
        dropped: called with each run that is not held any more.
        refused: called when a consumer cannot even give back: it is to be closed as soon as nothing it brought runs.
    """

    def __init__(self, dropped: Callable[[Run], None], refused: Callable[[], None]) -> None:
        self._dropped = dropped
        self._refused = refused
        self._jobs: set[asyncio.Task[None]] = set()

    def leave(self, run: Run) -> None:
        """Leave ``run`` to its lease, or give it back later."""
        if run.consumer.lease is not None:
            self._dropped(run)
            return
        job = asyncio.get_running_loop().create_task(self._give_back(run))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def stop(self) -> None:
        """Wait no longer: the consumers are about to be closed, which gives back everything."""
        for job in self._jobs:
            job.cancel()

    async def _give_back(self, run: Run) -> None:
        try:
            await asyncio.sleep(min(LONGEST_PAUSE, 2.0 ** min(run.delivery.delivery_count, 10)))
            await run.consumer.release([run.delivery])
        except (BrokerUnreachable, ClosedError) as error:
            log.debug("task %s comes again with the end of its connection: %s", run.id, error)
        except TranshipError as error:
            log.warning("task %s cannot be given back either; its consumer is closed for it: %s", run.id, error)
            self._refused()
        except Exception:
            log.exception("the backend's release failed in an unexpected way; the consumer is closed for it")
            self._refused()
        finally:
            self._dropped(run)
