"""How much is ready, asked as cheaply as a backend allows."""

from __future__ import annotations

from collections.abc import Collection

from tranship.ports._protocols import BriefInspector, Inspector

__all__ = ["ready_in"]


async def ready_in(inspector: Inspector, queues: Collection[str]) -> int:
    """Return how many messages could be received from ``queues`` now, on all levels together.

    Raises:
        BrokerUnreachable, UnsupportedError: it cannot be said.
    """
    if isinstance(inspector, BriefInspector):
        return await inspector.ready(queues)
    return sum(sum(info.ready.values()) for info in await inspector.queues() if info.name in queues)
