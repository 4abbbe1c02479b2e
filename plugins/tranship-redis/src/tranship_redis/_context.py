"""What the ports of one backend share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tranship.clocks import Clock
from tranship.guards import Gate
from tranship_redis._keys import Keys
from tranship_redis._levels import Levels
from tranship_redis._link import Link
from tranship_redis._options import RedisOptions
from tranship_redis._subscriptions import Subscriptions

__all__ = ["Context", "WorkerGate"]


class WorkerGate(Gate):
    """Whether the backend is open, and who works with it."""

    __slots__ = ("node",)

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.node = ""
        """What Celery's tools call the worker, once it listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Handed to each port of a backend when it is made; everything in it is open."""

    options: RedisOptions
    keys: Keys
    levels: Levels
    main: Link
    """Submits, results, control and inspection."""
    pubsub: Link
    """Subscriptions: ``main`` itself over RESP3, a connection of its own over RESP2."""
    work: Callable[[], Awaitable[Link]]
    """Claims and settlements: opened by the first who asks, the same for all. Raises as ``Link.open`` does."""
    subscriptions: Subscriptions
    """The result subscriptions, on ``pubsub``."""
    name: str
    """The plugin's name, for errors."""
    url: str
    """Where it is connected, without secrets."""
    gate: WorkerGate = field(repr=False)
    clock: Clock = field(default_factory=Clock, repr=False)
    """The server's."""

    def check(self) -> None:
        """Raise once the backend has been closed; the first line of every public method of a port.

        Raises:
            ClosedError: it has.
        """
        self.gate.check()
