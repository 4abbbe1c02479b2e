"""What the ports have in common that the driver serves itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from tranship.driver import Kit
from tranship_redis._broker import Broker
from tranship_redis._connection import RedisConnection
from tranship_redis._pack import Part
from tranship_redis._scripts import Script
from tranship_redis._wire import Reply

__all__ = ["Context"]

T = TypeVar("T")


class Context:
    """Of one backend: what is known of its broker, and commands over whatever connection there is.

    Args:
        kit: of the backend.
        broker: what is known beyond a connection.
    """

    def __init__(self, kit: Kit, broker: Broker) -> None:
        self.kit, self.broker = kit, broker
        self.options, self.keys, self.levels = broker.options, broker.keys, broker.levels
        self.main = self

    @property
    def node(self) -> str:
        """What Celery's tools call the worker, once it listens."""
        return self.broker.claims.node

    @node.setter
    def node(self, name: str) -> None:
        self.broker.claims.node = name

    async def call(self, *parts: Part) -> Reply:
        """Send one command over the main socket and return its reply; see :meth:`Channel.call`."""
        return await self._run("call", lambda one: one.main.call(*parts))

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Part] = ()) -> Reply:
        """Run a script there and return its reply; see :meth:`Channel.run`."""
        return await self._run("run", lambda one: one.main.run(script, keys, args))

    async def _run(self, verb: str, call: Callable[[RedisConnection], Awaitable[T]]) -> T:
        return await self.kit.run(verb, lambda connection: call(cast("RedisConnection", connection)))

    def check(self) -> None:
        """Raise once the backend has been closed; the first line of every public method of a port.

        Raises:
            ClosedError: it has, or it was never opened.
        """
        self.kit.check()
