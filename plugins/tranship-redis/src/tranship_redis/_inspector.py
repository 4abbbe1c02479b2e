"""The inspector: the kit's, but for what waits in a queue."""

from __future__ import annotations

from collections.abc import Sequence

from tranship.driver import instead
from tranship.ports import Inspector, QueuedTask
from tranship_redis._context import Context
from tranship_redis._waiting import Waiting

__all__ = ["inspector"]


def inspector(context: Context) -> Inspector:
    """Return the inspector of a backend."""
    waits = Waiting(context)

    async def waiting(queue: str, *, limit: int = 100) -> Sequence[QueuedTask]:
        """List what waits in a queue, Celery's messages too."""
        context.check()
        return await waits.look(queue, limit)

    async def purge(queue: str, ids: Sequence[str] | None = None) -> Sequence[str]:
        """Remove what waits in a queue."""
        context.check()
        return await waits.purge(queue, None if ids is None else set(ids))

    return instead(context.kit.inspector, waiting=waiting, purge=purge)
