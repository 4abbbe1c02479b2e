"""What the ports of one backend share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tranship.clocks import Clock
from tranship.driver import Kit
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._link import Link
from tranship_redis._options import RedisOptions
from tranship_redis._wake import Wake

__all__ = ["Context"]


@dataclass(slots=True, kw_only=True)
class Context:
    """Handed to each port of a backend when it is made."""

    kit: Kit = field(repr=False)
    options: RedisOptions
    keys: Keys
    levels: Levels
    main: Link
    """Submits, results, control and inspection."""
    pubsub: Link
    """Subscriptions: the socket of ``main`` over RESP3, one of their own over RESP2."""
    work: Callable[[], Awaitable[Link]]
    """Claims and settlements: opened by the first who asks, the same for all."""
    wake: Wake
    """Wakes consumers."""
    name: str
    """The plugin's name, for errors."""
    url: str
    """Where it is connected, without secrets."""
    node: str = ""
    """What Celery's tools call the worker, once it listens."""

    @property
    def clock(self) -> Clock:
        """The server's."""
        return self.kit.clock

    @property
    def closed(self) -> bool:
        """Whether the backend has been closed."""
        return self.kit.closed

    def check(self) -> None:
        """Raise once the backend has been closed; the first line of every public method of a port.

        Raises:
            ClosedError: it has, or it was never opened.
        """
        self.kit.check()
