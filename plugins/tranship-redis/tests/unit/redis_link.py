"""One of the sockets of whatever connection there is now, for tests that look past the driver kit."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tranship.driver import Kit
from tranship.errors import TranshipError
from tranship.ports import ConnectionEvent
from tranship_redis._channel import Channel
from tranship_redis._connection import RedisConnection
from tranship_redis._pack import Part
from tranship_redis._scripts import Script
from tranship_redis._server import ServerInfo
from tranship_redis._wire import PushHandler, Reply, Then

__all__ = ["Hook", "Link", "Listener", "PushHandler", "Remove", "Reply", "Then"]

log = logging.getLogger("tranship.redis")

Hook = Callable[[], Awaitable[None]]
Listener = Callable[[ConnectionEvent, int], None]
Remove = Callable[[], None]
"""Takes back what was registered; a second call does nothing."""


class Link:
    """For ports, which outlive connections: what they say goes over the socket that is there now.

    Args:
        kit: of the backend.
        place: of the server.
        which: returns the socket of a connection.
    """

    def __init__(self, kit: Kit, place: str, which: Callable[[RedisConnection], Channel]) -> None:
        self.place = place
        self._kit, self._which = kit, which
        self._pushes: list[tuple[bytes, PushHandler]] = []
        self._hooks: list[Hook] = []
        self._listeners: list[Listener] = []
        kit.on_restored(self._restored)
        kit.on_event(self._announce)

    @property
    def _connection(self) -> RedisConnection:
        found: Any = self._kit.connection
        connection: RedisConnection = found
        return connection

    @property
    def _channel(self) -> Channel:
        return self._which(self._connection)

    @property
    def generation(self) -> int:
        """How many connections there have been."""
        return self._kit.generation

    @property
    def up(self) -> bool:
        """Whether there is a connection."""
        try:
            return not self._connection.lost.done()
        except TranshipError:
            return False

    @property
    def server(self) -> ServerInfo:
        """What the server says of itself."""
        return self._channel.server

    def on_up(self, hook: Hook) -> Remove:
        """Await ``hook`` over each later connection, in order of registration; RESTORED is told after that.

        One that raises gives the connection up.
        """
        self._hooks.append(hook)
        return _remover(self._hooks, hook)

    def on_event(self, listener: Listener) -> Remove:
        """Call ``listener(event, generation)`` when the connection was lost and when it is back."""
        self._listeners.append(listener)
        return _remover(self._listeners, listener)

    def on_push(self, kind: bytes, handler: PushHandler) -> Remove:
        """Call ``handler`` with every push of a kind: ``b"message"``, ``b"pmessage"``, ``b"invalidate"``."""
        self._pushes.append((kind, handler))
        self._hear(kind, handler)

        def remove() -> None:
            self._pushes = [one for one in self._pushes if one[1] is not handler]
            handlers = self._connection.handlers
            handlers[kind] = tuple(one for one in handlers.get(kind, ()) if one is not handler)

        return remove

    def _hear(self, kind: bytes, handler: PushHandler) -> None:
        handlers = self._connection.handlers
        handlers[kind] = (*handlers.get(kind, ()), handler)

    def post(self, data: bytes, then: Then, *, pushes: int = 0) -> None:
        """See :meth:`Channel.post`."""
        self._channel.post(data, then, pushes=pushes)

    def post_script(self, script: Script, data: bytes, then: Then) -> None:
        """See :meth:`Channel.post_script`."""
        self._channel.post_script(script, data, then)

    def hold(self) -> None:
        """See :meth:`Channel.hold`."""
        if self.up:
            self._channel.hold()

    def flush(self) -> None:
        """See :meth:`Channel.flush`."""
        if self.up:
            self._channel.flush()

    async def call(self, *parts: Part) -> Reply:
        """See :meth:`Channel.call`."""
        return await self._kit.run("call", lambda _: self._channel.call(*parts))

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[Part] = ()) -> Reply:
        """See :meth:`Channel.run`."""
        return await self._kit.run("run", lambda _: self._channel.run(script, keys, args))

    async def _restored(self) -> None:
        for kind, handler in self._pushes:
            self._hear(kind, handler)
        for hook in list(self._hooks):
            try:
                await hook()
            except BaseException:
                self._connection.abort()
                raise

    def _announce(self, event: ConnectionEvent, generation: int) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event, generation)
            except Exception:
                log.exception("telling of %s failed", event)


def _remover(registered: list[Any], one: object) -> Remove:
    def remove() -> None:
        registered[:] = [other for other in registered if other is not one]

    return remove
