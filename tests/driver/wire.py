"""A connection to the broker of rows that can be lost, refused, and silent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from driver.rows_driver import Broker, Queue, Table, Topic
from tranship.driver import DriverBackend, Timing
from tranship.errors import BrokerUnreachable
from tranship.settings import BackendConfig, BrokerURL, CommonOptions


class Wire:
    """What is between backends and the broker.

    Attributes:
        connections: all that were opened.
        refused: whether new ones are refused.
        silent: whether nothing is answered.
        raises: what every verb raises.
        closing: what a connection that closes waits for.
        unavailable: verbs that the broker cannot do at the moment, over a connection that lives.
    """

    def __init__(self, broker: Broker, *, tokens_survive: bool = True) -> None:
        self.broker, self.tokens_survive = broker, tokens_survive
        self.connections: list[WireConnection] = []
        self.refused = False
        self.silent = False
        self.raises: Exception | None = None
        self.closing = asyncio.Event()
        self.closing.set()
        self.unavailable: set[str] = set()

    def backend(self, **timing: float | None) -> DriverBackend:
        async def connect() -> WireConnection:
            await asyncio.sleep(0)
            if self.refused:
                raise ConnectionRefusedError("nobody listens")
            self.connections.append(WireConnection(self))
            return self.connections[-1]

        config = BackendConfig(BrokerURL.parse("wire://here"), lambda _key, make: make())
        chosen = Timing(**{"connect": 1.0, "command": 0.3, "keepalive": 0.1, **timing})
        return DriverBackend("wire", config, options=CommonOptions(), connect=connect, timing=chosen)

    def cut(self) -> None:
        """Cut all that are open."""
        for one in self.connections:
            one.abort()


class WireConnection:
    native = None

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.closed = False
        queue = Queue(wire.broker, 30.0)
        queue.traits = replace(queue.traits, tokens_survive=wire.tokens_survive)
        self.queue = self._over_the_wire(queue)
        self.table = self._over_the_wire(Table(wire.broker))
        self.topic = self._over_the_wire(Topic(wire.broker))

    async def ping(self) -> None:
        await self._answered(lambda: asyncio.sleep(0))

    def abort(self) -> None:
        if not self.lost.done():
            self.lost.set_result(ConnectionResetError("cut"))

    async def aclose(self) -> None:
        self.abort()
        await self._wire.closing.wait()
        self.closed = True

    def _over_the_wire(self, part: Any) -> Any:
        def verb(name: str) -> Any:
            value = getattr(part, name)
            if not asyncio.iscoroutinefunction(value):
                return value

            async def run(*arguments: Any) -> Any:
                if name in self._wire.unavailable:
                    raise BrokerUnreachable(f"no leader for {name}")
                return await self._answered(lambda: value(*arguments))

            return run

        return SimpleNamespace(**{name: verb(name) for name in dir(part) if not name.startswith("_")})

    async def _answered(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Do it, and give the answer unless the connection is lost before."""
        if self._wire.raises is not None:
            raise self._wire.raises
        if self.lost.done():
            raise ConnectionResetError("cut")
        answer = await call()
        if self._wire.silent:
            await asyncio.wait({self.lost})
        if self.lost.done():
            raise ConnectionResetError("cut")
        return answer
